"""Leaks that hide, and honest pipelines that look odd. Most of these got past an earlier audit, or were accused by it."""

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pytest
from pipelines import NAMES, RULE, edge, features, rows_of, sound, split, trained

from crpbot.dataset.labels import label_moves, of_stand_ins
from crpbot.errors import DatasetError
from crpbot.market.candles import Candles
from crpbot.market.files import COLUMNS
from crpbot.market.fill import fill_flat
from crpbot.market.synthetic import level_noise_best_accuracy
from crpbot.quality.audit.audit import Audit, audit_pipeline
from crpbot.quality.audit.path import future_overwrite
from crpbot.quality.audit.pipeline import Blocks, Pipeline
from crpbot.quality.audit.refit import retrained_check
from crpbot.quality.audit.rows_file import read_rows
from crpbot.quality.audit.scale import scaler_check
from crpbot.quality.audit.split import duplicates_check, purge_check, rows_check, split_check, timestamps_check

pytestmark = pytest.mark.slow
S0, S1 = "S0-USD", "S1-USD"
TIME = rows_of(0)[0]


def audit(pipeline: Pipeline) -> Audit:
    return audit_pipeline(pipeline, refit=False)


def blocks(train: np.ndarray, test: np.ndarray, calibration: np.ndarray = TIME[:0]) -> dict[str, Blocks]:
    return {S0: Blocks(train=train, calibration=calibration, test=test)}


def with_blocks(**chosen: np.ndarray) -> Pipeline:
    return dataclasses.replace(sound(), blocks=blocks(**chosen), scaler=None)


def peeking(ahead: int) -> Callable[[Candles], tuple[np.ndarray, np.ndarray]]:
    """Return features whose first is the return of the next candles."""

    def leaking(candles: Candles) -> tuple[np.ndarray, np.ndarray]:
        at, x = features(candles)
        place = np.searchsorted(candles.time, at)
        later = np.minimum(place + ahead, len(candles) - 1)
        return at, np.concatenate([(candles.close[later] / candles.close[place] - 1)[:, None], x[:, 1:]], axis=1)

    return leaking


@pytest.mark.parametrize("ahead", [1, 15])
def test_one_candle_of_the_future_is_enough(ahead: int) -> None:
    pipeline = dataclasses.replace(sound(), features=peeking(ahead), scaler=None)
    assert future_overwrite(pipeline).leak in ("look-ahead", "label-in-feature")


def test_a_long_memory_does_not_hide_the_future() -> None:
    """Features that need 4,000 candles: the stretch grows until they are there."""

    def late(leaking: Callable) -> Callable:
        def chosen(candles: Candles) -> tuple[np.ndarray, np.ndarray]:
            at, x = leaking(candles)
            old = at >= candles.time[0] + 4_000 * 60_000
            return at[old], x[old]

        return chosen

    assert future_overwrite(dataclasses.replace(sound(), features=late(peeking(1)), scaler=None)).status == "failed"
    assert future_overwrite(dataclasses.replace(sound(), features=late(features), scaler=None)).status == "passed"


def test_a_column_of_unknown_origin_proves_nothing() -> None:
    """Computed once, with one candle of look-ahead, and looked up by time ever since."""
    at, stored = peeking(1)(edge())

    def looked_up(candles: Candles) -> tuple[np.ndarray, np.ndarray]:
        time, x = features(candles)
        return time, np.concatenate([stored[np.searchsorted(at, time), :1], x[:, 1:]], axis=1)

    found = audit(dataclasses.replace(sound(), features=looked_up, scaler=None))
    assert found.code == "unproven"
    assert NAMES[0] in found.words


def test_a_prediction_that_cannot_be_repeated_is_no_look_ahead() -> None:
    rng, honest = np.random.default_rng(0), sound()

    def dropout(x: np.ndarray) -> np.ndarray:
        p = honest.predict(x) + rng.uniform(0, 1e-4, (len(x), 3))
        return p / p.sum(axis=1, keepdims=True)

    check = future_overwrite(dataclasses.replace(honest, predict=dropout))
    assert (check.status, check.leak) == ("unknown", None)


def test_cutting_the_candles_does_not_hide_later_training_rows() -> None:
    n = len(TIME)
    train = np.concatenate([TIME[: n // 2], TIME[int(0.8 * n) :]])
    test = TIME[n // 2 + 300 : int(0.79 * n)]
    cut = edge()[: int(np.searchsorted(edge().time, test[-1])) + 20]
    pipeline = dataclasses.replace(with_blocks(train=train, test=test), candles={S0: cut})
    assert split_check(pipeline).leak == "trained-on-the-future"
    assert rows_check(pipeline).status == "unknown"


def test_a_test_block_may_not_be_chosen() -> None:
    pipeline = sound()
    test = pipeline.test
    right = test.time[pipeline.predicted == test.y]
    lucky = dataclasses.replace(pipeline, blocks=blocks(train=pipeline.blocks[S0].train, test=right))
    assert rows_check(lucky).status == "unknown"
    assert audit(lucky).code == "unproven"
    late = blocks(train=TIME[:5_000], test=TIME[20_000:])
    assert rows_check(dataclasses.replace(pipeline, blocks=late)).status == "unknown"
    assert rows_check(pipeline).status == "passed"


@pytest.mark.parametrize("share", [0.72, 0.8, 0.9, 0.97, 1.0])
def test_a_scaler_that_saw_any_part_of_the_test_is_found(share: float) -> None:
    pipeline, x = sound(), rows_of(0)[1]
    seen = x[: int(share * len(x))]
    check = scaler_check(dataclasses.replace(pipeline, scaler=(seen.mean(axis=0), seen.std(axis=0))))
    assert check.leak == "scaler-saw-test-rows"


def test_a_scaler_of_training_and_a_tenth_of_the_test_is_found_across_an_embargo() -> None:
    pipeline = with_blocks(train=TIME[:20_000], test=TIME[20_400:])
    train, test = pipeline.train.x, pipeline.test.x
    seen = np.concatenate([train, test[: len(test) // 10]])
    check = scaler_check(dataclasses.replace(pipeline, scaler=(seen.mean(axis=0), seen.std(axis=0))))
    assert check.leak == "scaler-saw-test-rows"


def test_a_scaler_of_rows_before_the_test_passes_and_others_are_not_called_training_rows() -> None:
    x = rows_of(0)[1]
    pipeline = with_blocks(train=TIME[3_000:20_000], calibration=TIME[20_200:23_000], test=TIME[23_200:])
    for seen in (x[3_000:20_000], x[:20_000], x[3_000:15_000], np.concatenate([x[3_000:20_000], x[20_200:23_000]])):
        assert scaler_check(dataclasses.replace(pipeline, scaler=(seen.mean(axis=0), seen.std(axis=0)))).status == "passed"
    spread = np.quantile(x[3_000:20_000], [0.25, 0.75], axis=0)
    robust = scaler_check(dataclasses.replace(pipeline, scaler=(np.median(x, axis=0), spread[1] - spread[0])))
    assert (robust.status, robust.leak) == ("unknown", None)


def test_a_constant_feature_does_not_make_a_scaler_foreign() -> None:
    pipeline = sound()

    def constant(candles: Candles) -> tuple[np.ndarray, np.ndarray]:
        at, x = features(candles)
        return at, np.concatenate([x, np.full((len(x), 1), 0.1)], axis=1)

    mean, scale = pipeline.scaler
    with_one = dataclasses.replace(
        pipeline,
        features=constant,
        names=(*NAMES, "one"),
        predict=lambda x: pipeline.predict(x[:, :-1]),
        scaler=(np.append(mean, 0.1), np.append(scale, 1.0)),
    )
    assert audit(with_one).earned


def two(first: Blocks, second: Blocks) -> Pipeline:
    return dataclasses.replace(sound((0, 1)), blocks={S0: first, S1: second}, scaler=None)


def test_symbols_share_more_than_equal_minutes() -> None:
    """Labels that reach into the other's test, training after it, minutes in between, calibration on it."""
    later = Blocks(train=TIME[:12_000], test=TIME[15_000:22_000])
    for other in (
        Blocks(train=TIME[:15_000], test=TIME[15_015:22_000]),
        Blocks(train=TIME[22_100:26_000], test=TIME[26_100:]),
        Blocks(train=TIME[:14_000], calibration=TIME[16_000:17_000], test=TIME[17_100:]),
    ):
        assert timestamps_check(two(other, later)).leak == "shared-timestamps"
    even, odd = Blocks(train=TIME[:14_000], test=TIME[15_000::2]), Blocks(train=TIME[15_001::2], test=TIME[:0])
    assert timestamps_check(two(odd, even)).leak == "shared-timestamps"
    early = Blocks(train=TIME[:14_900], test=TIME[15_000:22_000])
    assert timestamps_check(two(early, later)).status == "passed"


def test_history_that_was_copied_to_another_level_is_found() -> None:
    """The last third repeats the first, multiplied so that the price goes on."""
    once = edge()
    n = len(once) // 3
    factor = once.close[2 * n - 1] / once.open[0]
    columns = [getattr(once, name) for name in ("open", "high", "low", "close")]
    copied = [np.concatenate([column[: 2 * n], column[:n] * factor]) for column in columns]
    candles = Candles(once.time[: 3 * n], *copied, np.concatenate([once.volume[: 2 * n], once.volume[:n]]))
    time = features(candles)[0]
    pipeline = dataclasses.replace(sound(), candles={S0: candles}, blocks={S0: split(time[:-15])}, scaler=None)
    assert duplicates_check(pipeline).leak == "duplicate-rows"


def test_a_model_that_saw_the_test_is_found_by_training_it_again() -> None:
    """Nearest neighbours of all rows, blocks that claim otherwise, and an honest recipe."""
    from sklearn.neighbors import KNeighborsClassifier

    time, x, y, _ = rows_of(0)

    def nearest(rows: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        mean, scale = rows.mean(axis=0), rows.std(axis=0)
        model = KNeighborsClassifier(1).fit((rows - mean) / scale, labels)
        return lambda new: model.predict_proba((new - mean) / scale)

    cheating = dataclasses.replace(
        sound(), predict=nearest(x, y), scaler=None, fit=lambda training, _: nearest(training.x, training.y)
    )
    check = retrained_check(cheating, lambda _: None)
    assert check.leak == "knows-more-than-its-rows"
    found = audit_pipeline(cheating)
    assert found.code == "leak"
    assert "knows-more-than-its-rows" in found.leaks
    honest = dataclasses.replace(cheating, predict=nearest(x[np.isin(time, sound().blocks[S0].train)], y[: len(sound().train)]))
    assert retrained_check(honest, lambda _: None).value == pytest.approx(0, abs=0.005)


def test_calibration_before_training_is_no_leak_and_after_the_test_is_one() -> None:
    before = with_blocks(calibration=TIME[:3_000], train=TIME[3_000:20_000], test=TIME[20_015:])
    assert purge_check(before).status == "passed"
    within = np.random.default_rng(0).permutation(TIME[:20_000])
    mixed = with_blocks(calibration=np.sort(within[:3_000]), train=np.sort(within[3_000:]), test=TIME[20_015:])
    assert purge_check(mixed).status == "passed"
    for calibration in (TIME[26_000:], TIME[20_015:22_000]):
        tuned = with_blocks(train=TIME[:20_000], calibration=calibration, test=TIME[20_015:26_000])
        assert purge_check(tuned).leak == "tuned-on-test"


def test_a_symbol_may_be_only_trained_on_or_only_tested_on() -> None:
    both = trained({S0: split(TIME), S1: Blocks(train=TIME[:15_000], test=TIME[:0])}, {S0: 0, S1: 1})
    assert audit(both).leaks == ()
    only_tested = two(split(TIME), Blocks(train=TIME[:0], test=TIME[22_000:]))
    assert split_check(only_tested).status == "passed"


def test_blocks_may_be_timestamps_of_numpy() -> None:
    stamps = TIME.astype("datetime64[ms]").astype("datetime64[ns]")
    assert (Blocks(train=stamps, test=TIME[:0]).train == TIME).all()
    with pytest.raises(DatasetError, match="milliseconds of UTC, found float64"):
        Blocks(train=TIME / 3, test=TIME)


def test_bad_pipelines_are_refused_in_words() -> None:
    with pytest.raises(DatasetError, match="mean and scale of shape"):
        dataclasses.replace(sound(), scaler=(np.zeros(3), np.ones(3)))
    nan = dataclasses.replace(sound(), fit=lambda _training, _calibration: lambda x: np.full((len(x), 3), np.nan))
    with pytest.raises(DatasetError, match="finite probabilities"):
        audit_pipeline(nan)


def test_a_table_of_rows_is_refused_in_words(tmp_path) -> None:
    import polars as pl

    for frame, words in (
        (pl.DataFrame({"time": [1_735_689_600_000], "block": [["train"]]}), "block must be text"),
        (pl.DataFrame({"time": [], "block": []}, schema={"time": pl.Int64, "block": pl.String}), "at least one row"),
    ):
        frame.write_parquet(tmp_path / "rows.parquet")
        with pytest.raises(DatasetError, match=words):
            read_rows(tmp_path / "rows.parquet", symbol="BTC-USD")


def test_too_few_rows_and_flat_candles_give_valid_json_without_a_number_that_is_none() -> None:
    few = dataclasses.replace(sound(), blocks=blocks(train=TIME[:1_000], test=TIME[1_015:1_300]))
    found = audit(few)
    assert not found.earned
    json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert "nan" not in found.words
    assert level_noise_best_accuracy(1.0) == 1.0
    flat = Candles(edge().time, *([np.full(len(edge()), 5.0)] * 4), edge().volume)
    still = dataclasses.replace(sound(), candles={S0: flat}, scaler=None)
    json.dumps(audit(still).to_dict(), allow_nan=False)


def test_the_planted_leak_of_a_friend_is_still_a_leak() -> None:
    """A scaler of all rows beside a random split: both are named, the root first."""
    shuffled = np.random.default_rng(0).permutation(TIME)
    cut = int(0.7 * len(TIME))
    pipeline = trained({S0: Blocks(train=np.sort(shuffled[:cut]), test=np.sort(shuffled[cut:]))}, {S0: 0}, scale_on_all=True)
    found = audit(pipeline)
    assert found.leaks[0] == "random-split"
    assert "scaler-saw-test-rows" in found.leaks


def test_stand_ins_for_missing_minutes_are_no_rows_that_were_left_out() -> None:
    whole = edge()
    holes = np.delete(np.arange(len(whole)), [9_000, 9_001, 25_000])
    filled = fill_flat(Candles(*(getattr(whole, name)[holes] for name in COLUMNS)))
    time = features(filled)[0]
    marked = of_stand_ins(filled, label_moves(filled, RULE)[1])
    kept = time[~marked[np.searchsorted(filled.time, time)]][:-15]
    pipeline = dataclasses.replace(sound(), candles={S0: filled}, blocks={S0: split(kept)}, scaler=None)
    assert rows_check(pipeline).status == "passed"
    assert rows_check(pipeline).value == 1.0
