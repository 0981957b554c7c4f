"""Every way a weight file can be wrong ends as one CheckpointError that names the file, its folder and the remedy."""

import json
import os
import pickle

import pytest
import torch
from any2pix.loading.files import CheckpointError, build_dims, read_network_file, read_tensors, write_network_file
from any2pix.loading.kinds import KINDS, recognise
from any2pix.loading.strict import EmptyWeights, load_strict
from any2pix.models.imagebind import ImageBindDims
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

WEIGHTS = {"modality_trunks.vision.a": torch.arange(6.0).view(2, 3), "modality_trunks.text.b": torch.tensor(7)}


def error_of(path, kind: str = "imagebind") -> str:
    """What reading it says; always with the file, its folder and where the right one belongs."""
    with pytest.raises(CheckpointError) as caught:
        read_network_file(path, kind)
    message = str(caught.value)
    assert path.name in message
    assert str(path.parent) in message
    assert KINDS[kind].source in message
    return message


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / "new" / "imagebind.safetensors"
    dims = ImageBindDims.published()
    write_network_file(path, "imagebind", WEIGHTS, dims.to_dict(), '{"a": 1}', {"any2pix.note": "yes"})
    file = read_network_file(path, "imagebind")
    assert_close(file.state_dict, WEIGHTS)
    assert build_dims(ImageBindDims, file.dims, path) == dims
    assert file.tokenizer_json == '{"a": 1}'
    assert file.metadata["any2pix.note"] == "yes"


def test_dtype_changes_floats_only_and_shared_tensors_are_parted(tmp_path):
    path = tmp_path / "x.safetensors"
    weight = torch.rand(4, 4)
    tensors = {"modality_trunks.a": weight, "modality_trunks.b": weight.T, "modality_trunks.count": torch.tensor(3)}
    write_network_file(path, "imagebind", tensors, {}, dtype=torch.float16)
    read = read_network_file(path, "imagebind").state_dict
    assert read["modality_trunks.a"].dtype == torch.float16
    assert read["modality_trunks.count"].dtype == torch.int64
    assert_close(read["modality_trunks.b"], weight.T.half())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    write_network_file(path, "imagebind", WEIGHTS, {})
    before = path.read_bytes()

    def full_disk(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_network_file(path, "imagebind", {"modality_trunks.a": torch.zeros(1)}, {})
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_torch_files_are_read_and_nested_ones_laid_flat(tmp_path):
    path = tmp_path / "imagebind_huge.pth"
    torch.save(WEIGHTS, path)
    assert_close(read_network_file(path, "imagebind").state_dict, WEIGHTS)
    torch.save({"state_dict": WEIGHTS, "epoch": 3}, path)
    assert_close(read_network_file(path, "imagebind").state_dict, WEIGHTS)
    torch.save({"image_proj": {"proj.weight": torch.ones(1)}, "ip_adapter": {"1.to_k_ip.weight": torch.ones(2)}}, path)
    assert set(read_tensors(path)[0]) == {"image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"}


def test_old_torch_files_are_read(tmp_path):
    path = tmp_path / "old.pth"
    torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False)
    assert_close(read_network_file(path, "imagebind").state_dict, WEIGHTS)


def test_a_missing_file(tmp_path):
    assert "is not there" in error_of(tmp_path / "imagebind_huge.pth")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.98])
@pytest.mark.parametrize("name", ["x.safetensors", "x.pth"])
def test_a_file_that_was_cut_short(tmp_path, name, share):
    path = tmp_path / name
    weights = {"modality_trunks.a": torch.rand(100, 100)}
    if name.endswith(".pth"):
        torch.save(weights, path)
    else:
        write_network_file(path, "imagebind", weights, {})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "cut short" in error_of(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>Not found</html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"abcdefgh" * 30, "damaged"),
    ],
)
@pytest.mark.parametrize("name", ["x.safetensors", "x.bin"])
def test_what_failed_downloads_leave_behind(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    assert words in error_of(path)


def test_another_ending(tmp_path):
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GGUF" * 20)
    assert "ending '.gguf'" in error_of(path)


class Mine:
    """Something that only unpickles by running code."""

    def __reduce__(self):
        return os.mkdir, ("should-never-appear",)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_is_never_run(tmp_path, monkeypatch, zipped):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.pth"
    torch.save({"a": torch.ones(1), "b": Mine()}, path, _use_new_zipfile_serialization=zipped)
    assert "pickled Python code, which is never executed" in error_of(path)
    assert not (tmp_path / "should-never-appear").exists()


def test_a_plain_pickle_is_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.bin"
    path.write_bytes(pickle.dumps(Mine()))
    error_of(path)
    assert not (tmp_path / "should-never-appear").exists()


def test_a_torch_file_without_tensors(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"epoch": 3}, path)
    assert "no tensors" in error_of(path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_nan_is_named_by_its_key(tmp_path, dtype):
    path = tmp_path / "x.safetensors"
    broken = torch.tensor([1.0, float("nan")]).to(dtype)
    save_file({"modality_trunks.good": torch.ones(1), "modality_trunks.bad": broken}, path)
    assert "NaN in 'modality_trunks.bad'" in error_of(path)


def test_infinite_values_are_allowed(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"modality_trunks.mask": torch.full((2, 2), float("-inf"))}, path)
    read_network_file(path, "imagebind")


@pytest.mark.parametrize(
    ("keys", "title", "folder"),
    [
        (
            ("ip_adapter.1.to_k_ip.weight", "image_proj.proj.weight"),
            "an IP-Adapter of another project",
            "models/ipadapter",
        ),
        (("ip_adapter.1.to_k_ip.weight", "image_proj.raw_embed"), "a two-view IP-Adapter", "models/any2pix/adapter"),
        (("projector_unclip.0.weight", "projector_unclip2.0.weight"), "an unCLIP projector", "models/any2pix/adapter"),
        (("lora_unet_down_blocks_0.lora_down.weight",), "a LoRA", "models/loras"),
        (("model.diffusion_model.input_blocks.0.weight",), "a whole Stable Diffusion", "models/checkpoints"),
        (("input_sequence_embed_linear.1.weight",), "refinement prior", "models/any2pix/prior"),
        (("model.vae_projector_image.0.weight", "lm_head.weight"), "language model", "models/any2pix/llm"),
        (("conv_in.weight", "down_blocks.0.a", "time_embedding.linear_1.weight"), "a UNet", "models/any2pix/unet"),
        (
            (
                "projector_unclip.0.weight",
                "projector_unclip2.0.weight",
                "conv_in.weight",
                "down_blocks.0.a",
                "time_embedding.a",
            ),
            "a UNet",
            "models/any2pix/unet",
        ),
    ],
)
def test_another_kind_of_file_is_recognised(tmp_path, keys, title, folder):
    path = tmp_path / "x.safetensors"
    save_file({key: torch.ones(1) for key in keys}, path)
    message = error_of(path)
    assert title in message
    assert f"it belongs in {folder}" in message


def test_a_file_of_no_known_kind_is_named_by_a_key(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"who.knows": torch.ones(1)}, path)
    assert "it holds 'who.knows'" in error_of(path)
    assert recognise(["who.knows"]) is None


def test_the_metadata_says_the_kind_before_the_keys_do(tmp_path):
    path = tmp_path / "x.safetensors"
    write_network_file(path, "prior", WEIGHTS, {})
    assert "is an InstructAny2Pix refinement prior" in error_of(path)


def test_sizes_of_a_newer_version(tmp_path):
    with pytest.raises(CheckpointError, match="does not support: wings"):
        build_dims(ImageBindDims, {**ImageBindDims.published().to_dict(), "wings": 2}, tmp_path / "x.safetensors")
    assert build_dims(ImageBindDims, json.loads(json.dumps(ImageBindDims.published().to_dict())), "x").patch == 14


def test_load_strict_lists_every_trouble():
    module = nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.Linear(2, 2, bias=False)})
    wrong = {
        "a.weight": torch.zeros(3, 2),
        "b.weight": torch.zeros(2, 5),
        "depth.x": torch.zeros(1),
        "c": torch.zeros(1),
    }
    with pytest.raises(CheckpointError) as caught:
        load_strict(module, wrong, skip=("depth.",), source="x.pth")
    message = str(caught.value)
    assert "x.pth does not fit ModuleDict" in message
    assert "missing: a.bias" in message
    assert "not expected: c" in message
    assert "b.weight is (2, 5), not (2, 2)" in message
    assert "depth" not in message


def test_load_strict_copies_or_takes_over():
    weights = {"weight": torch.rand(3, 2).half(), "bias": torch.rand(3).half()}
    own = nn.Linear(2, 3)
    load_strict(own, weights)
    assert own.weight.dtype == torch.float32
    with EmptyWeights():
        empty = nn.Linear(2, 3)
    assert empty.weight.is_meta
    load_strict(empty, weights)
    assert empty.weight.data_ptr() == weights["weight"].data_ptr()
    assert torch.empty(1).device.type == "cpu"
