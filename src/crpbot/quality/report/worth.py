"""What confidence is worth, and where a model is weak, as a picture and a table."""

import math
from html import escape

from crpbot.quality.diagnosis import Diagnosis
from crpbot.quality.metrics import Z_95, percent
from crpbot.quality.report.page import figure
from crpbot.quality.report.svg import Chart
from crpbot.quality.report.text import selective_words


def selective_picture(d: Diagnosis) -> str:
    """Return coverage against accuracy: what remains when the model speaks only from a confidence on."""
    if d.selective is None or not d.selective.curve:
        return ""
    points = [(one.coverage, one.accuracy) for one in d.selective.curve if one.accuracy is not None]
    xs, ys = [100 * coverage for coverage, _ in points], [100 * accuracy.value for _, accuracy in points]
    bars = [100 * Z_95 * accuracy.error for _, accuracy in points]
    ends = [end for y, bar in zip(ys, bars, strict=True) for end in (y - bar, y + bar) if math.isfinite(end)] or ys
    low, high = min(ends), max(ends)
    margin = 0.1 * (high - low) or 1.0
    chart = Chart(
        "Speaking only when confident", "% of the rows on which it speaks", "% right", (0.0, 100.0), (low - margin, high + margin)
    )
    chart.dots(xs, ys, bars, "up")
    return figure(chart, f"One dot for each least confidence, 95 % bars. {selective_words(d)}")


def regime_table(d: Diagnosis) -> str:
    """Return how the model did in parts of the span."""
    if not d.metrics.regimes:
        return ""
    rows = "".join(
        f"<tr><td>{escape(one.name)}</td><td>{one.rows:,}</td><td>{percent(one.accuracy)}</td><td>{percent(one.majority_accuracy)}</td>"
        f"<td>{100 * one.over_majority.value:+.1f} points, {one.over_majority.errors:+.1f} standard errors</td></tr>"
        for one in d.metrics.regimes
    )
    head = "<tr><th>part</th><th>rows</th><th>right</th><th>its commonest class</th><th>above it</th></tr>"
    return f'<h3>Calm and wild, month by month</h3><div class="wide"><table>{head}{rows}</table></div>'
