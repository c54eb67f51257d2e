"""Order plans on a market's grid: consistent, placeable, and never riskier than was asked."""

import dataclasses
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crpbot.dataset.labels import Exits, LabelRule
from crpbot.errors import PlanError
from crpbot.model.checkpoint import Label
from crpbot.signals.plan import ATR_PRESET, REFUSALS, SEED_PRESET, OrderPlan, Preset, make_plan, make_plans, preset_of
from crpbot.signals.rules import UNKNOWN, MarketRules, round_down, round_up, rules_of_ccxt

steps = st.sampled_from([None, 1e-8, 0.0001, 0.01, 0.05, 0.25, 0.5, 1.0, 10.0])
sides = st.sampled_from(["LONG", "SHORT"])
NOISE = 1e-6
"""Of a step: a price that near to the grid is on it."""


@st.composite
def asked(draw: st.DrawFn) -> tuple[str, dict[str, float], Preset, MarketRules]:
    """Draw a wish for a plan: any side, price, account and market, prices on the grid or not."""
    center = draw(st.floats(1e-3, 1e6))
    rules = MarketRules(tick=draw(steps), lot=draw(steps), min_notional=draw(st.sampled_from([None, 1.0, 500.0])))
    if rules.tick and draw(st.booleans()):
        center = float(round_up(np.array([center]), rules.tick)[0])
    preset = dataclasses.replace(
        draw(st.sampled_from([ATR_PRESET, SEED_PRESET])),
        account=draw(st.floats(10, 1e7)),
        risk=draw(st.floats(1e-4, 1)),
        leverage=draw(st.sampled_from([0.5, 1.0, 20.0, 1e6])),
    )
    move = draw(st.sampled_from([1.0, 1.0, 0.97, 1.03]) | st.floats(0.9, 1.1))
    inputs = {"center": center, "atr": center * draw(st.floats(1e-5, 0.1)), "price": center * move}
    return draw(sides), inputs, preset, rules


def plan_of(wish: tuple[str, dict[str, float], Preset, MarketRules]) -> OrderPlan | None:
    side, inputs, preset, rules = wish
    try:
        return make_plan(side, **inputs, preset=preset, rules=rules)
    except PlanError:
        return None


many = settings(max_examples=100)


@many
@given(asked())
def test_stop_entry_and_take_profit_stand_in_order(wish: tuple) -> None:
    if (plan := plan_of(wish)) is not None:
        sign = 1 if plan.side == "LONG" else -1
        assert sign * plan.stop_loss < sign * plan.entry < sign * plan.take_profit
        assert 0 < plan.zone_low <= plan.entry <= plan.zone_high
        assert min(plan.stop_loss, plan.take_profit) > 0


@many
@given(asked())
def test_risk_leverage_and_least_order_are_kept_to_the_last_bit(wish: tuple) -> None:
    if (plan := plan_of(wish)) is not None:
        _, _, preset, rules = wish
        assert 0 < plan.risk_money == plan.size * abs(plan.entry - plan.stop_loss) <= preset.account * preset.risk
        assert plan.size * plan.entry <= preset.account * preset.leverage
        assert plan.size * plan.entry >= (rules.min_notional or 0)


@pytest.mark.parametrize("lot", [None, 1e-3, 1.0])
@pytest.mark.parametrize("leverage", [0.5, 3.0, 1e6])
def test_no_size_of_many_breaks_a_limit_by_a_single_bit(lot: float | None, leverage: float) -> None:
    rng = np.random.default_rng(0)
    n = 30_000
    center = np.exp(rng.uniform(-3, 8, n))
    preset = dataclasses.replace(ATR_PRESET, account=98_765.4321, risk=0.0123, leverage=leverage)
    plans = make_plans(
        np.ones(n, np.int8), center=center, atr=center * rng.uniform(1e-4, 0.1, n), price=center, preset=preset,
        rules=MarketRules(lot=lot),
    )  # fmt: skip
    fine = plans.refused == 0
    assert fine.mean() > 0.5
    assert (plans.size * np.abs(plans.entry - plans.stop_loss) <= preset.account * preset.risk)[fine].all()
    assert (plans.size * plans.entry <= preset.account * preset.leverage)[fine].all()


@many
@given(asked())
def test_prices_and_sizes_are_on_the_grid(wish: tuple) -> None:
    if (plan := plan_of(wish)) is not None:
        rules = wish[3]
        for price in (plan.zone_low, plan.zone_high, plan.entry, plan.stop_loss, plan.take_profit):
            assert rules.tick is None or Decimal(repr(price)) % Decimal(repr(rules.tick)) == 0
        assert rules.lot is None or plan.size > 1e12 * rules.lot or Decimal(repr(plan.size)) % Decimal(repr(rules.lot)) == 0


@many
@given(asked())
def test_the_order_type_fits_where_the_market_stands(wish: tuple) -> None:
    """A BUY STOP below the market would be filled at once, a LIMIT BUY above it would pay too much."""
    if (plan := plan_of(wish)) is not None:
        _, inputs, _, rules = wish
        price, noise = inputs["price"], NOISE * (rules.tick or 0)
        holds = {
            "BUY STOP": plan.entry == plan.zone_low > price,
            "LIMIT BUY": plan.entry <= price + noise,
            "SELL STOP": plan.entry == plan.zone_high < price,
            "LIMIT SELL": plan.entry >= price - noise,
        }
        assert holds[plan.order_type]
        assert plan.order_type.endswith("BUY" if plan.side == "LONG" else "SELL") or plan.order_type == (
            "BUY STOP" if plan.side == "LONG" else "SELL STOP"
        )
        if plan.order_type == "LIMIT BUY" and price > plan.zone_high:
            assert plan.entry == plan.zone_high
        if plan.order_type == "LIMIT SELL" and price < plan.zone_low:
            assert plan.entry == plan.zone_low


@many
@given(asked())
def test_rounding_moves_each_number_in_its_safe_direction_and_by_less_than_a_step(wish: tuple) -> None:
    side, inputs, preset, rules = wish
    plan, tick = plan_of(wish), rules.tick
    if plan is None or tick is None:
        return
    noise, sign = NOISE * tick + 8 * np.spacing(inputs["center"]), 1 if side == "LONG" else -1
    half = preset.zone * (inputs["atr"] if preset.zone_in == "atr" else inputs["center"] / 100)
    assert -noise <= plan.zone_low - (inputs["center"] - half) < tick + noise
    assert -noise <= (inputs["center"] + half) - plan.zone_high < tick + noise
    distance = preset.exits.stop_distance(plan.entry, inputs["atr"])
    assert -noise <= abs(plan.entry - plan.stop_loss) - distance < tick + noise
    wanted = plan.entry + sign * distance * preset.exits.reward
    assert -noise <= sign * (wanted - plan.take_profit) < tick + noise
    most = min(preset.account * preset.risk / abs(plan.entry - plan.stop_loss), preset.account * preset.leverage / plan.entry)
    assert most - plan.size < (rules.lot or 0) * (1 + 2 * NOISE) + 1e-9 * most


@many
@given(asked())
def test_many_plans_are_the_single_ones(wish: tuple) -> None:
    side, inputs, preset, rules = wish
    sign = np.array([1 if side == "LONG" else -1] * 3, np.int8)
    plans = make_plans(sign, **{name: np.full(3, value) for name, value in inputs.items()}, preset=preset, rules=rules)
    plan = plan_of(wish)
    assert (plan is None) == (plans.refused[2] != 0)
    if plan is not None:
        for name in ("zone_low", "zone_high", "entry", "stop_loss", "take_profit", "size"):
            assert getattr(plans, name)[2] == getattr(plan, name)
        assert plans.stop_entry[2] == plan.order_type.endswith("STOP")


def test_the_founding_distances() -> None:
    long = make_plan("LONG", center=100.0, atr=7.0, price=100.0, preset=SEED_PRESET)
    assert (long.zone_low, long.zone_high) == (99.0, 101.0)  # 2 % wide
    assert (long.stop_loss, long.take_profit, long.risk_reward) == pytest.approx((98.5, 102.7, 1.8))
    short = make_plan("SHORT", center=100.0, atr=7.0, price=98.0, preset=SEED_PRESET)
    assert (short.order_type, short.entry) == ("LIMIT SELL", 99.0)
    assert (short.stop_loss, short.take_profit) == pytest.approx((99.0 * 1.015, 99.0 * (1 - 0.027)))


BTC = {"center": 60_000.0, "atr": 40.0, "price": 60_000.0}


@pytest.mark.parametrize(
    ("inputs", "preset", "rules", "reason"),
    [
        ({**BTC, "atr": 0.0}, ATR_PRESET, UNKNOWN, "has not moved for 14 candles"),
        ({**BTC, "atr": float("nan")}, ATR_PRESET, UNKNOWN, "has not moved for 14 candles"),
        ({**BTC, "atr": 50_000.0}, ATR_PRESET, UNKNOWN, "at or below 0"),
        ({**BTC, "center": 60_500.0}, ATR_PRESET, MarketRules(tick=1_000.0), "one tick of 1000 is wider"),
        (BTC, ATR_PRESET, MarketRules(tick=1_000.0), "less than one tick of 1000"),
        (BTC, dataclasses.replace(ATR_PRESET, account=50.0), MarketRules(lot=0.01), "one lot of 0.01"),
        (BTC, dataclasses.replace(ATR_PRESET, account=50.0), MarketRules(min_notional=100.0), "worth less than 100.00"),
    ],
)
def test_an_order_that_cannot_be_placed_is_refused_with_its_reason(
    inputs: dict, preset: Preset, rules: MarketRules, reason: str
) -> None:
    for side in ("LONG", "SHORT"):
        if reason == "at or below 0":
            inputs = {**inputs, "atr": 50_000.0 if side == "LONG" else 30_000.0}
        with pytest.raises(PlanError, match=reason):
            make_plan(side, **inputs, preset=preset, rules=rules)


def test_every_reason_says_something() -> None:
    assert all(REFUSALS[1:])


def test_nothing_is_borrowed_unless_somebody_says_so() -> None:
    """A stop loss 0.1 % away would else ask for ten times the account."""
    plain = make_plan("LONG", **BTC)
    assert plain.size * plain.entry == pytest.approx(10_000)
    assert plain.risk_money == pytest.approx(10.0)
    bold = make_plan("LONG", **BTC, preset=dataclasses.replace(ATR_PRESET, leverage=20.0))
    assert bold.risk_money == pytest.approx(100.0)


@pytest.mark.parametrize("wrong", [{"account": 0.0}, {"risk": 1.5}, {"leverage": float("inf")}, {"account": float("nan")}])
def test_impossible_money_is_refused(wrong: dict) -> None:
    with pytest.raises(PlanError, match="account"):
        dataclasses.replace(ATR_PRESET, **wrong)


@pytest.mark.parametrize("wrong", [{"tick": 0.0}, {"lot": -1.0}, {"min_notional": float("nan")}])
def test_impossible_rules_are_refused(wrong: dict) -> None:
    with pytest.raises(PlanError, match=next(iter(wrong))):
        MarketRules(**wrong)


@given(st.integers(-(10**9), 10**9), st.sampled_from([1e-8, 0.01, 0.05, 0.1, 0.25, 10.0]), st.floats(0.01, 0.99))
def test_rounding_keeps_what_is_on_the_grid(steps: int, step: float, part: float) -> None:
    on = float(Decimal(steps) * Decimal(repr(step)))
    for rounding, there in ((round_down, 0), (round_up, 1)):
        assert rounding(np.array([on, steps * step]), step).tolist() == [on, on]
        between = float((Decimal(steps) + Decimal(repr(part))) * Decimal(repr(step)))
        assert rounding(np.array([between]), step)[0] == float(Decimal(steps + there) * Decimal(repr(step)))


def test_a_label_that_follows_trades_brings_its_exits_and_its_time_and_the_founding_distances_only_its_time() -> None:
    exits = Exits(distance="percent", stop=0.4, reward=1.2)
    label = Label(rule=LabelRule(kind="triple-barrier", horizon=20, exits=exits), theta=0.0, sha256="")
    assert preset_of(label).exits == exits
    founding = preset_of(label, SEED_PRESET)
    assert (founding.exits, founding.hold_minutes, founding.expiry_minutes) == (SEED_PRESET.exits, 20, 20)
    horizon = Label(rule=LabelRule(kind="horizon", horizon=15), theta=0.0, sha256="")
    assert preset_of(horizon, SEED_PRESET) == SEED_PRESET


BINANCE = {
    "symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT", "baseAssetPrecision": 8,
    "quotePrecision": 8, "orderTypes": ["LIMIT"], "isSpotTradingAllowed": True, "permissions": ["SPOT"],
    "filters": [
        {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000.00", "tickSize": "0.01"},
        {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000.0", "stepSize": "0.00001"},
        {"filterType": "NOTIONAL", "minNotional": "5.0", "applyMinToMarket": True},
    ],
}  # fmt: skip


@pytest.mark.slow  # importing ccxt takes two seconds
def test_the_rules_of_a_market_as_ccxt_reads_them() -> None:
    ccxt = pytest.importorskip("ccxt")
    venue = ccxt.binance({"options": {"crossMarginPairsData": [], "isolatedMarginPairsData": []}})
    market = venue.parse_market(BINANCE)
    rules = rules_of_ccxt(market, precision_mode=venue.precisionMode)
    assert rules == MarketRules(tick=0.01, lot=0.00001, min_notional=5.0)


def test_what_a_venue_does_not_say_is_unknown() -> None:
    assert rules_of_ccxt({}) == UNKNOWN
    assert rules_of_ccxt({"precision": {"price": None}, "limits": {"cost": {"min": None}}}) == UNKNOWN
    in_decimals = {"precision": {"price": 2, "amount": 5}}
    assert rules_of_ccxt(in_decimals, precision_mode=2) == MarketRules(tick=0.01, lot=0.00001)
    assert rules_of_ccxt({"precision": {"price": 5}}, precision_mode=3) == UNKNOWN  # digits: no fixed step


def test_a_plan_without_room_is_refused_in_words_where_no_tick_is_known() -> None:
    with pytest.raises(PlanError, match="less than one tick from the entry"):
        make_plan("LONG", center=6e4, atr=1e-13, price=6e4)
    for price in (float("nan"), 0.0, float("inf")):
        with pytest.raises(PlanError, match="must be finite and above 0"):
            make_plan("LONG", center=6e4, atr=10.0, price=price)
