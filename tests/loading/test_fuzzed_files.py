"""Damaged model files, made from whole ones by seeded changes: each is read, or is one CheckpointError, at once and in
little memory. ``FUZZ_COUNT=5000 FUZZ_FIRST=0 pytest tests/loading/test_fuzzed_files.py`` tries more of them.
"""

import io
import json
import os
import random
import resource
import shutil
import signal
import traceback
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from any2pix.loading.adapter import load_adapter
from any2pix.loading.autoencoder import load_autoencoder
from any2pix.loading.convert import check_plan, convert, plan_source
from any2pix.loading.diffusion import load_unet
from any2pix.loading.errors import CheckpointError
from any2pix.loading.files import write_network_file
from any2pix.loading.imagebind import load_imagebind
from any2pix.loading.llm import load_llm
from any2pix.loading.pix2pix import load_pix2pix_unet, load_text_unet
from any2pix.loading.prior import load_prior
from any2pix.loading.text_encoder import load_clip_tokenizer, load_text_encoder
from any2pix.models.autoencoder import Autoencoder, AutoencoderDims

FIRST, COUNT = int(os.environ.get("FUZZ_FIRST", "0")), int(os.environ.get("FUZZ_COUNT", "150"))
SLOWEST = 30  # seconds for one file
GROWTH = 300 * 2**20  # bytes over all of them; what they hold is some megabytes
SHOWN = 10  # failures
EVIL = [
    None, True, False, 0, -1, 1, 2, 7, 2**20, 2**31, 2**40, 2**63, 2**64, 10**9, 10**30, -(2**63), 0.5, 1e300,
    float("inf"),
    float("nan"), "", "x", "../../etc/passwd", "/etc/passwd", "C:\\x", "\x00", "\ud800", "9" * 50, "a" * 10**5, [], {},
    [[]],
    [1], [2**40], [-1, 3], {"a": {}}, [10**9] * 3, ["x"] * 2000, "F8_E8M0", "F4", "BOOL", "I8", "F64",
]  # fmt: skip
pytestmark = pytest.mark.usefixtures("small_is_published")


@pytest.fixture(scope="module")
def whole(published_files, publish, write_text_encoder, networks, tokenizer, root, tmp_path_factory):
    """Name -> (file or folder, how it is loaded): every form of every kind."""
    folder = tmp_path_factory.mktemp("whole")
    readers = {
        "imagebind": load_imagebind, "llm": load_llm, "prior": load_prior, "adapter": load_adapter,
        "two_view": load_adapter,
        "unet": load_unet,
    }  # fmt: skip
    found = {name: (path, readers[name]) for name, path in published_files.items()}
    with pytest.MonkeyPatch.context() as patch:
        _small_imagebind(patch)
        for name, path in published_files.items():
            found[f"our {name}"] = (convert(path, folder / f"{name}.safetensors", quiet=True), readers[name])
    old = folder / "old.bin"
    torch.save(networks["prior"].state_dict(), old, _use_new_zipfile_serialization=False)
    shards = publish(folder / "shards", networks["llm"], tokenizer, shards=3, kind="safetensors")
    pieces = publish(folder / "pieces", networks["llm"], tokenizer, shards=1)
    (pieces / "tokenizer" / "tokenizer.json").unlink()
    shutil.copy(root / "tests" / "golden" / "tokenizer" / "tokenizer.model", pieces / "tokenizer")
    vae = folder / "vae.safetensors"
    dims = AutoencoderDims(widths=(32, 32), blocks=1)
    write_network_file(vae, "vae", Autoencoder(dims).state_dict(), {"widths": [32, 32], "blocks": 1})
    encoder = folder / "encoder.safetensors"
    write_text_encoder(encoder, width=32, length=16)
    shutil.copytree(published_files["unet"], folder / "pipeline" / "unet")
    (folder / "pipeline" / "scheduler").mkdir()
    (folder / "pipeline" / "scheduler" / "scheduler_config.json").write_text('{"prediction_type": "epsilon"}')
    eight = folder / "8_bits.safetensors"
    write_network_file(eight, "prior", networks["prior"].state_dict(), networks["prior"].dims.to_dict(), in_8_bits=True)
    return found | {
        "old torch file": (old, load_prior), "shards": (shards, load_llm), "sentencepiece": (pieces, load_llm),
        "vae": (vae, load_autoencoder), "text encoder": (encoder, load_text_encoder), "8 bits": (eight, load_prior),
        "pipeline": (folder / "pipeline" / "unet", load_text_unet), "pix2pix": (folder / "pipeline" / "unet",
        load_pix2pix_unet),
        "clip tokenizer": (published_files["llm"] / "tokenizer", load_clip_tokenizer),
        "conversion": (shards, lambda path: check_plan(plan_source(path))),
    }  # fmt: skip


def _small_imagebind(patch) -> None:
    from any2pix.models.imagebind import ImageBindDims

    small = replace(
        ImageBindDims.published(), embed=8, vision_width=32, vision_blocks=2, audio_width=24, audio_blocks=1,
        text_width=16,
        text_blocks=1, text_vocab=60, image_size=28,
    )  # fmt: skip
    patch.setattr(ImageBindDims, "published", classmethod(lambda cls: small))


# --- changes
# -------------------------------------------------------------------------------------------------------------------


def some_bytes(content: bytes, dice: random.Random) -> bytes:
    """Bits turned, pieces lost, doubled, moved or made of noise; most of it near the beginning, where the tables
    are."""
    for _ in range(dice.choice((1, 1, 1, 3, 20))):
        reach = len(content) if dice.random() < 0.4 else min(len(content), 2000)
        at, span = dice.randrange(max(1, reach)), dice.choice((1, 1, 2, 8, 100))
        piece = content[at : at + span]
        made = dice.choice((
            bytes(byte ^ 1 << dice.randrange(8) for byte in piece), dice.randbytes(span), b"", piece * 2,
            b"\xff" * span, bytes(span),
        ))  # fmt: skip
        content = content[:at] + made + content[at + span :]
    return content[: dice.randrange(len(content) + 1)] if dice.random() < 0.1 else content


def some_json(value, dice: random.Random):
    """A value somewhere in it is another, is gone, or is of another name."""
    if not isinstance(value, (dict, list)) or not value or dice.random() < 0.15:
        return dice.choice(EVIL)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key, changed = dice.choice(keys), value.copy()
    what = dice.random()
    if what < 0.15:
        del changed[key]
    elif what < 0.25 and isinstance(value, dict):
        changed[str(dice.choice(EVIL))[:1000]] = changed.pop(key)
    else:
        changed[key] = some_json(value[key], dice)
    return changed


def json_text(content: bytes, dice: random.Random) -> bytes:
    if dice.random() < 0.05:
        return dice.choice((b"[" * 10**5, b'{"a":' * 10**5, b"", b"null", b"\xff\xfe", b"1" * 10**5))
    try:
        changed = json.loads(content)
        for _ in range(dice.choice((1, 1, 2, 5))):
            changed = some_json(changed, dice)
        return json.dumps(changed).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return some_bytes(content, dice)


def safetensors_header(content: bytes, dice: random.Random) -> bytes:
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    if dice.random() < 0.5 and "any2pix.dims" in (said := header.get("__metadata__", {})):
        name = dice.choice(["any2pix.dims"] * 4 + list(said))
        said[name] = json_text(said[name].encode(), dice).decode("utf-8", "replace")
    else:
        header = some_json(header, dice)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    said = len(text) if dice.random() < 0.9 else dice.choice((0, 1, 2**40, 2**63, len(text) - 1, len(text) + 9))
    return said.to_bytes(8, "little") + text + content[8 + length :]


def zipped_pickle(content: bytes, dice: random.Random) -> bytes:
    """The table of tensors is changed, its check sums are right."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w") as new:
        for record in old.infolist():
            part = old.read(record)
            if record.filename.endswith("data.pkl"):
                part = some_bytes(part, dice)
            elif dice.random() < 0.02:
                continue
            new.writestr(record.filename, part)
    return made.getvalue()


def changed(path: Path, content: bytes, dice: random.Random) -> bytes:
    own: Callable | None = None
    if path.suffix == ".json":
        own = json_text
    elif path.suffix == ".safetensors":
        own = safetensors_header
    elif zipfile.is_zipfile(path):
        own = zipped_pickle
    return own(content, dice) if own and dice.random() < 0.7 else some_bytes(content, dice)


def damage(source: Path, place: Path, dice: random.Random) -> Path:
    """A copy of a file or folder with one file in it changed."""
    shutil.copytree(source.parent if source.name == "unet" else source, place) if source.is_dir() else shutil.copy(
        source, place
    )
    files = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]
    victim = dice.choice(files)
    victim.write_bytes(changed(victim, victim.read_bytes(), dice))
    return place / "unet" if source.name == "unet" else place


# --- the trial
# -----------------------------------------------------------------------------------------------------------------


def memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def too_long(*_) -> None:
    raise TimeoutError(f"more than {SLOWEST} s")


def try_one(seed: int, whole: dict, place: Path) -> None:
    dice = random.Random(seed)
    source, load = whole[dice.choice(sorted(whole))]
    given = damage(source, place / source.name if source.name != "unet" else place / "pipeline", dice)
    signal.alarm(SLOWEST)
    try:
        load(given)
    except (CheckpointError, FileNotFoundError) as error:
        assert len(str(error)) < 5000 and str(error).isprintable()
    finally:
        signal.alarm(0)


def test_a_damaged_file_is_read_or_named(whole, tmp_path):
    previous = signal.signal(signal.SIGALRM, too_long)
    before, grown, failed = None, 0, {}
    try:
        for seed in range(FIRST, FIRST + COUNT):
            place = tmp_path / str(seed)
            place.mkdir()
            try:
                try_one(seed, whole, place)
            except Exception as error:  # noqa: BLE001
                failed[seed] = "".join(traceback.format_exception(error)[-3:])
            shutil.rmtree(place)
            if seed == FIRST + 30:  # libraries are imported and buffers are there
                before = memory()
        grown = memory() - (before or memory())
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert not failed, "".join(f"\nseed {seed}: {error}" for seed, error in list(failed.items())[:SHOWN])
    assert grown < GROWTH, f"{grown} bytes"
