"""The authors' repositories on the import path, with stand-ins for imports that take no part in the computation."""

import importlib
import importlib.machinery
import subprocess
import sys
import types
import wave
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import torch
from torch import Tensor


class _Finder(importlib.machinery.PathFinder):
    """Answers ``import X`` for chosen top-level names, and everything below them, with mocks."""

    names: set[str] = set()

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname.split(".")[0] in cls.names:
            return importlib.machinery.ModuleSpec(fullname, cls, is_package=True)
        return None

    @staticmethod
    def create_module(spec):
        module = MagicMock(name=spec.name)
        module.__spec__, module.__path__, module.__name__ = spec, [], spec.name
        return module

    @staticmethod
    def exec_module(module):
        pass


def stand_in(*names: str) -> None:
    """From here on these top-level modules import as mocks; use it only for what the computation never calls."""
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
    _Finder.names.update(names)


def on_path(*folders: Path) -> None:
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is not a folder: check out the authors' repository there.")
        sys.path.insert(0, str(folder.resolve()))


def package(name: str, folder: Path) -> None:
    """Make ``name`` a package rooted in ``folder`` without running its __init__.py, which would import everything."""
    module = types.ModuleType(name)
    module.__path__ = [str(folder)]
    sys.modules[name] = module


def commit(folder: Path) -> str:
    """The checked-out commit of a repository; "unknown" for an unpacked archive."""
    found = subprocess.run(["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True)
    return found.stdout.strip() if found.returncode == 0 and (folder / ".git").exists() else "unknown"


def read_wav(path: str) -> tuple[Tensor, int]:
    """torchaudio.load for 16-bit WAV files (recent torchaudio needs a decoder package). -> (C, T) float32, rate."""
    with wave.open(str(path)) as file:
        frames = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").reshape(-1, file.getnchannels())
        return torch.from_numpy(frames.T.astype(np.float32) / 32768), file.getframerate()


def write_wav(path: Path, samples: Tensor, rate: int) -> None:
    """(C, T) int16 -> a WAV file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(samples))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.T.contiguous().numpy().astype("<i2").tobytes())
