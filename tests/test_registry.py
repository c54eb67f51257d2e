import dataclasses
import json
from pathlib import Path

import pytest
from models import market, model

from crpbot.errors import RegistryError
from crpbot.factory import diagnose
from crpbot.model.loading import file_sha256, load_checkpoint
from crpbot.model.pt_file import save_checkpoint
from crpbot.quality.gates import Verdict
from crpbot.quality.report.data import Judgement
from crpbot.registry import Registry, decide


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "lstm_BTC-USD_v7_enhanced.pt"
    save_checkpoint(model(), path, probe=market_rows())
    return path


def market_rows() -> object:
    from crpbot.dataset.assemble import assemble
    from crpbot.dataset.features.sets import feature_set
    from crpbot.dataset.labels import LabelRule

    return assemble(market(), feature_set("founding-72"), LabelRule(kind="horizon", horizon=15)).x[:50]


@pytest.fixture
def judgement(file: Path) -> Judgement:
    return diagnose(file, market(), source="synthetic")


def passing(judgement: Judgement, *, source: str = "file", trained_on: str = "file", table: str = "market") -> Judgement:
    """Return the judgement as if every gate had passed, of candles of another kind."""
    d = judgement.diagnosis
    checkpoint = dataclasses.replace(d.checkpoint, origin=dataclasses.replace(d.checkpoint.origin, source=trained_on))
    subject = dataclasses.replace(d.subject, checkpoint=checkpoint)
    d = dataclasses.replace(d, subject=subject, data=dataclasses.replace(d.data, source=source))
    good = tuple(dataclasses.replace(result, passed=True) for result in judgement.verdict.results)
    return dataclasses.replace(judgement, diagnosis=d, verdict=Verdict(table, good))


@pytest.mark.parametrize(
    ("facts", "stage"),
    [
        ({}, "live"),
        ({"source": "sample", "trained_on": "sample"}, "live"),
        ({"source": "synthetic"}, "shadow"),
        ({"trained_on": "synthetic"}, "shadow"),
        ({"table": "seed"}, "shadow"),
    ],
)
def test_only_market_gates_on_real_candles_lead_to_live(judgement: Judgement, facts: dict, stage: str) -> None:
    assert decide(passing(judgement, **facts)).stage == stage


def test_a_failed_gate_or_an_unknown_history_refuses(judgement: Judgement) -> None:
    assert decide(judgement).stage is None
    assert "too-good" in decide(judgement).reason
    good = passing(judgement)
    nobody = dataclasses.replace(good.diagnosis.checkpoint, origin=None)
    foreign = dataclasses.replace(good.diagnosis, subject=dataclasses.replace(good.diagnosis.subject, checkpoint=nobody))
    assert decide(dataclasses.replace(good, diagnosis=foreign)).stage is None


def test_what_passes_is_kept_by_digest_and_every_decision_is_in_the_ledger(
    tmp_path: Path, judgement: Judgement, file: Path
) -> None:
    registry = Registry(tmp_path)
    assert registry.entries() == ()
    registry.record(passing(judgement), file, now=0)
    registry.record(passing(judgement, source="synthetic"), file, now=60_000)
    registry.record(judgement, file, now=120_000)
    live, shadow = registry.entries()
    assert (live.stage, shadow.stage) == ("live", "shadow")
    assert registry.checkpoint(live).read_bytes() == file.read_bytes()
    ledger = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert [(line["time"], line["stage"]) for line in ledger] == [
        ("1970-01-01T00:00Z", "live"),
        ("1970-01-01T00:01Z", "shadow"),
        ("1970-01-01T00:02Z", None),
    ]


def test_a_model_that_was_changed_may_not_speak(tmp_path: Path, judgement: Judgement, file: Path) -> None:
    registry = Registry(tmp_path)
    registry.record(passing(judgement), file, now=0)
    entry = registry.entries()[0]
    registry.checkpoint(entry).write_bytes(b"other")
    with pytest.raises(RegistryError, match="must be the checkpoint that was promoted"):
        registry.checkpoint(entry)


def test_the_deployed_form_speaks_and_is_proven_to_be_the_one_that_was_promoted(
    tmp_path: Path, judgement: Judgement, file: Path
) -> None:
    registry = Registry(tmp_path)
    registry.record(passing(judgement), file, now=0)
    registry.record(judgement, file, now=0)
    (entry,) = registry.entries()
    kept, refused = (json.loads(line)["onnx_sha256"] for line in (tmp_path / "ledger.jsonl").read_text().splitlines())
    path = registry.deployed(entry)
    assert (kept, refused) == (entry.onnx_sha256, None)
    assert load_checkpoint(path).network.checkpoint_sha256 == entry.sha256 == file_sha256(file)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(RegistryError, match="must be the deployed form that was promoted"):
        registry.deployed(entry)
    path.unlink()
    with pytest.raises(RegistryError, match="found another or none"):
        registry.deployed(entry)


def test_what_was_promoted_before_there_was_a_deployed_form_speaks_from_its_checkpoint(
    tmp_path: Path, judgement: Judgement, file: Path
) -> None:
    registry = Registry(tmp_path)
    registry.record(passing(judgement), file, now=0)
    plain = json.loads((tmp_path / "registry.json").read_text())
    del plain["models"][0]["onnx_sha256"]
    (tmp_path / "registry.json").write_text(json.dumps(plain))
    (entry,) = registry.entries()
    assert registry.deployed(entry) == registry.checkpoint(entry)


def test_a_deployed_form_is_not_promoted(tmp_path: Path, judgement: Judgement) -> None:
    with pytest.raises(RegistryError, match=r"must be the \.pt file"):
        Registry(tmp_path / "r").record(passing(judgement), tmp_path / "model.onnx", now=0)
    assert not (tmp_path / "r").exists()


def test_a_file_that_changed_after_it_was_judged_is_not_promoted(tmp_path: Path, judgement: Judgement, file: Path) -> None:
    copy = tmp_path / file.name
    copy.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(RegistryError, match="must be the file that was judged"):
        Registry(tmp_path / "r").record(passing(judgement), copy, now=0)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "crpbot.registry/9", "models": []}', '{"format": "crpbot.registry/1"}'])
def test_a_damaged_registry_is_an_error_not_an_empty_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "registry.json").write_text(text)
    with pytest.raises(RegistryError, match="must"):
        Registry(tmp_path).entries()
