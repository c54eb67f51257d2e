"""A pickle read as data. Nothing is imported, constructed or called: a name that is not on a list ends the reading.

A pickle is a program for a small stack machine, and Python's own reader runs it, with whatever it calls. The reader here is
another machine for the same language (`pickletools` documents its opcodes) which can only stack plain values up: where the
program calls something, a `Record` notes what would have been called, and stays a note.
"""

import pickletools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from crpbot.errors import CheckpointError

MOST_STEPS = 150_000
"""Opcodes in the pickles of one file; the checkpoints of the founding system have 3,000."""
MOST_VALUES = 200_000
"""Values in what a pickle builds, counted as if nothing were shared."""
MOST_MADE = 256 * 2**20
"""Bytes of all arrays and texts that are made of one file."""
LONGEST = 16 * 2**20
"""Bytes of one pickle; the numbers of tensors lie outside it."""
DEEPEST = 60
"""How deep lists and tables may be nested."""
_BITS = 128
"""Of a whole number; the longest in use is the 80 bits that begin an old file of torch."""


@dataclass(slots=True)
class Budget:
    """What reading one file may cost. Every part of the file draws on the same one.

    Attributes:
        where: names the file in errors.
        steps: opcodes that are left.
        made: bytes that may still be made.

    """

    where: str
    steps: int = MOST_STEPS
    made: int = MOST_MADE

    def step(self, count: int = 1) -> None:
        """Take steps of a pickle."""
        self.steps -= count
        if self.steps < 0:
            raise CheckpointError(
                f"{self.where} must have pickles of at most {MOST_STEPS:,} steps, found more; it is no checkpoint"
            )

    def make(self, size: int) -> None:
        """Take bytes before they are made."""
        self.made -= size
        if self.made < 0:
            raise CheckpointError(
                f"{self.where} must hold at most {MOST_MADE // 2**20} MiB of numbers and texts, found more; it is a bomb or no "
                "checkpoint"
            )


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


def read_pickle(content: bytes, start: int, *, names: Collection[str], budget: Budget) -> tuple[Any, int]:
    """Return what the pickle that begins at `start` describes, and where it ends.

    Plain values come as they are, sets as lists, an `OrderedDict` or `defaultdict` as a dict, what would have been called as a
    `Record`. An item of a table whose key is no text or number is left out.

    Args:
        content: the whole file.
        start: of the pickle in it.
        names: what may be named, as `module.name`.
        budget: of the file.

    Raises:
        CheckpointError: the pickle is a huge one, or names something else.
        ValueError: the bytes are no pickle, or a damaged one.

    """
    machine, end = _Machine(names, budget), 0
    try:
        for code, argument, place in pickletools.genops(content[start : start + LONGEST]):
            budget.step()
            machine.do(code.name, argument)
            end = 0 if place is None else place + 1  # behind STOP, once the loop has ended
        return machine.result(), start + end
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError, MemoryError) as error:
        raise ValueError(f"its pickle is broken, {str(error)[:200]}") from None


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

    def __init__(self, names: Collection[str], budget: Budget) -> None:
        self._names, self._budget = names, budget
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def do(self, code: str, argument: Any) -> None:  # noqa: ANN401
        """Do one opcode."""
        stack = self._stack
        if code in _PUSH_ARGUMENT:
            if isinstance(argument, int) and argument.bit_length() > _BITS:
                raise ValueError(f"it has a number of {argument.bit_length():,} bits")
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
            self._memo[_place(argument)] = stack[-1]
        elif code == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif code in {"BINGET", "LONG_BINGET", "GET"}:
            stack.append(self._memo[_place(argument)])
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
            pair = stack[-2:]
            self._replace(2)
            self._update(_pairs(pair))
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
        if called.text == "collections.defaultdict":
            return {}
        if called.text == "collections.OrderedDict":
            pairs = list(args[0]) if args else []
            self._budget.step(len(pairs))
            return _pairs([part for pair in pairs for part in (pair[0], pair[1])])
        return Record(called.text, args)

    def _refuse(self, what: str) -> CheckpointError:
        what = what[:120]
        advice = "if you trust its sender, ask for model.state_dict() with mean and scale as tensors"
        if what.startswith("joblib."):
            advice = "joblib files are not read: write mean and scale as JSON"
        return CheckpointError(
            f"{self._budget.where} must hold tensors and plain values only, found a pickle that tries to load {what}; nothing "
            "of it was "
            f"executed: {advice}"
        )


class _Plain:
    """Walks what a pickle built, once, and counts it as if nothing were shared."""

    def __init__(self, makers: Mapping[str, _Make], outside: Callable[[Any], Any], where: str) -> None:
        self._makers, self._outside, self._where = makers, outside, where
        self._done: dict[int, tuple[Any, int, int]] = {}
        self._open: set[int] = set()

    def of(self, value: Any, depth: int) -> tuple[Any, int, int]:  # noqa: ANN401
        """Return the plain form of `value`, how many values it has, and how deep they are nested."""
        if isinstance(value, Name):
            return value.text, 1, 0
        if not isinstance(value, list | tuple | dict | Record | Outside):
            return value, 1, 0
        key = id(value)
        if key in self._open or depth > DEEPEST:
            raise self._refuse("one that contains itself or is nested too deeply")
        if key not in self._done:
            self._open.add(key)
            self._done[key] = self._inside(value, depth + 1)
            self._open.remove(key)
        made, count, height = self._done[key]
        if count > MOST_VALUES:
            raise self._refuse(f"more than {MOST_VALUES:,}")
        if depth + height > DEEPEST:
            raise self._refuse("one that contains itself or is nested too deeply")
        return made, count, height

    def _inside(self, value: Any, depth: int) -> tuple[Any, int, int]:  # noqa: ANN401
        if isinstance(value, Outside):
            reference, count, height = self.of(value.reference, depth)
            return self._outside(reference), count + 1, height + 1
        if isinstance(value, Record):
            (args, state), count, height = self._all((value.args, value.state), depth)
            maker = self._makers.get(value.name)
            return (maker(args, state) if maker else Record(value.name, args, state)), count, height
        if isinstance(value, dict):
            items, count, height = self._all(value.values(), depth)
            return dict(zip(value, items, strict=True)), count + len(value), height
        items, count, height = self._all(value, depth)
        return (items if isinstance(value, list) else tuple(items)), count, height

    def _all(self, values: Collection[Any], depth: int) -> tuple[list[Any], int, int]:
        found = [self.of(item, depth) for item in values]
        return [made for made, _, _ in found], 1 + sum(n for _, n, _ in found), 1 + max((h for _, _, h in found), default=0)

    def _refuse(self, found: str) -> CheckpointError:
        return CheckpointError(f"{self._where} must hold a table of values, found {found}; it is no checkpoint")


def _pairs(flat: list[Any]) -> dict[Any, Any]:
    """Return a table of keys and values that follow each other; keys are looked at before they are hashed."""
    if len(flat) % 2:
        raise ValueError("a key has no value")
    return {key: value for key, value in zip(flat[::2], flat[1::2], strict=True) if _is_key(key)}


def _is_key(key: Any) -> bool:  # noqa: ANN401
    """Whether a key is plain: tuples can take for ever to hash, and whole numbers beyond 60 bits can all hash alike."""
    if isinstance(key, int):
        return key.bit_length() < 60
    return key is None or isinstance(key, str | bytes | float)


def _place(argument: Any) -> int:  # noqa: ANN401
    place = int(argument)
    if not 0 <= place <= MOST_STEPS:
        raise ValueError("it remembers more than it can have seen")
    return place
