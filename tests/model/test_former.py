"""Files of former versions: a checkpoint that was good once is read for ever, or the reason why not is said.

`kept/` has one file of each version, as the crpbot of its day wrote it. Nothing makes them anew: that is their point.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from crpbot.dataset.features.compute import compute_features
from crpbot.errors import CheckpointError
from crpbot.market.synthetic import make_market
from crpbot.model.checkpoint import header_of
from crpbot.model.former import FORMAT, FORMER, NEWEST, newest
from crpbot.model.loading import load_checkpoint, open_model
from crpbot.version import code_version

KEPT = Path(__file__).parent / "kept"
READ = [file for file in sorted(KEPT.glob("*.*")) if file.suffix in {".pt", ".onnx"} and file.name != "checkpoint-1.pt"]


def test_every_version_has_a_kept_file_and_every_former_one_a_rule() -> None:
    assert list(FORMER) == list(range(1, NEWEST))
    for version in range(1, NEWEST + 1):
        assert open_model(KEPT / f"checkpoint-{version}.pt").payload["format"] == f"crpbot.checkpoint/{version}"


@pytest.mark.parametrize("file", READ, ids=lambda file: file.name)
def test_a_kept_file_predicts_what_it_did(file: Path) -> None:
    x = compute_features(make_market("level-noise", "BTC-USD", rows=300)).values[-5:]
    found = load_checkpoint(file)
    assert (found.symbol, found.recipe and found.recipe.name, found.origin and found.origin.best_epoch) == ("BTC-USD", "kept", 2)
    wanted = json.loads((KEPT / "predictions.json").read_text())
    np.testing.assert_allclose(found.predict(x).probabilities, wanted, rtol=1e-5)


def test_the_first_version_is_refused_and_the_reason_is_said() -> None:
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(KEPT / "checkpoint-1.pt")
    for words in (f"must have the format {FORMAT}", "found crpbot.checkpoint/1", "which formulas", "train it again"):
        assert words in str(error.value)


def test_a_later_version_asks_for_a_later_crpbot() -> None:
    with pytest.raises(CheckpointError, match="checkpoint/3, which a later crpbot wrote; update crpbot"):
        newest({"format": "crpbot.checkpoint/3"}, "it")


@pytest.mark.parametrize(
    "said", [2, None, "crpbot.checkpoint/", "crpbot.checkpoint/0", "crpbot.checkpoint/2.0", f"{FORMAT}{'0' * 9}"]
)
def test_what_is_no_version_was_altered(said: object) -> None:
    with pytest.raises(CheckpointError, match="it was altered"):
        newest({"format": said}, "it")


def test_a_header_goes_through_every_step_on_its_way_and_is_not_changed_itself() -> None:
    steps = {
        1: "it was lost",
        2: lambda header: {**header, "label": {"rule": header["label"]}},
        3: lambda header: {**header, "colour": header["label"]["rule"] + "ish"},
    }
    old = {"format": "crpbot.checkpoint/2", "label": "red"}
    assert newest(old, "it", to=4, former=steps) == {
        "format": "crpbot.checkpoint/4",
        "label": {"rule": "red"},
        "colour": "redish",
    }
    assert old == {"format": "crpbot.checkpoint/2", "label": "red"}
    with pytest.raises(CheckpointError, match="it was lost"):
        newest({"format": "crpbot.checkpoint/1"}, "it", to=4, former=steps)


def test_a_kept_file_would_be_written_today_as_it_was_and_no_version_of_the_code_enters() -> None:
    """The same recipe, seed and data give the same bytes, whatever the commit."""
    file = KEPT / f"checkpoint-{NEWEST}.pt"
    kept = {key: value for key, value in open_model(file).payload.items() if key != "model_state_dict"}
    assert json.loads(json.dumps(header_of(load_checkpoint(file)))) == kept
    assert code_version() not in json.dumps(kept)
