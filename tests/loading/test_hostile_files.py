"""Files that were made to harm: each is one clear error, before memory or time is spent on what it promises."""

import io
import json
import os
import pickle
import shutil
import time
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from any2pix.loading.adapter import load_adapter
from any2pix.loading.autoencoder import load_autoencoder
from any2pix.loading.diffusion import load_unet
from any2pix.loading.errors import CheckpointError
from any2pix.loading.files import read_tensors, write_network_file
from any2pix.loading.headers import HEADER_LIMIT, MOST_TENSORS
from any2pix.loading.imagebind import load_imagebind
from any2pix.loading.llm import load_llm
from any2pix.loading.pickles import PICKLE_LIMIT
from any2pix.loading.prior import load_prior
from any2pix.loading.shards import MOST_SHARDS
from any2pix.models.autoencoder import Autoencoder, AutoencoderDims
from safetensors.torch import save_file

SECONDS, MEMORY = 5, 400 * 2**20
SECRET = "root:x:0:0:the-secret-word"
pytestmark = pytest.mark.usefixtures("small_is_published")


def error_of(load, path) -> str:
    """The message, which came soon and without much memory."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
    before, began = kilobytes("VmRSS"), time.monotonic()
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert time.monotonic() - began < SECONDS
    assert (kilobytes("VmHWM") - before) * 1024 < MEMORY
    return str(caught.value)


def kilobytes(what: str) -> int:
    return next(
        int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what)
    )


def safetensors(path: Path, header: bytes, said: int | None = None, size: int = 0) -> Path:
    with open(path, "wb") as file:
        file.write((len(header) if said is None else said).to_bytes(8, "little") + header)
        file.truncate(max(file.tell(), size))  # takes no room on the disk
    return path


@pytest.mark.parametrize(
    ("header", "said", "size", "words"),
    [
        (b"{}", 2**40, 100, "its header should have 1099511627776 bytes"),
        (b"{}", HEADER_LIMIT + 1, HEADER_LIMIT + 100, "no weight file needs more"),
        (b"[" * 10**6, None, 0, "its header is not JSON"),
        (b"[]", None, 0, "not a table of tensors"),
        (b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4]}}', None, 1000, "damaged"),
        (b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}', None, 1000, "damaged"),
        (b'{"a":{"dtype":"F32","shape":[4294967296,4294967296,0],"data_offsets":[0,0]}}', None, 100, ""),
    ],
)
def test_safetensors_headers(header, said, size, words, tmp_path):
    assert words in error_of(load_prior, safetensors(tmp_path / "x.safetensors", header, said, size))


def test_a_header_of_very_many_tensors(tmp_path):
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({f"a{index}": entry for index in range(MOST_TENSORS + 1)}).encode()
    assert f"names {MOST_TENSORS + 1} tensors" in error_of(
        read_tensors, safetensors(tmp_path / "x.safetensors", header)
    )


class Calls:
    """A pickle that calls what torch's own reader allows."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def tuples_of_tuples():
    """A value whose hash visits 2 ** 60 tuples."""
    value = ("a",)
    for _ in range(60):
        value = (value, value)
    return value


def tables_of_tables():
    value = {"a": torch.ones(1)}
    for _ in range(60):
        value = {"a": value, "b": value}
    return value


def wide_tables():
    value = {}
    for _ in range(12):
        value = dict.fromkeys(map(str, range(50)), value)
    return {"a": torch.ones(1), "b": value}


def table_in_itself():
    value = {"a": torch.ones(1)}
    value["b"] = value
    return value


HOSTILE = {
    "bytearray": (lambda: {"a": Calls(bytearray, 2**36)}, "Python code"),
    "storage": (lambda: {"a": Calls(torch.UntypedStorage, 2**40)}, "Python code"),
    "tensor": (lambda: {"a": Calls(torch.FloatTensor, 2**40)}, "Python code"),
    "set": (lambda: {"a": Calls(set, [((),)])}, "Python code"),
    "expanded": (lambda: {"a": torch.zeros(1).expand(2**40)}, "tensor of 1099511627776 numbers"),
    "expanded little": (lambda: {"a": torch.zeros(1).expand(200)}, "more numbers than it contains"),
    "often": (
        lambda: {str(n): value for value in [torch.zeros(10**5)] for n in range(100)},
        "far larger than the file",
    ),
    "meta": (lambda: {"a": torch.zeros(2**40, device="meta")}, "Python code"),
    "sparse": (lambda: {"a": torch.zeros(9).to_sparse()}, "Python code"),
    "tuples": (lambda: {"a": tuples_of_tuples()}, "nested tuples"),
    "tables": (tables_of_tables, "without end"),
    "wide": (wide_tables, "without end"),
    "itself": (table_in_itself, "without end"),
    "pairs": (lambda: {"a": Calls(OrderedDict, [[tuples_of_tuples(), 1]])}, "nested tuples"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files(name, zipped, tmp_path):
    make, words = HOSTILE[name]
    torch.save(make(), tmp_path / "x.bin", _use_new_zipfile_serialization=zipped)
    assert words in error_of(load_prior, tmp_path / "x.bin")


def rezipped(path: Path, change, compression=zipfile.ZIP_STORED) -> Path:
    torch.save({"a": torch.ones(1000)}, path)
    made = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(made, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change(old.read(name)) if name.endswith("data.pkl") else old.read(name))
    path.write_bytes(made.getvalue())
    return path


def test_a_packed_torch_file_does_not_unfold(tmp_path):
    bomb = rezipped(tmp_path / "x.bin", lambda old: old[:-1] + b"0" * 10**9 + b".", zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 2 * 10**6
    assert "has a packed part" in error_of(load_prior, bomb)


def test_a_zip_of_several_disks(tmp_path):
    torch.save({"a": torch.ones(9)}, tmp_path / "x.bin")
    content = bytearray((tmp_path / "x.bin").read_bytes())
    at = content.rindex(b"PK\x06\x07")  # the locator of a zip64's directory
    content[at + 16 : at + 20] = (7).to_bytes(4, "little")
    (tmp_path / "x.bin").write_bytes(content)
    assert "is damaged or was cut short" in error_of(load_prior, tmp_path / "x.bin")


def test_a_table_of_tensors_without_end(tmp_path):
    assert "a table of tensors of" in error_of(
        load_prior, rezipped(tmp_path / "x.bin", lambda old: old + bytes(PICKLE_LIMIT))
    )


def test_an_old_torch_file_that_promises_terabytes(tmp_path):
    torch.save({"a": torch.ones(1000)}, tmp_path / "x.bin", _use_new_zipfile_serialization=False)
    content = (tmp_path / "x.bin").read_bytes()
    thousand = b"M" + (1000).to_bytes(2, "little")  # BININT2
    assert content.count(thousand) == 2  # of the storage and of the shape
    (tmp_path / "x.bin").write_bytes(content.replace(thousand, b"J" + (2**31 - 1).to_bytes(4, "little")))
    assert "names 2147483647 numbers" in error_of(load_prior, tmp_path / "x.bin")


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("llm", {"num_hidden_layers": 10**9}, "num_hidden_layers 1000000000"),
        ("llm", {"num_hidden_layers": 10**4000}, "of more than 20 digits"),
        ("llm", {"hidden_size": 2**40}, "hidden_size 1099511627776"),
        ("llm", {"max_position_embeddings": 2**40}, "max_position_embeddings 1099511627776"),
        ("llm", {"rms_norm_eps": float("inf")}, "is not a size"),
        ("llm", {"rope_parameters": "x", "num_attention_heads": 2**30}, "num_attention_heads 1073741824"),
        ("unet", {"layers_per_block": 10**9}, "layers_per_block 1000000000"),
        ("unet", {"layers_per_block": 80, "transformer_layers_per_block": [80, 80]}, "more than"),
        ("unet", {"block_out_channels": [64] * 10**6}, "of 1000000 entries"),
        ("unet", {"block_out_channels": [2**60, 2**60]}, "block_out_channels 1152921504606846976"),
    ],
)
def test_sizes_of_a_config(kind, changes, words, published_files, tmp_path):
    folder = tmp_path / kind
    shutil.copytree(published_files[kind], folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    assert words in error_of({"llm": load_llm, "unet": load_unet}[kind], folder)


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("imagebind", {"vision_blocks": 10**9}, "vision_blocks 1000000000"),
        ("prior", {"layers": 10**9}, "layers 1000000000"),
        ("prior", {"clip": {"num_hidden_layers": 10**9}}, "clip.num_hidden_layers 1000000000"),
        ("prior", {"width": "64"}, "width is a str"),
        ("adapter", {"hidden": 2**50}, "hidden 1125899906842624"),
    ],
)
def test_sizes_in_a_files_metadata(kind, changes, words, networks, tmp_path):
    network, path = networks[kind], tmp_path / "x.safetensors"
    dims = json.loads(json.dumps(network.dims.to_dict()))
    write_network_file(path, kind, network.state_dict(), {**dims, **changes})
    assert words in error_of({"imagebind": load_imagebind, "prior": load_prior, "adapter": load_adapter}[kind], path)


def test_a_vae_of_terabytes_reserves_nothing(tmp_path):
    state = Autoencoder(AutoencoderDims(widths=(32, 32), blocks=1)).state_dict()
    write_network_file(tmp_path / "x.safetensors", "vae", state, {"widths": [2**20, 2**20], "blocks": 1})
    assert "of another shape" in error_of(load_autoencoder, tmp_path / "x.safetensors")


def test_block_numbers_without_end(networks, tmp_path):
    state = {
        key.replace("model.h.1.", "model.h.9999999."): value for key, value in networks["prior"].state_dict().items()
    }
    torch.save(state, tmp_path / "x.bin")
    assert "layers 10000000" in error_of(load_prior, tmp_path / "x.bin")


@pytest.fixture
def llm_folder(published_files, tmp_path):
    shutil.copytree(published_files["llm"], tmp_path / "llm")
    return tmp_path / "llm"


def test_an_index_of_thousands_of_shards(llm_folder):
    (index,) = llm_folder.glob("*.index.json")
    index.write_text(json.dumps({"weight_map": {f"a{n}": f"{n}.bin" for n in range(MOST_SHARDS + 1)}}))
    assert f"names {MOST_SHARDS + 1} shards" in error_of(load_llm, llm_folder)


@pytest.mark.parametrize(
    "shard", ["../x.bin", "/etc/passwd", "..\\x.bin", "C:\\x.bin", "C:x.bin", "sub/x.bin", "..", ""]
)
def test_an_index_that_leads_out_of_its_folder(shard, llm_folder):
    (index,) = llm_folder.glob("*.index.json")
    index.write_text(json.dumps({"weight_map": {"a": shard}}))
    assert "outside its folder" in error_of(load_llm, llm_folder)


@pytest.mark.parametrize(
    "name", ["config.json", "pytorch_model.bin.index.json", "tokenizer/tokenizer.json", "tokenizer/tokenizer.model"]
)
def test_small_files_that_are_large(name, llm_folder):
    if name.endswith(".model"):
        (llm_folder / "tokenizer" / "tokenizer.json").unlink()
    with open(llm_folder / name, "wb") as file:
        file.truncate(2 * 2**30)
    message = error_of(load_llm, llm_folder)
    assert f"{Path(name).name} (in " in message and "has 2147483648 bytes; at most" in message


@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("gone"),
        lambda path: path.symlink_to(path.name),
        Path.mkdir,
    ],
)
@pytest.mark.parametrize(
    "name", ["config.json", "pytorch_model.bin.index.json", "pytorch_model-00001-of-00002.bin", "x.safetensors"]
)
def test_what_is_no_file(make, name, llm_folder):
    path = llm_folder / name
    path.unlink(missing_ok=True)
    make(path)
    message = error_of(load_llm, path if name == "x.safetensors" else llm_folder)
    assert name in message and any(
        said in message
        for said in (
            "named pipe",
            "a device",
            "a link to",
            "leads back",
            "a folder",
            "neither",
            "has no sizes",
            "is not there",
        )
    )


@pytest.mark.parametrize("name", ["x.safetensors", "x.bin", "x.pth"])
@pytest.mark.parametrize(
    "content", [SECRET, json.dumps({"password": SECRET}), pickle.dumps(SECRET, 2).decode("latin1")]
)
def test_a_link_to_another_file_does_not_give_its_content_away(name, content, tmp_path):
    (tmp_path / "secret").write_text(content, "latin1")
    (tmp_path / name).symlink_to("secret")
    message = error_of(load_prior, tmp_path / name)
    assert name in message and "the-secret-word" not in message


@pytest.mark.parametrize(
    "name", ["config.json", "pytorch_model.bin.index.json", "tokenizer/tokenizer.json", "tokenizer/tokenizer.model"]
)
@pytest.mark.parametrize(
    "content", [SECRET, json.dumps({"password": SECRET}), json.dumps([SECRET]), json.dumps(SECRET)]
)
def test_nor_does_a_link_in_a_models_folder(name, content, llm_folder):
    if name.endswith(".model"):
        (llm_folder / "tokenizer" / "tokenizer.json").unlink()
    (llm_folder / "secret").write_text(content)
    (llm_folder / name).unlink(missing_ok=True)
    (llm_folder / name).symlink_to(llm_folder / "secret")
    message = error_of(load_llm, llm_folder)
    assert "the-secret-word" not in message


def test_a_key_of_a_megabyte_does_not_fill_the_page(tmp_path):
    save_file({"key\n" * 300_000: torch.ones(1)}, tmp_path / "x.safetensors")
    message = error_of(load_prior, tmp_path / "x.safetensors")
    assert len(message) < 5000 and "\n" not in message and message.endswith("choose the miniature.")
