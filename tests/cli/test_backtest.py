"""`crpbot backtest` and the forms of `crpbot signal`, as a user types them."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from models import market, model
from shell import crpbot

from crpbot.factory import diagnose
from crpbot.market.files import write_candles
from crpbot.model.pt_file import save_checkpoint
from crpbot.registry.registry import Registry

pytestmark = pytest.mark.slow  # each starts an interpreter and torch


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, its candles, and a registry in which it is in shadow."""
    folder = tmp_path_factory.mktemp("place")
    write_candles(market(), folder / "BTC-USD.parquet")
    file = folder / "lstm_BTC-USD_v7_enhanced.pt"
    save_checkpoint(model(), file, probe=np.ones((2, 72)))
    judgement = diagnose(file, market(), source="synthetic")
    passed = tuple(dataclasses.replace(result, passed=True) for result in judgement.verdict.results)
    good = dataclasses.replace(judgement, verdict=dataclasses.replace(judgement.verdict, results=passed))
    Registry(folder / "home" / "registry").record(good, file, now=2_000_000_000_000)
    return folder


MODEL = "lstm_BTC-USD_v7_enhanced.pt"


def test_a_backtest_says_what_it_comes_to(place: Path) -> None:
    done = crpbot("backtest", MODEL, "--candles", ".", "--json", "b.json", "--html", "b.html", "--tick", "0.01", cwd=place)
    assert done.returncode == 0, done.stderr
    plain = json.loads((place / "b.json").read_text())
    assert " ".join(done.stdout.split()).startswith(plain["in_words"][:60])
    for word in ("before costs", "throwers of coins", "buying and holding", "one at a time"):
        assert word in done.stdout
    assert plain["format"] == "crpbot.backtest/1"
    assert (plain["symbol"], plain["terms"]["rules"]["tick"]) == ("BTC-USD", 0.01)
    assert plain["data"]["out_of_sample"] == "yes"
    assert (place / "b.html").read_text().startswith("<!doctype html>")
    printed = crpbot("backtest", MODEL, "--candles", ".", "--json", "-", "--fees", "0", "--slippage", "0", "--several", cwd=place)
    free = json.loads(printed.stdout)
    assert free["net"] == free["gross"]
    assert free["terms"]["several"]


def test_no_trade_at_all_exits_with_0(place: Path) -> None:
    done = crpbot("backtest", MODEL, "--candles", ".", "--threshold", "0.9999", cwd=place)
    assert done.returncode == 0
    assert done.stdout.startswith("No trade: none of the ")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--threshold", "often"], "a threshold must be a confidence"),
        (["--preset", "wild"], "--preset must be one of atr, seed"),
        (["--fees", "-1"], "fee_bp must be between 0 and 1,000"),
        (["--tick", "0"], "tick of a market must be a finite number above 0"),
        (["--candles", "synthetic:level-noise:2000"], "a backtest needs at least 100 rows that the model has not seen"),
        (["--candles", "synthetic:level-noise:20000", "--threshold", "value", "--seed", "1"], "only on the very rows"),
    ],
)
def test_what_cannot_be_followed_exits_with_2_and_one_line(place: Path, words: list[str], error: str) -> None:
    done = crpbot("backtest", MODEL, *([] if "--candles" in words else ["--candles", "."]), *words, cwd=place)
    assert done.returncode == 2
    assert error in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_signal_in_every_form(place: Path) -> None:
    words = ["signal", "--candles", ".", "--home", "home", "--symbols", "BTC-USD", "--tick", "0.01", "--threshold", "0.34"]
    plain = json.loads(crpbot(*words, "--json", cwd=place).stdout)[0]
    assert plain == json.loads(crpbot(*words, "--format", "json", cwd=place).stdout)[0]
    assert (plain["format"], plain["status"]) == ("crpbot.signal/1", "expired")  # candles of long ago
    card = crpbot(*words, cwd=place).stdout
    assert f"{plain['plan']['order_type']} at {plain['plan']['entry']:,.2f}" in card
    message = crpbot(*words, "--format", "telegram", cwd=place).stdout
    assert message.startswith("REHEARSAL, not for trading\nEXPIRED: it was valid until ")
    bot = json.loads(crpbot(*words, "--format", "hummingbot", cwd=place).stdout)
    assert bot["probabilities"] == [0, 1, 0]  # nobody may trade an old one
    assert crpbot(*words, "--format", "fax", cwd=place).returncode == 2
    assert "are of one market" in crpbot("signal", "--home", "home", "--tick", "0.01", cwd=place).stderr
