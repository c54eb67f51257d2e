"""Causes: a name for what the numbers show, with evidence and a what-if that proves it.

A what-if is fitted on one half of the rows and judged on the other: every second day, so that both halves see the whole span.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.labels import CLASSES
from crpbot.model.calibration import fit_temperature, softmax
from crpbot.model.checkpoint import Prediction
from crpbot.quality import metrics
from crpbot.quality.diagnosis import Diagnosis

Severity = Literal["critical", "warning"]


@dataclass(frozen=True, slots=True)
class WhatIf:
    """One number before and after a remedy was tried.

    Attributes:
        metric: its name in `metrics`.
        before, after: on the same half of the rows.

    """

    metric: str
    before: float
    after: float

    def __str__(self) -> str:
        verdict = "" if self.after < 0.9 * self.before else ": this does not repair it, the cause lies deeper"
        return f"with the remedy, on the other half of the rows: {self.metric} {self.before:,.4g} → {self.after:,.4g}{verdict}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """A named reason for what the numbers show.

    Attributes:
        code: its name.
        severity: `critical` makes every signal worthless; `warning` does not alone.
        message: what it is and what to do, for people.
        evidence: the numbers that show it.
        what_if: what its remedy repairs, where one was tried.

    """

    code: str
    severity: Severity
    message: str
    evidence: Mapping[str, float]
    what_if: WhatIf | None = None


def find_causes(diagnosis: Diagnosis) -> tuple[Cause, ...]:
    """Return the causes that hold, in the order of what explains most."""
    found = (search(diagnosis) for search in _SEARCHES)
    return tuple(cause for cause in found if cause is not None)


def _normalizer_cause(diagnosis: Diagnosis) -> Cause | None:
    """Tell a lost normalizer from one that never was, by experiment: feed the network standardized inputs.

    Trained raw, a network is merely bad on raw inputs. Trained on normalized features and served raw, it is absurd on
    raw inputs and
    sound on standardized ones. Accuracy cannot tell the two apart; the log loss can.
    """
    m = diagnosis.metrics
    if m.normalizer_present or m.log_loss is None or m.logit_abs_max is None:
        return None
    judged = diagnosis.judged
    fitted, held = _halves(judged.day)
    mean, scale = judged.x[fitted].mean(axis=0), judged.x[fitted].std(axis=0)
    z = (judged.x[held] - mean) / np.where(scale > 0, scale, 1.0)
    raw, standardized = _part(judged.prediction, held), diagnosis.checkpoint.predict(z)
    y = judged.y[held]
    prior = metrics.prior_log_loss(y)
    before, after = (metrics.log_loss_of_logits(p.logits, y) for p in (raw, standardized))
    evidence = {"prior_log_loss": prior, "raw_log_loss": before, "standardized_log_loss": after}
    if before > 2 * prior and after <= 1.1 * prior:
        return Cause(
            code="lost-normalizer",
            severity="critical",
            message="The network was trained on normalized features and is served raw ones: its scaler was lost. On inputs "
            'standardized by the candles\' own statistics it is sound again. Train it with `normalizer = "fit"`, which keeps '
            "the scaler in the checkpoint.",
            evidence=evidence,
            what_if=WhatIf("logit_abs_max", float(np.abs(raw.logits).max()), float(np.abs(standardized.logits).max())),
        )
    return Cause(
        code="missing-normalizer",
        severity="critical",
        message="The network takes raw features, prices beside fractions, and standardizing them does not bring it back: it was "
        'trained that way. Train it again with `normalizer = "fit"`.',
        evidence=evidence,
        what_if=WhatIf("log_loss", before, after),
    )


def _extreme_logits(diagnosis: Diagnosis) -> Cause | None:
    m = diagnosis.metrics
    if m.logit_abs_max is None or m.logit_abs_max <= 20:
        return None
    return Cause(
        code="extreme-logits",
        severity="critical",
        message="Logits beyond 20 leave no room for doubt, which no market supports. Look at the scale of the inputs first, then "
        "at the temperature.",
        evidence={"logit_abs_max": m.logit_abs_max},
        what_if=_refitted(diagnosis, "logit_abs_max"),
    )


def _overconfident(diagnosis: Diagnosis) -> Cause | None:
    m = diagnosis.metrics
    if m.confidence_over_99 is None or m.accuracy is None or m.confidence_over_99 < 0.1:
        return None
    return Cause(
        code="overconfident",
        severity="critical",
        message="It claims more than 99 % certainty far too often. A position sized by this confidence ruins its owner. "
        "Refit the temperature on rows that the weights have not seen.",
        evidence={"confidence_over_99": m.confidence_over_99, "accuracy": m.accuracy},
        what_if=_refitted(diagnosis, "confidence_over_99"),
    )


def _class_collapse(diagnosis: Diagnosis) -> Cause | None:
    m = diagnosis.metrics
    if m.predicted_share is None or max(m.predicted_share) <= 0.9:
        return None
    top = int(np.argmax(m.predicted_share))
    return Cause(
        code="class-collapse",
        severity="critical",
        message=f"It says {CLASSES[top]} nearly always, whatever the market does. Such a model knows one word: retrain it on "
        "normalized features and look at the balance of its labels.",
        evidence={"predicted_share": m.predicted_share[top], "actual_share": m.actual_share[top]},
    )


def _miscalibrated(diagnosis: Diagnosis) -> Cause | None:
    m = diagnosis.metrics
    if m.ece is None or m.ece <= 0.05:
        return None
    return Cause(
        code="miscalibrated",
        severity="warning",
        message="What it says with a confidence of 70 % does not come true 70 times of 100. "
        "Refit the temperature on rows that the weights have not seen.",
        evidence={"ece": m.ece},
        what_if=_refitted(diagnosis, "ece"),
    )


def _no_skill(diagnosis: Diagnosis) -> Cause | None:
    """Ask for skill after the temperature was refitted: a loud model may still know something."""
    m = diagnosis.metrics
    if m.over_majority is None or m.accuracy is None or not math.isfinite(m.over_majority.error):
        return None
    judged = diagnosis.judged
    fitted, held = _halves(judged.day)
    temperature = fit_temperature(judged.prediction.logits[fitted], judged.y[fitted])
    refitted = metrics.directional_log_loss(judged.prediction.logits[held] / temperature, judged.y[held])
    prior = metrics.prior_directional_log_loss(judged.y[held])
    better = m.over_majority.value >= 2 * m.over_majority.error
    if better and refitted is not None and prior is not None and refitted < prior:
        return None
    return Cause(
        code="no-skill",
        severity="critical",
        message="Nothing shows that it foretells direction better than always saying the same thing. The market may hold no edge "
        "for these features and this horizon: that is an answer, not a bug, unless a cause above explains it.",
        evidence={
            "accuracy": m.accuracy,
            "majority_accuracy": m.majority_accuracy,
            "standard_error": m.over_majority.error,
            "refitted_directional_log_loss": float("nan") if refitted is None else refitted,
            "prior_directional_log_loss": float("nan") if prior is None else prior,
        },
    )


_SEARCHES: tuple[Callable[[Diagnosis], Cause | None], ...] = (
    _normalizer_cause,
    _extreme_logits,
    _overconfident,
    _class_collapse,
    _miscalibrated,
    _no_skill,
)


def _halves(day: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return two masks: rows to fit a remedy on, and rows to judge it on. A single day is cut in the middle."""
    odd = day % 2 == 1
    if odd.all() or not odd.any():
        odd = np.arange(len(day)) < len(day) // 2
    return odd, ~odd


def _part(prediction: Prediction, rows: NDArray[np.bool_]) -> Prediction:
    return Prediction(prediction.logits[rows], prediction.probabilities[rows])


def _refitted(diagnosis: Diagnosis, metric: str) -> WhatIf:
    """Try another temperature, fitted by likelihood on one half of the rows, and measure `metric` on the other."""
    judged = diagnosis.judged
    fitted, held = _halves(judged.day)
    logits = judged.prediction.logits
    temperature = fit_temperature(logits[fitted], judged.y[fitted])

    def measure(served: NDArray[np.float64]) -> float:
        if metric == "logit_abs_max":
            return float(np.abs(served).max())
        probabilities = softmax(served)
        if metric == "confidence_over_99":
            return float((probabilities.max(axis=1) > 0.99).mean())
        bins = metrics.n_bins(diagnosis.metrics.effective_rows * float(held.mean()))
        return metrics.reliability(probabilities, judged.y[held], judged.day[held], bins=bins).ece

    return WhatIf(metric, measure(logits[held]), measure(logits[held] / temperature))
