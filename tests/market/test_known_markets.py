from pathlib import Path

import numpy as np
import pytest

from crpbot.dataset.assemble import assemble
from crpbot.dataset.baselines import best_one_feature_rule
from crpbot.dataset.features.sets import feature_set
from crpbot.dataset.labels import LabelRule, classify, fit_theta
from crpbot.market.files import read_candles
from crpbot.market.sample import SAMPLE, Precision, pack, read_sample
from crpbot.market.synthetic import (
    MARKETS,
    level_noise_best_accuracy,
    level_noise_best_skill,
    make_market,
    planted_edge_best_accuracy,
    planted_edge_best_skill,
    random_walk_best_accuracy,
    volatile_best_accuracy,
)

HORIZON = 15


def labels(close: np.ndarray, share: float) -> tuple[np.ndarray, float]:
    moves = np.log(close[HORIZON:] / close[:-HORIZON])
    theta = float(np.quantile(np.abs(moves), share))
    return np.where(moves > theta, 2, np.where(moves < -theta, 0, 1)), theta


@pytest.mark.parametrize("name", MARKETS)
def test_the_same_seed_gives_the_same_candles_and_symbols_differ(name: str) -> None:
    once, again = (make_market(name, "BTC-USD", rows=500, seed=3) for _ in range(2))
    assert once.sha256 == again.sha256
    assert make_market(name, "BTC-USD", rows=500, seed=4).sha256 != once.sha256
    eth, btc = (np.diff(np.log(make_market(name, s, rows=5_000).close)) for s in ("ETH-USD", "BTC-USD"))
    assert abs(np.corrcoef(eth, btc)[0, 1]) < 0.06


@pytest.mark.parametrize("share", [0.0, 0.08, 0.3])
def test_the_best_rule_on_level_noise_reaches_the_computed_accuracy(share: float) -> None:
    """The best rule knows the level: say DOWN above it, UP below it, NEUTRAL near it where that is most probable."""
    market = make_market("level-noise", "BTC-USD", rows=400_000)
    y, theta = labels(market.close, share)
    z = (np.log(market.close) - np.log(60_000.0))[:-HORIZON] / 0.001
    t = theta / 0.001
    grid = np.linspace(-6, 6, 2_001)
    from statistics import NormalDist

    cdf = np.vectorize(NormalDist().cdf)
    up, down = 1 - cdf(grid + t), cdf(grid - t)
    best = np.stack([down, 1 - up - down, up]).argmax(axis=0)
    rule = best[np.clip(np.searchsorted(grid, z), 0, len(grid) - 1)]
    assert (rule == y).mean() == pytest.approx(level_noise_best_accuracy(share), abs=0.004)


def test_published_values_of_level_noise() -> None:
    assert level_noise_best_accuracy(0.0) == pytest.approx(0.75, abs=1e-6)
    assert level_noise_best_accuracy(0.08) == pytest.approx(0.708, abs=5e-4)


def test_nothing_foretells_the_random_walk() -> None:
    market = make_market("random-walk", "BTC-USD", rows=400_000)
    y, _ = labels(market.close, 0.08)
    reversion = np.where(market.close[HORIZON:-HORIZON] > market.close[: -2 * HORIZON], 0, 2)
    assert (reversion == y[HORIZON:]).mean() == pytest.approx(random_walk_best_accuracy(0.08), abs=0.01)


def test_highs_and_lows_of_the_walk_follow_the_brownian_bridge() -> None:
    """E[max] of a bridge from 0 to 0 with variance s² is s·√(π/8)."""
    market = make_market("random-walk", "BTC-USD", rows=300_000)
    log = {name: np.log(getattr(market, name)) for name in ("open", "high", "low", "close")}
    still = np.abs(log["close"] - log["open"]) < 2e-5
    wick = (log["high"] - np.maximum(log["open"], log["close"]))[still]
    assert wick.mean() == pytest.approx(0.0005 * np.sqrt(np.pi / 8), rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("symbol", SAMPLE)
def test_the_bundled_sample_is_the_exchange_s_to_the_last_bit(symbol: str, real_candles: Path) -> None:
    sample, source = read_sample(symbol), read_candles(real_candles / f"{symbol}.parquet")
    assert source[len(source) - len(sample) :].sha256 == sample.sha256


def test_the_sample_is_small_and_says_where_it_is_from() -> None:
    folder = Path(__import__("crpbot.market.sample", fromlist=["x"]).__file__).parent
    assert sum(file.stat().st_size for file in folder.glob("*.parquet")) < 16_000_000
    assert "does not cover" in (folder / "README.md").read_text()


def test_packing_refuses_to_round() -> None:
    with pytest.raises(ValueError, match="at most"):
        pack(make_market("random-walk", "BTC-USD", rows=10), Precision(price=2, volume=3))


PLANTED = [name for name in MARKETS if name.startswith("planted-edge")]
STEP = 0.0005


def shown(market, *, joint: bool) -> np.ndarray:
    """Return the direction that the candles betray."""
    wide = np.log(market.high / market.low) > 5.6 * STEP
    return np.where(wide == (market.volume > np.exp(2.0)) if joint else wide, 2, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTED)
def test_whoever_reads_the_candles_reaches_the_computed_accuracy_and_one_feature_may_not(name: str) -> None:
    market = make_market(name, "BTC-USD", rows=2_000_000)
    y, _ = labels(market.close, 0.08)
    best = MARKETS[name].best_accuracy(0.08)
    assert (shown(market, joint="joint" in name)[:-HORIZON] == y).mean() == pytest.approx(best, abs=0.0025)
    if "joint" in name:
        for alone in (np.log(market.high / market.low) > 5.6 * STEP, market.volume > np.exp(2.0)):
            assert (np.where(alone, 2, 0)[:-HORIZON] == y).mean() == pytest.approx(0.46, abs=0.0025)


@pytest.mark.slow
@pytest.mark.parametrize(("points", "share", "horizon"), [(3, 0.08, 15), (1, 0.3, 15), (3, 0.0, 5), (3, 0.08, 60)])
def test_the_accuracy_of_a_planted_edge_is_that_of_simulated_futures(points: int, share: float, horizon: int) -> None:
    """From a minute with the drift up, a million futures: how often each class comes."""
    from crpbot.market.synthetic import _TURN, _drift_of

    rng = np.random.default_rng(0)
    up, moves = np.ones(1_000_000, bool), rng.normal(0.0, np.sqrt(horizon), 1_000_000)
    for _ in range(horizon):
        moves += _drift_of(points) * np.where(up, 1.0, -1.0)
        up ^= rng.uniform(size=len(up)) < _TURN
    theta = np.quantile(np.abs(moves), share)
    classes = [(moves > theta).mean(), (moves < -theta).mean(), (np.abs(moves) <= theta).mean()]
    assert planted_edge_best_accuracy(share, points=points, horizon=horizon) == pytest.approx(max(classes), abs=0.002)


@pytest.mark.slow
@pytest.mark.parametrize(("points", "share", "horizon"), [(3, 0.08, 15), (10, 0.3, 15), (10, 0.0, 5), (10, 0.08, 60)])
def test_the_skill_of_a_planted_edge_is_that_of_simulated_labels(points: int, share: float, horizon: int) -> None:
    """Whoever sees the drift says how often UP came of the rows that moved with such a drift; a coin says one half."""
    from crpbot.market.synthetic import _TURN, _drift_of

    rng = np.random.default_rng(1)
    n_rows = 2_000_000
    began = rng.uniform(size=n_rows) < 0.5
    up, moves = began.copy(), rng.normal(0.0, np.sqrt(horizon), n_rows)
    for _ in range(horizon):
        moves += _drift_of(points) * np.where(up, 1.0, -1.0)
        up ^= rng.uniform(size=n_rows) < _TURN
    moved = np.abs(moves) > np.quantile(np.abs(moves), share)
    rose, state = moves[moved] > 0, began[moved]
    said = np.where(state, rose[state].mean(), rose[~state].mean())
    loss = -np.log(np.where(rose, said, 1 - said))
    best = planted_edge_best_skill(share, points=points, horizon=horizon)
    assert np.log(2) - loss.mean() == pytest.approx(best, abs=4 * loss.std() / np.sqrt(n_rows))
    assert best > 8 * loss.std() / np.sqrt(n_rows)  # so that the line above can fail
    for name in ("planted-edge", "planted-edge-joint"):
        assert MARKETS[name].best_skill(0.08) == planted_edge_best_skill(0.08, points=3)


@pytest.mark.parametrize("share", [0.0, 0.08, 0.3])
def test_the_skill_of_level_noise_is_that_of_whoever_knows_the_level(share: float) -> None:
    market = make_market("level-noise", "BTC-USD", rows=400_000)
    y, theta = labels(market.close, share)
    z, t = (np.log(market.close) - np.log(60_000.0))[:-HORIZON] / 0.001, theta / 0.001
    grid = np.linspace(-6, 6, 2_001)
    from statistics import NormalDist

    cdf = np.vectorize(NormalDist().cdf)
    up, down = np.interp(z, grid, 1 - cdf(grid + t)), np.interp(z, grid, cdf(grid - t))
    moved = y != 1
    loss = -np.log(np.where(y == 2, up, down) / (up + down))[moved]
    assert np.log(2) - loss.mean() == pytest.approx(level_noise_best_skill(share), abs=0.004)


@pytest.mark.parametrize("name", ["random-walk", "volatile"])
def test_where_nothing_foretells_direction_there_is_no_skill(name: str) -> None:
    assert MARKETS[name].best_skill(0.08) == 0.0


@pytest.mark.slow
def test_the_best_feature_alone_finds_the_edge_that_one_feature_shows_and_not_the_other() -> None:
    rule = LabelRule(kind="horizon", horizon=HORIZON)
    for name, found in (("planted-edge", "high_low_ratio"), ("planted-edge-joint", None)):
        data = assemble(make_market(name, "BTC-USD", rows=150_000), feature_set("founding-72"), rule)
        y = classify(data.moves, fit_theta(data.moves, rule, neutral_share=0.08))
        best = best_one_feature_rule(data.x, y, data.names)
        assert (best.feature == found) == (found is not None)
        assert (best.training_accuracy > 0.48) == (found is not None)


@pytest.mark.parametrize("share", [0.08, 0.3])
def test_on_the_volatile_market_the_regime_is_all_there_is_to_know(share: float) -> None:
    """Volatility clusters; direction does not; whoever knows the regime says NEUTRAL where it pays."""
    market = make_market("volatile", "BTC-USD", rows=1_000_000)
    move = np.diff(np.log(market.close))
    size = np.abs(move)
    assert np.corrcoef(size[:-30], size[30:])[0, 1] > 0.2
    assert abs(np.corrcoef(move[:-1], move[1:])[0, 1]) < 0.01
    y, _ = labels(market.close, share)
    loud = np.convolve(np.log(market.high / market.low), np.ones(5) / 5)[: len(market)][:-HORIZON] > 1.5 * STEP
    said = np.where(loud | (np.mean(y[~loud] == 1) < np.mean(y[~loud] == 2)), 2, 1)
    assert (said == y).mean() <= volatile_best_accuracy(share) + 0.006
    assert (said == y).mean() == pytest.approx(volatile_best_accuracy(share), abs=0.02)
    assert volatile_best_accuracy(0.08) == pytest.approx(0.46, abs=1e-6)
    assert volatile_best_accuracy(0.3) > 0.43
