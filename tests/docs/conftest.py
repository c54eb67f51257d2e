"""What the pages are given, made once a session; and AWS on this machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from aws import Aws, aws_on_loopback, furnished
from docs.pantry import stock


@pytest.fixture(scope="session")
def pantry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that a page may say is given, by that name."""
    return stock(tmp_path_factory.mktemp("pantry"))


@pytest.fixture(scope="session")
def loopback() -> Iterator[Aws]:
    """AWS on this machine."""
    with aws_on_loopback() as found:
        yield found


@pytest.fixture
def cloud_on_loopback(loopback: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """A fresh AWS."""
    with furnished(loopback, tmp_path, monkeypatch) as found:
        yield found
