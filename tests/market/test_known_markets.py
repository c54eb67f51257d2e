from pathlib import Path

import numpy as np
import pytest

from crpbot.market.files import read_candles
from crpbot.market.sample import SAMPLE, Precision, pack, read_sample
from crpbot.market.synthetic import MARKETS, level_noise_best_accuracy, make_market, random_walk_best_accuracy

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
