"""unCLIP adapter files: ours, published ones, broken ones."""

import pytest
import torch
from any2pix.loading.adapter import load_adapter
from any2pix.loading.files import CheckpointError, write_network_file
from any2pix.models.adapter import UnclipDims, UnclipProjector
from torch.testing import assert_close

DIMS = UnclipDims(embed=8, hidden=12, context=6, pooled=5, pooled_in=7)


@pytest.fixture
def adapter():
    torch.manual_seed(0)
    return UnclipProjector(DIMS).requires_grad_(False)


def same(loaded, adapter):
    assert loaded.dims == DIMS and not loaded.training
    embedding = torch.randn(2, 8)
    for ours, theirs in zip(loaded(embedding), adapter(embedding), strict=True):
        assert_close(ours, theirs)


def test_our_file(adapter, tmp_path):
    path = tmp_path / "adapter.safetensors"
    write_network_file(path, "adapter", adapter.state_dict(), DIMS.to_dict())
    same(load_adapter(path), adapter)


def test_half_precision_file_computes_in_float32(adapter, tmp_path):
    path = tmp_path / "adapter.safetensors"
    write_network_file(path, "adapter", adapter.state_dict(), DIMS.to_dict(), dtype=torch.float16)
    assert load_adapter(path).projector_unclip[0].weight.dtype == torch.float32
    assert load_adapter(path, dtype=torch.float16).projector_unclip[0].weight.dtype == torch.float16


@pytest.mark.parametrize("prefix", ["", "module.", "unet."])
def test_published_tensors_beside_others(adapter, tmp_path, prefix):
    path = tmp_path / "unclip.bin"
    tensors = {prefix + key: value for key, value in adapter.state_dict().items()}
    torch.save({**tensors, "conv_in.weight": torch.zeros(2, 2)}, path)
    same(load_adapter(path), adapter)


def test_a_missing_tensor_is_named(adapter, tmp_path):
    tensors = dict(adapter.state_dict())
    for key in ("projector_unclip.2.weight", "projector_unclip2.0.bias"):
        rest = {name: value for name, value in tensors.items() if name != key}
        torch.save(rest, tmp_path / "cut.bin")
        with pytest.raises(CheckpointError, match=key):
            load_adapter(tmp_path / "cut.bin")


def test_a_wrong_shape_is_named(adapter, tmp_path):
    path = tmp_path / "adapter.safetensors"
    tensors = {**adapter.state_dict(), "projector_unclip.2.bias": torch.zeros(9)}
    write_network_file(path, "adapter", tensors, DIMS.to_dict())
    with pytest.raises(CheckpointError, match=r"projector_unclip.2.bias is \(9,\), not \(6,\)"):
        load_adapter(path)


def test_another_kind_of_file_and_no_file(tmp_path):
    torch.save({"modality_trunks.vision.blocks.0.weight": torch.zeros(1)}, tmp_path / "imagebind.pth")
    with pytest.raises(CheckpointError, match="ImageBind checkpoint"):
        load_adapter(tmp_path / "imagebind.pth")
    with pytest.raises(CheckpointError, match="is not there"):
        load_adapter(tmp_path / "absent.safetensors")
