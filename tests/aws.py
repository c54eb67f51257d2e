"""AWS on loopback: moto, and what moto lacks: a SageMaker that runs jobs, quotas, and owners of buckets.

Jobs are real processes in a folder laid out as /opt/ml, without any credential in their environment.
"""

import contextlib
import http.client
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest

ACCOUNT = "123456789012"
REGION = "us-east-1"
BUCKET = f"crpbot-{ACCOUNT}-{REGION}"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/crpbot:1"
GROUP = "/aws/sagemaker/TrainingJobs"
SECRET = "SENTINEL0secret0that0must0be0nowhere0else"  # noqa: S105  a made-up word that the tests look for
KEY_ID = "AKIASENTINELSENTINEL"
ENDED = ("Completed", "Failed", "Stopped")


@dataclass
class Run:
    """One training job."""

    asked: dict[str, Any]
    folder: Path
    status: str = "InProgress"
    secondary: str = "Starting"
    reason: str = ""
    created: float = field(default_factory=time.time)
    started: float = 0.0
    ended: float = 0.0
    process: subprocess.Popen[str] | None = None
    thread: threading.Thread | None = None
    stopping: bool = False
    interrupt: bool = False
    starts: int = 0
    commands: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)


@dataclass
class Aws:
    """What a test may turn, and look at."""

    port: int
    folder: Path = Path()
    runs: dict[str, Run] = field(default_factory=dict)
    quotas: dict[str, float] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    throttle: int = 0
    cut_uploads: bool = False
    calls: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    on_start: Callable[[Run], None] = lambda _run: None
    on_line: Callable[[Run, str], None] = lambda _run, _line: None
    clients: dict[str, Any] = field(default_factory=dict)

    @property
    def moto(self) -> str:
        """The address of moto."""
        return f"http://127.0.0.1:{self.port}"

    def client(self, service: str) -> Any:
        """Return a client of our own, past the front and without the sentinel."""
        if service not in self.clients:
            keys = {"aws_access_key_id": "fake", "aws_secret_access_key": "fake"}
            self.clients[service] = boto3.Session().client(service, region_name=REGION, endpoint_url=self.moto, **keys)
        return self.clients[service]

    def wait(self, name: str, seconds: float = 120) -> Run:
        """Wait until a job has ended."""
        end = time.monotonic() + seconds
        while self.runs[name].status not in ENDED and time.monotonic() < end:
            time.sleep(0.05)
        return self.runs[name]

    def objects(self) -> dict[str, bytes]:
        """Return everything in the bucket."""
        s3 = self.client("s3")
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        keys = [one["Key"] for page in pages for one in page.get("Contents", ())]
        return {key: s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}


@contextlib.contextmanager
def aws_on_loopback() -> Iterator[Aws]:
    """Start everything; `begin` makes it fresh."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    aws = Aws(port=port)
    fronts = [_serve(_json_handler(aws)), _serve(_s3_handler(aws, port))]
    ours, s3 = (f"http://127.0.0.1:{one.server_address[1]}" for one in fronts)
    aws.environment = {
        "AWS_ENDPOINT_URL": aws.moto,
        "AWS_ENDPOINT_URL_SAGEMAKER": ours,
        "AWS_ENDPOINT_URL_SERVICE_QUOTAS": ours,
        "AWS_ENDPOINT_URL_S3": s3,
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    try:
        yield aws
    finally:
        for one in fronts:
            one.shutdown()
            one.server_close()
        server.stop()


def begin(aws: Aws, folder: Path) -> None:
    """Forget what was, and make bucket, roles, image and quotas as docs/cloud wants them."""
    line = http.client.HTTPConnection("127.0.0.1", aws.port)
    line.request("POST", "/moto-api/reset")
    line.getresponse().read()
    line.close()
    aws.folder, aws.runs, aws.owners, aws.calls = folder, {}, {}, []
    aws.throttle, aws.cut_uploads = 0, False
    aws.on_start, aws.on_line = (lambda _run: None), (lambda _run, _line: None)
    _furnish(aws)


@contextlib.contextmanager
def furnished(aws: Aws, folder: Path, environment: pytest.MonkeyPatch) -> Iterator[Aws]:
    """Give a fresh AWS, as docs/cloud furnishes an account, with sentinels as credentials; nothing of the user's is looked at."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_SESSION_TOKEN", "CRPBOT_BUCKET", "CRPBOT_ROLE"):
        environment.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        environment.setenv(name, str(folder / "none"))
    for name, value in aws.environment.items():
        environment.setenv(name, value)
    begin(aws, folder / "sagemaker")
    yield aws
    end(aws)


def end(aws: Aws) -> None:
    """Leave no process and no thread behind."""
    for run in aws.runs.values():
        run.stopping = True
        if run.process is not None and run.process.poll() is None:
            run.process.kill()
        if run.thread is not None:
            run.thread.join(30)


def _furnish(aws: Aws) -> None:
    aws.client("s3").create_bucket(Bucket=BUCKET)
    aws.owners[BUCKET] = ACCOUNT
    iam = aws.client("iam")
    for name, service in (("crpbot-sagemaker", "sagemaker"), ("crpbot-instance", "ec2")):
        trust = {"Effect": "Allow", "Principal": {"Service": f"{service}.amazonaws.com"}, "Action": "sts:AssumeRole"}
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}))
    iam.create_instance_profile(InstanceProfileName="crpbot-instance")
    iam.add_role_to_instance_profile(InstanceProfileName="crpbot-instance", RoleName="crpbot-instance")
    ecr = aws.client("ecr")
    ecr.create_repository(repositoryName="crpbot")
    layer = {"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": 1, "digest": f"sha256:{'a' * 64}"}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {**layer, "mediaType": "application/vnd.docker.container.image.v1+json"},
        "layers": [layer],
    }
    ecr.put_image(repositoryName="crpbot", imageManifest=json.dumps(manifest), imageTag="1")
    aws.client("ssm").put_parameter(Name="/crpbot/ami", Value="ami-12c6146b", Type="String")
    aws.client("logs").create_log_group(logGroupName=GROUP)
    aws.quotas = {
        "ml.g5.xlarge for training job usage": 4,
        "ml.g5.xlarge for spot training job usage": 4,
        "Running On-Demand G and VT instances": 8,
        "All G and VT Spot Instance Requests": 8,
    }


def _serve(handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def _throttled(aws: Aws) -> None:
    if aws.throttle > 0:
        aws.throttle -= 1
        raise RefusedError("ThrottlingException", "Rate exceeded")


class RefusedError(Exception):
    """What SageMaker answers with a code."""


class LostError(Exception):
    """The call was carried out, and its answer is lost on the way."""


def _json_handler(aws: Aws) -> type[BaseHTTPRequestHandler]:
    """SageMaker and Service Quotas speak JSON 1.1: the operation stands in a header."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
            operation = self.headers["X-Amz-Target"].rpartition(".")[2]
            aws.calls.append(operation)
            try:
                _throttled(aws)
                status, answer = 200, OPERATIONS[operation](aws, asked)
            except LostError:
                self.close_connection = True
                self.connection.close()
                return
            except RefusedError as error:
                status, answer = 400, {"__type": error.args[0], "message": error.args[1]}
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_words: object) -> None:
            pass

    return Handler


def _s3_handler(aws: Aws, port: int) -> type[BaseHTTPRequestHandler]:
    """S3 of moto, with owners (moto does not look at ExpectedBucketOwner) and a network that can be cut."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # answers `Expect: 100-continue`, for which botocore else waits a second

        def _pass_on(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            if self.command == "PUT" and aws.cut_uploads:
                self.rfile.read(min(length, 1_000))
                self.close_connection = True
                self.connection.close()
                return
            body = self.rfile.read(length) if length else None
            bucket = self.path.lstrip("/").partition("/")[0].partition("?")[0]
            wanted = self.headers.get("x-amz-expected-bucket-owner")
            if wanted and aws.owners.get(bucket, wanted) != wanted:
                self.send_response(403)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            line = http.client.HTTPConnection("127.0.0.1", port)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in {"expect", "connection"}}
            line.request(self.command, self.path, body, headers)
            answer = line.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in {"connection", "transfer-encoding", "server", "date", "content-length"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", answer.getheader("Content-Length") or str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)
            line.close()

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass_on  # noqa: N815  the names of http.server

        def log_message(self, *_words: object) -> None:
            pass

    return Handler


def _create(aws: Aws, asked: dict[str, Any]) -> dict[str, Any]:
    name = asked["TrainingJobName"]
    if name in aws.runs:
        raise RefusedError("ResourceInUse", "Training job names must be unique within an AWS account and region.")
    if any("secret" in str(value).lower() for value in asked["HyperParameters"].values()):
        raise RefusedError("ValidationException", "credentials in hyperparameters")
    spot = "spot training" if asked.get("EnableManagedSpotTraining") else "training"
    quota = aws.quotas.get(f"{asked['ResourceConfig']['InstanceType']} for {spot} job usage", 0)
    if sum(run.status not in ENDED for run in aws.runs.values()) >= quota:
        raise RefusedError("ResourceLimitExceeded", f"The account-level service limit is {quota:g} Instances")
    run = aws.runs[name] = Run(asked, aws.folder / name)
    run.thread = threading.Thread(target=_live, args=(aws, run), daemon=True)
    run.thread.start()
    return {"TrainingJobArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/{name}"}


def _describe(aws: Aws, asked: dict[str, Any]) -> dict[str, Any]:
    name = asked["TrainingJobName"]
    if name not in aws.runs:
        raise RefusedError("ValidationException", "Requested resource not found.")
    run = aws.runs[name]
    known = {
        "TrainingJobName": name,
        "TrainingJobArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/{name}",
        "TrainingJobStatus": run.status,
        "SecondaryStatus": run.secondary,
        "CreationTime": run.created,
        "StoppingCondition": run.asked["StoppingCondition"],
        "HyperParameters": run.asked["HyperParameters"],
        "ResourceConfig": run.asked["ResourceConfig"],
        "EnableManagedSpotTraining": run.asked.get("EnableManagedSpotTraining", False),
    }
    if run.started:
        known["TrainingStartTime"] = run.started
    if run.ended:
        known |= {"TrainingEndTime": run.ended, "TrainingTimeInSeconds": max(1, int(run.ended - run.started))}
        known["BillableTimeInSeconds"] = known["TrainingTimeInSeconds"]
    return known | ({"FailureReason": run.reason} if run.reason else {})


def _stop(aws: Aws, asked: dict[str, Any]) -> dict[str, Any]:
    run = aws.runs[asked["TrainingJobName"]]
    if run.status in ENDED:
        raise RefusedError("ValidationException", "The request was rejected because the training job is in status " + run.status)
    run.status, run.stopping, run.secondary = "Stopping", True, "Stopping"
    if run.process is not None:
        run.process.send_signal(signal.SIGTERM)
    return {}


def _list(aws: Aws, asked: dict[str, Any]) -> dict[str, Any]:
    return {
        "TrainingJobSummaries": [
            {"TrainingJobName": name, "TrainingJobStatus": run.status, "CreationTime": run.created, "TrainingJobArn": name}
            for name, run in aws.runs.items()
            if asked["NameContains"] in name and run.status == asked["StatusEquals"]
        ]
    }


def _quotas(aws: Aws, _asked: dict[str, Any]) -> dict[str, Any]:
    return {"Quotas": [{"QuotaName": name, "Value": value} for name, value in aws.quotas.items()]}


OPERATIONS: dict[str, Callable[[Aws, dict[str, Any]], dict[str, Any]]] = {
    "CreateTrainingJob": _create,
    "DescribeTrainingJob": _describe,
    "StopTrainingJob": _stop,
    "ListTrainingJobs": _list,
    "ListServiceQuotas": _quotas,
    "ListAWSDefaultServiceQuotas": lambda _aws, _asked: {"Quotas": []},
}


def _live(aws: Aws, run: Run) -> None:
    """Run a job to its end: a spot machine that is taken away is followed by another."""
    try:
        while True:
            run.interrupt = False
            aws.on_start(run)
            base = run.folder / f"machine-{run.starts + 1}" / "ml"
            _lay_out(aws, run, base)
            code = _one_machine(aws, run, base)
            if not run.interrupt:
                break
            run.secondary = "Interrupted"
        run.secondary = "Uploading"
        _upload(aws, run, base, code)
        _judge(run, base, code)
    except Exception as error:  # noqa: BLE001  a bug of the fake must end the job, not hang the test
        run.status, run.reason = "Failed", f"InternalServerError: {error!r}"
    run.ended = time.time()


def _judge(run: Run, base: Path, code: int) -> None:
    if run.stopping:
        run.status = run.secondary = "Stopped"
    elif code == 0:
        run.status = run.secondary = "Completed"
    else:
        failure = base / "output" / "failure"
        words = failure.read_text() if failure.exists() else ""
        run.status = run.secondary = "Failed"
        run.reason = f"AlgorithmError: {words}, exit code: {code}"[:1_024]


def _lay_out(aws: Aws, run: Run, base: Path) -> None:
    run.secondary = "Downloading"
    for name in ("input/config", "input/data", "model", "output/data", "checkpoints"):
        (base / name).mkdir(parents=True)
    config = base / "input" / "config"
    (config / "hyperparameters.json").write_text(json.dumps(run.asked["HyperParameters"]))
    (config / "resourceconfig.json").write_text(json.dumps({"current_host": "algo-1", "hosts": ["algo-1"]}))
    for channel in run.asked["InputDataConfig"]:
        _download(aws, channel["DataSource"]["S3DataSource"]["S3Uri"], base / "input" / "data" / channel["ChannelName"])
    _download(aws, run.asked["CheckpointConfig"]["S3Uri"] + "/", base / "checkpoints")


def _download(aws: Aws, uri: str, folder: Path) -> None:
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    s3 = aws.client("s3")
    for one in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", ()):
        path = folder / one["Key"][prefix.rfind("/") + 1 :]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(s3.get_object(Bucket=bucket, Key=one["Key"])["Body"].read())


def _one_machine(aws: Aws, run: Run, base: Path) -> int:
    run.secondary, run.starts = "Training", run.starts + 1
    run.started = run.started or time.time()
    words = [word.replace("/opt/ml", str(base)) for word in run.asked["AlgorithmSpecification"]["ContainerEntrypoint"]]
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(run.folder),
        "SAGEMAKER_BASE_DIR": str(base),
        "TRAINING_JOB_NAME": run.asked["TrainingJobName"],
        "AWS_REGION": REGION,
        "OMP_NUM_THREADS": "1",
    }
    run.process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if run.stopping:
        run.process.terminate()
    timer = threading.Timer(run.asked["StoppingCondition"]["MaxRuntimeInSeconds"], _too_long, (run,))
    timer.start()
    logs, stream = aws.client("logs"), f"{run.asked['TrainingJobName']}/algo-1-{run.starts}"
    logs.create_log_stream(logGroupName=GROUP, logStreamName=stream)
    assert run.process.stdout is not None
    for line in run.process.stdout:
        run.log.append(line.rstrip("\n"))
        run.commands += _command_lines(run.process.pid)
        event = {"timestamp": int(time.time() * 1_000), "message": line.rstrip("\n") or " "}
        logs.put_log_events(logGroupName=GROUP, logStreamName=stream, logEvents=[event])
        _keep(aws, run, base)
        aws.on_line(run, line)
    code = run.process.wait()
    run.process.stdout.close()
    timer.cancel()
    _keep(aws, run, base)
    return code


def _too_long(run: Run) -> None:
    run.status, run.stopping, run.secondary = "Stopping", True, "MaxRuntimeExceeded"
    if run.process is not None:
        run.process.terminate()


def take_away(run: Run) -> None:
    """Take the spot machine of a job: SIGTERM, and another machine afterwards."""
    run.interrupt = True
    assert run.process is not None
    run.process.send_signal(signal.SIGTERM)


def _keep(aws: Aws, run: Run, base: Path) -> None:
    """Upload the checkpoints, as SageMaker does while a job runs."""
    bucket, _, prefix = run.asked["CheckpointConfig"]["S3Uri"].removeprefix("s3://").partition("/")
    for path in (base / "checkpoints").rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and not path.name.endswith(".partial"):
                name = path.relative_to(base / "checkpoints").as_posix()
                aws.client("s3").put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=path.read_bytes())


def _upload(aws: Aws, run: Run, base: Path, code: int) -> None:
    bucket, _, prefix = run.asked["OutputDataConfig"]["S3OutputPath"].removeprefix("s3://").partition("/")
    for name, folder in (("model", base / "model"), ("output", base / "output" / "data")):
        if any(folder.iterdir()) or (name == "model" and code == 0):
            key = f"{prefix}/{run.asked['TrainingJobName']}/output/{name}.tar.gz"
            aws.client("s3").put_object(Bucket=bucket, Key=key, Body=tarred(folder))


def tarred(folder: Path) -> bytes:
    """Return a folder as .tar.gz."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, arcname=path.name)
    return buffer.getvalue()


def _command_lines(pid: int) -> list[str]:
    """Return the command lines of a process and of everything under it, as anybody on that machine could read them."""
    found = []
    for one in [pid, *_children(pid)]:
        with contextlib.suppress(OSError):
            found.append(Path(f"/proc/{one}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        own = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return own + [grandchild for child in own for grandchild in _children(child)]
    return []
