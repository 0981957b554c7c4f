"""A broken weight file ends as one error on its loader, and ComfyUI goes on working."""

import json
from pathlib import Path

import pytest
import torch
from any2pix.miniature import manifest
from harness.edit_graph import node
from safetensors import safe_open
from safetensors.torch import load_file, save_file

KIND = "prior"
TRACE = "code_was_run"
SECRET = "root:x:0:0:nobody-should-read-this"


class Payload:
    """A pickle with code in it: whoever runs it leaves a file."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def truncated(good: Path, folder: Path) -> Path:
    file = folder / "truncated.safetensors"
    file.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    return file


def pickled_code(good: Path, folder: Path) -> Path:
    file = folder / "code.bin"
    torch.save({"state_dict": Payload(folder / TRACE)}, file)
    return file


def rewritten(good: Path, file: Path, change) -> Path:
    with safe_open(good, framework="pt") as opened:
        metadata = opened.metadata()
    save_file({key: change(value) for key, value in load_file(good).items()}, file, metadata)
    return file


class Memory:
    """A pickle that asks, with what torch's own reader allows, for more memory than any machine has to spare."""

    def __reduce__(self):
        return bytearray, (2**37,)


def reserved_memory(good: Path, folder: Path) -> Path:
    file = folder / "memory.bin"
    torch.save({"state_dict": Memory()}, file)
    return file


def promised_layers(good: Path, folder: Path) -> Path:
    file = folder / "layers.safetensors"
    with safe_open(good, framework="pt") as opened:
        metadata = opened.metadata()
    dims = {**json.loads(metadata["any2pix.dims"]), "layers": 10**9}
    save_file(load_file(good), file, {**metadata, "any2pix.dims": json.dumps(dims)})
    return file


def a_link_to_a_secret(good: Path, folder: Path) -> Path:
    (folder.parent / "secret.txt").write_text(SECRET)
    file = folder / "linked.safetensors"
    file.symlink_to(folder.parent / "secret.txt")
    return file


def integers(good: Path, folder: Path) -> Path:
    return rewritten(good, folder / "integers.safetensors", lambda value: value.to(torch.int32))


def not_numbers(good: Path, folder: Path) -> Path:
    return rewritten(good, folder / "nan.safetensors", lambda value: value * float("nan"))


def a_vae(good: Path, folder: Path) -> Path:
    file = folder / "misplaced.safetensors"
    file.write_bytes((good.parent / manifest.VAE).read_bytes())
    return file


def graph(name: str) -> dict:
    return {"loaded": node("Any2PixLoadPrior", name=name), "shown": node("PreviewAny", source=["loaded", 0])}


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (truncated, "cut short"),
        (pickled_code, "Python code"),
        (reserved_memory, "Python code"),
        (promised_layers, "layers 1000000000"),
        (a_link_to_a_secret, "damaged"),
        (integers, "int32"),
        (not_numbers, "NaN"),
        (a_vae, "models/vae"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_one_error_and_the_next_run_works(broken, said, server, client):
    folder = server.base / "models" / "any2pix" / KIND
    folder.mkdir(parents=True, exist_ok=True)
    file = broken(manifest.FOLDER / manifest.OFFERED[KIND], folder)
    run = client.wait(client.queue(graph(file.name)))
    assert run.outcome == "execution_error" and run.error["node_id"] == "loaded"
    message = run.error["exception_message"]
    assert said in message and file.name in message and str(folder) in message
    assert not (folder / TRACE).exists() and SECRET not in json.dumps(run.error)
    client.run(graph("miniature"))
