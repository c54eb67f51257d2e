"""The training of the demo: a small real one, beside the pages and behind everything else, so that there is one to look at."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from crpbot.web.played import CUT, DAY
from crpbot.web.process import GIB, Limits, Process

NAME = "BTC-USD"
RUNS = "runs"
"""Folder below the home that it works in."""
_DAYS = 180
_LIMITS = Limits(memory=3 * GIB, seconds=3_600.0)
_POLITE = 19
"""As low as a priority gets: whoever looks at the pages comes first."""


@contextmanager
def practice(home: Path) -> Iterator[str]:
    """Train while the block lasts, below the home of a demo; give what is to be said of it, in words."""
    if find_spec("torch") is None:
        yield "Nothing is trained here, since there is no torch: pip install 'crpbot[train]'."
        return
    folder = home / "web" / "practice"
    folder.mkdir(parents=True)
    request = {
        "do": "train",
        "symbol": NAME,
        "candles": None,
        "since": CUT - _DAYS * DAY,
        "until": CUT,
        "recipe": "v8",
        "seed": 0,
        "nice": _POLITE,
        "folder": str(home / RUNS / NAME),
        "limits": asdict(_LIMITS),
    }
    process = Process(request, folder)
    try:
        yield "A small model is trained meanwhile: see Jobs."
    finally:
        process.close()
