"""The one error of this room."""

from pathlib import Path

LONGEST = 2000  # characters of a message; a damaged file can name a key of a megabyte


class CheckpointError(ValueError):
    """A weight file that cannot be used; the message names the file, its folder and the remedy."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def file_error(path: str | Path, what: str, remedy: str) -> CheckpointError:
    """``path`` and ``what`` is wrong with it, and what to do about it."""
    path = Path(path)
    return CheckpointError(f"{path.name} (in {path.parent}) {what} {remedy}")


def printable(text: str) -> str:
    """``text`` as any log and page can show it: what has no glyph is spelt out (a line break: backslash n), and the
    middle of more than LONGEST characters is left out."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
