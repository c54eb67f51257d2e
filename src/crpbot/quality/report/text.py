"""The report in words: one line for a verdict, one table for many models."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crpbot.dataset.labels import CLASSES
from crpbot.market.candles import utc
from crpbot.quality.diagnosis import Diagnosis
from crpbot.quality.measure import Metrics
from crpbot.quality.metrics import percent
from crpbot.quality.selective import Coverage

if TYPE_CHECKING:
    from crpbot.quality.report.data import Judgement


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a name, a cell for each model, and the founding document's target."""

    name: str
    cells: tuple[str, ...]
    target: str = ""


def headline(judgement: "Judgement") -> str:
    """Return the verdict in one sentence."""
    verdict = judgement.verdict
    if verdict.passed:
        return f"{judgement.name} passes all {len(verdict.results)} {verdict.table} gates."
    names = ", ".join(result.name for result in verdict.failed)
    cause = f" First cause: {judgement.causes[0].code}." if judgement.causes else ""
    return (
        f"{judgement.name} is refused by {len(verdict.failed)} of {len(verdict.results)} {verdict.table} gates: {names}.{cause}"
    )


def plain_words(judgement: "Judgement") -> str:
    """Return what the numbers mean for somebody who would trade by them."""
    d, m = judgement.diagnosis, judgement.diagnosis.metrics
    if d.subject.holds is not None:
        return f"There is no model in this file. It holds {d.subject.holds:.200}."
    if m.accuracy is None or m.over_majority is None or m.actual_share is None:
        return "Its predictions are not finite numbers: nothing can be said of them."
    commonest = CLASSES[m.actual_share.index(max(m.actual_share))]
    points = 100 * m.over_majority.value
    words = (
        f"It is right {percent(m.accuracy)} of the time, {abs(points):.1f} points {'more' if points >= 0 else 'less'} "
        f"than always saying {commonest} ({percent(m.majority_accuracy)}; standard error {_error(m)})."
    )
    if d.rule is not None:
        words += f" One feature alone ({d.rule}) is right {percent(m.rule_accuracy)}."
    words += f" {percent(m.confidence_over_60)} of its predictions reach the 60 % that a signal needs."
    if d.data.source == "synthetic":
        return words + " The market is made up: no real one behaves like it."
    return words + " No fee and no slippage is counted here: passing the gates means sound, not profitable."


def facts(d: Diagnosis) -> str:
    """Return which rows the model was judged on, what it is, and what it was made from."""
    seen = {
        "yes": "rows that the model had not seen",
        "unknown": "nobody knows whether the model had seen these rows",
    }[d.data.out_of_sample]
    words = [
        f"{d.data.rows:,} rows from {utc(d.data.first)} to {utc(d.data.last)} ({d.data.source} candles; {seen}).",
        _network_words(d),
        f"Features: {d.subject.feature_set.name}. Label: {d.label.rule}.",
        row_words(d),
        *(f"Repaired, {repair.cause}: {repair.remedy}." for repair in (d.checkpoint.repairs if d.checkpoint else ())),
    ]
    return " ".join(word for word in words if word)


def _network_words(d: Diagnosis) -> str:
    if d.subject.weights is None:
        return "A function: nobody can look inside." if d.subject.holds is None else "No network."
    temperature = "none" if d.subject.weights.temperature is None else f"{d.model.temperature:.3g}"
    words = f"Network {d.model.architecture}, normalizer {d.model.normalizer}, temperature {temperature}."
    if d.metrics.disagreement_mean is None:
        return words
    return (
        f"{words} Its {d.subject.weights.members} members disagree by {100 * d.metrics.disagreement_mean:.1f} points on average "
        "of the side that they take together."
    )


def row_words(diagnosis: Diagnosis) -> str:
    """Return how many rows a model of ours was made from, and how many were dropped and why."""
    origin = diagnosis.origin
    if origin is None:
        return ""
    most_first = sorted(origin.dropped.items(), key=lambda item: (-item[1], item[0]))  # a header may keep them in another order
    dropped = "; ".join(f"{count:,} {reason}" for reason, count in most_first if count)
    return (
        f"Fitted on {origin.training_rows:,} training and {origin.calibration_rows:,} calibration rows. "
        f"Dropped of its candles: {dropped or 'none'}."
    )


def selective_words(diagnosis: Diagnosis) -> str:
    """Return what confidence is worth, for somebody who would trade only by confident predictions."""
    selective = diagnosis.selective
    if selective is None:
        return ""
    sure = next(one for one in selective.sets if one.stated == 0.9)
    sets = f"A set of classes that holds the true one 9 times of 10 has {sure.size:.1f} of 3 ({percent(sure.coverage.value)} do)."
    if selective.least is None or selective.most is None or selective.at_most is None:
        return f"No confidence came true on {selective.chosen_on}. {sets}"
    return (
        f"On {selective.chosen_on} the smallest confidence that came true is {100 * selective.least:.0f} %, the highest "
        f"{100 * selective.most:.0f} %; here "
        f"{_spoken(selective.at_most)}. 60 %, which a signal needs: {_spoken(selective.at_signal)}. {sets}"
    )


def _spoken(coverage: Coverage) -> str:
    if coverage.rows == 0:
        return "no prediction reaches it"
    words = f"{percent(coverage.coverage)} of the predictions reach it"
    if coverage.accuracy is None:
        return f"{words}, {coverage.rows} rows, too few to judge"
    low, high = coverage.accuracy.interval
    interval = f" ({100 * low:.1f} to {100 * min(high, 1.0):.1f})" if math.isfinite(low) else ""
    return f"{words} and are right {percent(coverage.accuracy.value)}{interval}"


def table_rows(judgements: "Sequence[Judgement]") -> list[Row]:
    """Return what was measured, one row a measure, one cell a model."""

    def row(name: str, cell: Callable[[Metrics], str], target: str = "") -> Row:
        return Row(name, tuple(cell(judgement.diagnosis.metrics) for judgement in judgements), target)

    several = any(judgement.diagnosis.metrics.disagreement_mean is not None for judgement in judgements)
    return [
        row("rows judged", lambda m: "none" if m.rows is None else f"{m.rows:,}"),
        Row("from", tuple(utc(judgement.diagnosis.data.first) for judgement in judgements)),
        Row("to", tuple(utc(judgement.diagnosis.data.last) for judgement in judgements)),
        row("accuracy", lambda m: percent(m.accuracy), "68–72 %"),
        row("  ± standard error", _error),
        row("  always the commonest class", lambda m: percent(m.majority_accuracy)),
        row("  best one-feature rule", lambda m: percent(m.rule_accuracy)),
        row("log loss UP/DOWN (prior)", _directional),
        row("calibration error", lambda m: percent(m.ece), "< 5 %"),
        row("logits", _logits, "−10 to 10"),
        row("confidence over 99 %", lambda m: percent(m.confidence_over_99), "< 10 %"),
        row("DOWN or UP from 60 %", lambda m: percent(m.confidence_over_60)),
        row("confidence 50–90 %", lambda m: percent(m.confidence_50_90), "70–80 %"),
        *(
            row(f"says {name} (was {name})", lambda m, i=i: _share(m, i), "40–60 %" if name != "NEUTRAL" else "")  # type: ignore[misc]
            for i, name in enumerate(CLASSES)
        ),
        *([row("members disagree by", _disagreement)] if several else []),
    ]


def founding_rows(judgements: "Sequence[Judgement]") -> list[Row]:
    """Return the diagnostic table of the founding document: what it measured of V6 and V7, by its words."""

    def row(name: str, cell: Callable[[Metrics], str]) -> Row:
        return Row(name, tuple(cell(judgement.diagnosis.metrics) for judgement in judgements))

    return [
        row("Overconfidence >99%", lambda m: percent(m.confidence_over_99)),
        row("Class Bias", _commonest),
        *(
            row(f"Average {name} Logit", lambda m, i=i: "unknown" if m.logit_mean is None else _number(m.logit_mean[i]))  # type: ignore[misc]
            for i, name in enumerate(CLASSES)
        ),
        row("Logit Range", _logits),
        Row("Scaler Present", tuple(_scaler(judgement.diagnosis) for judgement in judgements)),
    ]


def _commonest(m: Metrics) -> str:
    if m.predicted_share is None:
        return "unknown"
    top = m.predicted_share.index(max(m.predicted_share))
    return f"{percent(m.predicted_share[top])} {CLASSES[top]}"


def _scaler(d: Diagnosis) -> str:
    if d.model.normalizer == "absent":
        return "No"
    return "Yes" if d.metrics.normalizer_present else "Yes, never fitted"


def _number(value: float) -> str:
    digits = 1 if abs(value) < 1_000 else 0
    return f"{value:,.{digits}f}".replace("-", "−")


def _error(m: Metrics) -> str:
    if m.over_majority is None or not math.isfinite(m.over_majority.error):
        return "unknown"
    return f"{100 * m.over_majority.error:.2f} points"


def _disagreement(m: Metrics) -> str:
    return "one network" if m.disagreement_mean is None else f"{100 * m.disagreement_mean:.1f} points"


def _directional(m: Metrics) -> str:
    if m.directional_log_loss is None or m.prior_directional_log_loss is None:
        return "unknown"
    return f"{m.directional_log_loss:.4f} ({m.prior_directional_log_loss:.4f})"


def _logits(m: Metrics) -> str:
    if m.logit_min is None or m.logit_max is None:
        return "not finite"
    return f"{_number(m.logit_min)} to {_number(m.logit_max)}"


def _share(m: Metrics, index: int) -> str:
    said = "unknown" if m.predicted_share is None else percent(m.predicted_share[index])
    return f"{said} ({'unknown' if m.actual_share is None else percent(m.actual_share[index])})"
