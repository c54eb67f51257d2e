from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from strategies import candles, walk

from crpbot.errors import CandleError
from crpbot.market.candles import MINUTE, Candles
from crpbot.market.files import find_candles, read_candles, write_candles
from crpbot.market.source import open_source


def changed(market: Candles, column: str, row: int, value: float) -> Candles:
    arrays = {f.name: getattr(market, f.name).copy() for f in fields(market)[:6]}
    arrays[column][row] = value
    return Candles(**arrays)


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("time", 1_700_000_040_000 + 7 * MINUTE + 1, "on the whole minute"),
        ("time", 1_700_000_040_000, "time must increase"),
        ("close", float("nan"), "finite"),
        ("high", float("inf"), "finite"),
        ("low", 0.0, "positive"),
        ("open", -1.0, "positive"),
        ("high", 1.0, "high must not be below"),
        ("low", 1e6, "low must not be above"),
        ("volume", -1.0, "volume must be"),
        ("volume", float("nan"), "volume must be"),
    ],
)
def test_a_bad_row_is_named_with_its_rule_and_what_was_found(column: str, value: float, rule: str) -> None:
    with pytest.raises(CandleError, match=rule) as caught:
        changed(walk(20), column, 7, value)
    assert str(caught.value).startswith("row 7: ")
    assert "found" in str(caught.value)


def test_candles_cannot_be_changed_after_they_were_checked() -> None:
    with pytest.raises(ValueError, match="read-only"):
        walk(3).close[0] = -1


@given(candles(min_rows=2))
def test_segments_cover_every_row_once_and_no_gap_is_inside_one(market: Candles) -> None:
    pieces = list(market.segments())
    assert np.concatenate([np.arange(len(market))[piece] for piece in pieces]).tolist() == list(range(len(market)))
    for piece in pieces:
        assert (np.diff(market.time[piece]) == MINUTE).all()
    for before, after in pairwise(pieces):
        assert market.time[after.start] - market.time[before.stop - 1] > MINUTE


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_file_gives_back_the_same_bits(tmp_path: Path, suffix: str) -> None:
    market, path = walk(50), tmp_path / f"BTC-USD{suffix}"
    if suffix == ".csv":
        write_candles(market, tmp_path / "x.parquet")
        pl.read_parquet(tmp_path / "x.parquet").with_columns(pl.col("time").dt.epoch("ms")).write_csv(path)
    else:
        write_candles(market, path)
    assert read_candles(path).sha256 == market.sha256


@pytest.mark.parametrize(
    "form",
    ["2023-11-14 22:14:00", "2023-11-14T22:14:00Z", "2023-11-14T22:14:00+00:00", "2023-11-14T23:14:00+01:00", "1700000040000"],
)
def test_every_usual_notation_of_time_is_read(tmp_path: Path, form: str) -> None:
    path = tmp_path / "BTC-USD.csv"
    path.write_text(f"time,open,high,low,close,volume\n{form},1,2,0.5,1.5,3\n")
    assert read_candles(path).time.tolist() == [1_700_000_040_000]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1700000040,1,2,0.5,1.5,3", "looks like seconds; convert it, or let `crpbot candles import FILE`"),
        ("1700000040000000,1,2,0.5,1.5,3", "looks like micro- or nanoseconds"),
        ("99999999999999999999,1,2,0.5,1.5,3", "row 0: time must be in milliseconds"),
        ("yesterday,1,2,0.5,1.5,3", "row 0: time must be a UTC timestamp"),
        ("1700000040000,1,2,0.5,,3", "row 0: close must have a value"),
        ("1700000040000,1,2,0.5,abc,3", "row 0: close must be a number, found 'abc'"),
        ("1700000040000,1,0.9,0.5,1.5,3", "row 0: high must not be below"),
        ("2023-11-14T22:14:00.0005Z,1,2,0.5,1.5,3", "row 0: time must be on the whole minute"),
    ],
)
def test_a_bad_file_is_refused_in_one_clear_sentence(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "BTC-USD.csv"
    path.write_text(f"time,open,high,low,close,volume\n{line}\n")
    with pytest.raises(CandleError, match=words):
        read_candles(path)


def test_missing_columns_and_broken_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("time,open\n1,2\n")
    with pytest.raises(CandleError, match="missing high, low, close, volume"):
        read_candles(tmp_path / "a.csv")
    (tmp_path / "b.parquet").write_bytes(b"nonsense")
    with pytest.raises(CandleError, match="must be readable as parquet"):
        read_candles(tmp_path / "b.parquet")
    with pytest.raises(CandleError, match="found nothing at"):
        find_candles(tmp_path / "none")


def test_an_empty_file_is_no_market(tmp_path: Path) -> None:
    (tmp_path / "BTC-USD.csv").write_text("time,open,high,low,close,volume\n")
    with pytest.raises(CandleError, match="at least one row"):
        read_candles(tmp_path / "BTC-USD.csv")


def test_a_file_of_one_symbol_is_never_read_as_another(tmp_path: Path) -> None:
    write_candles(walk(5), tmp_path / "ETH-USD.parquet")
    with pytest.raises(CandleError, match="must have candles of BTC-USD; it has ETH-USD"):
        open_source(str(tmp_path / "ETH-USD.parquet"), symbols=("BTC-USD",)).read("BTC-USD")
    (tmp_path / "ETH-USD.parquet").rename(tmp_path / "mine.parquet")
    assert len(open_source(str(tmp_path / "mine.parquet"), symbols=("BTC-USD",)).read("BTC-USD")) == 5


def test_other_files_in_a_folder_are_left_alone(tmp_path: Path) -> None:
    write_candles(walk(5), tmp_path / "BTC-USD.parquet")
    (tmp_path / "segments.csv").write_text("a,b\n")
    assert open_source(str(tmp_path)).symbols == ("BTC-USD",)


@pytest.mark.parametrize("symbol", ["../../etc", "btc-usd", "BTC", "BTC-USD/.."])
def test_a_symbol_cannot_name_another_place(symbol: str) -> None:
    with pytest.raises(CandleError, match="must look like BTC-USD"):
        open_source("synthetic:random-walk:300", symbols=(symbol,))


def test_an_unknown_market_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(CandleError, match=r"random-walk, volatile, planted-edge, .*, level-noise"):
        open_source("synthetic:moon")
