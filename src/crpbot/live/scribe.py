"""Writes down what was said, before anybody hears it."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from crpbot.live.desk import Said
from crpbot.live.guard import Tell
from crpbot.live.health import Counts
from crpbot.live.journal import Journal
from crpbot.live.records import is_check
from crpbot.market.candles import MINUTE
from crpbot.signals.signal import Signal
from crpbot.signals.text import telegram

LATE = 90_000
"""Milliseconds after the close from which on a signal is too old to be followed: the market has moved on."""


class Scribe:
    """Puts signals and checks into the journal, all of a turn in one transaction, with the messages about them.

    What cannot be written, because the database is away, is kept and tried again with what comes next.

    Args:
        journal: to write to.
        tell: people; into the same transaction.
        counts: to keep.
        heard: is told every signal that was written down for the first time, and milliseconds since its candle closed.

    """

    def __init__(self, journal: Journal, tell: Tell, counts: Counts, heard: Callable[[Signal, int], object]) -> None:
        self._journal, self._tell, self._counts, self._heard = journal, tell, counts, heard
        self._waiting: list[Said] = []

    def waits(self, symbol: str) -> bool:
        """Return whether something of a market is not written yet."""
        return any(one.signal.symbol == symbol for one in self._waiting)

    def write(self, said: Sequence[Said], *, now: int) -> set[str] | None:
        """Write down what was said, and what is left from before; return the symbols of which something was written.

        None where there was nothing to write.

        Raises:
            JournalError: nothing could be written; it is kept.

        """
        self._waiting += [one for one in said if one.signal.plan is not None or _is_checked(one)]
        self._counts.unwritten = len(self._waiting)
        if not self._waiting:
            return None
        with self._journal.batch():
            new = [kept for one in self._waiting if (kept := self._keep(one, now)) is not None]
        written, self._waiting = {one.signal.symbol for one in self._waiting}, []
        self._counts.unwritten = 0
        self._counts.signals += len(new)
        for signal, candle in new:
            self._heard(signal, now - candle - MINUTE)
        return written

    def _keep(self, one: Said, now: int) -> tuple[Signal, int] | None:
        """Keep what one model said of one candle; return a signal that was not known, and its candle."""
        signal, horizon, sha256 = one.signal, one.model.terms.rule.horizon, one.model.entry.sha256
        if signal.probabilities is not None and _is_checked(one):
            self._counts.checks += self._journal.add_check(
                model=sha256,
                symbol=signal.symbol,
                candle=one.candle,
                horizon=horizon,
                probabilities=signal.probabilities,
                recorded=now,
            )
        if signal.plan is None:
            return None
        age = now - (one.candle + MINUTE)
        if signal.status == "signal" and age > LATE:
            signal = replace(signal, status="expired", reason=f"it was found {age // 1_000:,} s after its candle had closed")
        if not self._journal.add_signal(signal, candle=one.candle, horizon=horizon, recorded=now):
            return None
        if signal.stage == "live" and signal.status == "signal":
            until = one.candle + MINUTE + one.model.speech.preset.expiry_minutes * MINUTE
            key = f"signal:{sha256}:{signal.symbol}:{one.candle}"
            self._tell(key, f"{signal.side} {signal.symbol}", telegram(signal), until=until)
        return signal, one.candle


def _is_checked(one: Said) -> bool:
    return one.signal.probabilities is not None and is_check(one.candle, one.model.terms.rule.horizon)
