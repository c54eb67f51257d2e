import dataclasses

import pytest

from crpbot.quality.gates import GATES, MARKET_GATES, SEED_GATES, Gate, judge
from crpbot.quality.measure import Metrics
from crpbot.quality.metrics import Mean
from crpbot.quality.regimes import Regime


def part(over: float) -> Regime:
    """Return a part of the span that is so much better than its commonest class."""
    return Regime(name="2026-04", rows=40_000, accuracy=0.46 + over, majority_accuracy=0.46, over_majority=Mean(over, 0.01))


SOUND = Metrics(
    rows=157_680,
    effective_rows=10_512.0,
    finite_weights=True,
    normalizer_present=True,
    normalizer_ratio=1.6,
    logit_min=-3.0,
    logit_max=2.0,
    logit_abs_max=3.0,
    logit_mean=(0.0, -1.0, 0.0),
    confidence_over_99=0.0,
    confidence_50_90=0.2,
    predicted_share=(0.5, 0.0, 0.5),
    actual_share=(0.46, 0.08, 0.46),
    mean_probability=(0.46, 0.08, 0.46),
    class_bias=0.001,
    ece=0.01,
    ece_interval=(0.005, 0.015),
    ece_by_chance=0.008,
    ece_excess=0.002,
    log_loss=0.9,
    prior_log_loss=0.92,
    directional_log_loss=0.690,
    prior_directional_log_loss=0.693,
    brier=0.57,
    accuracy=0.48,
    accuracy_interval=(0.47, 0.49),
    majority_accuracy=0.46,
    rule_accuracy=0.48,
    over_majority=Mean(0.02, 0.004),
    over_rule=Mean(0.0, 0.001),
    over_direction=Mean(-0.003, 0.001),
    regimes=(part(0.02), part(-0.029)),
)
FAULTS = {
    "finite-weights": {"finite_weights": False},
    "normalizer-present": {"normalizer_present": False},
    "normalizer-fits": {"normalizer_ratio": 300.0},
    "logit-range": {"logit_abs_max": 20.5},
    "overconfidence": {"confidence_over_99": 0.10},
    "no-collapse": {"predicted_share": (0.95, 0.0, 0.05)},
    "class-bias": {"class_bias": 0.031},
    "calibration": {"ece_excess": 0.051},
    "beats-majority": {"over_majority": Mean(0.007, 0.004)},
    "not-below-one-feature": {"over_rule": Mean(-0.01, 0.004)},
    "foretells-direction": {"over_direction": Mean(-0.0019, 0.001)},
    "no-broken-regime": {"regimes": (part(0.02), part(-0.031))},
    "enough-rows": {"effective_rows": 999.0},
    "too-good": {"accuracy": 0.71},
}
UNKNOWN = Metrics(
    rows=1, effective_rows=0.1, finite_weights=False, normalizer_present=False, normalizer_ratio=None, actual_share=(1, 0, 0),
    prior_log_loss=0.0, prior_directional_log_loss=None, majority_accuracy=1.0, rule_accuracy=None,
)  # fmt: skip


def test_a_sound_model_passes_the_market_gates() -> None:
    assert judge(SOUND, "market").failed == ()


@pytest.mark.parametrize("gate", MARKET_GATES, ids=lambda gate: gate.name)
def test_every_market_gate_fails_for_its_own_fault_alone(gate: Gate) -> None:
    verdict = judge(dataclasses.replace(SOUND, **FAULTS[gate.name]), "market")
    assert [result.name for result in verdict.failed] == [gate.name]
    assert not verdict.passed
    assert all(result.words for result in verdict.results)


@pytest.mark.parametrize("table", GATES)
def test_what_cannot_be_measured_fails(table: str) -> None:
    verdict = judge(UNKNOWN, table)
    unmeasured = [result for result in verdict.results if result.value is None]
    assert len(unmeasured) >= 5
    assert not any(result.passed for result in unmeasured)


def test_the_founding_targets_hold_only_for_the_founding_table() -> None:
    target = dataclasses.replace(SOUND, accuracy=0.70, confidence_50_90=0.75)
    assert judge(target, "seed").passed
    for name, fault in {
        "logit-range": {"logit_abs_max": 10.1},
        "overconfidence": {"confidence_over_99": 0.10},
        "confidence-50-90": {"confidence_50_90": 0.69},
        "down-share": {"predicted_share": (0.61, 0.0, 0.39)},
        "calibration": {"ece": 0.05},
        "accuracy": {"accuracy": 0.73},
    }.items():
        assert name in [result.name for result in judge(dataclasses.replace(target, **fault), "seed").failed]
    assert len(SEED_GATES) == 7


def test_a_difference_without_spread_is_judged_by_its_sign() -> None:
    def value(mean: Mean) -> float | None:
        verdict = judge(dataclasses.replace(SOUND, over_majority=mean), "market")
        return next(result.value for result in verdict.results if result.name == "beats-majority")

    assert value(Mean(0.0, 0.0)) == 0
    assert value(Mean(-0.1, 0.0)) == float("-inf")
    assert value(Mean(0.1, float("nan"))) is None
