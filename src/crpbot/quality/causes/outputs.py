"""Causes in what the network says: its logits, its confidence, its classes."""

import numpy as np

from crpbot.dataset.labels import CLASSES
from crpbot.model.calibration import LEAST, MOST
from crpbot.quality.causes.cause import Cause, found
from crpbot.quality.diagnosis import Diagnosis
from crpbot.quality.experiment import Experiment, Trial

GAP = 0.05
"""Difference of mean confidence and accuracy from which on it counts."""


def extreme_logits(diagnosis: Diagnosis, experiment: Experiment | None) -> Cause | None:
    """Logits beyond 20."""
    size = diagnosis.metrics.logit_abs_max
    if size is None or size <= 20 or experiment is None:
        return None
    return found(
        "extreme-logits", {"logit_abs_max": size}, trial=experiment.tempered, experiment=experiment, metric="logit_abs_max"
    )


def cosmetic_temperature(diagnosis: Diagnosis, experiment: Experiment | None) -> Cause | None:
    """A temperature at its bound, or one that likelihood would change, where nothing deeper explains it."""
    weights = diagnosis.subject.weights
    if weights is None or weights.temperature is None or experiment is None:
        return None
    temperature, factor, trial = weights.temperature, experiment.temperature, experiment.tempered
    bound = temperature <= LEAST * 1.01 or temperature >= MOST * 0.99
    off = trial.proven and not 0.8 <= factor <= 1.25 and not _explained(experiment, trial)
    if not bound and not off:
        return None
    return found(
        "cosmetic-temperature",
        {"temperature": temperature, "most_likely_temperature": temperature * factor},
        detail=f"It is {temperature:.3g}; the most likely one is {temperature * factor:.3g}.",
        trial=trial,
        experiment=experiment,
    )


def _explained(experiment: Experiment, trial: Trial) -> bool:
    """Whether another remedy repairs clearly more than a temperature."""
    order = experiment.reordered
    others = [experiment.standardized, experiment.relabelled, experiment.reestimated, experiment.shifted, order and order[1]]
    return any(other is not None and other.proven and other.gain.value > trial.gain.value + 0.01 for other in others)


def overconfident(diagnosis: Diagnosis, experiment: Experiment | None) -> Cause | None:
    """More than 99 % claimed on a tenth of the rows, or a mean confidence well above the accuracy."""
    m = diagnosis.metrics
    if m.confidence_over_99 is None or m.accuracy is None or m.mean_confidence is None or experiment is None:
        return None
    loud = m.confidence_over_99 >= 0.1
    if not loud and not _gap(diagnosis, experiment) > GAP:
        return None
    return found(
        "overconfident",
        {"confidence_over_99": m.confidence_over_99, "mean_confidence": m.mean_confidence, "accuracy": m.accuracy},
        severity="critical" if loud else "warning",
        trial=experiment.tempered,
        experiment=experiment,
        metric="confidence_over_99" if loud else "mean_confidence",
    )


def _gap(diagnosis: Diagnosis, experiment: Experiment) -> float:
    """Return the mean confidence less the accuracy; 0 where chance may have made it."""
    judged = diagnosis.judged
    p = judged.prediction.probabilities
    return experiment.over_chance(p.max(axis=1) - (p.argmax(axis=1) == judged.y))


def underconfident(diagnosis: Diagnosis, experiment: Experiment | None) -> Cause | None:
    """A mean confidence well below the accuracy."""
    m = diagnosis.metrics
    if m.accuracy is None or m.mean_confidence is None or experiment is None or not _gap(diagnosis, experiment) < -GAP:
        return None
    return found(
        "underconfident",
        {"mean_confidence": m.mean_confidence, "accuracy": m.accuracy},
        trial=experiment.tempered,
        experiment=experiment,
        metric="ece",
    )


def class_collapse(diagnosis: Diagnosis, experiment: Experiment | None) -> Cause | None:
    """One class on more than 90 % of the rows."""
    m = diagnosis.metrics
    if m.predicted_share is None or m.actual_share is None or max(m.predicted_share) <= 0.9 or experiment is None:
        return None
    top = int(np.argmax(m.predicted_share))
    return found(
        "class-collapse",
        {"predicted_share": m.predicted_share[top], "actual_share": m.actual_share[top]},
        detail=f"It says {CLASSES[top]} on {100 * m.predicted_share[top]:.0f} % of the rows; that class is "
        f"{100 * m.actual_share[top]:.0f} %.",
        trial=experiment.shifted,
        experiment=experiment,
        metric="class_bias",
    )


def class_bias(diagnosis: Diagnosis, experiment: Experiment | None) -> Cause | None:
    """A mean probability more than 3 points from the actual share."""
    m = diagnosis.metrics
    if m.class_bias is None or m.mean_probability is None or m.actual_share is None or m.class_bias <= 0.03 or experiment is None:
        return None
    gaps = np.subtract(m.mean_probability, m.actual_share)
    worst = int(np.abs(gaps).argmax())
    judged = diagnosis.judged
    if not experiment.over_chance(judged.prediction.probabilities[:, worst] - (judged.y == worst)):
        return None
    return found(
        "class-bias",
        {"mean_probability": m.mean_probability[worst], "actual_share": m.actual_share[worst]},
        detail=f"{CLASSES[worst]}: {100 * m.mean_probability[worst]:.1f} % said on average, {100 * m.actual_share[worst]:.1f} % "
        "came.",
        trial=experiment.shifted,
        experiment=experiment,
        metric="class_bias",
    )


def miscalibrated(diagnosis: Diagnosis, experiment: Experiment | None) -> Cause | None:
    """A calibration error above 5 %."""
    ece, interval = diagnosis.metrics.ece, diagnosis.metrics.ece_interval
    if ece is None or interval is None or ece <= 0.05 or not interval[0] > 0.02 or experiment is None:
        return None
    return found("miscalibrated", {"ece": ece}, trial=experiment.tempered, experiment=experiment, metric="ece")
