"""What comes back is believed as far as it was checked: every tampering ends in one line, and nothing is placed."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from models import market, quick

from crpbot import train_model
from crpbot.cloud.artefact import MANIFEST, pack, read_manifest, write_manifest
from crpbot.cloud.contract import Contract
from crpbot.cloud.verify import TOLERANCE, Expected, accept, differences
from crpbot.cloud.worker import hand_over
from crpbot.errors import CrpbotError
from crpbot.model.loading import load_checkpoint
from crpbot.model.pt_file import to_bytes

CANDLES = market(rows=6_000)
RECIPE = quick(epochs=2)
NAME = "lstm_BTC-USD_v7_enhanced.pt"
EXPECTED = Expected(job="job-1", symbol="BTC-USD", recipe=RECIPE, seed=0, kind="synthetic")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as a job hands it over, with its manifest."""
    place = tmp_path_factory.mktemp("made")
    train_model("BTC-USD", CANDLES, RECIPE, source="synthetic", seed=0, folder=place / "work")
    contract = Contract(
        job="job-1",
        symbol="BTC-USD",
        seed=0,
        kind="synthetic",
        candles="synthetic:level-noise:6000",
        candles_sha256=CANDLES.sha256,
        recipe=place / "recipe.toml",
        model=place / "model",
        output=place / "output",
        state=place / "state",
        failure=place / "failure",
        work=place / "work",
    )
    assert hand_over(contract, place / "work", NAME, CANDLES) == 0
    return place / "model"


@pytest.fixture
def artefact(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "artefact")


def packed(folder: Path, *, sign: bool = True) -> Path:
    """Pack it again; a careful stranger makes a new manifest, too."""
    if sign:
        facts = dict(json.loads((folder / MANIFEST).read_text()))
        facts.pop("files")
        (folder / MANIFEST).unlink()
        write_manifest(folder, {key: value for key, value in facts.items() if key != "format"})
    pack(folder, folder.parent / "model.tar.gz")
    return folder.parent / "model.tar.gz"


def test_what_is_sound_takes_its_place_whole(artefact: Path, tmp_path: Path) -> None:
    judgement = accept(packed(artefact), EXPECTED, CANDLES, out=tmp_path / "out")
    placed = tmp_path / "out" / "BTC-USD"
    assert {one.name for one in placed.iterdir()} == {one.name for one in artefact.iterdir()} - {MANIFEST}
    for name in (NAME, "scaler_BTC-USD.pkl", "model.onnx", "recipe.toml", "training.jsonl"):
        assert (placed / name).read_bytes() == (artefact / name).read_bytes(), name
    stored, theirs = (json.loads((folder / "diagnosis.json").read_text()) for folder in (placed, artefact))
    assert stored["metrics"] == theirs["metrics"]
    assert stored["model"]["path"] == str(placed / NAME)
    assert len(judgement.history) == 2


def test_files_that_could_do_something_are_not_taken(artefact: Path, tmp_path: Path) -> None:
    """The scaler of a stranger is a program, and so may be a report: both are made again here."""
    (artefact / "scaler_BTC-USD.pkl").write_bytes(b"cos\nsystem\n(S'touch evil'\ntR.")
    (artefact / "report.html").write_text("<script>alert(1)</script>")
    (artefact / "model.onnx").write_bytes(b"another")
    accept(packed(artefact), EXPECTED, CANDLES, out=tmp_path / "out")
    assert b"system" not in (tmp_path / "out" / "BTC-USD" / "scaler_BTC-USD.pkl").read_bytes()
    assert load_checkpoint(tmp_path / "out" / "BTC-USD" / "model.onnx").symbol == "BTC-USD"
    assert "alert(1)" not in (tmp_path / "out" / "BTC-USD" / "report.html").read_text()


def weights(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        payload = torch.load(folder / NAME, weights_only=True)
        change(payload["model_state_dict"])
        torch.save(payload, folder / NAME)

    return tamper


def other_symbol(folder: Path) -> None:
    (folder / NAME).write_bytes(to_bytes(dataclasses.replace(load_checkpoint(folder / NAME), symbol="ETH-USD")))


def other_number(folder: Path) -> None:
    plain = json.loads((folder / "diagnosis.json").read_text())
    plain["metrics"]["accuracy"] += 0.01
    (folder / "diagnosis.json").write_text(json.dumps(plain))


def epoch_of_words(folder: Path) -> None:
    row = json.loads((folder / "training.jsonl").read_text().splitlines()[0])
    (folder / "training.jsonl").write_text(json.dumps({**row, "epoch": "<script>"}) + "\n")


TAMPERED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a weight": (weights(lambda state: state["fc1.weight"].mul_(1.05)), "the diagnosis must be the same here"),
    "a scale": (weights(lambda state: state["normalizer.scale"].mul_(100)), "normalizer-fits"),
    "a scale of nothing": (weights(lambda state: state["normalizer.scale"].zero_()), "finite mean and a positive scale"),
    "a mean that is no number": (weights(lambda state: state["normalizer.mean"].fill_(float("nan"))), "finite mean"),
    "no scaler": (
        weights(lambda state: [state.pop(f"normalizer.{key}") for key in ("mean", "scale")] and None),
        "hold its normalizer",
    ),
    "large logits": (weights(lambda state: state["fc4.weight"].mul_(1e4)), "logit-range"),
    "another symbol": (other_symbol, "must be of BTC-USD"),
    "another accuracy": (other_number, "the diagnosis must be the same here"),
    "no diagnosis": (lambda folder: (folder / "diagnosis.json").write_text("[]") and None, "must hold its diagnosis"),
    "no history": (lambda folder: (folder / "training.jsonl").write_text("") and None, "must hold its history"),
    "words for numbers": (epoch_of_words, "must hold its history in numbers"),
    "no checkpoint": (lambda folder: (folder / NAME).unlink(), "must hold lstm_BTC-USD_v7_enhanced.pt"),
    "a program": (
        lambda folder: (folder / NAME).write_bytes(b"cos\nsystem\n(S'touch evil'\ntR.") and None,
        "found a pickle that tries to load os",
    ),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_what_was_tampered_with_is_refused_even_with_a_new_manifest(artefact: Path, tmp_path: Path, name: str) -> None:
    tamper, words = TAMPERED[name]
    tamper(artefact)
    with pytest.raises(CrpbotError, match=words):
        accept(packed(artefact), EXPECTED, CANDLES, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_a_new_manifest_the_digest_tells(artefact: Path, tmp_path: Path) -> None:
    weights(lambda state: state["fc1.weight"].mul_(1.05))(artefact)
    with pytest.raises(CrpbotError, match=f"{NAME} must have the digest of its manifest"):
        accept(packed(artefact, sign=False), EXPECTED, CANDLES, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_earlier_model_stays_where_it_is_when_the_new_one_is_refused(artefact: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    accept(packed(artefact), EXPECTED, CANDLES, out=out)
    before = {one.name: one.read_bytes() for one in (out / "BTC-USD").iterdir()}
    other_number(artefact)
    with pytest.raises(CrpbotError):
        accept(packed(artefact), EXPECTED, CANDLES, out=out)
    assert {one.name: one.read_bytes() for one in (out / "BTC-USD").iterdir()} == before


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(EXPECTED, job="job-2"),
        dataclasses.replace(EXPECTED, seed=1),
        dataclasses.replace(EXPECTED, kind="file"),
        dataclasses.replace(EXPECTED, recipe=quick(epochs=3)),
    ],
    ids=["job", "seed", "kind", "recipe"],
)
def test_another_order_is_another_model(artefact: Path, tmp_path: Path, other: Expected) -> None:
    with pytest.raises(CrpbotError, match="must"):
        accept(packed(artefact), other, CANDLES, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_candles_are_refused(artefact: Path, tmp_path: Path) -> None:
    with pytest.raises(CrpbotError, match="candles_sha256"):
        accept(packed(artefact), EXPECTED, market(rows=7_000), out=tmp_path / "out")
    assert read_manifest(artefact).facts["candles_sha256"] == CANDLES.sha256


def test_numbers_may_differ_by_the_tolerance_and_nothing_else_may() -> None:
    ours = {"a": 0.5, "b": [1.0, 100.0], "c": "x", "d": None, "e": True, "f": 3}
    assert differences({**ours, "a": 0.5 + TOLERANCE / 2, "b": [1.0, 100.05]}, ours) == []
    for change in (
        {"a": 0.502},
        {"b": [1.0]},
        {"b": [1.0, 101.0]},
        {"c": "y"},
        {"d": 0.0},
        {"e": 1},
        {"a": None},
        {"a": float("nan")},
    ):
        assert len(differences({**ours, **change}, ours)) == 1, change
    assert differences({}, ours) == [": other keys"]
