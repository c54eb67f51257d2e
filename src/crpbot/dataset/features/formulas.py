"""Formulas: from the text of each feature to one program that batch and live both run.

A formula is arithmetic over a candle's columns and their past: `close / lag(close, 1) - 1`. There is no way to write "the next
candle", so no formula can look ahead; a divisor has to be certainly above 0, and units have to fit. Batch and live run the same
steps in the same order, which is why their numbers are the same. The file `sets/founding-72.toml` explains the functions.
"""

import ast
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from crpbot.dataset.features.program import COLUMNS, MOST_MEANS, MOST_ROWS, BadFormulaError, Builder, Program, Step
from crpbot.errors import RecipeError

LONGEST_TEXT = 500
MOST_FEATURES = 1_000
MOST_WARM_UP = 50_000
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")

_FUNCTIONS: Mapping[str, tuple[Callable[..., int], range]] = {
    "lag": (Builder.lag, range(2, 3)),
    "sum": (Builder.sum, range(2, 3)),
    "mean": (Builder.mean, range(2, 3)),
    "std": (Builder.std, range(2, 3)),
    "highest": (Builder.highest, range(2, 3)),
    "lowest": (Builder.lowest, range(2, 3)),
    "ema": (Builder.ema, range(2, 3)),
    "ratio": (Builder.ratio, range(3, 4)),
    "max": (Builder.maximum, range(2, 9)),
    "min": (Builder.minimum, range(2, 9)),
    "abs": (Builder.absolute, range(1, 2)),
    "log": (Builder.log, range(1, 2)),
    "sqrt": (Builder.sqrt, range(1, 2)),
}

_TAKEN = {*COLUMNS, *_FUNCTIONS, "time"}
_OPERATORS: Mapping[type[ast.operator], Callable[..., int]] = {
    ast.Add: Builder.add,
    ast.Sub: Builder.subtract,
    ast.Mult: Builder.multiply,
    ast.Div: Builder.divide,
}


def compile_formulas(formulas: Mapping[str, str], where: Mapping[str, str], *, what: str = "the feature set") -> Program:
    """Compile `formulas`, which may use each other and the named parts in `where`, in any order.

    Args:
        formulas: text by name; these are the outputs.
        where: text by name of parts that formulas share.
        what: names the set in errors.

    Raises:
        RecipeError: a formula is not one, divides by what may be 0, mixes units, or refers to itself.

    """
    if not 0 < len(formulas) <= MOST_FEATURES or len(where) > MOST_FEATURES:
        found = f"{len(formulas):,} and {len(where):,}"
        raise RecipeError(f"{what} must have 1 to {MOST_FEATURES:,} features and at most as many parts, found {found}")
    reader = _Reader({**where, **formulas}, what)
    if len(reader.texts) < len(formulas) + len(where):
        twice = ", ".join(sorted(set(formulas) & set(where)))
        raise RecipeError(f"{what} must define each name once, found {twice} both as a feature and under where; rename one")
    try:
        for name in where:
            reader.named(name)
        outputs = tuple(reader.named(name) for name in formulas)
    except RecursionError:
        raise RecipeError(f"{what} must not nest its formulas so deeply; define the innermost parts first") from None
    program = _without_unused(reader.builder.steps, outputs)
    rows = sum(int(step.number) for step in program.steps if step.op == "lag")
    means = sum(step.op == "ema" for step in program.steps)
    if program.warm_up > MOST_WARM_UP or rows > MOST_ROWS or means > MOST_MEANS:
        raise RecipeError(
            f"{what} must be worth at most {MOST_WARM_UP:,} rows of warm-up, {MOST_ROWS:,} numbers of past and {MOST_MEANS:,} "
            f"exponential means, found {program.warm_up:,}, {rows:,} and {means:,}; use shorter windows"
        )
    return program


def _without_unused(steps: Sequence[Step], outputs: tuple[int, ...]) -> Program:
    """Return the program without the steps that no output needs."""
    needed = set(outputs)
    for position in range(len(steps) - 1, -1, -1):
        if position in needed:
            needed.update(steps[position].args)
    place = {position: new for new, position in enumerate(sorted(needed))}
    kept = (replace(steps[position], args=tuple(place[arg] for arg in steps[position].args)) for position in place)
    return Program(tuple(kept), tuple(place[position] for position in outputs))


class _Reader:
    """Reads texts, in any order, and has the builder write their steps."""

    def __init__(self, texts: Mapping[str, str], what: str) -> None:
        self.texts = dict(texts)
        self.builder = Builder()
        self._done: dict[str, int] = {}
        self._open: list[str] = []
        self._what = what
        for name in texts:
            if not (isinstance(name, str) and _NAME.fullmatch(name)) or name in _TAKEN:
                raise RecipeError(
                    f"{what}: a name must be small letters, digits and _, begin with a letter, and be no column or function; "
                    f"found {name!r}; rename it"
                )

    def named(self, name: str) -> int:
        """Return the step of a column, a feature or a part."""
        if name in COLUMNS:
            return self.builder.column(name)
        if name not in self._done:
            self._open.append(name)
            try:
                self._done[name] = self._read(self._parse(name))
            except BadFormulaError as error:
                raise RecipeError(f"{self._what}: {name}: {error}") from None
            self._open.pop()
        return self._done[name]

    def _parse(self, name: str) -> ast.expr:
        text = self.texts[name]
        if not isinstance(text, str) or len(text) > LONGEST_TEXT:
            raise BadFormulaError(f"a formula must be text of at most {LONGEST_TEXT} characters, found {text!r:.80}; split it")
        if "#" in text or not text.isprintable():
            raise BadFormulaError(f"a formula must be one line without comments, found {text!r}; correct it")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Python's, about code that is no formula
                return ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, MemoryError):
            raise BadFormulaError(
                f"a formula must be arithmetic like close / lag(close, 1) - 1, found {text!r}; correct it"
            ) from None

    def _read(self, tree: ast.expr) -> int:
        builder = self.builder
        match tree:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                return builder.number(value)
            case ast.Name(id=name):
                return self._reference(name)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return builder.multiply(builder.number(-1), self._read(operand))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return _OPERATORS[type(op)](builder, self._read(left), self._read(right))
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
                function, counts = _FUNCTIONS[name]
                if len(args) in counts:
                    return function(builder, *(self._read(arg) for arg in args))
        raise BadFormulaError(
            f"a formula is made of numbers, names, + - * / and {', '.join(_FUNCTIONS)} with their own arguments; "
            f"found {ast.unparse(tree)!r}; correct it"
        )

    def _reference(self, name: str) -> int:
        if name not in self.texts and name not in COLUMNS:
            raise BadFormulaError(
                f"names must be columns ({', '.join(COLUMNS)}), features or parts; found {name!r}; define it under where"
            )
        if name in self._open:
            circle = " -> ".join([*self._open[self._open.index(name) :], name])
            raise BadFormulaError(f"a formula must not be made of itself, found {circle}; break the circle")
        return self.named(name)
