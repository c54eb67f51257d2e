"""Gates: named thresholds on a diagnosis, as tables. All required gates pass, or the checkpoint is refused.

A number that could not be measured fails its gate.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from crpbot.dataset.labels import CLASSES, DOWN, UP
from crpbot.quality.measure import Metrics
from crpbot.quality.metrics import Mean, percent

GateTable = Literal["market", "seed"]


@dataclass(frozen=True, slots=True)
class Limit:
    """What a value must be, written for people and for the check alike.

    >>> Limit("<=", 20.0).holds(20.5), str(Limit("<=", 20.0)), str(Limit("within", 0.4, 0.6))
    (False, '<= 20', '0.4 to 0.6')
    """

    kind: Literal["<=", "<", ">=", "within"]
    bound: float
    upper: float = float("nan")

    def holds(self, value: float | None) -> bool:
        """Return whether `value` keeps the limit; None and NaN never do."""
        if value is None:
            return False
        if self.kind == "<=":
            return value <= self.bound
        if self.kind == "<":
            return value < self.bound
        if self.kind == ">=":
            return value >= self.bound
        return self.bound <= value <= self.upper

    def __str__(self) -> str:
        if self.kind == "within":
            return f"{self.bound:g} to {self.upper:g}"
        return f"{self.kind} {self.bound:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One named threshold.

    Attributes:
        name: of the gate.
        measures: what it looks at, for people.
        value: what is compared, from the metrics.
        limit: what it must keep.
        words: the value and what it means, as a clause for people.
        target: what a good model reaches, as text; the limit decides.
        required: whether failing it refuses the checkpoint.

    """

    name: str
    measures: str
    value: Callable[[Metrics], float | None]
    limit: Limit
    words: Callable[[Metrics], str]
    target: str | None = None
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """What one gate says.

    Attributes:
        name: of the gate.
        required: whether failing it refuses the checkpoint.
        value: what was compared; None could not be measured.
        limit, target: as text.
        passed: whether the value keeps the limit.
        words: the value and what it means, for people.

    """

    name: str
    required: bool
    value: float | None
    limit: str
    target: str | None
    passed: bool
    words: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a table of gates says.

    Attributes:
        table: its name.
        results: one for each gate, in the order of the table.

    """

    table: GateTable
    results: tuple[GateResult, ...]

    @property
    def passed(self) -> bool:
        """Whether every required gate passed."""
        return all(result.passed for result in self.results if result.required)

    @property
    def failed(self) -> tuple[GateResult, ...]:
        """The required gates that did not pass."""
        return tuple(result for result in self.results if result.required and not result.passed)

    @property
    def only_alarm(self) -> bool:
        """Whether nothing failed but the alarm, so that an audit decides."""
        return [result.name for result in self.failed] == [ALARM]


ALARM, TOO_GOOD = "too-good", 0.60
"""The gate that an audit may answer, and the accuracy above which it rings: such a result is most often a leak."""


def answered(verdict: Verdict, words: str) -> Verdict:
    """Return the verdict with its alarm answered by an audit that found the result earned; `words` are the audit's."""
    return replace(
        verdict,
        results=tuple(
            replace(result, passed=True, words=f"{result.words}. It has: {words}") if result.name == ALARM else result
            for result in verdict.results
        ),
    )


def judge(metrics: Metrics, table: GateTable) -> Verdict:
    """Hold every gate of `table` against `metrics`."""
    return Verdict(table, tuple(_ask(gate, metrics) for gate in GATES[table]))


def _ask(gate: Gate, metrics: Metrics) -> GateResult:
    value = gate.value(metrics)
    return GateResult(
        name=gate.name,
        required=gate.required,
        value=value,
        limit=str(gate.limit),
        target=gate.target,
        passed=gate.limit.holds(value),
        words="it could not be measured" if value is None else gate.words(metrics),
    )


def _errors(mean: Mean | None) -> float | None:
    return None if mean is None or math.isnan(mean.error) else mean.errors


def _compared(m: Metrics, mean: Mean | None, other: float | None, name: str) -> str:
    assert mean is not None
    side = "above" if mean.value >= 0 else "below"
    return (
        f"accuracy {percent(m.accuracy)} is {abs(100 * mean.value):.1f} points {side} the {percent(other)} of {name}, "
        f"{_signed(_errors(mean), 1)} standard errors"
    )


def _signed(value: float | None, digits: int) -> str:
    return "unknown" if value is None or not math.isfinite(value) else f"{value:+.{digits}f}"


def _direction_at_worst(m: Metrics) -> float | None:
    """Return the upper end of the 95 % interval of directional log loss less the prior's: luck has to be ruled out."""
    return None if m.over_direction is None else m.over_direction.interval[1]


def _worst(m: Metrics) -> str:
    worst = m.worst_regime
    assert worst is not None
    side = "above" if worst.over_majority.value >= 0 else "below"
    return (
        f"of {len(m.regimes)} parts, {worst.name} is the worst: {percent(worst.accuracy)} there is "
        f"{abs(100 * worst.over_majority.value):.1f} points {side} its commonest class, {worst.over_majority.errors:+.1f} "
        "standard errors"
    )


def _share(index: int) -> Callable[[Metrics], float | None]:
    return lambda m: None if m.predicted_share is None else m.predicted_share[index]


def _share_gate(index: int) -> Gate:
    share = _share(index)
    return Gate(
        name=f"{CLASSES[index].lower()}-share",
        measures=f"the share of predictions that say {CLASSES[index]}",
        value=share,
        limit=Limit("within", 0.40, 0.60),
        words=lambda m: f"{percent(share(m))} of the predictions are {CLASSES[index]}",
    )


def _logit_range(limit: Limit, target: str | None) -> Gate:
    return Gate(
        name="logit-range",
        measures="the largest logit of either sign, as served",
        value=lambda m: m.logit_abs_max,
        limit=limit,
        target=target,
        words=lambda m: f"the largest |logit| is {m.logit_abs_max:,.1f}",
    )


def _overconfidence() -> Gate:
    return Gate(
        name="overconfidence",
        measures="the share of predictions above 99 %",
        value=lambda m: m.confidence_over_99,
        limit=Limit("<", 0.10),
        words=lambda m: f"{percent(m.confidence_over_99)} of the predictions claim more than 99 %",
    )


MARKET_GATES = (
    Gate(
        name="finite-weights",
        measures="whether every weight is a finite number",
        value=lambda m: None if m.finite_weights is None else float(m.finite_weights),
        limit=Limit(">=", 1),
        words=lambda m: "every weight is finite" if m.finite_weights else "some weights are not finite numbers",
    ),
    Gate(
        name="normalizer-present",
        measures="whether the checkpoint carries a normalizer that was fitted",
        value=lambda m: float(m.normalizer_present),
        limit=Limit(">=", 1),
        words=lambda m: (
            "the normalizer is in the checkpoint" if m.normalizer_present else "the checkpoint has no normalizer that was fitted"
        ),
    ),
    Gate(
        name="normalizer-fits",
        measures="the largest ratio between the deviation of a scale-free feature and the scale of the normalizer, either way up",
        value=lambda m: m.normalizer_ratio,
        limit=Limit("<=", 10),
        words=lambda m: f"the candles vary up to {m.normalizer_ratio:.1f} times as the normalizer expects, either way up",
    ),
    _logit_range(Limit("<=", 20), target="<= 10"),
    _overconfidence(),
    Gate(
        name="no-collapse",
        measures="the share of the commonest prediction",
        value=lambda m: None if m.predicted_share is None else max(m.predicted_share),
        limit=Limit("<=", 0.90),
        words=lambda m: f"one class is {percent(max(m.predicted_share or (0.0,)))} of the predictions",
    ),
    Gate(
        name="class-bias",
        measures="the largest difference, in any class, between mean probability and actual share",
        value=lambda m: m.class_bias,
        limit=Limit("<=", 0.03),
        words=lambda m: f"mean probability and actual share differ by up to {100 * (m.class_bias or 0):.1f} points",
    ),
    Gate(
        name="calibration",
        measures="the calibration error, less what chance makes of a calibrated model whose labels overlap as these do",
        value=lambda m: m.ece_excess,
        limit=Limit("<=", 0.05),
        words=lambda m: (
            f"confidence and truth differ by {percent(m.ece)} on average, {percent(m.ece_by_chance)} of it what chance makes of "
            "a calibrated model"
        ),
    ),
    Gate(
        name="beats-majority",
        measures="accuracy above that of the commonest class in hindsight, in paired block standard errors",
        value=lambda m: _errors(m.over_majority),
        limit=Limit(">=", 2),
        words=lambda m: _compared(m, m.over_majority, m.majority_accuracy, "always saying the commonest class"),
    ),
    Gate(
        name="not-below-one-feature",
        measures="accuracy above that of the best one-feature rule of the training rows, in paired block standard errors",
        value=lambda m: _errors(m.over_rule),
        limit=Limit(">=", -2),
        words=lambda m: _compared(m, m.over_rule, m.rule_accuracy, "the best one-feature rule"),
    ),
    Gate(
        name="foretells-direction",
        measures="log loss of UP against DOWN less that of their actual shares, at the upper end of its 95 % interval, in nats",
        value=_direction_at_worst,
        limit=Limit("<", 0),
        words=lambda m: (
            f"the log loss of UP against DOWN is {m.directional_log_loss:.4f} where knowing nothing has "
            f"{m.prior_directional_log_loss:.4f}, {_signed(_errors(m.over_direction), 1)} standard errors; at the upper end "
            f"of its 95 % interval the difference is {_signed(_direction_at_worst(m), 4)}"
        ),
    ),
    Gate(
        name="no-broken-regime",
        measures="accuracy above the commonest class in the worst third by volatility or month, in block standard errors",
        value=lambda m: None if m.worst_regime is None else m.worst_regime.over_majority.errors,
        limit=Limit(">=", -3),
        words=_worst,
    ),
    Gate(
        name="enough-rows",
        measures="independent outcomes: the sum of the uniqueness of the labels, which overlap",
        value=lambda m: m.effective_rows,
        limit=Limit(">=", 1_000),
        words=lambda m: f"{m.rows or 0:,} rows with overlapping labels carry about {m.effective_rows or 0:,.0f} outcomes",
    ),
    Gate(
        name=ALARM,
        measures="accuracy; above 60 % an alarm rings, which an audit has to answer",
        value=lambda m: m.accuracy,
        limit=Limit("<=", TOO_GOOD),
        words=lambda m: f"accuracy {percent(m.accuracy)}; above 60 % on minutes is an alarm, which crpbot audit has to answer",
    ),
)
"""What a model must do before it may speak of a real market."""

SEED_GATES = (
    _logit_range(Limit("<=", 10), target=None),
    _overconfidence(),
    Gate(
        name="confidence-50-90",
        measures="the share of confidences within 50 % to 90 %",
        value=lambda m: m.confidence_50_90,
        limit=Limit("within", 0.70, 0.80),
        words=lambda m: f"{percent(m.confidence_50_90)} of the confidences are within 50 % to 90 %",
    ),
    _share_gate(DOWN),
    _share_gate(UP),
    Gate(
        name="calibration",
        measures="the calibration error",
        value=lambda m: m.ece,
        limit=Limit("<", 0.05),
        words=lambda m: f"confidence and truth differ by {percent(m.ece)} on average",
    ),
    Gate(
        name="accuracy",
        measures="the share of right predictions",
        value=lambda m: m.accuracy,
        limit=Limit("within", 0.68, 0.72),
        words=lambda m: f"accuracy is {percent(m.accuracy)}",
    ),
)
"""The target table of the founding document. On a real market its accuracy is a warning, not a goal."""

GATES: Mapping[GateTable, tuple[Gate, ...]] = {"market": MARKET_GATES, "seed": SEED_GATES}
