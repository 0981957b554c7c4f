"""What lies in the model folders. No entry can stop the reading, whatever it is, and no folder can stall it for long.

As ComfyUI's own lists: links are followed, and a list is kept until one of its folders changes. Beyond them: folders
that contain themselves through a link, pipes, folders that may not be read or answer slowly.
"""

import logging
import os
import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

from ...loading.entries import read_bounded
from ...loading.errors import CheckpointError, printable

logger = logging.getLogger(__name__)

CONFIG = "config.json"
CONFIG_LIMIT = 2**20  # bytes; real ones have some kilobytes
LEFT_OUT = (".git",)  # as in ComfyUI's lists
MOST_ENTRIES = 50_000  # of one model folder
DEEPEST = 32  # folders in folders
MOST_SECONDS = 10.0  # for one model folder
SLOW = 0.2  # seconds that a check may take before the list is kept without one
KEPT = 10  # times as long as the check took: at most a tenth of the time goes into looking
LONGEST_KEPT = 60.0  # seconds
FRESH = 2 * 10**9  # nanoseconds: a folder that changed so lately may change again under the same time stamp


@dataclass
class Listing:
    """Of one model folder, relative names. ``folders``: those with a config.json that holds the mark, or cannot be
    read."""

    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    stamps: dict[str, int | None] = field(default_factory=dict)  # path -> time of its last change; None: not there
    trusted_until: float = 0.0  # on the monotonic clock; until then it is not even checked


_listings: dict[tuple, Listing] = {}
_told: set[str] = set()


def list_folder(root: str, endings: Collection[str], mark: str | None = None) -> Listing:
    """The files below ``root`` with one of these ``endings`` and, with ``mark``, the folders whose config.json has it
    in it.

    A folder that is offered by its own name is not searched. What cannot be read is logged, once.
    """
    key = (root, frozenset(endings), mark)
    began = time.monotonic()
    known = _listings.get(key)
    if known is not None and (began < known.trusted_until or _unchanged(known)):
        _trust(known, began, root)
        return known
    listing = _Walk(root, endings, mark).run()
    _trust(listing, began, root)
    _listings[key] = listing
    return listing


def _trust(listing: Listing, began: float, root: str) -> None:
    """A folder that took long to look at is left alone for a while."""
    took = time.monotonic() - began
    if took > SLOW:
        kept = min(LONGEST_KEPT, KEPT * took)
        listing.trusted_until = time.monotonic() + kept
        _tell(f"{root} answers slowly ({took:.1f} s): new files in it appear up to {kept:.0f} s late.")


def _unchanged(listing: Listing) -> bool:
    return all(_stamp(path) == stamp for path, stamp in listing.stamps.items())


def _stamp(path: str) -> int | None:
    """When ``path`` last changed, in nanoseconds; None where it cannot be seen."""
    try:
        return os.stat(path).st_mtime_ns
    except (OSError, ValueError):
        return None


def _tell(message: str) -> None:
    """Log once: lists are made again at every refresh of the page."""
    if message not in _told:
        _told.add(message)
        logger.warning("%s", printable(message))


class _Walk:
    """Breadth first, so that what lies near the root is found before any bound is reached."""

    def __init__(self, root: str, endings: Collection[str], mark: str | None) -> None:
        self.root, self.endings, self.mark = root, endings, mark
        self.listing = Listing()
        self.entries, self.deadline = 0, time.monotonic() + MOST_SECONDS
        self.ahead: deque[tuple[str, tuple]] = deque([(root, ())])  # (folder, who its ancestors are)

    def run(self) -> Listing:
        while self.ahead:
            folder, ancestors = self.ahead.popleft()
            if not self._look(folder, ancestors):
                self.listing.stamps[self.root] = -1  # no time stamp: an unfinished list is made again
                break
        self.listing.files.sort()
        self.listing.folders.sort()
        return self.listing

    def _look(self, folder: str, ancestors: tuple) -> bool:
        """One folder; False: it is enough."""
        try:
            seen = os.stat(folder)
        except (OSError, ValueError) as error:
            self.listing.stamps[folder] = None
            if not isinstance(error, FileNotFoundError):  # paths that are not there are usual in extra_model_paths.yaml
                _tell(f"{folder} cannot be reached ({error}): its content is not listed.")
            return True
        fresh = time.time_ns() - seen.st_mtime_ns < FRESH
        self.listing.stamps[folder] = -1 if fresh else seen.st_mtime_ns
        if (who := (seen.st_dev, seen.st_ino)) in ancestors:
            return True  # a link back to a folder that it lies in
        if len(ancestors) >= DEEPEST:
            _tell(f"{folder} lies more than {DEEPEST} folders deep below {self.root}: it is not searched.")
            return True
        return self._each(folder, (*ancestors, who))

    def _each(self, folder: str, ancestors: tuple) -> bool:
        files, below = [], []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    self.entries += 1
                    if self.entries > MOST_ENTRIES or time.monotonic() > self.deadline:
                        _tell(
                            f"{self.root} has more than {MOST_ENTRIES} entries, or is too slow: not all of it is "
                            "listed. Keep only models in it. A name that is not listed still loads."
                        )
                        self._take(folder, files)
                        return False
                    (below if _is_folder(entry) else files).append(entry.name)
        except OSError as error:
            _tell(f"{folder} cannot be read ({error.strerror}): its content is not listed.")
        if not self._offer(folder, files):
            self._take(folder, files)
            self.ahead.extend((os.path.join(folder, name), ancestors) for name in sorted(below) if name not in LEFT_OUT)
        return True

    def _take(self, folder: str, files: list[str]) -> None:
        for name in files:
            if os.path.splitext(name)[1].lower() in self.endings:
                self.listing.files.append(self._relative(os.path.join(folder, name)))

    def _offer(self, folder: str, files: list[str]) -> bool:
        """Whether the folder is one of this kind: then what is in it is not offered besides."""
        if self.mark is None or folder == self.root or CONFIG not in files:
            return False
        config = os.path.join(folder, CONFIG)
        self.listing.stamps[config] = _stamp(config)
        try:
            marked = self.mark.encode() in read_bounded(config, CONFIG_LIMIT, "")
            readable = True
        except CheckpointError as error:
            _tell(f"{error}The folder is offered; choosing it says the same.")
            marked, readable = True, False
        if marked:
            self.listing.folders.append(self._relative(folder))
        return marked and readable

    def _relative(self, path: str) -> str:
        return os.path.relpath(path, self.root)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads back to itself, or into what may not be read
        return False
