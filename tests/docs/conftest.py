"""What lies in the folder of a page: small real candles, models that were trained once, a home where one was promoted."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from aws import Aws, aws_on_loopback, begin, end
from docs.terminal import SHORT
from live.worlds import as_if_passed
from models import quick
from shell import crpbot

from crpbot.market.files import read_candles, write_candles
from crpbot.market.sample import read_sample
from crpbot.model.loading import load_checkpoint
from crpbot.registry.registry import Registry

SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")
ROWS, LATER = 6_000, 2_000


@pytest.fixture(scope="session")
def pantry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that a page may say is given, by that name."""
    folder = tmp_path_factory.mktemp("pantry")
    for symbol in SYMBOLS:
        newest = read_sample(symbol)[-ROWS - LATER :]
        write_candles(newest[:ROWS], folder / "candles" / f"{symbol}.parquet")
        write_candles(newest, folder / "later-candles" / f"{symbol}.parquet")
    (folder / "quick.toml").write_text(quick(epochs=2).to_toml())
    for seed, out in enumerate(("models", "older")):
        words = ("--recipe", "quick.toml", "--candles", "candles", "--symbols", ",".join(SYMBOLS[:2]), "--seed", seed, "--out", out)
        done = crpbot("train", *words, cwd=folder, interpreter=SHORT)
        assert done.returncode == 0, done.stderr
    _home(folder)
    _foreign(folder)
    return folder


def _home(folder: Path) -> None:
    """Promote two models of BTC-USD, one after the other, as if both had passed."""
    candles = read_candles(folder / "candles" / "BTC-USD.parquet")
    registry = Registry(folder / "home" / "registry")
    for made in ("older", "models"):
        file, judgement = as_if_passed(load_checkpoint(folder / made / "BTC-USD"), candles, folder / "passed" / made)
        assert registry.record(judgement, file, now=int(candles.time[-1])).stage == "live"


def _foreign(folder: Path) -> None:
    """Write a checkpoint as strangers do: weights by their founding names, and the scaler beside them or nowhere."""
    state = load_checkpoint(folder / "models" / "BTC-USD").network.state_dict()
    scaler = {"mean": state["normalizer.mean"].tolist(), "scale": state["normalizer.scale"].tolist()}
    weights = {name: value for name, value in state.items() if not name.startswith("normalizer")}
    (folder / "theirs").mkdir()
    torch.save({"model_state_dict": weights, "input_size": 72}, folder / "theirs" / "lstm_BTC-USD_v7_enhanced.pt")
    (folder / "theirs" / "scaler.json").write_text(json.dumps(scaler))


@pytest.fixture(scope="session")
def loopback() -> Iterator[Aws]:
    """AWS on this machine."""
    with aws_on_loopback() as found:
        yield found


@pytest.fixture
def cloud_on_loopback(loopback: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """A fresh AWS, as docs/cloud/README.md furnishes an account; nothing of the user's own is looked at."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_SESSION_TOKEN", "CRPBOT_BUCKET", "CRPBOT_ROLE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    for name, value in loopback.environment.items():
        monkeypatch.setenv(name, value)
    begin(loopback, tmp_path / "sagemaker")
    yield loopback
    end(loopback)
