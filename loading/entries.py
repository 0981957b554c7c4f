"""What a path is, checked without opening it: a name in a model folder may be a link to nowhere, a pipe, or another
folder."""

import errno
import os
import stat
from pathlib import Path

from .errors import file_error

SPECIAL = {
    stat.S_IFIFO: "is a named pipe",
    stat.S_IFSOCK: "is a socket",
    stat.S_IFCHR: "is a device",
    stat.S_IFBLK: "is a device",
}
NO_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(
    os, "O_BINARY", 0
)  # a pipe that took the file's place must not hang


def trouble_at(path: str | Path) -> str | None:
    """What keeps ``path`` from being a file or a folder, as the end of a sentence; None: it is one of them."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return f"is a link to {os.readlink(path)!r}, which does not exist" if os.path.islink(path) else "is not there"
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "is a link that leads back to itself"
        if error.errno in (errno.EACCES, errno.EPERM):
            return "cannot be read: check its permissions and those of its folder"
        if error.errno in (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EINVAL):
            return "is not there"
        return f"cannot be reached ({error.strerror})"
    except ValueError:  # a zero byte in it, or letters that the file system cannot write
        return "is not there"
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return None
    return SPECIAL.get(stat.S_IFMT(mode), "is neither a file nor a folder")


def is_file(path: str | Path) -> bool:
    """As Path.is_file, where nobody may look too: False."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def require_file(path: str | Path, remedy: str) -> int:
    """The size of a regular file in bytes; CheckpointError says what else ``path`` is."""
    trouble = trouble_at(path)
    if trouble is None and os.path.isdir(path):
        trouble = "is a folder, not a weight file"
    if trouble is not None:
        raise file_error(path, f"{trouble}.", remedy)
    try:
        return os.stat(path).st_size
    except OSError as error:  # it vanished meanwhile
        raise unreadable(path, error, remedy) from error


def read_bounded(path: str | Path, limit: int, remedy: str) -> bytes:
    """The content of a regular file of at most ``limit`` bytes; CheckpointError names what else it is, before it is
    read."""
    size = require_file(path, remedy)
    if size > limit:
        raise file_error(path, f"has {size} bytes; at most {limit} are allowed for a file of this name.", remedy)
    try:
        with open(os.open(path, os.O_RDONLY | NO_WAITING), "rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise unreadable(path, error, remedy) from error
    if len(content) > limit:
        raise file_error(path, f"has more than {limit} bytes.", remedy)
    return content


def read_text(path: str | Path, limit: int, remedy: str) -> str:
    """As ``read_bounded``; bytes that are no UTF-8 come as the mark for it."""
    return read_bounded(path, limit, remedy).decode("utf-8", errors="replace")


def unreadable(path: str | Path, error: OSError, remedy: str):
    """The CheckpointError for a file that the system does not give."""
    hint = (
        "Check its permissions."
        if isinstance(error, PermissionError)
        else "Check that its disk or network folder is connected."
    )
    return file_error(path, f"cannot be read ({error.strerror or type(error).__name__}).", f"{hint} {remedy}")
