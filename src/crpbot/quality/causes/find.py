"""Find the causes that hold, and put first what explains most."""

from collections.abc import Callable, Mapping

import numpy as np

from crpbot.quality.causes import inputs, inside, outputs, skill
from crpbot.quality.causes.cause import Cause
from crpbot.quality.causes.table import CAUSES
from crpbot.quality.diagnosis import Diagnosis
from crpbot.quality.experiment import Experiment, experiment_of

SEARCHES: tuple[Callable[[Diagnosis, Experiment | None], Cause | None], ...] = (
    skill.no_weights,
    inside.non_finite_weights,
    inside.non_finite_outputs,
    inside.untrained,
    inputs.normalizer_cause,
    inputs.feature_order,
    inputs.class_order,
    inputs.raw_scale_inputs,
    inside.batch_norm_stale,
    inside.dead_units,
    outputs.class_bias,
    outputs.extreme_logits,
    outputs.cosmetic_temperature,
    outputs.overconfident,
    outputs.underconfident,
    outputs.class_collapse,
    outputs.miscalibrated,
    skill.no_skill,
    skill.too_good,
    skill.overfit,
    inputs.feature_drift,
    skill.label_shift,
    inside.saturated_units,
    inside.no_calibration,
    inside.no_regularization,
    inside.no_batch_normalization,
    skill.too_few_rows,
)


AS_MUCH = 0.95
"""Share of the best repair from which on another one repairs as much: a symptom can be soothed as well as its root be healed."""
IMPLIED_BY: Mapping[str, frozenset[str]] = {
    "feature-drift": frozenset({"foreign-normalizer", "feature-order"}),  # measured against a scaler that is not the market's
}
"""Causes that say nothing of their own where one of others is found."""


def find_causes(diagnosis: Diagnosis, experiment: Experiment | None = None) -> tuple[Cause, ...]:
    """Return the causes that hold, in the order of what explains most.

    First what makes everything else void, then what a proven remedy repairs, by the log loss that it removes; then what has no
    proven remedy, critical before warning. Equals stand in the order of the table, where roots come before their symptoms.

    Args:
        diagnosis: to explain.
        experiment: on its rows, where one was made already.

    """
    experiment = experiment or experiment_of(diagnosis)
    with np.errstate(all="ignore"):  # a stranger's scaler may hold any number; what is not finite proves nothing
        causes = [cause for search in SEARCHES if (cause := search(diagnosis, experiment)) is not None]
    found = {cause.code for cause in causes}
    place = {code: number for number, code in enumerate(CAUSES)}
    left = sorted(
        (cause for cause in causes if not found & IMPLIED_BY.get(cause.code, frozenset())), key=lambda cause: place[cause.code]
    )
    fatal = [cause for cause in left if cause.fatal]
    proven = [cause for cause in left if not cause.fatal and cause.repaired > 0]
    unproven = [cause for cause in left if not cause.fatal and cause.repaired == 0]
    unproven.sort(key=lambda cause: cause.severity != "critical")
    return (*fatal, *by_repair(proven), *unproven)


def by_repair(causes: list[Cause]) -> list[Cause]:
    """Order causes by what they repair; among those that repair as much as the best, the one that stands first stays first."""
    left, ordered = list(causes), []
    while left:
        most = max(cause.repaired for cause in left)
        ordered.append(next(cause for cause in left if cause.repaired >= AS_MUCH * most))
        left.remove(ordered[-1])
    return ordered
