"""Orphans: what is ours, still runs, and is older than its time. It should not exist; it costs money when it does."""

from collections.abc import Callable
from dataclasses import dataclass

from crpbot.cloud.aws import Aws
from crpbot.cloud.plan import Backend
from crpbot.cloud.send import ALIVE, machines

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


def find(aws: Aws, *, now: int) -> tuple[Orphan, ...]:
    """Return every run of ours in the region that still runs, late or not.

    Args:
        aws: the region.
        now: milliseconds of UTC.

    """
    found = []
    for machine in machines(aws):
        if machine["State"]["Name"] in ALIVE:
            tags = {tag["Key"]: tag["Value"] for tag in machine.get("Tags", ())}
            began = machine["LaunchTime"].timestamp()
            limit = _seconds(tags.get("crpbot:seconds"))
            found.append(_orphan("ec2", str(tags["crpbot:job"]), str(machine["InstanceId"]), now / 1_000 - began, limit))
    running = aws.pages(
        "sagemaker", "list_training_jobs", "TrainingJobSummaries", NameContains="crpbot-", StatusEquals="InProgress"
    )
    for one in running:
        name = str(one["TrainingJobName"])
        detail = aws.ask("sagemaker", "describe_training_job", TrainingJobName=name)
        stopping = detail.get("StoppingCondition", {})
        limit = float(stopping.get("MaxWaitTimeInSeconds") or stopping.get("MaxRuntimeInSeconds") or UNKNOWN_SECONDS)
        found.append(_orphan("sagemaker", name, name, now / 1_000 - one["CreationTime"].timestamp(), limit))
    return tuple(found)


def sweep(aws: Aws, *, now: int, dry: bool, told: Callable[[Orphan], None] = lambda _: None) -> tuple[Orphan, ...]:
    """End every orphan, and return what was found running; what is still within its time is left alone.

    Args:
        aws: the region.
        now: milliseconds of UTC.
        dry: only look.
        told: is told each one that was ended.

    """
    found = find(aws, now=now)
    for one in found:
        if one.late and not dry:
            if one.backend == "ec2":
                aws.ask("ec2", "terminate_instances", InstanceIds=[one.id])
            else:
                aws.ask("sagemaker", "stop_training_job", TrainingJobName=one.run)
            told(one)
    return found


def _orphan(backend: Backend, run: str, identity: str, seconds: float, limit: float) -> Orphan:
    late = seconds > limit + GRACE_SECONDS
    return Orphan(backend=backend, run=run, id=identity, hours=seconds / 3_600, limit_hours=limit / 3_600, late=late)


def _seconds(text: object) -> float:
    return float(text) if isinstance(text, str) and text.isdecimal() else UNKNOWN_SECONDS
