"""Programs: the flat list of steps that batch and live both run, and the arithmetic that writes it.

Everything is lowered to three kinds of step: arithmetic of one row, `lag`, and the exponential mean `ema`. A window is put
together from pieces of 1, 2, 4, … rows, each made of two of half its size: a window of n rows costs log2 n additions, depends on
its own rows alone, and carries no rounding error along, as running sums do.
"""

import hashlib
import json
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

COLUMNS = ("open", "high", "low", "close", "volume")
LONGEST = 10_000
"""The most rows that one window or lag may reach back."""
MOST_STEPS = 100_000
MOST_MEANS = 1_000
MOST_ROWS = 1_000_000
"""The most past numbers that all lags of a program may keep."""
LARGEST = 1e12
"""The largest number in a formula; the smallest but 0 is 1 over it."""
HISTORY = 2_500
"""The least candles of one segment that live features start from."""


class BadFormulaError(Exception):
    """A step that is not allowed; whoever reads the formula says where."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What a number is measured in, and so how it scales: with twice the price, `2**price` times as much.

    Attributes:
        price: power of the quote currency (USD for BTC-USD).
        volume: power of the base currency (BTC for BTC-USD).

    """

    price: float = 0
    volume: float = 0

    def __str__(self) -> str:
        parts = [
            name if power == 1 else f"{name}^{power:g}"
            for name, power in (("quote currency", self.price), ("base currency", self.volume))
            if power
        ]
        return " · ".join(parts) or "scale-free"

    def times(self, other: "Unit", power: int = 1) -> "Unit":
        """Return the unit of a product; of a quotient with `power=-1`."""
        return Unit(self.price + power * other.price, self.volume + power * other.volume)


PRICE, VOLUME, PURE = Unit(price=1), Unit(volume=1), Unit()

ANY, NOT_NEGATIVE, POSITIVE = range(3)
"""What is certain about the sign of a step, whatever the candles."""


@dataclass(frozen=True, slots=True)
class Step:
    """One operation of a program.

    Attributes:
        op: a column, `number`, `lag`, `ema`, or an operation of one row.
        args: earlier steps, by position.
        number: the constant of `number`, rows of `lag`, α of `ema`, what `ratio` gives where its divisor is 0.
        unit: of the result.
        warm_up: rows at the start of a segment without a result.
        sign: what is certain about the sign.

    """

    op: str
    args: tuple[int, ...]
    number: float
    unit: Unit
    warm_up: int
    sign: int


@dataclass(frozen=True, slots=True)
class Program:
    """Formulas as steps. A step only reads earlier ones.

    Attributes:
        steps: in the order of running.
        outputs: the step of each formula.

    """

    steps: tuple[Step, ...]
    outputs: tuple[int, ...]

    @property
    def warm_up(self) -> int:
        """Rows at the start of a segment in which some formula has no result."""
        return max(self.steps[step].warm_up for step in self.outputs)

    @property
    def sha256(self) -> str:
        """Digest of the steps."""
        steps = [[step.op, step.args, step.number] for step in self.steps]
        return hashlib.sha256(json.dumps([steps, self.outputs]).encode()).hexdigest()

    @property
    def memory(self) -> int:
        """Rows of a segment after which it does not matter where it began.

        An exponential mean of span n remembers its first value with a weight of ((n − 1)/(n + 1))^k after k rows: e^−25, about
        1e-11, after 12.5·n. Means of means add up. At least 2,500.
        """
        rows: list[float] = []
        for step in self.steps:
            own = 12.5 * (2 / step.number - 1) if step.op == "ema" else step.number if step.op == "lag" else 0
            rows.append(own + max((rows[arg] for arg in step.args), default=0))
        return max(HISTORY, math.ceil(max(rows)))


def _divide(a: float, b: float) -> float:
    return a / b if b else math.nan


def _maximum(a: float, b: float) -> float:
    return a if a > b or a != a else b  # noqa: PLR0124  NaN, which is not itself, wins as in numpy


def _minimum(a: float, b: float) -> float:
    return a if a < b or a != a else b  # noqa: PLR0124


def _log(a: float, _: float) -> float:
    return float(np.log(a)) if a > 0 else math.nan  # numpy's, so that the last bit is that of batch


ON_NUMBERS: Mapping[str, Callable[[float, float], float]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": _divide,
    "maximum": _maximum,
    "minimum": _minimum,
    "absolute": lambda a, _: abs(a),
    "log": _log,
    "sqrt": lambda a, _: math.sqrt(a),
}
"""What the operations of one row do with two numbers; those of one number ignore the second."""


class Builder:
    """Writes steps; the same operation on the same steps is written once.

    Attributes:
        steps: written so far.

    Methods take and return steps by position. They raise `BadFormulaError` for what has no sense or no finite result.

    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._known: dict[tuple[str, tuple[int, ...], float], int] = {}

    def column(self, name: str) -> int:
        """Return a column of the candle."""
        return self._step(name)

    def _step(self, op: str, *args: int, number: float = 0.0, unit: Unit = PURE, warm_up: int = 0, sign: int = ANY) -> int:
        if op in ON_NUMBERS and all(self.steps[arg].op == "number" for arg in args):
            return self.number(ON_NUMBERS[op](self.steps[args[0]].number, self.steps[args[-1]].number))
        key = (op, args, number)
        if key not in self._known:
            if op in COLUMNS:
                unit, sign = (VOLUME, NOT_NEGATIVE) if op == "volume" else (PRICE, POSITIVE)
            behind = warm_up + max((self.steps[arg].warm_up for arg in args), default=0)
            if len(self.steps) == MOST_STEPS:
                raise BadFormulaError(f"the formulas of a set must be worth at most {MOST_STEPS:,} steps, found more; use fewer")
            self._known[key] = len(self.steps)
            self.steps.append(Step(op, args, number, unit, behind, sign))
        return self._known[key]

    def number(self, value: float) -> int:
        """Return a constant."""
        if not (value == 0 or 1 / LARGEST <= abs(value) <= LARGEST):
            raise BadFormulaError(f"a number must be 0 or between {1 / LARGEST:g} and {LARGEST:g}, found {value!s:.30}")
        sign = POSITIVE if value > 0 else NOT_NEGATIVE if value == 0 else ANY
        return self._step("number", number=float(value), sign=sign)

    def _value(self, step: int) -> float | None:
        return self.steps[step].number if self.steps[step].op == "number" else None

    def _same_unit(self, a: int, b: int, doing: str) -> Unit:
        units = [self.steps[step].unit for step in (a, b) if self._value(step) != 0]  # 0 is 0 in every unit
        if len(set(units)) > 1:
            raise BadFormulaError(f"{doing} must be of one unit, found {units[0]} and {units[1]}; divide by the close, say")
        return units[0] if units else PURE

    def add(self, a: int, b: int) -> int:
        """Return a + b."""
        x, y = self._value(a), self._value(b)
        if x == 0 or y == 0:
            return b if x == 0 else a
        signs = self.steps[a].sign, self.steps[b].sign
        sign = max(signs) if min(signs) >= NOT_NEGATIVE else ANY
        return self._step("add", a, b, unit=self._same_unit(a, b, "what is added"), sign=sign)

    def subtract(self, a: int, b: int) -> int:
        """Return a − b."""
        prices = {self.steps[a].op, self.steps[b].op} <= set(COLUMNS[:4])
        above = prices and (self.steps[a].op == "high" or self.steps[b].op == "low")  # no candle is otherwise
        unit = self._same_unit(a, b, "what is subtracted")
        return self._step("subtract", a, b, unit=unit, sign=NOT_NEGATIVE if above else ANY)

    def multiply(self, a: int, b: int) -> int:
        """Return a · b."""
        sign = max(NOT_NEGATIVE, self.steps[a].sign) if a == b else self._least_sign(a, b)
        return self._step("multiply", a, b, unit=self.steps[a].unit.times(self.steps[b].unit), sign=sign)

    def divide(self, a: int, b: int) -> int:
        """Return a / b, where b is certainly above 0."""
        if self.steps[b].sign != POSITIVE:
            raise BadFormulaError("a divisor must be certainly above 0, found one that may be 0; write ratio(a, b, instead)")
        return self._step("divide", a, b, unit=self.steps[a].unit.times(self.steps[b].unit, -1), sign=self._least_sign(a, b))

    def ratio(self, a: int, b: int, instead: int) -> int:
        """Return a / b, and `instead` where b is 0."""
        value = self._value(instead)
        unit = self.steps[a].unit.times(self.steps[b].unit, -1)
        if value is None or (value != 0 and unit != PURE):
            raise BadFormulaError(f"the third argument of ratio must be a number in the unit of the quotient ({unit}); write 0")
        x, y = self._value(a), self._value(b)
        if x is not None and y is not None:
            return self.number(x / y if y else value)
        sign = min(self.steps[a].sign, self.steps[instead].sign) if self.steps[b].sign != ANY else ANY
        return self._step("ratio", a, b, number=value, unit=unit, sign=sign)

    def _least_sign(self, a: int, b: int) -> int:
        return min(self.steps[a].sign, self.steps[b].sign)

    def maximum(self, *args: int) -> int:
        """Return the largest argument."""
        return self._extreme("maximum", max, args)

    def minimum(self, *args: int) -> int:
        """Return the smallest argument."""
        return self._extreme("minimum", min, args)

    def _extreme(self, op: str, choose: Callable[[int, int], int], args: tuple[int, ...]) -> int:
        best = args[0]
        for arg in args[1:]:
            sign = choose(self.steps[best].sign, self.steps[arg].sign)
            best = self._step(op, best, arg, unit=self._same_unit(best, arg, "what is compared"), sign=sign)
        return best

    def absolute(self, a: int) -> int:
        """Return |a|."""
        return self._step("absolute", a, unit=self.steps[a].unit, sign=max(self.steps[a].sign, NOT_NEGATIVE))

    def log(self, a: int) -> int:
        """Return ln a, where a is certainly above 0 and has no unit."""
        if self.steps[a].sign != POSITIVE or self.steps[a].unit != PURE:
            raise BadFormulaError("log must be of a number without unit and certainly above 0; take it of a quotient of prices")
        return self._step("log", a)

    def sqrt(self, a: int) -> int:
        """Return √a, where a is certainly not negative."""
        step = self.steps[a]
        if step.sign == ANY:
            raise BadFormulaError("sqrt must be of a number that is certainly not negative, found one that may be; use abs")
        return self._step("sqrt", a, unit=Unit(step.unit.price / 2, step.unit.volume / 2), sign=step.sign)

    def lag(self, a: int, rows: int) -> int:
        """Return a as it was `rows` candles ago."""
        return self._lag(a, self._rows(rows, least=0))

    def _lag(self, a: int, rows: int) -> int:
        step = self.steps[a]
        if rows == 0 or step.op == "number":
            return a
        if step.op == "lag":
            rows += int(step.number)
            a, step = step.args[0], self.steps[step.args[0]]
        if rows > LONGEST:
            raise BadFormulaError(f"lags of lags must reach back at most {LONGEST:,} rows in all, found {rows:,}; shorten them")
        return self._step("lag", a, number=rows, unit=step.unit, warm_up=rows, sign=step.sign)

    def ema(self, a: int, span: int) -> int:
        """Return the exponential mean y ← y + α·(a − y) with α = 2/(span + 1); the first y is the first a of the segment."""
        step = self.steps[a]
        if step.op == "number" or self._rows(span, least=1) == 1:
            return a
        return self._step("ema", a, number=2 / (self._rows(span, least=1) + 1), unit=step.unit, sign=step.sign)

    def _rows(self, step: int, *, least: int) -> int:
        value = self._value(step)
        if value is None or not value.is_integer() or not least <= value <= LONGEST:
            raise BadFormulaError(f"a number of rows must be a whole number from {least} to {LONGEST:,}, written out; correct it")
        return int(value)

    # Windows

    def sum(self, a: int, rows: int) -> int:
        """Return the sum of a over the last `rows` candles."""
        return self._gathered(a, rows, self.add)

    def mean(self, a: int, rows: int) -> int:
        """Return the mean of a over the last `rows` candles."""
        return self.divide(self.sum(a, rows), rows)

    def highest(self, a: int, rows: int) -> int:
        """Return the largest a of the last `rows` candles."""
        return self._gathered(a, rows, self.maximum)

    def lowest(self, a: int, rows: int) -> int:
        """Return the smallest a of the last `rows` candles."""
        return self._gathered(a, rows, self.minimum)

    def std(self, a: int, rows: int) -> int:
        """Return the standard deviation of a over the last `rows` candles, with rows − 1 in the denominator.

        Pieces are joined by the pairwise update of Chan, Golub & LeVeque (The American Statistician 37, 1983, equation 2.1),
        as exact as two passes: with δ the difference of the means, M = M₁ + M₂ + δ²·n·m/(n + m).
        """

        def join(old: tuple[int, ...], new: tuple[int, ...], n: int, m: int) -> tuple[int, ...]:
            delta = self.subtract(new[0], old[0])
            mean = self.add(old[0], self.multiply(delta, self.number(m / (n + m))))
            between = self.multiply(self.multiply(delta, delta), self.number(n * m / (n + m)))
            return mean, self.add(self.add(old[1], new[1]), between)

        _, squares = self._window((a, self.number(0)), self._rows(rows, least=2), join)
        return self.sqrt(self.divide(squares, self.subtract(rows, self.number(1))))

    def _gathered(self, a: int, rows: int, join: Callable[[int, int], int]) -> int:
        """Return what `join` makes of the last `rows` rows of one series."""
        return self._window((a,), self._rows(rows, least=1), lambda old, new, _n, _m: (join(old[0], new[0]),))[0]

    def _window(
        self,
        leaf: tuple[int, ...],
        rows: int,
        join: Callable[[tuple[int, ...], tuple[int, ...], int, int], tuple[int, ...]],
    ) -> tuple[int, ...]:
        """Return the summary of the last `rows` rows: pieces whose sizes are powers of two, the smallest the oldest."""

        def ago(piece: tuple[int, ...], by: int) -> tuple[int, ...]:
            return tuple(self._lag(step, by) for step in piece)

        whole: tuple[int, ...] = ()
        piece, size, have = leaf, 1, 0
        while True:
            if rows & size:
                part = ago(piece, rows - have - size)
                whole = join(whole, part, have, size) if have else part
                have += size
            if have == rows:
                return whole
            piece = join(ago(piece, size), piece, size, size)
            size *= 2
