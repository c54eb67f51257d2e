"""What can be measured of predictions and labels. Numbers only; `gates` holds the opinions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.baselines import OneFeatureRule
from crpbot.dataset.features.program import PURE
from crpbot.dataset.labels import DOWN, NEUTRAL, UP, average_uniqueness
from crpbot.model.calibration import row_log_loss
from crpbot.model.subject import Subject
from crpbot.quality import metrics
from crpbot.quality.metrics import Mean
from crpbot.quality.regimes import Regime, measure_regimes
from crpbot.quality.reliability import Reliability, n_bins, reliability
from crpbot.quality.rows import Judged


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What was measured. Shares and errors are fractions, losses in nats; `None` is unmeasurable, and fails every gate.

    Attributes:
        rows: that were judged.
        effective_rows: sum of the average uniqueness of the labels, since labels overlap: about rows over the horizon.
        finite_weights: whether every number of the network is finite.
        normalizer_present: whether the checkpoint carries a normalizer that can have been fitted.
        normalizer_ratio: the largest ratio, over scale-free features, between the rows' deviation and the normalizer's scale,
            either way up; 1 fits, `None` without a normalizer.
        logit_min, logit_max, logit_abs_max, logit_mean: after the temperature, as served; the mean by class.
        confidence_over_99: share of rows with a probability above 0.99.
        confidence_over_60: share of rows where DOWN or UP has at least 0.60, as a signal needs.
        confidence_50_90: share of rows whose highest probability is within 0.50 to 0.90.
        mean_confidence: mean of the highest probability.
        predicted_share, actual_share: of each class: the most probable one, and the true one.
        mean_probability: of each class.
        class_bias: the largest |mean probability − actual share|.
        ece, ece_interval: calibration error of the predicted class, lower is better.
        ece_by_chance, ece_excess: what a perfectly calibrated model with the same confidences and overlapping labels would show,
            and how much more this one shows; negative is less.
        log_loss, prior_log_loss: of the model, and of always saying the actual shares; lower is better.
        directional_log_loss, prior_directional_log_loss: the same of UP against DOWN on rows that were not NEUTRAL.
        brier: 0 to 2, lower is better.
        accuracy, majority_accuracy, rule_accuracy: of the model, of always saying the commonest class in hindsight, and of the
            one-feature rule chosen on training rows (`None` where that is unknown).
        accuracy_interval: of the model's accuracy, 95 %, from resampled blocks of time.
        over_majority, over_rule: accuracy less theirs, row by row, with block standard errors.
        errors: block standard errors, by the name of what they are of: log_loss, brier, class_bias, confidence_over_60 and
            confidence_over_99. NaN where they are unknown.
        disagreement_mean: of the members of an ensemble, as in `Prediction`; None for a single network.
        over_direction: directional log loss less that of always saying the actual share of UP, likewise; negative is better.
        regimes: the same in parts of the span; empty where all parts are too short.

    """

    rows: int | None = None
    effective_rows: float | None = None
    finite_weights: bool | None = None
    normalizer_present: bool = False
    normalizer_ratio: float | None = None
    logit_min: float | None = None
    logit_max: float | None = None
    logit_abs_max: float | None = None
    logit_mean: tuple[float, ...] | None = None
    confidence_over_99: float | None = None
    confidence_over_60: float | None = None
    confidence_50_90: float | None = None
    mean_confidence: float | None = None
    predicted_share: tuple[float, ...] | None = None
    actual_share: tuple[float, ...] | None = None
    mean_probability: tuple[float, ...] | None = None
    class_bias: float | None = None
    ece: float | None = None
    ece_interval: tuple[float, float] | None = None
    ece_by_chance: float | None = None
    ece_excess: float | None = None
    log_loss: float | None = None
    prior_log_loss: float | None = None
    directional_log_loss: float | None = None
    prior_directional_log_loss: float | None = None
    brier: float | None = None
    accuracy: float | None = None
    accuracy_interval: tuple[float, float] | None = None
    majority_accuracy: float | None = None
    rule_accuracy: float | None = None
    over_majority: Mean | None = None
    over_rule: Mean | None = None
    over_direction: Mean | None = None
    errors: Mapping[str, float] | None = None
    disagreement_mean: float | None = None
    regimes: tuple[Regime, ...] = ()

    @property
    def worst_regime(self) -> Regime | None:
        """The part in which the accuracy is the most standard errors below the majority's; None where there is no part."""
        return min(self.regimes, key=lambda regime: regime.over_majority.errors, default=None)


def measure(subject: Subject, judged: Judged, rule: OneFeatureRule | None) -> tuple[Metrics, Reliability | None]:
    """Return what can be measured, and the calibration curve; less, and no curve, where the logits are not finite.

    Args:
        subject: that predicted.
        judged: rows, labels and predictions.
        rule: the one-feature rule to compare with.

    """
    y, weights, resamples = judged.y, subject.weights, judged.resamples
    effective_rows = float(average_uniqueness(judged.time, judged.known).sum())
    actual = metrics.shares(y)
    majority = int(actual.argmax())
    rule_right = (rule.predict(judged.x, subject.features) == y).astype(float) if rule else None
    known: dict[str, Any] = {
        "rows": len(y),
        "effective_rows": effective_rows,
        "finite_weights": weights is None or all(bool(np.isfinite(array).all()) for array in weights.arrays.values()),
        "normalizer_present": weights is not None and weights.normalizer is not None and weights.normalizer.fitted,
        "normalizer_ratio": _normalizer_ratio(subject, judged.x),
        "actual_share": tuple(actual.tolist()),
        "prior_log_loss": metrics.prior_log_loss(y),
        "prior_directional_log_loss": metrics.prior_directional_log_loss(y),
        "majority_accuracy": float(actual[majority]),
        "rule_accuracy": None if rule_right is None else float(rule_right.mean()),
    }
    logits, probabilities = judged.prediction.logits, judged.prediction.probabilities
    if not np.isfinite(logits).all():
        return Metrics(**known), None
    disagreement = judged.prediction.disagreement
    confidence, predicted = probabilities.max(axis=1), probabilities.argmax(axis=1)
    right = (predicted == y).astype(float)
    accuracy = resamples.mean(right)
    curve = reliability(probabilities, y, resamples, time=judged.time, known=judged.known, bins=n_bins(effective_rows))
    mean_probability = probabilities.mean(axis=0)
    return (
        Metrics(
            **known,
            logit_min=float(logits.min()),
            logit_max=float(logits.max()),
            logit_abs_max=float(np.abs(logits).max()),
            logit_mean=tuple(logits.mean(axis=0).tolist()),
            confidence_over_99=float((confidence > 0.99).mean()),
            confidence_over_60=float((probabilities[:, [DOWN, UP]].max(axis=1) >= 0.6).mean()),
            confidence_50_90=float(((confidence >= 0.5) & (confidence <= 0.9)).mean()),
            mean_confidence=float(confidence.mean()),
            predicted_share=tuple(metrics.shares(predicted).tolist()),
            mean_probability=tuple(mean_probability.tolist()),
            class_bias=float(np.abs(mean_probability - actual).max()),
            ece=curve.ece,
            ece_interval=curve.ece_interval,
            ece_by_chance=curve.ece_by_chance,
            ece_excess=curve.ece - curve.ece_by_chance,
            log_loss=metrics.log_loss_of_logits(logits, y),
            directional_log_loss=metrics.directional_log_loss(logits, y),
            brier=metrics.brier(probabilities, y),
            accuracy=accuracy.value,
            accuracy_interval=accuracy.interval,
            over_majority=resamples.mean(right - (y == majority)),
            over_rule=None if rule_right is None else resamples.mean(right - rule_right),
            over_direction=_over_direction(judged),
            errors=_errors(judged, int(np.abs(mean_probability - actual).argmax())),
            disagreement_mean=None if disagreement is None else float(disagreement.mean()),
            regimes=measure_regimes(judged, effective_rows),
        ),
        curve,
    )


def _errors(judged: Judged, biased: int) -> dict[str, float]:
    """Return the block standard errors of means over the rows; `biased` is the class of the bias."""
    y, probabilities = judged.y, judged.prediction.probabilities
    rows = {
        "log_loss": row_log_loss(judged.prediction.logits, y),
        "brier": metrics.row_brier(probabilities, y),
        "class_bias": probabilities[:, biased] - (y == biased),
        "confidence_over_60": (probabilities[:, [DOWN, UP]].max(axis=1) >= 0.6).astype(float),
        "confidence_over_99": (probabilities.max(axis=1) > 0.99).astype(float),
    }
    return {name: judged.resamples.mean(x).error for name, x in rows.items()}


def _over_direction(judged: Judged) -> Mean | None:
    """Compare P(UP)/(P(UP) + P(DOWN)) with the actual share of UP among the moves, row by row."""
    moved, up = judged.y != NEUTRAL, judged.y == UP
    if not moved.any():
        return None
    loss = metrics.directional_row_loss(judged.prediction.logits, judged.y)
    share = up[moved].mean()
    with np.errstate(divide="ignore"):  # a class that never came is not asked for
        prior = -np.log(np.where(up, share, 1 - share))
    return judged.resamples.mean(np.where(moved, loss - prior, 0.0), rows=moved)


def _normalizer_ratio(subject: Subject, x: NDArray[np.float64]) -> float | None:
    """Compare scales on scale-free features only: price levels honestly differ between markets and months."""
    normalizer = subject.weights.normalizer if subject.weights else None
    if normalizer is None:
        return None
    units = dict(zip(subject.feature_set.names, subject.feature_set.units, strict=True))
    free = [i for i, name in enumerate(subject.features) if units[name] == PURE]
    spread, scale = x[:, free].std(axis=0), normalizer.scale[free]
    varied = spread > 0
    if not varied.any() or not (np.isfinite(scale) & (scale > 0)).all():
        return None
    ratio = spread[varied] / scale[varied]
    return float(np.maximum(ratio, 1 / ratio).max())
