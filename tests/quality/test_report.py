"""The report: what its pictures show recomputes from the predictions, and nothing in a file can break or reach it."""

import dataclasses
import json
import math
import re
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import market, quick
from sklearn.calibration import calibration_curve

from crpbot.making.model import make_model
from crpbot.market.candles import MINUTE
from crpbot.model.calibration import softmax
from crpbot.model.checkpoint import Prediction
from crpbot.model.subject import subject_of
from crpbot.quality.diagnosis import diagnose_subject
from crpbot.quality.report.curves import class_reliability, confidence_histogram, confusion, logit_histogram, over_time
from crpbot.quality.report.data import Judgement, weigh
from crpbot.quality.report.html import comparison, drawn, report_page, section
from crpbot.quality.report.page import STYLE
from crpbot.quality.report.pictures import sound
from crpbot.quality.rows import Judged

EVIL = "<script>alert(1)</script>&\"'<b>"


def rows(n: int, *, seed: int = 0, size: float = 1.0) -> Judged:
    rng = np.random.default_rng(seed)
    logits = size * rng.normal(size=(n, 3))
    time = (28_000_000 + np.arange(n)) * MINUTE
    p = softmax(logits)
    y = (rng.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    return Judged(np.zeros((n, 1)), y, time, time + 15 * MINUTE, Prediction(logits, p), np.full(n, np.nan))


@cache
def judgement() -> Judgement:
    """Return a tiny network, judged."""
    recipe = quick(epochs=1)
    recipe = dataclasses.replace(recipe, network=dataclasses.replace(recipe.network, hidden=(8, 4)))
    checkpoint, fitted, _ = make_model("BTC-USD", market(rows=5_000), recipe, source="synthetic", seed=0)
    diagnosis = diagnose_subject(
        subject_of(checkpoint), market(rows=5_000), path="m.pt", sha256="0", source="synthetic", label_recipe=recipe
    )
    return weigh(diagnosis, "market", fitted.history)


@cache
def plain_text() -> str:
    return judgement().to_json()


def plain() -> dict[str, Any]:
    return json.loads(plain_text())


@given(st.integers(200, 1_500), st.integers(0, 9), st.floats(0, 300))
def test_what_the_pictures_show_recomputes_from_the_predictions(n: int, seed: int, size: float) -> None:
    judged = rows(n, seed=seed, size=size)
    p, y = judged.prediction.probabilities, judged.y
    said = p.argmax(axis=1)
    counts = confusion(judged)
    assert [[((y == i) & (said == j)).sum() for j in range(3)] for i in range(3)] == [list(row) for row in counts]
    for histogram in (confidence_histogram(p), logit_histogram(judged.prediction.logits)):
        assert len(histogram.edges) == 61
        assert all(sum(shares) == pytest.approx(1) for shares in histogram.shares.values())
    spans = over_time(judged)
    assert sum(span.rows for span in spans) == n
    assert sum(span.rows * span.accuracy for span in spans) / n == pytest.approx((said == y).mean())
    assert all(0 <= span.ece <= 1 and span.majority >= 1 / 3 for span in spans)


def test_the_reliability_of_a_class_is_that_of_scikit_learn() -> None:
    judged = rows(3_000)  # so many that ten bins are of one size
    for number, curve in enumerate(class_reliability(judged, 10).values()):
        came, said = calibration_curve(
            judged.y == number, judged.prediction.probabilities[:, number], n_bins=10, strategy="quantile"
        )
        np.testing.assert_allclose(curve.came, came, atol=0.01)
        np.testing.assert_allclose(curve.said, said, atol=0.003)
        assert sum(curve.rows) == 3_000


def test_errors_by_group_are_those_of_each_group_alone() -> None:
    judged = rows(6_000)
    group, x = np.arange(6_000) * 4 // 6_000, (judged.y == 0).astype(float)
    errors = judged.resamples.errors_by(x, group, 4)
    alone = [judged.resamples.mean(x, rows=group == number).error for number in range(4)]
    np.testing.assert_allclose(errors, alone, rtol=1e-9)
    few = dataclasses.replace(judged.resamples, blocks=4.0)
    assert np.isnan(few.errors_by(x, group, 4)).all()


def test_drift_and_layers_are_named_with_what_they_are_compared_with() -> None:
    curves = plain()["curves"]
    assert curves["drift_against"] == "training rows"
    assert len(curves["drift"]) == 12
    assert [layer["units"] for layer in curves["layers"]] == [8, 4]
    assert [epoch["epoch"] for epoch in curves["training"]] == [1]
    assert len(json.dumps(curves)) < 40_000


def test_the_page_tells_first_the_verdict_then_why_then_pictures_then_tables() -> None:
    page = report_page([judgement()])
    places = [page.index(mark) for mark in ('class="badge"', "<h3>Why", "<figure", "<h3>Gates", "<h3>What was measured")]
    assert places == sorted(places)
    for title in (
        "Reliability", "Reliability by class", "Confidence", "Logits", "Confusion", "Accuracy over time", "Calibration over time",
        "Units by layer", "Activations by layer", "Feature drift", "Training",
    ):  # fmt: skip
        assert f"<b>{title}.</b>" in page
    assert f"crpbot explain {judgement().causes[0].code}" in page
    assert page.count('role="img"') == page.count("<svg")
    assert page.count('tabindex="0" role="region"') == page.count('class="wide"')


def test_a_page_is_drawn_from_its_json_alone() -> None:
    assert drawn([plain()]) == report_page([judgement()])
    assert report_page([judgement().settled()]) == report_page([judgement()])


def test_six_models_stand_side_by_side_in_less_than_a_megabyte() -> None:
    page = drawn([plain()] * 6)
    assert len(page.encode()) < 1_000_000
    assert page.index("founding document's table") < page.index("<figure")
    for number in range(1, 7):
        assert page.count(f'id="model-{number}"') == 1
        assert page.count(f'href="#model-{number}"') == 2
    assert "BTC-USD v7 (6)" in page


def evil(value: object) -> object:
    """Return plain types with a script in the place of each text that is neither a key nor a choice."""
    if isinstance(value, str):
        return EVIL
    if isinstance(value, dict):
        return {key: evil(item) for key, item in value.items()}
    return [evil(item) for item in value] if isinstance(value, list) else value


def test_no_text_of_a_file_becomes_markup_anywhere() -> None:
    bad = evil(plain())
    bad["causes"] = [
        {
            "code": EVIL, "severity": EVIL, "message": EVIL, "evidence": {EVIL: 1.0},
            "what_if": {
                "remedy": EVIL, "metric": "log_loss",
                "measures": {
                    "log_loss": {"before": 2.0, "after": 1.0}, "predicted_share": {"before": {EVIL: 0.5}, "after": {EVIL: 1}},
                },
            },
        }
    ] * 6  # fmt: skip
    bad["regimes"] = [{"name": EVIL, "rows": 300}]
    bad["curves"]["confidence"]["shares"] = {EVIL: bad["curves"]["confidence"]["shares"]["all"]}
    page = drawn([bad, bad]) + drawn([bad | {"passed": True}])
    assert "<script" not in page
    assert "<b>alert" not in page
    assert EVIL not in page
    assert page.count("&lt;script&gt;") > 50


def test_fragments_hold_no_style_no_script_and_no_address() -> None:
    fragments = section(plain()) + comparison([plain(), plain()])
    for word in ("style=", "<style", "<script", "http", "onload", "<h1", "<h2", "id="):
        assert word not in fragments
    assert "http" not in STYLE


PLACES = st.lists(st.integers(0, 200), min_size=1, max_size=8)
JUNK = st.one_of(
    st.none(), st.booleans(), st.text(max_size=5), st.integers(), st.floats(), st.just(10**400), st.just("\ud800"),
    st.lists(st.floats(), max_size=3), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip


def spoil(value: Any, places: list[int], junk: object) -> None:
    """Put `junk` somewhere into plain types."""
    for depth, place in enumerate(places, 1):
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = keys[place % len(keys)]
        inner = value[key]
        if depth == len(places) or not isinstance(inner, dict | list) or not inner:
            value[key] = junk
            return
        value = inner


@settings(max_examples=60)
@given(st.lists(st.tuples(PLACES, JUNK), min_size=1, max_size=6))
def test_a_damaged_file_is_drawn_as_far_as_it_goes(damage: list[tuple[list[int], object]]) -> None:
    broken = plain()
    for places, junk in damage:
        spoil(broken, places, junk)
    drawn([broken, plain()]).encode()
    section(broken)


@pytest.mark.parametrize("gone", [("curves",), ("words",), ("curves", "words"), ("causes", "gates", "metrics", "regimes")])
def test_an_older_file_leaves_out_what_it_does_not_have(gone: tuple[str, ...]) -> None:
    old = {key: value for key, value in plain().items() if key not in gone}
    page = drawn([old])
    assert "BTC-USD v7" in page
    assert ("<b>Reliability.</b>" in page) is ("curves" not in gone)
    drawn([{}, old])


def test_numbers_that_are_not_there_are_not_drawn() -> None:
    empty = json.loads(plain_text(), parse_float=lambda _: None)
    loud = plain()
    loud["curves"]["over_time"][0]["error"] = math.nan
    loud["curves"]["reliability"]["all"]["error"][0] = math.inf
    loud["metrics"]["logit_max"] = 10**400
    loud["curves"]["drift"][0]["shift"], loud["curves"]["drift"][1]["shift"] = 1.7e308, -1.7e308
    for page in (section(empty), section(loud)):
        assert not re.findall('="[^"]*(?:nan|inf)[ ,"][^"]*"', page)


def test_the_sound_model_in_grey_is_a_sound_one() -> None:
    levels = np.diff(sound()["confidence"]), np.diff(sound()["logits"])
    assert all((steps >= 0).all() for steps in levels)
    assert max(map(abs, sound()["logits"])) < 10
    assert "that it had not seen" in sound()["about"]
