"""`crpbot serve --demo`: a home that comes with the package, and the last week of the bundled year replayed on it."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from zipfile import ZipFile

from crpbot.errors import CrpbotError
from crpbot.live.clock import ReplayClock
from crpbot.live.service import HEALTH
from crpbot.market.candles import MINUTE, Candles, utc
from crpbot.market.sample import read_sample
from crpbot.web import played
from crpbot.web.place import DEMO, place
from crpbot.web.process import clean_environment

ARCHIVE = "demo.zip"
"""The home of the demo; `scripts/make_demo.py` makes it."""
_LONGEST, _LOOK = 60.0, 0.02
"""Seconds until the market must have begun, and between two looks."""


@dataclass(frozen=True)
class Demo:
    """A running demo.

    Attributes:
        home: its folder, which is gone when it is over.
        journal: address of the journal that the replay writes.
        threshold: the least confidence of a signal.
        words: what this is, for people.
        symbols: markets that are played.
        clock: of the replayed market.
        until: when the recording is over, in milliseconds of UTC.

    """

    home: Path
    journal: str
    threshold: float
    words: str
    symbols: tuple[str, ...]
    clock: ReplayClock
    until: int

    def now(self) -> int:
        """Return the time of the replayed market, in milliseconds of UTC; it stands still when the recording is over."""
        return min(self.clock.now(), self.until)

    def candles(self, symbol: str) -> Candles:
        """Return the candles of one symbol of the sample that have closed by now: all that may be known."""
        candles = read_sample(symbol)
        return candles[: int(candles.time.searchsorted(self.now() // MINUTE * MINUTE))]


@contextmanager
def demo(speed: float = 60.0, *, until: int = played.END) -> Iterator[Demo]:
    """Unpack the home, start the replay, and take both away in the end.

    Args:
        speed: how many times as fast as the market; 60 is a candle a second.
        until: when the recording is over, in milliseconds of UTC.

    Raises:
        CrpbotError: the speed is none, or the replay does not begin.

    """
    if not 0 < speed < float("inf"):
        raise CrpbotError(f"the speed of a demo must be a number above 0, found {speed:g}; 60 is a candle a second")
    with place(DEMO) as home:
        unpack(home)
        with _playing(home, speed, until) as clock:
            yield Demo(
                home=home,
                journal=str(home / played.JOURNAL),
                threshold=played.THRESHOLD,
                words=words(speed),
                symbols=played.SYMBOLS,
                clock=clock,
                until=until,
            )


def words(speed: float) -> str:
    """Return what the demo is, in words."""
    return (
        f"A demo: the market of {utc(played.START)[:10]} to {utc(played.END - MINUTE)[:10]}, replayed from the bundled sample, "
        f"{speed:g} times as fast. The models were made from candles before {utc(played.CUT)[:10]}. They speak from "
        f"{played.THRESHOLD:.0%} on, so that there is something to see; in earnest a signal needs 60%. Nothing is traded, and "
        "everything is forgotten in the end."
    )


def unpack(home: Path) -> None:
    """Write the files of the demo below a folder: `extractall` lets no name lead out of it."""
    with as_file(files(__package__) / ARCHIVE) as path, ZipFile(path) as archive:
        archive.extractall(home)


@contextmanager
def _playing(home: Path, speed: float, until: int) -> Iterator[ReplayClock]:
    """Play the market in a process of its own, and give its clock."""
    log = home / "played.log"
    command = [sys.executable, "-m", played.__name__, str(home), repr(speed), str(until)]
    with log.open("wb") as said:
        # A Ctrl-C on the terminal is ours alone: the process ends with us.
        process = subprocess.Popen(  # noqa: S603  our own command
            command,
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=subprocess.STDOUT,
            env=clean_environment(home),  # it needs no token
            start_new_session=True,
        )
    try:
        yield _clock_of(process, home, log, speed)
    finally:
        process.kill()  # what it keeps goes away with it
        process.communicate()


def _clock_of(process: "subprocess.Popen[bytes]", home: Path, log: Path, speed: float) -> ReplayClock:
    """Wait until every market has its history, and return a clock that goes with that of the replay.

    Raises:
        CrpbotError: it has ended, or takes too long.

    """
    latest = time.monotonic() + _LONGEST
    while process.poll() is None and time.monotonic() < latest:
        try:
            health = json.loads((home / played.LIVE / HEALTH).read_text())
        except FileNotFoundError:
            time.sleep(_LOOK)
            continue
        return ReplayClock(health["time"] + int((time.time() - health["written"]) * speed * 1_000), speed=speed)
    found = log.read_text(errors="replace").strip().splitlines()[-1:] or ["nothing"]
    raise CrpbotError(f"the market of the demo must begin to play, found: {found[0]}; start it again, and report this")
