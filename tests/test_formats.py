"""Every format has its rule in docs/packaging.md, and what a later crpbot wrote is refused in words, or not used."""

import json
import re
from pathlib import Path

import pytest
import torch
from models import market

import crpbot
from crpbot.cloud.jobs import Jobs
from crpbot.errors import CandleError, CloudError
from crpbot.market.lake import Lake
from crpbot.model import state
from crpbot.model.former import FORMAT

PAGE = Path(__file__).parents[1] / "docs" / "packaging.md"


def test_every_format_has_its_rule() -> None:
    sources = "".join(path.read_text() for path in Path(crpbot.__file__).parent.rglob("*.py"))
    named = {FORMAT, *re.findall(r"[\"`](crpbot\.[a-z-]+/[0-9]+)[\"`]", sources)}
    assert len(named) > 15
    assert named == set(re.findall(r"`(crpbot\.[a-z-]+/[0-9]+)`", PAGE.read_text()))


def test_a_lake_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.add("BTC-USD", market()[:100], venue="here")
    file = tmp_path / "BTC-USD" / "manifest.json"
    later = {**json.loads(file.read_text()), "format": "crpbot.lake/2", "mood": "fine"}
    file.write_text(json.dumps(later))
    with pytest.raises(CandleError, match="lake/2'; update crpbot"):
        Lake(tmp_path).manifest("BTC-USD")
    assert json.loads(file.read_text()) == later


def test_a_record_of_a_job_in_a_later_version_is_not_called_damaged(tmp_path: Path) -> None:
    """It may be the only trace of a machine that costs money."""
    folder = tmp_path / "cloud" / "jobs"
    folder.mkdir(parents=True)
    (folder / "1-us-east-1-job.json").write_text('{"format": "crpbot.cloud-job/2", "mood": "fine"}')
    with pytest.raises(CloudError, match="cloud-job/2'; update crpbot"):
        Jobs(tmp_path).get("job", region="us-east-1", account="1")


def test_a_training_goes_on_from_a_state_of_its_own_version_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "state"
    state.save_state(file, "key", {"weight": torch.ones(2)}, {"epoch": 3})
    assert state.load_state(file, "key") is not None
    monkeypatch.setattr(state, "FORMAT", "crpbot.state/2")
    assert state.load_state(file, "key") is None
