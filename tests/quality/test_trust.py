"""Is the confidence still honest? By simulation: how often it is wrongly doubted, and how soon rightly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from strategies import START

from crpbot.market.candles import MINUTE
from crpbot.quality.reliability import normal_quantile
from crpbot.quality.trust import ALPHA, BETS, MARGIN, Predictions, log_evidence, thin, trust, wilson

HORIZON = 15
ENOUGH = np.log(1 / ALPHA)


def separate(confidence: np.ndarray, hit: np.ndarray) -> Predictions:
    """Return predictions whose labels do not overlap."""
    candle = START + MINUTE * HORIZON * np.arange(len(hit))
    return Predictions(candle=candle, known=candle + (1 + HORIZON) * MINUTE, confidence=confidence, hit=hit)


def ever(confidence: np.ndarray, chance: np.ndarray, seed: int) -> np.ndarray:
    """Return for each run, a row, after how many predictions the alarm comes; 0 where it never does."""
    rng = np.random.default_rng(seed)
    found = [log_evidence(one, rng.random(len(one)) < true) >= ENOUGH for one, true in zip(confidence, chance, strict=True)]
    return np.array([int(one.argmax()) + 1 if one.any() else 0 for one in found])


def confidences(runs: int, n: int, low: float, high: float, seed: int = 9) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, (runs, n))


@pytest.mark.parametrize("low", [0.34, 0.6, 0.9])
@pytest.mark.parametrize("short", [0.0, MARGIN])
def test_an_honest_model_is_hardly_ever_doubted_however_often_one_looks(low: float, short: float) -> None:
    """Calibrated, and at the very edge of what is granted; a look after each of 3,000 outcomes, in 1,000 lives."""
    said = confidences(1_000, 3_000, low, low + 0.08)
    alarms = int((ever(said, said - short, seed=3) > 0).sum())
    assert alarms <= binom.ppf(0.9999, 1_000, ALPHA)


def test_a_dependent_but_honest_model_is_hardly_ever_doubted() -> None:
    """Confidence may depend on all that came before, in the worst way: bold after a loss, while hits come in streaks."""
    rng, alarms = np.random.default_rng(5), 0
    for _ in range(300):
        last, said, hit = True, [], []
        for _ in range(1_000):
            said.append(0.6 if last else 0.9)
            last = rng.random() < said[-1] - MARGIN
            hit.append(last)
        alarms += trust(separate(np.array(said), np.array(hit))).alarm
    assert alarms <= binom.ppf(0.9999, 300, ALPHA)


@pytest.mark.parametrize("low", [0.55, 0.66, 0.85])
def test_fifteen_points_too_many_are_found_within_700_predictions(low: float) -> None:
    """Seven days of checks: in 95 lives of 100, and in the median within 350."""
    said = confidences(400, 700, low, low + 0.08)
    after = ever(said, said - 0.15, seed=4)
    found = after > 0
    assert found.sum() >= binom.ppf(0.0001, 400, 0.95)
    assert np.median(np.where(found, after, 701)) <= 350


def test_looking_again_and_again_at_an_interval_would_raise_false_alarms() -> None:
    """Why this test and not a 99 % interval: after each of 2,000 outcomes, that doubts an honest model far too often."""
    hits = np.cumsum(np.random.default_rng(8).random((300, 2_000)) < 0.7, axis=1)
    n = np.arange(1, 2_001)
    z = (hits - 0.7 * n) / np.sqrt(0.21 * n)
    assert (z[:, 30:] < -2.326).any(axis=1).mean() > 0.05


def spoken_every_minute(seed: int, minutes: int = 4_000) -> Predictions:
    """Draw a calibrated model that speaks each minute, of the move over the next 15: a walk that nobody can foresee."""
    rng = np.random.default_rng(seed)
    walk = np.concatenate([[0.0], np.cumsum(rng.standard_normal(minutes + HORIZON))])
    moves = (walk[HORIZON:] - walk[:-HORIZON])[:minutes] / np.sqrt(HORIZON)
    candle = START + MINUTE * np.arange(minutes)
    hit = moves <= normal_quantile(np.array([0.65]))[0]
    return Predictions(candle=candle, known=candle + (1 + HORIZON) * MINUTE, confidence=np.full(minutes, 0.65), hit=hit)


def test_overlapping_predictions_are_thinned_and_would_raise_false_alarms_otherwise() -> None:
    lives = [spoken_every_minute(seed) for seed in range(300)]
    assert np.mean([one.hit.mean() for one in lives]) == pytest.approx(0.65, abs=0.01)
    doubted = sum(trust(one).alarm for one in lives)
    naive = sum(bool((log_evidence(one.confidence, one.hit) >= ENOUGH).any()) for one in lives)
    assert doubted <= binom.ppf(0.9999, 300, ALPHA)
    assert naive > 100  # of 300


@given(minutes=st.lists(st.integers(0, 50), unique=True, max_size=40).map(sorted), lasts=st.integers(1, 20))
def test_what_counts_never_overlaps_and_nothing_else_would_fit_between(minutes: list[int], lasts: int) -> None:
    candle = START + MINUTE * np.array(minutes, np.int64)
    known = candle + (1 + lasts) * MINUTE
    kept = thin(Predictions(candle=candle, known=known, confidence=np.ones(len(candle)), hit=np.ones(len(candle), bool)))
    assert (candle[kept][1:] + MINUTE >= known[kept][:-1]).all()
    for row in set(range(len(candle))) - set(kept.tolist()):
        before = kept[kept < row]
        assert len(before)
        assert candle[row] + MINUTE < known[before[-1]]
    cut = len(candle) // 2  # what counts does not change by what comes later
    early = thin(Predictions(candle=candle[:cut], known=known[:cut], confidence=np.ones(cut), hit=np.ones(cut, bool)))
    assert early.tolist() == kept[kept < cut].tolist()


@given(
    said=st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30),
    margin=st.floats(0, 0.3),
)
def test_the_evidence_is_the_mean_of_the_bets(said: list[tuple[float, bool]], margin: float) -> None:
    confidence, hit = np.array([one for one, _ in said]), np.array([one for _, one in said])
    capital = [np.prod([1 + bet * (max(c - margin, 0) - y) for c, y in said]) for bet in BETS]
    assert min(1 + bet * (0 - 1) for bet in BETS) >= 0.2 - 1e-12
    assert np.exp(log_evidence(confidence, hit, margin=margin)[-1]) == pytest.approx(np.mean(capital), rel=1e-9)


def test_an_alarm_is_not_taken_back() -> None:
    hit = np.concatenate([np.zeros(30, bool), np.ones(5_000, bool)])
    found = trust(separate(np.full(5_030, 0.7), hit))
    assert (found.alarm, found.alarmed_at) == (True, 15)  # (1 + 0.8 · 0.65)^15 / 4 is the first above 100
    assert found.came_true == pytest.approx(5_000 / 5_030)


def test_it_is_said_in_words() -> None:
    rng = np.random.default_rng(0)
    said = np.full(600, 0.71)
    bad = trust(separate(said, rng.permutation(np.arange(600) < 330)))
    assert bad.words == (
        f"said 71.0 %, came true 55.0 % (51.0 % to 58.9 %) of 600; that is more than 5 points less than it says: evidence "
        f"{bad.evidence:,.3g}, and 100 is enough, reached after {bad.alarmed_at:,}"
    )
    good = trust(separate(said, rng.permutation(np.arange(600) < 420)))
    assert good.words.startswith(
        "said 71.0 %, came true 70.0 % (66.2 % to 73.5 %) of 600; not shown to be off by more than 5 points"
    )
    nobody = trust(separate(np.empty(0), np.empty(0, bool)))
    assert (nobody.words, nobody.n, nobody.alarm, nobody.evidence) == ("nothing that was said is known yet", 0, False, 1.0)
    assert trust(spoken_every_minute(1)).given == 4_000
    assert trust(spoken_every_minute(1)).n == 267


@pytest.mark.parametrize(("true", "n"), [(0, 5), (5, 5), (8, 10), (330, 600)])
def test_the_interval_is_that_of_scipy(true: int, n: int) -> None:
    from scipy.stats import binomtest

    wanted = binomtest(true, n).proportion_ci(0.95, method="wilson")
    assert wilson(true, n) == pytest.approx((wanted.low, wanted.high), abs=1e-6)
