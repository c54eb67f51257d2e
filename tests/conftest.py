"""What every test shares."""

import os
import signal
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

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a suite in the background inherits that, and would hand it on
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).parents[2] / "shared" / "data" / "candles"


LONGEST = (
    "live/test_week",
    "cloud/test_machine",
    "cli/test_audit",
    "test_image",
    "cloud/test_commands",
    "cloud/test_worker",
    "test_truth",
    "web/test_story",
)
"""Files that take minutes; they come first, since a file is done by one worker and the other one would wait for it in the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, and leave every other in its place."""
    place = {name: number for number, name in enumerate(LONGEST)}

    def order(item: pytest.Item) -> int:
        return next((place[name] for name in LONGEST if item.nodeid.startswith(f"tests/{name}.py")), len(place))

    items.sort(key=order)


@pytest.fixture(scope="session")
def real_candles() -> Path:
    """The folder with two years of real candles; a user's clone does not have it, CI must."""
    if not SHARED.is_dir():
        if os.environ.get("CI"):
            pytest.fail("CI must have two years of real candles beside the checkout")
        pytest.skip("two years of real candles are not beside this checkout")
    return SHARED
