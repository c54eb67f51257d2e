"""What every test shares."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "house",
    deadline=None,
    max_examples=25,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("house")

SHARED = Path(__file__).parents[2] / "shared" / "data" / "candles"


@pytest.fixture(scope="session")
def real_candles() -> Path:
    """The folder with two years of real candles; a user's clone does not have it, CI must."""
    if not SHARED.is_dir():
        if os.environ.get("CI"):
            pytest.fail("CI must have two years of real candles beside the checkout")
        pytest.skip("two years of real candles are not beside this checkout")
    return SHARED
