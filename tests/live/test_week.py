"""A week of recorded candles through the real loop, against a venue on loopback that fails, and a process that is killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from live.test_loop import assert_same
from live.worlds import batch_signals, promoted_of, without
from models import quick
from venues import House, serving

from crpbot.live.journal import open_journal
from crpbot.live.rules import market_rules
from crpbot.making.model import make_model
from crpbot.market.candles import MINUTE, Candles
from crpbot.market.source import open_source
from crpbot.registry.registry import Registry

pytestmark = pytest.mark.slow

THRESHOLD = 0.5
HISTORY, LEARNED = 2_700, 30_000
CHILD = Path(__file__).parent / "child.py"
KILLS = 5


@pytest.fixture(scope="module")
def candles(real_candles: Path) -> Candles:
    return open_source(str(real_candles), symbols=("BTC-USD",)).read("BTC-USD")[-LEARNED - HISTORY - 7 * 1440 :]


@pytest.fixture(scope="module")
def registry(candles: Candles, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A model of the month before, live."""
    home = tmp_path_factory.mktemp("week")
    past = candles[: LEARNED + HISTORY]
    checkpoint = make_model("BTC-USD", past, quick("v7-relative", epochs=3), source="file", seed=0)[0]
    return promoted_of(checkpoint, past, home)


def start(home: Path, house: House) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(CHILD), str(home), house.address, str(THRESHOLD)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def until(child: subprocess.Popen[str], house: House, moment: int) -> Iterator[None]:
    while house.now() < moment:
        assert child.poll() is None, "the runtime has ended by itself"
        time.sleep(0.02)
    yield


def test_a_week_with_faults_and_kills_says_exactly_what_the_batch_path_says(candles: Candles, registry: Registry) -> None:
    chance = random.Random(8)  # noqa: S311
    home = registry.path.parent.parent
    begin = int(candles.time[LEARNED + HISTORY])
    end = int(candles.time[-1]) + MINUTE
    minutes = candles.time[LEARNED + HISTORY :].tolist()
    absent = set(chance.sample(minutes[2_000:8_000], 3))
    late = {time_: chance.choice([2_000, 20_000, 50_000, 80_000]) for time_ in chance.sample(minutes, 300)}
    with serving({"BTC-USD": candles}, lambda: begin + 1_500, faults=0.03, clock=True) as house:
        house.absent = {("BTC-USD", time_) for time_ in absent}
        house.late = {("BTC-USD", time_): by for time_, by in late.items()}
        child = start(home, house)
        for moment in sorted(chance.sample(range(begin + 400 * MINUTE, end - 1_000 * MINUTE, MINUTE), KILLS)):
            for _ in until(child, house, moment):
                child.send_signal(signal.SIGKILL)
                child.wait()
                child.stdout.close()
            house.now.advance(chance.randint(0, 40) * MINUTE)  # while nobody is there
            child = start(home, house)
        for _ in until(child, house, end + 5 * MINUTE):
            child.send_signal(signal.SIGTERM)
        text = child.communicate(timeout=60)[0]
        assert child.returncode == 0
        assert house.failed > 100
        house.faults = 0.0
        rules = market_rules("coinbase", ["BTC-USD"], address=house.address)["BTC-USD"]
    journal = open_journal(home / "journal.db")
    found = list(reversed(journal.signals(limit=100_000)))
    wanted = batch_signals(registry, without(candles, absent), threshold=THRESHOLD, since=begin, rules=rules)
    assert len(wanted) > 500
    assert_same(found, wanted)
    assert len({one.candle for one in found}) == len(found)
    on_time = [one for one in found if one.status == "signal"]
    assert all(one.recorded - one.candle - MINUTE <= 90_000 for one in on_time)
    assert len(on_time) > 0.9 * len(found)
    assert all(one.outcome is not None for one in found if one.candle < end - 90 * MINUTE)
    assert {event.kind for event in journal.events.newest(1_000)} >= {"start", "stop", "gap", "serves"}
    memory = [json.loads(line)["resident"] for line in text.splitlines()]
    assert len(memory) >= 4
    assert memory[-1] - memory[2] < 8 * 2**20, memory
    journal.close()
