"""What becomes of what was said: signals and checks are followed to their end; on paper, one trade at a time is made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from crpbot.dataset.labels import UNLABELLED
from crpbot.live.desk import Desk, Model
from crpbot.live.journal import Journal
from crpbot.live.outcome import Outcome, Terms, label_at, settle
from crpbot.live.records import CheckRecord, Fill, SignalRecord
from crpbot.market.candles import MINUTE, Candles
from crpbot.signals.follow import BASIS_POINTS, CUT, OUTCOMES, STOPPED, TIMED, Costs

LOST = "lost from sight"
"""What became of a signal whose candles nobody saw: the process was away for too long, or its model is gone."""
_FORGOTTEN = 24 * 60 * MINUTE
"""After that, what nobody can follow any more is lost from sight."""
_LOOKS_BACK = 20 * MINUTE
"""Of a label, before its candle: the average true range that its exits may count in."""
_AT_ONCE = {OUTCOMES[one] for one in (STOPPED, TIMED, CUT)}


class FollowUp:
    """Everything of one market whose end is not known yet.

    Args:
        journal: where it is kept.
        symbol: of the market.
        paper: whether paper trades are made of the signals.

    """

    def __init__(self, journal: Journal, symbol: str, *, paper: bool) -> None:
        self._journal, self._symbol, self._paper = journal, symbol, paper
        self._terms: dict[str, Terms] = {}
        self._free: dict[str, int] = {}
        self._signals: tuple[SignalRecord, ...] = ()
        self._checks: tuple[CheckRecord, ...] = ()
        self._over: tuple[set[int], set[int]] = set(), set()
        self._traded: dict[str, int] = {}

    def serve(self, models: Sequence[Model]) -> None:
        """Know the terms of these models, too; what an earlier one has said is followed all the same."""
        self._terms |= {model.entry.sha256: model.terms for model in models}

    def refresh(self) -> None:
        """Read what is open in the journal."""
        self._signals, self._checks = self._journal.open_signals(self._symbol), self._journal.open_checks(self._symbol)

    @property
    def oldest(self) -> int | None:
        """Open time of the first candle that something open looks at, in milliseconds of UTC; None where nothing is open."""
        candles = [one.candle for one in self._signals] + [one.candle for one in self._checks]
        return min(candles) - _LOOKS_BACK if candles else None

    def due(self, desk: Desk) -> bool:
        """Return whether something may be certain by now."""
        newest = desk.newest
        return newest is not None and (
            any(_is_due(one, newest) for one in self._signals) or any(_is_due(one, newest) for one in self._checks)
        )

    def settle(self, desk: Desk, *, now: int) -> int:
        """Write down what is certain by now, and return how much is; it counts once `done` says that it was kept.

        Raises:
            JournalError: it could not be written; it is asked again.

        """
        newest = desk.newest
        if newest is None:
            return 0
        signals = [one for one in self._signals if _is_due(one, newest)]
        checks = [one for one in self._checks if _is_due(one, newest)]
        first = min([one.candle for one in signals] + [one.candle for one in checks], default=newest)
        candles = desk.kept(since=first - _LOOKS_BACK)
        over = {one.id for one in signals if self._settle_signal(one, candles, now)}
        known = {one.id for one in checks if self._settle_check(one, candles, now)}
        self._over, self._traded = (over, known), dict(self._free)
        if over and self._paper:
            for sha256, terms in self._terms.items():
                self._trade(sha256, terms)
        return len(over) + len(known)

    def done(self) -> None:
        """Know that what `settle` wrote last was kept."""
        over, known = self._over
        self._signals = tuple(one for one in self._signals if one.id not in over)
        self._checks = tuple(one for one in self._checks if one.id not in known)
        self._free |= self._traded
        self._over, self._traded = (set(), set()), {}

    def _settle_signal(self, one: SignalRecord, candles: Candles, now: int) -> bool:
        terms, outcome = self._terms.get(one.model_sha256), None
        if terms is not None and _sees(candles, one.candle):
            outcome = settle(one.plan, candles, candle=one.candle, terms=terms)
        elif int(candles.time[-1]) - one.candle > _FORGOTTEN:
            outcome = Outcome(label=None, hit=None, outcome=LOST)
        return outcome is not None and (self._journal.settle_signal(one.id, outcome, now=now) or True)

    def _settle_check(self, one: CheckRecord, candles: Candles, now: int) -> bool:
        terms, label = self._terms.get(one.model_sha256), None
        if terms is not None and _sees(candles, one.candle):
            gap = terms.max_gap_minutes
            label = label_at(candles, candle=one.candle, rule=terms.rule, theta=terms.theta, max_gap_minutes=gap)
        elif int(candles.time[-1]) - one.candle > _FORGOTTEN:
            label = UNLABELLED
        return label is not None and (self._journal.settle_check(one.id, label, now=now) or True)

    def _trade(self, sha256: str, terms: Terms) -> None:
        """Follow settled signals of a model on paper, in order, one trade at a time: as a backtest does."""
        free = self._traded.get(sha256, 0)
        for signal in reversed(self._journal.signals(self._symbol, sha256, since=free, limit=10_000)):
            outcome = signal.outcome
            if outcome is None:
                break  # whether the next one may be followed depends on it
            if signal.candle >= free and signal.status == "signal":  # nobody could follow one that was found too late
                free = outcome.exit_time or signal.candle + terms.timing.expiry * MINUTE
                for fill in fills_of(signal, outcome, terms.costs):
                    self._journal.paper.fill(fill)
        self._traded[sha256] = free

    def state(self) -> dict[str, int]:
        """Return from which candle on another paper trade may be made, by model."""
        return dict(self._free)

    def restore(self, state: Mapping[str, int]) -> None:
        """Go on where `state` was taken."""
        self._free = dict(state)


def _is_due(one: SignalRecord | CheckRecord, newest: int) -> bool:
    return newest >= one.candle + one.horizon * MINUTE


def _sees(candles: Candles, candle: int) -> bool:
    return bool((candles.time == candle).any())


def fills_of(signal: SignalRecord, outcome: Outcome, costs: Costs) -> tuple[Fill, ...]:
    """Return the fills that a signal would have had, after slippage and with fees; none where its entry was never reached."""
    if outcome.entry is None or outcome.exit is None or outcome.entry_time is None or outcome.exit_time is None:
        return ()
    plan, way = signal.plan, 1 if signal.plan.side == "LONG" else -1
    paid = costs.fill(outcome.entry, way, at_once=plan.order_type in {"BUY STOP", "SELL STOP"})
    got = costs.fill(outcome.exit, -way, at_once=outcome.outcome in _AT_ONCE)
    fee = plan.size * costs.fee_bp / BASIS_POINTS
    entry = Fill(signal=signal.id, kind="entry", time=outcome.entry_time, price=paid, size=plan.size, fee=fee * paid)
    return entry, replace(entry, kind="exit", time=outcome.exit_time, price=got, fee=fee * got)
