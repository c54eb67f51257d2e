"""AWS on loopback, for tests of this folder."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def loopback() -> Iterator[object]:
    """moto and the fake, as servers."""
    if find_spec("boto3") is None:
        pytest.skip("AWS needs the extra cloud")
    from aws import aws_on_loopback

    with aws_on_loopback() as found:
        yield found


@pytest.fixture
def aws(loopback: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A fresh AWS; nobody's home folder is looked at either."""
    from aws import Aws, furnished

    assert isinstance(loopback, Aws)
    monkeypatch.delenv("CRPBOT_HOME", raising=False)
    with furnished(loopback, tmp_path, monkeypatch) as found:
        yield found
