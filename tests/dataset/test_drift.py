"""Drift between blocks, in numbers and on its page."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import walk

from crpbot.dataset.drift import drift_in_words, measure_drift
from crpbot.dataset.features.compute import compute_features
from crpbot.dataset.features.sets import FeatureSet, feature_set
from crpbot.market.candles import MINUTE, Candles
from crpbot.model.recipe import load_recipe
from crpbot.quality.report.features import FeatureBlocks, feature_blocks, features_page

RECIPE = load_recipe("v7")


def blocks(market: Candles, table: FeatureSet) -> FeatureBlocks:
    return feature_blocks("SOL-USD", market, table, compute_features(market, table), RECIPE)


@given(st.integers(0, 2**31), st.floats(-5, 5), st.integers(-8, 8))
def test_drift_is_measured_in_the_feature_s_own_deviations(seed: int, shift: float, power: int) -> None:
    rng = np.random.default_rng(seed)
    training, later = rng.normal(size=(400, 2)), rng.normal(shift, 1, size=(300, 2))
    one, _ = measure_drift(("a", "b"), training, later)
    assert one.shift == pytest.approx((later[:, 0].mean() - training[:, 0].mean()) / training[:, 0].std())
    outside = (later[:, 0] < training[:, 0].min()) | (later[:, 0] > training[:, 0].max())
    assert one.outside == outside.mean()
    scaled, _ = measure_drift(("a", "b"), training * 2.0**power, later * 2.0**power)
    assert (scaled.outside, scaled.shift) == (one.outside, pytest.approx(one.shift))


def test_rows_that_are_all_alike_do_not_hide_a_move() -> None:
    same, moved = measure_drift(("same", "moved"), np.ones((9, 2)), np.array([[1.0, 2.0]] * 5))
    assert (same.shift, same.outside, same.left, same.moved) == (0, 0, False, False)
    assert (moved.shift, moved.outside, moved.left, moved.moved) == (np.inf, 1, True, True)


def test_rows_that_are_alike_have_no_residue() -> None:
    same, moved = measure_drift(("a", "b"), np.full((70_001, 2), 0.1), np.array([[0.1, 0.2]] * 14_999))
    assert (same.mean, same.deviation, same.shift, same.moved) == (0.1, 0, 0, False)
    assert (moved.later_mean, moved.shift) == (0.2, np.inf)


def test_a_market_that_doubles_leaves_the_range_of_levels_only() -> None:
    """The same walk at twice the price from the test block on: prices leave their range, the relative set does not notice."""
    market = walk(8_000, seed=2)
    late = 2.0 ** (np.arange(8_000) >= 6_000)
    prices = (getattr(market, name) * late for name in ("open", "high", "low", "close"))
    time = market.time + MINUTE * (np.arange(8_000) >= 6_000)
    doubled = Candles(time, *prices, market.volume)
    founding, relative = (blocks(doubled, feature_set(name)) for name in ("founding-72", "relative-72"))
    left = {drift.name for drift in founding.drift if drift.left}
    assert {"sma_5", "ema_200", "bb_upper_20", "price_channel_low_50"} <= left
    assert not {
        name for name in left if not re.match("sma|ema|bb_(lower|upper)|price_channel_(high|low)|atr|macd|momentum", name)
    }
    assert not [drift.name for drift in relative.drift if drift.left]
    assert drift_in_words(relative.drift).startswith("0 of 72 features left the training range")


def test_the_blocks_are_those_of_the_recipe() -> None:
    data = blocks(walk(5_000), feature_set("founding-72"))
    rows = {name: block.stop - block.start for name, block in data.blocks.items()}
    labelled = 5_000 - 199 - 15
    assert rows["training"] == int(labelled * 0.7) - 15
    assert rows["calibration"] == int(labelled * 0.85) - int(labelled * 0.7) - 200 - 15
    assert rows["test"] == labelled - int(labelled * 0.85) - 200


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in {"src", "href"}]


def test_the_page_stands_alone_and_draws_every_feature() -> None:
    table = FeatureSet("own", "<b>mine</b>", {"up": "close / open", "flat": "close / close"}, {"part": "max(close - open, 0)"})
    market = walk(4_000)
    time = market.time + 60 * MINUTE * (np.arange(4_000) >= 1_500)
    gapped = Candles(time, market.open, market.high, market.low, market.close, market.volume)
    text = features_page(blocks(gapped, table))
    page = Page()
    page.feed(text)
    assert not page.links
    assert "script" not in page.tags
    assert page.tags.count("svg") == 1 + len(table)
    assert "&lt;b&gt;mine" in text
    assert "60 minutes have no candle, in 1 gaps, the longest of 60 minutes after" in text
    for word in ("close / open", "max(close - open, 0)", "scale-free"):
        assert word in text
