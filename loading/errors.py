"""The one error of this room."""

from pathlib import Path


class CheckpointError(ValueError):
    """A weight file that cannot be used; the message names the file, its folder and the remedy."""


def file_error(path: str | Path, what: str, remedy: str) -> CheckpointError:
    """``path`` and ``what`` is wrong with it, and what to do about it."""
    path = Path(path)
    return CheckpointError(f"{path.name} (in {path.parent}) {what} {remedy}")
