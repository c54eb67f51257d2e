"""How often confidence came true, counted by the database: few rows leave it, however many it holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from sqlalchemy import Column, ColumnElement, Integer, Row, Select, Table, case, cast, func, select
from sqlalchemy.sql.selectable import CTE

from crpbot.live.store import Store
from crpbot.live.tables import checks, signals
from crpbot.market.candles import MINUTE

EDGES = tuple(step / 20 for step in range(6, 21))
"""Of the bins: five points each, from 0.30 on, since the most probable of three classes has at least a third."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """What was said with about the same confidence, and how often it came true.

    Attributes:
        low, high: of the confidence, 0 to 1; the last bin has its upper edge, too.
        n: predictions whose labels do not overlap.
        said: their mean confidence.
        true: how many came true.

    """

    low: float
    high: float
    n: int
    said: float
    true: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bins:
    """What a model said, by confidence.

    Attributes:
        counted: those that do not overlap, least confident first; bins without any are left out.
        given: how many are known, with those that overlap.
        last: open time of the candle of the last one that counts, in milliseconds of UTC; None without any.
        seen: of the last one that is known, likewise.

    """

    counted: tuple[Bin, ...] = ()
    given: int = 0
    last: int | None = None
    seen: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """How sure a model ever was of a direction.

    Attributes:
        checks: how many candles that says.
        highest: the largest probability of DOWN or UP; None without a check.

    """

    checks: int
    highest: float | None


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts over what was said.

    Attributes:
        store: where it is kept.

    """

    store: Store

    def bins(self, model: str, symbol: str, *, of: Literal["checks", "signals"] = "checks", before: Bins | None = None) -> Bins:
        """Return how often what a model said came true, by confidence; no two labels overlap.

        The first counts, then always the next whose candle closes once the one before is known: those that `quality.trust.thin`
        would keep. Whatever is younger than the oldest that is still open is left out, as in `Journal.predictions`.

        Args:
            model: digest of the checkpoint, whose label has one horizon.
            symbol: of the market.
            of: checks or signals.
            before: what was returned earlier; only what has become known since is counted then.

        """
        table, before = checks if of == "checks" else signals, before or Bins()
        own = (table.c.model_sha256 == model, table.c.symbol == symbol)
        horizon = select(table.c.horizon).where(*own).order_by(table.c.candle).limit(1)
        with self.store.reading() as connection:
            minutes, until = connection.execute(horizon).scalar(), connection.execute(oldest_open(table, symbol, model)).scalar()
            if minutes is None:
                return before
            own = (*own, table.c.hit.is_not(None), *(() if until is None else (table.c.candle < until,)))
            new = own if before.seen is None else (*own, table.c.candle > before.seen)
            given, seen = connection.execute(select(func.count(), func.max(table.c.candle)).where(*new)).one()
            if not given:
                return before
            place = case(*((table.c.confidence < edge, number) for number, edge in enumerate(EDGES[1:-1])), else_=len(EDGES) - 2)
            sums = func.count(), func.sum(table.c.confidence), func.sum(cast(table.c.hit, Integer)), func.max(table.c.candle)
            wanted = select(place.label("place"), *sums).where(*new)
            if of == "signals":  # checks never overlap
                kept = _thinned(table, own, minutes * MINUTE, before.last)
                wanted = wanted.join_from(kept, table, table.c.candle == kept.c.candle)
            rows = connection.execute(wanted.group_by("place")).all()
        last = max((row[4] for row in rows), default=before.last)
        return Bins(counted=_added(before.counted, rows), given=before.given + given, last=last, seen=seen)

    def heard(self, model: str, symbol: str) -> Heard:
        """Return how sure a model ever was of a direction, by its checks."""
        surer = case((checks.c.p_up > checks.c.p_down, checks.c.p_up), else_=checks.c.p_down)
        wanted = select(func.count(), func.max(surer)).where(checks.c.model_sha256 == model, checks.c.symbol == symbol)
        with self.store.reading() as connection:
            n, highest = connection.execute(wanted).one()
        return Heard(checks=n, highest=highest)


def among_open(column: Column[Any], value: str) -> ColumnElement[bool]:
    """Return the condition that a column has a value, for a search among what is open.

    That is little, and has an index of its own; SQLite would rather read all that a model ever said.
    """
    return column + "" == value


def oldest_open(table: Table, symbol: str, model: str, *, since: int | None = None) -> Select[Any]:
    """Ask for the candle of the oldest signal or check of a model and market that is still open; NULL where none is."""
    wanted = select(func.min(table.c.candle)).where(table.c.settled.is_(None))
    wanted = wanted.where(among_open(table.c.symbol, symbol), among_open(table.c.model_sha256, model))
    return wanted if since is None else wanted.where(table.c.candle >= since)


def _thinned(table: Table, own: tuple[Any, ...], horizon: int, last: int | None) -> CTE:
    """Return the candles that count: from each straight to the next one in the index that does not overlap with it."""
    first = own if last is None else (*own, table.c.candle >= last + horizon)
    kept = select(func.min(table.c.candle).label("candle")).where(*first).cte("found", recursive=True)
    after = select(func.min(table.c.candle)).where(*own, table.c.candle >= kept.c.candle + horizon).scalar_subquery()
    return kept.union_all(select(after).where(kept.c.candle.is_not(None)))


def _added(older: tuple[Bin, ...], rows: Sequence[Row[Any]]) -> tuple[Bin, ...]:
    """Return bins with the sums of others: place, number, sum of confidences and how many came true."""
    sums = {one.low: (one.n, one.n * one.said, one.true) for one in older}
    for row in rows:
        place, n, said, true = (row[at] for at in range(4))
        known = sums.get(EDGES[place], (0, 0.0, 0))
        sums[EDGES[place]] = (known[0] + n, known[1] + said, known[2] + true)
    upper = dict(pairwise(EDGES))
    return tuple(Bin(low=low, high=upper[low], n=n, said=said / n, true=true) for low, (n, said, true) in sorted(sums.items()))
