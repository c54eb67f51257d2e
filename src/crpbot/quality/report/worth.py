"""Where a model is weak, and what its remedies change, as tables."""

from collections.abc import Mapping
from html import escape
from typing import Any

from crpbot.quality.metrics import percent
from crpbot.quality.report import plain as read
from crpbot.quality.report.page import scroller

Plain = Mapping[str, Any]


def regime_table(plain: Plain) -> str:
    """Return how the model did in parts of the span."""
    rows = "".join(
        f"<tr>{_short(read.text(one, 'name'))}<td>{count:,.0f}</td>{_short(percent(read.share(one, 'accuracy')))}"
        f"{_short(percent(read.share(one, 'majority_accuracy')))}<td>{escape(_over(one))}</td></tr>"
        for one in read.items(plain, "regimes")
        if (count := read.real(one, "rows")) is not None
    )
    if not rows:
        return ""
    head = "<tr><th>part</th><th>rows</th><th>right</th><th>its commonest class</th><th>above it</th></tr>"
    return f"<h3>Calm and wild, month by month</h3>{scroller(f'<table>{head}{rows}</table>', 'Parts of the span')}"


def _short(cell: str) -> str:
    return f'<td class="short">{escape(cell)}</td>'


def _over(one: Plain) -> str:
    value, error = read.real(one, "over_majority", "value"), read.real(one, "over_majority", "error")
    if value is None:
        return "unknown"
    words = f"{100 * value:+.1f} points"
    return words.replace("-", "−") + (f", {value / error:+.1f} standard errors".replace("-", "−") if error else "")
