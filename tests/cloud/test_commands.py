"""`crpbot cloud` as a user types it, from the plan to a model that speaks; jobs are real processes, AWS is on loopback."""

import io
import json
import os
import tarfile
import threading
from pathlib import Path

import pytest
from aws import BUCKET, IMAGE, KEY_ID, SECRET, Aws, Run, take_away
from models import quick
from shell import crpbot

from crpbot.market.files import write_candles
from crpbot.market.synthetic import make_market

pytestmark = pytest.mark.slow
NAME = "lstm_{}_v7_enhanced.pt"


def candles(place: Path, *, epochs: int = 4, batch: int = 256, **rows: int) -> Path:
    """Write an edge that can be found, by symbol."""
    (place / "candles").mkdir()
    for symbol, number in rows.items():
        name = f"{symbol}-USD"
        write_candles(make_market("planted-edge", name, rows=number), place / "candles" / f"{name}.parquet")
    (place / "quick.toml").write_text(quick(epochs=epochs, batch_size=batch).to_toml())
    return place / "candles"


TRAIN = ["cloud", "train", "--recipe", "quick.toml", "--candles", "candles", "--image", IMAGE, "--home", "home"]


@pytest.mark.parametrize("command", ["plan", "train", "status", "fetch", "stop", "sweep"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = crpbot("cloud", command, "--help")
    assert done.returncode == 0
    assert f"Example: crpbot cloud {command}" in " ".join(done.stdout.split())
    for word in ("push", "pull", "show"):
        assert f"Example: crpbot models {word}" in " ".join(crpbot("models", word, "--help").stdout.split())


def test_from_the_plan_to_a_model_that_speaks_and_no_secret_anywhere(aws: Aws, tmp_path: Path) -> None:
    candles(tmp_path, epochs=6, batch=1_024, BTC=400_000, ETH=6_000, SOL=6_000)
    said = []

    def type_(*words: object, code: int = 0) -> str:
        done = crpbot(*words, cwd=tmp_path)
        said.extend((done.stdout, done.stderr))
        assert done.returncode == code, done.stderr
        return done.stdout

    plan = json.loads(type_("cloud", "plan", *TRAIN[2:-2], "--max-cost", 15, "--json"))
    assert (plan["cost_usd"] < 15, plan["most_usd"] <= 15, len(plan["jobs"])) == (True, True, 3)
    assert aws.objects() == {}
    sent = json.loads(type_(*TRAIN, "--max-cost", 15, "--json"))
    names = [job["name"] for job in sent]
    assert len(set(names)) == 3
    type_("cloud", "status", "--home", "home", "--follow", "--every", 0.5)
    found = json.loads(type_("cloud", "status", "--home", "home", "--json"))
    assert [one["state"] for one in found] == ["Completed"] * 3, [aws.runs[name].log[-5:] for name in names]
    assert {(one["epoch"], one["of"]) for one in found} == {(6, 6)}
    assert all(one["cost_usd"] > 0 for one in found)
    told = type_("cloud", "fetch", "--home", "home", "--out", "models")
    assert told.count("verified and written") == 3
    for symbol in ("BTC-USD", "ETH-USD", "SOL-USD"):
        assert (tmp_path / "models" / symbol / NAME.format(symbol)).is_file()
    assert "promoted" in type_("promote", "models/BTC-USD", "--candles", "candles", "--home", "home")
    assert "refused" in type_("promote", "models/ETH-USD", "--candles", "candles", "--home", "home", code=1)
    assert "BTC-USD      live" in type_("models", "--home", "home")
    assert json.loads(type_("models", "show", "BTC-USD", "--home", "home"))[0]["stage"] == "live"
    address = type_("models", "push", "models/BTC-USD", f"s3://{BUCKET}/crpbot/models").strip()
    digest = address.split("/")[-2]
    type_("models", "pull", f"s3://{BUCKET}/crpbot/models", digest[:12], "--out", "pulled")
    assert "nothing of crpbot runs" in type_("cloud", "sweep")

    commands = [line for run in aws.runs.values() for line in run.commands]
    assert any("crpbot.cloud.worker" in line for line in commands)
    assert any(" train " in line for line in commands)
    assert len(aws.objects()) > 10
    texts = {"output": "\n".join(said), "commands": "\n".join(commands)}
    texts |= {f"log of {name}": "\n".join(run.log) for name, run in aws.runs.items()}
    texts |= {f"request for {name}": json.dumps(run.asked) for name, run in aws.runs.items()}
    look_for_secrets(texts, aws.objects(), [tmp_path])


def look_for_secrets(texts: dict[str, str], objects: dict[str, bytes], folders: list[Path]) -> None:
    """Look for the sentinels in everything that was said, sent, stored or written, also inside of archives."""
    places = {name: text.encode() for name, text in texts.items()} | objects
    places |= {str(file): file.read_bytes() for folder in folders for file in folder.rglob("*") if file.is_file()}
    for name, content in list(places.items()):
        if name.endswith(".tar.gz"):
            with tarfile.open(fileobj=io.BytesIO(content)) as tar:
                for member in tar.getmembers():
                    inner = tar.extractfile(member)
                    places[f"{name}: {member.name}"] = inner.read() if inner else b""
    assert [name for name, content in places.items() if SECRET.encode() in content or KEY_ID.encode() in content] == []


def test_user_data_and_plans_of_ec2_hold_no_secret(aws: Aws, tmp_path: Path) -> None:
    candles(tmp_path, BTC=6_000)
    done = crpbot(*TRAIN[:6], "--backend", "ec2", "--image", "/crpbot/ami", "--home", "home", cwd=tmp_path)
    # moto knows no AMI by a parameter of our own; what was sent up to there is looked at
    assert done.returncode in {0, 2}
    plan = crpbot("cloud", "plan", "--backend", "ec2", *TRAIN[2:6], "--json", cwd=tmp_path)
    look_for_secrets(
        {"plan": plan.stdout, "said": done.stdout + done.stderr, **{str(i): "" for i in range(30)}}, aws.objects(), [tmp_path]
    )
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == SECRET


def test_a_spot_machine_is_taken_away_and_the_result_is_the_same(aws: Aws, tmp_path: Path) -> None:
    candles(tmp_path, BTC=6_000)
    taken = threading.Event()

    def take(run: Run, line: str) -> None:
        if "epoch 2/4" in line and not taken.is_set():
            taken.set()
            take_away(run)

    aws.on_line = take
    done = crpbot(*TRAIN, "--spot", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = aws.runs.values()
    assert aws.wait(run.asked["TrainingJobName"]).status == "Completed", run.log
    assert run.starts == 2
    assert any("(done by an earlier run)" in line for line in run.log)
    assert crpbot("cloud", "fetch", "BTC-USD", "--home", "home", "--out", "models", cwd=tmp_path).returncode == 0
    here = crpbot("train", "--recipe", "quick.toml", "--candles", "candles", "--symbol", "BTC-USD", "--out", "T", cwd=tmp_path)
    assert here.returncode == 0, here.stderr
    name = NAME.format("BTC-USD")
    assert (tmp_path / "models" / "BTC-USD" / name).read_bytes() == (tmp_path / "T" / "BTC-USD" / name).read_bytes()


def test_what_is_stopped_goes_on_when_it_is_sent_again(aws: Aws, tmp_path: Path) -> None:
    candles(tmp_path, BTC=6_000)
    begun = threading.Event()
    aws.on_line = lambda _run, line: begun.set() if "epoch 1/4" in line else None
    assert crpbot(*TRAIN, cwd=tmp_path).returncode == 0
    assert begun.wait(120)
    stopped = crpbot("cloud", "stop", "--home", "home", cwd=tmp_path)
    assert stopped.returncode == 0, stopped.stderr
    (run,) = aws.runs.values()
    state = aws.wait(run.asked["TrainingJobName"]).status
    if state == "Stopped":  # it may have been quicker than we were
        refused = crpbot("cloud", "fetch", "--home", "home", "--out", "models", cwd=tmp_path)
        assert (refused.returncode, "must be completed, found Stopped" in refused.stderr) == (2, True)
        assert not (tmp_path / "models").exists()
    assert crpbot(*TRAIN, cwd=tmp_path).returncode == 0
    last = list(aws.runs)[-1]
    assert aws.wait(last).status == "Completed", aws.runs[last].log
    assert crpbot("cloud", "stop", "--home", "home", cwd=tmp_path).returncode == 0  # nothing runs: nothing to do
    assert crpbot("cloud", "fetch", "--home", "home", "--out", "models", cwd=tmp_path).returncode == 0


def test_a_job_whose_model_has_no_scaler_fails_and_nothing_is_fetched(aws: Aws, tmp_path: Path) -> None:
    """The plan refuses such a recipe; here somebody changes it in the bucket after that, and the job itself refuses."""
    candles(tmp_path, BTC=6_000)

    def change(run: Run) -> None:
        uri = run.asked["InputDataConfig"][1]["DataSource"]["S3DataSource"]["S3Uri"]
        body = quick("v7-lost-scaler", epochs=1).to_toml().encode()
        aws.client("s3").put_object(Bucket=BUCKET, Key=uri.removeprefix(f"s3://{BUCKET}/"), Body=body)

    aws.on_start = change
    assert crpbot(*TRAIN, cwd=tmp_path).returncode == 0
    (name,) = list(aws.runs)
    assert aws.wait(name).status == "Failed"
    told = crpbot("cloud", "status", "--home", "home", cwd=tmp_path)
    assert (told.returncode, "FAILED normalizer-present" in "\n".join(aws.runs[name].log)) == (1, True)
    assert "the checkpoint was refused" in told.stdout
    refused = crpbot("cloud", "fetch", "--home", "home", "--out", "models", cwd=tmp_path)
    assert (refused.returncode, "must be completed, found Failed" in refused.stderr) == (2, True)
    assert not (tmp_path / "models").exists()
    stored = {key: content for key, content in aws.objects().items() if "/output/" in key}
    assert list(stored) == [f"crpbot/jobs/{name}/output/output.tar.gz"]
    with tarfile.open(fileobj=io.BytesIO(*stored.values())) as tar:
        assert any(member.name.startswith("rejected/") and member.name.endswith(".pt") for member in tar.getmembers())
    again = crpbot(*TRAIN, cwd=tmp_path)
    assert (again.returncode, "somebody changed it" in again.stderr) == (2, True)


def test_an_artefact_that_was_changed_in_the_bucket_is_not_placed(aws: Aws, tmp_path: Path) -> None:
    """Somebody who may write into the bucket makes a new manifest, too: the log of the job still knows the first one."""
    candles(tmp_path, BTC=6_000)
    assert crpbot(*TRAIN, cwd=tmp_path).returncode == 0
    (name,) = list(aws.runs)
    assert aws.wait(name).status == "Completed"
    key = f"crpbot/jobs/{name}/output/model.tar.gz"
    content = aws.objects()[key]
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        tar.extractall(tmp_path / "changed", filter="data")
    manifest = tmp_path / "changed" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"device": "cpu"', '"device": "A10G"'))
    from aws import tarred

    aws.client("s3").put_object(Bucket=BUCKET, Key=key, Body=tarred(tmp_path / "changed"))
    done = crpbot("cloud", "fetch", "--home", "home", "--out", "models", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.strip().splitlines()[-1:])) == (2, 1)
    assert "the manifest must be the one that the job wrote into its log" in done.stderr
    aws.client("s3").put_object(Bucket=BUCKET, Key=key, Body=content[:-100])
    done = crpbot("cloud", "fetch", "--home", "home", "--out", "models", cwd=tmp_path)
    assert "must be a whole model.tar.gz" in done.stderr
    aws.client("s3").delete_object(Bucket=BUCKET, Key=key)
    done = crpbot("cloud", "fetch", "--home", "home", "--out", "models", cwd=tmp_path)
    assert "was it deleted?" in done.stderr
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["cloud", "plan", "--backend", "moon"], "--backend must be one of sagemaker, ec2"),
        (["cloud", "plan", "--max-cost", "0.01"], "the plan must cost at most $0.01"),
        (["cloud", "plan", "--recipe", "v6"], "must have normalizer = fit"),
        (["cloud", "plan", "--candles", "none"], "found nothing at none"),
        (["cloud", "plan", "--instance", "p9.large"], "--price"),
        ([*TRAIN, "--role", "nobody"], "role: there is no role nobody"),
        ([*TRAIN, "--image", IMAGE.replace(":1", ":2")], "image: there is no image"),
        ([*TRAIN, "--bucket", "nowhere-at-all"], "bucket: there is no bucket"),
        ([*TRAIN, "--region", "moon-1"], "moon-1"),
        (["cloud", "status", "--home", "empty"], "a job that was sent from here, found none"),
        (["cloud", "fetch", "--home", "empty"], "a job that was sent from here, found none"),
        (["models", "pull", "http://x", "00"], "must be s3://BUCKET/PREFIX"),
        (["models", "show", "BTC-USD", "--home", "empty"], "a model of BTC-USD, found none"),
    ],
)
def test_wrong_calls_get_one_clear_line_and_nothing_is_sent(aws: Aws, tmp_path: Path, words: list[str], error: str) -> None:
    candles(tmp_path, BTC=6_000)
    done = crpbot(*words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.strip().splitlines() if not line.startswith(("good", "bad", "unknown"))]
    assert len(lines) == 1
    assert error in lines[0]
    assert "Traceback" not in done.stderr
    assert (aws.objects(), aws.runs) == ({}, {})
    assert not (tmp_path / "home").exists()
