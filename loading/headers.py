"""What a weight file says of itself, held against its size before anything of that size is reserved."""

import json
import os
import zipfile
from pathlib import Path

from .entries import NO_WAITING, unreadable
from .errors import CheckpointError, file_error
from .pickles import PICKLE_LIMIT, check_pickle

HEADER_LIMIT = 64 * 2**20  # bytes of a safetensors file's JSON; that of a converted LLM, its tokenizer in it, has 4 MB
MOST_TENSORS = 50_000  # of one file; the published LLM has 700, its largest neighbours some thousand
LEGACY_PICKLES = 5  # a torch file of before 1.6: magic number, version, system, content, keys; the numbers follow


def check_safetensors(path: Path, size: int, remedy: str) -> None:
    """CheckpointError where the header is no header, or longer than the file or than any real one."""
    with _opened(path, remedy) as file:
        said = int.from_bytes(file.read(8), "little")
        if size < 8 or said > size - 8:
            raise file_error(
                path, f"is damaged or was cut short: its header should have {said} bytes, the file has {size}.", remedy
            )
        if said > HEADER_LIMIT:
            raise file_error(
                path, f"has a header of {said} bytes; no weight file needs more than {HEADER_LIMIT}.", remedy
            )
        try:
            entries = json.loads(file.read(said))
        except (OSError, ValueError, RecursionError) as error:
            raise file_error(path, "is damaged or was cut short: its header is not JSON.", remedy) from error
    if not isinstance(entries, dict):
        raise file_error(path, "is damaged: its header is not a table of tensors.", remedy)
    require_few(path, len(entries), remedy)


def check_torch(path: Path, size: int, remedy: str) -> bool:
    """Whether a torch file is a zip, whose tensors can be mapped; CheckpointError where its pickle asks for more than
    tensors, or for larger ones than the file can hold."""
    if _is_zip(path):
        _check_zip(path, size, remedy)
        return True
    with _opened(path, remedy) as file:
        if file.read(2) == b"PK":
            raise file_error(path, "is damaged or was cut short.", remedy)
        file.seek(0)
        for number in range(LEGACY_PICKLES):
            check_pickle(file, path, size, remedy, needed=number == 0)
    return False


def require_few(path: Path, tensors: int, remedy: str) -> None:
    if tensors > MOST_TENSORS:
        raise file_error(path, f"names {tensors} tensors; a file here has at most {MOST_TENSORS}.", remedy)


def _is_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # of several disks: noise
        return False


def _check_zip(path: Path, size: int, remedy: str) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            require_few(path, len(records), remedy)
            for record in records:
                # torch maps the records from the disk, so they are stored as they are; a packed one may unfold to
                # anything
                if record.compress_type != zipfile.ZIP_STORED or record.file_size > size:
                    raise file_error(
                        path, f"has a packed part, {record.filename!r}, which torch does not write.", remedy
                    )
            pickled = [record for record in records if record.filename.split("/")[-1] == "data.pkl"]
            for record in pickled:
                if record.file_size > PICKLE_LIMIT:
                    raise file_error(path, f"has a table of tensors of {record.file_size} bytes.", remedy)
                with archive.open(record) as file:
                    check_pickle(file, path, size, remedy)
    except CheckpointError:
        raise
    except Exception as error:  # zipfile fed with noise fails in many ways
        raise file_error(path, f"is damaged or was cut short ({type(error).__name__}).", remedy) from error


def _opened(path: Path, remedy: str):
    try:
        return open(os.open(path, os.O_RDONLY | NO_WAITING), "rb")
    except OSError as error:
        raise unreadable(path, error, remedy) from error
