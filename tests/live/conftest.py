"""A PostgreSQL for the tests that need one, and journals on both databases."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres import Server, binaries, server

from crpbot.live.journal import Journal, open_journal


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    where = binaries()
    if where is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have PostgreSQL: apt-get install postgresql")
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with server(where) as running:
        yield running


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place where no journal is yet, on each database."""
    if request.param == "sqlite":
        return str(tmp_path / "journal.db")
    running: Server = request.getfixturevalue("postgresql")
    return running.url(running.new())


@pytest.fixture
def journal(address: str) -> Iterator[Journal]:
    opened = open_journal(address)
    yield opened
    opened.close()
