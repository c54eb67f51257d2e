"""Whatever writes is killed where it writes: what bears its final name is whole, and the second time ends the same."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="it forks, and looks into /proc")]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
KILLS = {"state": 0, "lake": 0, "registry": 0, "journal": 0, "tables": 0, "deliver": 3}
"""Of each operation that is quick, 0 for all of them; by night, each of them and of the slow ones is killed at every point."""


@cache
def outcomes() -> dict[str, dict]:
    script = Path(__file__).with_name("killing.py")
    words = [f"{name}:{kills}" for name, kills in KILLS.items()]
    done = subprocess.run(
        [sys.executable, script, *words], capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=600
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["name"] for one in found] == list(KILLS), done.stderr[-2_000:]
    return {one["name"]: one for one in found}


@pytest.mark.parametrize("name", KILLS)
def test_nothing_that_is_killed_leaves_half_a_file_and_the_second_time_ends_the_same(name: str) -> None:
    found = outcomes()[name]
    assert not found["wrong"]
    assert found["points"] >= found["kills"] > 0.9 * KILLS[name]


def test_two_hundred_kills_are_tried() -> None:
    assert sum(one["kills"] for one in outcomes().values()) >= 200


def test_what_is_left_behind_says_by_its_name_that_it_is_no_result() -> None:
    """Names with a dot in front are work in progress, which no reader of ours looks at."""
    for one in outcomes().values():
        assert all(name.startswith(".") for name in one["left"])
    assert not outcomes()["deliver"]["left"]  # the next run of a model folder sweeps it
