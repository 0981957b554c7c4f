"""Saving and loading in tests: contents of each kind, folders of their own, and files as somebody else might have
written them."""

import json
from pathlib import Path

import pytest
import torch
from any2pix.loading.saved import META_SAVED
from any2pix.nodes import (
    ApplyEmbedding,
    AudioEmbedding,
    DDIMInvert,
    EmbeddingSampler,
    ImageEmbedding,
    LoadEmbedding,
    LoadInversion,
    LoadReferences,
    SaveEmbedding,
    SaveInversion,
    SaveReferences,
    TextEmbedding,
)
from any2pix.nodes.host.folders import folder_key
from any2pix.nodes.sockets import Embedding
from safetensors import safe_open
from safetensors.torch import load_file, save_file

STEPS = 4
KINDS = {"references": (SaveReferences, LoadReferences), "embedding": (SaveEmbedding, LoadEmbedding),
         "inversion": (SaveInversion, LoadInversion)}  # fmt: skip


@pytest.fixture(name="folders", autouse=True)
def folders_fixture(tiny, tmp_path, monkeypatch):
    """Each test has model folders of its own: kind -> folder."""
    import folder_paths

    for kind in KINDS:
        entry = ([str(tmp_path / kind)], {".safetensors", ".pt"})
        monkeypatch.setitem(folder_paths.folder_names_and_paths, folder_key(kind), entry)
    folder_paths.filename_list_cache.clear()
    yield {kind: tmp_path / kind for kind in KINDS}
    folder_paths.filename_list_cache.clear()


@pytest.fixture(name="references", scope="module")
def references_fixture(run, networks):
    """A picture of 8 bits, one that was scaled, a sound, a text."""
    generator = torch.Generator().manual_seed(3)
    levels = torch.randint(0, 256, (1, 40, 48, 3), generator=generator).float() / 255.0  # as LoadImage reads it
    between = torch.rand(1, 33, 32, 3, generator=generator)
    sound = {"waveform": torch.rand(1, 2, 8000, generator=generator) - 0.5, "sample_rate": 8000}
    chain = ()
    for picture in (levels, between):
        chain = run(ImageEmbedding, imagebind=networks["imagebind"], image=picture, references=chain)[0]
    chain = run(AudioEmbedding, imagebind=networks["imagebind"], audio=sound, references=chain)[0]
    return run(TextEmbedding, imagebind=networks["imagebind"], text="a cat", references=chain)[0]


@pytest.fixture(name="vector", scope="module")
def vector_fixture():
    return Embedding(
        20 * torch.nn.functional.normalize(torch.randn(64, generator=torch.Generator().manual_seed(1)), dim=0)
    )


@pytest.fixture(name="clean", scope="module")
def clean_fixture():
    return {"samples": torch.randn(1, 4, 6, 9, generator=torch.Generator().manual_seed(8)) / 0.13025}


@pytest.fixture(name="invert", scope="module")
def invert_fixture(run, networks, vector):
    """latent, inputs of DDIM Invert -> LATENT, NOISE, SIGMAS."""
    model, positive, _ = run(
        ApplyEmbedding, model=networks["model"], adapter=networks["adapter"], embedding=vector, scale=1.0,
        start_percent=0.0,
        end_percent=1.0
    )  # fmt: skip

    def inverted(latent, **more):
        widgets = {"steps": STEPS, "scheduler": "normal", "iterations": 5, "tolerance": 1e-4, **more}
        return run(DDIMInvert, **{"model": model, "conditioning": positive, "latent": latent, **widgets})

    return inverted


@pytest.fixture(name="paint", scope="module")
def paint_fixture(run, networks, vector):
    def painted(latent, steps=STEPS):
        widgets = {"seed": 5, "steps": steps, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal"}
        network = {"model": networks["model"], "adapter": networks["adapter"]}
        return run(EmbeddingSampler, **network, embedding=vector, latent=latent, **widgets)[0]["samples"]

    return painted


@pytest.fixture(name="contents", scope="module")
def contents_fixture(references, vector, invert, clean):
    """kind -> (name of the socket, two different contents)."""
    moved = {"samples": clean["samples"] + 1}
    return {
        "references": ("references", references, references[:2]),
        "embedding": ("embedding", vector, Embedding(vector.vector + 1)),
        "inversion": ("latent", invert(clean)[0], invert(moved)[0]),
    }


def keep(run, kind, content, name, overwrite=False, socket=None):
    sockets = {"references": "references", "embedding": "embedding", "inversion": "latent"}
    return run(KINDS[kind][0], name=name, overwrite=overwrite, **{socket or sockets[kind]: content})


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def record_of(path: Path) -> dict:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()[META_SAVED])


def rewrite(path: Path, change=lambda record: None, tensors=lambda tensors: None) -> None:
    """The file again with another record or other tensors, as somebody else might have written it."""
    record, content = record_of(path), load_file(path)
    change(record)
    tensors(content)
    save_file(content, path, {META_SAVED: json.dumps(record)})
