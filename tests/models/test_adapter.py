"""The unCLIP adapter: shapes, key layout, gradients, errors."""

import pytest
import torch
from any2pix.models.adapter import UnclipDims, UnclipProjector
from torch.testing import assert_close

DIMS = UnclipDims(embed=8, hidden=12, context=6, pooled=5, pooled_in=7)


def test_published_layout_and_shapes():
    with torch.device("meta"):
        shapes = {
            key: tuple(value.shape) for key, value in UnclipProjector(UnclipDims.published()).state_dict().items()
        }
    assert shapes == {
        "projector_unclip.0.weight": (4096, 1024),
        "projector_unclip.0.bias": (4096,),
        "projector_unclip.2.weight": (2048, 4096),
        "projector_unclip.2.bias": (2048,),
        "projector_unclip2.0.weight": (4096, 768),
        "projector_unclip2.0.bias": (4096,),
        "projector_unclip2.2.weight": (1280, 4096),
        "projector_unclip2.2.bias": (1280,),
    }


def test_forward_is_the_published_formula():
    torch.manual_seed(0)
    adapter = UnclipProjector(DIMS)
    embedding = torch.randn(3, 8, requires_grad=True)
    context, pooled = adapter(embedding)
    assert context.shape == (3, 1, 6) and pooled.shape == (3, 5)

    first, last = adapter.projector_unclip[0], adapter.projector_unclip[2]
    assert_close(context[:, 0], last(torch.nn.functional.gelu(first(embedding))))
    first, last = adapter.projector_unclip2[0], adapter.projector_unclip2[2]
    assert_close(pooled, last(torch.nn.functional.gelu(first.bias)).expand(3, 5))

    (context.sum() + pooled.sum()).backward()
    assert embedding.grad.abs().sum() > 0
    unused = {"projector_unclip2.0.weight"}  # it only ever multiplies zeros
    for name, parameter in adapter.named_parameters():
        assert (parameter.grad.abs().sum() > 0) != (name in unused), name


def test_a_foreign_embedding_width_is_named():
    with pytest.raises(ValueError, match=r"shape \(B, 8\), got \(1, 1024\)"):
        UnclipProjector(DIMS)(torch.zeros(1, 1024))


def test_dims_survive_their_dict():
    assert UnclipDims(**DIMS.to_dict()) == DIMS
