"""What the pages are given, made once a session; and AWS on this machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from aws import Aws, aws_on_loopback, begin, end
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
    """A fresh AWS, as docs/cloud/README.md furnishes an account; nothing of the user's own is looked at."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_SESSION_TOKEN", "CRPBOT_BUCKET", "CRPBOT_ROLE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    for name, value in loopback.environment.items():
        monkeypatch.setenv(name, value)
    begin(loopback, tmp_path / "sagemaker")
    yield loopback
    end(loopback)
