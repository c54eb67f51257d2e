"""What is wrong with candles is found to the minute, and sound ones are left in peace."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crpbot.errors import CandleError
from crpbot.market.candles import MINUTE
from crpbot.market.check import MEANINGS, Finding, check_columns, check_file
from crpbot.market.files import COLUMNS
from crpbot.market.synthetic import make_market

START = 1_704_067_200_000


def sound(n: int = 400) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    market = make_market("random-walk", "BTC-USD", rows=n)
    return market.time.copy(), {name: getattr(market, name).copy() for name in COLUMNS[1:]}


def found(time: np.ndarray, columns: dict[str, np.ndarray]) -> dict[str, list[Finding]]:
    checked = check_columns("BTC-USD", time, columns)
    return {kind: [one for one in checked.findings if one.kind == kind] for kind in {one.kind for one in checked.findings}}


def kept(time: np.ndarray, columns: dict[str, np.ndarray], rows: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    return time[rows], {name: column[rows] for name, column in columns.items()}


def test_sound_candles_have_no_finding() -> None:
    assert found(*sound()) == {}


@given(st.sets(st.integers(1, 398), min_size=1, max_size=40))
def test_gaps_are_exactly_the_minutes_that_are_missing(gone: set[int]) -> None:
    time, columns = sound()
    rows = np.setdiff1d(np.arange(400), list(gone))
    gaps = found(*kept(time, columns, rows))["gaps"]
    assert sum(gap.count for gap in gaps) == len(gone)
    for gap in gaps:
        assert {int((minute - START) // MINUTE) for minute in range(gap.first + MINUTE, gap.last, MINUTE)} <= gone
        assert gap.count == (gap.last - gap.first) // MINUTE - 1


def scaled(columns: dict[str, np.ndarray], rows: slice, factor: float) -> dict[str, np.ndarray]:
    for name in PRICES:
        columns[name][rows] *= factor
    return columns


def still(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    for name in PRICES:
        columns[name][100:115] = columns["close"][99]
    return columns


def silent(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    columns["volume"][100:110] = 0
    return columns


def upside_down(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    columns["high"][100] = columns["low"][100] * 0.99
    return columns


PRICES = ("open", "high", "low", "close")
FAULTS = {
    "gaps": lambda time, columns: kept(time, columns, np.r_[0:100, 103:400]),
    "duplicates": lambda time, columns: kept(time, columns, np.r_[0:101, 100:400]),
    "disorder": lambda time, columns: kept(time, columns, np.r_[0:100, 101, 100, 102:400]),
    "off_minute": lambda time, columns: (time + 1_000 * (np.arange(400) == 100), columns),
    "impossible": lambda time, columns: (time, upside_down(columns)),
    "frozen": lambda time, columns: (time, still(columns)),
    "no_volume": lambda time, columns: (time, silent(columns)),
    "jumps": lambda time, columns: (time, scaled(columns, slice(100, None), 1_000)),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_every_kind_is_found_alone_where_it_was_put(kind: str) -> None:
    time, columns = FAULTS[kind](*sound())
    findings = found(time, columns)
    assert set(findings) == {kind}
    assert abs(findings[kind][0].row - 100) <= 1
    assert findings[kind][0].to_dict()["symbol"] == "BTC-USD"
    assert str(findings[kind][0])


def test_no_kind_is_without_a_test() -> None:
    """Stand-ins are tested where they are made."""
    assert set(FAULTS) == set(MEANINGS) - {"filled"}


def test_calm_markets_are_not_accused() -> None:
    """Nine flat minutes and nine without a trade are nothing."""
    time, columns = sound()
    for name in ("open", "high", "low", "close"):
        columns[name][100:109] = columns["close"][99]
    columns["volume"][200:209] = 0
    assert found(time, columns) == {}


@pytest.mark.slow
def test_real_candles_are_complete_but_for_the_four_gaps_of_sol(real_candles: Path) -> None:
    for symbol in ("BTC-USD", "ETH-USD"):
        assert check_file(real_candles / f"{symbol}.parquet", symbol).findings == ()
    sol = check_file(real_candles / "SOL-USD.parquet", "SOL-USD")
    assert [one.kind for one in sol.findings] == ["gaps"] * 4
    first, second = (one.to_dict() for one in sol.findings[:2])
    assert first == {"symbol": "SOL-USD", "last_before": "2025-01-29T01:22Z", "first_after": "2025-01-29T01:36Z", "missing": 13}
    assert (second["first_after"], second["missing"]) == ("2025-01-29T02:45Z", 4)


def test_a_file_that_is_none_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "BTC-USD.csv").write_text("time,open\n1,2\n")
    with pytest.raises(CandleError, match="candles need rows with time, open"):
        check_file(tmp_path / "BTC-USD.csv", "BTC-USD")
    (tmp_path / "ETH-USD.csv").write_text("time,open,high,low,close,volume\n1704067200000,a,2,1,1,1\n")
    with pytest.raises(CandleError, match="must be numbers"):
        check_file(tmp_path / "ETH-USD.csv", "ETH-USD")
