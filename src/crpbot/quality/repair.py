"""Repair: apply the remedies that are proven, one after another, and say what was done."""

from dataclasses import dataclass, replace

from crpbot.market.candles import Candles
from crpbot.market.source import SourceKind
from crpbot.model.checkpoint import Checkpoint, Repair
from crpbot.model.recipe import Recipe
from crpbot.model.subject import Subject, subject_of
from crpbot.quality import metrics
from crpbot.quality.causes.cause import Cause
from crpbot.quality.causes.find import find_causes
from crpbot.quality.diagnosis import Diagnosis, diagnose_subject
from crpbot.quality.experiment import Experiment, experiment_of

MOST_REPAIRS = 5


@dataclass(frozen=True, eq=False)
class Repaired:
    """A checkpoint after repair.

    Attributes:
        checkpoint: with its `repairs`; the old one where nothing could be proven.
        done: what was done now.
        before: the causes that were found first.
        left: the causes that are left.

    """

    checkpoint: Checkpoint
    done: tuple[Repair, ...]
    before: tuple[Cause, ...]
    left: tuple[Cause, ...]


def repair_checkpoint(
    checkpoint: Checkpoint, candles: Candles, *, source: SourceKind, label_recipe: Recipe, brought: Checkpoint | None = None
) -> Repaired:
    """Apply, one after another, the remedies whose gain in log loss is proven on rows that they were not fitted on.

    A checkpoint of ours is repaired on its own calibration block, and its normalizer and batch statistics on its own training
    rows, where the candles still hold them: its test block stays untouched. Where they do not, the rows that it has not seen are
    used, and count as seen from then on. A foreign one is repaired on all rows.

    Args:
        checkpoint: to repair.
        candles: of its symbol.
        source: kind of the candles.
        label_recipe: whose label a foreign checkpoint is judged by.
        brought: the same with a scaler that a person brought.

    Raises:
        DatasetError: there are too few rows.

    """

    def look(one: Checkpoint) -> tuple[Diagnosis, Experiment | None, tuple[Cause, ...]]:
        diagnosis = diagnose_subject(
            subject_of(one), candles, path="", sha256="", source=source, label_recipe=label_recipe, on="calibration"
        )
        experiment = experiment_of(diagnosis)
        if experiment is not None and diagnosis.learned is not None:
            training = diagnosis.learned.training.x
            experiment = replace(experiment, statistics=training)
        return diagnosis, experiment, find_causes(diagnosis, experiment)

    diagnosis, experiment, causes = look(checkpoint)
    before = causes
    done: list[Repair] = []
    if brought is not None and experiment is not None:
        done.append(_of_scaler(experiment, subject_of(brought), candles, causes))
        checkpoint = brought
        diagnosis, experiment, causes = look(checkpoint)
    while experiment is not None and len(done) < MOST_REPAIRS:
        best = next((cause for cause in causes if cause.repaired > 0 and cause.trial and cause.trial.apply), None)
        if best is None or best.trial is None or best.trial.apply is None:
            break
        checkpoint = best.trial.apply(checkpoint)
        after = best.trial.measures.log_loss
        done.append(_record(best.code, best.trial.remedy, (experiment.before.log_loss, after), experiment, candles))
        diagnosis, experiment, causes = look(checkpoint)
    if done and checkpoint.origin is not None and diagnosis.learned is None:
        seen = int(diagnosis.judged.time[-1]) + (diagnosis.label.rule.horizon + 1) * 60_000
        checkpoint = replace(checkpoint, origin=replace(checkpoint.origin, fitted_until=seen, unseen_from=seen))
    return Repaired(replace(checkpoint, repairs=(*checkpoint.repairs, *done)), tuple(done), before, causes)


def _of_scaler(experiment: Experiment, brought: Subject, candles: Candles, causes: tuple[Cause, ...]) -> Repair:
    held = experiment.held
    after = metrics.log_loss_of_logits(brought.predict(experiment.judged.x[held]).logits, experiment.judged.y[held])
    scalers = ("lost-normalizer", "missing-normalizer", "unfitted-normalizer")
    code = next((cause.code for cause in causes if cause.code in scalers), "missing-normalizer")
    return _record(code, "a scaler was brought", (experiment.before.log_loss, after), experiment, candles)


def _record(cause: str, remedy: str, log_loss: tuple[float, float], experiment: Experiment, candles: Candles) -> Repair:
    return Repair(
        cause=cause,
        remedy=remedy,
        log_loss_before=log_loss[0],
        log_loss_after=log_loss[1],
        rows=len(experiment.held),
        candles_sha256=candles.sha256,
    )
