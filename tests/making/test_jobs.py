"""Many models side by side: the same as one after another, whoever makes them and whatever is killed on the way."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import market, quick, several
from shell import crpbot

from crpbot.dataset.assemble import assemble
from crpbot.errors import CrpbotError, DatasetError
from crpbot.making import pool
from crpbot.making.cluster import run_on_ray
from crpbot.making.jobs import Job, fitting_workers, grid, run_here
from crpbot.making.model import check_enough, cut_fold, make_model, train_model
from crpbot.market.synthetic import make_market
from crpbot.model.training import Epoch
from crpbot.quality.report.html import report_page

ROWS = 6_000
MARKETS = {symbol: make_market("level-noise", symbol, rows=ROWS) for symbol in ("BTC-USD", "ETH-USD")}


def jobs(out: Path, *, epochs: int = 3, **options: Any) -> tuple[Job, ...]:
    return grid(
        tuple(MARKETS), quick(epochs=epochs, patience=epochs), source="synthetic", gates="market", out=out, seed=0, **options
    )


def workers() -> list[int]:
    """Return the processes of the pool, without the one that carries its news."""
    return [child.pid for child in multiprocessing.active_children() if child.name.startswith("SpawnProcess") and child.pid]


def checkpoints(out: Path) -> dict[str, bytes]:
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in sorted(out.rglob("*.pt"))}


def test_there_is_a_job_for_every_symbol_fold_and_seed() -> None:
    assert [job.name for job in jobs(Path("out"))] == ["BTC-USD", "ETH-USD"]
    found = jobs(Path("out"), seeds=2, folds=3)
    assert len(found) == 12
    assert len({job.folder for job in found}) == 12
    assert found[0].folder == Path("out/BTC-USD/fold-1/seed-0")
    assert (found[-1].symbol, found[-1].fold, found[-1].seed) == ("ETH-USD", 3, 1)
    assert jobs(Path("out"), folds=1)[0].folder == Path("out/BTC-USD/fold-1")


def test_workers_fit_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    many = jobs(Path("out"), seeds=500)
    assert 1 <= fitting_workers(many, MARKETS) <= (os.cpu_count() or 1)
    monkeypatch.setattr(pool, "_memory", lambda: 1)
    assert fitting_workers(many, MARKETS) == 1


def test_members_that_leave_a_fold_out_need_room_for_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(10)), raising=False)
    features = 8 * ROWS * 72
    monkeypatch.setattr(pool, "_memory", lambda: 20 * features)
    for vary, workers in (("seed", 5), ("fold", 4)):
        many = grid(
            ["BTC-USD"], several(quick(), vary=vary), source="synthetic", gates="market", out=Path("out"), seed=0, seeds=9
        )
        assert fitting_workers(many, MARKETS) == workers


def test_candles_that_are_too_few_for_the_folds_of_an_ensemble_are_refused_before_anything_is_trained() -> None:
    recipe = several(quick(), 40, vary="fold")
    check_enough("BTC-USD", market(rows=12_000), recipe)
    with pytest.raises(DatasetError, match="BTC-USD: each block must have at least 100 rows"):
        check_enough("BTC-USD", market(rows=5_000), recipe)
    check_enough("BTC-USD", market(rows=5_000), several(quick(), 40))


@pytest.mark.parametrize("name", ["v7", "v7-barrier"])
@pytest.mark.parametrize("folds", [1, 2, 3, 6])
def test_folds_follow_each_other_and_know_nothing_of_what_comes_after(folds: int, name: str) -> None:
    candles, recipe = market(rows=12_000), quick(name)
    cuts = [cut_fold("BTC-USD", candles, recipe, fold=fold, folds=folds) for fold in range(1, folds + 1)]
    for known, split in cuts:
        assert split.train.stop <= split.calibration.start < split.calibration.stop <= split.test.start < split.test.stop
        assert split.train.stop - split.train.start > 1_000
        assert known.time[-1] < candles.time[-1] or (known, split) == cuts[-1]
    for (_, one), (_, other) in pairwise(cuts):
        assert 0 <= other.test.start - one.test.stop <= recipe.split.embargo
    assert len(cuts[-1][0]) == len(candles)
    for known, split in cuts:  # all rows of the test block, and none beyond
        data = assemble(known, recipe.features.table, recipe.label.rule)
        assert len(data) == split.test.stop
    with pytest.raises(DatasetError, match="BTC-USD: each block must have"):
        cut_fold("BTC-USD", candles[:700], recipe, fold=1, folds=3)


def test_one_fold_is_the_split_of_the_recipe_and_a_fold_is_blind_to_its_future() -> None:
    candles, recipe = market(rows=12_000), quick(epochs=1)
    _, one = cut_fold("BTC-USD", candles, recipe, fold=1, folds=1)
    assert abs(one.test.start - int(0.85 * 11_786) - recipe.split.embargo) <= 1
    known, split = cut_fold("BTC-USD", candles, recipe, fold=1, folds=3)
    short, again = cut_fold("BTC-USD", candles, recipe, fold=1, folds=3)
    assert (short.sha256, again) == (known.sha256, split)
    models = [make_model("BTC-USD", given, recipe, source="synthetic", seed=0, split=split)[0] for given in (known, candles)]
    x = np.random.default_rng(0).normal(size=(5, 72))
    np.testing.assert_array_equal(models[0].predict(x).logits, models[1].predict(x).logits)
    assert known.time[-1] < candles.time[-1]


@pytest.mark.slow
def test_a_settled_judgement_is_small_and_tells_the_same(tmp_path: Path) -> None:
    whole = train_model("BTC-USD", market(), quick("v6-lost-scaler"), source="synthetic", seed=0, folder=tmp_path / "BTC-USD")
    sent = pickle.dumps(whole.settled())
    assert len(sent) < 2**20
    back = pickle.loads(sent)  # noqa: S301  our own, from the line above
    assert report_page([back]) == report_page([whole])
    assert back.to_json() == whole.to_json()


@pytest.mark.slow
def test_side_by_side_or_one_after_another_the_files_are_the_same(tmp_path: Path) -> None:
    told: dict[str, list[int]] = {}

    def watch(job: Job, epoch: Epoch) -> None:
        told.setdefault(job.name, []).append(epoch.epoch)

    done: list[str] = []
    alone = run_here(jobs(tmp_path / "alone", seeds=2), MARKETS, workers=1)
    both = run_here(jobs(tmp_path / "both", seeds=2), MARKETS, workers=2, watch=watch, done=lambda job, _: done.append(job.name))
    assert checkpoints(tmp_path / "alone") == checkpoints(tmp_path / "both")
    assert len(checkpoints(tmp_path / "both")) == 4
    assert [str(one.diagnosis.metrics) for one in alone] == [str(one.diagnosis.metrics) for one in both]
    assert told == {job.name: [1, 2, 3] for job in jobs(tmp_path, seeds=2)}
    assert sorted(done) == sorted(told)
    assert not list((tmp_path / "both").rglob(".partial"))


@pytest.mark.slow
def test_a_worker_that_is_killed_changes_nothing(tmp_path: Path) -> None:
    """Kill -9 in the middle: the pool is made anew, the job goes on from its state, and the files are the same."""
    run_here(jobs(tmp_path / "alone", epochs=60), MARKETS, workers=1)
    killed: list[int] = []
    earlier: list[bool] = []

    def kill(_: Job, epoch: Epoch) -> None:
        earlier.append(epoch.earlier)
        if epoch.epoch == 2 and not killed:
            killed.append(workers()[0])
            os.kill(killed[0], signal.SIGKILL)

    run_here(jobs(tmp_path / "hit", epochs=60), MARKETS, workers=2, watch=kill)
    assert killed
    assert any(earlier)
    assert checkpoints(tmp_path / "alone") == checkpoints(tmp_path / "hit")


@pytest.mark.slow
def test_workers_that_die_again_and_again_are_given_up_in_words(tmp_path: Path) -> None:
    def kill(_: Job, __: Epoch) -> None:
        for process in workers():
            os.kill(process, signal.SIGKILL)

    with pytest.raises(CrpbotError, match="must live until its model is done, found 3 rounds"):
        run_here(jobs(tmp_path, epochs=400), MARKETS, workers=2, watch=kill)
    assert not checkpoints(tmp_path)


@pytest.mark.slow
def test_a_job_that_fails_costs_the_others_nothing_and_says_whose_it_was(tmp_path: Path) -> None:
    markets = {**MARKETS, "ETH-USD": MARKETS["ETH-USD"][:500]}
    for workers in (1, 2):
        with pytest.raises(DatasetError, match="ETH-USD: each block must have"):
            run_here(jobs(tmp_path / str(workers), epochs=4), markets, workers=workers)
        assert list(checkpoints(tmp_path / str(workers))) == ["BTC-USD/lstm_BTC-USD_v7_enhanced.pt"]
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_two_runs_do_not_work_in_one_folder(tmp_path: Path) -> None:
    def again(_: Epoch) -> None:
        with pytest.raises(CrpbotError, match=r"one run at a time must work in .*BTC-USD, found another"):
            train_model("BTC-USD", market(), quick(), source="synthetic", seed=1, folder=tmp_path / "BTC-USD")

    folder = tmp_path / "BTC-USD"
    train_model("BTC-USD", market(), quick(epochs=1), source="synthetic", seed=0, folder=folder, watch=again)
    assert not (folder / ".partial").exists()
    assert len(list(folder.iterdir())) >= 6


@pytest.mark.slow
def test_every_epoch_is_told_before_its_model_and_a_kept_state_is_gone_in_the_end(tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []
    some = jobs(tmp_path / "out", epochs=5, seeds=2, state=tmp_path / "state")
    run_here(
        some,
        MARKETS,
        workers=2,
        watch=lambda job, epoch: (time.sleep(0.05), told.append((job.name, epoch.epoch)))[1],
        done=lambda job, _: told.append((job.name, 0)),
    )
    for job in some:
        assert [epoch for name, epoch in told if name == job.name] == [1, 2, 3, 4, 5, 0]
    assert not list(tmp_path.rglob("*.state"))


@pytest.mark.slow
def test_the_command_killed_at_three_epochs_ends_with_the_same_file(tmp_path: Path) -> None:
    recipe = tmp_path / "quick.toml"
    recipe.write_text(quick(epochs=8, patience=8).to_toml())
    command = ["train", "--recipe", str(recipe), "--symbol", "BTC-USD", "--candles", f"synthetic:level-noise:{ROWS}", "--out"]
    assert crpbot(*command, tmp_path / "whole").returncode == 0
    for epoch in (2, 4, 7):
        kill_at(epoch, [*command, str(tmp_path / "cut")])
        assert list((tmp_path / "cut").rglob("*.state"))
        assert not list((tmp_path / "cut").rglob("*.pt"))
    ended = crpbot(*command, tmp_path / "cut")
    assert ended.returncode == 0
    assert ended.stderr.count("done by an earlier run") >= 7
    assert checkpoints(tmp_path / "cut") == checkpoints(tmp_path / "whole")
    assert not list((tmp_path / "cut").rglob(".partial"))


def kill_at(epoch: int, arguments: Sequence[str], how: signal.Signals = signal.SIGKILL) -> int:
    with subprocess.Popen([sys.executable, "-m", "crpbot", *arguments], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if f"epoch {epoch}/" in line:
                process.send_signal(how)
                break
        return process.wait()


@pytest.mark.slow
def test_ctrl_c_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "crpbot", "train", "--symbols", "BTC-USD,ETH-USD", "--workers", "2", "--candles"]
    with subprocess.Popen(
        [*command, "synthetic:level-noise:40000", "--out", str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "epoch 2/" in line:
                os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all of them
                break
        rest = process.stderr.read()
        assert process.wait() == 130
    assert "Traceback" not in rest
    assert rest.splitlines()[-1].startswith("stopped: ")
    assert list(tmp_path.rglob("*.state"))
    assert not list(tmp_path.rglob("*.pt"))


@pytest.mark.slow
def test_workers_do_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "crpbot", "train", "--symbols", "BTC-USD,ETH-USD", "--workers", "2", "--candles"]
    with subprocess.Popen(
        [*command, "synthetic:level-noise:20000", "--out", str(tmp_path)], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if "epoch 2/" in line)
        children = [int(child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        process.kill()
    assert len(children) >= 3  # two workers, and what carries their news
    ends = time.monotonic() + 30
    while any(map(is_alive, children)) and time.monotonic() < ends:
        time.sleep(0.2)
    assert not [child for child in children if is_alive(child)]
    assert not list(tmp_path.rglob("*.pt"))


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def working(text: str) -> list[int]:
    """Return the processes whose command line has `text` in it."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in place.read_bytes():
                found.append(int(place.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_a_ray_cluster_makes_the_same_files_also_when_a_worker_is_killed(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra `ray`")
    here = run_here(jobs(tmp_path / "here", epochs=60), MARKETS, workers=1)
    told: dict[str, list[int]] = {}
    killed: list[int] = []

    def watch(job: Job, epoch: Epoch) -> None:
        told.setdefault(job.name, []).append(epoch.epoch)
        if not killed and len(told) == len(MARKETS):  # whoever is at work has told of its first epoch
            killed.extend(working("ray::_do_away")[:1])
            for process in killed:
                os.kill(process, signal.SIGKILL)

    away = run_on_ray(jobs(tmp_path / "away", epochs=60), MARKETS, watch=watch)
    assert killed
    assert any(epochs.count(1) == 2 for epochs in told.values())  # one of them was begun twice
    assert checkpoints(tmp_path / "here") == checkpoints(tmp_path / "away")
    assert [str(one.diagnosis.metrics) for one in here] == [str(one.diagnosis.metrics) for one in away]
    assert away[0].diagnosis.model.path == str(jobs(tmp_path / "away")[0].folder / "lstm_BTC-USD_v7_enhanced.pt")
    bad = {**MARKETS, "ETH-USD": MARKETS["ETH-USD"][:500]}
    with pytest.raises(DatasetError, match="each block must have"):
        run_on_ray(jobs(tmp_path / "bad", epochs=2), bad)


def test_a_cluster_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra `ray`")
    with pytest.raises(CrpbotError, match=r"a Ray cluster must answer at 127\.0\.0\.1:1"):
        run_on_ray(jobs(tmp_path), MARKETS, address="127.0.0.1:1")
    assert threading.active_count() < 50
