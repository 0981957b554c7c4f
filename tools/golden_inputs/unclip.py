"""The sizes of the first release's two projections."""

from . import unet

SEED = unet.SEED
POOLED_IN = 768


def hidden(size: str) -> int:
    """Of both projections: 4 x D, as published."""
    return 4 * unet.EMBED[size]
