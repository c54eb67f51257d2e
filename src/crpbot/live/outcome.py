"""What became of a signal, as soon as it is certain: the very answer that a backtest gives on the whole market, and no earlier.

`follow` and `label_moves` decide, on the candles that are there. They take the end of the candles for a gap, so an answer counts
only when whatever comes later cannot change it: what waits or is open when the candles end is not settled before the next candle
is there, or is known to be missing.
"""

from dataclasses import dataclass, replace

import numpy as np

from crpbot.dataset.features.sets import average_true_range
from crpbot.dataset.labels import DOWN, UNLABELLED, UP, LabelRule, classify, label_moves, of_stand_ins
from crpbot.errors import CandleError
from crpbot.market.candles import MINUTE, Candles, utc
from crpbot.signals.follow import CUT, NOT_FILLED, OUTCOMES, Costs, Followed, Timing, follow, run_ends
from crpbot.signals.plan import FINE, OrderPlan, Plans


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How the signals of a model are followed.

    Attributes:
        rule: of its labels.
        theta: of its labels.
        timing: how long its plans last.
        costs: of trading.
        max_gap_minutes: missing minutes that do not yet end a segment for its labels.

    """

    rule: LabelRule
    theta: float
    timing: Timing
    costs: Costs
    max_gap_minutes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a signal.

    Attributes:
        label: DOWN, NEUTRAL or UP; None where there never will be one: a gap or a stand-in is in its way.
        hit: whether the label is the side that was said; None without one.
        outcome: one of `OUTCOMES`.
        entry_time, exit_time: open times of the candles of entry and exit; None where there was no entry, like all that follows.
        entry, exit: prices before slippage.
        gross_bp: what the trade earned without fees and slippage, in basis points of the entry.
        net_bp: the same after them, in basis points of what was paid.

    """

    label: int | None
    hit: bool | None
    outcome: str
    entry_time: int | None = None
    entry: float | None = None
    exit_time: int | None = None
    exit: float | None = None
    gross_bp: float | None = None
    net_bp: float | None = None


def settle(plan: OrderPlan, candles: Candles, *, candle: int, terms: Terms, missing_until: int | None = None) -> Outcome | None:
    """Return what became of a plan, or None while that is not certain.

    Args:
        plan: of the signal.
        candles: of its market, with the signal's own and what followed; as `label_at` needs them.
        candle: open time of the signal's candle, in milliseconds of UTC.
        terms: how it is followed.
        missing_until: open time of the first minute after the newest candle that may still come, where those before it are known
            to be missing; None where nothing is known.

    Raises:
        CandleError: the signal's candle is not among `candles`.

    """
    label = label_at(
        candles,
        candle=candle,
        rule=terms.rule,
        theta=terms.theta,
        max_gap_minutes=terms.max_gap_minutes,
        missing_until=missing_until,
    )
    if label is None:
        return None
    rest = candles[_row(candles, candle) :]
    found = follow(rest, np.array([0]), _alone(plan), terms.timing)
    if not _is_final(found, rest, terms.timing, missing_until):
        return None
    came = None if label == UNLABELLED else label
    hit = None if came is None else came == (UP if plan.side == "LONG" else DOWN)
    outcome = OUTCOMES[found.outcome[0]]
    if not found.filled[0]:
        return Outcome(label=came, hit=hit, outcome=outcome)
    return Outcome(
        label=came,
        hit=hit,
        outcome=outcome,
        entry_time=int(rest.time[found.entry_row[0]]),
        entry=float(found.entry[0]),
        exit_time=int(rest.time[found.exit_row[0]]),
        exit=float(found.exit[0]),
        gross_bp=float(found.gross_bp[0]),
        net_bp=float(found.net_bp(terms.costs)[0]),
    )


def label_at(
    candles: Candles,
    *,
    candle: int,
    rule: LabelRule,
    theta: float,
    max_gap_minutes: int = 0,
    missing_until: int | None = None,
) -> int | None:
    """Return the label of a candle: DOWN, NEUTRAL or UP; `UNLABELLED` when it is certain that there never will be one; else None.

    Args:
        candles: of its market, with its own and what followed. A label with exits in average true ranges needs the 14 before it,
            too: without them it has no distances, and no label.
        candle: its open time, in milliseconds of UTC.
        rule: of the label.
        theta: of the label.
        max_gap_minutes: missing minutes that do not yet end a segment.
        missing_until: as in `settle`.

    Raises:
        CandleError: the candle is not among `candles`.

    """
    row = _row(candles, candle)
    first = max(0, row - average_true_range().warm_up)
    seen, at = candles[first:], row - first
    (segment,) = (one for one in seen.segments(max_gap_minutes=max_gap_minutes) if one.start <= at < one.stop)
    after = min(segment.stop - 1 - at, rule.horizon)
    over = segment.stop < len(seen) or (
        missing_until is not None and missing_until - int(seen.time[-1]) > MINUTE * (1 + max_gap_minutes)
    )
    if after == 0:
        return UNLABELLED if over else None
    # What is so far tells whether there can be a label: a stand-in that was looked at, or distances that are not there, end it.
    window = seen[: at + after + 1]
    moves, known = label_moves(window, replace(rule, horizon=after), max_gap_minutes=max_gap_minutes)
    if np.isnan(moves[at]) or of_stand_ins(window, known)[at]:
        return UNLABELLED
    if after < rule.horizon:
        return UNLABELLED if over else None
    return int(classify(moves[at : at + 1], theta)[0])


def _row(candles: Candles, candle: int) -> int:
    row = int(np.searchsorted(candles.time, candle))
    if row == len(candles) or candles.time[row] != candle:
        raise CandleError(f"what became of a signal needs its own candle, {utc(candle)}, found none; begin with that one")
    return row


def _alone(plan: OrderPlan) -> Plans:
    """Return the plan as a column of one."""
    prices = {
        name: np.array([getattr(plan, name)], np.float64)
        for name in ("zone_low", "zone_high", "entry", "stop_loss", "take_profit", "size")
    }
    return Plans(
        sign=np.array([1 if plan.side == "LONG" else -1], np.int8),
        stop_entry=np.array([plan.order_type in {"BUY STOP", "SELL STOP"}]),
        refused=np.array([FINE], np.int8),
        **prices,
    )


def _is_final(found: Followed, rest: Candles, timing: Timing, missing_until: int | None) -> bool:
    """Return whether no later candle can change what `follow` found for the plan of the first candle of `rest`."""
    end = int(run_ends(rest)[0])
    gap = missing_until is not None and missing_until > int(rest.time[-1]) + MINUTE
    if end < len(rest) - 1 or gap:
        return True
    outcome = int(found.outcome[0])
    return end >= timing.expiry if outcome == NOT_FILLED else outcome != CUT
