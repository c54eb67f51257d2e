"""The order plan: where to enter and how, where to give up, where to take the profit, and how much."""

from dataclasses import dataclass
from typing import Literal

from crpbot.dataset.labels import ATR_EXITS, Exits

Side = Literal["LONG", "SHORT"]
OrderType = Literal["LIMIT BUY", "BUY STOP", "LIMIT SELL", "SELL STOP"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Distances of a plan, and money.

    Attributes:
        zone: half the width of the entry zone, in multiples of the average true range.
        exits: from the entry to stop loss and take profit.
        account: in quote currency.
        risk: share of the account that is lost when the stop loss is hit, before fees.
        expiry_minutes: after the close of the candle; then nobody may enter any more.
        hold_minutes: after the close of the candle; then the trade is over, whatever it has met. None: no such time.

    """

    zone: float = 0.25
    exits: Exits = ATR_EXITS
    account: float = 10_000.0
    risk: float = 0.01
    expiry_minutes: int = 30
    hold_minutes: int | None = None


ATR_PRESET = Preset()


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPlan:
    """What to order. Prices in quote currency, size in base currency.

    For a long, stop < entry < take profit; for a short the other way round.

    Attributes:
        side: LONG or SHORT.
        order_type: by where the price stands to the entry zone.
        zone_low, zone_high: the entry zone.
        entry: the price of the order.
        stop_loss, take_profit: the exits.
        risk_reward: distance to the take profit over that to the stop loss.
        size: so that the stop loss costs `risk_money`.
        risk_money: in quote currency.

    """

    side: Side
    order_type: OrderType
    zone_low: float
    zone_high: float
    entry: float
    stop_loss: float
    take_profit: float
    risk_reward: float
    size: float
    risk_money: float


def make_plan(side: Side, *, center: float, atr: float, price: float, preset: Preset = ATR_PRESET) -> OrderPlan:
    """Plan an order around `center`, the close of the signal's candle, for a market that now stands at `price`.

    A long enters by BUY STOP at the zone's lower edge when the price is below the zone, by LIMIT BUY at the price inside
    it, and by LIMIT
    BUY at the upper edge when it is above. A short mirrors this.

    Args:
        side: LONG or SHORT.
        center: middle of the entry zone.
        atr: average true range, above 0, in quote currency.
        price: of the market now.
        preset: distances and money.

    """
    low, high = center - preset.zone * atr, center + preset.zone * atr
    entry = min(max(price, low), high)
    order_types: dict[Side, OrderType] = {
        "LONG": "BUY STOP" if price < low else "LIMIT BUY",
        "SHORT": "SELL STOP" if price > high else "LIMIT SELL",
    }
    sign = 1 if side == "LONG" else -1
    distance = preset.exits.stop_distance(entry, atr)
    risk_money = preset.account * preset.risk
    return OrderPlan(
        side=side,
        order_type=order_types[side],
        zone_low=low,
        zone_high=high,
        entry=entry,
        stop_loss=entry - sign * distance,
        take_profit=entry + sign * distance * preset.exits.reward,
        risk_reward=preset.exits.reward,
        size=risk_money / distance,
        risk_money=risk_money,
    )
