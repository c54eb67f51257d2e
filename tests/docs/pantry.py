"""What lies in the folder of a page: small real candles, models that were trained once, a home where one was promoted."""

import json
import zipfile
from pathlib import Path

import torch
from docs.terminal import SHORT
from live.worlds import as_if_passed
from models import quick
from shell import crpbot

from crpbot.market.candles import Candles
from crpbot.market.files import read_candles, write_candles
from crpbot.market.sample import read_sample
from crpbot.model.loading import load_checkpoint
from crpbot.registry.registry import Registry

SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")
ROWS, LATER, RECORDED = 6_000, 6_000, 600


def stock(folder: Path) -> Path:
    """Fill a folder with everything that a page may say is given, by that name, and return it."""
    for name in ("candles", "later-candles", "recording"):
        (folder / name).mkdir()
    for symbol in SYMBOLS:
        newest = read_sample(symbol)[-ROWS - LATER :]
        write_candles(newest[:ROWS], folder / "candles" / f"{symbol}.parquet")
        write_candles(newest, folder / "later-candles" / f"{symbol}.parquet")
    bitcoin = read_candles(folder / "later-candles" / "BTC-USD.parquet")
    write_candles(bitcoin[-RECORDED:], folder / "recording" / "BTC-USD.parquet")
    _others(folder, bitcoin[:ROWS])
    (folder / "quick.toml").write_text(quick(epochs=2).to_toml(), encoding="utf-8")
    _call(folder, "run", "--symbols", "BTC-USD", "--out", "runs/latest")
    for seed, out in enumerate(("models", "older")):
        words = ("--recipe", "quick.toml", "--candles", "candles", "--symbols", ",".join(SYMBOLS[:2]), "--seed", str(seed))
        _call(folder, "train", *words, "--out", out)
    _home(folder)
    _foreign(folder)
    return folder


def _call(folder: Path, *words: str) -> None:
    done = crpbot(*words, cwd=folder, interpreter=SHORT)
    if done.returncode != 0:
        raise SystemExit(f"crpbot {' '.join(words)} ended with {done.returncode}: {done.stderr}")


def _home(folder: Path) -> None:
    """Promote two models of BTC-USD, one after the other, as if both had passed."""
    candles = read_candles(folder / "candles" / "BTC-USD.parquet")
    registry = Registry(folder / "home" / "registry")
    for made in ("older", "models"):
        checkpoint = load_checkpoint(folder / made / "BTC-USD")
        file, judgement = as_if_passed(checkpoint, candles, folder / "passed" / made)
        registry.record(judgement, file, now=int(candles.time[-1]))


def _foreign(folder: Path) -> None:
    """Write a checkpoint as strangers do: weights by their founding names, and the scaler in another file."""
    state = load_checkpoint(folder / "models" / "BTC-USD").network.state_dict()
    scaler = {"mean": state["normalizer.mean"].tolist(), "scale": state["normalizer.scale"].tolist()}
    weights = {name: value for name, value in state.items() if not name.startswith("normalizer")}
    torch.save({"model_state_dict": weights, "input_size": 72}, folder / "lstm_BTC-USD_v7_enhanced.pt")
    (folder / "scaler.json").write_text(json.dumps(scaler), encoding="utf-8")


def _others(folder: Path, candles: Candles) -> None:
    """Write candles as Binance hands out a month, and as a CSV of somebody that lacks an hour."""
    rows = list(zip(candles.time, candles.open, candles.high, candles.low, candles.close, candles.volume, strict=True))
    lines = [",".join(map(str, (*row, row[0] + 59_999, 0, 0, 0, 0, 0))) for row in rows]
    with zipfile.ZipFile(folder / "BTCUSDT-1m-2024-06.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("BTCUSDT-1m-2024-06.csv", "\n".join(lines) + "\n")
    spoilt = [row for number, row in enumerate(rows) if not 3_000 <= number < 3_060]
    text = "".join(",".join(map(str, row)) + "\n" for row in spoilt)
    (folder / "mine").mkdir()
    (folder / "mine" / "BTC-USD.csv").write_text("time,open,high,low,close,volume\n" + text, encoding="utf-8")
