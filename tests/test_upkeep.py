import dataclasses
from pathlib import Path

import pytest
from live.worlds import promoted_of
from models import quick

from crpbot import upkeep
from crpbot.errors import RegistryError
from crpbot.making.model import make_model
from crpbot.market.candles import MINUTE, Candles
from crpbot.market.synthetic import make_market
from crpbot.quality.gates import Verdict
from crpbot.registry.registry import DAY, Registry

pytestmark = pytest.mark.slow

NOISE = make_market("random-walk", "BTC-USD", rows=16_000)
OLD = 9_000


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    checkpoint = make_model("BTC-USD", NOISE[:OLD], quick(epochs=2), source="file", seed=0)[0]
    return promoted_of(checkpoint, NOISE[:OLD], tmp_path)


def again(registry: Registry, candles: Candles, out: Path, **more: object) -> upkeep.Promotion:
    (entry,) = (one for one in registry.entries() if one.stage == "live")
    return upkeep.retrain(entry, registry, candles, source="file", out=out, now=int(candles.time[-1]), **more)


def test_what_knows_nothing_is_refused_again_and_the_live_model_stays(registry: Registry, tmp_path: Path) -> None:
    (before,) = registry.entries()
    found = again(registry, NOISE, tmp_path / "out")
    assert found.decision.stage is None
    assert registry.entries() == (before,)
    assert [one.stage for one in registry.entries(every=True)] == ["live", "candidate"]


def test_the_new_model_learns_from_a_window_that_rolls_with_the_candles(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training and the judgement are real; only what the gates say is made up, since noise passes none."""

    def content(diagnosis: object, gates: str, history: object = ()) -> object:
        found = weigh(diagnosis, gates, history)
        passed = tuple(dataclasses.replace(one, passed=True) for one in found.verdict.results)
        return dataclasses.replace(found, verdict=Verdict("market", passed))

    from crpbot.making.model import weigh

    monkeypatch.setattr("crpbot.making.model.weigh", content)
    (old,) = registry.entries()
    found = again(registry, NOISE, tmp_path / "out")
    assert found.decision.stage == "live"
    (new,) = registry.entries()
    assert {one.sha256: one.stage for one in registry.entries(every=True)} == {new.sha256: "live", old.sha256: "retired"}
    was, now = (registry.speaker(dataclasses.replace(one, stage="live")).origin for one in (old, new))
    span = old.proven_until - was.training_from
    assert now.training_from - 199 * MINUTE == pytest.approx(new.proven_until - span, abs=30 * MINUTE)
    assert new.proven_until > old.proven_until
    assert new.expires == new.proven_until + MINUTE + 30 * DAY
    registry.rollback("BTC-USD", now=old.proven_until)
    assert registry.entries()[0].sha256 == old.sha256
    shorter = again(registry, NOISE, tmp_path / "short", window_days=5)
    assert shorter.judgement.diagnosis.origin.training_from > now.training_from


def test_without_later_candles_there_is_nothing_to_learn(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="must have later candles"):
        again(registry, NOISE[: OLD - 20], tmp_path / "out")


def test_only_what_expires_soon_is_due(registry: Registry) -> None:
    (entry,) = registry.entries()
    for now, count in ((entry.expires - 8 * DAY, 0), (entry.expires - 7 * DAY, 1), (entry.expires + DAY, 1)):
        assert len(upkeep.due(registry, (), now=now, within_days=upkeep.SOON)) == count
        assert len(upkeep.due(registry, (), now=now, within_days=None)) == 1
    with pytest.raises(RegistryError, match="no live model of ETH-USD"):
        upkeep.due(registry, ("ETH-USD",), now=0, within_days=None)
