"""The commands as a user types them."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import typer
from models import market, quick
from shell import crpbot
from strategies import walk

from crpbot.dataset.features.compute import compute_features
from crpbot.market.files import write_candles
from crpbot.model.recipe import recipe_text

pytestmark = pytest.mark.slow  # each starts an interpreter, and most of them torch

COMMANDS = [
    "run",
    "features",
    "train",
    "tune",
    "diagnose",
    "explain",
    "audit",
    "leaderboard",
    "repair",
    "promote",
    "export",
    "backtest",
    "models",
    "signal",
]
NOISE = "synthetic:level-noise:6000"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a quick recipe, some candles, and a run of two symbols."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "quick.toml").write_text(quick(epochs=2).to_toml())
    write_candles(market(rows=6_000), folder / "BTC-USD.parquet")
    done = crpbot("run", "--recipe", "quick.toml", "--candles", NOISE, "--symbols", "BTC-USD,ETH-USD", "--out", "R", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "run.txt").write_text(done.stdout)
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = crpbot(command, "--help")
    assert done.returncode == 0
    assert f"Example: crpbot {command}" in " ".join(done.stdout.split())


def test_a_checkpoint_is_exported(place: Path, tmp_path: Path) -> None:
    folder = place / "R" / "BTC-USD"
    done = crpbot("export", folder, "--format", "onnx", "-o", tmp_path / "m.onnx")
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "m.onnx"))
    assert (tmp_path / "m.onnx").read_bytes() == (folder / "model.onnx").read_bytes()
    done = crpbot("export", folder, "--format", "pickle", "-o", tmp_path / "m.onnx")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "one of onnx, seed" in done.stderr


def test_a_run_makes_the_deliverables_and_says_what_it_found(place: Path) -> None:
    names = {file.name for file in (place / "R" / "BTC-USD").iterdir()}
    assert names == {
        "lstm_BTC-USD_v7_enhanced.pt", "scaler_BTC-USD.pkl", "model.onnx",
        "recipe.toml", "diagnosis.json", "report.html", "training.jsonl",
    }  # fmt: skip
    assert (place / "R" / "report.html").read_text().startswith("<!doctype html>")
    text = (place / "run.txt").read_text()
    for word in ("BTC-USD v7", "ETH-USD v7", "founding target", "68–72 %", "failed gates", "REFUSED", "To see one pass"):
        assert word in text
    rows = [json.loads(line) for line in (place / "R" / "BTC-USD" / "training.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    ledger = [json.loads(line) for line in (place / "R" / "registry" / "ledger.jsonl").read_text().splitlines()]
    assert sorted(line["symbol"] for line in ledger) == ["BTC-USD", "ETH-USD"]  # whoever is done first


def test_train_makes_the_same_bytes_as_run(place: Path) -> None:
    done = crpbot("train", "--recipe", "quick.toml", "--candles", NOISE, "--symbol", "BTC-USD", "--out", "T", cwd=place)
    assert done.returncode == 0, done.stderr
    name = "BTC-USD/lstm_BTC-USD_v7_enhanced.pt"
    assert (place / "T" / name).read_bytes() == (place / "R" / name).read_bytes()


def test_diagnose_writes_what_it_was_asked_for_and_exits_with_the_verdict(place: Path) -> None:
    model = place / "R" / "BTC-USD"
    words = ["diagnose", model, "--candles", NOISE, "--json", "d.json", "--html", "d.html", "--predictions", "p.parquet"]
    done = crpbot(*words, cwd=place)
    assert done.returncode == 1, done.stderr
    assert "REFUSED" in done.stdout
    found = json.loads((place / "d.json").read_text())
    stored = json.loads((model / "diagnosis.json").read_text())
    assert found["metrics"] == stored["metrics"]
    assert pl.read_parquet(place / "p.parquet").height == found["data"]["rows"]
    both = crpbot("diagnose", model, place / "R" / "ETH-USD", "--candles", NOISE, "--json", "-", cwd=place)
    assert [one["model"]["symbol"] for one in json.loads(both.stdout)] == ["BTC-USD", "ETH-USD"]


def test_several_models_are_compared_and_the_founding_table_is_printed(place: Path) -> None:
    done = crpbot("diagnose", place / "R" / "BTC-USD", place / "R" / "ETH-USD", "--candles", NOISE)
    assert done.returncode == 1
    table = done.stdout[done.stdout.index("the founding document's table") :]
    for row in ("Overconfidence >99%", "Class Bias", "Average DOWN Logit", "Average UP Logit", "Logit Range", "Scaler Present"):
        assert row in table


def test_a_file_without_weights_is_an_honest_no(place: Path) -> None:
    torch.save({"accuracy": 0.71, "epoch": 12}, place / "lstm_BTC-USD_v5.pt")
    done = crpbot(
        "diagnose", "lstm_BTC-USD_v5.pt", "--candles", "BTC-USD.parquet", "--json", "n.json", "--html", "n.html", cwd=place
    )
    assert done.returncode == 1, done.stderr
    assert "cause no-weights (critical)" in done.stdout
    plain = json.loads((place / "n.json").read_text())
    assert [cause["code"] for cause in plain["causes"]] == ["no-weights"]
    assert plain["passed"] is False
    assert [value for value in plain["metrics"].values() if value is not None] == []
    assert "There is no model in this file. It holds accuracy, epoch." in (place / "n.html").read_text()


def test_a_broken_file_is_named_repaired_and_judged_again(place: Path) -> None:
    """The way of a stranger: diagnose, bring the scaler, repair, diagnose."""
    payload = torch.load(next((place / "R" / "BTC-USD").glob("*.pt")), weights_only=True)
    state = {name: tensor for name, tensor in payload["model_state_dict"].items() if not name.startswith("normalizer.")}
    torch.save({"model_state_dict": state}, place / "lstm_BTC-USD_v7.pt")
    words = ["lstm_BTC-USD_v7.pt", "--candles", "BTC-USD.parquet"]
    found = crpbot("diagnose", *words, "--json", "-", cwd=place)
    first = json.loads(found.stdout)["causes"][0]
    assert (first["code"], first["what_if"]["metric"]) == ("lost-normalizer", "logit_abs_max")
    assert first["what_if"]["measures"]["log_loss"]["before"] > first["what_if"]["measures"]["log_loss"]["after"]
    brought = crpbot("diagnose", *words, "--scaler", place / "R" / "BTC-USD" / "scaler_BTC-USD.pkl", "--json", "-", cwd=place)
    assert "lost-normalizer" not in [cause["code"] for cause in json.loads(brought.stdout)["causes"]]
    repaired = crpbot("repair", *words, "-o", "fixed.pt", cwd=place)
    assert repaired.returncode == 0, repaired.stderr
    assert "repaired lost-normalizer: inputs standardized by the candles' own statistics" in repaired.stdout
    assert "repaired and unproven" in repaired.stdout
    again = crpbot("diagnose", "fixed.pt", "--symbol", "BTC-USD", "--candles", "BTC-USD.parquet", "--json", "-", cwd=place)
    plain = json.loads(again.stdout)
    assert "lost-normalizer" not in [cause["code"] for cause in plain["causes"]]
    assert plain["repairs"][0]["cause"] == "lost-normalizer"
    nothing = crpbot("repair", "fixed.pt", "-o", "again.pt", "--symbol", "BTC-USD", "--candles", "BTC-USD.parquet", cwd=place)
    assert nothing.returncode == 1
    assert "Nothing was written" in nothing.stdout
    assert not (place / "again.pt").exists()


def test_rows_that_the_model_has_seen_are_not_judged(place: Path) -> None:
    (place / "early").mkdir()
    write_candles(market(rows=6_000)[:4_000], place / "early" / "BTC-USD.parquet")
    done = crpbot("diagnose", place / "R" / "BTC-USD", "--candles", place / "early")
    assert done.returncode == 2
    assert "rows that the model has not seen" in done.stderr


def test_features_are_a_table_for_other_tools(place: Path) -> None:
    done = crpbot("features", "BTC-USD.parquet", "-o", "f.parquet", cwd=place)
    assert done.returncode == 0, done.stderr
    frame = pl.read_parquet(place / "f.parquet")
    wanted = compute_features(market(rows=6_000))
    assert frame.columns == ["time", *wanted.names]
    assert frame.schema["time"] == pl.Datetime("ms", "UTC")
    np.testing.assert_array_equal(frame.drop("time").to_numpy(), wanted.values)
    assert frame["time"][0] == datetime.fromtimestamp(market(rows=6_000).time[199] / 1000, UTC)


def test_features_are_listed_with_unit_and_formula() -> None:
    done = crpbot("features", "--list")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^rsi_14 +scale-free +100 \* ratio\(sum\(gain, 14\), ", done.stdout, re.MULTILINE)
    assert re.search(r"^gain +max\(close - before, 0\)", done.stdout, re.MULTILINE)
    relative = json.loads(crpbot("features", "--list", "--json", "--set", "relative-72").stdout)
    assert len(relative["features"]) == 72
    assert {feature["unit"] for feature in relative["features"]} == {"scale-free"}
    assert relative["warm_up"] == 199


def test_features_of_a_recipe_of_one_s_own_are_a_file_and_a_page(place: Path) -> None:
    text = recipe_text("v7")
    own = '[features]\nset = "own"\n[features.formulas]\nup = "close / open"\nfar = "close / lag(close, 30) - 1"\n'
    (place / "own.toml").write_text(text[: text.index("[features]")] + own + text[text.index("[label]") :])
    words = ["--symbol", "SOL-USD", "--recipe", "own.toml", "-o", "own.parquet", "--html", "own.html"]
    done = crpbot("features", NOISE, *words, cwd=place)
    assert done.returncode == 0, done.stderr
    assert "5,970 rows of 2 features of 6,000 candles: own.html" in done.stdout
    assert "0 of 2 features left the training range" in done.stdout
    assert pl.read_parquet(place / "own.parquet").columns == ["time", "up", "far"]
    assert "features of SOL-USD" in (place / "own.html").read_text()


def test_a_made_up_market_never_goes_live(place: Path) -> None:
    done = crpbot("promote", place / "R" / "BTC-USD", "--candles", NOISE, "--home", place / "home")
    assert done.returncode == 1
    assert "refused" in done.stdout
    assert crpbot("signal", "--home", place / "home").returncode == 1
    listed = crpbot("models", "--home", place / "home", "--json")
    assert json.loads(listed.stdout) == []


def test_strict_makes_a_refusal_an_exit_code(place: Path) -> None:
    words = ["run", "--recipe", "quick.toml", "--candles", "synthetic:random-walk:6000", "--symbols", "BTC-USD", "--out", "S"]
    done = crpbot(*words, "--strict", "--json", cwd=place)
    assert done.returncode == 1
    plain = json.loads(done.stdout)
    assert plain[0]["passed"] is False
    assert plain[0]["signal"] is None
    assert plain[0]["reason"].startswith("refused by")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["train", "--recipe", "v9", "--symbol", "BTC-USD", "--out", "x"], "a recipe must be one of"),
        (["train", "--symbol", "DOGE-USD", "--out", "x"], "or name candles of your own with --candles FILE"),
        (["train", "--symbol", "BTC-USD", "--candles", "none", "--out", "x"], "found nothing at none"),
        (["run", "--candles", "synthetic:moon"], "random-walk, volatile, planted-edge"),
        (["run", "--candles", "synthetic:level-noise:100", "--symbols", "BTC-USD", "--out", "x"], "at least 100 rows"),
        (["diagnose", "none.pt"], "found nothing at none.pt"),
        (["diagnose", "BTC-USD.parquet"], "must be a checkpoint"),
        (["features", "bad.csv", "-o", "x.parquet"], "row 1: high must not be below"),
        (["features", "BTC-USD.parquet"], "must be given with -o F or --html F"),
        (["features", "--list", "--set", "moon"], "a feature set must be one of founding-72, relative-72"),
        (["features", "synthetic:random-walk:150", "--symbol", "A-B", "-o", "x"], "features need 200 candles without a gap"),
        (["features", "synthetic:random-walk:300", "--symbol", "A-B", "--html", "x"], "at least 100 rows"),
        (["run", "--gates", "easy"], "must be one of market, seed"),
        (["train"], "Missing option"),
    ],
)
def test_wrong_calls_get_one_clear_line_and_exit_2(place: Path, words: list[str], error: str) -> None:
    (place / "bad.csv").write_text("time,open,high,low,close,volume\n0,1,2,1,1,1\n60000,1,1,1,5,1\n")
    done = crpbot(*words, cwd=place)
    assert done.returncode == 2
    assert error in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert not (place / "x").exists()


def test_without_torch_a_command_says_what_to_install() -> None:
    code = "import sys; sys.modules['torch'] = None; from crpbot.cli import main; sys.argv = ['crpbot', 'run']; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "crpbot[train]" in done.stderr


def test_one_bad_symbol_is_found_before_another_is_trained(tmp_path: Path) -> None:
    write_candles(market(), tmp_path / "BTC-USD.parquet")
    write_candles(walk(500), tmp_path / "SOL-USD.parquet")
    done = crpbot("run", "--candles", tmp_path, "--out", tmp_path / "O")
    assert done.returncode == 2
    assert done.stderr.startswith("error: SOL-USD: each block must have at least 100 rows")
    assert not (tmp_path / "O").exists()


def test_ctrl_c_leaves_no_half_written_file(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "crpbot",
        "train",
        "--symbol",
        "BTC-USD",
        "--candles",
        "synthetic:level-noise:40000",
        "--out",
        "O",
    ]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "epoch 1/30" in process.stderr.readline()
        time.sleep(0.2)
        os.kill(process.pid, signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode in {1, 130}
    assert "Traceback" not in rest
    (state,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert (state.parent.name, state.suffix) == (".partial", ".state")


def test_a_bug_keeps_its_traceback_and_exits_3(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from crpbot import cli

    monkeypatch.setattr(cli, "app", lambda **_: 1 / 0)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 3
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_sign_that_a_terminal_lacks_does_not_end_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a Windows whose language knows no minus of typography."""
    from crpbot import cli

    terminal = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setattr("sys.argv", ["crpbot", "explain", "lost-normalizer"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    terminal.flush()
    assert stopped.value.code == 0
    assert b"15,809" in terminal.buffer.getvalue()
    assert b"?" in terminal.buffer.getvalue()


@pytest.mark.parametrize("encoding", ["cp1252", "koi8-r", "utf-8"])  # for ASCII typer writes UTF-8 by itself
def test_json_on_a_pipe_keeps_every_sign_whatever_the_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from crpbot import cli

    said = {"minus": "−1", "umlaut": "ü", "moon": "🌕", "lone": "\udc80"}
    pipe = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr("sys.stdout", pipe)
    monkeypatch.setattr(cli, "app", lambda **_: typer.echo(json.dumps(said, ensure_ascii=False)))
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    pipe.flush()
    assert stopped.value.code == 0
    assert json.loads(pipe.buffer.getvalue().decode(encoding)) == said


def test_walks_of_a_user_are_refused_like_ours(tmp_path: Path) -> None:
    write_candles(walk(8_000, seed=5), tmp_path / "BTC-USD.parquet")
    (tmp_path / "quick.toml").write_text(quick(epochs=2).to_toml())
    done = crpbot("run", "--recipe", "quick.toml", "--candles", "BTC-USD.parquet", "--out", "O", cwd=tmp_path)
    assert done.returncode == 0
    assert "REFUSED" in done.stdout
