"""The machine of EC2: what its user data starts, against S3 on loopback, as a process of its own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from aws import ACCOUNT, BUCKET, Aws
from models import market, quick

from crpbot.cloud.aws import Aws as Door
from crpbot.cloud.fetch import fetch
from crpbot.cloud.jobs import Jobs, Sent
from crpbot.cloud.order import Market, Wish, make_plan
from crpbot.cloud.send import send
from crpbot.cloud.status import look
from crpbot.errors import CloudError
from crpbot.market.files import write_candles
from crpbot.model.recipe import Recipe

pytestmark = pytest.mark.slow
NAME = "lstm_BTC-USD_v7_enhanced.pt"


def sent(place: Path, recipe: Recipe, symbols: tuple[str, ...] = ("BTC-USD", "ETH-USD")) -> tuple[Sent, ...]:
    (place / "candles").mkdir(exist_ok=True)
    for symbol in symbols:
        write_candles(market(rows=6_000), place / "candles" / f"{symbol}.parquet")
    found = Market(kind="file", name=str(place / "candles"), candles=market(rows=6_000))
    plan = make_plan(Wish(backend="ec2", account=ACCOUNT, image="ami-12c6146b"), dict.fromkeys(symbols, found), recipe, seed=0)
    return send(plan, Door("us-east-1"), Jobs(place / "home"), account=ACCOUNT, candles=str(place / "candles"), now=1)


def start(job: Sent, base: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "crpbot.cloud.machine", f"s3://{BUCKET}/crpbot/jobs/{job.run}/run.json", str(base)]
    return subprocess.Popen(command, env={**os.environ}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def test_the_machine_trains_uploads_and_what_it_made_is_fetched(aws: Aws, tmp_path: Path) -> None:
    jobs = sent(tmp_path, quick(epochs=2))
    door = Door("us-east-1")
    assert {look(job, door, now=2).state for job in jobs} == {"InProgress"}
    with start(jobs[0], tmp_path / "machine") as process:
        words = process.communicate(timeout=240)[1]
    assert process.returncode == 0, words
    for job in jobs:
        found = look(job, door, now=2)
        assert (found.state, found.reason) == ("Completed", "")
        fetch(job, door, out=tmp_path / "out", candles=None, now=2)
    assert {one.name for one in (tmp_path / "out").iterdir()} == {"BTC-USD", "ETH-USD"}

    with start(jobs[0], tmp_path / "machine-2") as process:  # sent again by mistake: nothing is done twice
        words = process.communicate(timeout=60)[1]
    assert process.returncode == 0
    assert "epoch" not in words
    aws.client("ec2").terminate_instances(InstanceIds=[jobs[0].instance_id])
    assert sent(tmp_path, quick(epochs=2)) == jobs  # and no machine is paid again


def test_a_machine_that_is_taken_away_is_followed_by_one_that_goes_on(aws: Aws, tmp_path: Path) -> None:
    job = sent(tmp_path, quick(epochs=5), ("BTC-USD",))[0]
    with start(job, tmp_path / "first") as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "epoch 2/5" in line:
                break
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
    assert process.returncode == 128 + signal.SIGTERM
    door = Door("us-east-1")
    aws.client("ec2").terminate_instances(InstanceIds=[job.instance_id])
    assert look(job, door, now=2).state == "Stopped"
    with pytest.raises(CloudError, match="must be completed, found Stopped: the machine is gone"):
        fetch(job, door, out=tmp_path / "out", candles=None, now=2)
    assert not (tmp_path / "out").exists()
    again = sent(tmp_path, quick(epochs=5), ("BTC-USD",))[0]
    assert (again.name, again.attempt) == (job.name, 2)
    with start(again, tmp_path / "second") as process:
        words = process.communicate(timeout=240)[1]
    assert process.returncode == 0, words
    assert "(done by an earlier run)" in words
    fetch(again, door, out=tmp_path / "out", candles=None, now=2)
    assert (tmp_path / "out" / "BTC-USD" / NAME).is_file()


def test_a_job_that_refuses_its_own_model_says_so(aws: Aws, tmp_path: Path) -> None:
    """The plan refuses such a recipe; here somebody has changed it in the bucket, and the job finds out."""
    job = sent(tmp_path, quick(epochs=1), ("BTC-USD",))[0]
    key = f"crpbot/jobs/{job.run}/run.json"
    s3 = aws.client("s3")
    run = json.loads(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    s3.put_object(Bucket=BUCKET, Key=run["jobs"][0]["recipe"], Body=quick("v7-lost-scaler", epochs=1).to_toml().encode())
    with start(job, tmp_path / "machine") as process:
        process.communicate(timeout=240)
    assert process.returncode == 1
    found = look(job, Door("us-east-1"), now=2)
    assert found.state == "Failed"
    assert "normalizer-present" in found.reason
    stored = [key for key in aws.objects() if key.startswith(f"crpbot/jobs/{job.name}/output")]
    assert stored == [f"crpbot/jobs/{job.name}/output/output.tar.gz"]
