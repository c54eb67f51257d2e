"""Repair: apply the remedies that are proven, one after another, and say what was done."""

from dataclasses import dataclass, replace

from crpbot.market.candles import MINUTE, Candles
from crpbot.market.source import SourceKind
from crpbot.model.checkpoint import Checkpoint, Repair
from crpbot.model.export import PROBE_ROWS
from crpbot.model.recipe import Recipe
from crpbot.model.subject import subject_of
from crpbot.quality.causes.cause import Cause
from crpbot.quality.causes.find import find_causes
from crpbot.quality.causes.inputs import SOUND
from crpbot.quality.diagnosis import Diagnosis, diagnose_subject
from crpbot.quality.experiment import LEAST_GAIN, Experiment, experiment_of
from crpbot.quality.metrics import Floats

MOST_REPAIRS = 5
UNREPAIRABLE = frozenset({"missing-normalizer"})
"""Causes that only another training heals, though a remedy may lower the log loss."""


@dataclass(frozen=True, eq=False)
class Repaired:
    """A checkpoint after repair.

    Attributes:
        checkpoint: with its `repairs`; the old one where nothing could be proven.
        done: what was done now.
        before: the causes that were found first.
        left: the causes that are left.
        probe: raw features of the last rows, in the order of the checkpoint, to prove the saved file with.

    """

    checkpoint: Checkpoint
    done: tuple[Repair, ...]
    before: tuple[Cause, ...]
    left: tuple[Cause, ...]
    probe: Floats


def repair_checkpoint(
    checkpoint: Checkpoint, candles: Candles, *, source: SourceKind, label_recipe: Recipe, brought: Checkpoint | None = None
) -> Repaired:
    """Apply, one after another, the remedies that are proven on rows that they were not fitted on and leave a sound network.

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
    if brought is not None:
        looked = look(brought)
        repair = _of_scaler(checkpoint, experiment, looked[1], candles)
        if repair is not None:
            checkpoint, done, (diagnosis, experiment, causes) = brought, [repair], looked
    while experiment is not None and len(done) < MOST_REPAIRS:
        best = next((cause for cause in causes if _provable(cause, experiment)), None)
        if best is None or best.trial is None or best.trial.apply is None:
            break
        checkpoint = best.trial.apply(checkpoint)
        after = best.trial.measures.log_loss
        done.append(_record(best.code, best.trial.remedy, (experiment.before.log_loss, after), experiment, candles))
        diagnosis, experiment, causes = look(checkpoint)
    if done and checkpoint.origin is not None and (brought is not None or diagnosis.learned is None):
        # Nobody knows what a brought scaler has seen, and what a remedy was judged on counts as seen: all these candles do.
        seen = max(int(diagnosis.judged.known.max()), int(candles.time[-1]) + MINUTE)
        checkpoint = replace(checkpoint, origin=replace(checkpoint.origin, fitted_until=seen, unseen_from=seen))
    return Repaired(
        replace(checkpoint, repairs=(*checkpoint.repairs, *done)), tuple(done), before, causes, diagnosis.judged.x[-PROBE_ROWS:]
    )


def _provable(cause: Cause, experiment: Experiment) -> bool:
    """Whether a remedy may be written: proven, and it leaves a network that is sound, not one that has only been silenced."""
    trial = cause.trial
    if trial is None or trial.apply is None or cause.repaired == 0 or cause.code in UNREPAIRABLE:
        return False
    if trial.outputs_only:
        return trial.knowledge.value > 0
    return trial.measures.log_loss <= SOUND * experiment.prior_log_loss


def _of_scaler(checkpoint: Checkpoint, before: Experiment | None, brought: Experiment | None, candles: Candles) -> Repair | None:
    """Return the repair that a brought scaler is, where it makes the network sound and better than it was."""
    served = float("inf") if before is None else before.before.log_loss
    if brought is None or brought.before.log_loss > served - LEAST_GAIN:
        return None
    if brought.before.log_loss > SOUND * brought.prior_log_loss and not brought.shifted.knowing:
        return None  # merely silenced: not even its biases are all that is wrong
    code = "lost-normalizer" if checkpoint.weights.normalizer is None else "unfitted-normalizer"
    return _record(code, "a scaler was brought", (served, brought.before.log_loss), brought, candles)


def _record(cause: str, remedy: str, log_loss: tuple[float, float], experiment: Experiment, candles: Candles) -> Repair:
    return Repair(
        cause=cause,
        remedy=remedy,
        log_loss_before=log_loss[0],
        log_loss_after=log_loss[1],
        rows=len(experiment.held),
        candles_sha256=candles.sha256,
    )
