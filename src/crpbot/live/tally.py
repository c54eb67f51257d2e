"""How often confidence came true, counted by the database: few rows leave it, however many it holds."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from sqlalchemy import Column, ColumnElement, Integer, Select, Table, case, cast, func, select
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
        given: how many are known, with those that overlap.
        counted: those that do not overlap, least confident first; bins without any are left out.

    """

    given: int
    counted: tuple[Bin, ...]


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

    def bins(self, model: str, symbol: str, *, of: Literal["checks", "signals"] = "checks") -> Bins:
        """Return how often what a model said came true, by confidence, least confident first; no two labels overlap.

        Checks never overlap. Of signals the first counts, then always the next whose candle closes once the one before is known:
        those that `quality.trust.thin` would keep. Whatever is younger than the oldest that is still open is left out, as in
        `Journal.predictions`.

        Args:
            model: digest of the checkpoint, whose label has one horizon.
            symbol: of the market.
            of: checks or signals.

        """
        table = checks if of == "checks" else signals
        own = (table.c.model_sha256 == model, table.c.symbol == symbol)
        horizon = select(table.c.horizon).where(*own).order_by(table.c.candle).limit(1)
        with self.store.reading() as connection:
            until, minutes = connection.execute(oldest_open(table, symbol, model)).scalar_one(), connection.execute(horizon).scalar()
            if minutes is None:
                return Bins(given=0, counted=())
            own = (*own, table.c.hit.is_not(None), *(() if until is None else (table.c.candle < until,)))
            place = case(*((table.c.confidence < edge, number) for number, edge in enumerate(EDGES[1:-1])), else_=len(EDGES) - 2)
            true = func.sum(cast(table.c.hit, Integer))
            wanted: Select[Any] = select(place.label("place"), func.count(), func.avg(table.c.confidence), true).where(*own)
            if of == "signals":
                kept = _thinned(table, own, minutes * MINUTE)
                wanted = wanted.join_from(kept, table, table.c.candle == kept.c.candle)
            rows = connection.execute(wanted.group_by("place").order_by("place")).all()
            given = connection.execute(select(func.count()).where(*own)).scalar_one() if of == "signals" else 0
        edges = tuple(pairwise(EDGES))
        counted = tuple(Bin(low=edges[at][0], high=edges[at][1], n=n, said=said, true=true) for at, n, said, true in rows)
        return Bins(given=given or sum(one.n for one in counted), counted=counted)

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


def _thinned(table: Table, own: tuple[Any, ...], horizon: int) -> CTE:
    """Return the candles that count: from each straight to the next one in the index that does not overlap with it."""
    kept = select(func.min(table.c.candle).label("candle")).where(*own).cte("found", recursive=True)
    after = select(func.min(table.c.candle)).where(*own, table.c.candle >= kept.c.candle + horizon).scalar_subquery()
    return kept.union_all(select(after).where(kept.c.candle.is_not(None)))
