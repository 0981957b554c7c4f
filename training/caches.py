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
    """Whether the block has to make `path`. Only one process at a time, of this training or of another one, is inside
    the block of one path; whoever waited for it finds the file made."""
    if path.exists():
        yield False
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{path.name}.lock")):
        yield not path.exists()


def cached(work: Path, name: str, key: str, weights: Path, compute: Callable[[], Any]) -> Any:
    """What `compute` makes of pictures with a network (tensors), kept in `work`.

    `key` stands for the pictures (`SceneBank.key`); the content of the network's file `weights` is part of the name.
    """
    path = Path(work) / f"{name}-{key}-{file_digest(weights)}.pt"
    with missing(path) as is_missing:
        if is_missing:
            computed = compute()
            with atomic_path(path) as unfinished:
                torch.save(computed, unfinished)
    return torch.load(path, weights_only=True)
