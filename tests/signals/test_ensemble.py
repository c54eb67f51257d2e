"""One voice of several models, and the side that follows."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crpbot.dataset.labels import DOWN, NEUTRAL, UP, Exits, LabelRule
from crpbot.errors import PlanError
from crpbot.model.choices import EnsembleChoice
from crpbot.model.recipe import load_recipe
from crpbot.signals.ensemble import average, most_disagreement, opinion, same_question, spoken, widest

HORIZON = LabelRule(kind="horizon", horizon=15)


def probabilities(rows: int) -> st.SearchStrategy[np.ndarray]:
    """Draw rows of three probabilities, with ties and certainties among them."""
    numbers = hnp.arrays(np.float64, (rows, 3), elements=st.sampled_from([0.0, 1.0, 2.0]) | st.floats(1e-3, 10))
    return numbers.map(lambda x: (x + 1e-12) / (x + 1e-12).sum(axis=1, keepdims=True))


@given(probabilities(20), st.sampled_from([0.34, 0.5, 0.6, 0.9]))
def test_the_side_is_the_more_probable_one_with_its_very_own_probability(p: np.ndarray, threshold: float) -> None:
    sign, confidence = spoken(p, threshold=threshold)
    for row, side, sure in zip(p, sign, confidence, strict=True):
        found = opinion(row, threshold=threshold)
        assert found.confidence == max(row[DOWN], row[UP])
        assert (found.side == "LONG") == (row[UP] > row[DOWN])
        assert (side == 0) == bool(found.reason)
        if side:
            assert (side, sure) == (1 if found.side == "LONG" else -1, found.confidence)
            assert row[UP if side > 0 else DOWN] == sure > row[NEUTRAL]
            assert sure >= threshold


@given(probabilities(20), hnp.arrays(np.float64, 20, elements=st.sampled_from([0.0, 0.05, np.nextafter(0.05, 1), 0.3])))
def test_members_that_disagree_more_than_is_allowed_silence_a_row_and_no_other(p: np.ndarray, apart: np.ndarray) -> None:
    free, confidence = spoken(p, threshold=0.5)
    sign, same = spoken(p, threshold=0.5, disagreement=apart, most=0.05)
    np.testing.assert_array_equal(sign, np.where(apart > 0.05, 0, free))
    np.testing.assert_array_equal(same, confidence)
    for row, one, side in zip(p, apart.tolist(), sign, strict=True):
        found = opinion(row, threshold=0.5, disagreement=one, most=0.05)
        assert (side == 0) == bool(found.reason)
        assert ("its members disagree" in found.reason) == (not opinion(row, threshold=0.5).reason and one > 0.05)


def test_of_several_models_the_strictest_and_the_widest_count() -> None:
    one = load_recipe("v7")
    strict, lax = (
        dataclasses.replace(one, ensemble=EnsembleChoice(members=members, most_disagreement=most))
        for members, most in ((2, 0.04), (3, 0.2))
    )
    alone = dataclasses.replace(one, ensemble=EnsembleChoice(most_disagreement=0.01))  # it has nobody to disagree with
    assert most_disagreement([alone, None]) == 0.5
    assert most_disagreement([alone, lax, strict, None]) == 0.04
    assert widest([None, None]) is None
    assert widest([None, np.array([0.1, 0.2]), np.array([0.3, 0.1])]).tolist() == [0.3, 0.2]


def test_the_founding_bug_one_less_up_is_not_a_short() -> None:
    """90 % NEUTRAL and 2 % UP was once a short with 98 %; 45 % UP is no short with 55 % either."""
    for row in ((0.08, 0.90, 0.02), (0.30, 0.25, 0.45)):
        founding = 1 - row[UP]
        assert opinion(row, threshold=0.5).reason
        assert opinion(row, threshold=0.5).confidence < founding
        assert spoken(np.array([row]), threshold=0.5)[0].tolist() == [0]
    short = opinion((0.62, 0.33, 0.05))
    assert (short.side, short.confidence, short.reason) == ("SHORT", 0.62, "")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ((0.1, 0.8, 0.1), "NEUTRAL is the most probable, 80.0%"),
        ((0.5, 0.0, 0.5), "DOWN and UP are equally probable, 50.0%"),
        ((0.3, 0.15, 0.55), "its confidence 55.0% is below 60%"),
    ],
)
def test_no_signal_says_why(row: tuple[float, ...], reason: str) -> None:
    assert opinion(row).reason == reason


def test_a_veto_is_told_in_points() -> None:
    found = opinion((0.1, 0.1, 0.8), disagreement=0.061, most=0.04)
    assert found.reason == "its members disagree by 6.1 points, at most 4.0 are allowed"


def test_a_row_that_is_not_finite_says_nothing() -> None:
    assert spoken(np.array([[np.nan, 0.1, 0.9], [0.1, 0.0, np.inf]]), threshold=0.34)[0].tolist() == [0, 0]


@given(st.lists(probabilities(5), min_size=1, max_size=4), st.data())
def test_an_average_lies_between_its_members_and_only_the_proportions_of_weights_matter(
    members: list[np.ndarray], data: st.DataObject
) -> None:
    weights = data.draw(st.lists(st.floats(0.1, 10), min_size=len(members), max_size=len(members)))
    found = average(members, weights=weights)
    stacked = np.stack(members)
    assert (found >= stacked.min(axis=0) - 1e-12).all()
    assert (found <= stacked.max(axis=0) + 1e-12).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(average(members, weights=[7 * one for one in weights]), found)
    plain = sum(w * m for w, m in zip(weights, members, strict=True)) / sum(weights)
    np.testing.assert_allclose(found, plain)
    np.testing.assert_allclose(average([members[0]] * 3), members[0])


def test_a_broken_member_is_not_outvoted() -> None:
    assert np.isnan(average([np.full((1, 3), 1 / 3), np.full((1, 3), np.nan)])).all()


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [1.0, float("nan")]])
def test_weights_that_do_not_fit_are_refused(weights: list[float]) -> None:
    with pytest.raises(PlanError, match="weights must be"):
        average([np.full((2, 3), 1 / 3)] * 2, weights=weights)


@pytest.mark.parametrize("members", [[], [np.ones((2, 3)), np.ones((3, 3))], [np.ones((2, 2))]])
def test_members_that_do_not_fit_are_refused(members: list[np.ndarray]) -> None:
    with pytest.raises(PlanError, match="same rows"):
        average(members)


def test_only_models_of_one_market_and_one_rule_may_speak_as_one() -> None:
    barrier = LabelRule(kind="triple-barrier", horizon=15)
    same_question([("BTC-USD", HORIZON), ("BTC-USD", LabelRule(kind="horizon", horizon=15, exits=Exits(stop=9.0)))])
    for other in (
        LabelRule(kind="horizon", horizon=30),
        barrier,
    ):
        with pytest.raises(PlanError, match="labels of the same rule"):
            same_question([("BTC-USD", HORIZON), ("BTC-USD", other)])
    with pytest.raises(PlanError, match="labels of the same rule"):
        same_question([("BTC-USD", barrier), ("BTC-USD", LabelRule(kind="triple-barrier", horizon=15, exits=Exits(stop=9.0)))])
    with pytest.raises(PlanError, match="one market, found BTC-USD and ETH-USD"):
        same_question([("BTC-USD", HORIZON), ("ETH-USD", HORIZON)])
    with pytest.raises(PlanError, match="at least one model"):
        same_question([])
