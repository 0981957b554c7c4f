"""Embeddings and latents to mix, and in which shares."""

from torch import Tensor

from . import seeded

SEED = 23
EMBED = 1024
LATENT = (1, 4, 8, 8)
ALPHAS = (0.0, 0.3, 0.7, 1.0)
# h0 of the base, h1 of the LLM's prediction, h2 of the refined one, and the norm
MIXES = ((0.0, 0.4, 1.0, 20.0), (0.4, 0.6, 0.4, 20.0), (3.0, 0.0, 1.5, 7.0))


def inputs() -> dict[str, Tensor]:
    """Embeddings of the lengths they have in the released pipeline: predicted ones near 20, the prior's as it comes."""
    lengths = {"edit": 18.7, "base": 21.3, "refined": 3.9}
    drawn = {name: seeded.draw(name, (EMBED,), SEED) for name in lengths}
    found = {name: vector / vector.norm() * lengths[name] for name, vector in drawn.items()}
    return {**found, "latent": 0.9 * seeded.draw("latent", LATENT, SEED), "noise": seeded.draw("noise", LATENT, SEED)}
