"""Pages: templates, and the words for numbers and times that all of them share."""

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from crpbot.market.candles import MINUTE, Candles, utc
from crpbot.quality.metrics import percent
from crpbot.version import code_version
from crpbot.web.security import Visitor

if TYPE_CHECKING:
    from crpbot.web.house import House

NAVIGATION = (
    ("/", "Overview"),
    ("/signals", "Signals"),
    ("/models", "Models"),
    ("/data", "Data"),
    ("/jobs", "Jobs"),
    ("/diagnose", "Diagnose"),
)
"""The pages, in the order of a day's look."""
_SPARK = (
    '<svg class="spark" viewBox="0 0 240 48" preserveAspectRatio="none" role="img" aria-label="{}"><polyline points="{}"/></svg>'
)


def visitor_of(request: Request) -> Visitor:
    """Return who asks."""
    found: Visitor = request.state.visitor
    return found


def house_of(request: Request) -> "House":
    """Return the home folder that the pages show."""
    found: House = request.app.state.house
    return found


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:  # noqa: ANN401
    """Return a page; everything in `values` is escaped, but for `Markup`."""
    house, visitor = house_of(request), visitor_of(request)
    text = (
        _templates()
        .get_template(template)
        .render(
            **values,
            here=request.url.path,
            navigation=NAVIGATION,
            visitor=visitor,
            can_login=request.app.state.doorman.has_token,
            banner=house.setting.words,
            now=house.now(),
            version=code_version(),
        )
    )
    return HTMLResponse(text.encode("utf-8", "replace"), status)  # a file may hold half a character, which no page can


@cache
def _templates() -> Environment:
    found = Environment(loader=PackageLoader("crpbot.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    found.filters |= {
        "utc": utc,
        "percent": percent,
        "points": points,
        "change": change,
        "signed": signed,
        "price": price,
        "ago": ago,
        "span": span,
        "sparkline": sparkline,
        "short": short,
        "difference": difference,
        "sentence": sentence,
        "drift_bar": drift_bar,
    }
    return found


def points(share: float | None) -> str:
    """Return a difference of shares in points.

    >>> points(-0.0123), points(None)
    ('−1.2 points', 'unknown')
    """
    return "unknown" if share is None else f"{100 * share:+.1f} points".replace("-", "−")


def change(share: float | None) -> str:
    """Return a change in percent.

    >>> change(-0.0028), change(None)
    ('−0.28 %', 'unknown')
    """
    return "unknown" if share is None else f"{100 * share:+.2f} %".replace("-", "−")


def signed(value: float) -> str:
    """Return a number with its sign.

    >>> signed(-2.31)
    '−2.3'
    """
    return f"{value:+.1f}".replace("-", "−")


def short(value: float | None) -> str:
    """Return a number with as few digits as tell it.

    >>> short(-0.91666), short(158041.2), short(None)
    ('−0.9167', '158,041', 'unknown')
    """
    if value is None:
        return "unknown"
    size = abs(value)
    return (f"{value:,.4g}" if size < 1e4 else f"{value:,.0f}" if size < 1e9 else f"{value:.3g}").replace("-", "−")


def difference(value: float) -> str:
    """Return a difference with its sign, with as few digits as tell it.

    >>> difference(204.1), difference(-0.91666), difference(0)
    ('+204.1', '−0.9167', '0')
    """
    return f"{'+' if value > 0 else ''}{short(value)}"


def sentence(words: str) -> str:
    """Return a clause as a sentence.

    >>> sentence("nobody trades"), sentence("")
    ('Nobody trades.', '')
    """
    return f"{words[:1].upper()}{words[1:].rstrip('.')}." if words else ""


def price(value: float | None) -> str:
    """Return a price with as many digits as it needs.

    >>> price(104512.3), price(3.14159), price(0.00001234), price(None)
    ('104,512.30', '3.1416', '0.00001234', 'unknown')
    """
    if value is None:
        return "unknown"
    if value >= 100 or value == 0:
        return f"{value:,.2f}"
    digits = max(4, 3 - int(np.floor(np.log10(abs(value)))))
    return f"{value:,.{digits}f}"


def span(seconds: float | None) -> str:
    """Return how long something is, in its largest unit.

    >>> [span(seconds) for seconds in (12, 90, 7_500, 200_000, None)]
    ['12 s', '1 min', '2 h', '2 days', 'unknown']
    """
    if seconds is None:
        return "unknown"
    for unit, long in (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if abs(seconds) >= long * (2 if unit == "days" else 1):
            return f"{int(seconds / long)} {unit}"
    return f"{seconds:.0f} s"


def ago(time: int | None, now: int) -> str:
    """Return how long ago a time of milliseconds was.

    >>> ago(0, 7_500_000), ago(7_500_000, 0), ago(None, 0)
    ('2 h ago', 'in 2 h', 'never')
    """
    if time is None:
        return "never"
    return f"{span((now - time) / 1_000)} ago" if now >= time else f"in {span((time - now) / 1_000)}"


def sparkline(candles: Candles, words: str) -> Markup:
    """Return the closes of candles as a small line by time; those who do not see it are told how long it is, and `words`."""
    if len(candles) < 2:
        return Markup("")
    close, time = candles.close, candles.time - candles.time[0]
    long = span((int(time[-1]) + MINUTE) / 1_000)
    low, high = float(close.min()), float(close.max())
    x = 240 * time / time[-1]
    y = 46 - 44 * (close - low) / ((high - low) or 1.0)
    drawn = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return Markup(_SPARK).format(f"The last {long} {words}", drawn)  # noqa: S704  a constant, whose places are escaped


def drift_bar(away: float, limit: float | None, most: float) -> Markup:
    """Return how far a feature is from training as a bar to the left or right of a middle line, with the limit as two marks.

    Args:
        away: deviations.
        limit: beyond which a model is silent; None where there is none.
        most: deviations that the width stands for.

    """
    half, room = 120.0, 116.0 / (most or 1.0)
    wide = max(1.0, min(abs(away) * room, half))
    style = "beyond" if limit is not None and abs(away) > limit else "within"
    marks = [] if limit is None else [half - limit * room, half + limit * room]
    parts = [f'<rect class="{style}" x="{half - wide if away < 0 else half:.1f}" y="3" width="{wide:.1f}" height="10"/>']
    parts += [f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="16"/>' for x in marks]
    middle = f'<line class="grid" x1="{half:.0f}" x2="{half:.0f}" y1="0" y2="16"/>'
    return Markup(f'<svg class="driftbar" viewBox="0 0 240 16" aria-hidden="true">{middle}{"".join(parts)}</svg>')  # noqa: S704
