"""The journal: every signal once, what became of it, and what people have to be told.

SQLite (a file; several processes may use it on one machine) or PostgreSQL. Every call is one transaction, or, inside `batch`,
part of one: a signal, its message and its fills are kept together or not at all, and 500 markets cost one transaction a minute.
A signal is known by model, market and candle: whoever writes it a second time, now, after a crash, or from another process, is
told that it is not new. What is kept outlives the end of the process, however that comes, and a loss of power.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sqlalchemy import RowMapping, Select, Table, func, or_, select, update

from crpbot.dataset.labels import UNLABELLED
from crpbot.errors import JournalError
from crpbot.live import tables
from crpbot.live.address import read_address
from crpbot.live.events import Events
from crpbot.live.migrate import is_current, migrate
from crpbot.live.outbox import Outbox
from crpbot.live.outcome import Outcome
from crpbot.live.paper import Paper
from crpbot.live.patience import Patience
from crpbot.live.records import OPEN, CheckRecord, SignalRecord, is_check
from crpbot.live.store import Store
from crpbot.live.tally import Tally, among_open, oldest_open
from crpbot.market.candles import MINUTE, utc
from crpbot.quality.trust import Predictions

if TYPE_CHECKING:
    from crpbot.signals.signal import Signal

ONCE = ("model_sha256", "symbol", "candle")
SPOKEN = ("signal", "expired")


def open_journal(address: str | Path, patience: Patience | None = None) -> "Journal":
    """Open a journal; a new one is made, and one of an earlier crpbot is brought up to date.

    Args:
        address: a file of SQLite, `sqlite:///FILE`, or `postgresql://USER:PASSWORD@HOST:PORT/NAME`.
        patience: with it; that of the runtime by default.

    Raises:
        JournalError: it cannot be reached, is not a journal, or is one of a later crpbot; nothing of it was changed then.

    """
    where = read_address(address)
    if where.file:
        try:
            where.file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise JournalError(f"the folder of the journal {where.shown} must be there, found: {error}; make it") from None
    store = Store(where, patience)
    try:
        with store.reading() as connection:
            current = is_current(connection)
        if not current:
            with store.writing() as connection:
                if not is_current(connection):  # another one may have been faster
                    migrate(connection)
        store.keep_a_log()
    except BaseException:
        store.close()
        raise
    return Journal(store)


@dataclass(frozen=True, eq=False)
class Journal:
    """An open journal. Threads may share it.

    Attributes:
        store: where it is kept.

    """

    store: Store

    @cached_property
    def outbox(self) -> Outbox:
        """Messages to people."""
        return Outbox(self.store)

    @cached_property
    def paper(self) -> Paper:
        """Paper trading."""
        return Paper(self.store)

    @cached_property
    def tally(self) -> Tally:
        """How often confidence came true."""
        return Tally(self.store)

    @cached_property
    def events(self) -> Events:
        """What happened to the runtime."""
        return Events(self.store)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Keep everything that this thread writes inside, or nothing of it. Other writers wait meanwhile: be quick.

        Raises:
            JournalError: a write inside failed, even where that error was caught there.

        """
        with self.store.writing():
            yield

    def add_signal(self, signal: "Signal", *, candle: int, horizon: int, recorded: int) -> bool:
        """Keep a signal, and return whether it is new.

        Args:
            signal: that was spoken, in time or too late.
            candle: open time of its candle, in milliseconds of UTC.
            horizon: of the model's label, in candles.
            recorded: now, in milliseconds of UTC.

        Raises:
            JournalError: it is not a spoken signal of that candle, or the database did not do it.

        """
        if signal.status not in SPOKEN or signal.probabilities is None or signal.confidence is None or signal.plan is None:
            raise JournalError(f"a journal must hold what was spoken, found {signal.status!r}; a check holds the rest")
        if signal.candle != utc(candle):
            raise JournalError(
                f"a signal must be kept under its own candle, found {utc(candle)} for {signal.candle}; pass that one"
            )
        values = {
            **_said(signal.model_sha256, signal.symbol, candle, horizon, signal.probabilities, recorded),
            "confidence": float(signal.confidence),
            "stage": signal.stage,
            "status": signal.status,
            "side": signal.side,
            "ledger_head": signal.ledger_head,
            "override": signal.override,
            "json": json.dumps(signal.to_dict(), allow_nan=False),
        }
        return self.store.add(tables.signals, values, once=ONCE)

    def add_check(
        self,
        *,
        model: str,
        symbol: str,
        candle: int,
        horizon: int,
        probabilities: tuple[float, float, float],
        recorded: int,
    ) -> bool:
        """Keep what a model says of an horizon-th candle (`is_check`), spoken or not, and return whether it is new.

        Args:
            model: digest of the checkpoint.
            symbol: of the market.
            candle: open time of the candle, in milliseconds of UTC.
            horizon: of the model's label, in candles.
            probabilities: of DOWN, NEUTRAL and UP.
            recorded: now, in milliseconds of UTC.

        Raises:
            JournalError: checks of this candle would overlap with others, or the database did not do it.

        """
        if not is_check(candle, horizon):
            raise JournalError(f"a check must be of every {horizon}-th minute, found {utc(candle)}; ask is_check first")
        top = int(np.argmax(probabilities))
        values = _said(model, symbol, candle, horizon, probabilities, recorded)
        return self.store.add(tables.checks, {**values, "confidence": float(probabilities[top]), "top": top}, once=ONCE)

    def open_signals(self, symbol: str | None = None, model: str | None = None) -> tuple[SignalRecord, ...]:
        """Return the signals of which it is not known yet what became of them, oldest first; of all markets by default.

        One call for all markets is cheaper than one for each.
        """
        return tuple(map(_signal, self._rows(_oldest_first(_open(tables.signals, symbol, model), tables.signals))))

    def open_checks(self, symbol: str | None = None, model: str | None = None) -> tuple[CheckRecord, ...]:
        """Return the checks without an answer, oldest first; of all markets by default."""
        return tuple(map(_check, self._rows(_oldest_first(_open(tables.checks, symbol, model), tables.checks))))

    def settle_signal(self, signal: int, outcome: Outcome, *, now: int) -> bool:
        """Write down what became of a signal, and return whether that was new: the first answer stands.

        Args:
            signal: its id.
            outcome: what became of it.
            now: milliseconds of UTC.

        """
        return self._settle(tables.signals, signal, {**asdict(outcome), "settled": now})

    def settle_check(self, check: int, label: int, *, now: int) -> bool:
        """Write down what came after a check, and return whether that was new: the first answer stands.

        Args:
            check: its id.
            label: DOWN, NEUTRAL, UP, or `UNLABELLED` where a gap hides it for ever.
            now: milliseconds of UTC.

        """
        came = None if label == UNLABELLED else int(label)
        hit = None if came is None else tables.checks.c.top == came
        return self._settle(tables.checks, check, {"label": came, "hit": hit, "settled": now})

    def signals(
        self,
        symbol: str | None = None,
        model: str | None = None,
        *,
        since: int | None = None,
        before: tuple[int, int] | None = None,
        stage: str | None = None,
        outcome: str | None = None,
        limit: int = 100,
    ) -> tuple[SignalRecord, ...]:
        """Return signals, newest first.

        Args:
            symbol: of one market only.
            model: of one model only, by its digest.
            since: of candles that opened then or later, in milliseconds of UTC.
            before: only those that come after the signal with this candle and id in that order: the last one of the page before.
            stage: of one stage only.
            outcome: one of `OUTCOMES` only, or `open`.
            limit: at most so many.

        """
        table = tables.signals
        wanted = _open(table, symbol, model) if outcome == OPEN else _of(table, select(table), symbol, model)
        if since is not None:
            wanted = wanted.where(table.c.candle >= since)
        wanted = _before(wanted, table, before)
        if stage is not None:
            wanted = wanted.where(table.c.stage == stage)
        if outcome not in {None, OPEN}:
            wanted = wanted.where(table.c.outcome == outcome)
        return tuple(map(_signal, self._rows(_newest_first(wanted, table).limit(limit))))

    def reach(
        self, symbol: str | None = None, model: str | None = None, *, before: tuple[int, int] | None = None, signals: int
    ) -> int | None:
        """Return the candle that so many signals lead back to, newest first; None where there are not so many.

        Whoever looks for what is seldom, by stage or outcome, looks no farther at once: no index knows them.
        """
        table = tables.signals
        wanted = _before(_of(table, select(table.c.candle), symbol, model), table, before)
        found = self._rows(_newest_first(wanted, table).offset(signals).limit(1))
        return found[0]["candle"] if found else None

    def signal(self, number: int) -> SignalRecord | None:
        """Return the signal with that id; None where there is none."""
        found = self._rows(select(tables.signals).where(tables.signals.c.id == number))
        return _signal(found[0]) if found else None

    def heads(self) -> frozenset[str]:
        """Return every ledger head that a signal was ever said under; all of them must still be in the ledger."""
        head = tables.signals.c.ledger_head
        # From each head straight to the next one in the index, instead of over all signals.
        found = select(func.min(head).label("head")).where(head > "").cte("found", recursive=True)
        after = select(func.min(head)).where(head > found.c.head).scalar_subquery()
        found = found.union_all(select(after).where(found.c.head.is_not(None)))
        return frozenset(row["head"] for row in self._rows(select(found.c.head).where(found.c.head.is_not(None))))

    def predictions(
        self, model: str, symbol: str, *, of: Literal["checks", "signals"] = "checks", since: int | None = None
    ) -> Predictions:
        """Return what a model said and what came true, oldest first: what `quality.trust` asks for.

        Whatever is younger than the oldest that is still open is left out. A signal is settled when its trade is over, and some
        trades are over sooner because they went well: the quick ones alone would not be a fair sample.

        Args:
            model: digest of the checkpoint.
            symbol: of the market.
            of: checks, which do not overlap, or signals.
            since: of candles that opened then or later, in milliseconds of UTC.

        """
        table = tables.checks if of == "checks" else tables.signals
        columns = (table.c.candle, table.c.horizon, table.c.confidence, table.c.hit)
        wanted = _of(table, select(*columns), symbol, model, since).where(table.c.hit.is_not(None)).order_by(table.c.candle)
        with self.store.reading() as connection:
            until = connection.execute(oldest_open(table, symbol, model, since=since)).scalar_one()
            rows = connection.execute(wanted if until is None else wanted.where(table.c.candle < until)).all()
        candle, horizon, confidence, hit = zip(*rows, strict=True) if rows else ((), (), (), ())
        opened = np.array(candle, np.int64)
        return Predictions(
            candle=opened,
            known=opened + (1 + np.array(horizon, np.int64)) * MINUTE,
            confidence=np.array(confidence, np.float64),
            hit=np.array(hit, np.bool_),
        )

    def close(self) -> None:
        """Close the connections."""
        self.store.close()

    def _rows(self, wanted: Select[Any]) -> list[RowMapping]:
        with self.store.reading() as connection:
            return list(connection.execute(wanted).mappings())

    def _settle(self, table: Table, row: int, values: dict[str, Any]) -> bool:
        with self.store.writing() as connection:
            done = connection.execute(update(table).where(table.c.id == row, table.c.settled.is_(None)).values(values))
            return done.rowcount == 1


def _said(
    model: str, symbol: str, candle: int, horizon: int, probabilities: tuple[float, float, float], recorded: int
) -> dict[str, Any]:
    down, neutral, up = map(float, probabilities)
    return {
        "model_sha256": model,
        "symbol": symbol,
        "candle": int(candle),  # a number of numpy is no number to SQLite
        "horizon": int(horizon),
        "p_down": down,
        "p_neutral": neutral,
        "p_up": up,
        "recorded": int(recorded),
    }


def _of(table: Table, wanted: Select[Any], symbol: str | None, model: str | None, since: int | None = None) -> Select[Any]:
    for column, value in ((table.c.symbol, symbol), (table.c.model_sha256, model)):
        wanted = wanted if value is None else wanted.where(column == value)
    return wanted if since is None else wanted.where(table.c.candle >= since)


def _open(table: Table, symbol: str | None, model: str | None) -> Select[Any]:
    wanted = select(table).where(table.c.settled.is_(None))
    for column, value in ((table.c.symbol, symbol), (table.c.model_sha256, model)):
        wanted = wanted if value is None else wanted.where(among_open(column, value))
    return wanted


def _before(wanted: Select[Any], table: Table, place: tuple[int, int] | None) -> Select[Any]:
    if place is None:
        return wanted
    candle, last = place  # not an "or" of two ranges: an index has one
    return wanted.where(table.c.candle <= candle, or_(table.c.candle < candle, table.c.id < last))


def _newest_first(wanted: Select[Any], table: Table) -> Select[Any]:
    return wanted.order_by(table.c.candle.desc(), table.c.id.desc())


def _oldest_first(wanted: Select[Any], table: Table) -> Select[Any]:
    return wanted.order_by(table.c.candle, table.c.id)


def _signal(row: RowMapping) -> SignalRecord:
    outcome = None if row["settled"] is None else Outcome(**{name: row[name] for name in Outcome.__dataclass_fields__})
    plain = {name: row[name] for name in SignalRecord.__dataclass_fields__ if name not in {"probabilities", "outcome"}}
    return SignalRecord(**plain, probabilities=_probabilities(row), outcome=outcome)


def _check(row: RowMapping) -> CheckRecord:
    plain = {name: row[name] for name in CheckRecord.__dataclass_fields__ if name != "probabilities"}
    return CheckRecord(**plain, probabilities=_probabilities(row))


def _probabilities(row: RowMapping) -> tuple[float, float, float]:
    return row["p_down"], row["p_neutral"], row["p_up"]
