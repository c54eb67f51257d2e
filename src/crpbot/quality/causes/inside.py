"""Causes in the network itself: its weights, its layers, what it lacks."""

import numpy as np

from crpbot.model.remedies import fresh_bounds
from crpbot.model.weights import Weights
from crpbot.quality.causes.cause import Cause, found
from crpbot.quality.diagnosis import Diagnosis
from crpbot.quality.experiment import Experiment

MOST = 0.5
"""Share of a layer's units from which on they count as most of it."""


def non_finite_weights(diagnosis: Diagnosis, experiment: Experiment | None) -> Cause | None:
    """Count weights that are not finite."""
    del experiment
    weights = diagnosis.subject.weights
    if weights is None or diagnosis.metrics.finite_weights is not False:
        return None
    broken = {name: int((~np.isfinite(array)).sum()) for name, array in weights.arrays.items()}
    broken = {name: count for name, count in broken.items() if count and not name.startswith("normalizer.")}
    if not broken:
        return None  # the scaler alone: another cause
    return found(
        "non-finite-weights",
        dict(list(broken.items())[:8]),
        detail=f"{sum(broken.values()):,} numbers in {', '.join(list(broken)[:4])}.",
        fatal=True,
    )


def non_finite_outputs(diagnosis: Diagnosis, experiment: Experiment | None) -> Cause | None:
    """Predictions that are not finite though every weight is: a scale of 0, a variance below 0, or numbers that overflow."""
    m, weights = diagnosis.metrics, diagnosis.subject.weights
    if experiment is not None or diagnosis.subject.holds is not None or m.finite_weights is False:
        return None
    if weights is not None and weights.normalizer is not None and not weights.normalizer.fitted:
        return None  # another cause
    logits = diagnosis.judged.prediction.logits
    variances = {} if weights is None else {n: a for n, a in weights.arrays.items() if n.endswith("running_var")}
    below = [name for name, variance in variances.items() if bool((variance < 0).any())]
    return found(
        "non-finite-outputs",
        {"rows": int((~np.isfinite(logits).all(axis=1)).sum())},
        detail=f"{below[0]} has variances below 0." if below else "",
        fatal=True,
    )


def untrained(diagnosis: Diagnosis, experiment: Experiment | None) -> Cause | None:
    """Compare the weights with how PyTorch draws them: evenly from within 1/√fan_in, batch normalization at 1 and 0."""
    del experiment
    weights = diagnosis.subject.weights
    if weights is None or not _fresh(weights):
        return None
    bounds = fresh_bounds(weights)
    largest = [float(np.abs(weights.linear(n)[0]).max()) for n in range(1, len(bounds) + 1)]
    return found(
        "untrained",
        {f"fc{n}_largest_weight": weight for n, weight in enumerate(largest, start=1)},
        detail=f"fc1 lies within ±{largest[0]:.4f}, drawn from within ±{bounds[0]:.4f}.",
        fatal=True,
    )


def _fresh(weights: Weights) -> bool:
    state = {name: array.astype(np.float64) for name, array in weights.arrays.items()}
    for number, bound in enumerate(fresh_bounds(weights), start=1):
        weight, bias = state[f"fc{number}.weight"], state[f"fc{number}.bias"]
        if not np.isfinite(weight).all() or max(np.abs(weight).max(), np.abs(bias).max()) > bound * (1 + 1e-6):
            return False
        # The deviation of n even draws is within 4 of its own deviations of bound/√3.
        if abs(weight.std() / (bound / 3**0.5) - 1) > 4 * 0.45 / weight.size**0.5:
            return False
        gamma, beta = state.get(f"bn{number}.weight"), state.get(f"bn{number}.bias")
        if gamma is not None and beta is not None and not ((gamma == 1).all() and (beta == 0).all()):
            return False
    return True


def batch_norm_stale(diagnosis: Diagnosis, experiment: Experiment | None) -> Cause | None:
    """Measure the statistics of batch normalization anew: is the network better for it, and more than for standardized inputs?"""
    del diagnosis
    trial = None if experiment is None else experiment.reestimated
    if experiment is None or trial is None or not trial.proven:
        return None
    standardized, tempered = experiment.standardized, experiment.tempered
    if standardized is not None and standardized.proven and standardized.gain.value > trial.gain.value - 0.01:
        return None  # a market that has moved is repaired there too: that is drift
    if tempered.proven and tempered.gain.value > 2 * trial.gain.value:
        return None  # a loud network makes much of small differences
    shift, stretch = (max(getattr(layer, name) or 0.0 for layer in experiment.layers) for name in ("shift", "stretch"))
    return found(
        "batch-norm-stale",
        {"largest_shift": shift, "largest_stretch": stretch},
        detail=f"Recorded and measured means differ by up to {shift:,.1f} deviations, deviations by up to {stretch:,.1f} times "
        "(medians over the units of a layer).",
        trial=trial,
        experiment=experiment,
    )


def dead_units(diagnosis: Diagnosis, experiment: Experiment | None) -> Cause | None:
    """Find a layer most of whose units never vary; fatal where its weights are 0, since then no input can help."""
    weights = diagnosis.subject.weights
    if weights is None:
        return None
    empty = {n: _empty(weights, n) for n in range(1, len(weights.hidden) + 2)}
    number = max(empty, key=lambda n: empty[n])
    if empty[number] == 1:
        return found(
            "dead-units",
            {"layer": number, "empty": empty[number]},
            detail=f"Every unit of fc{number} has weights of 0.",
            fatal=True,
        )
    if experiment is None or not experiment.layers:
        return None
    layer = max(experiment.layers, key=lambda one: one.dead)
    if layer.dead < MOST:
        return None
    return found(
        "dead-units",
        {"layer": layer.number, "dead": layer.dead},
        detail=f"{100 * layer.dead:.0f} % of the {layer.units} units of layer {layer.number} give the same on every row.",
        severity="critical" if layer.dead == 1 else "warning",
    )


def _empty(weights: Weights, number: int) -> float:
    """Return the share of units of layer `number` that no input can reach: their weights are 0, or batch normalization's are."""
    norm, empty = weights.norm(number), (weights.linear(number)[0] == 0).all(axis=1)
    if norm is not None:
        empty = empty | (norm.gamma == 0)
    return float(empty.mean())


def saturated_units(diagnosis: Diagnosis, experiment: Experiment | None) -> Cause | None:
    """Find a layer most of whose units are on for every row."""
    del diagnosis
    if experiment is None or not experiment.layers:
        return None
    layer = max(experiment.layers, key=lambda one: one.saturated)
    if layer.saturated < MOST:
        return None
    return found(
        "saturated-units",
        {"layer": layer.number, "saturated": layer.saturated},
        detail=f"{100 * layer.saturated:.0f} % of the {layer.units} units of layer {layer.number} are on for every row.",
    )


def no_regularization(diagnosis: Diagnosis, experiment: Experiment | None) -> Cause | None:
    """Ask the recipe for dropout; a state dict does not say, so a foreign network is asked for any sign of it."""
    del experiment
    weights, checkpoint = diagnosis.subject.weights, diagnosis.checkpoint
    if weights is None or checkpoint is None:
        return None
    if checkpoint.recipe is not None:
        return found("no-regularization", {"dropout": 0.0}) if checkpoint.recipe.network.dropout == 0 else None
    return None if weights.batch_normalization else found("no-regularization", {"batch_normalization": 0.0})


def no_batch_normalization(diagnosis: Diagnosis, experiment: Experiment | None) -> Cause | None:
    """Ask whether activations are kept in scale, and say how they grow."""
    weights = diagnosis.subject.weights
    if weights is None or weights.batch_normalization or not weights.hidden:
        return None
    sizes = {} if experiment is None else {f"layer_{layer.number}": layer.largest for layer in experiment.layers}
    words = ", ".join(f"{size:,.4g}" for size in sizes.values())
    return found("no-batch-normalization", sizes, detail=f"The largest activations, layer by layer: {words}." if words else "")


def no_calibration(diagnosis: Diagnosis, experiment: Experiment | None) -> Cause | None:
    """Ask for a temperature."""
    weights = diagnosis.subject.weights
    if weights is None or weights.temperature is not None:
        return None
    trial = None if experiment is None else experiment.tempered
    return found("no-calibration", {"temperature": 1.0}, trial=trial, experiment=experiment)
