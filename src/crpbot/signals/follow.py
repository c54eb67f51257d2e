"""What becomes of order plans on 1-minute candles, by rules that are never kinder than the market.

1. A plan is made at the close of candle t, and acts from candle t + 1 on.
2. A limit entry fills in the first candle that trades through its price: a touch is not enough, since others stood in the queue
   before. It fills at its price, even where the candle opens at a better one.
3. A stop entry fills in the first candle that touches its price, at the worse of its price and the open.
4. An entry that has not filled by the end of `expiry` candles is withdrawn.
5. The stop loss counts from the candle of the entry on. A touch is enough. It fills at the worse of its price and the open: a
   gap through it fills at the open. Only in the candle of a stop entry it fills at its price, since there was nothing to close
   when that candle opened.
6. The take profit is a limit order: it counts from the candle after the entry on, since within one candle nobody knows what
   came first; a touch is not enough; and it fills at its price, even where the candle opens beyond.
7. Where one candle meets both, it is the stop loss.
8. A trade that has met neither is closed at the close of its last candle. A plan with a time to close by counts `hold` candles
   from the candle of its signal. One without counts them from its entry, whose candle is the first.
9. Where a minute is missing or a stand-in for one, and at the end of the candles, what is open is closed at the last close before
   it, and entries that wait are withdrawn. That looks ahead, since nobody knows that the next minute will be missing, and favours
   no side.
10. One at a time: from the close at which a plan is made until the candle in which its trade ends, or its entry is withdrawn, no
    other plan is made; at that candle's close there may be. With several, every plan is followed as if it were alone.
11. Fees are paid on both sides, on what was really paid. Slippage makes stop entries, stop losses and closing by time or gap
    worse; limit orders have none.

A short is a long on the market turned upside down, so there is one set of rules for both.
"""

from dataclasses import dataclass, fields
from itertools import count
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.labels import LabelRule
from crpbot.errors import PlanError
from crpbot.market.candles import MINUTE, Candles
from crpbot.signals.plan import Plans, Preset

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
Prices = TypeVar("Prices", float, Floats)

OUTCOMES = ("refused", "not filled", "stop loss", "take profit", "time", "gap")
REFUSED, NOT_FILLED, STOPPED, TAKEN, TIMED, CUT = range(len(OUTCOMES))
BASIS_POINTS = 1e4


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What trading costs, in basis points (hundredths of a percent) of the price.

    Attributes:
        fee_bp: on each side.
        slippage_bp: by which orders that must be filled at once are filled worse.

    Raises:
        PlanError: one is not a finite number of at least 0, or above 1,000.

    """

    fee_bp: float = 10.0
    slippage_bp: float = 1.0

    def __post_init__(self) -> None:
        for one in fields(self):
            if not 0 <= (value := getattr(self, one.name)) <= 1_000:
                raise PlanError(
                    f"{one.name} must be between 0 and 1,000 basis points, found {value:g}; 10 is a tenth of a percent"
                )

    def fill(self, price: Prices, way: NDArray[np.int8] | int, *, at_once: NDArray[np.bool_] | bool) -> Prices:
        """Return what orders at `price` are filled at: those that must be filled `at_once` worse, by the slippage.

        `way` is 1 for who buys, −1 for who sells. Single numbers or arrays of them.
        """
        return price * (1 + way * self.slippage_bp / BASIS_POINTS * at_once)  # type: ignore[return-value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long plans last, in candles.

    Attributes:
        expiry: within which an entry has to fill.
        hold: after which a trade is closed.
        from_entry: whether `hold` counts from the entry, whose candle is the first, and not from the candle of the signal.

    """

    expiry: int
    hold: int
    from_entry: bool


def timing_of(preset: Preset, rule: LabelRule) -> Timing:
    """Return how long plans last: one that has no time to close by is closed when the horizon of the label has passed."""
    if preset.hold_minutes is None:
        return Timing(expiry=preset.expiry_minutes, hold=rule.horizon, from_entry=True)
    return Timing(expiry=min(preset.expiry_minutes, preset.hold_minutes), hold=preset.hold_minutes, from_entry=False)


@dataclass(frozen=True, eq=False, kw_only=True)
class Followed:
    """What became of each plan as if it were alone; every column has shape `(n,)`.

    Attributes:
        rows: the candle at whose close each plan was made, increasing.
        plans: that were followed.
        outcome: number in `OUTCOMES`.
        entry_row, exit_row: candle of entry and exit; −1 where there was no entry.
        entry, exit: prices before slippage; NaN where there was no entry.
        free: the candle at whose close another plan may be made.

    """

    rows: Rows
    plans: Plans
    outcome: NDArray[np.int8]
    entry_row: Rows
    exit_row: Rows
    entry: Floats
    exit: Floats
    free: Rows

    @property
    def filled(self) -> NDArray[np.bool_]:
        """Which plans became a trade."""
        return self.entry_row >= 0

    @property
    def gross_bp(self) -> Floats:
        """What each trade earned in a world without fees and slippage, in basis points of the entry; NaN where there was none."""
        move: Floats = self.plans.sign * (self.exit - self.entry) / self.entry
        return BASIS_POINTS * move

    def paid_and_got(self, costs: Costs) -> tuple[Floats, Floats]:
        """Return the prices of entry and exit after slippage."""
        at_once = np.isin(self.outcome, (STOPPED, TIMED, CUT))
        paid = costs.fill(self.entry, self.plans.sign, at_once=self.plans.stop_entry)
        return paid, costs.fill(self.exit, -self.plans.sign, at_once=at_once)

    def net_money(self, costs: Costs) -> Floats:
        """Return what each trade earned with its size after fees and slippage, in quote currency; NaN where there was none."""
        paid, got = self.paid_and_got(costs)
        fees = costs.fee_bp / BASIS_POINTS * (paid + got)
        money: Floats = self.plans.size * (self.plans.sign * (got - paid) - fees)
        return money

    def net_bp(self, costs: Costs) -> Floats:
        """Return the same in basis points of what was paid."""
        paid, _ = self.paid_and_got(costs)
        return BASIS_POINTS * self.net_money(costs) / (self.plans.size * paid)


def follow(candles: Candles, rows: Rows, plans: Plans, timing: Timing) -> Followed:
    """Follow each plan to its end, all at once: step k looks at the k-th candle after each plan that still goes on.

    Args:
        candles: of the market.
        rows: the candle at whose close each plan was made, increasing.
        plans: one for each.
        timing: of all.

    """
    n, sign = len(rows), plans.sign.astype(np.float64)
    upside_down = (plans.sign < 0).astype(np.intp)
    opens, closes = (np.stack([price, -price]) for price in (candles.open, candles.close))
    highs, lows = np.stack([candles.high, -candles.low]), np.stack([candles.low, -candles.high])
    want, stop, take = sign * plans.entry, sign * plans.stop_loss, sign * plans.take_profit
    ends = run_ends(candles)[rows]
    limit = rows + timing.hold
    outcome = np.where(plans.refused == 0, NOT_FILLED, REFUSED).astype(np.int8)
    entry_row, exit_row = np.full(n, -1, np.intp), np.full(n, -1, np.intp)
    entry, left, free = np.full(n, np.nan), np.full(n, np.nan), rows.copy()
    going = np.flatnonzero((plans.refused == 0) & (ends > rows))
    for step in count(1):
        if not len(going):
            break
        row, way = rows[going] + step, upside_down[going]
        first, high, low, close = opens[way, row], highs[way, row], lows[way, row], closes[way, row]
        waits, wanted, stops = plans.stop_entry[going], want[going], stop[going]
        was = entry_row[going] >= 0
        new = ~was & np.where(waits, high >= wanted, low < wanted)
        entry_row[going[new]] = row[new]
        entry[going[new]] = np.where(waits, np.maximum(wanted, first), wanted)[new]
        if timing.from_entry:
            limit[going[new]] = row[new] + timing.hold - 1
        inside, last = was | new, np.minimum(limit[going], ends[going])
        stopped = inside & (low <= stops)
        taken = was & (high > take[going])
        over = inside & (row == last)
        price = np.where(stopped, np.where(new & waits, stops, np.minimum(stops, first)), np.where(taken, take[going], close))
        how = np.where(stopped, STOPPED, np.where(taken, TAKEN, np.where(row == limit[going], TIMED, CUT)))
        closed = stopped | taken | over
        exit_row[going[closed]], left[going[closed]] = row[closed], price[closed]
        outcome[going[closed]] = how[closed]
        done = closed | (~inside & ((step >= timing.expiry) | (row == ends[going])))
        free[going[done]] = row[done]
        going = going[~done]
    return Followed(
        rows=rows,
        plans=plans,
        outcome=outcome,
        entry_row=entry_row,
        exit_row=exit_row,
        entry=sign * entry,
        exit=sign * left,
        free=free,
    )


def run_ends(candles: Candles) -> Rows:
    """Return for each candle the last one of its run: minute after minute, none of them a stand-in; shape `(n,)`."""
    breaks = np.diff(candles.time) > MINUTE
    if candles.filled is not None:
        breaks |= candles.filled[1:] | candles.filled[:-1]
    edges = np.append(np.flatnonzero(breaks), len(candles) - 1)
    found: Rows = edges[np.searchsorted(edges, np.arange(len(candles)))]
    return found


def one_at_a_time(rows: Rows, free: Rows) -> NDArray[np.bool_]:
    """Return which plans are made when none is while another goes on; shape `(n,)`. Refused ones are passed over at once."""
    chosen = np.zeros(len(rows), bool)
    after = following(rows, free).tolist()
    place = 0
    while place < len(rows):
        chosen[place] = True
        place = after[place]
    return chosen


def following(rows: Rows, free: Rows) -> Rows:
    """Return for each plan the next that may be made after it, as an index; `len(rows)` where there is none."""
    later: Rows = np.maximum(np.searchsorted(rows, free), np.arange(len(rows)) + 1)
    return later
