import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from crpbot.quality.order import HOME, best_assignment


@given(st.integers(1, 40), st.integers(0, 2**32 - 1), st.sampled_from(["even", "ties", "capped"]))
def test_the_assignment_is_as_good_as_scipys(n: int, seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    distance = rng.random((n, n)) * 100 if kind == "even" else rng.integers(0, 4, (n, n)).astype(float)
    distance = np.minimum(distance * 60, 100.0) if kind == "capped" else distance
    found = best_assignment(distance)
    cost = distance - HOME * np.eye(n)
    np.testing.assert_array_equal(np.sort(found), np.arange(n))
    np.testing.assert_allclose(cost[np.arange(n), found].sum(), cost[linear_sum_assignment(cost)].sum(), atol=1e-9)


def test_every_permutation_is_found_again() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 72):
        order = rng.permutation(n)
        distance = np.full((n, n), 100.0)
        distance[np.arange(n), order] = 0.0
        np.testing.assert_array_equal(best_assignment(distance), order)
