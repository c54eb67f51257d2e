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
    """A fresh AWS, with sentinels as credentials; nothing of the user's own AWS is looked at."""
    from aws import Aws, begin, end

    assert isinstance(loopback, Aws)
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_SESSION_TOKEN", "CRPBOT_BUCKET", "CRPBOT_ROLE", "CRPBOT_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    for name, value in loopback.environment.items():
        monkeypatch.setenv(name, value)
    begin(loopback, tmp_path / "sagemaker")
    yield loopback
    end(loopback)
