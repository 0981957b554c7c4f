"""What is written is whole or is not there: full disks, folders that may not be written to, processes that are
killed."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time

import pytest
import torch
from any2pix.loading import atomic
from any2pix.loading.atomic import atomic_path, write_atomic
from any2pix.loading.convert import convert
from any2pix.loading.errors import CheckpointError
from any2pix.loading.files import write_network_file

WRITER = """
import sys
from pathlib import Path
from any2pix.loading.atomic import atomic_path
with atomic_path(Path(sys.argv[1])) as place, open(place, "wb") as file:
    while True:
        file.write(bytes(2**16))
        file.flush()
"""


def test_the_whole_content_or_the_old_one(tmp_path):
    target = tmp_path / "new" / "a.json"
    write_atomic(target, "one")
    assert target.read_text() == "one"
    with pytest.raises(RuntimeError), atomic_path(target) as place:
        place.write_text("half")
        raise RuntimeError
    assert target.read_text() == "one" and os.listdir(target.parent) == ["a.json"]


def test_a_killed_writer_leaves_nothing_under_the_name(tmp_path):
    target = tmp_path / "a.safetensors"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(target)])
    deadline = time.monotonic() + 60
    while not any(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (left,) = tmp_path.iterdir()
    assert left != target and left.suffix == atomic.UNFINISHED


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full. Free disk space"),
        (errno.EDQUOT, "the disk is full. Free disk space"),
        (errno.EROFS, "could not be written (Read-only file system). Write elsewhere"),
        (errno.EACCES, "could not be written (Permission denied). Write elsewhere"),
    ],
)
@pytest.mark.parametrize("where", ["mkdir", "fsync", "replace"])
def test_what_the_system_refuses_is_named(number, words, where, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, where, refuse)
    with pytest.raises(CheckpointError) as caught:
        write_atomic(tmp_path / "new" / "a.json", "x")
    assert words in str(caught.value) and f"a.json (in {tmp_path / 'new'})" in str(caught.value)
    monkeypatch.undo()
    assert not (tmp_path / "new" / "a.json").exists()


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "models").write_text("")
    with pytest.raises(CheckpointError, match="a part of its folder's path is a file"):
        write_atomic(tmp_path / "models" / "prior" / "a.json", "x")


@pytest.fixture
def small_files():
    """No file may grow beyond a megabyte, as if the disk were full then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, previous)


def test_a_disk_that_fills_up_under_a_network_file(small_files, tmp_path):
    path = tmp_path / "prior.safetensors"
    with pytest.raises(CheckpointError, match="prior.safetensors .* the disk is full. Free disk space"):
        write_network_file(path, "prior", {"a": torch.zeros(2**20)}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_under_the_converter(published_files, tmp_path, monkeypatch):
    source = published_files["prior"]
    size = convert(source, tmp_path / "whole.safetensors", quiet=True).stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard))
    try:
        with pytest.raises(CheckpointError, match="new.safetensors.part .* the disk is full. Free disk space"):
            convert(source, tmp_path / "new.safetensors", quiet=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert not (tmp_path / "new.safetensors").exists()
    convert(source, tmp_path / "new.safetensors", quiet=True)  # goes on
    assert (tmp_path / "new.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
