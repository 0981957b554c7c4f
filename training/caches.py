"""Files that a training computes once: whole or absent, and computed by one process while the others wait."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from ..loading.atomic import atomic_path
from .digests import file_digest

logger = logging.getLogger(__name__)


@contextmanager
def missing(path: Path) -> Iterator[bool]:
    """Yields whether the block has to make `path`. Only one process at a time, of this training or of another one, is
    inside the block for a path; a process that waited finds the file made."""
    if path.exists():
        yield False
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{path.name}.lock")):
        yield not path.exists()


def cached(work: Path, name: str, key: str, weights: Path, compute: Callable[[], Any]) -> Any:
    """The tensors that `compute` returns for pictures and a network, cached in `work`.

    `key` identifies the pictures (`SceneBank.key`); the content of the network's file `weights` is part of the name.
    """
    path = Path(work) / f"{name}-{key}-{file_digest(weights)}.pt"
    with missing(path) as is_missing:
        if is_missing:
            computed = compute()
            with atomic_path(path) as unfinished:
                torch.save(computed, unfinished)
    return torch.load(path, weights_only=True)
