"""The order plan: where to enter and how, where to give up, where to take the profit, and how much.

Distances count from the entry. A market whose rules are known has prices on a grid (tick) and sizes on a grid (lot); every number
is moved to the grid in the direction that cannot cost more than was asked:

- the entry zone becomes narrower, so that nobody enters outside of the one that was asked for;
- a limit order inside it moves away from the market: a buyer never pays more than the price, a seller never gets less;
- the stop loss moves away from the entry: it is not hit before the price that the confidence speaks of, and the size, which is
  worked out afterwards, from the rounded distance, becomes smaller for it;
- the take profit moves towards the entry: whoever would have reached it reaches it still. So the chance to win is never below the
  confidence, and it is risk:reward that rounding can make worse; the plan says the one that is left;
- the size goes down, after the cap of the leverage. What the stop loss costs is worked out from the numbers of the plan itself
  and is never above what was asked.

An order that breaks a rule even so, or could not be placed at all, is refused with its reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.labels import ATR_EXITS, Exits
from crpbot.errors import PlanError
from crpbot.signals.rules import UNKNOWN, MarketRules, round_down, round_up

if TYPE_CHECKING:
    from crpbot.model.checkpoint import Label

Floats = NDArray[np.float64]
Side = Literal["LONG", "SHORT"]
OrderType = Literal["LIMIT BUY", "BUY STOP", "LIMIT SELL", "SELL STOP"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Distances of a plan, and money.

    Attributes:
        zone: half the width of the entry zone, in `zone_in`.
        zone_in: multiples of the average true range of 14 candles, or percent of the price.
        exits: from the entry to stop loss and take profit.
        account: in quote currency.
        risk: share of the account that is lost at most when the stop loss is hit, before fees and slippage.
        leverage: the worth of an order over the account, at most. With a near stop loss this, and not the risk, decides the size:
            at 1 nothing is borrowed.
        expiry_minutes: after the close of the candle; then nobody may enter any more.
        hold_minutes: after the close of the candle; then the trade is over, whatever it has met. None: no such time.

    Raises:
        PlanError: account, risk or leverage are not what they must be.

    """

    zone: float = 0.25
    zone_in: Literal["atr", "percent"] = "atr"
    exits: Exits = ATR_EXITS
    account: float = 10_000.0
    risk: float = 0.01
    leverage: float = 1.0
    expiry_minutes: int = 30
    hold_minutes: int | None = None

    def __post_init__(self) -> None:
        if not (0 < self.account < np.inf and 0 < self.risk <= 1 and 0 < self.leverage < np.inf):
            raise PlanError(
                "an account and its leverage must be finite and above 0, and the risk above 0 and at most 1; found account "
                f"{self.account:g}, leverage {self.leverage:g}, risk {self.risk:g}; correct them"
            )


ATR_PRESET = Preset()
"""Distances that follow the market: a zone of ± 0.25 average true ranges, stop loss at 1.5, take profit 1.8 times as far."""
SEED_PRESET = Preset(zone=1.0, zone_in="percent", exits=Exits(distance="percent", stop=1.5, reward=1.8))
"""The founding distances: a zone of 2 % of the price, 1 % to either side, stop loss at 1.5 %, take profit 1.8 times as far."""
PRESETS: Mapping[str, Preset] = MappingProxyType({"atr": ATR_PRESET, "seed": SEED_PRESET})


def preset_of(label: "Label | None", preset: Preset = ATR_PRESET) -> Preset:
    """Return the distances of a model's plans: a label that follows trades to their exits means those very trades.

    Only an `atr` preset takes the exits of the label; any preset takes its time.
    """
    if label is None or label.rule.kind == "horizon":
        return preset
    horizon = label.rule.horizon
    exits = label.rule.exits if preset.zone_in == "atr" else preset.exits
    return replace(preset, exits=exits, expiry_minutes=min(preset.expiry_minutes, horizon), hold_minutes=horizon)


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
        size: so that the stop loss costs at most the share of the account that may be risked, within the leverage.
        risk_money: what the stop loss costs with this size, in quote currency, before fees and slippage.

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


FINE, FLAT, BELOW_ZERO, NO_TICK, NO_ROOM, NO_LOT, TOO_SMALL = range(7)
REFUSALS = (
    "",
    "the price has not moved for 14 candles, so no distance to the stop loss can be set",
    "the market moves so much that the zone or an exit would lie at or below 0",
    "no price of the market lies in the entry zone: one tick{tick} is wider",
    "the take profit is less than one tick{tick} from the entry",
    "one lot{lot} is more than the account may risk or buy",
    "the order would be worth less than {least:,.2f}, the least order there",
)
"""Why a plan is refused, by number."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Plans:
    """Many order plans, column by column, each of shape `(n,)`; the columns are those of `OrderPlan`.

    Attributes:
        sign: 1 for a long, −1 for a short.
        stop_entry: whether the order is a stop, which waits for the price to come through, and not a limit.
        zone_low, zone_high, entry, stop_loss, take_profit, size: as in `OrderPlan`; mean nothing where the plan is refused.
        refused: number of the reason in `REFUSALS`, 0 for a plan that stands.

    """

    sign: NDArray[np.int8]
    stop_entry: NDArray[np.bool_]
    zone_low: Floats
    zone_high: Floats
    entry: Floats
    stop_loss: Floats
    take_profit: Floats
    size: Floats
    refused: NDArray[np.int8]


def make_plans(
    sign: NDArray[np.int8],
    *,
    center: Floats,
    atr: Floats,
    price: Floats,
    preset: Preset = ATR_PRESET,
    rules: MarketRules = UNKNOWN,
) -> Plans:
    """Plan orders, all at once; `make_plan` is one of them.

    Args:
        sign: 1 for a long, −1 for a short, shape `(n,)`.
        center: middle of the entry zone, above 0.
        atr: average true range, at least 0, in quote currency; NaN is refused like 0.
        price: of the market now, above 0.
        preset: distances and money.
        rules: of the market.

    """
    half = preset.zone * (atr if preset.zone_in == "atr" else center / 100)
    low, high = round_up(center - half, rules.tick), round_down(center + half, rules.tick)
    long = sign > 0
    at_price = np.where(long, round_down(price, rules.tick), round_up(price, rules.tick))
    entry = np.where(price < low, low, np.where(price > high, high, at_price))
    distance = preset.exits.stop_distance(entry, atr)
    stop, take = entry - sign * distance, entry + sign * distance * preset.exits.reward
    stop = np.where(long, round_down(stop, rules.tick), round_up(stop, rules.tick))
    take = np.where(long, round_down(take, rules.tick), round_up(take, rules.tick))
    size = _sizes(entry, np.abs(entry - stop), preset, rules.lot)
    wrong = (
        (FLAT, ~(distance > 0) | ~(half >= 0)),
        (BELOW_ZERO, np.minimum(np.minimum(center - half, entry), np.minimum(stop, take)) <= 0),
        (NO_TICK, low > high),
        (NO_ROOM, ~(sign * (take - entry) > 0) | ~(sign * (entry - stop) > 0)),
        (NO_LOT, ~(size > 0)),
        (TOO_SMALL, size * entry < (rules.min_notional or 0.0)),
    )
    refused = np.full(sign.shape, FINE, np.int8)
    for number, where in reversed(wrong):  # the first reason counts
        refused[where] = number
    return Plans(
        sign=sign,
        stop_entry=np.where(long, price < low, price > high),
        zone_low=low,
        zone_high=high,
        entry=entry,
        stop_loss=stop,
        take_profit=take,
        size=size,
        refused=refused,
    )


def why_refused(number: int, rules: MarketRules) -> str:
    """Return the reason of that number in `REFUSALS`, with the grid of the market where it is known.

    >>> why_refused(NO_ROOM, UNKNOWN)
    'the take profit is less than one tick from the entry'
    """

    def of(step: float | None) -> str:
        return "" if step is None else f" of {step:g}"

    return REFUSALS[number].format(tick=of(rules.tick), lot=of(rules.lot), least=rules.min_notional or 0.0)


def _sizes(entry: Floats, distance: Floats, preset: Preset, lot: float | None) -> Floats:
    """Return the largest sizes that keep risk and leverage to the last bit; 0 where none does."""
    most_lost, most_bought = preset.account * preset.risk, preset.account * preset.leverage
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.minimum(most_lost / distance, most_bought / entry)
    size = round_down(np.where(np.isfinite(size), size, 0.0), lot)
    over = (size * distance > most_lost) | (size * entry > most_bought)
    # Below a trillionth of the size, the next lot is no other number.
    less = np.nextafter(size, 0.0) if lot is None else np.minimum(round_down(size - lot, lot), size * (1 - 1e-12))
    return np.maximum(np.where(over, less, size), 0.0)


def make_plan(
    side: Side, *, center: float, atr: float, price: float, preset: Preset = ATR_PRESET, rules: MarketRules = UNKNOWN
) -> OrderPlan:
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
        rules: of the market.

    Raises:
        PlanError: the order is refused; the message is the reason.

    """
    if not (0 < center < np.inf and 0 < price < np.inf):
        raise PlanError(f"prices must be finite and above 0, found {center:g} and {price:g}; correct them")
    sign = np.array([1 if side == "LONG" else -1], np.int8)
    one = [np.array([value], np.float64) for value in (center, atr, price)]
    plans = make_plans(sign, center=one[0], atr=one[1], price=one[2], preset=preset, rules=rules)
    entry, stop, take, size = (float(column[0]) for column in (plans.entry, plans.stop_loss, plans.take_profit, plans.size))
    if plans.refused[0] != FINE:
        raise PlanError(why_refused(int(plans.refused[0]), rules))
    waits = bool(plans.stop_entry[0])
    order_types: dict[Side, OrderType] = {
        "LONG": "BUY STOP" if waits else "LIMIT BUY",
        "SHORT": "SELL STOP" if waits else "LIMIT SELL",
    }
    distance = abs(entry - stop)
    return OrderPlan(
        side=side,
        order_type=order_types[side],
        zone_low=float(plans.zone_low[0]),
        zone_high=float(plans.zone_high[0]),
        entry=entry,
        stop_loss=stop,
        take_profit=take,
        risk_reward=preset.exits.reward if rules.tick is None else abs(take - entry) / distance,
        size=size,
        risk_money=size * distance,
    )
