"""One small function that sends planned requests. What is there is not sent again; what fails leaves nothing running."""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from crpbot.cloud.aws import Aws
from crpbot.cloud.jobs import Jobs, Sent
from crpbot.cloud.plan import Plan, Request
from crpbot.errors import AwsError, CloudError

ALIVE = ("pending", "running", "stopping", "stopped")
"""States of a machine of EC2 that is still there."""
_ENDED = ("Failed", "Stopped")
_THERE = {"put_object": {"PreconditionFailed", "ConditionalRequestConflict"}, "create_security_group": {"InvalidGroup.Duplicate"}}
"""What AWS says of something that is there already, by operation."""
MOST_ATTEMPTS = 99


@dataclass(frozen=True, slots=True)
class Started:
    """A run that AWS has.

    Attributes:
        run: its name.
        attempt: from 1.
        instance_id: of EC2; else empty.
        new: whether this call started it.

    """

    run: str
    attempt: int
    instance_id: str
    new: bool


def send(
    plan: Plan, aws: Aws, jobs: Jobs, *, account: str, candles: str, now: int, told: Callable[[str], None] = lambda _: None
) -> tuple[Sent, ...]:
    """Send every request of a plan, in order, and keep what was started.

    Args:
        plan: with the true number of the account.
        aws: the region.
        jobs: where to keep it.
        account: that pays.
        candles: what a person typed.
        now: milliseconds of UTC.
        told: is told what is being done.

    Raises:
        AwsError: AWS refused, or did not answer; what this call has started is stopped.

    """
    started: list[tuple[Request, Started]] = []
    try:
        for request in plan.requests:
            if request.body is not None:
                told(upload(request, aws))
            elif request.job:
                run = start(request, plan, aws, jobs)
                started.append((request, run))
                _keep(plan, request, run, jobs, account=account, candles=candles, now=now)
                told(f"{'started' if run.new else 'already there:'} {run.run} {run.instance_id}".rstrip())
            else:
                _once(request, aws)
    except BaseException:
        _stop_new(plan, [run for _, run in started], aws)
        raise
    names = {job.name for job in plan.jobs}
    return tuple(job for job in jobs.all() if job.name in names)


def upload(request: Request, aws: Aws) -> str:
    """Upload a file unless the very same one is there; say what was done.

    The key holds the digest of what is meant, but only the digest that the bucket keeps of the object says what is there.
    """
    assert request.body is not None
    where = {name: request.parameters[name] for name in ("Bucket", "Key", "ExpectedBucketOwner")}
    name = where["Key"].rpartition("/")[2]
    try:
        head = aws.ask("s3", "head_object", **where, ChecksumMode="ENABLED")
    except AwsError as error:
        if error.code not in {"404", "NoSuchKey", "NotFound"}:
            raise
    else:
        _same(request, head.get("ChecksumSHA256"), head.get("ContentLength"))
        return f"there already: {name}"
    _once(request, aws)
    return f"uploaded {name}, {len(request.body):,} bytes"


def start(request: Request, plan: Plan, aws: Aws, jobs: Jobs) -> Started:
    """Start a run, or find the one that does the same work."""
    return _start_job(request, aws) if request.service == "sagemaker" else _start_machine(request, plan, aws, jobs)


def is_there(aws: Aws, bucket: str, key: str, account: str) -> bool:
    """Say whether an object is there."""
    try:
        aws.ask("s3", "head_object", Bucket=bucket, Key=key, ExpectedBucketOwner=account)
    except AwsError as error:
        if error.code not in {"404", "NoSuchKey", "NotFound"}:
            raise
        return False
    return True


def _start_job(request: Request, aws: Aws) -> Started:
    """A name of SageMaker is used up for ever: what failed or was stopped is started again under the next one."""
    for attempt in range(1, MOST_ATTEMPTS + 1):
        name = request.job if attempt == 1 else f"{request.job}-{attempt}"
        try:
            aws.ask("sagemaker", "create_training_job", **{**request.parameters, "TrainingJobName": name})
        except AwsError as error:
            if error.code not in {"ResourceInUse", "ResourceInUseException"}:
                raise
            status = aws.ask("sagemaker", "describe_training_job", TrainingJobName=name)["TrainingJobStatus"]
            if status not in _ENDED:
                return Started(name, attempt, "", new=False)
        else:
            return Started(name, attempt, "", new=True)
    raise CloudError(f"{request.job} must be tried at most {MOST_ATTEMPTS} times; look at why it fails (crpbot cloud status)")


def _start_machine(request: Request, plan: Plan, aws: Aws, jobs: Jobs) -> Started:
    """A machine of the same work that lives is the one; the token makes that sure even when two ask at once."""
    known = [job for job in jobs.all() if job.run == request.job]
    if len(known) == len(plan.jobs) and all(is_there(aws, job.bucket, job.artefact, job.account) for job in known):
        return Started(request.job, known[0].attempt, known[0].instance_id, new=False)  # done: nothing is paid twice
    for one in machines(aws, request.job):
        if one["State"]["Name"] in ALIVE:
            return Started(request.job, 1, one["InstanceId"], new=False)
    attempt = max((job.attempt for job in known), default=0) + 1
    token = hashlib.sha256(f"{request.parameters['ClientToken']} {attempt}".encode()).hexdigest()
    answer = aws.ask("ec2", "run_instances", **{**request.parameters, "ClientToken": token})
    return Started(request.job, attempt, answer["Instances"][0]["InstanceId"], new=True)


def machines(aws: Aws, run: str | None = None) -> list[dict[str, Any]]:
    """Return the machines of EC2 that are ours, or those of one run."""
    tag = {"Name": "tag-key", "Values": ["crpbot:job"]} if run is None else {"Name": "tag:crpbot:job", "Values": [run]}
    found = aws.pages("ec2", "describe_instances", "Reservations", Filters=[tag])
    return [one for reservation in found for one in reservation["Instances"]]


def stop(job: Sent, aws: Aws) -> None:
    """Stop what a job runs as; what has ended already is left alone."""
    _stop(aws, job.backend, job.run, job.instance_id)


def _stop(aws: Aws, backend: str, run: str, instance_id: str) -> None:
    if backend == "ec2":
        if instance_id:
            _unless(aws, {"InvalidInstanceID.NotFound"}, "ec2", "terminate_instances", InstanceIds=[instance_id])
        return
    status = aws.ask("sagemaker", "describe_training_job", TrainingJobName=run)["TrainingJobStatus"]
    if status == "InProgress":
        _unless(aws, {"ValidationException"}, "sagemaker", "stop_training_job", TrainingJobName=run)  # it has just ended


def _unless(aws: Aws, codes: set[str], service: str, operation: str, /, **parameters: object) -> None:
    try:
        aws.ask(service, operation, **parameters)
    except AwsError as error:
        if error.code not in codes:
            raise


def _stop_new(plan: Plan, started: Sequence[Started], aws: Aws) -> None:
    left = []
    for run in started:
        if run.new:
            try:
                _stop(aws, plan.backend, run.run, run.instance_id)
            except AwsError:
                left.append(run.run)
    if left:
        raise CloudError(
            f"every run must be stopped after a failure, found {', '.join(left)} still running; "
            "stop them now: crpbot cloud stop, or in the console"
        )


def _once(request: Request, aws: Aws) -> None:
    body = {} if request.body is None else {"Body": request.body}
    _unless(aws, _THERE.get(request.operation, set()), request.service, request.operation, **request.parameters, **body)


def _same(request: Request, checksum: str | None, length: int | None) -> None:
    assert request.body is not None
    key, ours = request.parameters["Key"], base64.b64encode(hashlib.sha256(request.body).digest()).decode()
    exact = (
        "/candles/" not in key
    )  # another version of polars writes the same candles in other bytes; the job checks their digest
    if not length or (exact and checksum != ours):
        raise CloudError(
            f"s3://{request.parameters['Bucket']}/{key} must be the file that its name says, found another; "
            "somebody changed it: delete it, and look who can write there"
        )


def _keep(plan: Plan, request: Request, run: Started, jobs: Jobs, *, account: str, candles: str, now: int) -> None:
    of_run = [job for job in plan.jobs if plan.backend == "ec2" or job.name == request.job]
    for job in of_run:
        known = jobs.get(job.name)
        new = Sent(
            name=job.name,
            run=run.run,
            attempt=run.attempt,
            backend=plan.backend,
            region=plan.region,
            account=account,
            bucket=plan.bucket,
            symbol=job.symbol,
            recipe=job.recipe.to_toml(),
            seed=job.seed,
            kind=job.kind,
            candles=candles,
            candles_sha256=job.candles_sha256,
            instance=plan.instance,
            instance_id=run.instance_id,
            spot=plan.spot,
            usd_per_hour=plan.bill.price.hour,
            limit_seconds=plan.bill.limit_seconds,
            created=now,
        )
        jobs.write(new if run.new or known is None else replace(known, run=run.run, instance_id=run.instance_id))
