"""How the runtime is: a file for health checks, a line for people, and metrics for Prometheus."""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from crpbot.disk import read_regular, write_whole

FORMAT = "crpbot.health/1"
MOST_BYTES = 2**20
"""Of a sign of life."""
TOO_OLD = 180.0
"""Seconds without a sign of life after which the runtime is taken for dead."""
STALE = 180.0
"""Seconds after its close from which on the newest candle of a market is stale: one was missed, and the next one is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketHealth:
    """How one market is.

    Attributes:
        candle: open time of its newest candle, in milliseconds of UTC; None before the first.
        age: seconds since that candle closed; None likewise.
        models: stage and first characters of the digest of each model that speaks.
        problem: what is wrong; empty where nothing is.
        expires: seconds until each model may not be live any more, by stage.

    """

    candle: int | None
    age: float | None
    models: tuple[str, ...]
    problem: str
    expires: Mapping[str, float]


def refused(problem: str) -> MarketHealth:
    """Return how a market is of which nobody may speak."""
    return MarketHealth(candle=None, age=None, models=(), problem=problem, expires={})


@dataclass(slots=True)
class Counts:
    """What has happened since the start."""

    candles: int = 0
    signals: int = 0
    checks: int = 0
    settled: int = 0
    gaps: int = 0
    late: int = 0
    errors: int = 0
    unwritten: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How the runtime is.

    Attributes:
        time: of its clock, in milliseconds of UTC.
        markets: by symbol.
        problems: of the whole.
        counts: since the start.
        skew: seconds by which the venue's clock is ahead of ours; None where it has not told.
        over: of a recording, that it is over; empty while it goes on. Nothing is wrong with that.

    """

    time: int
    markets: Mapping[str, MarketHealth]
    problems: tuple[str, ...] = ()
    counts: Counts = field(default_factory=Counts)
    skew: float | None = None
    over: str = ""

    @property
    def well(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems and not any(market.problem for market in self.markets.values())

    def __str__(self) -> str:
        ages = [market.age for market in self.markets.values() if market.age is not None]
        ill = [f"{symbol}: {market.problem}" for symbol, market in self.markets.items() if market.problem]
        c = self.counts
        oldest = f", newest candles up to {max(ages):.0f} s old" if ages else ""
        head = (
            f"{'well' if self.well else 'ILL'}: {len(self.markets)} markets{oldest}; {c.candles:,} candles, {c.signals:,} signals"
        )
        tail = f", {c.gaps} gaps, {c.late} late, {c.errors} errors of the venue" if c.gaps or c.late or c.errors else ""
        return "; ".join([head + tail, *self.problems, *ill[:3], *([f"and {len(ill) - 3} more"] if len(ill) > 3 else [])])


def write_health(health: Health, path: Path) -> None:
    """Write a sign of life, by the machine's own clock."""
    plain: dict[str, Any] = {"format": FORMAT, "written": time.time(), "pid": os.getpid(), "well": health.well, **asdict(health)}
    write_whole(path, json.dumps(plain), lasting=False)


def read_health(path: Path) -> tuple[bool, str]:
    """Return whether the runtime that writes `path` is well, and why not."""
    try:
        plain = json.loads(read_regular(path, most=MOST_BYTES))
        age, well = time.time() - float(plain["written"]), plain["well"] is True
        told = [
            *filter(None, [plain.get("over")]),
            *plain["problems"],
            *(f"{one}: {market['problem']}" for one, market in plain["markets"].items() if market["problem"]),
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return False, f"no sign of life in {path}: {error}"
    if not -TOO_OLD <= age <= TOO_OLD:
        return False, f"the last sign of life is {age:.0f} s old"
    return well, f"alive {max(age, 0.0):.0f} s ago" + "".join(f"; {one}" for one in told[:5])


class Meters:
    """Metrics of the runtime, as Prometheus reads them."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector  # noqa: PLC0415  an extra

        self.registry = CollectorRegistry()
        of, here = ["symbol"], self.registry
        ProcessCollector(registry=here)
        self._age = Gauge("crpbot_candle_age_seconds", "Since the newest candle of a market closed.", of, registry=here)
        self._problem = Gauge("crpbot_market_problem", "Whether something is wrong with a market.", of, registry=here)
        self._well = Gauge("crpbot_well", "Whether nothing is wrong.", registry=here)
        self._skew = Gauge("crpbot_clock_skew_seconds", "By which the venue's clock is ahead of ours.", registry=here)
        self._expires = Gauge("crpbot_model_expires_seconds", "Until a model expires.", ["symbol", "stage"], registry=here)
        self._trust = Gauge(
            "crpbot_trust_evidence", "Against the confidence of a model.", ["symbol", "stage", "of"], registry=here
        )
        self.delay = Histogram(
            "crpbot_signal_delay_seconds",
            "From the close of a candle to its written signal.",
            buckets=(0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 600),
            registry=here,
        )
        self._counts = {
            name: Counter(f"crpbot_{name}", text, registry=here)
            for name, text in {
                "candles": "Closed candles that were taken.",
                "signals": "Signals that were written down.",
                "checks": "Predictions that were kept to be checked.",
                "settled": "Signals and checks whose end is known.",
                "gaps": "Runs of minutes that the venue does not have.",
                "late": "Candles that were found long after their close.",
                "errors": "Answers of the venue that were none.",
            }.items()
        }
        self._told: Counts = Counts()

    def show(self, health: Health, trust: Mapping[tuple[str, str, str], float]) -> None:
        """Show how the runtime is, and the evidence against the confidence of each model, by symbol, stage and what it is of."""
        self._well.set(health.well)
        self._skew.set(float("nan") if health.skew is None else health.skew)
        for symbol, market in health.markets.items():
            self._age.labels(symbol).set(float("nan") if market.age is None else market.age)
            self._problem.labels(symbol).set(bool(market.problem))
        expires = {(symbol, stage): left for symbol, one in health.markets.items() for stage, left in one.expires.items()}
        self._expires.clear()
        for (symbol, stage), left in expires.items():
            self._expires.labels(symbol, stage).set(left)
        self._trust.clear()
        for names, evidence in trust.items():
            self._trust.labels(*names).set(evidence)
        for name, counter in self._counts.items():
            counter.inc(getattr(health.counts, name) - getattr(self._told, name))
            setattr(self._told, name, getattr(health.counts, name))
