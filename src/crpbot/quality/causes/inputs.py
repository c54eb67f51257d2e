"""Causes in what reaches the network: the scaler, the order of the inputs, and how far they have drifted."""

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.drift import measure_drift, population_stability
from crpbot.dataset.features.program import PRICE
from crpbot.model.weights import Scaling
from crpbot.quality.causes.cause import Cause, found
from crpbot.quality.diagnosis import Diagnosis
from crpbot.quality.experiment import Experiment, Trial

ABSURD, SOUND = 2.0, 1.1
"""Multiples of the prior's log loss: beyond the first a network is absurd, within the second it is sound."""
FOREIGN = 10.0
"""How many times another scale or price level a scaler must have to be called foreign."""
RAW = 50.0
"""Mean size, in what would be deviations, from which on an input counts as raw."""
LEFT = 0.05
"""Share of rows outside the training range from which on a feature has left it for good."""
MAJOR_SHIFT = 0.25
"""Population stability from which on a shift counts as major: the rule of thumb of credit scoring (Siddiqi, 2006)."""
FAR = 3.0
"""Deviations of the scaler that a mean must have moved where the training rows are unknown."""


def normalizer_cause(diagnosis: Diagnosis, experiment: Experiment | None) -> Cause | None:
    """Tell a lost scaler from one that never was, from one that was never fitted, and from one of another market: by experiment.

    Trained raw, a network is merely bad on raw inputs. Trained on normalized features and served raw, it is absurd on raw
    inputs, or mute, and sound on standardized ones. Accuracy cannot tell the two apart; the log loss can.
    """
    weights = diagnosis.subject.weights
    if weights is not None and weights.normalizer is not None:
        return _unfitted(weights.normalizer, experiment) or _foreign(diagnosis, weights.normalizer, experiment)
    return None if experiment is None else _lost_or_missing(experiment)


def _lost_or_missing(experiment: Experiment) -> Cause | None:
    prior, before = experiment.prior_log_loss, experiment.before.log_loss
    weights = experiment.subject.weights
    if weights is None and before <= ABSURD * prior:
        return None  # a function may well normalize inside
    trial = experiment.standardized
    if trial is None:
        return None
    evidence = {"prior_log_loss": prior, "raw_log_loss": before, "standardized_log_loss": trial.measures.log_loss}
    lost = _lost(experiment, trial, evidence)
    if lost is not None:
        return lost
    raw = weights is not None and experiment.pushes[0].size > RAW  # then no remedy but another training helps
    if not raw and (weights is None or not trial.proven):
        return None  # its inputs are of one size as they are
    return found("missing-normalizer", evidence, trial=trial, experiment=experiment, fatal=raw)


def _lost(experiment: Experiment, trial: Trial, evidence: dict[str, float]) -> Cause | None:
    """Return the cause where the network has learned from standardized inputs."""
    prior, before, after = experiment.prior_log_loss, experiment.before.log_loss, trial.measures.log_loss
    weights = experiment.subject.weights
    if before > ABSURD * prior and after <= SOUND * prior:
        return found("lost-normalizer", evidence, trial=trial, experiment=experiment, metric="logit_abs_max")
    if weights is not None and before >= prior and trial.knowledge.value > trial.knowledge.error:
        # Raw prices can also leave a network mute: every unit of a layer is dead, and it repeats its biases.
        evidence["better_than_knowing_nothing"] = trial.knowledge.value
        return found("lost-normalizer", evidence, trial=trial, experiment=experiment, fatal=True)
    balanced = experiment.standardized_and_shifted if before > ABSURD * prior else None
    if balanced is not None and balanced.knowing:  # sound but for its biases: it was trained on as many rows of each class
        evidence["better_than_knowing_nothing"] = balanced.knowledge.value
        return found("lost-normalizer", evidence, trial=balanced, experiment=experiment, metric="logit_abs_max")
    return None


def _unfitted(normalizer: Scaling, experiment: Experiment | None) -> Cause | None:
    if normalizer.fitted:
        return None
    mean, scale = normalizer.mean, normalizer.scale
    broken = int((~np.isfinite(mean) | ~np.isfinite(scale) | ~(scale > 0)).sum())
    return found(
        "unfitted-normalizer",
        {"mean": mean[0], "scale": scale[0], "unusable": broken},
        detail=f"{broken} of {len(mean)} features have no usable mean and scale." if broken else "",
        trial=None if experiment is None else experiment.standardized,
        experiment=experiment,
        metric="logit_abs_max",
    )


def _foreign(diagnosis: Diagnosis, normalizer: Scaling, experiment: Experiment | None) -> Cause | None:
    """Judge scales on scale-free features, and levels by the factor between them: prices honestly move, but not tenfold."""
    ratio, level = diagnosis.metrics.normalizer_ratio, _level_ratio(diagnosis, normalizer)
    # The scaler of a checkpoint of ours is its own: where prices have gone tenfold, that is drift.
    by_level = diagnosis.origin is None and level is not None and not 1 / FOREIGN <= level <= FOREIGN
    if (ratio is None or ratio <= FOREIGN) and not by_level:
        return None
    return found(
        "foreign-normalizer",
        {"scale_ratio": ratio, "level_ratio": level},
        detail=f"Its prices are {_times(level)} those of the candles."
        if by_level and level is not None
        else f"A scale-free feature varies {ratio or 0:,.0f} times as it expects, one way or the other.",
        trial=None if experiment is None else experiment.standardized,
        experiment=experiment,
    )


def _times(level: float) -> str:
    return f"{1 / level:,.0f} times" if level < 1 else f"1/{level:,.0f} of"


def _level_ratio(diagnosis: Diagnosis, normalizer: Scaling) -> float | None:
    """Return the candles' price level over the scaler's, by the median of the features that are prices."""
    subject, x = diagnosis.subject, diagnosis.judged.x
    units = dict(zip(subject.feature_set.names, subject.feature_set.units, strict=True))
    mean = x.mean(axis=0)
    prices = [i for i, name in enumerate(subject.features) if units[name] == PRICE and mean[i] > x[:, i].std()]
    expected = normalizer.mean[prices]
    if not prices or not (np.isfinite(expected) & (expected > 0)).all():
        return None
    return float(np.median(mean[prices] / expected))


def feature_order(diagnosis: Diagnosis, experiment: Experiment | None) -> Cause | None:
    """Name another order of the inputs: one that the scaler's statistics tell, or one that alone makes the network sound."""
    del diagnosis
    if experiment is None or experiment.reordered is None:
        return None
    order, trial = experiment.reordered
    if not trial.proven or not (order.scaler_too or _best_and_sound(experiment, trial)):
        return None
    return _order(
        "feature-order", experiment, trial, "Inputs with the same statistics cannot be told apart." if order.scaler_too else ""
    )


def class_order(diagnosis: Diagnosis, experiment: Experiment | None) -> Cause | None:
    """Name another order of the classes where that alone makes the network sound."""
    del diagnosis
    if experiment is None or not experiment.relabelled.proven or not _best_and_sound(experiment, experiment.relabelled):
        return None
    return _order("class-order", experiment, experiment.relabelled, "")


def _order(code: str, experiment: Experiment, trial: Trial, caution: str) -> Cause:
    return found(
        code,
        {"log_loss": experiment.before.log_loss, "ordered_log_loss": trial.measures.log_loss},
        detail=f"{trial.remedy[0].upper()}{trial.remedy[1:]}. {caution}".rstrip(),
        trial=trial,
        experiment=experiment,
    )


def _best_and_sound(experiment: Experiment, trial: Trial) -> bool:
    """Whether a remedy leaves a network that beats knowing nothing, and does more than another temperature or other biases do."""
    others = max(experiment.tempered.gain.value, experiment.shifted.gain.value)
    return trial.knowledge.value > 0 and trial.gain.value > others


def raw_scale_inputs(diagnosis: Diagnosis, experiment: Experiment | None) -> Cause | None:
    """Redo the arithmetic of the founding document: how large is an input at the first layer, and what does it push?"""
    del diagnosis
    if experiment is None or not experiment.pushes or experiment.pushes[0].size <= RAW:
        return None
    top = experiment.pushes[0]
    middle = experiment.pushes[len(experiment.pushes) // 2]
    return found(
        "raw-scale-inputs",
        {"input": top.size, "weight": top.weight, "push": top.product, "median_push": middle.product},
        detail=f"{top.feature}: {top.size:,.0f} × {top.weight:.2g} = {top.product:,.0f}, where {middle.feature} pushes "
        f"{middle.product:,.2g}.",
        trial=experiment.standardized,
        experiment=experiment,
        metric="logit_abs_max",
    )


def feature_drift(diagnosis: Diagnosis, experiment: Experiment | None) -> Cause | None:
    """Compare the features with the training rows, or with the scaler where those are unknown."""
    subject, x, weights = diagnosis.subject, diagnosis.judged.x, diagnosis.subject.weights
    if weights is None or weights.normalizer is None or not weights.normalizer.fitted:
        return None
    trial = None if experiment is None else experiment.standardized
    if diagnosis.learned is None:
        shift = (x.mean(axis=0) - weights.normalizer.mean) / weights.normalizer.scale
        return _moved(subject.features, shift, trial, experiment)
    training = diagnosis.learned.training.x
    drifts = measure_drift(subject.features, training, x)
    left = [drift for drift in drifts if drift.outside > LEFT]
    if not left:
        return None
    stability = population_stability(training, x)
    worst, major = max(left, key=lambda drift: drift.outside), int((stability > MAJOR_SHIFT).sum())
    return found(
        "feature-drift",
        {"features_outside": len(left), "most_outside": worst.outside, "features_shifted": major, "largest_psi": stability.max()},
        detail=f"{100 * worst.outside:.0f} % of the rows of {worst.name} lie outside the training range, and {len(left)} of "
        f"{len(drifts)} features have left it; the population stability of {major} is above {MAJOR_SHIFT:g}.",
        trial=trial,
        experiment=experiment,
    )


def _moved(
    features: tuple[str, ...], shift: NDArray[np.float64], trial: Trial | None, experiment: Experiment | None
) -> Cause | None:
    far = int((np.abs(shift) > FAR).sum())
    if not far and not (trial is not None and trial.proven and experiment is not None and _best_and_sound(experiment, trial)):
        return None  # a scaler that fits less than the candles' own statistics has drifted too
    worst = int(np.abs(shift).argmax())
    return found(
        "feature-drift",
        {"features_moved": far, "largest_shift": shift[worst]},
        detail=f"{features[worst]} has moved by {shift[worst]:+,.1f} of the scaler's deviations, and {far} of {len(features)} "
        f"features by more than {FAR:g}.",
        trial=trial,
        experiment=experiment,
    )
