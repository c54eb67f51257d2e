"""Truth: what cannot be foreseen is refused, what can be is found, and the founding disaster is recognized."""

import dataclasses
from pathlib import Path

import pytest
from models import quick

from crpbot.factory import make_model, train_model
from crpbot.market.files import read_candles
from crpbot.market.synthetic import level_noise_best_accuracy, make_market
from crpbot.model.recipe import load_recipe
from crpbot.model.subject import subject_of
from crpbot.quality.diagnosis import diagnose_subject
from crpbot.quality.gates import judge
from crpbot.quality.report.data import Judgement, weigh

SKILL = {"beats-majority", "foretells-direction"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_random_walk_is_refused_for_want_of_skill(seed: int) -> None:
    candles = make_market("random-walk", "BTC-USD", rows=40_000, seed=seed)
    checkpoint = make_model("BTC-USD", candles, quick(), source="synthetic", seed=seed)[0]
    diagnosis = diagnose_subject(
        subject_of(checkpoint), candles, path="m", sha256="0", source="synthetic", label_recipe=load_recipe("v7")
    )
    assert {gate.name for gate in judge(diagnosis.metrics, "market").failed} & SKILL
    assert "no-skill" in [cause.code for cause in weigh(diagnosis, "market").causes]


@pytest.mark.slow
def test_level_noise_meets_the_whole_founding_table(tmp_path: Path) -> None:
    candles = make_market("level-noise", "BTC-USD")
    result = train_model(
        "BTC-USD", candles, load_recipe("v7"), source="synthetic", gates="seed", seed=0, folder=tmp_path / "BTC-USD"
    )
    assert [gate.words for gate in result.verdict.failed] == []
    assert result.diagnosis.metrics.accuracy == pytest.approx(level_noise_best_accuracy(0.08), abs=0.02)


@pytest.fixture(scope="module")
def lost(real_candles: Path, tmp_path_factory: pytest.TempPathFactory) -> Judgement:
    """V7 on real candles with its scaler lost, trained for two epochs."""
    candles = read_candles(real_candles / "BTC-USD.parquet")[-400_000:]
    recipe = load_recipe("v7-lost-scaler")
    recipe = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, epochs=2, batch_size=256))
    return train_model("BTC-USD", candles, recipe, source="file", seed=0, folder=tmp_path_factory.mktemp("lost") / "BTC-USD")


@pytest.mark.slow
def test_the_founding_disaster_comes_back_and_is_recognized(lost: Judgement) -> None:
    m = lost.diagnosis.metrics
    assert m.logit_abs_max > 1_000
    assert m.confidence_over_99 > 0.97
    assert max(m.predicted_share) > 0.97
    assert lost.causes[0].code == "lost-normalizer"
    assert lost.causes[0].what_if.after <= 20
    assert not lost.verdict.passed


@pytest.mark.slow
def test_a_sound_model_of_real_candles_has_no_critical_fault_of_form(real_candles: Path) -> None:
    """Whether it has skill is the market's business; its form is ours. It fits other months and its perpetual's spot too."""
    candles = read_candles(real_candles / "SOL-USD.parquet")
    checkpoint = make_model("SOL-USD", candles, quick(), source="file", seed=0)[0]
    diagnosis = diagnose_subject(
        subject_of(checkpoint), candles, path="m", sha256="0", source="file", label_recipe=load_recipe("v7")
    )
    failed = {gate.name for gate in judge(diagnosis.metrics, "market").failed}
    assert not failed & {
        "finite-weights",
        "normalizer-present",
        "normalizer-fits",
        "logit-range",
        "overconfidence",
        "calibration",
    }
    assert "lost-normalizer" not in [cause.code for cause in weigh(diagnosis, "market").causes]
