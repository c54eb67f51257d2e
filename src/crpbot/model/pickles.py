"""A pickle read as data. Nothing is imported, constructed or called: a name that is not on a list ends the reading.

A pickle is a program for a small stack machine, and Python's own reader runs it, with whatever it calls. The reader here is
another machine for the same language (`pickletools` documents its opcodes) which can only stack plain values up: where the
program calls something, a `Record` notes what would have been called, and stays a note.
"""

import pickletools
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from crpbot.errors import CheckpointError

MOST_STEPS = 500_000
"""Opcodes of one pickle; the checkpoints of the founding system have 3,000."""
MOST_VALUES = 500_000
"""Values in what a pickle builds, counted as if nothing were shared."""
DEEPEST = 60
"""How deep lists and tables may be nested."""


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function that a pickle names. It was not imported."""

    text: str


@dataclass(slots=True, eq=False)
class Record:
    """Something that a pickle would have made by a call. It was not made.

    Attributes:
        name: of what would have been called.
        args: it would have been given.
        state: its attributes, or whatever else it would have been told afterwards.

    """

    name: str
    args: Any
    state: Any = None


@dataclass(frozen=True, slots=True, eq=False)
class Outside:
    """A value that a pickle refers to and that lies outside it, as the numbers of a tensor do."""

    reference: Any


_Make = Callable[[Any, Any], Any]


class _Mark:
    """Where a list of arguments begins on the stack."""


_MARK = _Mark()
_PUSH_ARGUMENT = frozenset(
    {
        "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
        "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
        "BINUNICODE8",
    }
)  # fmt: skip
_CONSTANTS: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_NEW: Mapping[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": list, "MARK": lambda: _MARK}
_TUPLES: Mapping[str, int] = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_NOTHING = frozenset({"PROTO", "FRAME"})


def read_pickle(stream: BinaryIO, *, names: Collection[str], where: str) -> Any:  # noqa: ANN401
    """Return what the pickle at the place of `stream` describes; the stream then stands behind it.

    Plain values come as they are, sets as lists, an `OrderedDict` as a dict, what would have been called as a `Record`.

    Args:
        stream: the bytes.
        names: what may be named, as `module.name`.
        where: names the file in errors.

    Raises:
        CheckpointError: the pickle is a huge one, or names something else.
        ValueError: the bytes are no pickle, or a damaged one.

    """
    machine = _Machine(names, where)
    try:
        for step, (code, argument, _) in enumerate(pickletools.genops(stream)):
            if step >= MOST_STEPS:
                raise CheckpointError(
                    f"{where} must have a pickle of at most {MOST_STEPS:,} steps, found more; it is no checkpoint"
                )
            machine.do(code.name, argument)
        return machine.result()
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError, MemoryError) as error:
        raise ValueError(f"its pickle is broken, {error}") from None


def plain(value: Any, makers: Mapping[str, _Make], *, outside: Callable[[Any], Any], where: str) -> Any:  # noqa: ANN401
    """Return `value` with its records made into values, by the table `makers`; others stay records, and names become text.

    Args:
        value: from `read_pickle`.
        makers: by name, what takes the place of a record, from its arguments and its state.
        outside: what takes the place of a reference to the outside.
        where: names the file in errors.

    Raises:
        CheckpointError: the value is nested too deeply, contains itself, or is huge once every shared part is counted.

    """
    return _Plain(makers, outside, where).of(value, 0)[0]


class _Machine:
    """The stack machine: `do` one opcode after another, then take the `result`."""

    def __init__(self, names: Collection[str], where: str) -> None:
        self._names, self._where = names, where
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def do(self, code: str, argument: Any) -> None:  # noqa: ANN401
        """Do one opcode."""
        stack = self._stack
        if code in _PUSH_ARGUMENT:
            stack.append(argument)
        elif code in _CONSTANTS:
            stack.append(_CONSTANTS[code])
        elif code in _NEW:
            stack.append(_NEW[code]())
        elif code in _TUPLES:
            self._replace(_TUPLES[code], tuple(stack[-_TUPLES[code] :]))
        elif code in {"GLOBAL", "INST"}:
            name = self._name(*argument.split(" ", 1))
            stack.append(name if code == "GLOBAL" else Record(name.text, tuple(self._marked())))
        elif code not in _NOTHING:
            self._rest(code, argument)

    def result(self) -> Any:  # noqa: ANN401
        """Return what the pickle built."""
        (value,) = self._stack
        return value

    def _rest(self, code: str, argument: Any) -> None:  # noqa: ANN401, C901, PLR0912  one line for each opcode
        stack = self._stack
        if code in {"BINPUT", "LONG_BINPUT", "PUT"}:
            self._memo[int(argument)] = stack[-1]
        elif code == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif code in {"BINGET", "LONG_BINGET", "GET"}:
            stack.append(self._memo[int(argument)])
        elif code == "STACK_GLOBAL":
            module, name = stack[-2:]
            if not (isinstance(module, str) and isinstance(name, str)):
                raise self._refuse("something whose name it works out while it is read")
            self._replace(2, self._name(module, name))
        elif code in {"REDUCE", "NEWOBJ"}:
            called, args = stack[-2:]
            self._replace(2, self._called(called, args))
        elif code == "NEWOBJ_EX":
            called, args, _ = stack[-3:]
            self._replace(3, self._called(called, args))
        elif code == "BUILD":
            state = stack.pop()
            if isinstance(stack[-1], Record):
                stack[-1].state = state
        elif code == "TUPLE":
            stack.append(tuple(self._marked()))
        elif code in {"LIST", "FROZENSET"}:
            stack.append(self._marked())
        elif code == "DICT":
            stack.append(_pairs(self._marked()))
        elif code == "APPEND":
            item = stack.pop()
            stack[-1].append(item)
        elif code in {"APPENDS", "ADDITEMS"}:
            items = self._marked()
            stack[-1].extend(items)
        elif code == "SETITEM":
            key, item = stack[-2:]
            self._replace(2)
            self._update({key: item})
        elif code == "SETITEMS":
            self._update(_pairs(self._marked()))
        elif code in {"PERSID", "BINPERSID"}:
            stack.append(Outside(argument if code == "PERSID" else stack.pop()))
        elif code == "DUP":
            stack.append(stack[-1])
        elif code in {"POP", "POP_MARK"}:
            self._replace(1) if code == "POP" else self._marked()
        elif code != "STOP":
            raise self._refuse(f"something by the opcode {code}")

    def _replace(self, taken: int, *values: Any) -> None:  # noqa: ANN401
        if len(self._stack) < taken:
            raise IndexError("its stack runs empty")
        del self._stack[len(self._stack) - taken :]
        self._stack.extend(values)

    def _marked(self) -> list[Any]:
        place = len(self._stack) - 1
        while self._stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise IndexError("a mark is missing")
        items = self._stack[place + 1 :]
        del self._stack[place:]
        return items

    def _update(self, items: dict[Any, Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict):
            raise TypeError("items are set on what is no table")
        target.update(items)

    def _name(self, module: str, name: str) -> Name:
        text = f"{module}.{name}"
        if text not in self._names:
            raise self._refuse(text)
        return Name(text)

    def _called(self, called: Any, args: Any) -> Any:  # noqa: ANN401
        if not isinstance(called, Name) or not isinstance(args, tuple):
            raise self._refuse("something that it has made itself")
        if called.text == "collections.OrderedDict":
            return dict(args[0]) if args else {}
        if called.text == "collections.defaultdict":
            return {}
        return Record(called.text, args)

    def _refuse(self, what: str) -> CheckpointError:
        printable = "".join(c if c.isprintable() else "?" for c in what)
        return CheckpointError(
            f"{self._where} must hold tensors and plain values only, found a pickle that tries to load {printable:.120}; "
            "nothing of it was "
            "executed: if you trust its sender, ask for model.state_dict() with mean and scale as tensors"
        )


class _Plain:
    """Walks what a pickle built, once, and counts it as if nothing were shared."""

    def __init__(self, makers: Mapping[str, _Make], outside: Callable[[Any], Any], where: str) -> None:
        self._makers, self._outside, self._where = makers, outside, where
        self._done: dict[int, tuple[Any, int]] = {}
        self._open: set[int] = set()

    def of(self, value: Any, depth: int) -> tuple[Any, int]:  # noqa: ANN401
        """Return the plain form of `value`, and how many values it has."""
        if isinstance(value, Name):
            return value.text, 1
        if not isinstance(value, list | tuple | dict | Record | Outside):
            return value, 1
        key = id(value)
        if key in self._done:
            return self._done[key]
        if key in self._open or depth > DEEPEST:
            raise self._refuse("one that contains itself or is nested too deeply")
        self._open.add(key)
        made, count = self._inside(value, depth + 1)
        self._open.remove(key)
        if count > MOST_VALUES:
            raise self._refuse(f"more than {MOST_VALUES:,}")
        self._done[key] = made, count
        return made, count

    def _inside(self, value: Any, depth: int) -> tuple[Any, int]:  # noqa: ANN401
        if isinstance(value, dict):
            keys, n_keys = self._all(value, depth)
            if not all(isinstance(key, str | int | float | bytes | None) for key in keys):
                raise self._refuse("a table whose keys are no plain values")
            items, n_items = self._all(value.values(), depth)
            return dict(zip(keys, items, strict=True)), n_keys + n_items + 1
        if isinstance(value, Outside):
            reference, count = self.of(value.reference, depth)
            return self._outside(reference), count + 1
        if isinstance(value, Record):
            args, n_args = self.of(value.args, depth)
            state, n_state = self.of(value.state, depth)
            maker = self._makers.get(value.name)
            return (maker(args, state) if maker else Record(value.name, args, state)), n_args + n_state + 1
        items, count = self._all(value, depth)
        return (items if isinstance(value, list) else tuple(items)), count + 1

    def _all(self, values: Collection[Any], depth: int) -> tuple[list[Any], int]:
        pairs = [self.of(item, depth) for item in values]
        return [item for item, _ in pairs], sum(count for _, count in pairs)

    def _refuse(self, found: str) -> CheckpointError:
        return CheckpointError(f"{self._where} must hold a table of values, found {found}; it is no checkpoint")


def _pairs(flat: list[Any]) -> dict[Any, Any]:
    if len(flat) % 2:
        raise ValueError("a key has no value")
    halves: Iterator[tuple[Any, Any]] = zip(flat[::2], flat[1::2], strict=True)
    return dict(halves)
