"""One small function that sends planned requests. What is there is not sent again; what fails leaves nothing running."""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from crpbot.cloud.aws import NOT_THERE, Aws
from crpbot.cloud.jobs import Jobs, Sent
from crpbot.cloud.plan import Bill, Plan, Request
from crpbot.cloud.prices import price_of
from crpbot.cloud.runs import ALIVE, limit_of, machines, stop_run, training_job, unless
from crpbot.errors import AwsError, CloudError

_ENDED = ("Failed", "Stopped")
_THERE = {"put_object": {"PreconditionFailed", "ConditionalRequestConflict"}, "create_security_group": {"InvalidGroup.Duplicate"}}
"""What AWS says of something that is there already, by operation."""
MOST_ATTEMPTS = 99
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Started:
    """A run that AWS has.

    Attributes:
        run: its name.
        attempt: from 1.
        instance_id: of EC2; else empty.
        new: whether this call started it.
        limit_seconds: after which it is stopped.
        instance: type of its machine.
        spot: whether the machine may be taken away.

    """

    run: str
    attempt: int
    instance_id: str
    new: bool
    limit_seconds: int
    instance: str
    spot: bool


Begin = Callable[[Started], None]
"""Is told what is about to be started."""


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
    started: list[Started] = []
    try:
        for request in plan.requests:
            if request.body is not None:
                told(upload(request, aws))
            elif request.job:

                def begin(run: Started, of: Request = request) -> None:
                    """Keep what is about to start: whatever becomes of the answer, it can be found and stopped."""
                    started.append(run)
                    _keep(plan, of, run, jobs, account=account, candles=candles, now=now)

                run = _start(request, plan, aws, jobs, account, begin)
                started.append(run)
                _affordable(plan, started)
                _keep(plan, request, run, jobs, account=account, candles=candles, now=now)
                told(f"{'started' if run.new else 'already there:'} {run.run} {run.instance_id}".rstrip())
            else:
                _once(request, aws)
    except BaseException:
        _stop_new(plan, started, aws)
        raise
    names = {job.name for job in plan.jobs}
    return tuple(job for job in jobs.all() if job.name in names and (job.region, job.account) == (plan.region, account))


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
        if error.code not in NOT_THERE:
            raise
    else:
        _same(request, head.get("ChecksumSHA256"), head.get("ContentLength"))
        return f"there already: {name}"
    try:
        aws.ask("s3", "put_object", **request.parameters, Body=request.body)
    except AwsError as error:
        if error.code not in _THERE["put_object"]:
            raise
        head = aws.ask("s3", "head_object", **where, ChecksumMode="ENABLED")  # somebody else was quicker: with the same?
        _same(request, head.get("ChecksumSHA256"), head.get("ContentLength"))
        return f"there already: {name}"
    return f"uploaded {name}, {len(request.body):,} bytes"


def _start(request: Request, plan: Plan, aws: Aws, jobs: Jobs, account: str, begin: Begin) -> Started:
    """Start a run, or find the one that does the same work."""
    if request.service == "sagemaker":
        return _start_job(request, plan, aws, begin)
    return _start_machine(request, plan, aws, jobs, account, begin)


def is_there(aws: Aws, bucket: str, key: str, account: str) -> bool:
    """Say whether an object is there."""
    try:
        aws.ask("s3", "head_object", Bucket=bucket, Key=key, ExpectedBucketOwner=account)
    except AwsError as error:
        if error.code not in NOT_THERE:
            raise
        return False
    return True


def _start_job(request: Request, plan: Plan, aws: Aws, begin: Begin) -> Started:
    """A name of SageMaker is used up for ever: what failed or was stopped is started again under the next one."""
    for attempt in range(1, MOST_ATTEMPTS + 1):
        name = request.job if attempt == 1 else f"{request.job}-{attempt}"
        found = training_job(aws, name)
        if found is None:
            run = _new(plan, name, attempt)
            begin(run)
            # in use although it was not there a moment ago: the answer to an earlier try of this very call was lost
            in_use = {"ResourceInUse", "ResourceInUseException"}
            unless(aws, in_use, "sagemaker", "create_training_job", **{**request.parameters, "TrainingJobName": name})
            return run
        if found["TrainingJobStatus"] == "Stopping":
            raise CloudError(f"{name} must have stopped before it is sent again, found it stopping; repeat in a few minutes")
        if found["TrainingJobStatus"] not in _ENDED:
            stopping, machine = found["StoppingCondition"], found.get("ResourceConfig", {})
            limit, spot = int(stopping["MaxRuntimeInSeconds"]), bool(found.get("EnableManagedSpotTraining", False))
            return Started(
                name,
                attempt,
                "",
                new=False,
                limit_seconds=limit,
                instance=str(machine.get("InstanceType", plan.instance)),
                spot=spot,
            )
    raise CloudError(f"{request.job} must be tried at most {MOST_ATTEMPTS} times; look at why it fails (crpbot cloud status)")


def _start_machine(request: Request, plan: Plan, aws: Aws, jobs: Jobs, account: str, begin: Begin) -> Started:
    """A machine of the same work that lives is the one; the token makes that sure even when two ask at once."""
    known = [job for job in jobs.all() if (job.run, job.region, job.account) == (request.job, plan.region, account)]
    attempt, last = max(((job.attempt, job.instance_id) for job in known), default=(0, ""))
    if all(is_there(aws, plan.bucket, f"{job.folder}/output/model.tar.gz", account) for job in plan.jobs):
        return replace(_new(plan, request.job, max(1, attempt), last), new=False)  # done: nothing is paid twice
    there = machines(aws, request.job)
    for one in there:
        if one["State"]["Name"] == "shutting-down":
            raise CloudError(f"{request.job} must have ended before it is sent again, found it ending; repeat in a few minutes")
        if one["State"]["Name"] in ALIVE:
            spot, limit = one.get("InstanceLifecycle") == "spot", limit_of(one) or plan.bill.limit_seconds
            return Started(
                request.job,
                max(1, attempt),
                one["InstanceId"],
                new=False,
                limit_seconds=limit,
                instance=str(one["InstanceType"]),
                spot=spot,
            )
    begin(_new(plan, request.job, attempt + 1))
    # the machines that have ended are in the token: without records of ours, too, a token is not used twice
    gone = " ".join(sorted(one["InstanceId"] for one in there))
    token = hashlib.sha256(f"{request.parameters['ClientToken']} {attempt + 1} {gone}".encode()).hexdigest()
    answer = aws.ask("ec2", "run_instances", **{**request.parameters, "ClientToken": token})
    return _new(plan, request.job, attempt + 1, answer["Instances"][0]["InstanceId"])


def _new(plan: Plan, run: str, attempt: int, instance_id: str = "") -> Started:
    return Started(
        run, attempt, instance_id, new=True, limit_seconds=plan.bill.limit_seconds, instance=plan.instance, spot=plan.spot
    )


def _affordable(plan: Plan, started: Sequence[Started]) -> None:
    """What is there already was sent with another plan, perhaps; what it may cost counts as what it is."""
    most = plan.bill.max_cost
    if most is None:
        return
    runs = {run.run: run for run in started}.values()
    sums = [
        Bill.most_of(
            run.limit_seconds, plan.bill.price if run.instance == plan.instance else price_of(run.instance, spot=run.spot)
        )
        for run in runs
    ]
    if sum(sums) > most + _ROUNDING:
        there = ", ".join(
            f"{run.run} may run {run.limit_seconds / 3_600:.2f} hours on {run.instance}" for run in runs if not run.new
        )
        raise CloudError(
            f"the runs must cost at most ${most:,.2f}, found up to ${sum(sums):,.2f}: {there} and is there already; "
            "stop it first (crpbot cloud stop), or allow more with --max-cost"
        )


def stop(job: Sent, aws: Aws) -> None:
    """Stop what a job runs as; what has ended already is left alone."""
    stop_run(aws, job.backend, job.run, job.instance_id)


def _stop_new(plan: Plan, started: Sequence[Started], aws: Aws) -> None:
    """Stop what this call has started or tried to start; what cannot be stopped for sure is named."""
    left = []
    for run in dict.fromkeys(one for one in started if one.new):
        try:
            stop_run(aws, plan.backend, run.run, run.instance_id)
        except AwsError:
            left.append(run.run)
    if left:
        raise CloudError(
            f"every run must be stopped after a failure, found that {', '.join(dict.fromkeys(left))} may still run; "
            "stop them now: crpbot cloud stop, or in the console"
        )


def _once(request: Request, aws: Aws) -> None:
    unless(aws, _THERE.get(request.operation, set()), request.service, request.operation, **request.parameters)


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
        known = jobs.get(job.name, region=plan.region, account=account)
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
            instance=run.instance,
            instance_id=run.instance_id,
            spot=run.spot,
            usd_per_hour=plan.bill.price.hour,
            usd_on_demand=plan.bill.price.ceiling,
            limit_seconds=run.limit_seconds,
            created=now,
        )
        jobs.write(
            new
            if run.new or known is None
            else replace(known, run=run.run, instance_id=run.instance_id, limit_seconds=run.limit_seconds)
        )
