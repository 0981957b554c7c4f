"""The length of an embedding.

ImageBind gives 1 for a picture, about 20 for a sound and up to 100 for a text. Each network and formula reads its own
length, and this is the one way to bring an embedding there.
"""

from torch import Tensor


def to_length(
    embedding: Tensor, length: float, what: str = "embedding", remedy: str = "Connect another one."
) -> Tensor:
    """(..., D) -> the same directions in float32, every row of L2 norm ``length``.

    ``what`` and ``remedy``: for the error. ValueError where a row is all zeros, which has no direction, or not finite.
    """
    rows = embedding.float()
    return rows * (length / norm_of(rows, what, remedy, dim=-1))


def norm_of(values: Tensor, what: str, remedy: str, dim: int | tuple[int, ...] = -1) -> Tensor:
    """L2 norms over ``dim``, which stays as 1, of values that can be rescaled; ValueError as in ``to_length``."""
    norm = values.norm(dim=dim, keepdim=True)
    if not norm.isfinite().all():
        raise ValueError(f"The {what} holds NaN or infinite numbers. {remedy}")
    if (norm == 0).any():
        raise ValueError(f"The {what} is all zeros, so it has no direction. {remedy}")
    return norm
