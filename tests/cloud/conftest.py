"""AWS on loopback, for tests of this folder."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """moto and the fake, with sentinels as credentials; nothing of the user's own AWS is looked at."""
    if find_spec("boto3") is None:
        pytest.skip("AWS needs the extra cloud")
    from aws import aws_on_loopback

    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_SESSION_TOKEN", "CRPBOT_BUCKET", "CRPBOT_ROLE", "CRPBOT_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with aws_on_loopback(tmp_path / "sagemaker") as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        yield found
