"""The audit: five planted leaks are found by name, a sound pipeline passes, luck and claims are seen through."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipelines import NAMES, PLANTED, RULE, edge, features, random_split, rows_of, sound, split, trained

from crpbot.dataset.features.sets import feature_set
from crpbot.errors import DatasetError
from crpbot.market.candles import Candles
from crpbot.market.synthetic import level_noise, make_market
from crpbot.quality.audit.audit import Audit, audit_pipeline
from crpbot.quality.audit.check import LEAKS
from crpbot.quality.audit.path import future_overwrite, overwritten
from crpbot.quality.audit.pipeline import Blocks, Pipeline
from crpbot.quality.audit.refit import refit_checks, retrained_check
from crpbot.quality.audit.scale import scaler_check
from crpbot.quality.audit.split import duplicates_check, row_keys
from crpbot.quality.audit.worth import deflated, luck_check, noise_check, shift_check
from crpbot.quality.metrics import Mean


def audit(pipeline: Pipeline, **options: float) -> Audit:
    return audit_pipeline(pipeline, refit=False, **options)


@pytest.mark.parametrize("leak", PLANTED)
def test_a_planted_leak_is_found_by_its_name(leak: str) -> None:
    found = audit(PLANTED[leak]())
    assert found.leaks[0] == leak
    assert set(found.leaks) <= {leak, "no-purge"}  # a random split has no boundaries that could be purged
    assert not found.earned
    assert found.words.startswith(f"Not earned: {leak}. {LEAKS[leak].meaning}")


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_a_sound_pipeline_passes(seeds: tuple[int, ...]) -> None:
    found = audit(sound(seeds))
    assert found.earned, found.words
    assert found.leaks == ()
    assert {check.status for check in found.checks} == {"passed", "told"}


@pytest.mark.slow
def test_the_recipe_is_trained_again_and_says_what_a_shuffled_split_would_fake() -> None:
    """Nearest neighbours know a walk by heart: shuffled, their neighbours in time are in the training rows."""
    from sklearn.neighbors import KNeighborsClassifier

    candles = make_market("random-walk", "BTC-USD", rows=12_000)
    table = feature_set("founding-72").only("ema_200", "sma_200", "price_to_sma_200", "volatility_50")

    def nearest(training, _calibration):
        mean, scale = training.x.mean(axis=0), training.x.std(axis=0)
        model = KNeighborsClassifier(1).fit((training.x - mean) / scale, training.y)
        return lambda x: model.predict_proba((x - mean) / scale)

    def four(market: Candles) -> tuple[np.ndarray, np.ndarray]:
        from crpbot.dataset.features.compute import compute_features

        found = compute_features(market, table)
        return market.time[found.rows], found.values

    time, _ = four(candles)
    blocks = split(time[:-15])
    pipeline = Pipeline(
        candles={"BTC-USD": candles},
        features=four,
        names=table.names,
        predict=lambda x: np.tile([0.4, 0.2, 0.4], (len(x), 1)),
        rule=RULE,
        blocks={"BTC-USD": blocks},
        fit=nearest,
    )
    checks = {check.name: check for check in audit_pipeline(pipeline).checks}
    assert checks["random-split-illusion"].value > 0.1
    assert "would fake +" in checks["random-split-illusion"].words
    assert checks["label-permutation"].status == "passed"


@pytest.mark.slow
def test_a_fit_that_knows_the_answers_is_caught_by_labels_of_another_time() -> None:
    time, x, y, _ = rows_of(0)
    answers = {row.tobytes(): label for row, label in zip(x, y, strict=True)}

    def cheating(_training, _calibration):
        return lambda rows: np.eye(3)[[answers[row.tobytes()] for row in rows]]

    assert "learns-noise" in audit_pipeline(dataclasses.replace(sound(), fit=cheating)).leaks
    assert len(time) == len(answers)


@pytest.mark.slow
def test_a_feature_that_peeks_without_telling_is_look_ahead() -> None:
    """Statistics of the whole file: a z-score over all candles that are there."""

    def standardized(candles: Candles) -> tuple[np.ndarray, np.ndarray]:
        time, x = features(candles)
        return time, (x - x.mean(axis=0)) / x.std(axis=0)

    check = future_overwrite(dataclasses.replace(sound(), features=standardized, scaler=None))
    assert check.leak == "look-ahead"
    assert NAMES[0] in check.words


@pytest.mark.slow
def test_a_column_that_does_not_come_from_candles_and_tells_the_label_is_found() -> None:
    """Merged in from a table of labels: no candle changes it."""
    time, _, y, _ = rows_of(0)
    noisy = np.where(np.random.default_rng(0).uniform(size=len(y)) < 0.4, y, 1.0)

    def merged(candles: Candles) -> tuple[np.ndarray, np.ndarray]:
        at, x = features(candles)
        place = np.clip(np.searchsorted(time, at), 0, len(time) - 1)
        return at, np.concatenate([x[:, 1:], noisy[place][:, None]], axis=1)

    check = future_overwrite(dataclasses.replace(sound(), features=merged, names=(*NAMES[1:], "oracle"), scaler=None))
    assert check.leak == "label-in-feature"
    assert "oracle" in check.words


@pytest.mark.slow
def test_an_hour_of_the_day_is_no_leak() -> None:
    def with_hour(candles: Candles) -> tuple[np.ndarray, np.ndarray]:
        at, x = features(candles)
        return at, np.concatenate([x[:, 1:], (at // 3_600_000 % 24)[:, None]], axis=1)

    pipeline = dataclasses.replace(sound(), features=with_hour, names=(*NAMES[1:], "hour"), scaler=None)
    assert future_overwrite(pipeline).status == "passed"


def test_overwritten_candles_share_the_past_and_nothing_else() -> None:
    candles = edge()[:500]
    other = overwritten(candles, 300, np.random.default_rng(0))
    assert other[:301].sha256 == candles[:301].sha256
    assert (other.close[301:] != candles.close[301:]).all()
    assert (other.time == candles.time).all()


@pytest.mark.slow
def test_a_later_training_row_is_the_future() -> None:
    time = rows_of(0)[0]
    blocks = {"S0-USD": Blocks(train=time[10_000:], test=time[: 10_000 - 300])}
    assert audit(trained(blocks, {"S0-USD": 0})).leaks[0] == "trained-on-the-future"


@pytest.mark.slow
def test_copied_history_is_found() -> None:
    pipeline = sound()
    table = pipeline.tables["S0-USD"]
    copied = dataclasses.replace(table.test, x=np.concatenate([table.train.x[:100], table.test.x[100:]]))
    pipeline.__dict__["tables"] = {"S0-USD": dataclasses.replace(table, test=copied)}
    assert duplicates_check(pipeline).leak == "duplicate-rows"
    assert duplicates_check(sound()).status == "passed"


@given(st.integers(0, 2**31))
def test_equal_rows_have_equal_keys_and_others_do_not(seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(200, 5))
    keys = row_keys(np.concatenate([x, x]))
    np.testing.assert_array_equal(keys[:200], keys[200:])
    assert len(np.unique(keys)) == 200
    x[0, 3] = np.nextafter(x[0, 3], 9)
    assert row_keys(x)[0] != keys[0]


def test_a_scaler_of_training_rows_passes_whatever_the_library_s_divisor() -> None:
    pipeline = sound()
    mean, scale = pipeline.scaler
    n = len(pipeline.train)
    assert scaler_check(dataclasses.replace(pipeline, scaler=(mean, scale * math.sqrt(n / (n - 1))))).status == "passed"
    assert scaler_check(dataclasses.replace(pipeline, scaler=(mean, scale * 300))).status == "unknown"
    assert scaler_check(dataclasses.replace(pipeline, scaler=None)).status == "passed"


@pytest.mark.slow
def test_what_cannot_be_proven_is_not_earned() -> None:
    pipeline = sound()
    test = pipeline.blocks["S0-USD"].test
    found = audit(dataclasses.replace(pipeline, blocks={"S0-USD": Blocks(train=None, test=test)}))
    assert (found.code, found.earned) == ("unproven", False)
    assert {check.name for check in found.checks if check.status == "unknown"} >= {"purge", "split-by-time", "scaler"}


@pytest.mark.slow
def test_a_claim_is_held_against_what_was_measured() -> None:
    assert audit(sound(), claim=0.53).earned
    found = audit(sound(), claim=0.70)
    assert found.code == "claim-refuted"
    assert "70.0 % was claimed" in found.words
    assert "level plus noise" in found.words


@pytest.mark.slow
def test_a_recipe_that_cannot_be_trained_on_fewer_rows_leaves_only_those_checks_unknown() -> None:
    """An ensemble of many folds needs more rows than what it is trained on again."""

    def fit(*_: object) -> None:
        raise DatasetError("found 86 in the test block; bring more candles")

    pipeline = dataclasses.replace(sound(), fit=fit)
    for check in (*refit_checks(pipeline, lambda _: None), retrained_check(pipeline, lambda _: None)):
        assert (check.status, check.leak) == ("unknown", None)
        assert "it cannot be trained on so few rows: found 86" in check.words


@pytest.mark.slow
def test_trials_are_counted() -> None:
    """+3.2 standard errors survive some tries and not a thousand."""
    assert audit(sound(), trials=10).earned
    found = audit(sound(), trials=1_000)
    assert found.code == "luck"
    assert "1,000 tries" in found.words


def test_an_error_that_few_values_tell_is_deflated_by_student() -> None:
    """By tables of Student's distribution: 5 % one-sided, and the normal one where the degrees are many."""
    for freedom, bar in ((1, 6.3138), (2, 2.9200), (3, 2.3534), (4, 2.1318), (9, 1.8331), (30, 1.6973), (200, 1.6525)):
        assert deflated(bar, 1, freedom=freedom)[0] == pytest.approx(0.05, rel=1e-4)
        assert deflated(-bar, 1, freedom=freedom)[0] == pytest.approx(0.95, rel=1e-4)
    assert deflated(31.599, 1, freedom=2)[0] == pytest.approx(0.0005, rel=1e-4)
    assert deflated(2.0, 10, freedom=100_000)[0] == pytest.approx(deflated(2.0, 10)[0], rel=0.01)
    assert deflated(math.nan, 10, freedom=2)[0] == deflated(9.0, 10, freedom=0)[0] == 1.0


@given(st.floats(-3, 8), st.integers(1, 10_000))
def test_deflation_grows_with_the_trials_and_is_the_maximum_of_normals(errors: float, trials: int) -> None:
    chance, most = deflated(errors, trials)
    assert deflated(errors, 1)[0] - 1e-15 <= chance <= min(1.0, trials * deflated(errors, 1)[0]) + 1e-12
    assert (chance < 0.05) == (trials < most)


def test_the_best_of_ten_without_skill_is_as_good_as_deflation_says() -> None:
    best = np.random.default_rng(0).normal(size=(200_000, 10)).max(axis=1)
    assert deflated(2.0, 10)[0] == pytest.approx((best >= 2).mean(), abs=0.003)


def test_luck_needs_an_error_and_certainty_needs_none() -> None:
    assert luck_check(Mean(0.1, math.nan), 1, counted_by="me").status == "unknown"
    assert luck_check(Mean(0.1, 0.0), 10**6, counted_by="me").status == "passed"
    assert luck_check(Mean(-0.1, 0.0), 1, counted_by="me").status == "failed"


@pytest.mark.slow
def test_shifts_are_every_other_assignment_of_the_same_predictions() -> None:
    part = dataclasses.replace(sound().test)
    few = dataclasses.replace(part, x=part.x[:400], y=part.y[:400], time=part.time[:400], known=part.known[:400])
    predicted = np.roll(few.y, 3)
    plain = [(np.roll(predicted, k) == few.y).mean() for k in range(100, 301)]
    check = shift_check(few, predicted)
    now = (predicted == few.y).mean()
    assert check.value == pytest.approx((1 + sum(one >= now for one in plain)) / (1 + len(plain)), abs=0.01)
    assert shift_check(few, few.y).value == pytest.approx(1 / 202, abs=1e-3)


@pytest.mark.slow
def test_candles_that_are_a_level_plus_noise_are_no_market() -> None:
    noise = level_noise(np.random.default_rng(0), 20_000, 60_000.0)
    time, _ = features(noise)
    pipeline = dataclasses.replace(sound(), candles={"S0-USD": noise}, blocks={"S0-USD": split(time[:-15])}, scaler=None)
    assert noise_check(pipeline).status == "failed"
    assert audit(pipeline).code == "made-up-market"
    assert noise_check(dataclasses.replace(pipeline, source="synthetic")).status == "told"
    assert noise_check(sound()).status == "told"


def test_a_pipeline_brings_what_it_names() -> None:
    with pytest.raises(DatasetError, match="must have candles of every symbol"):
        dataclasses.replace(sound(), blocks={"X-USD": Blocks(train=None, test=np.arange(3))})
    for times in (np.arange(300), rows_of(0)[0][:99]):
        with pytest.raises(DatasetError, match="at least 100 test rows"):
            _ = dataclasses.replace(sound(), blocks={"S0-USD": Blocks(train=None, test=times)}).test


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "found"),
    [
        (lambda time, x: (time, x[:, 1:]), "one column a name"),
        (lambda time, x: (time[::-1], x), "in the order of time"),
        (lambda time, x: (time + 1, x), "must be of its candles"),
        (lambda time, x: (time, np.where(x == x[5], np.nan, x)), "must be finite, found nan in high_low_ratio"),
    ],
)
def test_features_that_are_none_are_refused_in_words(fault, found: str) -> None:
    pipeline = dataclasses.replace(sound(), features=lambda candles: fault(*features(candles)))
    with pytest.raises(DatasetError, match=found):
        _ = pipeline.tables
    with pytest.raises(DatasetError, match="finite probabilities of shape"):
        _ = dataclasses.replace(sound(), predict=lambda x: np.zeros((len(x), 2))).probabilities


@pytest.mark.slow
def test_an_audit_is_plain_data() -> None:
    import json

    plain = json.loads(json.dumps(audit(random_split(), claim=0.7).to_dict()))
    assert plain["format"] == "crpbot.audit/1"
    assert (plain["verdict"], plain["earned"], plain["claim"]) == ("leak", False, 0.7)
    assert plain["leaks"][0]["code"] == "random-split"
    assert {"name", "status", "value", "words", "leak"} <= set(plain["checks"][0])
