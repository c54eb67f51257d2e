"""Jobs: what a training leaves is shown while it is at work, and nothing that is damaged stops the page."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from models import market, quick, several
from web.houses import ask

from crpbot.cloud.jobs import FORMAT, Jobs, Sent
from crpbot.making.model import train_model
from crpbot.model.folder import PARTIAL, PROGRESS
from crpbot.model.training import Epoch
from crpbot.web.jobs import pictures
from crpbot.web.trainings import MOST_EPOCHS, Pass, Trainings

pytestmark = pytest.mark.slow


def line(epoch: int, **other: object) -> dict:
    numbers = {"training_loss": 0.9, "calibration_loss": 0.8, "calibration_log_loss": 0.7, "rows_per_second": 1e5}
    return {"seconds": 2.0 * epoch, "epoch": epoch, "of": 30, "member": 0, "best": True, **numbers, **other}


def at_work(folder: Path, *lines: object, end: str = "") -> Path:
    """Write what a training at work has left."""
    file = folder / PARTIAL / PROGRESS
    file.parent.mkdir(parents=True)
    about = {"format": "crpbot.progress/1", "symbol": "BTC-USD", "recipe": "v7", "seed": 3, "members": 1}
    file.write_text("".join(json.dumps(one) + "\n" for one in (about, *lines)) + end)
    return file


def test_a_training_is_seen_while_it_is_at_work_and_when_it_is_done(tmp_path: Path) -> None:
    """Epoch by epoch, with no half a line, and with none of it left among the deliverables."""
    recipe = several(quick(epochs=2), members=2)
    seen = []

    def look(_: Epoch) -> None:
        (found,) = Trainings([tmp_path]).all()
        seen.append((found.state, found.member, found.epoch, found.of, found.members))

    train_model("BTC-USD", market(rows=5_000), recipe, source="synthetic", seed=0, folder=tmp_path / "a" / "b", watch=look)
    assert seen == [("running", 1, 1, 2, 2), ("running", 1, 2, 2, 2), ("running", 2, 1, 2, 2), ("running", 2, 2, 2, 2)]
    assert not list(tmp_path.rglob(PROGRESS))
    with ask(tmp_path, runs=(tmp_path,)) as browser:
        (found,) = browser.get("/api/jobs").json()["trainings"]
        assert (found["name"], found["state"], found["symbol"], found["epoch"], found["passed"]) == (
            "a/b",
            "done",
            "BTC-USD",
            2,
            False,
        )
        one = browser.get(f"/api/jobs/{found['id']}").json()
        assert [epoch["member"] for epoch in one["epochs"]] == [1, 1, 2, 2]
        page = browser.get(f"/jobs/{found['id']}").text
        assert "One line for each of 2 networks" in page
        assert "The report" in page
        assert str(tmp_path) not in browser.get("/api/jobs").text


def test_half_a_line_and_a_damaged_one_are_left_out(tmp_path: Path) -> None:
    at_work(tmp_path / "x", line(1), "no epoch", line(2, training_loss="none"), line(2), end='{"seconds": 3, "epo')
    with ask(tmp_path, runs=(tmp_path,)) as browser:
        (found,) = browser.get("/api/jobs").json()["trainings"]
        assert (found["state"], found["epoch"], found["of"], found["seed"], found["seconds"]) == ("running", 2, 30, 3, 4.0)
        assert "epoch 2 of 30" in browser.get("/jobs").text


def test_a_training_that_is_not_heard_of_for_long_is_called_quiet(tmp_path: Path) -> None:
    file = at_work(tmp_path / "x", line(1), line(2))
    os.utime(file, (time.time() - 3_600,) * 2)
    assert [one.state for one in Trainings([tmp_path]).all()] == ["quiet"]


def test_an_epoch_is_told_to_every_page(tmp_path: Path) -> None:
    file = at_work(tmp_path / "x", line(1))
    found = Trainings([tmp_path])
    before = found.version()
    assert found.version() == before
    with file.open("a") as out:
        out.write(json.dumps(line(2)) + "\n")
    assert found.version() != before


def test_names_from_folders_and_files_stay_text(tmp_path: Path) -> None:
    bad = "<script>alert(1)<"
    at_work(tmp_path / bad, line(1))
    file = at_work(tmp_path / "y", line(1))
    file.write_text(file.read_text().replace("BTC-USD", f"{bad}"))
    with ask(tmp_path, runs=(tmp_path,)) as browser:
        assert bad not in browser.get("/jobs").text


def test_a_folder_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    at_work(tmp_path / "a" / "x", line(1))
    assert len(Trainings([tmp_path]).all()) == 1


def test_jobs_in_the_cloud_are_told_as_they_were_sent_and_a_damaged_record_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "cloud" / "jobs"
    folder.mkdir(parents=True)
    (folder / "1-us-east-1-x.json").write_text("{")
    with ask(tmp_path, runs=(tmp_path / "none",)) as browser:
        found = browser.get("/api/jobs").json()
        assert "must be a whole record of a job" in found["cloud_words"]
        assert "whole record" in browser.get("/jobs").text


def test_a_job_that_nobody_knows_is_not_found(tmp_path: Path) -> None:
    with ask(tmp_path) as browser:
        assert browser.get(f"/jobs/{'0' * 16}").status_code == 404
        assert browser.get(f"/api/jobs/{'0' * 16}").status_code == 404
        assert browser.get("/api/jobs/x").status_code == 422


def test_a_disk_that_takes_no_progress_stops_no_training(tmp_path: Path) -> None:
    from crpbot.making.progress import leave_progress

    told = []
    watch = leave_progress(tmp_path / "nothing", "BTC-USD", quick(), seed=0, watch=told.append)
    numbers = {name: value for name, value in line(1).items() if name != "seconds"}
    epoch = Epoch(**numbers, calibration_accuracy=0.5, learning_rate=0.1, temperature=None)
    watch(epoch)
    assert told == [epoch]


def test_a_pipe_among_the_files_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Whoever opened one would wait for ever, and with forty of them the whole dashboard."""
    home, runs = tmp_path / "home", tmp_path / "runs"
    at_work(runs / "x", line(1))
    pipes = (
        *(runs / "a" / "training.jsonl", runs / "b" / PARTIAL / PROGRESS, runs / "c" / "diagnosis.json"),
        *(home / "live" / "health.json", home / "live" / "candles" / "BTC-USD.csv", home / "cloud" / "jobs" / "a.json"),
        *(home / "registry" / "ledger.jsonl", home / "lake" / "BTC-USD.csv"),
    )
    for pipe in pipes:
        pipe.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(pipe)
    (runs / "c" / "training.jsonl").write_text(json.dumps(line(1)))
    code = (
        "import sys; from pathlib import Path; from web.houses import ask\n"
        "home, runs = map(Path, sys.argv[1:])\n"
        "with ask(home, runs=(runs,), candles=str(home / 'lake')) as browser:\n"
        "    for page in ('/jobs', '/', '/signals?symbol=BTC-USD', '/data', '/models', '/ledger'):\n"
        "        assert browser.get(page).status_code < 500, page\n"
        "    print(sorted(one['name'] for one in browser.get('/api/jobs').json()['trainings']))\n"
    )
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    environ = {**os.environ, "PYTHONPATH": path}
    said = subprocess.run(
        [sys.executable, "-c", code, home, runs], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert (said.returncode, said.stdout) == (0, "['c', 'x']\n"), said.stderr


@pytest.mark.parametrize("content", ["[" * 100_000, "{", '{"format": "crpbot.cloud-job/1", "name": 3}', "[1]"])
def test_one_damaged_record_of_the_cloud_hides_no_other(tmp_path: Path, content: str) -> None:
    texts = ("run", "region", "account", "bucket", "symbol", "recipe", "kind", "candles", "candles_sha256", "instance_id")
    numbers = {"attempt": 1, "seed": 0, "usd_per_hour": 1.0, "limit_seconds": 3_600, "created": 1}
    job = Sent(**dict.fromkeys(texts, "x"), **numbers, name="good", backend="ec2", instance="g4", spot=False)
    Jobs(tmp_path).write(job)
    folder = tmp_path / "cloud" / "jobs"
    (folder / "damaged.json").write_text(content)
    numbers = {**asdict(job), "format": FORMAT, "created": "yesterday"}
    (folder / "other.json").write_text(json.dumps(numbers))
    with ask(tmp_path) as browser:
        found = browser.get("/api/jobs").json()
        assert [one["name"] for one in found["cloud"]] == ["good"]
        assert "damaged.json must be a whole record" in found["cloud_words"]
        assert "1 more" in found["cloud_words"]
        assert "good" in browser.get("/jobs").text


def test_a_progress_of_any_length_is_bounded_and_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each epoch of another network is the worst: what is drawn must not grow with the square of it."""
    file = at_work(tmp_path / "x", *(line(1, member=member) for member in range(1, 45_000)))
    assert file.stat().st_size > 7 * 10**6
    with ask(tmp_path, runs=(tmp_path,)) as browser:
        (found,) = browser.get("/api/jobs").json()["trainings"]
        assert (found["symbol"], found["member"]) == ("BTC-USD", 44_999)
        began = time.process_time()
        page = browser.get("/jobs")
        assert time.process_time() - began < 2
        assert "the last 20 networks" in page.text
        assert len(page.content) < 2**20
        assert len(browser.get(f"/api/jobs/{found['id']}").json()["epochs"]) == MOST_EPOCHS
        monkeypatch.setattr("crpbot.web.trainings.read_training", None)
        monkeypatch.setattr("crpbot.web.jobs.pictures", None)
        assert "the last 20 networks" in browser.get("/jobs").text


def test_many_epochs_of_one_network_make_a_page_of_bounded_size() -> None:
    epochs = [
        Pass(
            epoch=n,
            of=9_999,
            member=0,
            training_loss=1.0,
            calibration_loss=1.0,
            calibration_log_loss=1.0,
            rows_per_second=1.0,
            best=False,
        )
        for n in range(1, MOST_EPOCHS + 1)
    ]
    assert len(pictures(epochs)) < 2**20
