"""Saving, killed at every moment there is: a name stands for a whole file, or for none."""

import errno
import os
import subprocess
import sys

import pytest
import torch
from any2pix.loading import saved
from any2pix.loading.saved import read_saved, write_saved

TENSORS = {"any2pix_inversion.samples": torch.arange(16.0).view(1, 4, 2, 2)}
KILLED = """
import os, signal, sys
import torch
from any2pix.loading.saved import write_saved

left = 0

def moment():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def between_moments(call):
    def called(*arguments, **more):
        moment()
        result = call(*arguments, **more)
        moment()
        return result
    return called

for name in ("link", "open", "close", "replace", "fsync", "unlink"):
    setattr(os, name, between_moments(getattr(os, name)))
tensors = {"any2pix_inversion.samples": torch.arange(16.0).view(1, 4, 2, 2)}
for last in range(1, 100):
    folder = os.path.join(sys.argv[1], str(last))
    child = os.fork()
    if child == 0:
        left = last
        write_saved(folder, "kept", "inversion", tensors, {})
        os._exit(7)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7:
        break
print(last)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks of itself")
def test_a_killed_save_leaves_a_whole_file_or_none(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    moments = int(subprocess.run(command, check=True, capture_output=True, timeout=120).stdout)
    assert moments > 4, "before and after making it safe, and before and after giving it its name"
    whole = [path for moment in range(1, moments + 1) for path in (tmp_path / str(moment)).glob("*.safetensors")]
    assert len(whole) >= 2, "killed after it had its name, and not killed at all"
    for path in whole:
        assert torch.equal(
            read_saved(path, "inversion")[0]["any2pix_inversion.samples"], TENSORS["any2pix_inversion.samples"]
        )
    for moment in range(1, moments + 1):  # the name is free, or has this content already
        assert write_saved(tmp_path / str(moment), "kept", "inversion", TENSORS, {}).path.name == "kept.safetensors"


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_disk_without_hard_links_takes_files_too(tmp_path, monkeypatch, number):
    def link(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(saved.os, "link", link)
    other = {name: value + 1 for name, value in TENSORS.items()}
    names = [write_saved(tmp_path, "kept", "inversion", tensors, {}).path.name for tensors in (TENSORS, other, TENSORS)]
    assert names == ["kept.safetensors", "kept_00002.safetensors", "kept.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.safetensors", "kept_00002.safetensors"]
