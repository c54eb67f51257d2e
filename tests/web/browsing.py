"""A browser that looks at a dashboard."""

import os

import make_screenshots
import pytest


def chromium() -> str:
    """Return the browser of this machine; without one the test is left out, but never under CI."""
    found = make_screenshots.chromium()
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have a browser: apt-get install chromium")
        pytest.skip("there is no browser: apt-get install chromium")
    return found
