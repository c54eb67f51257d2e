from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import candles, walk

from crpbot.errors import CandleError
from crpbot.market.candles import MINUTE, Candles
from crpbot.market.files import COLUMNS, read_candles
from crpbot.market.resample import resample

LENGTHS = [1, 2, 5, 15, 60, 240, 1440]


@st.composite
def gappy(draw: st.DrawFn) -> Candles:
    """Draw candles that begin at any minute, also before 1970, a few of which are missing."""
    market = draw(candles(min_rows=30))
    shift = draw(st.integers(-40_000_000, 1_440)) * MINUTE
    missing = draw(hnp.arrays(np.bool_, len(market), elements=st.sampled_from([False] * 30 + [True])))
    missing[0] = False
    arrays = {name: getattr(market, name)[~missing] for name in COLUMNS}
    return Candles(**{**arrays, "time": arrays["time"] + shift, "volume": arrays["volume"] * 0.1})


def plain(market: Candles, minutes: int) -> pl.DataFrame:
    """Group the candles by the bar that they stand in, the way anybody would write it down."""
    frame = pl.DataFrame({name: getattr(market, name) for name in COLUMNS})
    bars = frame.group_by((pl.col("time") // (minutes * MINUTE)).alias("bar"), maintain_order=True).agg(
        pl.len().alias("count"),
        pl.col("time").first(),
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col("volume").sum(),
    )
    return bars.filter(pl.col("count") == minutes)


def assert_same(bars: Candles, reference: pl.DataFrame) -> None:
    for column in ("time", "open", "high", "low", "close"):
        assert getattr(bars, column).tolist() == reference[column].to_list(), column
    np.testing.assert_allclose(bars.volume, reference["volume"].to_numpy(), rtol=1e-12)


@given(gappy(), st.sampled_from(LENGTHS))
def test_bars_are_those_of_the_plain_form(market: Candles, minutes: int) -> None:
    assert_same(resample(market, minutes), plain(market, minutes))


@given(gappy(), st.sampled_from(LENGTHS), st.data())
def test_cutting_off_the_future_changes_no_bar_of_the_past(market: Candles, minutes: int, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(market)))
    before, whole = resample(market[:cut], minutes), resample(market, minutes)
    assert before.sha256 == whole[: len(before)].sha256
    later = whole.time[len(before) :]
    assert (later + (minutes - 1) * MINUTE > market.time[cut - 1]).all() if cut else True


@given(gappy(), st.sampled_from(LENGTHS))
def test_every_bar_is_whole_and_every_whole_bar_is_there(market: Candles, minutes: int) -> None:
    there, bars = set(market.time.tolist()), resample(market, minutes).time.tolist()
    step = minutes * MINUTE
    starts = range(int(market.time[0]) // step * step, int(market.time[-1]) + 1, step)
    assert bars == [start for start in starts if there.issuperset(range(start, start + step, MINUTE))]


@given(gappy())
def test_bars_of_one_minute_are_the_candles(market: Candles) -> None:
    assert resample(market, 1).sha256 == market.sha256


def test_a_bar_by_hand() -> None:
    start = 1_700_000_100_000  # 22:15
    market = Candles(
        start + MINUTE * np.arange(-1, 6), [9, 3, 4, 2, 5, 6, 9.0], [9, 4, 8, 3, 6, 7, 9.0], [9, 2, 3, 1, 4, 5, 9.0],
        [9, 4, 3, 2, 5, 7, 9.0], [9, 1, 2, 0, 4, 0.5, 9],
    )  # fmt: skip
    bars = resample(market, 5)
    assert bars.time.tolist() == [start]
    assert [getattr(bars, name)[0] for name in ("open", "high", "low", "close", "volume")] == [3, 8, 1, 7, 7.5]


def test_a_missing_minute_costs_its_bar_and_no_other() -> None:
    market = walk(61)  # from 22:14: one minute, then 12 bars of 5
    holed = Candles(*(np.delete(getattr(market, name), 18) for name in COLUMNS))
    kept = resample(market, 5).time.tolist()
    assert kept[3] <= market.time[18] < kept[4]
    assert resample(holed, 5).time.tolist() == kept[:3] + kept[4:]


@given(gappy(), st.sampled_from(LENGTHS), st.data())
def test_a_bar_with_a_stand_in_is_a_stand_in_and_no_other(market: Candles, minutes: int, data: st.DataObject) -> None:
    filled = data.draw(hnp.arrays(np.bool_, len(market), elements=st.sampled_from([False] * 50 + [True])))
    marked = Candles(*(getattr(market, name) for name in COLUMNS), filled=filled)
    bars, stand_ins = resample(marked, minutes), market.time[filled] // (minutes * MINUTE)
    expected = np.isin(bars.time // (minutes * MINUTE), stand_ins)
    assert (np.zeros(len(bars), dtype=bool) if bars.filled is None else bars.filled).tolist() == expected.tolist()
    assert bars.close.tolist() == resample(market, minutes).close.tolist()


def test_no_candles_and_too_few_for_a_bar_are_no_bars() -> None:
    assert len(resample(walk(10)[:0], 5)) == 0
    assert len(resample(walk(10), 60)) == 0


@pytest.mark.parametrize("minutes", [0, -5, 7, 11, 1441, 2880])
def test_bars_that_do_not_divide_a_day_are_refused(minutes: int) -> None:
    with pytest.raises(CandleError, match=f"must divide the 1440 of a day, found {minutes}; choose"):
        resample(walk(10), minutes)


@pytest.mark.slow
def test_real_bars_of_15_minutes_are_those_of_the_plain_form(real_candles: Path) -> None:
    market = read_candles(real_candles / "BTC-USD.parquet")
    bars = resample(market, 15)
    assert len(bars) * 15 == len(market)
    assert_same(bars, plain(market, 15))
