"""Sending: once, whole, and with nothing left running when something fails."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import pytest
from aws import ACCOUNT, BUCKET, GROUP, IMAGE, OPERATIONS, Aws, LostError, RefusedError
from models import market, quick

from crpbot.cloud.aws import TRIES
from crpbot.cloud.aws import Aws as Door
from crpbot.cloud.jobs import Jobs, Sent
from crpbot.cloud.order import Market, Wish, make_plan
from crpbot.cloud.plan import Plan
from crpbot.cloud.runs import machines
from crpbot.cloud.send import send, stop, upload
from crpbot.cloud.status import logged_manifest, look, look_at
from crpbot.cloud.sweep import sweep
from crpbot.errors import AwsError, CloudError

pytestmark = pytest.mark.slow
SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")
SAGEMAKER = Wish(account=ACCOUNT, image=IMAGE)
EC2 = Wish(backend="ec2", account=ACCOUNT, image="ami-12c6146b")


def planned(wish: Wish = SAGEMAKER, symbols: tuple[str, ...] = SYMBOLS) -> Plan:
    candles = Market(kind="file", name="BTC-USD.parquet", candles=market(rows=6_000))
    return make_plan(wish, dict.fromkeys(symbols, candles), quick(epochs=1), seed=0)


def sent(plan: Plan, home: Path, said: list[str] | None = None) -> tuple[Sent, ...]:
    told = (said if said is not None else []).append
    return send(plan, Door("us-east-1"), Jobs(home), account=ACCOUNT, candles="BTC-USD.parquet", now=1, told=told)


@pytest.fixture(autouse=True)
def _idle(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs here start and do nothing: what they do is tested elsewhere."""
    monkeypatch.setattr("aws._live", lambda _aws, _run: None)
    monkeypatch.setattr("crpbot.cloud.pack._zipped", lambda _: b"a small package")
    assert aws.runs == {}


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow each other without the waits of botocore."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)


def test_everything_is_uploaded_once_and_started_once(aws: Aws, tmp_path: Path) -> None:
    first, again = list[str](), list[str]()
    jobs = sent(planned(), tmp_path, first)
    assert [job.symbol for job in jobs] == list(SYMBOLS)
    assert len(aws.runs) == 3
    stored = aws.objects()
    assert len([key for key in stored if "/packages/" in key]) == 4
    assert len([line for line in first if line.startswith("uploaded")]) == len(stored) == 8
    assert sent(planned(), tmp_path, again) == jobs
    assert len(aws.runs) == 3
    assert [line for line in again if line.startswith(("uploaded", "started"))] == []
    asked = aws.runs[jobs[0].run].asked
    assert {tag["Key"] for tag in asked["Tags"]} == {"crpbot:job", "crpbot:symbols", "crpbot:recipe", "crpbot:seconds"}


def test_what_failed_or_was_stopped_is_started_again_and_goes_on_from_its_state(aws: Aws, tmp_path: Path) -> None:
    job = sent(planned(symbols=("BTC-USD",)), tmp_path)[0]
    aws.runs[job.run].status = "Stopped"
    again = sent(planned(symbols=("BTC-USD",)), tmp_path)[0]
    assert (again.name, again.run, again.attempt) == (job.name, f"{job.name}-2", 2)
    places = {aws.runs[run].asked["CheckpointConfig"]["S3Uri"] for run in (job.run, again.run)}
    assert len(places) == 1
    aws.runs[again.run].status = "Completed"
    assert sent(planned(symbols=("BTC-USD",)), tmp_path)[0] == again
    assert len(aws.runs) == 2


def test_throttling_is_waited_out_and_then_given_up_in_one_line(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    aws.throttle = TRIES - 1
    assert len(sent(planned(symbols=("BTC-USD",)), tmp_path)) == 1
    aws.throttle = 1_000
    with pytest.raises(AwsError, match="ThrottlingException: Rate exceeded; too many calls, 6 tries were refused"):
        sent(planned(symbols=("ETH-USD",)), tmp_path)
    aws.throttle = 0
    assert [run.asked["HyperParameters"]["symbol"] for run in aws.runs.values()] == ["BTC-USD"]


def test_a_network_that_is_cut_during_the_upload_starts_nothing(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    aws.cut_uploads = True
    with pytest.raises(AwsError, match="AWS must answer s3:PutObject"):
        sent(planned(), tmp_path)
    assert (aws.objects(), aws.runs, Jobs(tmp_path).all()) == ({}, {}, ())
    aws.cut_uploads = False
    assert len(sent(planned(), tmp_path)) == 3


def test_a_failure_half_way_stops_what_this_call_has_started(aws: Aws, tmp_path: Path) -> None:
    aws.quotas["ml.g5.xlarge for training job usage"] = 2
    with pytest.raises(AwsError, match=r"ResourceLimitExceeded.*ask for a higher quota"):
        sent(planned(), tmp_path)
    assert [run.status for run in aws.runs.values()] == ["Stopping", "Stopping"]


def test_a_failure_leaves_alone_what_ran_before(aws: Aws, tmp_path: Path) -> None:
    sent(planned(symbols=("BTC-USD",)), tmp_path)
    aws.quotas["ml.g5.xlarge for training job usage"] = 2
    with pytest.raises(AwsError):
        sent(planned(), tmp_path)
    assert [run.status for run in aws.runs.values()] == ["InProgress", "Stopping"]


def test_a_file_that_somebody_has_changed_in_the_bucket_is_not_used(aws: Aws, tmp_path: Path) -> None:
    key = next(request.parameters["Key"] for request in planned().requests if request.parameters["Key"].endswith("crpbot.zip"))
    aws.client("s3").put_object(Bucket=BUCKET, Key=key, Body=b"another program", ChecksumAlgorithm="SHA256")
    with pytest.raises(CloudError, match="somebody changed it"):
        sent(planned(), tmp_path)
    assert aws.runs == {}


def test_ec2_starts_one_machine_however_often_it_is_asked(aws: Aws, tmp_path: Path) -> None:
    first = sent(planned(EC2), tmp_path)
    again = sent(planned(EC2), tmp_path)
    assert first == again
    assert len({job.instance_id for job in first}) == 1
    found = machines(Door("us-east-1"))
    assert [one["InstanceId"] for one in found] == [first[0].instance_id]
    assert found[0]["IamInstanceProfile"]["Arn"].endswith("instance-profile/crpbot-instance")
    ec2 = aws.client("ec2")
    told = ec2.describe_instance_attribute(InstanceId=first[0].instance_id, Attribute="instanceInitiatedShutdownBehavior")
    assert told["InstanceInitiatedShutdownBehavior"]["Value"] == "terminate"
    group = ec2.describe_security_groups(GroupNames=["crpbot-no-inbound"])["SecurityGroups"][0]
    assert group["IpPermissions"] == []
    stop(first[0], Door("us-east-1"))
    assert machines(Door("us-east-1"))[0]["State"]["Name"] == "terminated"
    stop(first[0], Door("us-east-1"))  # what has ended is left alone
    third = sent(planned(EC2), tmp_path)
    assert third[0].instance_id != first[0].instance_id
    assert third[0].attempt == 2


def test_sweep_ends_what_is_late_and_leaves_alone_what_is_not(aws: Aws, tmp_path: Path) -> None:
    machine = sent(planned(EC2), tmp_path / "a")[0]
    job = sent(planned(symbols=("BTC-USD",)), tmp_path / "b")[0]
    other = aws.client("ec2").run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    door = Door("us-east-1")
    aws.runs[job.run].started = aws.runs[job.run].created
    began = int(aws.runs[job.run].created * 1_000)
    assert [one.late for one in sweep(door, now=began, dry=False).found] == [False, False]
    hours = began + 10 * 3_600_000
    assert [one.late for one in sweep(door, now=hours, dry=True).found] == [True, True]
    assert aws.runs[job.run].status == "InProgress"
    ended: list[Any] = []
    sweep(door, now=hours, dry=False, told=ended.append)
    assert {one.id for one in ended} == {machine.instance_id, job.run}
    states = {one["InstanceId"]: one["State"]["Name"] for one in machines(door)}
    assert states == {machine.instance_id: "terminated"}
    left = aws.client("ec2").describe_instances(InstanceIds=[other])["Reservations"][0]["Instances"][0]
    assert left["State"]["Name"] == "running"  # it is not ours
    assert aws.runs[job.run].status == "Stopping"


def test_a_sweep_goes_on_after_an_error_and_says_what_is_left(aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = sent(planned(), tmp_path)
    for run in aws.runs.values():
        run.started = run.created
    bad, stranger = jobs[0].run, "crpbot-of-somebody-else"
    aws.runs[stranger] = aws.runs["not-crpbot-at-all"] = dataclasses.replace(aws.runs[bad])
    real = OPERATIONS["DescribeTrainingJob"]

    def describe(here: Aws, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["TrainingJobName"] == bad:
            raise RefusedError("AccessDeniedException", "no")
        return real(here, asked)

    monkeypatch.setitem(OPERATIONS, "DescribeTrainingJob", describe)
    later = int(time.time() * 1_000) + 10 * 3_600_000
    swept = sweep(Door("us-east-1"), now=later, dry=False)
    assert {one.run for one in swept.found} == {jobs[1].run, jobs[2].run}
    assert len(swept.left) == 1
    assert bad in swept.left[0]
    assert {name: run.status for name, run in aws.runs.items()} == {
        bad: "InProgress",
        jobs[1].run: "Stopping",
        jobs[2].run: "Stopping",
        stranger: "InProgress",
        "not-crpbot-at-all": "InProgress",
    }


def test_a_job_on_demand_that_waits_for_its_machine_is_not_late(aws: Aws, tmp_path: Path) -> None:
    job = sent(planned(symbols=("BTC-USD",)), tmp_path)[0]
    later = int((aws.runs[job.run].created + 36_000) * 1_000)
    assert [one.late for one in sweep(Door("us-east-1"), now=later, dry=False).found] == [False]
    aws.runs[job.run].started = aws.runs[job.run].created
    assert [one.late for one in sweep(Door("us-east-1"), now=later, dry=True).found] == [True]


def test_what_is_stopping_is_not_taken_for_what_runs(aws: Aws, tmp_path: Path) -> None:
    job = sent(planned(symbols=("BTC-USD",)), tmp_path)[0]
    stop(job, Door("us-east-1"))
    with pytest.raises(CloudError, match="found it stopping; repeat in a few minutes"):
        sent(planned(symbols=("BTC-USD",)), tmp_path)
    assert len(aws.runs) == 1


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize("answer", ["lost once", "lost always"])
def test_a_job_whose_answer_was_lost_is_ours(aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    """The job is made, and the answer does not arrive: it is not left running unknown."""
    real, lost = OPERATIONS["CreateTrainingJob"], list[str]()

    def create(here: Aws, asked: dict[str, Any]) -> dict[str, Any]:
        symbol = asked["HyperParameters"]["symbol"]
        if symbol == "SOL-USD" and answer == "lost once":
            raise RefusedError("ResourceLimitExceeded", "no more")
        if asked["TrainingJobName"] not in here.runs:
            real(here, asked)
        elif answer == "lost once":
            return real(here, asked)
        if symbol == "BTC-USD" or answer == "lost always":
            lost.append(symbol)
            raise LostError
        return {}

    monkeypatch.setitem(OPERATIONS, "CreateTrainingJob", create)
    with pytest.raises(AwsError):
        sent(planned(), tmp_path)
    assert lost
    assert {run.status for run in aws.runs.values()} == {"Stopping"}
    assert {job.run for job in Jobs(tmp_path).all()} >= set(aws.runs)


def test_a_start_whose_fate_is_unknown_is_named(aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = planned(symbols=("BTC-USD",)).jobs[0].name

    def refuse(*_: object) -> None:
        monkeypatch.setitem(OPERATIONS, "DescribeTrainingJob", deny)
        raise RefusedError("ValidationException", "something")

    def deny(*_: object) -> None:
        raise RefusedError("AccessDeniedException", "no")

    monkeypatch.setitem(OPERATIONS, "CreateTrainingJob", refuse)
    with pytest.raises(CloudError, match=f"{name} may still run"):
        sent(planned(symbols=("BTC-USD",)), tmp_path)
    assert aws.runs == {}
    assert [job.run for job in Jobs(tmp_path).all()] == [name]


def test_what_ec2_has_done_is_known_without_any_record_here(aws: Aws, tmp_path: Path) -> None:
    first = sent(planned(EC2), tmp_path / "a")
    stop(first[0], Door("us-east-1"))
    for job in first:
        aws.client("s3").put_object(Bucket=BUCKET, Key=job.artefact, Body=b"done")
    again = sent(planned(EC2), tmp_path / "b")
    assert {one["InstanceId"] for one in machines(Door("us-east-1"))} == {first[0].instance_id}
    assert {look(job, Door("us-east-1"), now=2).state for job in (*first, *again)} == {"Completed"}


def test_a_failure_of_an_earlier_machine_is_not_taken_for_this_one(aws: Aws, tmp_path: Path) -> None:
    job = sent(planned(EC2, ("BTC-USD",)), tmp_path)[0]
    key = f"crpbot/jobs/{job.name}/status.json"
    for machine, state in (("i-another", "InProgress"), (job.instance_id, "Failed")):
        told = {"state": "Failed", "machine": machine, "time": 10**11}
        aws.client("s3").put_object(Bucket=BUCKET, Key=key, Body=json.dumps(told).encode())
        assert look(job, Door("us-east-1"), now=2).state == state


@pytest.mark.parametrize("wish", [SAGEMAKER, EC2])
def test_what_is_there_already_counts_with_its_own_limit(aws: Aws, tmp_path: Path, wish: Wish) -> None:
    first = sent(planned(wish, ("BTC-USD",)), tmp_path / "a")[0]
    tight = planned(dataclasses.replace(wish, max_cost=0.9), ("BTC-USD",))
    assert tight.bill.limit_seconds < first.limit_seconds
    with pytest.raises(CloudError, match=r"at most \$0\.90, found up to \$1\..*is there already"):
        sent(tight, tmp_path / "b")
    generous = sent(planned(dataclasses.replace(wish, max_cost=9, max_hours=0.5), ("BTC-USD",)), tmp_path / "b")[0]
    assert generous.limit_seconds == first.limit_seconds
    assert len(aws.runs) + len(machines(Door("us-east-1"))) == 1


def test_the_cost_of_spot_is_billable_time_on_demand_and_a_machine_counts_once(aws: Aws, tmp_path: Path) -> None:
    aws.quotas["ml.g5.xlarge for spot training job usage"] = 4
    job = sent(planned(dataclasses.replace(SAGEMAKER, spot=True), ("BTC-USD",)), tmp_path)[0]
    run, door = aws.runs[job.run], Door("us-east-1")
    run.status, run.started, run.ended = "Completed", run.created, run.created + 3_600
    assert look(job, door, now=1).cost_usd == pytest.approx(1.408)
    three = sent(planned(EC2), tmp_path / "ec2")
    costs = [one.cost_usd for one in look_at(three, {"us-east-1": door}, now=1 + 3_600_000)]
    assert costs == pytest.approx([1.006, 0, 0])


def test_what_somebody_puts_there_between_look_and_upload_is_looked_at(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    request = next(one for one in planned().requests if str(one.parameters["Key"]).endswith("crpbot.zip"))
    real, missing = Door.ask, [True]

    def ask(door: Door, service: str, operation: str, /, **parameters: Any) -> dict[str, Any]:
        if operation == "head_object" and missing:
            missing.clear()
            where = {name: request.parameters[name] for name in ("Bucket", "Key")}
            aws.client("s3").put_object(**where, Body=b"another program", ChecksumAlgorithm="SHA256")
            raise AwsError("not there", code="404")
        if operation == "put_object":
            raise AwsError("there", code="PreconditionFailed")
        return real(door, service, operation, **parameters)

    monkeypatch.setattr(Door, "ask", ask)
    with pytest.raises(CloudError, match="somebody changed it"):
        upload(request, Door("us-east-1"))


def test_records_of_two_regions_do_not_meet(aws: Aws, tmp_path: Path) -> None:
    job, jobs = sent(planned(symbols=("BTC-USD",)), tmp_path)[0], Jobs(tmp_path)
    for change in ({"region": "eu-central-1"}, {"account": "999999999999"}):
        jobs.write(dataclasses.replace(job, **change))  # type: ignore[arg-type]
    assert len(jobs.all()) == 3
    assert jobs.get(job.name, region="us-east-1", account=ACCOUNT) == job
    assert aws.runs


def test_the_digest_of_the_manifest_is_found_however_much_was_said_after_it(aws: Aws, tmp_path: Path) -> None:
    job, logs = sent(planned(symbols=("BTC-USD",)), tmp_path)[0], aws.client("logs")
    where = {"logGroupName": GROUP, "logStreamName": f"{job.run}/algo-1-1"}
    assert logged_manifest(job, Door("us-east-1")) is None
    logs.create_log_stream(**where)
    assert logged_manifest(job, Door("us-east-1")) is None
    begin = int(time.time() * 1_000)
    for part in range(3):
        lines = ["manifest " + 64 * "a" if part + number == 0 else f"line {part} {number}" for number in range(5_000)]
        logs.put_log_events(**where, logEvents=[{"timestamp": begin + part, "message": line} for line in lines])
    assert logged_manifest(job, Door("us-east-1")) == 64 * "a"


def test_records_are_read_whole_or_not_at_all(tmp_path: Path, aws: Aws) -> None:
    job = sent(planned(symbols=("BTC-USD",)), tmp_path)[0]
    jobs = Jobs(tmp_path)
    assert jobs.chosen(("BTC-USD",)) == jobs.chosen((job.name,)) == jobs.chosen(()) == (job,)
    with pytest.raises(CloudError, match="sent from here, found DOGE-USD"):
        jobs.chosen(("DOGE-USD",))
    with pytest.raises(CloudError, match="found none"):
        Jobs(tmp_path / "empty").chosen(())
    (tmp_path / "cloud" / "jobs" / f"{ACCOUNT}-us-east-1-{job.name}.json").write_text('{"format": "crpbot.cloud-job/1"}')
    with pytest.raises(CloudError, match="must be a whole record"):
        jobs.all()
    assert dataclasses.is_dataclass(job)
    assert aws.runs
