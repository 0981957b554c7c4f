"""Tables of functions by name, filled by the files of a package: a new entry is one function in one file."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Generic, TypeVar

Entry = TypeVar("Entry")


class Registry(Generic[Entry]):
    """Entries by name. `package`: the dotted name of the package whose modules add them as they are imported."""

    def __init__(self, what: str, package: str):
        self.what, self.package = what, package
        self.entries: dict[str, Entry] = {}
        self._complete = False

    def add(self, name: str, entry: Entry) -> None:
        """ValueError where the name is taken."""
        if name in self.entries:
            raise ValueError(f"There are two entries for the {self.what} {name!r}. Give one of them another name.")
        self.entries[name] = entry

    def names(self) -> tuple[str, ...]:
        """All names, in alphabetical order; imports every module of the package the first time."""
        if not self._complete:
            for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__):
                importlib.import_module(f"{self.package}.{module.name}")
            self._complete = True
        return tuple(sorted(self.entries))

    def __getitem__(self, name: str) -> Entry:
        """ValueError, with the names there are, for an unknown one."""
        known = self.names()
        if name not in self.entries:
            raise ValueError(f"There is no {self.what} {name!r}. Choose from: {', '.join(known)}.")
        return self.entries[name]
