"""The contract of the container, in a folder instead of /opt/ml: it trains as `crpbot train` does, or refuses."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from models import market, quick
from shell import crpbot

from crpbot.cloud.contract import read_contract
from crpbot.cloud.host import lay_out
from crpbot.cloud.pack import candles_blob
from crpbot.errors import CloudError
from crpbot.model.recipe import Recipe

pytestmark = pytest.mark.slow
CANDLES = market(rows=6_000)
NAME = "lstm_BTC-USD_v7_enhanced.pt"
TOLD = {"job": "job-1", "symbol": "BTC-USD", "seed": "3", "kind": "file", "candles": "", "candles_sha256": CANDLES.sha256}


def prepare(base: Path, recipe: Recipe, **told: str) -> Path:
    candles = {"BTC-USD.parquet": candles_blob("BTC-USD", CANDLES).content}
    lay_out(base, {**TOLD, **told}, {"recipe": {"recipe.toml": recipe.to_toml().encode()}, "candles": candles})
    return base


def start(base: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "SAGEMAKER_BASE_DIR": str(base)}
    command = [sys.executable, "-m", "crpbot.cloud.worker"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def run(base: Path) -> tuple[int, str]:
    with start(base) as process:
        words = process.communicate(timeout=240)[1]
    return process.returncode, words


def test_the_job_trains_what_crpbot_train_trains_to_the_byte(tmp_path: Path) -> None:
    base = prepare(tmp_path / "ml", quick(epochs=2))
    code, words = run(base)
    assert code == 0, words
    (tmp_path / "quick.toml").write_text(quick(epochs=2).to_toml())
    from crpbot.market.files import write_candles

    write_candles(CANDLES, tmp_path / "BTC-USD.parquet")
    line = ["train", "--recipe", "quick.toml", "--symbol", "BTC-USD", "--seed", 3, "--candles", "BTC-USD.parquet", "--out", "T"]
    here = crpbot(*line, cwd=tmp_path)
    assert here.returncode == 0, here.stderr
    assert (base / "model" / NAME).read_bytes() == (tmp_path / "T" / "BTC-USD" / NAME).read_bytes()
    manifest = json.loads((base / "model" / "manifest.json").read_text())
    assert set(manifest["files"]) == {one.name for one in (base / "model").iterdir()} - {"manifest.json"}
    assert [result["name"] for result in manifest["sanity"]] == [
        "finite-weights", "normalizer-present", "normalizer-fits", "logit-range", "overconfidence"
    ]  # fmt: skip
    assert not (base / "output" / "failure").exists()


def test_a_spot_machine_that_is_taken_away_is_followed_by_one_that_goes_on(tmp_path: Path) -> None:
    """SIGTERM after the third epoch: the worker ends within 30 s, the next one goes on, and the bytes are the same."""
    recipe = quick(epochs=6)
    whole = prepare(tmp_path / "whole", recipe)
    code, words = run(whole)
    assert code == 0, words

    first = prepare(tmp_path / "first", recipe)
    with start(first) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "epoch 3/6" in line:
                break
        told = time.monotonic()
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
    assert process.returncode == 128 + signal.SIGTERM
    assert time.monotonic() - told < 30  # the contract of SageMaker, not a speed
    assert "goes on from there" in rest
    assert not any((first / "model").iterdir())
    assert not (first / "output" / "failure").exists()

    second = prepare(tmp_path / "second", recipe)
    (second / "checkpoints").rmdir()
    (first / "checkpoints").rename(second / "checkpoints")  # what SageMaker brings back
    code, words = run(second)
    assert code == 0, words
    earlier = [line for line in words.splitlines() if "(done by an earlier run)" in line]
    assert [line.split()[2] for line in earlier] == ["1/6", "2/6", "3/6"][: len(earlier)]
    assert len(earlier) >= 2
    assert "epoch 6/6" in words
    assert (second / "model" / NAME).read_bytes() == (whole / "model" / NAME).read_bytes()


@pytest.mark.parametrize("name", ["v7-lost-scaler", "v6"])
def test_a_checkpoint_without_a_scaler_fails_the_job_and_is_rejected(tmp_path: Path, name: str) -> None:
    base = prepare(tmp_path / "ml", quick(name, epochs=1))
    code, words = run(base)
    assert code == 1
    assert "FAILED normalizer-present" in words
    failure = (base / "output" / "failure").read_text()
    assert "rejected/" in failure
    assert "normalizer-present" in failure
    assert list((base / "model").iterdir()) == []
    assert (base / "output" / "data" / "rejected" / f"lstm_BTC-USD_{name}_enhanced.pt").is_file()


def test_candles_that_are_not_those_that_were_sent_fail_the_job(tmp_path: Path) -> None:
    base = prepare(tmp_path / "ml", quick(epochs=1), candles_sha256="0" * 64)
    assert run(base)[0] == 1
    assert "the candles must have the digest" in (base / "output" / "failure").read_text()
    assert not any((base / "model").iterdir())


def test_a_training_that_fails_says_why_where_sagemaker_looks(tmp_path: Path) -> None:
    base = prepare(tmp_path / "ml", quick(epochs=1))
    (base / "input" / "data" / "recipe" / "recipe.toml").write_text("name = 1")
    assert run(base)[0] == 1
    assert "recipe" in (base / "output" / "failure").read_text()
    (base / "input" / "config" / "hyperparameters.json").write_text("{}")
    assert run(base)[0] == 2
    assert "the hyperparameters must name job" in (base / "output" / "failure").read_text()


def test_the_variables_of_sagemakers_toolkit_count_where_they_are_set(tmp_path: Path) -> None:
    base = prepare(tmp_path / "ml", quick())
    (tmp_path / "elsewhere").mkdir()
    variables = {
        "SAGEMAKER_BASE_DIR": str(base),
        "SM_MODEL_DIR": str(tmp_path / "model"),
        "SM_OUTPUT_DATA_DIR": str(tmp_path / "output"),
        "SM_CHANNEL_CANDLES": str(tmp_path / "elsewhere"),
        "SM_HPS": json.dumps({**TOLD, "seed": 5}),
    }
    contract = read_contract(variables)
    assert (contract.model, contract.output) == (tmp_path / "model", tmp_path / "output")
    assert (contract.candles, contract.seed) == (str(tmp_path / "elsewhere"), 5)
    with pytest.raises(CloudError, match="the channel 'candles'"):
        read_contract({**variables, "SM_CHANNEL_CANDLES": str(tmp_path / "nowhere")})
    with pytest.raises(CloudError, match="kind must be one of"):
        read_contract({**variables, "SM_HPS": json.dumps({**TOLD, "kind": "moon"})})


def test_local_runs_the_contract_and_verifies(tmp_path: Path) -> None:
    (tmp_path / "quick.toml").write_text(quick(epochs=2).to_toml())
    line = ["cloud", "train", "--local", "--recipe", "quick.toml", "--symbols", "BTC-USD", "--home", "home", "--out", "out"]
    done = crpbot(*line, "--candles", "synthetic:level-noise:6000", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "verified and written: out/BTC-USD" in done.stdout
    diagnosis = json.loads((tmp_path / "out" / "BTC-USD" / "diagnosis.json").read_text())
    assert diagnosis["data"]["source"] == "synthetic"
    assert list((tmp_path / "home" / "cloud" / "local").iterdir()) == []
    again = crpbot(
        "train",
        "--recipe",
        "quick.toml",
        "--symbol",
        "BTC-USD",
        "--candles",
        "synthetic:level-noise:6000",
        "--out",
        "T",
        cwd=tmp_path,
    )
    assert again.returncode == 0
    for name in (NAME, "scaler_BTC-USD.pkl", "recipe.toml"):
        assert (tmp_path / "out" / "BTC-USD" / name).read_bytes() == (tmp_path / "T" / "BTC-USD" / name).read_bytes()
