"""What people and bots are told."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crpbot.errors import PlanError
from crpbot.signals.plan import PRESETS, make_plan
from crpbot.signals.rules import UNKNOWN, MarketRules
from crpbot.signals.signal import Signal
from crpbot.signals.text import TELEGRAM, hummingbot, telegram


def signal(
    side: str = "LONG", *, center: float = 60_123.45, rules: MarketRules = UNKNOWN, preset: str = "atr", **changes: object
) -> Signal:
    plan = make_plan(side, center=center, atr=center * 1e-3, price=center, preset=PRESETS[preset], rules=rules)
    found = Signal(
        symbol="BTC-USD",
        stage="live",
        status="signal",
        reason="",
        candle="2026-01-02T03:04Z",
        expires="2026-01-02T03:35Z",
        close_after=None,
        close_by="2026-01-02T03:20Z",
        side=side,
        confidence=0.7,
        probabilities=(0.1, 0.2, 0.7) if side == "LONG" else (0.7, 0.2, 0.1),
        plan=plan,
        rules=rules,
    )
    return dataclasses.replace(found, **changes)


RULES = MarketRules(tick=0.01, lot=1e-6, min_notional=1.0)


def test_numbers_have_the_precision_of_the_market() -> None:
    found = signal(rules=RULES)
    for text in (telegram(found), str(found)):
        assert f"LIMIT BUY at {found.plan.entry:,.2f}" in text
        assert f"{found.plan.stop_loss:,.2f}" in text
        assert f"{found.plan.size:.6f} BTC" in text
    cheap = signal(center=0.012345, rules=MarketRules(tick=0.000001, lot=1.0))
    assert "LIMIT BUY at 0.012345\n" in telegram(cheap)
    assert f"Size {cheap.plan.size:.0f} BTC" in telegram(cheap)
    assert "60,123.45" in telegram(signal())  # unknown: six digits


def test_the_message_as_it_is_sent() -> None:
    assert telegram(signal("SHORT", center=60_000.0, rules=RULES)) == (
        "SHORT BTC-USD, confidence 70.0%\n"
        "LIMIT SELL at 60,000.00\n"
        "Entry zone 59,985.00 to 60,015.00\n"
        "Stop loss 60,090.00 (+0.15%)\n"
        "Take profit 59,838.00 (-0.27%), risk:reward 1:1.8\n"
        "Size 0.166666 BTC, risking 15.00 USD\n"
        "Valid until 2026-01-02T03:35Z, candle of 2026-01-02T03:04Z\n"
        "Close by 2026-01-02T03:20Z\n"
        "DOWN 70.0%, NEUTRAL 20.0%, UP 10.0%"
    )


@given(
    st.sampled_from(["LONG", "SHORT"]),
    st.floats(1e-7, 1e7),
    st.sampled_from(list(PRESETS)),
    st.sampled_from(["signal", "expired", "no signal"]),
    st.sampled_from(["live", "shadow"]),
    st.text(max_size=9_000),
)
def test_a_message_fits_and_says_what_must_not_be_missed(
    side: str, center: float, preset: str, status: str, stage: str, reason: str
) -> None:
    try:
        whole = signal(side, center=center, preset=preset, status=status, stage=stage)
    except PlanError:
        return
    found = dataclasses.replace(whole, reason=reason, plan=None if status == "no signal" else whole.plan)
    text = telegram(found)
    assert len(text.encode("utf-16-le")) <= 2 * TELEGRAM
    assert text.startswith("REHEARSAL, not for trading") == (stage == "shadow")
    assert ("EXPIRED" in text.split("\n")[0 if stage == "live" else 1]) == (status == "expired")
    if len(reason) < 200:
        assert len(text) < 1_000


@pytest.mark.parametrize("reason", ["x" * 9_000, "📉" * 5_000, "x" + "📉" * 5_000])
def test_a_message_that_is_too_long_is_cut_where_a_character_ends(reason: str) -> None:
    text = telegram(signal(status="no signal", plan=None, reason=reason))
    assert TELEGRAM - 2 < len(text.encode("utf-16-le")) / 2 <= TELEGRAM
    assert text.endswith("…")


def controller(message: dict, *, short_threshold: float = 0.5, long_threshold: float = 0.5) -> int:
    """Decide as hummingbot's `ai_livestream` does: sell before buy, and only above the threshold."""
    short, _, long = message["probabilities"]
    return -1 if short > short_threshold else 1 if long > long_threshold else 0


def test_hummingbot_trades_what_the_signal_says_and_nothing_else() -> None:
    for side, way in (("LONG", 1), ("SHORT", -1)):
        found = signal(side)
        message = json.loads(json.dumps(hummingbot(found)))
        assert controller(message) == way
        assert message["probabilities"] == list(found.probabilities)
        assert message["target_pct"] == pytest.approx(0.0015)  # times its stop loss of 1: ours
        for silent in (
            dataclasses.replace(found, stage="shadow"),
            dataclasses.replace(found, status="expired", reason="it was valid until then"),
            dataclasses.replace(found, status="no signal", plan=None, reason="its confidence 70.0% is below 80%"),
        ):
            quiet = hummingbot(silent)
            assert controller(quiet, short_threshold=0.0, long_threshold=0.0) == 0
            assert quiet["reason"]


def test_json_names_its_format_and_keeps_every_key() -> None:
    found = json.loads(json.dumps(signal(rules=RULES).to_dict()))
    assert found["format"] == "crpbot.signal/1"
    assert set(found) == {
        "format", "symbol", "stage", "status", "reason", "candle", "expires", "close_by", "close_after", "side", "confidence",
        "probabilities", "disagreement", "plan", "rules", "model_sha256", "ledger_head", "override",
    }  # fmt: skip
    assert found["disagreement"] is None
    assert found["rules"] == {"tick": 0.01, "lot": 1e-6, "min_notional": 1.0}
    assert set(found["plan"]) == {
        "side", "order_type", "zone_low", "zone_high", "entry", "stop_loss", "take_profit", "risk_reward", "size", "risk_money",
    }  # fmt: skip


def test_only_an_ensemble_says_how_far_its_members_are_apart() -> None:
    several = signal(disagreement=0.0213)
    assert "Members disagree by 2.1 points" in telegram(several)
    assert "members      disagree by 2.1 points" in str(several)
    for text in (telegram(signal()), str(signal())):
        assert "disagree" not in text
