"""What other people's tools are told of a training: TensorBoard and MLflow, each an extra that nothing else needs."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

from crpbot.errors import CrpbotError
from crpbot.making.jobs import Done, Job, Report
from crpbot.model.training import Epoch
from crpbot.quality.report.data import Judgement

Tracker = Literal["tensorboard", "mlflow"]
TRACKERS: tuple[Tracker, ...] = get_args(Tracker)

EXPERIMENT = "crpbot"
"""Of MLflow, where the environment variable MLFLOW_EXPERIMENT_NAME names no other."""

_PER_EPOCH = ("training_loss", "calibration_loss", "calibration_log_loss", "calibration_accuracy", "learning_rate", "temperature",
              "rows_per_second")  # fmt: skip


@contextmanager
def tracking(tool: Tracker | None, folder: Path) -> Iterator[tuple[Report, Done]]:
    """Give two functions that tell a tool of epochs and of models; None tells nobody.

    Args:
        tool: to tell.
        folder: for what the tool writes: event files of TensorBoard, the database of MLflow where MLFLOW_TRACKING_URI names no
            server.

    Raises:
        CrpbotError: MLflow's server cannot be reached.

    """
    if tool == "tensorboard":
        with _tensorboard(folder) as told:
            yield told
    elif tool == "mlflow":
        with _mlflow(folder) as told:
            yield told
    else:
        yield (lambda _, __: None), (lambda _, __: None)


@contextmanager
def _tensorboard(folder: Path) -> Iterator[tuple[Report, Done]]:
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  an extra

    writers: dict[str, Any] = {}

    def writer(job: Job) -> Any:  # noqa: ANN401
        if job.name not in writers:
            writers[job.name] = SummaryWriter(str(folder / job.name))
        return writers[job.name]

    def epoch_done(job: Job, epoch: Epoch) -> None:
        for name, value in _numbers(epoch).items():
            writer(job).add_scalar(name, value, epoch.epoch)

    def model_done(job: Job, judgement: Judgement) -> None:
        for name, value in _results(judgement).items():
            writer(job).add_scalar(f"test/{name}", value, 0)
        writer(job).add_text("recipe", f"```toml\n{job.recipe.to_toml()}```")

    try:
        yield epoch_done, model_done
    finally:
        for one in writers.values():
            one.close()


@contextmanager
def _mlflow(folder: Path) -> Iterator[tuple[Report, Done]]:
    import os  # noqa: PLC0415  only here

    import mlflow  # noqa: PLC0415  an extra

    folder.mkdir(parents=True, exist_ok=True)
    client = mlflow.MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(folder / 'mlflow.db').resolve()}")
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    try:
        known = client.get_experiment_by_name(name)
        experiment = known.experiment_id if known is not None else client.create_experiment(name)
    except mlflow.MlflowException as error:
        raise CrpbotError(  # the address may hold a password, and MLflow's own words the address
            f"MLflow must answer, found {type(error).__name__} (code {error.error_code}); check MLFLOW_TRACKING_URI, or leave "
            "--track out"
        ) from None
    runs: dict[str, str] = {}

    def run(job: Job) -> str:
        if job.name not in runs:
            made = client.create_run(experiment, run_name=job.name)
            runs[job.name] = made.info.run_id
            for key, value in _settings(job).items():
                client.log_param(made.info.run_id, key, value)
        return runs[job.name]

    def epoch_done(job: Job, epoch: Epoch) -> None:
        for key, value in _numbers(epoch).items():
            client.log_metric(run(job), key, value, step=epoch.epoch)

    def model_done(job: Job, judgement: Judgement) -> None:
        for key, value in _results(judgement).items():
            client.log_metric(run(job), f"test.{key}", value)
        client.set_tag(run(job), "verdict", "passed" if judgement.verdict.passed else "refused")
        client.set_terminated(runs.pop(job.name))

    try:
        yield epoch_done, model_done
    finally:
        for left in runs.values():
            client.set_terminated(left, status="KILLED")


def _numbers(epoch: Epoch) -> Mapping[str, float]:
    """Return what is measured of an epoch, without what this network has not; members of an ensemble have curves of their own."""
    found = {name: getattr(epoch, name) for name in _PER_EPOCH}
    whose = f"member-{epoch.member}/" if epoch.member else ""
    return {whose + name: float(value) for name, value in found.items() if value is not None}


def _results(judgement: Judgement) -> Mapping[str, float]:
    """Return what is measured on the test block, as finite numbers."""
    metrics = judgement.diagnosis.metrics
    names = ("accuracy", "majority_accuracy", "log_loss", "directional_log_loss", "brier", "ece", "logit_abs_max")
    found = {name: getattr(metrics, name) for name in names}
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}


def _settings(job: Job) -> Mapping[str, str]:
    """Return what decides a run, one text a setting."""
    settings = {"symbol": job.symbol, "seed": str(job.seed), "recipe": job.recipe.name}
    if job.fold is not None:
        settings["fold"] = f"{job.fold} of {job.folds}"
    for section, table in job.recipe.to_dict().items():
        if isinstance(table, dict):
            settings |= {f"{section}.{key}": str(value)[:500] for key, value in table.items()}
    return settings


def both(one: Callable[[Job, Any], None], other: Callable[[Job, Any], None]) -> Callable[[Job, Any], None]:
    """Return a function that tells both."""

    def told(job: Job, what: Any) -> None:  # noqa: ANN401
        one(job, what)
        other(job, what)

    return told
