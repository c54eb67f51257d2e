"""What a repair promises: only what is proven, the old file untouched, the new one marked and unproven."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from faults import FAULTS, damaged
from models import market, model

from crpbot.errors import CheckpointError, DatasetError
from crpbot.factory import diagnose, repair
from crpbot.model.checkpoint import Checkpoint
from crpbot.model.loading import load_checkpoint, open_model
from crpbot.model.pt_file import save_checkpoint
from crpbot.model.remedies import tempered
from crpbot.registry.registry import decide

pytestmark = pytest.mark.slow  # each diagnoses a model several times

PROBE = np.random.default_rng(0).normal(size=(5, 72)) + 100
FAULT = {fault.name: fault for fault in FAULTS}


def written(checkpoint: Checkpoint, folder: Path) -> Path:
    path = folder / "lstm_BTC-USD_v7.pt"
    save_checkpoint(checkpoint, path, probe=PROBE)
    return path


def test_a_lost_scaler_of_ours_comes_back_as_it_was(tmp_path: Path) -> None:
    """The candles still hold the training rows: their statistics are the scaler, and the test block stays untouched."""
    path = written(model("v7-lost-scaler"), tmp_path)
    before = path.read_bytes()
    repaired = repair(path, market(), out=tmp_path / "fixed.pt", source="synthetic")
    assert [one.cause for one in repaired.done] == ["lost-normalizer"]
    fixed = load_checkpoint(tmp_path / "fixed.pt")
    torch.testing.assert_close(fixed.network.normalizer.mean, model().network.normalizer.mean)
    torch.testing.assert_close(fixed.network.normalizer.scale, model().network.normalizer.scale)
    assert fixed.origin == model("v7-lost-scaler").origin
    assert path.read_bytes() == before
    found = diagnose(tmp_path / "fixed.pt", market(), source="synthetic")
    sound = diagnose(written(model(), tmp_path), market(), source="synthetic")
    assert found.diagnosis.metrics.accuracy == pytest.approx(sound.diagnosis.metrics.accuracy, abs=1e-3)
    assert found.to_dict()["repairs"][0]["cause"] == "lost-normalizer"


def test_where_the_training_rows_are_gone_what_the_repair_saw_counts_as_seen(tmp_path: Path) -> None:
    path = written(model("v7-lost-scaler"), tmp_path)
    later = market()[9_500:]
    repair(path, later, out=tmp_path / "fixed.pt", source="synthetic")
    fixed = load_checkpoint(tmp_path / "fixed.pt")
    assert fixed.origin.unseen_from > later.time[-1]
    with pytest.raises(DatasetError, match="rows that the model has not seen"):
        diagnose(tmp_path / "fixed.pt", market(), source="synthetic")


@pytest.mark.parametrize(
    ("fault", "causes"),
    [
        ("the scaler is dropped", ["lost-normalizer"]),
        ("the names of the inputs are shuffled", ["feature-order"]),
        ("the temperature is 8 times too high", ["cosmetic-temperature"]),
        ("the logits are 50 times too large", ["extreme-logits"]),
        ("the bias of UP is raised by 2", ["class-bias"]),
        ("DOWN and UP are exchanged", ["class-order"]),
        ("the batch statistics are those of a new network", ["batch-norm-stale"]),
        ("the scaler is another symbol's", ["foreign-normalizer"]),
    ],
)
def test_a_foreign_file_is_repaired_and_stays_unproven(tmp_path: Path, fault: str, causes: list[str]) -> None:
    normalizer = model().network.normalizer
    other = normalizer.mean * 0.05, normalizer.scale * 0.05
    torch.save(dict(damaged(model(), FAULT[fault], other)), tmp_path / "broken.pt")
    repaired = repair(tmp_path / "broken.pt", market(), out=tmp_path / "fixed.pt", source="file")
    assert [one.cause for one in repaired.done][: len(causes)] == causes
    assert all(one.log_loss_after < one.log_loss_before for one in repaired.done)
    result = diagnose(tmp_path / "fixed.pt", market(), source="file")
    assert result.diagnosis.metrics.accuracy == pytest.approx(0.70, abs=0.03)
    assert not [cause for cause in result.causes if cause.severity == "critical"]
    assert result.diagnosis.data.out_of_sample == "unknown"
    assert decide(result).stage is None
    assert load_checkpoint(tmp_path / "fixed.pt").repairs == repaired.checkpoint.repairs


def test_a_scaler_that_is_brought_is_a_repair(tmp_path: Path) -> None:
    payload = damaged(model(), FAULT["the scaler is dropped"], (torch.zeros(0), torch.zeros(0)))
    torch.save(dict(payload), tmp_path / "broken.pt")
    np.savez(tmp_path / "s.npz", mean=model().network.normalizer.mean, scale=model().network.normalizer.scale)
    repaired = repair(tmp_path / "broken.pt", market(), out=tmp_path / "fixed.pt", source="file", scaler=tmp_path / "s.npz")
    assert [(one.cause, one.remedy) for one in repaired.done] == [("lost-normalizer", "a scaler was brought")]
    np.testing.assert_allclose(
        load_checkpoint(tmp_path / "fixed.pt").predict(PROBE).logits, model().predict(PROBE).logits, atol=1e-4
    )


@pytest.mark.parametrize("brought", [False, True])
def test_a_lost_scaler_of_a_network_that_was_trained_on_balanced_classes_is_found_and_comes_back(
    tmp_path: Path, *, brought: bool
) -> None:
    """As many rows of each class in training make it say NEUTRAL too often: even with its scaler its log loss is no sound one."""
    payload = dict(damaged(model(), FAULT["the scaler is dropped"], (torch.zeros(0), torch.zeros(0))))
    network = payload["model_state_dict"]
    payload["model_state_dict"] = {**network, "fc4.bias": network["fc4.bias"] + torch.tensor([0.0, 6.0, 0.0])}
    torch.save(payload, tmp_path / "broken.pt")
    np.savez(tmp_path / "s.npz", mean=model().network.normalizer.mean, scale=model().network.normalizer.scale)
    scaler = tmp_path / "s.npz" if brought else None
    repaired = repair(tmp_path / "broken.pt", market(), out=tmp_path / "fixed.pt", source="file", scaler=scaler)
    assert [one.cause for one in repaired.done] == ["lost-normalizer", *(["class-bias"] if brought else [])]
    fixed = diagnose(tmp_path / "fixed.pt", market(), source="file")
    assert fixed.diagnosis.metrics.accuracy == pytest.approx(0.70, abs=0.03)


def test_a_scaler_that_does_not_help_is_no_repair(tmp_path: Path) -> None:
    path = written(model("v6"), tmp_path)  # trained raw: no scaler brings it back
    np.savez(tmp_path / "s.npz", mean=model().network.normalizer.mean, scale=model().network.normalizer.scale)
    repaired = repair(path, market(), out=tmp_path / "fixed.pt", source="synthetic", scaler=str(tmp_path / "s.npz"))
    assert "a scaler was brought" not in [one.remedy for one in repaired.done]


def test_nobody_knows_what_a_brought_scaler_has_seen(tmp_path: Path) -> None:
    """It may have been fitted on the test block: all of these candles count as seen, and none can promote the model."""
    path = written(model("v7-lost-scaler"), tmp_path)
    np.savez(tmp_path / "s.npz", mean=model().network.normalizer.mean, scale=model().network.normalizer.scale)
    repaired = repair(path, market(), out=str(tmp_path / "fixed.pt"), source="synthetic", scaler=tmp_path / "s.npz")
    assert [one.remedy for one in repaired.done] == ["a scaler was brought"]
    assert load_checkpoint(tmp_path / "fixed.pt").origin.unseen_from > market().time[-1]


def test_a_broken_scaler_can_be_replaced_by_one_that_is_brought(tmp_path: Path) -> None:
    payload = dict(damaged(model(), FAULT["the scaler was never fitted"], (torch.zeros(0), torch.zeros(0))))
    payload["scaler_scale"][3] = float("nan")
    torch.save(payload, tmp_path / "broken_BTC-USD.pt")
    np.savez(tmp_path / "s.npz", mean=model().network.normalizer.mean, scale=model().network.normalizer.scale)
    repaired = repair(
        tmp_path / "broken_BTC-USD.pt", market(), out=tmp_path / "fixed.pt", source="file", scaler=tmp_path / "s.npz"
    )
    assert [one.cause for one in repaired.done] == ["unfitted-normalizer"]
    assert open_model(tmp_path / "fixed.pt").market == "BTC-USD"


def test_no_remedy_only_silences_a_network(tmp_path: Path) -> None:
    """A network whose every answer is turned round: no temperature and no bias makes it know anything."""
    state = {name: tensor.clone() for name, tensor in model().network.state_dict().items()}
    state["fc4.weight"] *= -1
    torch.save(state, tmp_path / "turned.pt")
    repaired = repair(tmp_path / "turned.pt", market(), out=tmp_path / "fixed.pt", source="file")
    assert all(one.log_loss_after < 0.9 for one in repaired.done)
    if repaired.done:
        assert diagnose(tmp_path / "fixed.pt", market(), source="file").diagnosis.metrics.accuracy > 0.6


def test_a_temperature_of_a_network_without_one_divides_its_logits_exactly() -> None:
    checkpoint = model("v6-lost-scaler")
    halved = tempered(checkpoint, 2.0)
    np.testing.assert_allclose(halved.predict(PROBE).logits, checkpoint.predict(PROBE).logits / 2, rtol=1e-5)


def test_a_sound_model_is_left_alone_and_nothing_is_written(tmp_path: Path) -> None:
    path = written(model(), tmp_path)
    repaired = repair(path, market(), out=tmp_path / "fixed.pt", source="synthetic")
    assert repaired.done == ()
    assert not (tmp_path / "fixed.pt").exists()


def test_a_repaired_checkpoint_that_lost_its_normalizer_again_is_refused(tmp_path: Path) -> None:
    """A recipe that loses its scaler allows one in its checkpoint only where a repair put it there."""
    path = written(model("v7-lost-scaler"), tmp_path)
    repair(path, market(), out=tmp_path / "fixed.pt", source="synthetic")
    payload = torch.load(tmp_path / "fixed.pt", weights_only=True)
    del payload["repairs"]
    torch.save(payload, tmp_path / "altered.pt")
    with pytest.raises(CheckpointError, match="has no normalizer, found one; it was altered"):
        load_checkpoint(tmp_path / "altered.pt")
    payload["repairs"] = [{"cause": "x"}]
    torch.save(payload, tmp_path / "altered.pt")
    with pytest.raises(CheckpointError, match="list its repairs whole"):
        load_checkpoint(tmp_path / "altered.pt")


def test_the_new_file_must_be_another_one(tmp_path: Path) -> None:
    path = written(model("v7-lost-scaler"), tmp_path)
    for out in (path, tmp_path / "fixed", tmp_path / "fixed.pkl"):
        with pytest.raises(CheckpointError, match=r"must be another \.pt file"):
            repair(path, market(), out=out, source="synthetic")
    torch.save({"accuracy": 0.71}, tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="must hold the weights"):
        repair(tmp_path / "none.pt", market(), out=tmp_path / "fixed.pt")


def test_a_repair_is_part_of_the_file_s_bytes(tmp_path: Path) -> None:
    path = written(model("v7-lost-scaler"), tmp_path)
    for name in ("a.pt", "b.pt"):
        repair(path, market(), out=tmp_path / name, source="synthetic")
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()
    assert dataclasses.asdict(load_checkpoint(tmp_path / "a.pt").repairs[0])["rows"] > 100
