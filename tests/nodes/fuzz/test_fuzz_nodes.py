"""Every node with inputs that nobody would choose: an answer of finite numbers, or a sentence that says what is wrong.

The suite runs a share, and the nodes and seeds of old finds in ``finds.txt``; ``make fuzz COUNT=10000 SEED=1`` runs
more.
"""

import gc
import os
import random
import signal
import traceback
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path

import any2pix.nodes as pack
import psutil
import pytest
import torch
from harness.fuzz_values import Values
from harness.unet_eps import seeded

COUNT, SEED = int(os.environ.get("FUZZ_COUNT", "60")), int(os.environ.get("FUZZ_SEED", "1"))
OLD_FINDS = [
    line.split()[:2] for line in Path(__file__).with_name("finds.txt").read_text().splitlines() if line[:1] != "#"
]
OURS = Path(pack.__file__).parents[1]
LONGEST = 30  # seconds of one run
SHORTEST_MESSAGE = 20  # letters; less says neither what nor what to do
WARM = 500  # runs after which the memory is looked at
GROWTH = 1.1  # of the memory after WARM runs, at the end


class Hang(Exception):
    """One run took longer than LONGEST."""


@pytest.fixture(scope="module")
def made(run, networks, tiny, two_view, texts):
    """Ready values by socket type."""
    from any2pix.nodes.grid import read_axes
    from any2pix.nodes.sockets import Embedding
    from any2pix.stages.types import Reference, Subject

    chain = tuple(
        Reference(seeded(64, seed=seed), kind, seeded(9, 12, 3, seed=seed).sigmoid() if kind == "image" else None)
        for seed, kind in enumerate(("image", "audio", "image", "text"))
    )
    pix2pix = run(pack.LoadInstructPix2Pix, name=tiny)
    clean = {"samples": seeded(1, 4, 6, 5, seed=7)}
    unset = [[torch.zeros(1, 1, 48), {"pooled_output": torch.zeros(1, 32)}]]
    widgets = {"model": networks["model"], "conditioning": unset, "latent": clean, "steps": 2, "scheduler": "normal"}
    inverted, noise, sigmas = run(pack.DDIMInvert, **widgets, iterations=1, tolerance=1e-3)[:3]
    return {
        "IMAGEBIND": [networks["imagebind"]],
        "MM_LLM": [networks["llm"]],
        "MM_PRIOR": [networks["prior"]],
        "MM_ADAPTER": [networks["adapter"], two_view],
        "MODEL": [networks["model"], pix2pix[0]],
        "VAE": [networks["vae"]],
        "CLIP": [pix2pix[1]],
        "MM_REFERENCES": [chain, chain[:1], chain[1:2]],
        "MM_EMBEDDING": [Embedding(seeded(64, seed=5)), Embedding(None), Embedding(seeded(64, seed=6), (0, 2), chain)],
        "MM_AXES": [read_axes("x", "1", "y", "2"), read_axes("x", "1, 2", "y", "2")],
        "CONDITIONING": [*texts, unset],
        "LATENT": [clean, inverted],
        "NOISE": [noise],
        "SIGMAS": [sigmas],
        "MASK": [seeded(1, 16, 16, seed=8).sigmoid()],
        "MM_SUBJECTS": [(), (Subject("cat", seeded(64, seed=9)),)],
    }


@contextmanager
def no_longer_than(seconds: int):
    def stop(*_):
        raise Hang(f"still running after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def tensors_in(value):
    """Every tensor of an output that is data."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from (tensor for item in value.values() for tensor in tensors_in(item))
    elif isinstance(value, (list, tuple)):
        yield from (tensor for item in value for tensor in tensors_in(item))
    elif (
        is_dataclass(value)
        and not isinstance(value, type)
        and type(value).__name__ in ("Embedding", "Reference", "Subject")
    ):
        yield from (tensor for entry in fields(value) for tensor in tensors_in(getattr(value, entry.name)))


def find(seed: int, made: dict, node_id: str | None = None) -> str | None:
    """One run, of the node with that id or of any: what is wrong with how it went, or None."""
    nodes = {node.GET_SCHEMA().node_id: node for node in pack.NODES if known(node, made)}
    node = nodes[node_id or random.Random(f"node {seed}").choice(list(nodes))]
    schema = node.GET_SCHEMA()
    inputs = Values(seed, made).inputs(schema)
    try:
        with torch.inference_mode(), no_longer_than(LONGEST):
            result = node.execute(**inputs).result
    except (ValueError, FileNotFoundError) as error:
        where = traceback.extract_tb(error.__traceback__)[-1].filename
        if type(error).__module__ == "builtins" and OURS not in Path(where).parents:
            return told(seed, schema, inputs, f"not ours, from {where}: {error!r:.300}")
        return told(seed, schema, inputs, f"too little: {error!r}") if len(str(error)) < SHORTEST_MESSAGE else None
    except Exception:
        return told(seed, schema, inputs, traceback.format_exc(limit=-3))
    broken = [
        tuple(tensor.shape)
        for tensor in tensors_in(result)
        if tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    return told(seed, schema, inputs, f"NaN or infinite numbers in outputs of shapes {broken}") if broken else None


def known(node, made: dict) -> bool:
    """Whether every input of a node can be drawn."""
    return all(
        str(entry.get_io_type()) in made or hasattr(Values, f"_{str(entry.get_io_type()).lower()}")
        for entry in node.GET_SCHEMA().inputs
    )


def told(seed: int, schema, inputs: dict, what: str) -> str:
    from any2pix.nodes.reading import described

    shown = ", ".join(f"{name}={described(value)}" for name, value in inputs.items())
    return f"{schema.node_id} {seed}: {shown}\n{what}"


def test_every_node_is_driven(made):
    assert [node.GET_SCHEMA().node_id for node in pack.NODES if not known(node, made)] == []


@pytest.mark.parametrize(("node_id", "seed"), OLD_FINDS)
def test_old_finds_stay_mended(made, node_id, seed):
    assert find(int(seed), made, node_id) is None


def test_nothing_but_answers_and_sentences(made):
    finds, process, warm = [], psutil.Process(), 0
    for number in range(COUNT):
        found = find(SEED * 1_000_000 + number, made)
        finds += [found] if found else []
        if number == WARM:
            gc.collect()
            warm = process.memory_info().rss
    gc.collect()
    grown = process.memory_info().rss
    if warm and grown > GROWTH * warm:
        finds.append(f"memory: {warm >> 20} MiB after {WARM} runs, {grown >> 20} MiB after {COUNT}")
    assert not finds, f"{len(finds)} finds in {COUNT} runs\n\n" + "\n\n".join(finds)
