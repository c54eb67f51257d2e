"""Checkpoints of strangers: the V6 and V7 kind in every form, and what is no such thing."""

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from models import market, model
from sklearn.preprocessing import StandardScaler

from crpbot.dataset.assemble import assemble
from crpbot.dataset.features.sets import feature_set
from crpbot.dataset.labels import LabelRule
from crpbot.errors import CheckpointError, DatasetError
from crpbot.model.checkpoint import Checkpoint
from crpbot.model.loading import load_checkpoint, open_model, subject_in
from crpbot.model.network import DirectionNetwork
from crpbot.model.subject import function_subject

NAMES = feature_set("founding-72").names
X = assemble(market(), feature_set("founding-72"), LabelRule(kind="horizon", horizon=15)).x[:200]
STATE = {name: tensor for name, tensor in model().network.state_dict().items() if not name.startswith("normalizer.")}
MEAN, SCALE = model().network.normalizer.mean, model().network.normalizer.scale
ORDER = np.random.default_rng(1).permutation(72)


def standard_scaler(*, names: bool = False) -> StandardScaler:
    """A scaler of scikit-learn with our numbers, which knows its columns or not."""
    scaler = StandardScaler().fit(pl.DataFrame(X, schema=list(NAMES)) if names else X)
    scaler.mean_, scaler.scale_ = MEAN.numpy().copy(), SCALE.numpy().copy()
    return scaler


def reordered() -> dict:
    state = STATE | {"fc1.weight": STATE["fc1.weight"][:, ORDER]}
    names = [NAMES[i] for i in ORDER]
    return {"model_state_dict": state, "feature_columns": names, "scaler_mean": MEAN[ORDER], "scaler_scale": SCALE[ORDER]}


WITH_SCALER = {
    "arrays": {"model_state_dict": STATE, "scaler_mean": MEAN.numpy(), "scaler_scale": SCALE.numpy()},
    "tensors": {"state_dict": STATE, "scaler_mean": MEAN, "scaler_scale": SCALE},
    "lists": {"model_state_dict": STATE, "scaler_mean": MEAN.tolist(), "scaler_scale": SCALE.tolist()},
    "params": {"model_state_dict": STATE, "scaler_params": {"mean": MEAN.tolist(), "scale": SCALE.tolist()}},
    "params-underscored": {"model_state_dict": STATE, "scaler_params": {"mean_": MEAN, "scale_": SCALE}},
    "scikit-learn": {"model_state_dict": STATE, "scaler": standard_scaler()},
    "scikit-learn-with-names": {"model_state_dict": STATE, "scaler": standard_scaler(names=True)},
    "in-the-state": {"model_state_dict": STATE | {"normalizer.mean": MEAN, "normalizer.scale": SCALE}},
    "bare-with-normalizer": STATE | {"normalizer.mean": MEAN, "normalizer.scale": SCALE},
    "data-parallel": {
        "model_state_dict": {f"module.{name}": tensor for name, tensor in STATE.items()},
        "scaler_mean": MEAN, "scaler_scale": SCALE,
    },
    "temperature-of-one-dimension": {
        "model_state_dict": STATE | {"temperature": STATE["temperature"].reshape(1)}, "scaler_mean": MEAN, "scaler_scale": SCALE
    },
    "temperature-of-two": {
        "model_state_dict": STATE | {"temperature": STATE["temperature"].reshape(1, 1)},
        "scaler_mean": MEAN, "scaler_scale": SCALE,
    },
    "temperature-outside": {
        "model_state_dict": {name: tensor for name, tensor in STATE.items() if name != "temperature"},
        "temperature": STATE["temperature"].item(), "scaler_mean": MEAN, "scaler_scale": SCALE,
    },
    "another-order": reordered(),
    "pair": {"model_state_dict": STATE, "scaler": [MEAN.tolist(), SCALE.tolist()]},
    "mean-and-std": {"model_state_dict": STATE, "mean": MEAN.tolist(), "std": SCALE.tolist()},
    "wrapped-twice": {"checkpoint": {"model_state_dict": STATE, "scaler_mean": MEAN, "scaler_scale": SCALE}},
    "beside-a-description": {"model": {"type": "FNN"}, **STATE, "scaler_mean": MEAN, "scaler_scale": SCALE},
    "prefixed-twice": {
        "state_dict": {f"_orig_mod.module.{name}": tensor for name, tensor in STATE.items()},
        "scaler_mean": MEAN, "scaler_scale": SCALE,
    },
}  # fmt: skip


def saved(payload: object, folder: Path, *, legacy: bool = False) -> Path:
    torch.save(payload, folder / "lstm_BTC-USD_v7.pt", _use_new_zipfile_serialization=not legacy)
    return folder / "lstm_BTC-USD_v7.pt"


def fed(checkpoint: Checkpoint, x: np.ndarray = X) -> np.ndarray:
    return x[:, [NAMES.index(name) for name in checkpoint.features]]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("form", WITH_SCALER)
def test_the_same_network_predicts_the_same_in_every_form(tmp_path: Path, form: str, legacy: bool) -> None:  # noqa: FBT001
    foreign = load_checkpoint(saved(WITH_SCALER[form], tmp_path, legacy=legacy))
    assert (foreign.recipe, foreign.origin, foreign.label) == (None, None, None)
    np.testing.assert_allclose(foreign.predict(fed(foreign)).logits, model().predict(X).logits, atol=1e-4)


def test_without_a_scaler_it_takes_what_it_is_given(tmp_path: Path) -> None:
    z = (X - MEAN.numpy()) / SCALE.numpy()
    for payload in (STATE, {"model_state_dict": STATE}):
        foreign = load_checkpoint(saved(payload, tmp_path))
        assert foreign.network.normalizer is None
        np.testing.assert_allclose(foreign.predict(z).logits, model().predict(X).logits, atol=1e-4)


def test_the_v6_kind_has_neither_batch_normalization_nor_temperature(tmp_path: Path) -> None:
    network = DirectionNetwork(72, batch_normalization=False, dropout=0.0, temperature=None, normalizer=False).eval()
    foreign = load_checkpoint(saved({"model_state_dict": network.state_dict()}, tmp_path))
    assert (foreign.network.batch_normalization, foreign.network.temperature, foreign.temperature) == (False, None, 1.0)
    with torch.no_grad():
        wanted = network(torch.from_numpy(X)).double().numpy()
    np.testing.assert_array_equal(foreign.predict(X).logits, wanted)


@pytest.mark.parametrize("form", ["json", "npz", "pt", "pkl", "names"])
def test_a_scaler_can_be_brought_in_safe_forms(tmp_path: Path, form: str) -> None:
    path = saved({"model_state_dict": STATE}, tmp_path)
    file = tmp_path / f"scaler.{'json' if form == 'names' else form}"
    if form == "json":
        file.write_text(json.dumps({"mean": MEAN.tolist(), "scale": SCALE.tolist()}))
    elif form == "names":  # in an order of its own, which it says
        names = {"feature_columns": [NAMES[i] for i in ORDER]}
        file.write_text(json.dumps({"mean": MEAN[ORDER].tolist(), "scale": SCALE[ORDER].tolist(), **names}))
    elif form == "npz":
        np.savez(file, mean=MEAN[ORDER].numpy(), scale=SCALE[ORDER].numpy(), features=np.array(NAMES)[ORDER])
    elif form == "pt":
        torch.save({"scaler_mean": MEAN, "scaler_scale": SCALE}, file)
    else:
        file.write_bytes(pickle.dumps(standard_scaler()))
    subject = subject_in(open_model(path), scaler=file)
    np.testing.assert_allclose(subject.serve(X), model().predict(X).logits, atol=1e-4)


def test_what_is_there_is_not_overruled(tmp_path: Path) -> None:
    file = tmp_path / "scaler.json"
    file.write_text(json.dumps({"mean": MEAN.tolist(), "scale": SCALE.tolist()}))
    opened = open_model(saved(WITH_SCALER["another-order"], tmp_path))
    with pytest.raises(CheckpointError, match="leave out --scaler"):
        subject_in(opened, scaler=file)
    with pytest.raises(CheckpointError, match="leave out --features"):
        subject_in(opened, features=NAMES)
    unfitted = {"model_state_dict": STATE, "scaler_mean": torch.zeros(72), "scaler_scale": torch.ones(72)}
    subject = subject_in(open_model(saved(unfitted, tmp_path)), scaler=file)
    np.testing.assert_allclose(subject.serve(X), model().predict(X).logits, atol=1e-4)


def test_inputs_can_be_named(tmp_path: Path) -> None:
    some = ("rsi_14", "returns", "volume_ratio")
    network = DirectionNetwork(3, normalizer=False)
    opened = open_model(saved(network.state_dict(), tmp_path))
    with pytest.raises(CheckpointError, match=r"72 names for 3 inputs; name its inputs in their order with --features"):
        subject_in(opened)
    assert subject_in(opened, features=some).features == some


@pytest.mark.parametrize(
    ("mean", "scale"),
    [
        (torch.zeros(72), torch.ones(72)),
        (torch.full((72,), 5.0), torch.full((72,), 2.0)),
        (torch.arange(72.0), torch.zeros(72)),
        (torch.arange(72.0), torch.full((72,), float("nan"))),
    ],
)
def test_a_scaler_that_was_never_fitted_is_kept_as_it_is_served(tmp_path: Path, mean: torch.Tensor, scale: torch.Tensor) -> None:
    normalizer = load_checkpoint(
        saved({"model_state_dict": STATE, "scaler_mean": mean, "scaler_scale": scale}, tmp_path)
    ).network.normalizer
    assert normalizer is not None
    assert not normalizer.fitted


def without(name: str) -> dict:
    return {key: tensor for key, tensor in STATE.items() if key != name}


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"accuracy": 0.7, "epoch": 3}, "must hold the weights of a network, found accuracy, epoch"),
        (
            {
                "lstm.weight_ih_l0": torch.zeros(256, 31),
                "lstm.weight_hh_l0": torch.zeros(256, 64),
                "fc.weight": torch.zeros(3, 64),
            },
            "found an LSTM of 31 inputs, 1 layer and 64 units; recurrent networks are not supported",
        ),
        ({"gru.weight_ih_l0": torch.zeros(30, 80), "gru.weight_hh_l0": torch.zeros(30, 10)}, "found a GRU of 80 inputs"),
        ({"conv.weight": torch.zeros(4, 31)}, r"found conv.weight \(4×31\); other kinds are not supported"),
        ({"fc1.weight": torch.zeros(3, 31), "fc1.bias": torch.zeros(3)}, "72 names for 31 inputs"),
        ({"fc1.weight": torch.zeros(2, 72), "fc1.bias": torch.zeros(2)}, "end in 3 classes"),
        ([1, 2], "must hold a state dict"),
        ({"fc1.weight": torch.zeros(3)}, "must hold matrices"),
        (without("bn2.running_var"), "missing bn2.running_var"),
        (STATE | {"fc2.bias": torch.zeros(7)}, r"found fc2.bias of \(7,\) for \(128,\)"),
        (STATE | {"temperature": torch.zeros(2)}, "temperature must be one positive number"),
        (STATE | {"temperature": torch.tensor(-1.0)}, "temperature must be one positive number"),
        ({"model_state_dict": without("temperature"), "temperature": 1e-50}, "must be one positive number, found 0"),
        ({"fc01.weight": torch.zeros(3, 72)}, "other kinds are not supported"),
        ({"fc1.weight": torch.zeros(5_000, 72), "fc2.weight": torch.zeros(3, 5_000)}, "at most 4,096 units"),
        ({"model_state_dict": STATE, "scaler_mean": [], "scaler_scale": []}, "found 0 and 0"),
        ({"model_state_dict": STATE, "feature_columns": ["moon"] * 72}, "found unknown moon"),
        ({"model_state_dict": STATE, "scaler_mean": MEAN[:5], "scaler_scale": SCALE[:5]}, "found 5 and 5"),
        ({"model_state_dict": STATE, "scaler_mean": MEAN}, "one mean and one scale"),
        ({"model_state_dict": STATE, "scaler": {"mean": "x", "scale": [1]}}, "one mean and one scale"),
    ],
)
def test_other_files_are_refused_with_what_they_hold(tmp_path: Path, payload: object, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(saved(payload, tmp_path))


def test_a_file_that_only_talks_about_a_model_is_a_subject_that_says_nothing(tmp_path: Path) -> None:
    subject = subject_in(open_model(saved({"accuracy": 0.71, "epoch": 12}, tmp_path)))
    assert subject.holds == "accuracy, epoch"
    assert np.isnan(subject.serve(X)).all()


def test_any_function_can_be_a_subject() -> None:
    def chances(x: np.ndarray) -> np.ndarray:
        return np.tile([0.5, 0.1, 0.4], (len(x), 1))

    subject = function_subject(chances, features=("rsi_14", "returns"))
    np.testing.assert_allclose(subject.predict(X[:, :2]).probabilities, chances(X))
    as_logits = function_subject(lambda x: np.tile([1.0, 0.0, 2.0], (len(x), 1)), features=("rsi_14",), output="logits")
    assert as_logits.serve(X[:, :1])[0].tolist() == [1.0, 0.0, 2.0]


@pytest.mark.parametrize(
    ("function", "features", "words"),
    [
        (lambda x: np.ones((len(x), 2)), ("rsi_14",), r"must return shape \(200, 3\), found \(200, 2\)"),
        (lambda x: np.ones((len(x), 3)), ("rsi_14",), "must be at least 0 and add up to 1"),
        (lambda x: x, ("moon",), "found moon"),
        (lambda x: x, ("rsi_14", "rsi_14"), "one twice"),
        ("text", ("rsi_14",), "must be a file or a function"),
    ],
)
def test_a_function_that_is_no_model_is_refused(function: object, features: tuple[str, ...], words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        function_subject(function, features=features).serve(X)


def test_reading_leaves_the_payload_alone(tmp_path: Path) -> None:
    opened = open_model(saved(WITH_SCALER["another-order"], tmp_path))
    before = copy.deepcopy(opened.payload["model_state_dict"])
    network = subject_in(opened).checkpoint.network
    with torch.no_grad():
        network.fc1.weight.zero_()
    np.testing.assert_array_equal(opened.payload["model_state_dict"]["fc1.weight"], before["fc1.weight"])
