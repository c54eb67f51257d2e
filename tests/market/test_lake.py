"""The lake: any list of pages gives the same months, whole or not at all, and nobody else may write meanwhile."""

import multiprocessing
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crpbot.errors import CandleError
from crpbot.market.candles import MINUTE, Candles
from crpbot.market.files import COLUMNS
from crpbot.market.lake import Lake, is_lake, runs_of
from crpbot.market.source import open_source
from crpbot.market.synthetic import START, make_market

WHOLE = make_market("random-walk", "BTC-USD", rows=3_000)
NEAR_FEBRUARY = START + 31 * 1_440 * MINUTE - 1_000 * MINUTE


def shifted(candles: Candles, to: int = NEAR_FEBRUARY) -> Candles:
    return Candles(
        candles.time - candles.time[0] + to, *(getattr(candles, n) for n in ("open", "high", "low", "close", "volume"))
    )


SOURCE = shifted(WHOLE)  # reaches over the end of January


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 2_990), st.integers(1, 600)), min_size=1, max_size=12), st.randoms())
def test_any_pages_in_any_order_give_the_same_candles(tmp_path_factory, pages: list[tuple[int, int]], random) -> None:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    random.shuffle(pages)
    for start, length in pages:
        lake.add("BTC-USD", SOURCE[start : start + length], venue="here")
    wanted = np.unique(np.concatenate([np.arange(start, min(start + length, 3_000)) for start, length in pages]))
    found = lake.read("BTC-USD")
    np.testing.assert_array_equal(found.time, SOURCE.time[wanted])
    np.testing.assert_array_equal(found.close, SOURCE.close[wanted])
    spans = lake.missing("BTC-USD", int(SOURCE.time[0]), int(SOURCE.time[-1]) + MINUTE)
    assert sum((end - start) // MINUTE for start, end in spans) == 3_000 - len(wanted)


def test_months_are_files_that_polars_reads_and_the_manifest_tells_of(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.add("BTC-USD", SOURCE, venue="coinbase")
    names = sorted(path.name for path in (tmp_path / "BTC-USD").iterdir())
    assert names == ["2024-01.parquet", "2024-02.parquet", "manifest.json"]
    assert pl.read_parquet(tmp_path / "BTC-USD" / "*.parquet")["close"].to_list() == SOURCE.close.tolist()
    manifest = lake.manifest("BTC-USD")
    assert [(month.name, month.rows) for month in manifest.months] == [("2024-01", 1_000), ("2024-02", 2_000)]
    assert (manifest.venues, manifest.rows, lake.symbols) == (("coinbase",), 3_000, ("BTC-USD",))
    assert lake.damaged("BTC-USD") == ()


def test_a_span_is_read_alone(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.add("BTC-USD", SOURCE, venue="here")
    part = lake.read("BTC-USD", since=int(SOURCE.time[990]), until=int(SOURCE.time[1_010]))
    np.testing.assert_array_equal(part.time, SOURCE.time[990:1_010])


def test_minutes_that_the_venue_does_not_have_are_not_asked_for_again(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    first, last = int(SOURCE.time[0]), int(SOURCE.time[-1]) + MINUTE
    holes = Candles(*(np.delete(getattr(SOURCE, n), [50, 51, 700]) for n in COLUMNS))
    lake.add("BTC-USD", holes, venue="here", asked=(first, last))
    assert list(lake.missing("BTC-USD", first, last)) == []
    assert list(lake.missing("BTC-USD", first - 2 * MINUTE, last)) == [(first - 2 * MINUTE, first)]
    assert lake.manifest("BTC-USD").absent == runs_of_tuple(SOURCE.time[[50, 51, 700]])


def runs_of_tuple(times: np.ndarray) -> tuple[tuple[int, int], ...]:
    return tuple(runs_of(times))


def test_another_candle_of_the_same_minute_is_refused_and_nothing_is_added(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.add("BTC-USD", SOURCE[:1_500], venue="here")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")}
    close = SOURCE.close.copy()
    close[1_400] = SOURCE.low[1_400]
    other = Candles(SOURCE.time, SOURCE.open, SOURCE.high, SOURCE.low, close, SOURCE.volume)
    with pytest.raises(CandleError, match=r"found close .* held and .* new at 2024-02-01T06:40Z"):
        lake.add("BTC-USD", other[1_300:], venue="there")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")} == before
    assert lake.manifest("BTC-USD").venues == ("here",)


def test_a_manifest_that_lags_behind_is_measured_again(tmp_path: Path) -> None:
    """Killed between the month and the manifest: the file is whole, and it is the truth."""
    lake = Lake(tmp_path)
    lake.add("BTC-USD", SOURCE[:500], venue="here")
    manifest = (tmp_path / "BTC-USD" / "manifest.json").read_bytes()
    lake.add("BTC-USD", SOURCE[500:], venue="here")
    (tmp_path / "BTC-USD" / "manifest.json").write_bytes(manifest)
    assert lake.manifest("BTC-USD").rows == 3_000
    assert list(lake.missing("BTC-USD", int(SOURCE.time[0]), int(SOURCE.time[-1]))) == []


def test_damage_is_named_by_month_and_reading_says_what_to_do(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.add("BTC-USD", SOURCE, venue="here")
    (tmp_path / "BTC-USD" / "2024-02.parquet").write_bytes(b"PAR1 and no more")
    assert lake.damaged("BTC-USD") == ("2024-02",)
    with pytest.raises(CandleError, match="restore or delete that month"):
        lake.read("BTC-USD")
    with pytest.raises(CandleError, match="found none; crpbot candles download ETH-USD"):
        lake.read("ETH-USD")


def hold(folder: Path, ready, done) -> None:
    with Lake(folder).lock("BTC-USD"):
        ready.set()
        done.wait(20)


@pytest.mark.slow
def test_one_process_writes_at_a_time_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path, ready, done))
    other.start()
    assert ready.wait(30)
    with pytest.raises(CandleError, match="one process at a time"), Lake(tmp_path).lock("BTC-USD"):
        pass
    other.kill()
    other.join()
    with Lake(tmp_path).lock("BTC-USD"):
        pass


def test_a_lake_is_a_source_of_candles(tmp_path: Path) -> None:
    assert not is_lake(tmp_path)
    Lake(tmp_path).add("BTC-USD", SOURCE, venue="here")
    assert is_lake(tmp_path)
    source = open_source(str(tmp_path))
    assert (source.kind, source.symbols) == ("file", ("BTC-USD",))
    assert source.read("BTC-USD").sha256 == SOURCE.sha256


def test_a_lake_without_its_manifest_is_still_one(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.add("BTC-USD", SOURCE, venue="here")
    (tmp_path / "BTC-USD" / "manifest.json").unlink()
    assert lake.symbols == ("BTC-USD",)
    assert lake.manifest("BTC-USD").rows == 3_000
    assert open_source(str(tmp_path)).read("BTC-USD").sha256 == SOURCE.sha256


def test_a_minute_that_came_after_all_is_not_absent_any_more(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.add("BTC-USD", SOURCE[:10], venue="here", asked=(int(SOURCE.time[0]), int(SOURCE.time[20])))
    assert lake.manifest("BTC-USD").absent == ((int(SOURCE.time[10]), int(SOURCE.time[20])),)
    lake.add("BTC-USD", SOURCE[12:15], venue="file")
    assert lake.manifest("BTC-USD").absent == tuple(runs_of(SOURCE.time[np.r_[10:12, 15:20]]))


def test_work_in_progress_of_another_process_is_not_seen(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.add("BTC-USD", SOURCE, venue="here")
    (tmp_path / "BTC-USD" / ".2024-03.parquet.x.partial").write_bytes(b"half")
    assert [month.name for month in lake.manifest("BTC-USD").months] == ["2024-01", "2024-02"]
