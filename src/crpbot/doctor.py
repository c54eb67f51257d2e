"""Is this machine fit: environment, disk, venue, clock, lake, credentials. Every trouble comes with its remedy."""

import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from crpbot.errors import CandleError
from crpbot.market.lake import Lake
from crpbot.market.venues import VENUES, printable_address
from crpbot.version import code_version

Status = Literal["good", "bad", "absent", "unknown"]

LEAST_SPACE = 2 * 2**30
"""Bytes: two years of minutes for three symbols, models and reports fit several times."""
MOST_SKEW = 2.0
"""Seconds by which the clock may be off: a candle is closed by the clock."""
PATIENCE = 5.0
"""Seconds that a venue has to answer."""
EXTRAS: Mapping[str, tuple[str, str]] = {
    "train": ("torch", "training and diagnosing checkpoints"),
    "live": ("ccxt", "downloading candles"),
    "cloud": ("boto3", "AWS"),
}
"""The package that stands for each extra, and what it is for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: of the thing.
        status: `good`; `bad`, then there is a remedy; `absent` is something optional that is not there; `unknown`,
            where nobody may look.
        words: what was found.
        remedy: what to do; empty where nothing has to be done.

    """

    name: str
    status: Status
    words: str
    remedy: str = ""


def examine(*, home: Path, lake: str, venue: str, now: Callable[[], int], address: str | None = None) -> tuple[Finding, ...]:
    """Look at everything.

    Args:
        home: folder of registry, journal and lake.
        lake: folder or bucket of the candles.
        venue: whose address is asked.
        now: the clock, in milliseconds of UTC.
        address: instead of the venue's own.

    """
    if venue not in VENUES:
        raise CandleError(f"a venue must be one of {', '.join(VENUES)}, found {venue!r}; choose one")
    where = printable_address(address) or VENUES[venue].clock
    return (_python(), *(_extra(name) for name in EXTRAS), _disk(home), *_venue(venue, where, now), _lake(lake), _aws())


def _python() -> Finding:
    return Finding(name="python", status="good", words=f"Python {sys.version.split()[0]}, crpbot {code_version()}")


def _extra(name: str) -> Finding:
    package, purpose = EXTRAS[name]
    try:
        return Finding(name=f"extra {name}", status="good", words=f"{package} {version(package)}, for {purpose}")
    except PackageNotFoundError:
        remedy = f"pip install 'crpbot[{name}]' if you need {purpose}"
        return Finding(name=f"extra {name}", status="absent", words=f"{package} is not installed", remedy=remedy)


def _disk(home: Path) -> Finding:
    there = home
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    words = f"{free / 2**30:.1f} GiB free for {home}"
    if not os.access(there, os.W_OK):
        return Finding(name="disk", status="bad", words=f"{there} cannot be written", remedy="choose another folder with --home")
    if free < LEAST_SPACE:
        return Finding(name="disk", status="bad", words=words, remedy="free 2 GiB, or choose another disk with --home")
    return Finding(name="disk", status="good", words=words)


def _venue(venue: str, address: str, now: Callable[[], int]) -> tuple[Finding, ...]:
    """Ask the venue for the time: it is reachable, and its clock shows how far ours is off."""
    try:
        request = urllib.request.Request(address, headers={"User-Agent": "crpbot"})  # noqa: S310  addresses are ours or the user's
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
            stamp, ours = answer.headers.get("Date"), now()
    except (urllib.error.URLError, OSError, ValueError) as error:
        remedy = "check network and proxy; candles can be imported from files meanwhile (crpbot candles import)"
        return (Finding(name="venue", status="bad", words=f"{venue} does not answer at {address}: {error}", remedy=remedy),)
    reached = Finding(name="venue", status="good", words=f"{venue} answers")
    try:
        skew = abs(ours - parsedate_to_datetime(stamp).timestamp() * 1_000) / 1_000
    except (TypeError, ValueError):
        return (reached, Finding(name="clock", status="absent", words=f"{venue} does not tell the time"))
    words = f"the clock is off by {skew:.1f} s at most"
    if skew > MOST_SKEW + 1:  # the header counts whole seconds
        return (reached, Finding(name="clock", status="bad", words=words, remedy="let the system set its clock (NTP)"))
    return (reached, Finding(name="clock", status="good", words=words))


def _lake(folder: str) -> Finding:
    lake = Lake(folder)
    if not lake.symbols:
        remedy = "crpbot candles download BTC-USD, if you want candles of your own"
        return Finding(name="lake", status="absent", words=f"no candles in {folder}", remedy=remedy)
    try:
        damaged = [f"{symbol} {month}" for symbol in lake.symbols for month in lake.damaged(symbol)]
    except CandleError as error:
        return Finding(name="lake", status="bad", words=str(error), remedy="follow the message")
    if damaged:
        remedy = "delete those files and download again: only what is missing is fetched"
        return Finding(name="lake", status="bad", words=f"damaged: {', '.join(damaged[:5])}", remedy=remedy)
    rows = sum(lake.manifest(symbol).rows for symbol in lake.symbols)
    return Finding(
        name="lake", status="good", words=f"{rows:,} candles of {', '.join(lake.symbols)}, every month as it was written"
    )


def _aws() -> Finding:
    """Whether credentials are there; they are not read, and not tried."""
    kept = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", Path.home() / ".aws" / "credentials"))
    if {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= set(os.environ) or "AWS_PROFILE" in os.environ or kept.is_file():
        return Finding(name="aws", status="good", words="credentials are there (not tried)")
    remedy = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, before training on AWS"
    return Finding(name="aws", status="absent", words="no credentials", remedy=remedy)
