"""Many models of one symbol, of several seeds and folds: one table, and what they say together."""

import math
from collections.abc import Sequence

from crpbot.market.candles import utc
from crpbot.quality.metrics import percent
from crpbot.quality.report.data import Judgement

HEADINGS = ("model", "judged from", "rows", "accuracy", "over commonest", "ECE", "failed gates")


def run_row(name: str, judgement: Judgement) -> tuple[str, ...]:
    """Return one row of the table, a cell for each of `HEADINGS`."""
    m, failed = judgement.diagnosis.metrics, judgement.verdict.failed
    return (
        name,
        utc(judgement.diagnosis.data.first)[:10],
        "none" if m.rows is None else f"{m.rows:,}",
        percent(m.accuracy),
        "unknown" if m.over_majority is None else f"{_points(m.over_majority.value)} ± {_error(m.over_majority.error)}",
        percent(m.ece),
        ", ".join(result.name for result in failed) or "none",
    )


def runs_words(judgements: Sequence[Judgement]) -> str:
    """Return how many pass, how far apart they are, and what choosing among them costs."""
    over = [m.over_majority.value for m in (one.diagnosis.metrics for one in judgements) if m.over_majority is not None]
    passed = sum(judgement.verdict.passed for judgement in judgements)
    words = f"{passed} of {len(judgements)} pass."
    if over:
        words += (
            f" Accuracy over always saying the commonest class: {_points(sum(over) / len(over))} points on average, "
            f"{_points(min(over))} to {_points(max(over))}."
        )
    return words + (
        f" Whoever keeps the best of them has tried {len(judgements)}, and luck grows with tries: "
        f"crpbot audit MODEL --trials {len(judgements)}."
    )


def _error(share: float) -> str:
    return f"{100 * share:.1f}" if math.isfinite(share) else "unknown"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")
