"""Two-view adapter files: the published layout, ours, a UNet's folder, others' IP-Adapters."""

import pytest
import torch
from any2pix.loading.adapter import load_adapter
from any2pix.loading.files import CheckpointError, write_network_file
from any2pix.models.adapter import UnclipDims, UnclipProjector
from any2pix.models.two_view import TwoViewAdapter, TwoViewDims
from torch.testing import assert_close

DIMS = TwoViewDims(embed=8, context=6, widths=(4, 10, 4), tokens=3)


@pytest.fixture
def adapter():
    torch.manual_seed(0)
    adapter = TwoViewAdapter(DIMS).requires_grad_(False)
    adapter.image_proj.raw_embed.normal_()
    return adapter


def published(adapter) -> dict:
    """The nested dict of the authors' .bin."""
    parts = {"image_proj": adapter.image_proj.state_dict(), "ip_adapter": adapter.ip_adapter.state_dict()}
    return {name: dict(part) for name, part in parts.items()}


def same(loaded, adapter):
    assert isinstance(loaded, TwoViewAdapter) and loaded.dims == DIMS and not loaded.training
    for key, value in adapter.state_dict().items():
        assert_close(loaded.state_dict()[key], value)


@pytest.mark.parametrize("nested", [True, False])
def test_the_published_file(adapter, tmp_path, nested):
    torch.save(published(adapter) if nested else adapter.state_dict(), tmp_path / "ip_adapter.bin")
    same(load_adapter(tmp_path / "ip_adapter.bin"), adapter)


@pytest.mark.parametrize("kind", ["adapter", "two_view"])
def test_our_file(adapter, tmp_path, kind):
    path = tmp_path / "adapter.safetensors"
    write_network_file(path, kind, adapter.state_dict(), DIMS.to_dict())
    same(load_adapter(path), adapter)


def test_it_stays_in_the_precision_of_its_file(adapter, tmp_path):
    torch.save(published(adapter.half()), tmp_path / "half.bin")
    assert {value.dtype for value in load_adapter(tmp_path / "half.bin").state_dict().values()} == {torch.float16}
    wide = load_adapter(tmp_path / "half.bin", dtype=torch.float32)
    assert {value.dtype for value in wide.state_dict().values()} == {torch.float32}


def test_a_missing_and_an_unknown_tensor_are_named(adapter, tmp_path):
    tensors = dict(adapter.state_dict())
    for key in ("ip_adapter.3.to_v_ip.weight", "image_proj.norm.bias", "image_proj.proj.weight"):
        torch.save({name: value for name, value in tensors.items() if name != key}, tmp_path / "cut.bin")
        with pytest.raises(CheckpointError, match=key):
            load_adapter(tmp_path / "cut.bin")
    torch.save({**tensors, "ip_adapter.5.extra": torch.zeros(1)}, tmp_path / "more.bin")
    with pytest.raises(CheckpointError, match="not expected: ip_adapter.5.extra"):
        load_adapter(tmp_path / "more.bin")


def test_a_stock_ip_adapter_is_named_and_where_it_belongs(adapter, tmp_path):
    tensors = {key: value for key, value in adapter.state_dict().items() if not key.endswith("raw_embed")}
    torch.save(tensors, tmp_path / "ip-adapter_sdxl.bin")
    with pytest.raises(CheckpointError, match=r"models/ipadapter.*ip_adapter_global_local_2_view.bin"):
        load_adapter(tmp_path / "ip-adapter_sdxl.bin")


@pytest.mark.parametrize("as_folder", [True, False])
def test_the_first_releases_unet_carries_its_projector(tmp_path, as_folder):
    dims = UnclipDims(embed=8, hidden=12, context=6, pooled=5, pooled_in=7)
    projector = UnclipProjector(dims)
    unet = {"conv_in.weight": torch.zeros(2, 2), "down_blocks.0.x": torch.zeros(1), "time_embedding.x": torch.zeros(1)}
    file = tmp_path / "diffusion_pytorch_model.bin"
    torch.save({**unet, **projector.state_dict()}, file)
    loaded = load_adapter(tmp_path if as_folder else file)
    assert loaded.dims == dims
    for key, value in projector.state_dict().items():
        assert_close(loaded.state_dict()[key], value)


def test_a_unet_without_a_projector_and_an_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="holds no weights"):
        load_adapter(tmp_path / "empty")
    unet = {"conv_in.weight": torch.zeros(2, 2), "down_blocks.0.x": torch.zeros(1), "time_embedding.x": torch.zeros(1)}
    torch.save(unet, tmp_path / "unet.bin")
    with pytest.raises(CheckpointError, match="projector_unclip.0.weight"):
        load_adapter(tmp_path / "unet.bin")
