"""The live form: its state, its beginning, its errors. That its numbers are those of batch is in `test_features`."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import candles, walk

from crpbot.dataset.features.compute import compute_features
from crpbot.dataset.features.live import LiveFeatures
from crpbot.dataset.features.sets import FeatureSet, feature_set
from crpbot.errors import CandleError, DatasetError
from crpbot.market.candles import MINUTE, Candles

FOUNDING = feature_set("founding-72")


def later(market: Candles, minutes: int) -> Candles:
    return Candles(market.time + MINUTE * minutes, market.open, market.high, market.low, market.close, market.volume)


def joined(*parts: Candles) -> Candles:
    names = ("time", "open", "high", "low", "close", "volume")
    return Candles(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@pytest.mark.slow
@given(candles(), st.data())
def test_a_restored_state_goes_on_as_if_it_had_never_stopped(market: Candles, data: st.DataObject) -> None:
    live = LiveFeatures(FOUNDING)
    for _ in live.follow(market[: data.draw(st.integers(0, len(market) - 1))]):
        pass
    restored = LiveFeatures.restore(FOUNDING, json.loads(json.dumps(live.state())))
    assert (restored.time, restored.rows) == (live.time, live.rows)
    rest = market[int(np.searchsorted(market.time, live.time, side="right")) if live.time else 0 :]
    for one, other in zip(live.follow(rest), restored.follow(rest), strict=True):
        assert (one is None) == (other is None)
        np.testing.assert_array_equal(one, other)
    assert restored.state() == live.state()


def test_a_state_is_a_file(tmp_path: Path) -> None:
    market = walk(900)
    live = LiveFeatures(FOUNDING)
    list(live.follow(market[:700]))
    live.save(tmp_path / "BTC-USD.json")
    restored = LiveFeatures.load(FOUNDING, tmp_path / "BTC-USD.json")
    np.testing.assert_array_equal(list(restored.follow(market[700:])), compute_features(market).values[-200:])


def spoil(key: str, value: object, *place: int) -> object:
    def change(state: dict) -> None:
        target = state
        for step in (key, *place)[:-1]:
            target = target[step]
        target[(key, *place)[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (spoil("format", "x"), "found one of founding-72"),
        (spoil("program_sha256", "0"), "must be of feature set founding-72 as it is now"),
        (spoil("max_gap_minutes", 1), "of max_gap_minutes 0"),
        (lambda s: s.pop("rows"), "damaged"),
        (lambda s: s["past"].pop(), "damaged"),
        (lambda s: s["past"][3].pop(), "damaged"),
        (lambda s: s["exponential_means"].append(1.0), "damaged"),
        (spoil("past", 3), "damaged"),
        (spoil("exponential_means", "x", 0), "damaged"),
        (spoil("exponential_means", 10**400, 0), "damaged"),
        (spoil("exponential_means", float("inf"), 0), "damaged"),
        (spoil("exponential_means", None, 0), "nothing|None where a finite number has to be"),
        (spoil("past", None, 0, 0), "None where a finite number has to be"),
        (spoil("past", float("nan"), 0, 0), "damaged"),
        (spoil("rows", -5), "damaged"),
        (spoil("rows", 0), "damaged"),
        (spoil("rows", 5), "where nothing has to be"),
        (spoil("rows", float("inf")), "damaged"),
        (spoil("time", None), "damaged"),
        (spoil("time", 10**30), "damaged"),
        (spoil("time", 61_000), "damaged"),
        (spoil("time", "now"), "damaged"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(change: object, words: str) -> None:
    live = LiveFeatures(FOUNDING)
    list(live.follow(walk(230)))
    state = live.state()
    change(state)
    with pytest.raises(DatasetError, match=words):
        LiveFeatures.restore(FOUNDING, state)


def test_a_state_of_something_else_is_refused() -> None:
    live = LiveFeatures(FOUNDING)
    list(live.follow(walk(230)))
    with pytest.raises(DatasetError, match="found one of None"):
        LiveFeatures.restore(FOUNDING, [])
    with pytest.raises(DatasetError, match="must be of feature set relative-72"):
        LiveFeatures.restore(feature_set("relative-72"), live.state())
    with pytest.raises(DatasetError, match="of max_gap_minutes 3"):
        LiveFeatures.restore(FOUNDING, live.state(), max_gap_minutes=3)


def test_a_file_that_is_no_state_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    for name in ("state.json", "deep.json", "nothing.json"):
        with pytest.raises(DatasetError, match="must be a saved state"):
            LiveFeatures.load(FOUNDING, tmp_path / name)


def test_live_begins_with_enough_history_only() -> None:
    market = walk(2_600)
    with pytest.raises(DatasetError, match="at least 2,500 candles since the last gap"):
        LiveFeatures.from_history(FOUNDING, market[:2_499])
    with pytest.raises(DatasetError, match="found 0"):
        LiveFeatures.from_history(FOUNDING, market[:0])
    live = LiveFeatures.from_history(FOUNDING, market[:2_500])
    np.testing.assert_array_equal(list(live.follow(market[2_500:])), compute_features(market).values[-100:])
    gapped = joined(market[:100], later(market[100:400], 1))
    live = LiveFeatures.from_history(FOUNDING, gapped)
    assert live.rows == 300


def test_a_longer_memory_needs_a_longer_history() -> None:
    long = FeatureSet("long", "", {"x": "close / ema(ema(close, 400), 200)", "y": "close / open"}, {})
    assert (FOUNDING.memory, long.memory, FOUNDING.only("rsi_14").memory) == (2_500, 7_500, 2_500)
    market = walk(9_000, seed=5)
    with pytest.raises(DatasetError, match="at least 7,500 candles"):
        LiveFeatures.from_history(long, market[:7_000])
    late = LiveFeatures.from_history(long, market[1_000:8_500])
    batch = compute_features(market, long).values
    np.testing.assert_allclose(list(late.follow(market[8_500:])), batch[8_500:], rtol=1e-9)


def test_after_2500_candles_it_does_not_matter_where_the_history_began() -> None:
    market = walk(6_000, seed=3)
    late = LiveFeatures.from_history(FOUNDING, market[3_000:5_500])
    batch = compute_features(market).values
    spread = batch.std(axis=0)
    for row, values in enumerate(late.follow(market[5_500:]), start=5_500 - FOUNDING.warm_up):
        assert (np.abs(values - batch[row]) <= 1e-9 * np.maximum(np.abs(batch[row]), spread)).all()


def test_a_gap_begins_anew() -> None:
    live = LiveFeatures(FOUNDING)
    assert list(live.follow(walk(250)))[-1] is not None
    after = later(walk(250, seed=9), 251)
    found = list(live.follow(after))
    assert [values is None for values in found] == [True] * 199 + [False] * 51
    np.testing.assert_array_equal(found[199:], compute_features(after).values)


def test_candles_come_one_by_one_and_in_order() -> None:
    market, live = walk(300), LiveFeatures(FOUNDING)
    found = [live.push(market[row : row + 1]) for row in range(300)]
    before = live.state()
    with pytest.raises(CandleError, match="must come in order: the last one is 2023-11-15T03:13Z"):
        live.push(market[299:300])
    with pytest.raises(CandleError, match="one candle must be pushed at a time, found 2"):
        live.push(market[:2])
    assert live.state() == before
    np.testing.assert_array_equal(found[199:], compute_features(market).values)
    assert found[-1].dtype == np.float64


def test_what_is_returned_is_not_touched_again() -> None:
    market, live = walk(260), LiveFeatures(FOUNDING)
    found = list(live.follow(market))
    kept = found[220].copy()
    list(live.follow(later(market, 1_000)))
    np.testing.assert_array_equal(found[220], kept)
