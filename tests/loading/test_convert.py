"""Published files of every kind as one safetensors file: the same network, resumable, compared with the source."""

import errno
import json
import os
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from any2pix.loading import stream
from any2pix.loading.adapter import load_adapter
from any2pix.loading.convert import convert, main
from any2pix.loading.diffusion import load_unet
from any2pix.loading.files import CheckpointError
from any2pix.loading.imagebind import load_imagebind
from any2pix.loading.llm import META_TOKENS, load_llm
from any2pix.loading.prior import load_prior
from any2pix.models.adapter import UnclipDims, UnclipProjector
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer, models
from torch.testing import assert_close

KINDS = ("imagebind", "llm", "prior", "adapter", "two_view", "unet")
LOADERS = {
    "imagebind": load_imagebind,
    "llm": load_llm,
    "prior": load_prior,
    "adapter": load_adapter,
    "two_view": load_adapter,
}
pytestmark = pytest.mark.usefixtures("small_is_published")


def opened(kind, path):
    return load_unet(path)[0] if kind == "unet" else LOADERS[kind](path, dtype=torch.float32).state_dict()


@pytest.mark.parametrize("kind", KINDS)
def test_the_converted_file_is_the_same_network(kind, published_files, tmp_path):
    target = convert(published_files[kind], tmp_path / "new.safetensors", quiet=True)
    found, expected = opened(kind, target), opened(kind, published_files[kind])
    assert list(found) == list(expected)
    assert_close(found, expected, rtol=0, atol=0)
    assert [path.name for path in tmp_path.iterdir()] == ["new.safetensors"]
    with safe_open(target, framework="pt") as file:
        assert file.metadata()["any2pix.kind"] == ("adapter" if kind == "two_view" else kind)
        assert json.loads(file.metadata()["any2pix.dims"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_converted_file_can_be_converted_again(kind, published_files, tmp_path):
    once = convert(published_files[kind], tmp_path / "once.safetensors", quiet=True)
    half = convert(once, tmp_path / "half.safetensors", torch.bfloat16, quiet=True)
    expected = {key: value.bfloat16().float() for key, value in opened(kind, once).items()}
    assert_close({key: value.float() for key, value in opened(kind, half).items()}, expected, rtol=0, atol=0)
    assert half.stat().st_size < 0.7 * once.stat().st_size


def test_the_llm_brings_tokenizer_and_token_numbers(published_files, tokenizer, tmp_path):
    target = convert(published_files["llm"], tmp_path, quiet=True)
    assert target.name == "llm-retrained.safetensors"
    assert load_llm(target).tokenizer.encode("a cat").ids == tokenizer.encode("a cat").ids
    with safe_open(target, framework="pt") as file:
        assert json.loads(file.metadata()[META_TOKENS])["eos"] == tokenizer.token_to_id("</s>")
        assert not any("vision_tower" in name or "inv_freq" in name for name in file.keys())


def test_the_unet_keeps_its_projectors_and_they_can_be_had_alone(published_files, networks, tmp_path):
    whole = convert(published_files["unet"], tmp_path / "unet.safetensors", quiet=True)
    alone = convert(published_files["unet"], tmp_path / "adapter.safetensors", kind="adapter", quiet=True)
    for path in (whole, alone, published_files["unet"]):
        assert_close(load_adapter(path).state_dict(), networks["adapter"].state_dict(), rtol=0, atol=0)
    assert not any("projector" in key for key in load_unet(whole)[0])


def test_a_given_tokenizer(published_files, tmp_path):
    words = {chr(97 + index): index for index in range(20)}
    (tmp_path / "tokenizer.json").write_text(Tokenizer(models.WordLevel(words, unk_token="a")).to_str())
    target = convert(
        published_files["prior"], tmp_path / "prior.safetensors", tokenizer=tmp_path / "tokenizer.json", quiet=True
    )
    assert load_prior(target).tokenizer.get_vocab_size() == 20
    with pytest.raises(CheckpointError, match="tokenizer.json .* has 20 tokens, the network 60"):
        convert(published_files["imagebind"], tmp_path / "x.safetensors", tokenizer=tmp_path / "tokenizer.json")
    with pytest.raises(CheckpointError, match="--tokenizer is for an ImageBind or a prior"):
        convert(published_files["llm"], tmp_path / "x.safetensors", tokenizer=tmp_path / "tokenizer.json")


class Stop(Exception):
    pass


def stop_after(monkeypatch, blocks):
    """The source fails after so many blocks, as a kill would end it."""
    whole = stream.Stream.blocks

    def some(self):
        for index, block in enumerate(whole(self)):
            if index == blocks:
                raise Stop
            yield block

    monkeypatch.setattr(stream.Stream, "blocks", some)


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_run_goes_on_where_it_stopped(kind, published_files, tmp_path, monkeypatch, caplog):
    target = tmp_path / "new.safetensors"
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Stop):
            convert(published_files[kind], target, torch.float16, quiet=True)
    part = tmp_path / "new.safetensors.part"
    before = part.read_bytes()
    assert before and not target.exists()
    convert(published_files[kind], target, torch.float16, quiet=True)
    assert f"after {len(before)} bytes: continued there" in caplog.text
    assert not part.exists()
    whole = convert(published_files[kind], tmp_path / "whole.safetensors", torch.float16, quiet=True)
    assert whole.read_bytes() == target.read_bytes()


def test_a_process_that_is_killed_goes_on(tmp_path):
    """A real kill in the middle of a real run: 84 MB, killed when some of it is on the disk."""
    network = UnclipProjector(UnclipDims(embed=1024, hidden=4096, context=2048, pooled=1280, pooled_in=768))
    save_file({key: value.detach() for key, value in network.state_dict().items()}, tmp_path / "unclip.safetensors")
    target, part = tmp_path / "new.safetensors", tmp_path / "new.safetensors.part"
    command = [sys.executable, "-m", "any2pix.loading.convert", str(tmp_path / "unclip.safetensors"), str(target)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (part.exists() and part.stat().st_size > 2**20):
        time.sleep(0.01)
    process.kill()
    process.wait()
    if not target.exists():  # else it was too quick for us
        convert(tmp_path / "unclip.safetensors", target, quiet=True)
    assert_close(load_adapter(target).state_dict(), dict(network.state_dict()), rtol=0, atol=0)
    assert not part.exists()


def test_a_corrupt_part_is_found_and_written_again(published_files, tmp_path, monkeypatch, caplog):
    target, part = tmp_path / "new.safetensors", tmp_path / "new.safetensors.part"
    expected = convert(published_files["prior"], tmp_path / "whole.safetensors", quiet=True).read_bytes()
    for place in (len(expected) // 2, len(expected) - 1):
        damaged = bytearray(expected)
        damaged[place] ^= 1
        part.write_bytes(damaged)
        convert(published_files["prior"], target, quiet=True)
        assert target.read_bytes() == expected
        assert "differs from the source" in caplog.text
        target.unlink()
    part.write_bytes(expected + b"more")
    convert(published_files["prior"], target, quiet=True)
    assert target.read_bytes() == expected


def test_a_part_of_another_conversion_is_begun_anew(published_files, tmp_path, caplog):
    target = tmp_path / "new.safetensors"
    other = convert(published_files["prior"], tmp_path / "other.safetensors", torch.float16, quiet=True)
    os.replace(other, tmp_path / "new.safetensors.part")
    convert(published_files["prior"], target, torch.float32, quiet=True)
    assert "started again" in caplog.text
    assert load_prior(target).model.wpe.weight.dtype == torch.float32


def test_what_is_written_is_read_back_and_compared(published_files, tmp_path, monkeypatch):
    def careless(file, header, source, written):
        file.write(header)
        for _, block in source.blocks():
            file.write(bytes(len(block)))

    monkeypatch.setattr(stream, "_write", careless)
    with pytest.raises(CheckpointError, match="does not hold the source's .*The disk or the memory is faulty"):
        convert(published_files["prior"], tmp_path / "new.safetensors", quiet=True)
    assert not (tmp_path / "new.safetensors").exists()


def test_a_full_disk(published_files, tmp_path, monkeypatch):
    target = tmp_path / "new.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(stream.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
        with pytest.raises(CheckpointError, match=r"needs 0\.\d+ GB more, the disk has 0\.00 GB"):
            convert(published_files["llm"], target, quiet=True)
        assert list(tmp_path.iterdir()) == []

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(stream.os, "fsync", full)
        with pytest.raises(CheckpointError, match="the disk is full. Free disk space and run the same command again"):
            convert(published_files["llm"], target, quiet=True)
    assert not target.exists()
    convert(published_files["llm"], target, quiet=True)
    assert target.exists()


def test_numbers_too_large_for_half_precision(networks, tmp_path):
    state = {key: value.clone() for key, value in networks["adapter"].state_dict().items()}
    state["projector_unclip.2.bias"][0] = 1e6
    torch.save(state, tmp_path / "unclip.bin")
    with pytest.raises(CheckpointError, match="projector_unclip.2.bias has numbers too large for torch.float16"):
        convert(tmp_path / "unclip.bin", tmp_path / "new.safetensors", torch.float16, quiet=True)
    convert(tmp_path / "unclip.bin", tmp_path / "bf16.safetensors", torch.bfloat16, quiet=True)


@pytest.mark.parametrize("kind", ["imagebind", "prior", "adapter", "two_view"])
def test_a_source_that_lacks_a_key_is_refused_before_anything_is_written(kind, published_files, tmp_path):
    state = torch.load(published_files[kind], weights_only=True)
    part = state["ip_adapter"] if kind == "two_view" else state
    del part[next(key for key in list(part)[::-1] if "depth" not in key and "thermal" not in key and "imu" not in key)]
    torch.save(state, tmp_path / "cut.bin")
    with pytest.raises(CheckpointError, match="missing|lacks"):
        convert(tmp_path / "cut.bin", tmp_path / "new.safetensors", quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["cut.bin"]


def test_targets_and_sources_that_cannot_be(published_files, tmp_path):
    source = published_files["prior"]
    with pytest.raises(CheckpointError, match="ending '.bin'"):
        convert(source, tmp_path / "new.bin")
    (tmp_path / "there.safetensors").write_bytes(b"precious")
    with pytest.raises(CheckpointError, match="is there already"):
        convert(source, tmp_path / "there.safetensors")
    torch.save({"lora_a": torch.ones(1)}, tmp_path / "lora.bin")
    with pytest.raises(CheckpointError, match="is a LoRA. What can be converted here"):
        convert(tmp_path / "lora.bin", tmp_path / "x.safetensors")
    with pytest.raises(
        CheckpointError, match="refinement prior. What can be converted here: an InstructAny2Pix language"
    ):
        convert(source, tmp_path / "x.safetensors", kind="llm")
    with pytest.raises(CheckpointError, match="is not there"):
        convert(tmp_path / "absent.bin", tmp_path / "x.safetensors")


def test_the_readmes_commands_work_on_a_fresh_install(published_files, tmp_path, monkeypatch, root):
    """Each as it stands there, from the folder that its first line goes to; no model folder is there."""
    commands = re.search(r"```\n(cd .*?)```", (root / "docs" / "weights.md").read_text(), re.DOTALL)[1].splitlines()
    folder, downloads = tmp_path / commands[0].removeprefix("cd "), tmp_path / "DOWNLOADS"
    folder.mkdir(parents=True)
    names = {"imagebind": "imagebind_huge.pth", "llm": "llm-retrained", "prior": "prior/model.bin"}
    names["two_view"] = "sdxl/ip_adapter_global_local_2_view.bin"
    for kind, name in names.items():
        (downloads / name).parent.mkdir(parents=True, exist_ok=True)
        (downloads / name).symlink_to(published_files[kind])
    monkeypatch.chdir(folder)
    for command in commands[2:]:
        words = command.replace("DOWNLOADS", str(downloads)).split()
        assert words[:3] == ["python", "-m", "any2pix.loading.convert"] and main(words[3:]) == 0
    models = tmp_path / "ComfyUI" / "models" / "any2pix"
    for kind, name in {"imagebind": "imagebind_huge", "llm": "llm-retrained", "prior": "prior"}.items():
        LOADERS[kind](models / kind / f"{name}.safetensors")
    load_adapter(models / "adapter" / "ip_adapter_global_local_2_view.safetensors")


@pytest.mark.parametrize("given", ["models/any2pix/prior", "models/any2pix/prior/", "models/v1.5/"])
def test_a_target_that_is_not_there_is_a_folder_to_be_made(given, published_files, tmp_path):
    target = convert(published_files["prior"], f"{tmp_path}/{given}", quiet=True)
    assert target == tmp_path / given / "prior.safetensors"
    load_prior(target)


def test_a_folder_that_may_not_be_written_to(published_files, tmp_path, monkeypatch, caplog):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "mkdir", refuse)
    assert main([str(published_files["prior"]), str(tmp_path / "models" / "prior")]) == 1
    assert f"(in {tmp_path / 'models' / 'prior'}) could not be written (Read-only file system)" in caplog.text


def test_a_link_to_nowhere_is_not_written_through(published_files, tmp_path):
    (tmp_path / "prior.safetensors").symlink_to("another-disk.safetensors")
    with pytest.raises(CheckpointError, match="is there already"):
        convert(published_files["prior"], tmp_path, quiet=True)


def test_the_command(published_files, tmp_path, caplog, monkeypatch):
    caplog.set_level("INFO")
    assert main([str(published_files["imagebind"]), str(tmp_path), "--dtype", "fp16"]) == 0
    assert "It belongs in models/any2pix/imagebind" in caplog.text
    assert (tmp_path / "imagebind_huge.safetensors").exists()
    assert main([str(published_files["imagebind"]), str(tmp_path)]) == 1
    assert "is there already" in caplog.text

    def cancel(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(stream, "_write", cancel)
    assert main([str(published_files["prior"]), str(tmp_path)]) == 130
    assert "resumes there" in caplog.text
