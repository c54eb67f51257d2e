"""What strangers may send is refused in words of ours, within seconds and without filling the memory."""

from functools import cache
from pathlib import Path

import pytest
from fuzz.damage import damaged
from fuzz.drive import KEPT, broken, kept
from fuzz.targets import TARGETS

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
TRIED = 24
"""Damaged files of each target; the nightly run tries them for ten minutes each."""


@cache
def seeds(name: str) -> list[bytes]:
    return list(TARGETS[name].seeds())


@pytest.mark.parametrize("name", TARGETS)
def test_good_files_are_taken(name: str) -> None:
    """Else the damage would be done to what is refused at the door."""
    assert seeds(name)
    for content in seeds(name):
        found = broken(TARGETS[name].take, content)
        assert found == "" or (found.startswith("seconds") and broken(TARGETS[name].take, content) == "")  # the first imports


@pytest.mark.parametrize("case", sorted(KEPT.glob("*/*.b64")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_was_found_stays_mended(case: Path) -> None:
    assert broken(TARGETS[case.parent.name].take, kept(case)) == ""


@pytest.mark.parametrize("name", TARGETS)
def test_damage_is_refused_in_words_of_ours(name: str) -> None:
    for number in range(TRIED):
        content = damaged(seeds(name)[number % len(seeds(name))], number, TARGETS[name].kind)
        assert broken(TARGETS[name].take, content) == "", f"damage {number} of seed {number % len(seeds(name))}"


def test_every_kept_case_belongs_to_a_target() -> None:
    assert {path.name for path in KEPT.iterdir()} <= set(TARGETS)
