"""Causes in what the numbers are worth: skill, luck, and what has changed since training."""

import math

import numpy as np

from crpbot.dataset.labels import CLASSES, DOWN, NEUTRAL, UP
from crpbot.model.calibration import row_log_loss
from crpbot.quality import metrics
from crpbot.quality.causes.cause import Cause, found
from crpbot.quality.diagnosis import Diagnosis
from crpbot.quality.experiment import Experiment
from crpbot.quality.gates import TOO_GOOD
from crpbot.quality.metrics import Mean
from crpbot.quality.rows import Judged

TRAINING_ROWS = 20_000
"""Training rows that are predicted, evenly spread, to see whether the network knows them by heart."""
FEWEST_OUTCOMES = 1_000


def no_weights(diagnosis: Diagnosis, experiment: Experiment | None) -> Cause | None:
    """A file that holds none."""
    del experiment
    holds = diagnosis.subject.holds
    return None if holds is None else found("no-weights", {}, detail=f"It holds {holds:.200}.", fatal=True)


def no_skill(diagnosis: Diagnosis, experiment: Experiment | None) -> Cause | None:
    """Ask for skill after the temperature was refitted: a loud model may still know something."""
    m = diagnosis.metrics
    if m.over_majority is None or m.accuracy is None or not math.isfinite(m.over_majority.error) or experiment is None:
        return None
    judged, held = diagnosis.judged, experiment.held
    refitted = metrics.directional_log_loss(judged.prediction.logits[held] / experiment.temperature, judged.y[held])
    prior = metrics.prior_directional_log_loss(judged.y[held])
    better = m.over_majority.value >= 2 * m.over_majority.error
    if better and refitted is not None and prior is not None and refitted < prior:
        return None
    evidence = {
        "accuracy": m.accuracy,
        "majority_accuracy": m.majority_accuracy,
        "standard_error": m.over_majority.error,
        "refitted_directional_log_loss": refitted,
        "prior_directional_log_loss": prior,
    }
    turned = _turned_edge(judged)
    if not turned.value > 3 * turned.error:
        return found("no-skill", evidence)
    evidence["edge_with_down_and_up_exchanged"] = turned.value
    return found(
        "no-skill",
        evidence,
        detail="With DOWN and UP exchanged it would be right more often than wrong: look at the order of its classes.",
    )


def _turned_edge(judged: Judged) -> Mean:
    """Return how much oftener the move goes against the more probable of DOWN and UP than it would against a coin."""
    moved = judged.y != NEUTRAL
    if not moved.any():
        return Mean(0.0, float("nan"))
    logits, y, day = judged.prediction.logits[moved], judged.y[moved], judged.day[moved]
    against = np.where(logits[:, UP] > logits[:, DOWN], DOWN, UP) == y
    said_up = logits[:, UP] > logits[:, DOWN]
    up = (y == UP).mean()
    return metrics.mean_by_days(against - np.where(said_up, 1 - up, up), day)


def too_good(diagnosis: Diagnosis, experiment: Experiment | None) -> Cause | None:
    """More than 60 % on a market that is not made up."""
    del experiment
    m = diagnosis.metrics
    if m.accuracy is None or m.accuracy <= TOO_GOOD or diagnosis.data.source == "synthetic":
        return None
    return found("too-good", {"accuracy": m.accuracy, "majority_accuracy": m.majority_accuracy})


def overfit(diagnosis: Diagnosis, experiment: Experiment | None) -> Cause | None:
    """Compare the log loss, less that of knowing nothing, on training rows and on unseen ones."""
    learned, m = diagnosis.learned, diagnosis.metrics
    if learned is None or experiment is None or m.log_loss is None or m.prior_log_loss is None:
        return None
    training, step = learned.training, max(1, len(learned.training.y) // TRAINING_ROWS)
    x, y, day = training.x[::step], training.y[::step], training.day[::step]
    then = metrics.mean_by_days(row_log_loss(diagnosis.subject.predict(x).logits, y), day)
    judged = diagnosis.judged
    now = metrics.mean_by_days(row_log_loss(judged.prediction.logits, judged.y), judged.day)
    gap = (now.value - m.prior_log_loss) - (then.value - metrics.prior_log_loss(y))
    if not (gap > 0.02 and gap > 3 * math.hypot(now.error, then.error)):
        return None
    return found(
        "overfit",
        {"training_log_loss": then.value, "log_loss": now.value, "gap": gap},
        detail=f"Log loss {then.value:.3f} on training rows, {now.value:.3f} on unseen ones.",
    )


def label_shift(diagnosis: Diagnosis, experiment: Experiment | None) -> Cause | None:
    """A class whose share has changed by more than 5 points since training."""
    origin, actual = diagnosis.origin, diagnosis.metrics.actual_share
    if origin is None or actual is None:
        return None
    change = np.subtract(actual, origin.prior)
    worst = int(np.abs(change).argmax())
    if abs(change[worst]) <= 0.05 or experiment is None:
        return None
    if not experiment.over_chance((diagnosis.judged.y == worst) - origin.prior[worst]):
        return None
    return found(
        "label-shift",
        {"training_share": origin.prior[worst], "actual_share": actual[worst]},
        detail=f"{CLASSES[worst]}: {100 * origin.prior[worst]:.1f} % in training, {100 * actual[worst]:.1f} % here.",
    )


def too_few_rows(diagnosis: Diagnosis, experiment: Experiment | None) -> Cause | None:
    """Fewer than 1,000 independent outcomes."""
    del experiment
    m = diagnosis.metrics
    if m.effective_rows is None or m.effective_rows >= FEWEST_OUTCOMES:
        return None
    return found(
        "too-few-rows",
        {"rows": m.rows, "effective_rows": m.effective_rows},
        detail=f"{m.rows:,} rows with overlapping labels carry about {m.effective_rows:,.0f} outcomes.",
    )
