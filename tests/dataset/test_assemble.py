"""Rows: features and labels together, and the best rule of one feature."""

import numpy as np
from strategies import walk

from crpbot.dataset.assemble import assemble, labelled_rows
from crpbot.dataset.baselines import best_one_feature_rule
from crpbot.dataset.features.sets import feature_set
from crpbot.dataset.labels import DOWN, UP, LabelRule
from crpbot.market.candles import MINUTE, Candles

FOUNDING = feature_set("founding-72")


def test_a_dataset_says_what_it_dropped_and_adds_up() -> None:
    market = walk(1_000)
    data = assemble(market, FOUNDING, LabelRule(kind="horizon", horizon=15))
    assert sum(data.dropped.values()) + len(data) == 1_000
    assert list(data.dropped.values()) == [199, 15]
    assert data.x.shape == (786, 72)
    assert data.since(int(data.time[500])).time[0] == data.time[500]


def test_the_best_rule_is_the_best_of_all_thresholds() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2_000, 3))
    y = np.where(x[:, 1] + rng.normal(size=2_000) > 0.3, UP, DOWN)
    rule = best_one_feature_rule(x, y, ("a", "b", "c"))
    assert rule.feature == "b"
    assert (rule.below, rule.above) == (DOWN, UP)
    assert rule.training_accuracy == (rule.predict(x, ("a", "b", "c")) == y).mean()
    best = max(
        max((np.where(x[:, j] <= cut, lo, hi) == y).mean() for lo in (0, 2) for hi in (0, 2))
        for j in range(3)
        for cut in np.quantile(x[:, j], np.linspace(0.05, 0.95, 19))
    )
    assert rule.training_accuracy == best


def test_rows_are_known_before_their_features_are() -> None:
    market = walk(1_500)
    time = market.time + MINUTE * (np.arange(1_500) >= 700)
    gapped = Candles(time, market.open, market.high, market.low, market.close, market.volume)
    for rule in (LabelRule(kind="horizon", horizon=30), LabelRule(kind="triple-barrier", horizon=30)):
        data, found = assemble(gapped, FOUNDING, rule), labelled_rows(gapped, FOUNDING, rule)
        np.testing.assert_array_equal(data.time, gapped.time[found.rows])
        np.testing.assert_array_equal(data.known, found.known)
        assert len(data) == 700 - 199 - 30 + 800 - 199 - 30
