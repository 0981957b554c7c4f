"""A small latent and its conditioning, for tests that invert it on the host."""

import pytest
import torch
from any2pix.nodes import ApplyEmbedding
from any2pix.nodes.sockets import Embedding

SHAPE = (1, 4, 6, 9)


def vector(seed):
    direction = torch.randn(64, generator=torch.Generator().manual_seed(seed))
    return Embedding(20 * torch.nn.functional.normalize(direction, dim=0))


@pytest.fixture(name="clean", scope="module")
def clean_fixture():
    return {"samples": torch.randn(SHAPE, generator=torch.Generator().manual_seed(8)) / 0.13025}


@pytest.fixture(name="applied", scope="module")
def applied_fixture(run, networks):
    """MODEL, positive, negative."""
    widgets = {"scale": 1.0, "start_percent": 0.0, "end_percent": 1.0}
    embeddings = {"embedding": vector(1), "negative_embedding": vector(2)}
    return run(ApplyEmbedding, model=networks["model"], adapter=networks["adapter"], **embeddings, **widgets)
