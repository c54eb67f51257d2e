"""A second form of the rules in `signals/follow.py`, written from their words alone: one plan, one candle, one `if` at a time."""

from dataclasses import dataclass

from crpbot.market.candles import MINUTE, Candles
from crpbot.signals.plan import OrderPlan


@dataclass(frozen=True)
class Ended:
    outcome: str
    entry_row: int = -1
    entry: float = float("nan")
    exit_row: int = -1
    exit: float = float("nan")
    free: int = -1


def follow_one(candles: Candles, t: int, plan: OrderPlan | None, *, expiry: int, hold: int, from_entry: bool) -> Ended:
    if plan is None:
        return Ended("refused", free=t)
    entered: float | None = None
    entry_row, row = -1, t
    while True:
        if not goes_on(candles, row):
            if entered is None:
                return Ended("not filled", free=row)
            return Ended("gap", entry_row, entered, row, float(candles.close[row]), row)
        if entered is None and row - t >= expiry:
            return Ended("not filled", free=row)
        row += 1
        opened, high, low, close = (float(getattr(candles, name)[row]) for name in ("open", "high", "low", "close"))
        just = False
        if entered is None:
            entered = fill(plan, opened, high, low)
            just = entered is not None
            entry_row = row if just else -1
        if entered is None:
            continue
        ended = exit_of(plan, opened, high, low, just=just)
        if ended is None and row == (entry_row + hold - 1 if from_entry else t + hold):
            ended = ("time", close)
        if ended is not None:
            return Ended(ended[0], entry_row, entered, row, ended[1], row)


def exit_of(plan: OrderPlan, opened: float, high: float, low: float, *, just: bool) -> tuple[str, float] | None:
    long = plan.side == "LONG"
    if (low <= plan.stop_loss) if long else (high >= plan.stop_loss):
        worse = min(plan.stop_loss, opened) if long else max(plan.stop_loss, opened)
        return "stop loss", plan.stop_loss if just and "STOP" in plan.order_type else worse
    if not just and ((high > plan.take_profit) if long else (low < plan.take_profit)):
        return "take profit", plan.take_profit
    return None


def fill(plan: OrderPlan, opened: float, high: float, low: float) -> float | None:
    if plan.order_type == "LIMIT BUY":
        return plan.entry if low < plan.entry else None
    if plan.order_type == "LIMIT SELL":
        return plan.entry if high > plan.entry else None
    if plan.order_type == "BUY STOP":
        return max(plan.entry, opened) if high >= plan.entry else None
    return min(plan.entry, opened) if low <= plan.entry else None


def goes_on(candles: Candles, row: int) -> bool:
    """Say whether the next minute is there and real."""
    if row + 1 == len(candles) or candles.time[row + 1] - candles.time[row] != MINUTE:
        return False
    return candles.filled is None or not (candles.filled[row] or candles.filled[row + 1])


def follow_all(
    candles: Candles, plans: list[tuple[int, OrderPlan | None]], *, expiry: int, hold: int, from_entry: bool, several: bool
) -> dict[int, Ended]:
    """Return what became of each plan that was made, by its row."""
    made: dict[int, Ended] = {}
    busy_until = -1
    for t, plan in plans:
        if not several and t < busy_until:
            continue
        made[t] = follow_one(candles, t, plan, expiry=expiry, hold=hold, from_entry=from_entry)
        busy_until = made[t].free
    return made


def earned(plan: OrderPlan, end: Ended, *, fee_bp: float, slippage_bp: float) -> tuple[float, float]:
    """Return money and basis points of what was paid, after fees and slippage."""
    paid, got, slip = end.entry, end.exit, slippage_bp / 10_000
    if plan.side == "LONG":
        paid = paid * (1 + slip) if plan.order_type == "BUY STOP" else paid
        got = got * (1 - slip) if end.outcome != "take profit" else got
        profit = got - paid
    else:
        paid = paid * (1 - slip) if plan.order_type == "SELL STOP" else paid
        got = got * (1 + slip) if end.outcome != "take profit" else got
        profit = paid - got
    one = profit - paid * fee_bp / 10_000 - got * fee_bp / 10_000
    return plan.size * one, 10_000 * one / paid
