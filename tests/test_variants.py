"""Recipes that see or foretell something else go the whole way: training, file, diagnosis, signal."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from models import market, quick, several

from crpbot.dataset.labels import classify, label_digest, label_moves
from crpbot.factory import diagnose
from crpbot.making.model import make_model
from crpbot.market.candles import MINUTE
from crpbot.model.checkpoint import Checkpoint
from crpbot.model.loading import load_checkpoint
from crpbot.model.pt_file import save_checkpoint
from crpbot.model.recipe import Recipe
from crpbot.signals.signal import newest_signal

pytestmark = pytest.mark.slow  # each trains a network


def own(recipe: Recipe) -> Recipe:
    features = dataclasses.replace(
        recipe.features,
        set="own",
        formulas={"against_5": "close / mean(close, 5) - 1", "against_50": "close / mean(close, 50) - 1"},
    )
    return dataclasses.replace(recipe, features=features)


VARIANTS = {
    "relative": quick("v7-relative"),
    "barrier": quick("v7-barrier"),
    "own": own(quick("v7")),
    "ensemble": several(quick("v7")),
    "ensemble-by-fold": several(quick("v7"), vary="fold"),
}


@pytest.fixture(scope="module", params=VARIANTS)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Checkpoint]:
    made, _, probe = make_model("BTC-USD", market(), VARIANTS[request.param], source="synthetic", seed=0)
    path = tmp_path_factory.mktemp(request.param) / "model.pt"
    save_checkpoint(made, path, probe=probe)
    return path, load_checkpoint(path)


def test_the_file_knows_its_features_and_its_label(checkpoint: tuple[Path, Checkpoint]) -> None:
    _, loaded = checkpoint
    assert loaded.recipe in VARIANTS.values()
    assert loaded.features == loaded.feature_set.names == loaded.recipe.features.table.names
    assert loaded.label.rule == loaded.recipe.label.rule


def test_the_digest_is_that_of_the_labels_that_the_fit_has_seen(checkpoint: tuple[Path, Checkpoint]) -> None:
    _, loaded = checkpoint
    candles, label, origin = market(), loaded.label, loaded.origin
    moves, known = label_moves(candles, label.rule)
    rows = np.flatnonzero(np.isfinite(moves))
    training = rows[candles.time[rows] >= origin.training_from][: origin.training_rows]
    calibration = rows[candles.time[rows] >= origin.calibration_from][: origin.calibration_rows]
    seen = np.r_[training, calibration]
    assert known[training].max() < origin.calibration_from
    assert known[calibration].max() == origin.fitted_until < origin.unseen_from
    assert label_digest(candles.time[seen], classify(moves[seen], label.theta)) == label.sha256


def test_it_is_judged_and_speaks(checkpoint: tuple[Path, Checkpoint]) -> None:
    path, loaded = checkpoint
    candles = market()
    judged = diagnose(path, candles, source="synthetic")
    assert judged.diagnosis.metrics.accuracy > judged.diagnosis.metrics.majority_accuracy
    assert judged.diagnosis.metrics.effective_rows < judged.diagnosis.data.rows
    signal = newest_signal(loaded, candles, stage="shadow", now=int(candles.time[-1]) + MINUTE)
    assert sum(signal.probabilities) == pytest.approx(1)
    several = loaded.recipe.ensemble.members > 1
    assert (signal.disagreement is not None) == (judged.diagnosis.metrics.disagreement_mean is not None) == several
    assert judged.diagnosis.model.architecture.startswith("3 x ") == several
