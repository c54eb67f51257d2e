"""Clocks that jump, zones that change, machines that sleep: nothing is said twice, and nothing stale is told."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from live.test_loop import BEGIN, THRESHOLD, World
from live.worlds import batch_signals, promoted
from models import market

from crpbot.live.clock import SystemClock
from crpbot.live.loop import SETTLE
from crpbot.market.candles import MINUTE, utc

pytestmark = pytest.mark.slow
HOUR = 60 * MINUTE


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.mark.parametrize(
    "jump",
    [HOUR, -HOUR, 1_000, -61_000],
    ids=["asleep-or-an-hour-ahead", "an-hour-back", "a-leap-second", "a-minute-back"],
)
def test_whatever_the_clock_does_each_candle_is_spoken_of_once_and_none_is_told_late(
    tmp_path: Path, models: Path, jump: int
) -> None:
    registry = promoted(tmp_path, models)
    candles = market()[:2_760]
    world = World(tmp_path, candles, start=BEGIN)
    for after in (30, 45):  # it jumps, and some minutes later it jumps again
        world.play(BEGIN + after * MINUTE + SETTLE)
        world.clock._start += jump
    world.play(int(candles.time[-1]) + MINUTE + SETTLE + 1)
    found = list(reversed(world.journal.signals(limit=1_000)))
    assert [one.candle for one in found] == sorted(batch_signals(registry, candles, threshold=THRESHOLD, since=BEGIN))
    told = [key for key, _, _ in world.told if key.startswith("signal:")]
    assert len(set(told)) == len(told)
    on_time = {one.candle for one in found if one.status == "signal"}
    assert {int(key.rpartition(":")[2]) for key in told} <= on_time
    assert all(one.recorded - one.candle - MINUTE <= 90_000 for one in found if one.status == "signal")


@pytest.fixture(params=["Pacific/Apia", "America/New_York", "Europe/London"])
def zone(request: pytest.FixtureRequest) -> Iterator[str]:
    """A zone of this machine: across the date line, and two that change their clocks."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = request.param
    time.tzset()
    yield request.param
    os.environ.pop("TZ") if before is None else os.environ.__setitem__("TZ", before)
    time.tzset()


def test_the_zone_of_the_machine_does_not_matter(zone: str) -> None:
    assert time.tzname[0] != "UTC", zone
    assert abs(SystemClock().now() - time.time() * 1_000) < 60_000
    for moment, text in (
        (1_711_846_800_000, "2024-03-31T01:00Z"),
        (1_730_613_600_000, "2024-11-03T06:00Z"),
    ):  # clocks are changed
        assert utc(moment) == text
