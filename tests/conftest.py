"""What every test shares."""

import os
import re
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

try:
    from hypothesis.internal.conjecture import providers
except ImportError:  # an old Hypothesis, which draws no such numbers
    providers = None

# Hypothesis also draws numbers that it finds in the source of whatever happens to be loaded: without that, the same examples are
# drawn whichever files a worker has run before.
if hasattr(providers, "_get_local_constants"):
    providers._get_local_constants = lambda: providers._local_constants

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

MEMORY = Path("/dev/shm")  # noqa: S108  as a place for folders with names that nobody can guess
"""A file system in memory. Much of the suite's time was `fsync`, which makes sure that a write outlives the machine; here only
processes are killed, and what they wrote outlives them anywhere."""


def roomy(place: Path) -> bool:
    """Return whether the suite's files have room in a place, and programs among them may run there."""
    if not os.access(place, os.W_OK | os.X_OK):
        return False
    return shutil.disk_usage(place).free > 4 * 2**30 and not os.statvfs(place).f_flag & os.ST_NOEXEC


for pool in (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
):  # two workers with two threads each wait for one another: ten times as long
    os.environ.setdefault(pool, "1")

if "TMPDIR" not in os.environ and roomy(MEMORY):  # xdist's workers and whatever the tests start inherit it
    os.environ["TMPDIR"] = str(MEMORY)
    tempfile.tempdir = None

SHARED = Path(__file__).parents[2] / "shared" / "data" / "candles"


LONGEST = (
    "live/test_week",
    "making/test_jobs",
    "cloud/test_commands",
    "web/test_story",
    "cli/test_audit",
    "cloud/test_machine",
    "quality/test_causes",
    "test_image",
    "test_truth",
    "cloud/test_worker",
    "quality/test_repair",
)
"""Files that take minutes; they come first, since a file is done by one worker and the other one would wait for it in the end."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out helpers, and what is slow as a whole where nothing slow is asked for: their imports alone take seconds."""
    if collection_path.suffix != ".py" or Path(__file__).parent not in collection_path.parents:
        return None
    if not collection_path.name.startswith("test_"):
        return True
    slow = re.search(r"(?m)^pytestmark = \[?\s*pytest\.mark\.slow\b", collection_path.read_text(encoding="utf-8"))
    return (config.option.markexpr == "not slow" and slow is not None) or None


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
