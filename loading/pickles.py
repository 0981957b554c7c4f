"""The pickle inside a torch file, read as a list of instructions and never run.

torch's own reader with ``weights_only`` runs no code, but lets a file reserve any memory (``bytearray``,
``torch.FloatTensor`` with a size) and build tuples whose hash takes for ever. What the pickle would do is followed here
on a stack of placeholders, and only what a table of tensors needs is let through.
"""

import pickletools
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from .errors import file_error

PICKLE_LIMIT = 8 * 2**20  # bytes; that of a file of 50,000 tensors
REBUILD = {"torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor_v3"}
CALLED = REBUILD | {"torch._utils _rebuild_parameter", "collections OrderedDict", "torch Size", "torch device"}
NAMED = ("torch ", "torch.storage ")  # types of numbers and of storages, which a pickle names and does not call
CODE = "holds pickled Python code, which is never executed here"
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
PUTS, GETS = ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"), ("BINGET", "LONG_BINGET", "GET")
MARK = object()
NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4")


class Global(str):
    """A name of Python that the pickle asks for, "module name"."""


class Shared(tuple):
    """A tuple that is used a second time: tuples of such tuples grow without bound."""


class _Refused(Exception):
    """What a pickle asks for and does not get; the message ends a sentence."""


def check_pickle(file: BinaryIO, path: Path, size: int, remedy: str, needed: bool = True) -> None:
    """Follow the pickle that begins at the position of ``file`` to its end; CheckpointError where it holds more than
    tensors.

    ``size``: bytes of the whole file, which no tensor in it can exceed. ``needed``: False, where the file may have
    ended.
    """
    begin, stack, memo = file.tell(), [], {}
    try:
        for operation, argument, place in pickletools.genops(file):
            if (place or 0) - begin > PICKLE_LIMIT:
                raise _Refused("has a table of tensors that is too large")
            _follow(operation, argument, stack, memo, size)
    except _Refused as error:
        hint = "Use a file that holds tensors only. " if str(error) == CODE else ""
        raise file_error(path, f"{error}.", f"{hint}{remedy}") from error
    except Exception as error:  # noise instead of instructions
        if needed or file.tell() != begin:
            raise file_error(path, "is damaged or was cut short.", remedy) from error


def _follow(operation: pickletools.OpcodeInfo, argument: Any, stack: list, memo: dict, size: int) -> None:
    """One instruction: what it takes from the stack and what it leaves there."""
    name = operation.name
    if name in ("GLOBAL", "INST", "STACK_GLOBAL"):
        stack.append(_named(name, argument))
    elif name in ("REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ"):
        arguments, called = stack.pop(), stack.pop()
        stack.append(_called(name, called, arguments, size))
    elif name == "TUPLE" or name in TUPLES:
        count = TUPLES.get(name) or len(stack) - 1 - _last_mark(stack)
        parts = tuple(stack[len(stack) - count :])
        if any(isinstance(part, Shared) for part in parts):
            raise _Refused("holds nested tuples, which a table of tensors cannot have")
        del stack[len(stack) - count - (name == "TUPLE") :]
        stack.append(parts)
    elif name in PUTS:
        memo[argument if name != "MEMOIZE" else len(memo)] = stack[-1]
    elif name in GETS:
        value = memo[argument]
        stack.append(Shared(value) if isinstance(value, tuple) and value else value)
    elif name in NUMBERS:
        stack.append(argument)
    elif name == "BINPERSID":
        _check_storage(stack.pop(), size)
        stack.append(None)
    elif name in ("MARK", "EMPTY_TUPLE"):
        stack.append(MARK if name == "MARK" else ())
    else:
        _others(operation, stack)


def _others(operation: pickletools.OpcodeInfo, stack: list) -> None:
    """Everything that makes plain values and puts them into lists and tables."""
    taken = [kind.name for kind in operation.stack_before]
    if "mark" in taken:
        del stack[_last_mark(stack) :]
        taken = taken[: taken.index("mark")]
    left = len(operation.stack_after)
    if name_takes_itself := operation.name in ("APPENDS", "SETITEMS", "ADDITEMS", "APPEND", "SETITEM", "BUILD"):
        taken, left = taken[1:], 0  # the list or table itself stays where it is
    if taken:
        del stack[len(stack) - len(taken) :]
    stack.extend([None] * left)
    if name_takes_itself and not stack:
        raise ValueError("nothing to put it into")


def _last_mark(stack: list) -> int:
    return next(index for index in range(len(stack) - 1, -1, -1) if stack[index] is MARK)


def _named(operation: str, name: str | None) -> Global:
    if operation != "GLOBAL" or not (name in CALLED or name.startswith(NAMED) and name.split(" ")[1].isidentifier()):
        raise _Refused(CODE)
    return Global(name)


def _called(operation: str, called: Any, arguments: Any, size: int) -> Any:
    """What a call leaves on the stack: a torch.Size its lengths, everything else a placeholder."""
    if (
        operation != "REDUCE"
        or not isinstance(called, Global)
        or called not in CALLED
        or not isinstance(arguments, tuple)
    ):
        raise _Refused(CODE)
    if called in REBUILD:
        shape = arguments[2]
        if not isinstance(shape, tuple) or not all(isinstance(side, int) and side >= 0 for side in shape):
            raise _Refused("is damaged: a tensor's shape is not a list of sizes")
        if prod(shape) > size:
            raise _Refused(f"is damaged: it names a tensor of {prod(shape)} numbers, and has {size} bytes")
    return arguments[0] if called == "torch Size" and arguments else None


def _check_storage(described: Any, size: int) -> None:
    """("storage", type, key, device, numbers), as torch writes it."""
    numbers = described[4] if isinstance(described, tuple) and len(described) > 4 else 0
    if isinstance(numbers, int) and numbers > size:
        raise _Refused(f"is damaged: it names {numbers} numbers, and has {size} bytes")
