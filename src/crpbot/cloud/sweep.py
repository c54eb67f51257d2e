"""Orphans: what is ours, still runs, and is older than its time. It should not exist; it costs money when it does."""

from collections.abc import Callable
from dataclasses import dataclass

from crpbot.cloud.aws import Aws
from crpbot.cloud.plan import Backend
from crpbot.cloud.runs import ALIVE, OURS, is_ours, labels, limit_of, machines, stop_run
from crpbot.errors import AwsError

GRACE_SECONDS = 900
"""By how much a machine may be over its time before it counts as an orphan: it ends itself first."""
UNKNOWN_SECONDS = 12 * 3_600
"""Time of a machine whose tag does not say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """One run of ours that was found running.

    Attributes:
        backend: of AWS.
        run: name of the job.
        id: of the machine; the run itself for SageMaker.
        hours: it has run.
        limit_hours: it should have ended after.
        late: whether it is over its time, and so an orphan.

    """

    backend: Backend
    run: str
    id: str
    hours: float
    limit_hours: float
    late: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a sweep has seen.

    Attributes:
        found: every run of ours that still ran, late or not.
        left: in words, what could not be looked at or ended, and why.

    """

    found: tuple[Orphan, ...]
    left: tuple[str, ...]


def sweep(aws: Aws, *, now: int, dry: bool, told: Callable[[Orphan], None] = lambda _: None) -> Swept:
    """End every orphan; what is still within its time is left alone, and an error of one costs the others nothing.

    Args:
        aws: the region.
        now: milliseconds of UTC.
        dry: only look.
        told: is told each one that was ended.

    """
    found: list[Orphan] = []
    left: list[str] = []
    for look in (_machines, _training_jobs):
        try:
            more, unseen = look(aws, now / 1_000)
        except AwsError as error:
            left.append(str(error))
        else:
            found += more
            left += unseen
    for one in found:
        if one.late and not dry:
            try:
                stop_run(aws, one.backend, one.run, one.id if one.backend == "ec2" else "")
            except AwsError as error:
                left.append(f"{one.run} {one.id}: {error}")
            else:
                told(one)
    return Swept(found=tuple(found), left=tuple(left))


def _machines(aws: Aws, now: float) -> tuple[list[Orphan], list[str]]:
    found = []
    for machine in machines(aws):
        if machine["State"]["Name"] in ALIVE:
            limit = limit_of(machine) or UNKNOWN_SECONDS
            seconds = now - machine["LaunchTime"].timestamp()
            found.append(_orphan("ec2", labels(machine)["crpbot:job"], str(machine["InstanceId"]), seconds, limit))
    return found, []


def _training_jobs(aws: Aws, now: float) -> tuple[list[Orphan], list[str]]:
    found, left = [], []
    running = aws.pages("sagemaker", "list_training_jobs", "TrainingJobSummaries", NameContains=OURS, StatusEquals="InProgress")
    for name in (str(one["TrainingJobName"]) for one in running):
        if not name.startswith(OURS):
            continue  # NameContains looks everywhere in a name
        try:
            detail = aws.ask("sagemaker", "describe_training_job", TrainingJobName=name)
        except AwsError as error:
            left.append(f"{name}: {error}")
            continue
        if is_ours(detail):
            stopping = detail.get("StoppingCondition", {})
            wait, most = stopping.get("MaxWaitTimeInSeconds"), stopping.get("MaxRuntimeInSeconds")
            # a job on demand may wait for its machine for days, which costs nothing: its time begins when it runs
            began = detail["CreationTime"] if wait else detail.get("TrainingStartTime")
            seconds = 0.0 if began is None else now - began.timestamp()
            found.append(_orphan("sagemaker", name, name, seconds, float(wait or most or UNKNOWN_SECONDS)))
    return found, left


def _orphan(backend: Backend, run: str, identity: str, seconds: float, limit: float) -> Orphan:
    late = seconds > limit + GRACE_SECONDS
    return Orphan(backend=backend, run=run, id=identity, hours=seconds / 3_600, limit_hours=limit / 3_600, late=late)
