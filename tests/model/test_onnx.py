import dataclasses
import json
import pickle
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import ensemble, market, model
from onnx_files import HOSTILE, HOSTILE_ENSEMBLES, changed, entry, header_text, metadata, with_header

from crpbot.dataset.features.compute import compute_features
from crpbot.dataset.features.sets import feature_set
from crpbot.errors import CheckpointError
from crpbot.market.files import read_candles
from crpbot.market.sample import read_sample
from crpbot.model.checkpoint import Checkpoint, Repair
from crpbot.model.export import distance, export_onnx, says_the_same, to_onnx
from crpbot.model.loading import load_checkpoint, open_model, subject_in
from crpbot.model.network import DirectionNetwork, Normalizer
from crpbot.model.onnx_file import read_onnx
from crpbot.model.onnx_graph import HEADER_KEY
from crpbot.model.weights import packed

SHA256 = "ab" * 32
NAMES = feature_set("founding-72").names

NETWORKS = {
    "v7": {},
    "v6": {"batch_normalization": False, "temperature": None, "normalizer": False},
    "no-batch-normalization": {"batch_normalization": False},
    "no-dropout": {"dropout": 0.0},
    "no-temperature": {"temperature": None},
    "lost-normalizer": {"normalizer": False},
    "one-layer": {"hidden": ()},
    "one-unit": {"hidden": (1,)},
    "deep": {"hidden": (16,) * 12},
}


@cache
def real() -> np.ndarray:
    """Features of real candles, in their own units: prices of 1e5 beside returns of 1e-4."""
    return compute_features(read_sample("BTC-USD")[:20_000]).values[::7]


def network(kind: str) -> DirectionNetwork:
    """A network whose every number is drawn, and whose normalizer is fitted on real rows."""
    torch.manual_seed(0)
    made = DirectionNetwork(**NETWORKS[kind]).eval()
    if made.normalizer is not None:
        made.normalizer = Normalizer.fit(real()[:500])
    with torch.no_grad():
        for name, tensor in made.state_dict().items():
            if name.startswith("bn") and tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) + 0.5)
    return made


def foreign(kind: str) -> Checkpoint:
    return Checkpoint(network=network(kind), features=NAMES)


def several(kind: str, members: int = 3) -> Checkpoint:
    """An ensemble of networks that are drawn around one, as if it were ours."""
    base, rng = network(kind).weights, np.random.default_rng(0)
    layers = {name: array for name, array in base.arrays.items() if name.startswith("fc")}
    drawn = [
        base.changed({name: array + rng.normal(0, 0.02, array.shape) for name, array in layers.items()}) for _ in range(members)
    ]
    tempered = base.temperature is not None
    whole = packed(drawn).changed({"temperature": np.array(1.3)} if tempered else {})
    recipe = ensemble().recipe
    choice = dataclasses.replace(
        recipe.network,
        hidden=base.hidden,
        batch_normalization=base.batch_normalization,
        temperature="learned" if tempered else "none",
        normalizer="fit" if base.normalizer is not None else "none",
    )
    recipe = dataclasses.replace(recipe, network=choice, ensemble=dataclasses.replace(recipe.ensemble, members=members))
    return dataclasses.replace(ensemble(), recipe=recipe, network=whole)


@pytest.mark.parametrize("kind", [kind for kind in NETWORKS if kind != "one-layer"])  # a recipe has a hidden layer
def test_an_ensemble_says_in_onnx_what_it_says_in_numpy(kind: str) -> None:
    made, rows = several(kind), real()
    content = to_onnx(made, checkpoint_sha256=SHA256)
    copy = read(content)
    assert distance(copy, made, rows).max() <= 1e-6
    for n in (0, 1, 2):
        found, wanted = copy.predict(rows[:n]), made.predict(rows[:n])
        np.testing.assert_allclose(found.logits, wanted.logits, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found.disagreement, wanted.disagreement, atol=1e-6)
    assert copy.weights.architecture == made.weights.architecture
    assert to_onnx(copy, checkpoint_sha256=SHA256) == content


def test_any_other_tool_gets_what_each_member_says() -> None:
    made, rows = several("v7", 5), real()[:50]
    session = onnxruntime.InferenceSession(to_onnx(made, checkpoint_sha256=SHA256), providers=["CPUExecutionProvider"])
    logits, probabilities, members = session.run(None, {"features": rows})
    assert [one.name for one in session.get_outputs()] == ["logits", "probabilities", "members"]
    assert session.get_outputs()[2].shape == [5, "batch", 3]
    np.testing.assert_allclose(logits, made.predict(rows).logits, atol=1e-5)
    np.testing.assert_allclose(members, made.weights.speak(rows)[1], atol=1e-6)
    assert (logits.shape, probabilities.shape, members.shape) == ((50, 3), (50, 3), (5, 50, 3))


@pytest.mark.parametrize("kind", HOSTILE_ENSEMBLES)
def test_an_ensemble_that_means_harm_is_refused_with_words(kind: str) -> None:
    change, words = HOSTILE_ENSEMBLES[kind]
    with pytest.raises(CheckpointError, match=words) as refused:
        read(changed(to_onnx(ensemble(), checkpoint_sha256=SHA256), change))
    assert "\n" not in str(refused.value)


def test_the_largest_ensemble_that_a_recipe_may_ask_for_can_be_written_and_read() -> None:
    deep = several("deep", 64)
    assert read(to_onnx(deep, checkpoint_sha256=SHA256)).weights.members == 64


@cache
def ours() -> bytes:
    return to_onnx(model(), checkpoint_sha256=SHA256)


def read(content: bytes) -> Checkpoint:
    return read_onnx(content, where="model.onnx")[1]


@pytest.mark.parametrize("kind", NETWORKS)
def test_it_says_what_torch_says(kind: str) -> None:
    made = foreign(kind)
    copy, rows = read(to_onnx(made, checkpoint_sha256=SHA256)), real()
    assert distance(copy, made, rows).max() <= 1e-6
    assert distance(dataclasses.replace(made, network=made.weights), made, rows).max() <= 1e-6  # and so does numpy
    for n in (0, 1, 2, len(rows)):
        np.testing.assert_allclose(copy.predict(rows[:n]).logits, copy.predict(rows).logits[:n], rtol=1e-5)
    assert copy.weights.architecture == made.weights.architecture
    for name, array in made.weights.arrays.items():
        np.testing.assert_array_equal(copy.weights.arrays[name], array, strict=True)


def test_within_1e_6_of_logits_and_probabilities_where_it_was_trained() -> None:
    rows = compute_features(market()).values
    found, wanted = read(ours()).predict(rows), model().predict(rows)
    size = np.maximum(np.abs(wanted.logits).max(axis=1, keepdims=True), 1)
    assert (np.abs(found.logits - wanted.logits) / size).max() <= 1e-6
    assert np.abs(found.probabilities - wanted.probabilities).max() <= 1e-6


@pytest.mark.slow
def test_it_says_what_torch_says_on_two_years(real_candles: Path) -> None:
    for symbol in ("BTC-USD", "SOL-USD"):
        rows = compute_features(read_candles(real_candles / f"{symbol}.parquet")).values[::10]
        for kind in ("v7", "v6"):
            made = foreign(kind)
            assert distance(read(to_onnx(made, checkpoint_sha256=SHA256)), made, rows).max() <= 1e-6


def test_any_other_tool_gets_the_same_from_the_file_alone() -> None:
    rows = real()[:50]
    session = onnxruntime.InferenceSession(ours(), providers=["CPUExecutionProvider"])
    logits, probabilities = session.run(None, {"features": rows})
    wanted = read(ours()).predict(rows)
    np.testing.assert_array_equal(logits, wanted.logits)
    np.testing.assert_allclose(probabilities, wanted.probabilities, rtol=1e-12, atol=1e-300)  # old runtimes end at 5e-309, not 0
    assert logits.dtype == probabilities.dtype == np.float64


def test_prices_of_100_000_keep_their_digits() -> None:
    made = network("v7")
    made.normalizer = Normalizer.of(np.full(72, 100_000.0), np.full(72, 0.001))
    checkpoint = Checkpoint(network=made, features=NAMES)
    rows = 100_000.0 + np.random.default_rng(0).normal(scale=0.001, size=(100, 72))
    copy = read(to_onnx(checkpoint, checkpoint_sha256=SHA256))
    assert says_the_same(copy, checkpoint, rows)
    coarse = rows.astype(np.float32).astype(np.float64)
    assert np.abs(copy.predict(coarse).logits - copy.predict(rows).logits).max() > 0.01


def test_the_same_checkpoint_gives_the_same_bytes() -> None:
    assert to_onnx(model(), checkpoint_sha256=SHA256) == ours()
    assert to_onnx(read(ours()), checkpoint_sha256=SHA256) == ours()


def test_it_keeps_everything_that_the_checkpoint_says() -> None:
    copy, made = read(ours()), model()
    for name in ("features", "symbol", "recipe", "label", "origin", "repairs"):
        assert getattr(copy, name) == getattr(made, name), name
    assert copy.network.checkpoint_sha256 == SHA256
    assert (copy.feature_set, copy.temperature) == (made.feature_set, made.temperature)
    repair = Repair(cause="a", remedy="b", log_loss_before=float("inf"), log_loss_after=1.0, rows=3, candles_sha256="")
    for one in (made, foreign("v6")):
        repaired = dataclasses.replace(one, repairs=(repair,))
        assert read(to_onnx(repaired, checkpoint_sha256=SHA256)).repairs == (repair,)


def test_a_network_that_overflows_does_so_in_both_forms() -> None:
    made = network("v6")
    with torch.no_grad():
        made.fc1.weight[0, 0], made.fc4.bias[1] = float("inf"), float("nan")
    checkpoint = Checkpoint(network=made, features=NAMES)
    copy = read(to_onnx(checkpoint, checkpoint_sha256=SHA256))
    assert says_the_same(copy, checkpoint, real())
    assert np.isnan(copy.predict(real()).logits[:, 1]).all()


def test_a_form_that_says_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    off = to_onnx(dataclasses.replace(model(), network=scaled(model().network)), checkpoint_sha256=SHA256)
    monkeypatch.setattr("crpbot.model.export.to_onnx", lambda *_, **__: off)
    for probe in (None, real()):
        with pytest.raises(CheckpointError, match="nothing was written"):
            export_onnx(model(), tmp_path / "model.onnx", checkpoint_sha256=SHA256, probe=probe)
    assert not list(tmp_path.iterdir())


def scaled(made: DirectionNetwork) -> DirectionNetwork:
    weights = made.weights
    return made.with_weights(weights.changed({"temperature": weights.arrays["temperature"] * np.float32(1.0001)}))


def test_it_can_go_to_another_process() -> None:
    copy = pickle.loads(pickle.dumps(read(ours())))  # noqa: S301  our own
    np.testing.assert_array_equal(copy.predict(real()).logits, read(ours()).predict(real()).logits)


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_means_harm_is_refused_with_words(kind: str, tmp_path: Path) -> None:
    change, words = HOSTILE[kind]
    path = tmp_path / "model.onnx"
    path.write_bytes(changed(ours(), change))
    with pytest.raises(CheckpointError, match=words):
        open_model(path)


def test_the_header_belongs_to_its_graph() -> None:
    other = to_onnx(model("v7", epochs=1), checkpoint_sha256=SHA256)
    theirs = entry(onnx.load_from_string(other), HEADER_KEY).value
    assert len(other) == pytest.approx(len(ours()), rel=0.01)
    later = with_header(origin=json.loads(theirs)["origin"] | {"unseen_from": 2**52})
    for change in (header_text(theirs), later, with_header(symbol="ETH-USD")):
        with pytest.raises(CheckpointError, match="header that belongs to its graph"):
            read(changed(ours(), change, sign=False))


def test_the_header_has_to_agree_with_the_layers() -> None:
    lost = model("v7-lost-scaler")
    theirs = json.loads(entry(onnx.load_from_string(to_onnx(lost, checkpoint_sha256=SHA256)), HEADER_KEY).value)
    with pytest.raises(CheckpointError, match="has no normalizer, found one"):
        read(changed(ours(), with_header(**theirs)))
    unfitted = dataclasses.replace(model(), network=network("v7").with_weights(without_normalizer(model())))
    with pytest.raises(CheckpointError, match="every feature must have a finite mean"):
        to_onnx(unfitted, checkpoint_sha256=SHA256)
    recipe = json.loads(entry(onnx.load_from_string(ours()), HEADER_KEY).value)["recipe"]
    for choice in ({"batch_normalization": False}, {"temperature": "none"}):
        with pytest.raises(CheckpointError, match="other layers than recipe v7 has"):
            read(changed(ours(), with_header(recipe=recipe | {"network": recipe["network"] | choice})))
    for hidden, words in (([256, 128], "for fc3"), ([256, 128, 64, 64], "for fc4")):
        with pytest.raises(CheckpointError, match=words):
            read(changed(ours(), with_header(recipe=recipe | {"network": recipe["network"] | {"hidden": hidden}})))


def without_normalizer(made: Checkpoint) -> object:
    arrays = {name: array for name, array in made.weights.arrays.items() if not name.startswith("normalizer.")}
    return dataclasses.replace(made.weights, arrays=arrays)


def test_an_onnx_file_of_others_is_refused_with_a_way_out() -> None:
    with pytest.raises(CheckpointError, match=r"no header of crpbot.*bring its \.pt"):
        read(changed(ours(), metadata, sign=False))


@given(st.data())
def test_no_changed_byte_goes_unseen(data: st.DataObject) -> None:
    at, by = data.draw(st.integers(0, len(ours()) - 1)), data.draw(st.integers(1, 255))
    content = bytearray(ours())
    content[at] ^= by
    with pytest.raises(CheckpointError):
        read(bytes(content))


@given(st.data())
def test_no_part_of_a_file_goes_for_a_whole_one(data: st.DataObject) -> None:
    size = data.draw(st.one_of(st.integers(0, 400), st.integers(0, len(ours()) - 1)))
    with pytest.raises(CheckpointError):
        read(ours()[:size])


@given(st.binary(max_size=300))
def test_any_bytes_end_in_words(content: bytes) -> None:
    with pytest.raises(CheckpointError):
        read(content)


def test_a_folder_without_a_pt_is_served_from_its_deployed_form(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(ours())
    assert open_model(tmp_path).path.name == "model.onnx"
    assert load_checkpoint(tmp_path).symbol == open_model(tmp_path).market == "BTC-USD"
    with pytest.raises(CheckpointError, match="as it is deployed"):
        subject_in(open_model(tmp_path), features=NAMES)
