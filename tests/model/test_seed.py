import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from models import market, model, quick

from crpbot.dataset.features.compute import compute_features
from crpbot.errors import CheckpointError
from crpbot.factory import export
from crpbot.making.model import train_model
from crpbot.model.export import to_onnx
from crpbot.model.loading import load_checkpoint
from crpbot.model.network import V7EnhancedFNN
from crpbot.model.onnx_file import read_onnx
from crpbot.model.seed import export_seed


def rows() -> np.ndarray:
    return compute_features(market()).values[:500]


def test_the_founding_system_can_load_it_as_it_is(tmp_path: Path) -> None:
    file, scaler = export_seed(model(), tmp_path / "seed.pt")
    assert (file.name, scaler.name) == ("seed.pt", "scaler_BTC-USD.pkl")
    payload = torch.load(file, weights_only=True)
    network = V7EnhancedFNN()
    network.load_state_dict(payload["model_state_dict"], strict=True)
    fitted = pickle.loads(scaler.read_bytes())  # noqa: S301  our own
    with torch.inference_mode():
        logits = network.eval()(torch.from_numpy(fitted.transform(rows())).float()).numpy()
    np.testing.assert_array_equal(logits, model().predict(rows()).logits.astype(np.float32))
    assert payload["scaler_params"]["mean"] == fitted.mean_.tolist()


@pytest.mark.parametrize("name", ["v7", "v6", "v7-lost-scaler"])
@pytest.mark.parametrize("deployed", [False, True])
def test_it_reads_back_as_a_foreign_checkpoint_that_says_the_same(name: str, *, deployed: bool, tmp_path: Path) -> None:
    made = model(name)
    if deployed:
        _, made = read_onnx(to_onnx(made, checkpoint_sha256="0" * 64), where="model.onnx")
    written = export_seed(made, tmp_path / "seed.pt")
    assert len(written) == (2 if made.weights.normalizer else 1)
    copy = load_checkpoint(tmp_path / "seed.pt")
    assert (copy.origin, copy.recipe, copy.features) == (None, None, made.features)
    np.testing.assert_array_equal(copy.predict(rows()).logits, model(name).predict(rows()).logits)


def test_other_features_have_no_founding_form(tmp_path: Path) -> None:
    other = dataclasses.replace(model(), features=("atr_14", "made_up"))
    with pytest.raises(CheckpointError, match="features of the founding system"):
        export_seed(other, tmp_path / "seed.pt")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_is_exported_is_what_the_model_folder_holds(tmp_path: Path) -> None:
    train_model("BTC-USD", market(), quick(epochs=1), source="synthetic", seed=0, folder=tmp_path / "m")
    (written,) = export(tmp_path / "m", out=tmp_path / "again.onnx", form="onnx")
    assert written.read_bytes() == (tmp_path / "m" / "model.onnx").read_bytes()
    (tmp_path / "m" / "lstm_BTC-USD_v7_enhanced.pt").unlink()
    refused = [
        ({"out": tmp_path / "b.onnx", "form": "onnx"}, "one already"),
        ({"out": tmp_path / "b.onnx", "form": "seed"}, r"ends in \.pt"),
        ({"out": tmp_path / "b.pt", "form": "onnx"}, r"ends in \.onnx"),
        ({"out": tmp_path / "m" / "model.onnx", "form": "onnx"}, "another file"),
        ({"out": tmp_path / "b.onnx", "form": "torchscript"}, "one of onnx, seed"),
    ]
    for arguments, words in refused:
        with pytest.raises(CheckpointError, match=words):
            export(tmp_path / "m", **arguments)
    assert {file.name for file in tmp_path.iterdir()} == {"m", "again.onnx"}
