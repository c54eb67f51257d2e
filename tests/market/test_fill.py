"""Stand-ins exist only where somebody asked, are marked, and never become a row or a label."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crpbot.dataset.assemble import assemble
from crpbot.dataset.features.sets import feature_set
from crpbot.dataset.labels import LabelRule
from crpbot.errors import CandleError
from crpbot.market.candles import MINUTE, Candles
from crpbot.market.check import check_file
from crpbot.market.files import COLUMNS, read_candles, write_candles
from crpbot.market.fill import fill_flat
from crpbot.market.lake import Lake
from crpbot.market.synthetic import make_market

WHOLE = make_market("random-walk", "BTC-USD", rows=1_200)
RULE = LabelRule(kind="horizon", horizon=15)


def without(rows: list[int]) -> Candles:
    return Candles(*(np.delete(getattr(WHOLE, name), rows) for name in COLUMNS))


@given(st.sets(st.integers(1, 1_198), max_size=60), st.integers(1, 8))
def test_short_gaps_are_filled_with_the_close_before_and_long_ones_stay(gone: set[int], most: int) -> None:
    holes = without(sorted(gone))
    filled = fill_flat(holes, most=most)
    marks = np.zeros(len(filled), bool) if filled.filled is None else filled.filled
    np.testing.assert_array_equal(filled.time[~marks], holes.time)
    np.testing.assert_array_equal(filled.close[~marks], holes.close)
    for row in np.flatnonzero(marks):
        assert filled.time[row] - filled.time[row - 1] == MINUTE
        assert {getattr(filled, name)[row] for name in ("open", "high", "low", "close")} == {filled.close[row - 1]}
        assert filled.volume[row] == 0
    steps = np.diff(filled.time) // MINUTE
    assert ((steps == 1) | (steps > most + 1)).all()


def test_no_row_and_no_label_is_made_of_a_stand_in() -> None:
    """A filled gap costs itself and the labels that look at it; an unfilled one costs 199 candles of warm-up."""
    holes = without([600, 601])
    plain, filled = (assemble(one, feature_set("founding-72"), RULE) for one in (holes, fill_flat(holes)))
    assert len(plain) == 2 * 600 - 2 - 2 * (199 + 15)
    assert len(filled) == 1_200 - 199 - 15 - 2 - 15
    assert filled.dropped["a stand-in for a missing minute, or a label that looks at one"] == 17
    assert not np.isin(WHOLE.time[585:602], filled.time).any()
    assert np.isin(WHOLE.time[[584, 602]], filled.time).all()
    assert "stand-in" not in " ".join(plain.dropped)


def test_the_lake_keeps_the_marks(tmp_path: Path) -> None:
    filled = fill_flat(without([600, 601]))
    lake = Lake(tmp_path)
    lake.add("BTC-USD", filled[:601], venue="file")
    lake.add("BTC-USD", filled[590:], venue="file")
    assert lake.read("BTC-USD").sha256 == filled.sha256


def test_the_mark_is_kept_in_the_file_and_named_by_the_check(tmp_path: Path) -> None:
    filled = fill_flat(without([600, 601]))
    write_candles(filled, tmp_path / "BTC-USD.parquet")
    again = read_candles(tmp_path / "BTC-USD.parquet")
    assert again.sha256 == filled.sha256
    assert again[:600].filled is None
    assert again[590:610].filled.sum() == 2
    (finding,) = check_file(tmp_path / "BTC-USD.parquet", "BTC-USD").findings
    assert (finding.kind, finding.row, finding.count) == ("filled", 600, 2)
    assert fill_flat(WHOLE).sha256 == WHOLE.sha256
    with pytest.raises(CandleError, match="at least 1 minute"):
        fill_flat(WHOLE, most=0)
