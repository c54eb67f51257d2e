"""What was measured: rows that can be written, read again and shown, and the words of a verdict. No clock, no disk."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

FORMAT = "crpbot.benchmarks/1"

Better = Literal["less", "more", "same"]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What one contender reached.

    Attributes:
        values: one for each round, in the unit of the row; empty where it failed.
        note: what else is to be said of it, as how many of its columns differ from ours.
        failed: why there are no values; empty where there are.

    """

    values: tuple[float, ...] = ()
    note: str = ""
    failed: str = ""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What was promised.

    Attributes:
        text: as the design says it.
        limit: of our value in the unit of the row; or of the ratio to a contender.
        against: the contender; empty where the value itself counts.

    """

    text: str
    limit: float
    against: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One piece of work, done by us and by others in the same run.

    Attributes:
        work: what is done.
        unit: of the values: `s`, `µs`, `MiB`, `rows/s`.
        what: is measured; empty where the unit says it.
        better: `less`, `more`, or `same` where a difference would mean that not the same was done.
        ours: what crpbot reached.
        others: what the contenders reached, by name.
        budget: that was promised; None where nothing was.
        why: the reason, told where a contender is ahead or a budget is missed.
        data: name and digest of what it was done on; empty where there is nothing to name.

    """

    work: str
    unit: str
    what: str = ""
    better: Better = "less"
    ours: Figure
    others: Mapping[str, Figure] = field(default_factory=dict)
    budget: Budget | None = None
    why: str = ""
    data: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain types, with what follows from the values: the best, the spread, the ratios, and the verdict."""
        return {
            **asdict(self),
            "best": self.best(self.ours),
            "spread": spread(self.ours),
            "ratio": self.ratios(),
            "met": self.met,
        }

    @staticmethod
    def of(plain: Mapping[str, Any]) -> "Row":
        """Return the row that `to_dict` wrote; what follows from the values is worked out again."""
        given = {name: value for name, value in plain.items() if name not in {"best", "spread", "ratio", "met"}}
        budget = given["budget"] and Budget(**given["budget"])
        return Row(
            **{
                **given,
                "ours": figure_of(given["ours"]),
                "others": {name: figure_of(one) for name, one in given["others"].items()},
                "budget": budget,
            }
        )

    def best(self, figure: Figure) -> float:
        """Return the best of the rounds; NaN where there is none."""
        return (max if self.better == "more" else min)(figure.values, default=math.nan)

    def ratios(self) -> dict[str, float]:
        """Return how many times as good as each contender ours is: above 1 is ahead; NaN where one of the two failed."""
        mine = self.best(self.ours)
        ratio = (lambda theirs: mine / theirs) if self.better == "more" else (lambda theirs: theirs / mine)
        return {name: ratio(self.best(one)) if mine and self.best(one) else math.nan for name, one in self.others.items()}

    @property
    def met(self) -> bool | None:
        """Whether the budget is kept; None without one, and False where nothing was measured."""
        if self.budget is None:
            return None
        if self.budget.against:
            return self.ratios().get(self.budget.against, math.nan) >= self.budget.limit
        value = self.best(self.ours)
        return value >= self.budget.limit if self.better == "more" else value <= self.budget.limit

    @property
    def behind(self) -> list[str]:
        """Contenders that are ahead of ours; a hundredth is nothing."""
        return [] if self.better == "same" else [name for name, ratio in self.ratios().items() if ratio < 0.99]

    @property
    def failures(self) -> list[str]:
        """Who failed, and why."""
        every = {"crpbot": self.ours, **self.others}
        return [f"{name}: {figure.failed}" for name, figure in every.items() if figure.failed]


@dataclass(frozen=True, kw_only=True)
class Growth:
    """What one work costs at one size.

    Attributes:
        work: what is done.
        rows: of candles, or of a block to train on.
        seconds, mib: of the fastest round, and the memory that it took over what was there before; NaN where it was left out.
        left: why it was left out; empty where it was not.
        failed: why it failed; empty where it did not.

    """

    work: str
    rows: int
    seconds: float = math.nan
    mib: float = math.nan
    left: str = ""
    failed: str = ""

    @property
    def micros(self) -> float:
        """Microseconds a row."""
        return 1e6 * self.seconds / self.rows


def figure_of(plain: Mapping[str, Any]) -> Figure:
    """Return the figure that was written."""
    return Figure(values=tuple(plain["values"]), note=plain["note"], failed=plain["failed"])


def spread(figure: Figure) -> float:
    """Return how much the rounds differ: largest over smallest, less 1; NaN with fewer than two."""
    if len(figure.values) < 2 or min(figure.values) <= 0:
        return math.nan
    return max(figure.values) / min(figure.values) - 1


def groups_of(results: Mapping[str, Any]) -> dict[str, tuple[list[Row], list[Growth]]]:
    """Return what a file of results holds, by group."""
    return {
        name: (
            [Row.of(row) for row in group["rows"]],
            [Growth(**{k: math.nan if v is None else v for k, v in one.items()}) for one in group["growth"]],
        )
        for name, group in results["groups"].items()
    }


def failures_of(results: Mapping[str, Any]) -> list[str]:
    """Return everything that failed, one line each."""
    lines = [f"{name}: {group['failed']}" for name, group in results["groups"].items() if group["failed"]]
    for name, (rows, grown) in groups_of(results).items():
        lines += [f"{name}, {row.work}: {failure}" for row in rows for failure in row.failures]
        lines += [f"{name}, {one.work}, {one.rows:,} rows: {one.failed}" for one in grown if one.failed]
    return lines


def plain(value: object) -> Any:  # noqa: ANN401
    """Return a value as JSON can hold it: what is not finite is null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(one) for one in value]
    return value
