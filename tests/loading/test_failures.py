"""Every loader, given what it cannot use: one CheckpointError with the file, its folder and what to do."""

import builtins
import json
import pickle
import re
import shutil

import pytest
import torch
from any2pix.loading.adapter import load_adapter
from any2pix.loading.diffusion import load_unet
from any2pix.loading.errors import CheckpointError
from any2pix.loading.imagebind import load_imagebind
from any2pix.loading.kinds import KINDS
from any2pix.loading.llm import load_llm
from any2pix.loading.prior import load_prior
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

LOADERS = {
    "imagebind": load_imagebind, "llm": load_llm, "prior": load_prior, "adapter": load_adapter,
    "two_view": load_adapter,
    "unet": load_unet,
}  # fmt: skip
FOLDERS = ("llm", "unet")
TAKEN = {"adapter": ("adapter", "two_view", "unet")}  # a UNet for the projectors in it
STRANGERS = [
    (wanted, found)
    for wanted in ("imagebind", "llm", "prior", "adapter", "unet")
    for found in LOADERS
    if found not in TAKEN.get(wanted, (wanted,))
]
pytestmark = pytest.mark.usefixtures("small_is_published")


def error_of(kind, path) -> str:
    with pytest.raises(CheckpointError) as caught:
        LOADERS[kind](path)
    return str(caught.value)


def flat_state(kind, published_files) -> dict[str, torch.Tensor]:
    """Every tensor of the published file or folder."""
    path = published_files[kind]
    if kind == "unet":
        return load_file(path / "diffusion_pytorch_model.safetensors")
    if kind == "llm":
        return {k: v for shard in sorted(path.glob("*.bin")) for k, v in torch.load(shard, weights_only=True).items()}
    state = torch.load(path, weights_only=True)
    return (
        {f"{root}.{key}": v for root, part in state.items() for key, v in part.items()} if kind == "two_view" else state
    )


@pytest.fixture
def place(published_files, tmp_path):
    """A function (kind, ending) -> (the weight file to write, what to hand to the loader)."""

    def place(kind, ending):
        if kind not in FOLDERS:
            path = tmp_path / f"weights{ending}"
            return path, path
        folder = tmp_path / kind
        shutil.copytree(published_files[kind], folder)
        for old in (*folder.glob("*.bin*"), *folder.glob("*.safetensors*")):
            old.unlink()
        stem = {"unet": "diffusion_pytorch_model", "llm": "model" if ending == ".safetensors" else "pytorch_model"}[
            kind
        ]
        return folder / (stem + ending), folder

    return place


def save(state, path):
    save_file(
        {k: v.contiguous().clone() for k, v in state.items()}, path
    ) if path.suffix == ".safetensors" else torch.save(state, path)


@pytest.mark.parametrize("kind", LOADERS)
def test_what_is_not_there(kind, tmp_path):
    message = error_of(kind, tmp_path / "absent.safetensors")
    assert "absent.safetensors (in " in message and "is not there" in message and "models/any2pix" in message


@pytest.mark.parametrize(("wanted", "found"), STRANGERS)
def test_a_file_of_another_kind_is_named_with_its_place(wanted, found, published_files, place):
    path = place(found, ".safetensors")[0] if found in FOLDERS else published_files[found]
    if found in FOLDERS:
        save(flat_state(found, published_files), path)
    message = error_of(wanted, path)
    assert f"is {KINDS[found].title}; it belongs in models/{KINDS[found].folder}." in message
    assert KINDS["two_view" if wanted == "adapter" else wanted].source in message


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_of_another_kind(kind, published_files):
    other = FOLDERS[1 - FOLDERS.index(kind)]
    message = error_of(kind, published_files[other])
    assert f"{KINDS[other].title}, which belongs in models/{KINDS[other].folder}" in message


@pytest.mark.parametrize("kind", ["imagebind", "prior"])
def test_a_folder_in_the_place_of_a_file(kind, published_files):
    assert "is a folder, not a weight file" in error_of(kind, published_files["llm"])


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>Sign in</html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (pickle.dumps(print), "damaged|never executed"),
        (bytes(300), "damaged"),
    ],
)
@pytest.mark.parametrize("ending", [".safetensors", ".bin"])
def test_what_is_no_weight_file(kind, content, words, ending, place):
    path, given = place(kind, ending)
    path.write_bytes(content)
    message = error_of(kind, given)
    assert any(word in message for word in words.split("|"))
    assert f"{path.name} (in {path.parent})" in message


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("form", ["safetensors", "zip", "legacy"])
def test_a_file_that_was_cut_short(kind, form, published_files, place):
    path, given = place(kind, ".safetensors" if form == "safetensors" else ".bin")
    state = flat_state(kind, published_files)
    if form == "safetensors":
        save(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    whole = path.read_bytes()
    for share in (0.2, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        assert "damaged or was cut short" in error_of(kind, given)


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (lambda old: torch.full_like(old, float("nan")), "has NaN in"),
        (lambda old: torch.full_like(old, float("-inf")), "has infinity in"),
        (lambda old: old.to(torch.int8), "of another type: .* is torch.int8, not torch.float32"),
        (lambda old: old.to(torch.complex64), "is torch.complex64, not torch.float32"),
        (lambda old: old[None], "of another shape"),
    ],
)
def test_numbers_that_cannot_be(kind, value, words, published_files, place):
    path, given = place(kind, ".bin")
    state = dict(flat_state(kind, published_files))
    key = next(key for key in reversed(state) if key.endswith(".bias") and "projector" not in key or kind == "adapter")
    if kind == "two_view":
        key = "image_proj.norm.bias"
    state[key] = value(state[key])
    torch.save(state, path)
    message = error_of(kind, given)
    assert re.search(words, message) and key in message
    assert path.parent.name in message


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_other_floats_are_converted(kind, dtype, published_files, place):
    path, given = place(kind, ".safetensors")
    state = {
        key: value.to(dtype) if "mask" not in key else value for key, value in flat_state(kind, published_files).items()
    }
    save(state, path)
    if kind == "unet":
        loaded = load_unet(given, torch.float32)[0]
    else:
        loaded = LOADERS[kind](given, dtype=torch.float32).state_dict()
    assert all(value.dtype == torch.float32 for value in loaded.values())
    assert_close(loaded, {key: state[key].float() for key in loaded}, rtol=0, atol=0)


@pytest.mark.parametrize("kind", FOLDERS)
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "is not there"),
        ("{", "is not JSON"),
        ("<html>", "is not JSON"),
        ("[1, 2]", "holds a list"),
        ("{}", "lacks"),
    ],
)
def test_a_damaged_config(kind, text, words, published_files, tmp_path):
    folder = tmp_path / kind
    shutil.copytree(published_files[kind], folder)
    (folder / "config.json").unlink() if text is None else (folder / "config.json").write_text(text)
    message = error_of(kind, folder)
    assert f"config.json (in {folder})" in message and words in message


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("llm", {"num_hidden_layers": 3}, "missing: model.layers.2"),
        ("llm", {"num_hidden_layers": 1}, "not expected: model.layers.1"),
        ("llm", {"hidden_size": 64}, "of another shape"),
        ("llm", {"num_attention_heads": 5}, "no network can be built|of another shape"),
        ("llm", {"num_attention_heads": 0}, "no network can be built"),
        ("llm", {"hidden_act": "quack"}, "no network can be built"),
        ("llm", {"vocab_size": "many"}, "lacks vocab_size"),
        ("llm", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "scaled rotary positions"),
        ("unet", {"block_out_channels": [64, 64]}, "of another shape"),
        ("unet", {"down_block_types": ["DownBlock2D"]}, "no network can be built"),
        ("unet", {"cross_attention_dim": None}, "lacks cross_attention_dim"),
    ],
)
def test_a_config_of_another_network(kind, changes, words, published_files, tmp_path):
    folder = tmp_path / kind
    shutil.copytree(published_files[kind], folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    message = error_of(kind, folder)
    assert any(word in message for word in words.split("|")) and str(folder.parent) in message


def damaged_index(folder, change):
    index = next(folder.glob("*.index.json"))
    content = json.loads(index.read_text())
    index.write_text(json.dumps(change(content)))
    return index


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda index: {}, "has no weight_map"),
        (lambda index: {"weight_map": {"model.norm.weight": 3}}, "has no weight_map"),
        (
            lambda index: {"weight_map": {k: v for k, v in index["weight_map"].items() if k != "model.norm.weight"}},
            "does not list model.norm.weight",
        ),
        (
            lambda index: {"weight_map": {**index["weight_map"], "model.more": "pytorch_model-00001-of-00002.bin"}},
            "places model.more in pytorch_model-00001-of-00002.bin, which lacks it",
        ),
        (lambda index: {"weight_map": {**index["weight_map"], "model.more": "../other.bin"}}, "outside its folder"),
        (
            lambda index: {"weight_map": {**index["weight_map"], "model.more": "pytorch_model-00003-of-00003.bin"}},
            "pytorch_model-00003-of-00003.bin (in",
        ),
    ],
)
def test_a_damaged_index(change, words, published_files, tmp_path):
    folder = tmp_path / "llm-retrained"
    shutil.copytree(published_files["llm"], folder)
    damaged_index(folder, change)
    message = error_of("llm", folder)
    assert words in message and str(folder) in message and KINDS["llm"].source in message


def test_an_index_that_is_no_json(published_files, tmp_path):
    folder = tmp_path / "llm-retrained"
    shutil.copytree(published_files["llm"], folder)
    damaged_index(folder, dict).write_text("<html>")
    assert "pytorch_model.bin.index.json" in error_of("llm", folder)


def test_a_tokenizer_that_is_damaged(published_files, tmp_path):
    folder = tmp_path / "llm-retrained"
    shutil.copytree(published_files["llm"], folder)
    file = folder / "tokenizer" / "tokenizer.json"
    for text in ("", "{}", "<html>", file.read_text()[:2000]):
        file.write_text(text)
        message = error_of("llm", folder)
        assert f"tokenizer.json (in {file.parent}) holds a damaged tokenizer" in message
    file.unlink()
    (file.parent / "tokenizer.model").write_bytes(b"not a sentencepiece model")
    assert f"tokenizer.model (in {file.parent}) cannot be read" in error_of("llm", folder)


@pytest.mark.parametrize("kind", ["imagebind", "prior", "adapter"])
@pytest.mark.parametrize(
    ("dims", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "is a list"),
        ('{"embed": 8}', "damaged sizes|lacks"),
        ('{"wings": 2}', "does not support: wings"),
    ],
)
def test_damaged_metadata_of_ours(kind, dims, words, networks, tmp_path):
    path = tmp_path / f"{kind}.safetensors"
    save_file(
        {k: v.contiguous().clone() for k, v in networks[kind].state_dict().items()},
        path,
        {"any2pix.kind": kind, "any2pix.dims": dims},
    )
    message = error_of(kind, path)
    assert any(word in message for word in words.split("|")) and str(tmp_path) in message


def test_a_file_nobody_may_read(published_files, tmp_path, monkeypatch):
    def refuse(file, *rest, **named):
        raise PermissionError(13, "Permission denied")

    path = published_files["prior"]
    monkeypatch.setattr(builtins, "open", refuse)
    assert "cannot be read (Permission denied)" in error_of("prior", path)


def test_merge_is_as_trained_or_as_asked(published_files):
    assert load_llm(published_files["llm"]).dims.merge == "add"
    assert load_llm(published_files["llm"], merge="substitute").dims.merge == "substitute"
    with pytest.raises(ValueError, match="not 'both'"):
        load_llm(published_files["llm"], merge="both")


@pytest.mark.parametrize("kind", ["imagebind", "llm", "prior", "unet"])
def test_progress_is_told_to_the_end_and_can_stop(kind, published_files):
    class Stop(Exception):
        pass

    told = []
    LOADERS[kind](published_files[kind], progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told) and told[-1][0] == told[-1][1] > 0

    def stop(done, total):
        raise Stop

    with pytest.raises(Stop):
        LOADERS[kind](published_files[kind], progress=stop)
