import dataclasses
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from models import market, model, quick

from crpbot.dataset.assemble import assemble
from crpbot.dataset.features.sets import feature_set
from crpbot.dataset.labels import LabelRule
from crpbot.errors import CheckpointError
from crpbot.making.model import make_model
from crpbot.model.checkpoint import Checkpoint
from crpbot.model.export import export_scaler
from crpbot.model.folder import PARTIAL, model_folder
from crpbot.model.loading import load_checkpoint
from crpbot.model.network import Normalizer
from crpbot.model.pt_file import save_checkpoint, to_bytes

FIRST = assemble(market(), feature_set("founding-72"), LabelRule(kind="horizon", horizon=15)).x[:200]


def altered(tmp_path: Path, change: object, *, of: str = "v7") -> Path:
    payload = torch.load(io.BytesIO(to_bytes(model(of))), weights_only=True)
    change(payload)
    path = tmp_path / "altered.pt"
    torch.save(payload, path)
    return path


def test_a_saved_checkpoint_is_the_same_model(tmp_path: Path) -> None:
    save_checkpoint(model(), tmp_path / "m.pt", probe=FIRST)
    back = load_checkpoint(tmp_path / "m.pt")
    assert (back.features, back.symbol, back.recipe, back.label, back.origin) == (
        model().features,
        model().symbol,
        model().recipe,
        model().label,
        model().origin,
    )
    np.testing.assert_array_equal(back.predict(FIRST).logits, model().predict(FIRST).logits)
    assert back.predict(FIRST).probabilities.sum(axis=1) == pytest.approx(1)


@pytest.mark.slow
def test_the_same_recipe_seed_and_data_give_the_same_bytes() -> None:
    again = make_model("BTC-USD", market(), quick(), source="synthetic", seed=0)[0]
    assert to_bytes(again) == to_bytes(model())
    other = make_model("BTC-USD", market(), quick(), source="synthetic", seed=1)[0]
    assert to_bytes(other) != to_bytes(model())


def test_the_file_holds_tensors_and_plain_types_only() -> None:
    def plain(value: object) -> bool:
        if isinstance(value, dict):
            return all(type(key) is str and plain(item) for key, item in value.items())
        if type(value) is list:
            return all(plain(item) for item in value)
        return type(value) in {str, int, float, bool, type(None), torch.Tensor}

    payload = torch.load(io.BytesIO(to_bytes(model())), weights_only=True)
    assert plain(payload)
    assert payload["input_size"] == 72
    assert payload["model_state_dict"]["normalizer.mean"].dtype == torch.float64


def without_normalizer() -> Checkpoint:
    copy = load_bytes(to_bytes(model()))
    copy.network.normalizer = None
    return copy


def load_bytes(content: bytes) -> Checkpoint:
    from crpbot.model.archive import read_archive
    from crpbot.model.pt_file import read_ours

    return read_ours(read_archive(content, where="it"), where="it")


@pytest.mark.parametrize("fault", ["none", "unfitted", "nan", "zero"])
def test_a_recipe_that_normalizes_cannot_save_without_its_normalizer(tmp_path: Path, fault: str) -> None:
    checkpoint = without_normalizer()
    if fault != "none":
        normalizer = Normalizer(72)
        if fault == "nan":
            normalizer.mean[3] = float("nan")
        if fault == "zero":
            normalizer.mean += 1
            normalizer.scale[5] = 0
        checkpoint.network.normalizer = normalizer
    with pytest.raises(CheckpointError, match="normalizes"):
        save_checkpoint(checkpoint, tmp_path / "m.pt", probe=FIRST)
    assert not list(tmp_path.iterdir())


def drop_normalizer(payload: dict) -> None:
    for name in ("normalizer.mean", "normalizer.scale"):
        del payload["model_state_dict"][name]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop_normalizer, "must hold its normalizer; found none"),
        (lambda p: p["model_state_dict"]["normalizer.scale"].zero_(), "positive scale"),
        (lambda p: p["model_state_dict"]["normalizer.mean"].fill_(float("nan")), "finite mean"),
        (lambda p: p["model_state_dict"].pop("fc2.weight"), "must hold the weights"),
        (lambda p: p.pop("label"), "damaged header"),
        (lambda p: p["recipe"]["training"].pop("epochs"), "damaged header"),
        (lambda p: p["origin"].update(colour="blue"), "damaged header"),
        (lambda p: p.update(format="crpbot.checkpoint/9"), "crpbot.checkpoint/2 or an earlier one, found crpbot.checkpoint/9"),
        (lambda p: p["label"]["rule"].update(horizon=30), "the label of its recipe"),
        (lambda p: p["label"]["rule"]["exits"].pop("stop"), "damaged header"),
        (lambda p: p["label"].pop("sha256"), "damaged header"),
        (lambda p: p["label"].update(theta=float("nan")), "a θ of at least 0"),
        (lambda p: p["label"].update(theta=-1.0), "a θ of at least 0"),
        (lambda p: p["label"].update(sha256="zzz"), "the label of its recipe"),
        (lambda p: p.update(feature_set_sha256="0" * 64), "the formulas that founding-72 has now"),
        (lambda p: p["recipe"]["training"].update(learning_rate=10**400), "a number of 1,329 bits"),
        (lambda p: p.update(classes=["UP", "NEUTRAL", "DOWN"]), "must have the classes"),
        (lambda p: p.update(symbol="../../x"), "symbol like BTC-USD"),
        (lambda p: p["label"].update(theta="x"), "damaged header"),
        (lambda p: p["origin"].update(unseen_from="x"), "damaged header"),
        (lambda p: p["feature_columns"].__setitem__(0, "moon"), "features of its set"),
        (lambda p: p["feature_columns"].clear(), "features of its set"),
        (lambda p: p["origin"]["rule"].update(feature="moon"), "of other features or classes"),
        (lambda p: p["origin"]["rule"].update(below=7), "of other features or classes"),
        (lambda p: p["origin"].update(prior=[]), "three shares"),
        (lambda p: p["origin"].update(source="\x1b[31m"), "source is none of file, sample, synthetic"),
        (lambda p: p["origin"].update(dropped={"\x1b[31mHI": 5}), "counts by reason"),
        (lambda p: p["origin"].update(training_rows=10**30), "times and counts are impossible"),
        (lambda p: p["origin"].update(unseen_from=0), "times and counts are impossible"),
        (lambda p: p["recipe"]["network"].update(hidden=[4096] * 60), "none or others for fc1"),
        (lambda p: p["recipe"]["network"].update(hidden=[1] * 1000), "at most 63 widths"),
        (lambda p: p["model_state_dict"]["temperature"].fill_(0.0), "positive temperature"),
        (lambda p: p.update(label=torch.ones(2)), "damaged header"),
        (lambda p: p.update(repairs=[{"cause": "\ud800"}]), "list its repairs whole"),
    ],
)
def test_an_altered_checkpoint_cannot_be_loaded(tmp_path: Path, change: object, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(altered(tmp_path, change))


def test_the_scaler_for_other_tools_has_the_same_numbers(tmp_path: Path) -> None:
    export_scaler(model(), tmp_path / "scaler.pkl")
    scaler = pickle.loads((tmp_path / "scaler.pkl").read_bytes())  # noqa: S301  written just above
    z = model().network.normalizer(torch.from_numpy(FIRST)).numpy()
    np.testing.assert_allclose(scaler.transform(FIRST), z, atol=1e-5)


@pytest.mark.slow
def test_a_lost_scaler_is_not_in_the_checkpoint() -> None:
    lost = model("v7-lost-scaler")
    assert lost.network.normalizer is None
    assert "normalizer.mean" not in lost.network.state_dict()
    torch.testing.assert_close(lost.network.fc1.weight, model().network.fc1.weight)
    assert dataclasses.replace(load_bytes(to_bytes(lost)).origin) == lost.origin


def test_a_folder_gets_its_files_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "BTC-USD"
    with model_folder(folder) as partial:
        (partial / "a").write_text("1")
        assert partial.name == PARTIAL
    assert [file.name for file in folder.iterdir()] == ["a"]


def test_an_interrupted_folder_is_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "BTC-USD"
    with model_folder(folder) as partial:
        (partial / "a").write_text("1")

    def interrupted() -> None:
        with model_folder(folder) as partial:
            (partial / "a").write_text("2")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (folder / "a").read_text() == "1"
    assert not (folder / PARTIAL).exists()
