"""What followed plans earned: per trade, in all, and against two that know nothing."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crpbot.market.candles import Candles
from crpbot.quality.bootstrap import FEWEST_DRAWN, Resamples, resample
from crpbot.quality.metrics import Ints, Mean
from crpbot.signals.follow import BASIS_POINTS, Costs, Floats, Followed, Rows, following

THROWS = 500
"""How many throwers of coins a backtest is held against; fewer where there are so many plans that the coins would fill memory."""
_MOST_COINS = 50_000_000
FEWEST_TRADES = 10
"""Trades, or signals, from which on an interval is told."""


@dataclass(frozen=True, eq=False)
class Sample:
    """The span that trades are a sample of.

    Attributes:
        time: of every row that the models were asked about, in milliseconds of UTC: blocks of time keep their length where
            nothing was said.
        resamples: draws of the span.

    """

    time: Ints
    resamples: Resamples

    @classmethod
    def of(cls, time: Ints, known: Ints) -> "Sample":
        """Draw the span of `time`, with blocks for labels that are known when `known` says."""
        return cls(time, resample(time, known=known))

    def mean(self, x: Floats, place: Rows) -> Mean:
        """Return the mean of `x`, shape `(n,)`, found at the rows `place`, with its standard error from resampled blocks of time.

        The error is NaN with fewer than ten values, or where they lie in fewer than five blocks: there is nothing to draw from,
        and it would come out far too small.
        """
        if len(x) < FEWEST_TRADES or len(np.unique(self.time[place] // self.resamples.block)) < FEWEST_DRAWN:
            return Mean(float(x.mean()) if len(x) else float("nan"), float("nan"))
        every, chosen = np.zeros(len(self.time)), np.zeros(len(self.time), bool)
        every[place], chosen[place] = x, True
        return self.resamples.mean(every, rows=chosen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Earnings:
    """What some trades earned. None where there is nothing to say it of.

    Attributes:
        expectancy: mean of a trade, in basis points of what was paid, with its standard error from resampled blocks of time; the
            error is NaN where the span holds too few blocks.
        won: share of the trades that earned more than nothing.
        profit_factor: what the winners earned over what the losers lost, in money; None where nobody lost.
        money: earned in all, in quote currency, with the very sizes of the plans: gains are not put into later trades.
        total: the same as a share of the account.
        drawdown: the deepest fall of the account from a height that it had before, as a share of that height, open trades counted
            at the close of every minute; 1 is all of it.
        empty: the candle at whose close nothing was left of the account, as an index; None where something always was. Later
            trades are counted all the same.

    """

    expectancy: Mean
    won: float
    profit_factor: float | None
    money: float
    total: float
    drawdown: float
    empty: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Coins:
    """What throwers of coins earned who made a plan at the very moments of the model, with a thrown side and the same costs.

    Attributes:
        throwers: how many.
        mean, low, high: of their expectancies, in basis points a trade: the mean, and what 95 % of them lie between.
        gross: mean of the same before costs: what the rules of following alone take.
        as_good: share of them that did at least as well as the model.
        expectancies: of each, shape `(throwers,)`, for a picture.

    """

    throwers: int
    mean: float
    low: float
    high: float
    gross: float
    as_good: float
    expectancies: tuple[float, ...]


def measure_earnings(
    trades: Followed,
    chosen: NDArray[np.bool_],
    costs: Costs,
    equity: Floats,
    *,
    first: int,
    account: float,
    sample: Sample,
    place: Rows,
) -> Earnings | None:
    """Measure the chosen trades; None where there is none.

    Args:
        trades: followed plans.
        chosen: which of them were really made and filled, shape `(n,)`.
        costs: of trading.
        equity: of the account with these trades and costs, at each close.
        first: candle of the first of these.
        account: at the start, in quote currency.
        sample: the span.
        place: of each plan among its rows, shape `(n,)`.

    """
    if not chosen.any():
        return None
    bp, money = trades.net_bp(costs)[chosen], trades.net_money(costs)[chosen]
    lost = -float(money[money < 0].sum())
    return Earnings(
        expectancy=sample.mean(bp, place[chosen]),
        won=float((money > 0).mean()),
        profit_factor=float(money[money > 0].sum()) / lost if lost > 0 else None,
        money=float(money.sum()),
        total=float(money.sum()) / account,
        drawdown=drawdown(equity, account),
        empty=first + int((equity <= 0).argmax()) if (equity <= 0).any() else None,
    )


def equity_of(candles: Candles, span: slice, trades: Followed, chosen: NDArray[np.bool_], costs: Costs, account: float) -> Floats:
    """Return the account at the close of each candle of `span`, open trades counted at that close; shape `(len(span),)`.

    Sizes are those of the plans: the account of the preset, not what is left of it. So it can fall below 0 on paper.
    """
    paid, _ = (price[chosen] for price in trades.paid_and_got(costs))
    units = (trades.plans.sign * trades.plans.size)[chosen]
    spent = units * paid + np.abs(units) * paid * costs.fee_bp / BASIS_POINTS
    opened, closed, money = trades.entry_row[chosen], trades.exit_row[chosen], trades.net_money(costs)[chosen]
    n, first = span.stop - span.start, span.start

    def so_far(at: Rows, what: Floats) -> Floats:
        return np.cumsum(np.bincount(at - first, what, n))

    held = so_far(opened, units) - so_far(closed, units)
    open_cost = so_far(opened, spent) - so_far(closed, spent)
    # Sums leave crumbs: where nothing is open, nothing is held.
    worth = np.where(positions(span, trades, chosen) > 0, held * candles.close[span] - open_cost, 0.0)
    equity: Floats = account + so_far(closed, money) + worth
    return equity


def positions(span: slice, trades: Followed, chosen: NDArray[np.bool_]) -> Rows:
    """Return how many trades are open at the close of each candle of `span`."""
    n = span.stop - span.start
    opened, closed = (np.bincount(at[chosen] - span.start, minlength=n) for at in (trades.entry_row, trades.exit_row))
    return np.cumsum(opened - closed)


def exposure(span: slice, trades: Followed, chosen: NDArray[np.bool_]) -> float:
    """Return the share of the candles in which a trade was open, those of entry and exit included."""
    n = span.stop - span.start + 1
    opened = np.bincount(trades.entry_row[chosen] - span.start, minlength=n)
    ended = np.bincount(trades.exit_row[chosen] + 1 - span.start, minlength=n)
    return float((np.cumsum(opened - ended)[:-1] > 0).mean())


def drawdown(equity: Floats, account: float) -> float:
    """Return the deepest fall from a height before, as a share of that height; the start counts as one, and 1 is the most.

    >>> round(drawdown(np.array([110.0, 99.0, 120.0]), 100.0), 6)
    0.1
    """
    heights = np.maximum(np.maximum.accumulate(equity), account)
    return min(float((1 - equity / heights).max()), 1.0)


def hold_equity(candles: Candles, span: slice, costs: Costs, account: float) -> Floats:
    """Return the account of somebody who buys for all of it at the second open of `span` and sells at its last close."""
    fee, slip = costs.fee_bp / BASIS_POINTS, costs.slippage_bp / BASIS_POINTS
    units = account / (candles.open[min(span.start + 1, span.stop - 1)] * (1 + slip) * (1 + fee))
    equity: Floats = units * candles.close[span]
    equity[0] = account
    equity[-1] *= (1 - slip) * (1 - fee)
    return equity


def throw_coins(
    long: Followed, short: Followed, costs: Costs, model: float, *, several: bool, throws: int = THROWS, seed: int = 0
) -> Coins | None:
    """Throw a coin for the side of every plan, up to `throws` times over; None where no trade came of it.

    Args:
        long: the plans as longs.
        short: the same plans as shorts.
        costs: of trading.
        model: expectancy of the model, in basis points a trade.
        several: whether plans are followed side by side, or one at a time.
        throws: how many throwers.
        seed: of the coins.

    """
    n = len(long.rows)
    throws = max(min(throws, _MOST_COINS // max(n, 1)), 1)
    after = np.stack([np.arange(1, n + 1)] * 2 if several else [following(one.rows, one.free) for one in (long, short)])
    # What the coins earned after and before costs is added up at once, as the two parts of a complex number.
    earned = np.stack([np.where(one.filled, one.net_bp(costs) + 1j * one.gross_bp, 0.0) for one in (long, short)])
    filled = np.stack([long.filled, short.filled])
    coin = np.random.default_rng(seed).integers(0, 2, (n, throws), np.int8)
    place, sums, trades = np.zeros(throws, np.intp), np.zeros(throws, complex), np.zeros(throws, np.intp)
    thrower = np.arange(throws)
    while len(thrower):
        at = place[thrower]
        side = coin[at, thrower]
        sums[thrower] += earned[side, at]
        trades[thrower] += filled[side, at]
        place[thrower] = after[side, at]
        thrower = thrower[place[thrower] < n]
    with np.errstate(invalid="ignore"):
        found = (sums / trades)[trades > 0]
    if not len(found):
        return None
    after_costs = found.real
    low, high = np.quantile(after_costs, [0.025, 0.975])
    return Coins(
        throwers=len(found),
        mean=float(after_costs.mean()),
        low=float(low),
        high=float(high),
        gross=float(found.imag.mean()),
        as_good=float((after_costs >= model).mean()),
        expectancies=tuple(after_costs.tolist()),
    )
