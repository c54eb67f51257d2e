"""What holds for every feature of every set: a set that is added to `SETS` is tested by everything here."""

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
from crpbot.dataset.features.live import LiveFeatures
from crpbot.dataset.features.sets import FEATURE_SETS, FeatureSet, feature_set
from crpbot.market.candles import MINUTE, Candles
from crpbot.market.files import read_candles

FOUNDING = feature_set("founding-72")
OWN = FeatureSet(
    "own",
    "Every function of the language, and windows of windows.",
    {
        "body": "(close - open) / mean(high - low + close / 1000, 30)",
        "calm": "ratio(std(volume, 7), sum(volume, 7), -1)",
        "drop": "min(lag(log(close / lag(close, 3)), 2), 0)",
        "late": "lag(ema(returns, 12), 4) - std(ema(abs(returns), 5), 40)",
        "year": "std(returns, 20) * sqrt(525600) * max(1, 2, ema(3, 4))",
        "reach": "sqrt(highest(high, 33) / lowest(low, 33)) - 1",
        "turnover": "volume * close",
    },
    {"returns": "close / lag(close, 1) - 1"},
)
SETS = [*map(feature_set, FEATURE_SETS), OWN]
every_set = pytest.mark.parametrize("features", SETS, ids=lambda features: features.name)


def assert_equal(found: np.ndarray, wanted: np.ndarray, spread: float, name: str) -> None:
    """Check |a − b| <= 1e-9·max(|b|, the feature's standard deviation), as the design says."""
    gap = np.abs(found - wanted) - 1e-9 * np.maximum(np.abs(wanted), spread)
    assert (gap <= 0).all(), f"{name}: {found[gap.argmax()]} against {wanted[gap.argmax()]} at row {gap.argmax()}"


def scaled(market: Candles, *, price: float = 1.0, volume: float = 1.0) -> Candles:
    return Candles(market.time, *(getattr(market, f) * price for f in ("open", "high", "low", "close")), market.volume * volume)


def live_rows(market: Candles, features: FeatureSet) -> tuple[np.ndarray, np.ndarray]:
    found = list(LiveFeatures(features).follow(market))
    rows = [row for row, values in enumerate(found) if values is not None]
    return np.array(rows, int), np.array([found[row] for row in rows]).reshape(len(rows), len(features))


# Every set


@given(candles(), st.data())
def test_cutting_off_the_future_changes_no_bit_of_the_past(market: Candles, data: st.DataObject) -> None:
    cut = data.draw(st.integers(200, len(market)))
    for features in SETS:
        whole, past = compute_features(market, features), compute_features(market[:cut], features)
        kept = whole.rows < cut
        np.testing.assert_array_equal(past.rows, whole.rows[kept], err_msg=features.name)
        np.testing.assert_array_equal(past.values, whole.values[kept], err_msg=features.name)


@pytest.mark.slow
@given(candles())
def test_live_gives_the_bits_of_batch_across_gaps_flat_and_empty_stretches(market: Candles) -> None:
    for features in SETS:
        batch = compute_features(market, features)
        rows, values = live_rows(market, features)
        np.testing.assert_array_equal(rows, batch.rows, err_msg=features.name)
        np.testing.assert_array_equal(values, batch.values, err_msg=features.name)
        assert np.isfinite(values).all()


@pytest.mark.slow
@given(candles(), st.integers(-20, 20), st.integers(-20, 20))
def test_a_power_of_two_scales_each_feature_as_its_unit_says(market: Candles, price: int, volume: int) -> None:
    for features in SETS:
        plain = compute_features(market, features)
        other = compute_features(scaled(market, price=2.0**price, volume=2.0**volume), features)
        for column, (name, unit) in enumerate(zip(features.names, features.units, strict=True)):
            factor = 2.0 ** (price * unit.price + volume * unit.volume)
            np.testing.assert_array_equal(other.values[:, column], plain.values[:, column] * factor, err_msg=name)


@every_set
def test_no_window_reaches_over_a_gap(features: FeatureSet) -> None:
    """Whatever happened before a gap, what comes after it has the same features."""
    after = walk(400, seed=1)
    results = []
    for seed in (2, 3):
        before = walk(300, seed=seed, level=7.0)
        columns = {f.name: np.concatenate([getattr(before, f.name), getattr(after, f.name)]) for f in fields(Candles)[:6]}
        columns["time"][300:] = before.time[-1] + 120_000 + after.time - after.time[0]
        found = compute_features(Candles(**columns), features)
        first = int(np.searchsorted(found.rows, 300))
        assert found.rows[first] == 300 + features.warm_up
        results.append(found.values[first:])
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], compute_features(after, features).values)


@every_set
def test_flat_and_empty_stretches_are_finite(features: FeatureSet) -> None:
    for volume in (0.0, 3.0):
        flat = Candles(walk(500).time, *(np.full(500, 100.1) for _ in range(4)), np.full(500, volume))
        assert np.isfinite(compute_features(flat, features).values).all()


@every_set
def test_the_size_of_the_blocks_of_work_changes_no_bit(features: FeatureSet, monkeypatch: pytest.MonkeyPatch) -> None:
    market = walk(1_000)
    whole = compute_features(market, features)
    for block in (1, 7, 300):
        monkeypatch.setattr(compute, "BLOCK", block)
        np.testing.assert_array_equal(compute_features(market[:500], features).values, whole.values[: 500 - features.warm_up])


@every_set
def test_a_segment_without_enough_history_has_no_rows(features: FeatureSet) -> None:
    assert compute_features(walk(features.warm_up), features).values.shape == (0, len(features))
    assert compute_features(walk(features.warm_up + 1), features).values.shape == (1, len(features))


@every_set
def test_an_allowed_gap_does_not_cut_the_segment(features: FeatureSet) -> None:
    market = walk(features.warm_up + 201)
    time = market.time + 60_000 * (np.arange(len(market)) >= features.warm_up + 1)
    gapped = Candles(time, market.open, market.high, market.low, market.close, market.volume)
    whole = compute_features(gapped, features, max_gap_minutes=1).values
    assert len(compute_features(gapped, features).rows) == 1 + max(200 - features.warm_up, 0)
    assert len(whole) == 201
    live = LiveFeatures(features, max_gap_minutes=1)
    np.testing.assert_array_equal([row for row in live.follow(gapped) if row is not None], whole)


@every_set
def test_many_short_segments_are_as_good_as_one_by_one(features: FeatureSet) -> None:
    parts = [walk(length, seed=length) for length in (features.warm_up + 3, 5, features.warm_up, 1, 5_000, features.warm_up + 1)]
    start, moved = 0, []
    for part in parts:
        time = MINUTE * (start + np.arange(len(part)))
        moved.append(Candles(time, part.open, part.high, part.low, part.close, part.volume))
        start += len(part) + 1
    joined = Candles(*(np.concatenate([getattr(part, f.name) for part in moved]) for f in fields(Candles)[:6]))
    alone = [compute_features(part, features).values for part in moved]
    np.testing.assert_array_equal(compute_features(joined, features).values, np.concatenate(alone))
    assert compute_features(joined[:0], features).values.shape == (0, len(features))


@pytest.mark.slow
@every_set
def test_live_gives_the_bits_of_batch_on_real_candles(features: FeatureSet, real_candles: Path) -> None:
    """Every row of SOL's segments and 100,000 of BTC, saved and restored again and again on the way."""
    sol = read_candles(real_candles / "SOL-USD.parquet")
    if features is not FOUNDING:
        sol = sol[:100_000]
    for market in (sol, read_candles(real_candles / "BTC-USD.parquet")[500_000:600_000]):
        batch, live, found = compute_features(market, features), LiveFeatures(features), 0
        for start in range(0, len(market), 9_973):
            for values in live.follow(market[start : start + 9_973]):
                if values is not None:
                    assert live.time == market.time[batch.rows[found]]
                    assert values.tobytes() == np.ascontiguousarray(batch.values[found]).tobytes()
                    found += 1
            live = LiveFeatures.restore(features, live.state())
        assert found == len(batch.rows) > 90_000


# The founding set


def test_the_72_names_are_the_founding_ones_in_order() -> None:
    names = list(FOUNDING.names)
    assert len(names) == 72
    assert sorted(names) == names
    assert names[:3] == ["atr_14", "bb_lower_20", "bb_lower_50"]
    assert names[8:13] == ["ema_10", "ema_20", "ema_200", "ema_5", "ema_50"]
    assert names[-2:] == ["williams_r_14", "williams_r_21"]
    assert FOUNDING.warm_up == 199


@pytest.mark.parametrize("symbol", ["BTC-USD", "SOL-USD"])
def test_real_candles_give_the_numbers_of_the_two_pass_reference(symbol: str, real_candles: Path) -> None:
    market = read_candles(real_candles / f"{symbol}.parquet")[3_000:6_000]
    segment = market[list(market.segments())[-1]]
    found, wanted = compute_features(segment), reference(segment)
    assert sorted(wanted) == list(FOUNDING.names)
    for column, name in enumerate(FOUNDING.names):
        b = wanted[name][FOUNDING.warm_up :]
        assert_equal(found.values[:, column], b, float(b.std()), name)


@pytest.mark.slow
@given(candles(min_rows=230, max_rows=300))
def test_any_valid_market_gives_the_numbers_of_the_reference(market: Candles) -> None:
    """Flat stretches, empty minutes and gaps included."""
    found = compute_features(market)
    for piece in market.segments():
        rows = (found.rows >= piece.start) & (found.rows < piece.stop)
        assert rows.sum() == max(piece.stop - piece.start - FOUNDING.warm_up, 0)
        if rows.any():
            wanted = reference(market[piece])
            for column, name in enumerate(FOUNDING.names):
                b = wanted[name][FOUNDING.warm_up :]
                assert_equal(found.values[rows, column], b, max(float(b.std()), 1.0), name)


def test_a_flat_market_has_the_stated_values() -> None:
    flat = Candles(walk(300).time, *(np.full(300, 100.1) for _ in range(4)), np.zeros(300))
    row = dict(zip(FOUNDING.names, compute_features(flat).values[-1], strict=True))
    for name in FOUNDING.names:
        if name.startswith(("rsi", "stoch")):
            assert row[name] == 50
        elif name.startswith("williams"):
            assert row[name] == -50
        elif "position" in name:
            assert row[name] == 0.5
        elif name.startswith(("volume_ratio", "volume_lag")):
            assert row[name] == 1
        elif name.startswith(("volatility", "macd", "momentum", "returns")):
            assert row[name] == 0


# The relative set


@pytest.mark.slow
def test_the_relative_set_is_the_founding_one_over_the_close(real_candles: Path) -> None:
    market = read_candles(real_candles / "ETH-USD.parquet")[:3_000]
    relative = feature_set("relative-72")
    found = compute_features(market, relative)
    wanted = reference(market)
    assert len(relative) == 72
    assert {str(unit) for unit in relative.units} == {"scale-free"}
    for column, name in enumerate(relative.names):
        founding = name.removesuffix("_to_close")
        b = wanted["volume_ratio"] * wanted["returns"] if name == "volume_ratio_trend" else wanted[founding]
        b = (b / market.close if founding != name else b)[relative.warm_up :]
        assert_equal(found.values[:, column], b, float(b.std()), name)
