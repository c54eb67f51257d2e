from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from dataset.reference import reference
from hypothesis import given
from hypothesis import strategies as st
from strategies import candles, walk

from crpbot.dataset.features import compute
from crpbot.dataset.features.compute import compute_features
from crpbot.dataset.features.founding import FOUNDING_72, WARM_UP, Unit
from crpbot.market.candles import Candles
from crpbot.market.files import read_candles

NAMES = list(FOUNDING_72)


def assert_equal(found: np.ndarray, wanted: np.ndarray, spread: float, name: str) -> None:
    """Check |a − b| <= 1e-9·max(|b|, the feature's standard deviation), as the design says."""
    gap = np.abs(found - wanted) - 1e-9 * np.maximum(np.abs(wanted), spread)
    assert (gap <= 0).all(), f"{name}: {found[gap.argmax()]} against {wanted[gap.argmax()]} at row {gap.argmax()}"


def scaled(market: Candles, *, price: float = 1.0, volume: float = 1.0) -> Candles:
    return Candles(market.time, *(getattr(market, f) * price for f in ("open", "high", "low", "close")), market.volume * volume)


def test_the_72_names_are_the_founding_ones_in_order() -> None:
    assert len(NAMES) == 72
    assert sorted(NAMES) == NAMES
    assert NAMES[:3] == ["atr_14", "bb_lower_20", "bb_lower_50"]
    assert NAMES[8:13] == ["ema_10", "ema_20", "ema_200", "ema_5", "ema_50"]
    assert NAMES[-2:] == ["williams_r_14", "williams_r_21"]


@pytest.mark.parametrize("symbol", ["BTC-USD", "SOL-USD"])
def test_real_candles_give_the_numbers_of_the_two_pass_reference(symbol: str, real_candles: Path) -> None:
    market = read_candles(real_candles / f"{symbol}.parquet")[3_000:6_000]
    segment = market[list(market.segments())[-1]]
    found, wanted = compute_features(segment), reference(segment)
    assert sorted(wanted) == NAMES
    for column, name in enumerate(NAMES):
        b = wanted[name][WARM_UP:]
        assert_equal(found.values[:, column], b, float(b.std()), name)


@given(candles(min_rows=230, max_rows=300))
def test_any_valid_market_gives_the_numbers_of_the_reference(market: Candles) -> None:
    """Flat stretches, empty minutes and gaps included."""
    found = compute_features(market)
    assert np.isfinite(found.values).all()
    for piece in market.segments():
        rows = (found.rows >= piece.start) & (found.rows < piece.stop)
        assert rows.sum() == max(piece.stop - piece.start - WARM_UP, 0)
        if rows.any():
            wanted = reference(market[piece])
            for column, name in enumerate(NAMES):
                b = wanted[name][WARM_UP:]
                assert_equal(found.values[rows, column], b, max(float(wanted[name][-len(b) :].std()), 1.0), name)


@given(candles(), st.data())
def test_cutting_off_the_future_changes_no_bit_of_the_past(market: Candles, data: st.DataObject) -> None:
    cut = data.draw(st.integers(WARM_UP + 1, len(market)))
    whole, past = compute_features(market), compute_features(market[:cut])
    kept = whole.rows < cut
    np.testing.assert_array_equal(past.rows, whole.rows[kept])
    np.testing.assert_array_equal(past.values, whole.values[kept])


def test_the_future_stays_unseen_across_blocks_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    market = walk(1_000)
    whole = compute_features(market)
    for block in (1, 7, 300):
        monkeypatch.setattr(compute, "BLOCK", block)
        np.testing.assert_array_equal(compute_features(market[:500]).values, whole.values[: 500 - WARM_UP])


@given(candles(), st.integers(-20, 20), st.integers(-20, 20))
def test_a_power_of_two_scales_each_feature_as_its_unit_says(market: Candles, price: int, volume: int) -> None:
    plain = compute_features(market)
    other = compute_features(scaled(market, price=2.0**price, volume=2.0**volume))
    factor = {Unit.PRICE: 2.0**price, Unit.VOLUME: 2.0**volume, Unit.PURE: 1.0}
    for column, feature in enumerate(FOUNDING_72.values()):
        np.testing.assert_array_equal(
            other.values[:, column], plain.values[:, column] * factor[feature.unit], err_msg=feature.name
        )


def test_no_window_reaches_over_a_gap() -> None:
    """Whatever happened before a gap, what comes after it has the same features."""
    after = walk(400, seed=1)
    early = [f.name for f in fields(Candles)]
    results = []
    for seed in (2, 3):
        before = walk(300, seed=seed, level=7.0)
        columns = {name: np.concatenate([getattr(before, name), getattr(after, name)]) for name in early}
        columns["time"][300:] = before.time[-1] + 120_000 + after.time - after.time[0]
        found = compute_features(Candles(**columns))
        assert found.rows[300 - WARM_UP] == 300 + WARM_UP
        results.append(found.values[300 - WARM_UP :])
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], compute_features(after).values)


def test_a_flat_market_has_the_stated_values() -> None:
    flat = Candles(walk(300).time, *(np.full(300, 100.1) for _ in range(4)), np.zeros(300))
    row = dict(zip(NAMES, compute_features(flat).values[-1], strict=True))
    for name in NAMES:
        if name.startswith(("rsi", "stoch")):
            assert row[name] == 50
        elif name.startswith("williams"):
            assert row[name] == -50
        elif "position" in name:
            assert row[name] == 0.5
        elif name.startswith(("volume_ratio", "volume_lag")):
            assert row[name] == 1
        elif name.startswith("volatility"):
            assert row[name] == 0


def test_a_segment_without_enough_history_has_no_rows() -> None:
    assert compute_features(walk(WARM_UP)).values.shape == (0, 72)
    assert compute_features(walk(WARM_UP + 1)).values.shape == (1, 72)


def test_an_allowed_gap_does_not_cut_the_segment() -> None:
    market = walk(400)
    time = market.time + 60_000 * (np.arange(400) >= 200)
    gapped = Candles(time, market.open, market.high, market.low, market.close, market.volume)
    assert len(compute_features(gapped).rows) == 2
    assert len(compute_features(gapped, max_gap_minutes=1).rows) == 201
