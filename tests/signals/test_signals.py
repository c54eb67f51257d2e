import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import market, model
from strategies import walk

from crpbot.dataset.features.compute import compute_features
from crpbot.dataset.features.sets import FeatureSet, feature_set
from crpbot.dataset.labels import Exits, LabelRule, label_moves
from crpbot.errors import PlanError
from crpbot.market.candles import MINUTE, utc
from crpbot.model.checkpoint import Checkpoint, Label, Prediction
from crpbot.model.recipe import Recipe, load_recipe
from crpbot.model.weights import Weights
from crpbot.signals.plan import SEED_PRESET, make_plan
from crpbot.signals.rules import MarketRules
from crpbot.signals.signal import newest_signal, preset_of
from crpbot.signals.text import telegram

prices = st.floats(1e-4, 1e6)


@given(st.sampled_from(["LONG", "SHORT"]), prices, st.floats(1e-4, 0.1), st.floats(0.5, 1.5))
def test_a_plan_is_consistent_wherever_the_price_stands(side: str, center: float, atr: float, move: float) -> None:
    atr *= center
    price = center * move
    plan = make_plan(side, center=center, atr=atr, price=price)
    sign = 1 if side == "LONG" else -1
    assert sign * plan.stop_loss < sign * plan.entry < sign * plan.take_profit
    assert plan.zone_low <= plan.entry <= plan.zone_high
    assert plan.size * abs(plan.entry - plan.stop_loss) == pytest.approx(plan.risk_money, rel=1e-6)
    reward = abs(plan.take_profit - plan.entry) / abs(plan.entry - plan.stop_loss)
    assert reward == pytest.approx(plan.risk_reward, rel=1e-6)
    below, above = price < plan.zone_low, price > plan.zone_high
    wanted = {
        "LONG": ("BUY STOP", plan.zone_low) if below else ("LIMIT BUY", plan.zone_high if above else price),
        "SHORT": ("SELL STOP", plan.zone_high) if above else ("LIMIT SELL", plan.zone_low if below else price),
    }[side]
    assert (plan.order_type, plan.entry) == wanted


@given(st.integers(0, 2**31), st.sampled_from([Exits(), Exits(stop=0.7, reward=1.0), Exits(distance="percent", stop=0.1)]))
def test_a_barrier_label_says_which_of_the_two_plans_wins(seed: int, exits: Exits) -> None:
    """The distances of the label are the very ones of the orders."""
    candles = walk(150, seed)
    rule = LabelRule(kind="triple-barrier", horizon=20, exits=exits)
    preset = preset_of(Label(rule=rule, theta=0.0, sha256=""))
    assert (preset.expiry_minutes, preset.hold_minutes) == (20, 20)
    moves, _ = label_moves(candles, rule)
    atr = compute_features(candles, feature_set("founding-72").only("atr_14")).values[:, 0]
    for t in range(14, 130):
        won = {}
        for side, sign in (("LONG", 1), ("SHORT", -1)):
            price = float(candles.close[t])
            plan = make_plan(side, center=price, atr=float(atr[t - 14]), price=price, preset=preset)
            good, bad = (candles.high, candles.low) if sign == 1 else (candles.low, candles.high)
            after = slice(t + 1, t + 21)
            taken = np.flatnonzero(sign * good[after] >= sign * plan.take_profit)
            stopped = np.flatnonzero(sign * bad[after] <= sign * plan.stop_loss)
            won[side] = taken.size > 0 and (stopped.size == 0 or taken[0] < stopped[0])
        assert moves[t] == float(won["LONG"]) - float(won["SHORT"])


def saying(monkeypatch: pytest.MonkeyPatch, *probabilities: float) -> None:
    p = np.array([probabilities])
    monkeypatch.setattr(
        Checkpoint, "predict", lambda _self, x: Prediction(np.log(np.tile(p, (len(x), 1)) + 1e-9), np.tile(p, (len(x), 1)))
    )


CLOSED = int(market().time[-1]) + MINUTE


@pytest.mark.parametrize(
    ("probabilities", "side", "status"),
    [
        ((0.1, 0.2, 0.7), "LONG", "signal"),
        ((0.7, 0.2, 0.1), "SHORT", "signal"),
        ((0.3, 0.15, 0.55), "LONG", "no signal"),
        ((0.0, 0.4, 0.6), "LONG", "signal"),
        ((0.05, 0.9, 0.05), "SHORT", "no signal"),
    ],
)
def test_the_side_is_the_more_probable_one_with_its_own_probability(
    monkeypatch: pytest.MonkeyPatch, probabilities: tuple[float, ...], side: str, status: str
) -> None:
    """The founding code took 1 − P(UP) for a short: with three classes that makes a confident short of a NEUTRAL."""
    saying(monkeypatch, *probabilities)
    signal = newest_signal(model(), market(), stage="live", now=CLOSED)
    assert (signal.side, signal.status) == (side, status)
    assert signal.confidence == max(probabilities[0], probabilities[2])
    assert (signal.plan is None) == (status == "no signal")
    assert bool(signal.reason) == (status == "no signal")
    assert json.loads(json.dumps(signal.to_dict()))["probabilities"]["UP"] == probabilities[2]


def test_an_old_signal_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    saying(monkeypatch, 0.1, 0.1, 0.8)
    last = newest_signal(model(), market(), stage="live", now=CLOSED + 30 * MINUTE - 1)
    late = newest_signal(model(), market(), stage="live", now=CLOSED + 30 * MINUTE)
    assert (last.status, late.status) == ("signal", "expired")
    assert (last.reason, late.reason) == ("", f"it was valid until {utc(CLOSED + 30 * MINUTE)}")
    assert "EXPIRED" in str(late)
    assert late.candle in str(late)


def test_a_rehearsal_cannot_be_taken_for_a_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    saying(monkeypatch, 0.1, 0.1, 0.8)
    assert str(newest_signal(model(), market(), stage="shadow", now=CLOSED)).startswith("REHEARSAL, not for trading")


def test_a_signal_is_of_the_newest_candle_and_knows_its_history() -> None:
    signal = newest_signal(model(), market(), stage="live", now=CLOSED)
    row = model().predict
    from crpbot.dataset.features.compute import compute_features

    whole = compute_features(market()).values[-1:]
    assert signal.probabilities == tuple(row(whole).probabilities[0].tolist())


def test_a_model_that_gives_no_number_gives_no_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    saying(monkeypatch, *[float("nan")] * 3)
    signal = newest_signal(model(), market(), stage="live", now=CLOSED)
    assert (signal.status, signal.plan, signal.side) == ("no signal", None, None)
    assert signal.reason == "the model gives no finite probabilities"


def barrier(**exits: object) -> Checkpoint:
    """Return the small model with a label that follows trades."""
    rule = LabelRule(kind="triple-barrier", horizon=1_440, exits=Exits(**exits))
    return dataclasses.replace(model(), label=dataclasses.replace(model().label, rule=rule))


def test_a_trade_may_last_longer_than_its_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    saying(monkeypatch, 0.1, 0.1, 0.8)
    signal = newest_signal(barrier(), market(), stage="live", now=CLOSED)
    assert (signal.status, signal.expires) == ("signal", utc(CLOSED + 30 * MINUTE))
    assert signal.close_by == utc(CLOSED + 1_440 * MINUTE)
    assert f"close by     {signal.close_by}" in str(signal)
    assert newest_signal(barrier(), market(), stage="live", now=CLOSED + 31 * MINUTE).status == "expired"
    plain = newest_signal(model(), market(), stage="live", now=CLOSED)
    assert plain.close_by is None
    assert "close by" not in str(plain)


def test_an_exit_below_zero_gives_no_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    saying(monkeypatch, 0.8, 0.1, 0.1)
    signal = newest_signal(barrier(stop=100.0, reward=100.0), market(), stage="live", now=CLOSED)
    assert signal.status == "no signal"
    assert "at or below 0" in signal.reason


def test_ten_candles_are_too_few_for_an_order_whatever_the_features_need(monkeypatch: pytest.MonkeyPatch) -> None:
    saying(monkeypatch, 0.1, 0.1, 0.8)
    features = dataclasses.replace(model().recipe.features, set="short", formulas={"up": "close / lag(close, 3)"})
    checkpoint = dataclasses.replace(model(), recipe=dataclasses.replace(model().recipe, features=features))
    short = newest_signal(checkpoint, walk(10), stage="live", now=0)
    assert short.reason == "the newest candle needs 62 candles before it without a gap, and has 9"
    monkeypatch.setattr("crpbot.signals.signal.drift_of", lambda *_: None)  # the network is of other features
    assert newest_signal(checkpoint, walk(63), stage="live", now=int(walk(63).time[-1]) + MINUTE).status == "signal"


def test_too_short_a_segment_gives_no_signal_and_says_why() -> None:
    signal = newest_signal(model(), walk(150), stage="live", now=2**42)
    assert (signal.status, signal.side, signal.plan) == ("no signal", None, None)
    assert "has 149" in signal.reason
    assert "no signal" in str(signal)


def test_a_candle_that_has_not_closed_gives_no_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    saying(monkeypatch, 0.1, 0.1, 0.8)
    signal = newest_signal(model(), market(), stage="live", now=CLOSED - 1)
    assert (signal.status, signal.reason) == ("no signal", "its candle has not closed yet")


def test_torch_threads_are_left_as_they_were() -> None:
    before = torch.get_num_threads()
    newest_signal(model(), market(), stage="live", now=CLOSED)
    assert torch.get_num_threads() == before


@dataclasses.dataclass(frozen=True)
class Says:
    """A model that always says the same."""

    probabilities: tuple[float, float, float]
    symbol: str = "BTC-USD"
    horizon: int = 15

    @property
    def rule(self) -> LabelRule:
        return LabelRule(kind="horizon", horizon=self.horizon)

    @property
    def recipe(self) -> Recipe:
        recipe = load_recipe("v7")
        label = dataclasses.replace(recipe.label, horizon=self.horizon)
        return dataclasses.replace(recipe, label=label)

    @property
    def label(self) -> Label:
        return Label(rule=self.rule, theta=0.0, sha256="")

    @property
    def weights(self) -> Weights:
        return model().weights

    @property
    def feature_set(self) -> FeatureSet:
        return feature_set("founding-72")

    def predict(self, x: np.ndarray) -> Prediction:
        p = np.tile(np.array([self.probabilities]), (len(x), 1))
        return Prediction(np.log(p), p)


def test_several_models_speak_as_their_average() -> None:
    sure, unsure = Says((0.1, 0.1, 0.8)), Says((0.3, 0.2, 0.5))
    both = newest_signal([sure, unsure], market(), stage="live", now=CLOSED)
    assert both.probabilities == pytest.approx((0.2, 0.15, 0.65))
    assert (both.side, both.status, both.confidence) == ("LONG", "signal", pytest.approx(0.65))
    weighted = newest_signal([sure, unsure], market(), stage="live", now=CLOSED, weights=[1, 3])
    assert weighted.confidence == pytest.approx(0.575)
    assert weighted.reason == "its confidence 57.5% is below 60%"
    alone = newest_signal(sure, market(), stage="live", now=CLOSED)
    assert alone == newest_signal([sure], market(), stage="live", now=CLOSED)


def test_nothing_is_said_of_a_stand_in() -> None:
    filled = np.zeros(len(market()), bool)
    filled[-1] = True
    signal = newest_signal(Says((0.1, 0.1, 0.8)), dataclasses.replace(market(), filled=filled), stage="live", now=CLOSED)
    assert (signal.status, signal.reason) == ("no signal", "the newest candle is a stand-in for a missing minute")


def test_two_that_disagree_about_the_side_say_nothing() -> None:
    signal = newest_signal([Says((0.9, 0.05, 0.05)), Says((0.05, 0.05, 0.9))], market(), stage="live", now=CLOSED)
    assert (signal.status, signal.plan) == ("no signal", None)
    assert signal.reason == "DOWN and UP are equally probable, 47.5%"


@pytest.mark.parametrize("other", [Says((0.1, 0.1, 0.8), symbol="ETH-USD"), Says((0.1, 0.1, 0.8), horizon=30)])
def test_models_of_two_questions_are_no_ensemble(other: Says) -> None:
    with pytest.raises(PlanError, match="models of one ensemble"):
        newest_signal([Says((0.1, 0.1, 0.8)), other], market(), stage="live", now=CLOSED)


def test_where_the_market_stands_now_decides_the_order() -> None:
    candles = market()
    close, sure = float(candles.close[-1]), Says((0.8, 0.1, 0.1))
    at_close = newest_signal(sure, candles, stage="live", now=CLOSED)
    assert (at_close.plan.order_type, at_close.plan.entry) == ("LIMIT SELL", close)
    above = newest_signal(sure, candles, stage="live", now=CLOSED, price=2 * close)
    assert (above.plan.order_type, above.plan.entry) == ("SELL STOP", at_close.plan.zone_high)
    below = newest_signal(sure, candles, stage="live", now=CLOSED, price=close / 2)
    assert (below.plan.order_type, below.plan.entry) == ("LIMIT SELL", at_close.plan.zone_low)


def test_a_threshold_a_preset_and_the_rules_of_the_market_can_be_said() -> None:
    sure = Says((0.1, 0.1, 0.8))
    strict = newest_signal(sure, market(), stage="live", now=CLOSED, threshold=0.9)
    assert strict.reason == "its confidence 80.0% is below 90%"
    founding = newest_signal(sure, market(), stage="live", now=CLOSED, preset=SEED_PRESET).plan
    assert founding.stop_loss == pytest.approx(founding.entry * 0.985)
    refused = newest_signal(sure, market(), stage="live", now=CLOSED, rules=MarketRules(min_notional=1e6))
    assert (refused.status, refused.plan) == ("no signal", None)
    assert refused.reason == "the order would be worth less than 1,000,000.00, the least order there"
    assert refused.confidence == pytest.approx(0.8)


def test_a_live_model_is_silent_from_the_moment_on_that_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    saying(monkeypatch, 0.1, 0.1, 0.8)
    in_time = newest_signal(model(), market(), stage="live", now=CLOSED, expires=CLOSED)
    late = newest_signal(model(), market(), stage="live", now=CLOSED, expires=CLOSED - MINUTE)
    rehearsal = newest_signal(model(), market(), stage="shadow", now=CLOSED, expires=CLOSED - MINUTE)
    assert (in_time.status, late.status, rehearsal.status) == ("signal", "no signal", "signal")
    assert late.reason.startswith(f"the model expired on {utc(CLOSED - MINUTE)}")
    assert late.plan is None


def test_a_market_that_has_drifted_from_what_was_learned_is_refused_by_the_name_of_the_feature(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saying(monkeypatch, 0.1, 0.1, 0.8)
    column = feature_set("founding-72").names.index("rsi_14")
    scaling = model().weights.normalizer
    assert scaling is not None
    for away, status in ((2.9, "signal"), (3.2, "no signal"), (-3.2, "no signal")):
        mean = scaling.mean.copy()
        day = compute_features(market(), feature_set("founding-72")).values[-1440:, column].mean()
        mean[column] = day - away * scaling.scale[column]
        moved = Weights({**model().weights.arrays, "normalizer.mean": mean})
        monkeypatch.setattr(Checkpoint, "weights", property(lambda _self, moved=moved: moved))
        found = newest_signal(model(), market(), stage="live", now=CLOSED)
        assert found.status == status, away
        assert ("rsi_14" in found.reason) == (status == "no signal")


def test_a_signal_says_which_model_which_ledger_and_which_override(monkeypatch: pytest.MonkeyPatch) -> None:
    saying(monkeypatch, 0.1, 0.1, 0.8)
    found = newest_signal(
        model(), market(), stage="shadow", now=CLOSED, model_sha256="a" * 64, ledger_head="b" * 64, override="only to look at it"
    )
    plain = found.to_dict()
    assert (plain["model_sha256"], plain["ledger_head"], plain["override"]) == ("a" * 64, "b" * 64, "only to look at it")
    for text in (str(found), telegram(found)):
        assert "REHEARSAL" in text
        assert "REFUSED by its gates, and let speak all the same: only to look at it" in text
