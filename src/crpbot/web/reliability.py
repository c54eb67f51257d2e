"""Confidence against what came true while live: a picture, and the same as JSON."""

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Query, Request
from markupsafe import Markup

from crpbot.errors import RegistryError
from crpbot.market.files import SYMBOL
from crpbot.quality.report.page import figure
from crpbot.quality.report.svg import Chart
from crpbot.quality.trust import wilson
from crpbot.web.house import House
from crpbot.web.refusal import NOT_FOUND, REFUSED
from crpbot.web.render import house_of

router = APIRouter()
Of = Literal["checks", "signals"]
MODEL = "^([0-9a-f]{12,64})?$"
_ORDER = {"live": 0, "shadow": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """What was said with about the same confidence, and how often it came true.

    Attributes:
        low, high: of the confidence, 0 to 1.
        n: predictions that count.
        said: their mean confidence.
        came_true: the share that did.
        interval: of that share, 95 % (Wilson 1927).

    """

    low: float
    high: float
    n: int
    said: float
    came_true: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """Confidence against what came true.

    Attributes:
        symbol: of the market.
        model_sha256: digest of the model.
        of: what was counted: checks, which are made of every candle that does not overlap, or signals.
        given: how many are known; of signals also those that overlap.
        n: how many count, since no two of them look at the same minutes.
        said: their mean confidence; None without any, like the next two.
        came_true: the share that did.
        interval: of that share, 95 % (Wilson 1927).
        bins: by confidence, least first; those without any are left out.
        words: what was counted.

    """

    symbol: str
    model_sha256: str
    of: Of
    given: int
    n: int
    said: float | None
    came_true: float | None
    interval: tuple[float, float] | None
    bins: tuple[ReliabilityBin, ...]
    words: str


def speaker_of(house: House, symbol: str) -> str | None:
    """Return the digest of the model that spoke last in a market; where none did, of the one that may; None without any."""
    journal = house.journal()
    last = journal.signals(symbol, limit=1) if journal is not None else ()
    if last:
        return last[0].model_sha256
    try:
        own = [entry for entry in house.entries() if entry.symbol == symbol]
    except RegistryError:  # the pages say so
        return None
    return min(own, key=lambda entry: _ORDER.get(entry.stage, 2)).sha256 if own else None


def reliability_of(house: House, sha256: str, symbol: str, of: Of) -> Reliability | None:
    """Return confidence against what came true; None without a journal."""
    journal = house.journal()
    if journal is None:
        return None
    name = ("reliability", sha256, symbol, of)
    version = house.journal_version()
    found = house.kept.get(name, version, lambda: journal.tally.bins(sha256, symbol, of=of, before=house.kept.last(name)))
    bins = tuple(
        ReliabilityBin(
            low=one.low, high=one.high, n=one.n, said=one.said, came_true=one.true / one.n, interval=wilson(one.true, one.n)
        )
        for one in found.counted
    )
    n, true = sum(one.n for one in found.counted), sum(one.true for one in found.counted)
    return Reliability(
        symbol=symbol,
        model_sha256=sha256,
        of=of,
        given=found.given,
        n=n,
        said=sum(one.n * one.said for one in bins) / n if n else None,
        came_true=true / n if n else None,
        interval=wilson(true, n) if n else None,
        bins=bins,
        words=_words(of, found.given, n),
    )


def _words(of: Of, given: int, n: int) -> str:
    if of == "checks":
        return f"{n:,} checks: what it said at the end of every horizon, spoken or not, so that no two look at the same minutes"
    return (
        f"{n:,} of {given:,} signals: the first, then always the next whose candle closed once the one before was known; "
        "signals that overlap come true or fail together, and would count one piece of luck many times"
    )


def picture(found: Reliability) -> Markup:
    """Return the picture; each bar is the 95 % interval of its point."""
    low, high = found.bins[0].low, found.bins[-1].high
    chart = Chart("Confidence against what came true", "said", "came true", (low, high), (0.0, 1.0))
    chart.line([low, high], [low, high], "ideal")
    for one in found.bins:
        chart.line([one.said, one.said], list(one.interval), "up")
    chart.dots([one.said for one in found.bins], [one.came_true for one in found.bins], [float("nan")] * len(found.bins), "up")
    caption = "Below the dashed line it promises too much, above it too little. Bars are 95 % intervals."
    return Markup(figure(chart, caption))  # noqa: S704  `figure` escapes what it is given


@router.get("/api/reliability", tags=["signals"], responses=REFUSED | NOT_FOUND)
def reliability(
    request: Request,
    symbol: Annotated[str, Query(pattern=f"^{SYMBOL.pattern}$", description="of a market, like BTC-USD")],
    model: Annotated[str, Query(pattern=MODEL, description="its digest, or the beginning; else who spoke last")] = "",
    of: Of = "checks",
) -> Reliability:
    """Return confidence against what came true of one model: of its checks, or of its signals that do not overlap."""
    house = house_of(request)
    sha256 = known_model(house, model) if model else speaker_of(house, symbol)
    found = reliability_of(house, sha256, symbol, of) if sha256 is not None else None
    if found is None:
        raise HTTPException(404, f"a model of {symbol} must have said something, found no journal or no model; start crpbot live")
    return found


def known_model(house: House, beginning: str) -> str:
    """Return the digest that begins so; a whole one may be that of a model that is not kept here any more.

    Raises:
        HTTPException: 404.

    """
    if len(beginning) == 64:
        return beginning
    entry = house.entry(beginning)
    if entry is None:
        raise HTTPException(
            404, f"a model must be named by its digest, found {beginning}, which is of none here; see /api/overview"
        )
    return entry.sha256
