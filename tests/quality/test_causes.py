"""The right cause for every fault, none for a sound model, and the proof behind it."""

import copy
import dataclasses
import io
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from faults import FAULTS, Fault, damaged, founding_payload
from models import market, model, quick
from strategies import walk

import crpbot
from crpbot.dataset.features.compute import compute_features
from crpbot.dataset.features.program import PRICE
from crpbot.factory import make_model
from crpbot.market.files import read_candles
from crpbot.market.synthetic import make_market
from crpbot.model.archive import read_archive
from crpbot.model.calibration import softmax
from crpbot.model.checkpoint import Checkpoint
from crpbot.model.loading import ModelFile
from crpbot.model.network import Normalizer
from crpbot.model.subject import subject_of
from crpbot.quality.causes.find import find_causes
from crpbot.quality.causes.skill import overfit
from crpbot.quality.causes.table import CAUSES, FOUNDING_CAUSES
from crpbot.quality.diagnosis import Diagnosis, diagnose_subject
from crpbot.quality.experiment import Experiment, experiment_of
from crpbot.quality.layers import measure_layers, measure_pushes
from crpbot.quality.order import best_assignment, statistical_distance
from crpbot.quality.report.data import Judgement

ROWS = 24_000


def opened(payload: object) -> ModelFile:
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    return ModelFile(Path("lstm_BTC-USD_v7.pt"), "0", read_archive(buffer.getvalue(), where="it"))


def judged(payload: object) -> Judgement:
    return crpbot.diagnose(opened(payload), market(rows=ROWS), source="synthetic")


@cache
def sound() -> Checkpoint:
    return model(rows=ROWS)


@cache
def scaler_of_another_symbol() -> tuple[torch.Tensor, torch.Tensor]:
    normalizer = Normalizer.fit(compute_features(make_market("level-noise", "ETH-USD", rows=5_000)).values)
    return normalizer.mean, normalizer.scale


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_right_cause_comes_first_for_every_fault(fault: Fault) -> None:
    result = judged(damaged(sound(), fault, scaler_of_another_symbol()))
    assert result.causes[0].code == fault.cause, [cause.code for cause in result.causes]
    assert result.causes[0].message
    assert not result.verdict.passed


def test_a_sound_foreign_model_has_no_critical_cause() -> None:
    result = judged(founding_payload(sound()))
    assert [cause.code for cause in result.causes if cause.severity == "critical"] == []


def test_every_cause_of_the_table_is_explained_in_two_sentences_and_has_a_remedy() -> None:
    for kind in CAUSES.values():
        assert kind.meaning.count(". ") == 1, kind.code
        assert kind.meaning.endswith(".")
        assert kind.remedy.endswith(".")
    assert {kind.founding for kind in CAUSES.values()} == {0, *FOUNDING_CAUSES}
    promised = (
        "missing-normalizer lost-normalizer unfitted-normalizer foreign-normalizer feature-order raw-scale-inputs extreme-logits "
        "overconfident underconfident class-collapse class-bias miscalibrated no-calibration cosmetic-temperature "
        "no-regularization no-batch-normalization overfit batch-norm-stale dead-units saturated-units non-finite-weights "
        "untrained feature-drift label-shift no-skill too-good no-weights too-few-rows"
    )
    assert set(promised.split()) | {"class-order"} == set(CAUSES)


def test_a_what_if_is_fitted_on_one_half_and_judged_on_the_other() -> None:
    """Labels of the judging half are replaced by noise: what was fitted must not notice."""
    experiment = experiment_of(judged(founding_payload(sound())).diagnosis)
    assert experiment is not None
    assert not set(experiment.fitted) & set(experiment.held)
    days = experiment.judged.day
    assert set(days[experiment.fitted] % 2) == {1}
    assert set(days[experiment.held] % 2) == {0}
    y = experiment.judged.y.copy()
    y[experiment.held] = np.random.default_rng(0).integers(0, 3, len(experiment.held))
    other = Experiment(experiment.subject, dataclasses.replace(experiment.judged, y=y), experiment.effective_rows)
    for remedy in ("tempered", "shifted"):
        assert getattr(other, remedy).remedy == getattr(experiment, remedy).remedy
        assert getattr(other, remedy).measures.log_loss > getattr(experiment, remedy).measures.log_loss


def test_a_remedy_that_is_applied_gives_what_was_tried() -> None:
    """The logits that a what-if judged are those of the repaired checkpoint."""
    payload = damaged(sound(), FAULTS[7], scaler_of_another_symbol())  # logits 50 times too large
    experiment = experiment_of(judged(payload).diagnosis)
    assert experiment is not None
    checkpoint, x = experiment.subject.checkpoint, experiment.judged.x[experiment.held]
    assert checkpoint is not None
    before = checkpoint.predict(x).logits
    for trial in (
        experiment.tempered,
        experiment.shifted,
        experiment.standardized,
        experiment.reestimated,
        experiment.relabelled,
    ):
        assert trial is not None
        assert trial.apply is not None
        repaired = trial.apply(checkpoint)
        assert experiment.measure(repaired.predict(x).logits).log_loss == pytest.approx(trial.measures.log_loss, rel=1e-4)
    np.testing.assert_array_equal(checkpoint.predict(x).logits, before)


@pytest.mark.parametrize("name", ["v6", "v6-lost-scaler"])
def test_the_root_causes_of_the_founding_document_are_all_named(name: str) -> None:
    causes = find_causes(diagnosed(model(name)))
    assert {CAUSES[cause.code].founding for cause in causes} >= {1, 2, 3, 4}
    assert CAUSES[causes[0].code].founding == 1
    (raw,) = [cause for cause in causes if cause.code == "raw-scale-inputs"]
    assert raw.evidence["push"] == pytest.approx(raw.evidence["input"] * raw.evidence["weight"])
    assert f"{raw.evidence['input']:,.0f} ×" in raw.message


def test_a_network_that_raw_prices_leave_mute_has_lost_its_scaler_too() -> None:
    """Prices pull every unit of the first layer below 0: it repeats its biases, and neither logits nor log loss look absurd."""
    checkpoint = model("v6-lost-scaler")
    state = dict(copy.deepcopy(checkpoint.network).state_dict())
    level = [i for i, unit in enumerate(checkpoint.feature_set.units) if unit == PRICE]
    state["fc1.weight"][:, level] = -0.01
    state["fc4.bias"].copy_(torch.log(torch.tensor([0.46, 0.08, 0.46])))
    found = judged(state).causes
    assert found[0].code == "lost-normalizer"
    assert found[0].what_if.before < 1.1
    assert found[0].what_if.after < 0.9 * found[0].what_if.before


def diagnosed(checkpoint: Checkpoint, rows: int = 12_000) -> Diagnosis:
    recipe = checkpoint.recipe or model().recipe
    return diagnose_subject(
        subject_of(checkpoint), market(rows=rows), path="m", sha256="0", source="synthetic", label_recipe=recipe
    )


def test_learning_by_heart_is_seen_where_the_training_rows_are_there() -> None:
    """A network that knows the training rows by heart: its first layer looks them up."""
    diagnosis = diagnosed(model())
    learned = diagnosis.learned
    assert learned is not None
    known = {row.tobytes(): label for row, label in zip(learned.training.x, learned.training.y, strict=True)}

    def by_heart(x: np.ndarray) -> np.ndarray:
        sure = np.array([known.get(row.tobytes(), 3) for row in x])
        return np.where(sure[:, None] == np.arange(3), 4.0, 0.0)

    subject = dataclasses.replace(diagnosis.subject, serve=by_heart)
    cause = overfit(dataclasses.replace(diagnosis, subject=subject), experiment_of(diagnosis))
    assert cause is not None
    assert cause.evidence["training_log_loss"] < 0.05
    assert overfit(diagnosis, experiment_of(diagnosis)) is None


def test_other_candles_are_not_taken_for_the_training_rows() -> None:
    other = make_market("level-noise", "BTC-USD", rows=12_000, seed=1)
    assert diagnosed(model()).learned is not None
    foreign = diagnose_subject(subject_of(model()), other, path="m", sha256="0", source="synthetic", label_recipe=model().recipe)
    assert foreign.learned is None


def test_a_market_that_has_left_its_range_has_drifted_and_its_scaler_is_not_foreign() -> None:
    candles = walk(12_000, seed=3)
    checkpoint = make_model("BTC-USD", candles, quick(epochs=1), source="file", seed=0)[0]
    moved = dataclasses.replace(candles, **{name: getattr(candles, name) * 2.5 for name in ("open", "high", "low", "close")})
    codes = [cause.code for cause in crpbot.diagnose(opened(founding_payload(checkpoint)), moved, source="file").causes]
    assert "feature-drift" in codes
    assert "foreign-normalizer" not in codes


@pytest.mark.slow
def test_our_models_on_other_months_and_on_perpetual_against_spot_are_never_called_foreign(real_candles: Path) -> None:
    solana = read_candles(real_candles / "SOL-USD.parquet")
    segments = [solana[segment] for segment in solana.segments(max_gap_minutes=60)]
    assert len(segments) == 3
    for fitted in segments:
        normalizer = Normalizer.fit(compute_features(fitted).values)
        payload = founding_payload(model()) | {"scaler_mean": normalizer.mean, "scaler_scale": normalizer.scale}
        for seen in segments:
            causes = crpbot.diagnose(opened(payload), seen, source="file").causes
            assert "foreign-normalizer" not in [cause.code for cause in causes]
    bitcoin = read_candles(real_candles / "BTC-USD.parquet")
    first = Normalizer.fit(compute_features(bitcoin[:43_200]).values)
    payload = founding_payload(model()) | {"scaler_mean": first.mean, "scaler_scale": first.scale}
    for month in range(1, 24, 3):
        seen = bitcoin[month * 43_200 : (month + 1) * 43_200]
        causes = crpbot.diagnose(opened(payload), seen, source="file").causes
        assert "foreign-normalizer" not in [cause.code for cause in causes]


def test_a_scaler_remembers_the_order_of_its_features() -> None:
    x = compute_features(market()).values
    order = np.random.default_rng(2).permutation(72)
    found = best_assignment(statistical_distance(x.mean(axis=0)[order], x.std(axis=0)[order], x))
    distance = statistical_distance(x.mean(axis=0), x.std(axis=0), x)
    assert (found == order).mean() > 0.7  # the rest has twins, as returns and returns_lag_1
    assert distance[order, found].max() < 0.03
    np.testing.assert_array_equal(best_assignment(distance), np.arange(72))


def test_layers_are_measured_as_numpy_measures_them() -> None:
    checkpoint = sound()
    x = compute_features(market()).values[:2_000]
    state = {name: tensor.double().numpy() for name, tensor in checkpoint.network.state_dict().items()}
    z = ((x - state["normalizer.mean"]) / state["normalizer.scale"]).astype(np.float32).astype(float)
    before = z @ state["fc1.weight"].T + state["fc1.bias"]
    layer = measure_layers(checkpoint.network, x)[0]
    assert layer.size == pytest.approx(np.abs(before).mean(), rel=1e-4)
    assert layer.largest == pytest.approx(np.abs(before).max(), rel=1e-4)
    shift = np.abs(before.mean(axis=0) - state["bn1.running_mean"]) / np.sqrt(state["bn1.running_var"])
    assert layer.shift == pytest.approx(np.quantile(shift, 0.5, method="lower"), rel=1e-2)
    push = measure_pushes(checkpoint.network, checkpoint.features, x)[0]
    column = checkpoint.features.index(push.feature)
    assert push.product == pytest.approx(np.abs(z[:, column]).mean() * np.abs(state["fc1.weight"][:, column]).max(), rel=1e-5)


def test_a_function_is_diagnosed_like_a_file() -> None:
    checkpoint = model()
    result = crpbot.diagnose(lambda x: checkpoint.predict(x).probabilities, market(), source="synthetic")
    assert result.diagnosis.model.architecture == "function"
    assert result.diagnosis.metrics.accuracy == pytest.approx(0.70, abs=0.03)
    assert not [cause for cause in result.causes if cause.severity == "critical"]
    scaler = checkpoint.network.normalizer
    lost = crpbot.diagnose(
        lambda x: softmax(checkpoint.predict(x * scaler.scale.numpy() + scaler.mean.numpy()).logits), market(), source="synthetic"
    )
    assert lost.causes[0].code == "lost-normalizer"
