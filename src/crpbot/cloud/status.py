"""How far a job is: its state, its last epoch, its time and money, and why it failed."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from crpbot.cloud.aws import NOT_THERE, Aws
from crpbot.cloud.jobs import MOST, Sent
from crpbot.cloud.runs import ALIVE, machines, training_job
from crpbot.cloud.send import is_there
from crpbot.errors import AwsError

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
LINES = 200
"""Newest lines of the log that are looked at."""
OVER = ("Completed", "Failed", "Stopped")
_EPOCH = re.compile(r"epoch (\d+)/(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """What AWS says of a job.

    Attributes:
        name, symbol, run: of the job.
        state: InProgress, Completed, Failed, Stopping or Stopped.
        detail: what it is doing.
        reason: why it failed; else empty.
        epoch, of: of the training; 0 before its first.
        seconds: it has run.
        billable_seconds: that are paid; None while it runs.
        cost_usd: of the seconds so far at the price of the plan; of the billable seconds at the price on demand, since AWS
            has taken what spot saves off the seconds already. A machine of EC2 counts once (see `look_at`).
        log: newest lines.

    """

    name: str
    symbol: str
    run: str
    state: str
    detail: str
    reason: str
    epoch: int
    of: int
    seconds: float
    billable_seconds: float | None
    cost_usd: float
    log: tuple[str, ...]

    @property
    def over(self) -> bool:
        """Whether it runs no more."""
        return self.state in OVER


def look_at(jobs: Sequence[Sent], doors: Mapping[str, Aws], *, now: int) -> list[JobStatus]:
    """Ask AWS about jobs; a machine that several of them share is paid once, so its cost stands with the first of them.

    Args:
        jobs: that were sent.
        doors: by region.
        now: milliseconds of UTC.

    """
    found = [look(job, doors[job.region], now=now) for job in jobs]
    shared: dict[str, float] = {}
    for job, one in zip(jobs, found, strict=True):
        if job.backend == "ec2":
            shared[job.run] = max(shared.get(job.run, 0.0), one.cost_usd)
    return [
        replace(one, cost_usd=shared.pop(job.run, 0.0)) if job.backend == "ec2" else one
        for job, one in zip(jobs, found, strict=True)
    ]


def look(job: Sent, aws: Aws, *, now: int) -> JobStatus:
    """Ask AWS about a job.

    Args:
        job: that was sent.
        aws: its region.
        now: milliseconds of UTC.

    """
    return _look_at_training(job, aws, now) if job.backend == "sagemaker" else _look_at_machine(job, aws, now)


def manifest_in(log: tuple[str, ...]) -> str | None:
    """Return the digest of the manifest that the job wrote into its log, or None.

    >>> manifest_in(("passed logit-range", "manifest " + 64 * "a"))[:4]
    'aaaa'
    """
    for line in reversed(log):
        if match := re.fullmatch(r"manifest ([0-9a-f]{64})", line.strip()):
            return match[1]
    return None


def _look_at_training(job: Sent, aws: Aws, now: int) -> JobStatus:
    found = training_job(aws, job.run)
    if found is None:
        return _status(job, "Stopped", "", "AWS knows no such job: it was not started; send it again", 0.0, 0.0, ())
    state = str(found["TrainingJobStatus"])
    started, ended = found.get("TrainingStartTime"), found.get("TrainingEndTime")
    seconds = float(found.get("TrainingTimeInSeconds") or 0)
    if not seconds and started is not None:
        seconds = (ended.timestamp() if ended else now / 1_000) - started.timestamp()
    billable = found.get("BillableTimeInSeconds")
    log = _log(job.run, aws)
    detail = str(found.get("SecondaryStatus", ""))
    transitions = found.get("SecondaryStatusTransitions") or [{}]
    if transitions[-1].get("StatusMessage"):
        detail = f"{detail}: {transitions[-1]['StatusMessage']}"
    return _status(job, state, detail, str(found.get("FailureReason", "")), seconds, billable, log)


def _log(run: str, aws: Aws) -> tuple[str, ...]:
    """Return the newest lines of a training job; none while there is no log yet."""
    try:
        streams = aws.pages("logs", "describe_log_streams", "logStreams", logGroupName=LOG_GROUP, logStreamNamePrefix=f"{run}/")
        lines: list[str] = []
        for stream in streams:
            events = aws.ask(
                "logs",
                "get_log_events",
                logGroupName=LOG_GROUP,
                logStreamName=stream["logStreamName"],
                limit=LINES,
                startFromHead=False,
            )["events"]
            lines += [str(event["message"]) for event in events]
        return tuple(lines[-LINES:])
    except AwsError as error:
        if error.code != "ResourceNotFoundException":
            raise
        return ()


def logged_manifest(job: Sent, aws: Aws) -> str | None:
    """Look through the whole log of a training job, from its end, for the digest of its manifest; None where it is not there."""
    try:
        streams = aws.pages(
            "logs", "describe_log_streams", "logStreams", logGroupName=LOG_GROUP, logStreamNamePrefix=f"{job.run}/"
        )
        for stream in reversed(streams):
            where = {"logGroupName": LOG_GROUP, "logStreamName": stream["logStreamName"], "startFromHead": False}
            token = ""
            while True:
                answer = aws.ask("logs", "get_log_events", **where, **({"nextToken": token} if token else {}))
                if found := manifest_in(tuple(str(event["message"]) for event in answer["events"])):
                    return found
                if answer.get("nextBackwardToken", token) == token:
                    break  # the same token again: this was the beginning
                token = answer["nextBackwardToken"]
    except AwsError as error:
        if error.code != "ResourceNotFoundException":
            raise
    return None


def _look_at_machine(job: Sent, aws: Aws, now: int) -> JobStatus:
    told = _told(job, aws)
    ours = [one for one in machines(aws, job.run) if one["InstanceId"] == job.instance_id]
    alive = any(one["State"]["Name"] in ALIVE for one in ours)
    done = is_there(aws, job.bucket, job.artefact, job.account)
    state, detail = ("Completed", "") if done else (str(told.get("state", "InProgress")), str(told.get("detail", "")))
    reason = detail if state == "Failed" else ""
    if state not in OVER and not alive:
        state, reason = "Stopped", "the machine is gone before the job was done; sent again, it goes on from its last epoch"
    elif state == "Interrupted":
        state = "Stopping"
    last = float(told.get("time", now))
    seconds = max(0.0, (last if state in OVER else now) - job.created) / 1_000
    words = detail or (f"machine {job.instance_id}" if alive else "")
    return _status(job, state, words, reason, seconds, None, tuple([str(told["line"])] if told.get("line") else []))


def _told(job: Sent, aws: Aws) -> Mapping[str, Any]:
    """Return what the machine says of a job; nothing before it has begun."""
    try:
        body = aws.ask("s3", "get_object", Bucket=job.bucket, Key=f"crpbot/jobs/{job.name}/status.json")["Body"]
        told = json.loads(body.read())
    except AwsError as error:
        if error.code not in NOT_THERE:
            raise
        return {}
    except (ValueError, RecursionError):
        return {}
    if not _is_word(told):
        return {}
    return told if told.get("machine", "") in {"", job.instance_id} else {}  # another machine said it, of an earlier attempt


def _is_word(told: Any) -> bool:  # noqa: ANN401
    """Whether it is of the form that our machines speak in; whoever may write into the bucket may have written it."""
    return (
        isinstance(told, dict)
        and all(isinstance(told.get(name, ""), str) for name in ("state", "detail", "line", "machine"))
        and type(told.get("time", 0)) in {int, float}
        and 0 <= told.get("time", 0) < MOST
    )


def _status(
    job: Sent, state: str, detail: str, reason: str, seconds: float, billable: float | None, log: tuple[str, ...]
) -> JobStatus:
    epoch, of = 0, 0
    for line in log:
        if match := _EPOCH.search(line):
            epoch, of = int(match[1]), int(match[2])
    paid = seconds * job.usd_per_hour if billable is None else billable * (job.usd_on_demand or job.usd_per_hour)
    return JobStatus(
        name=job.name,
        symbol=job.symbol,
        run=job.run,
        state=state,
        detail=detail,
        reason=reason,
        epoch=epoch,
        of=of,
        seconds=seconds,
        billable_seconds=None if billable is None else float(billable),
        cost_usd=paid / 3_600,
        log=log,
    )
