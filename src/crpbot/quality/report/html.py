"""The report as one page that stands alone: no script, no outside request."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from crpbot.dataset.labels import CLASSES
from crpbot.market.candles import utc
from crpbot.quality.causes.cause import METRIC_WORDS, Cause, WhatIf
from crpbot.quality.diagnosis import Diagnosis
from crpbot.quality.gates import GateResult
from crpbot.quality.metrics import percent
from crpbot.quality.report.data import Judgement
from crpbot.quality.report.page import figure, page
from crpbot.quality.report.svg import Chart
from crpbot.quality.report.text import Row, founding_rows, headline, plain_words, row_words, table_rows
from crpbot.quality.report.worth import regime_table, selective_picture

if TYPE_CHECKING:
    from crpbot.model.training import Epoch

_N_BINS = 60
MOST_CAUSES = 4
"""Causes that are open at once; the others wait behind a click."""


def report_page(judgements: Sequence[Judgement]) -> str:
    """Return the page of one or more judged models; everything that comes from a file is escaped."""
    names = ", ".join(judgement.name for judgement in judgements)
    body = [f"<h1>crpbot: {escape(names)}</h1>", *(f"<p>{_verdict(judgement)}</p>" for judgement in judgements)]
    body.append(_comparison(judgements))
    body += [_section(judgement) for judgement in judgements]
    return page(f"crpbot: {names}", body)


def _verdict(judgement: Judgement) -> str:
    style = "good" if judgement.verdict.passed else "bad"
    return f'<span class="verdict {style}">{escape(headline(judgement))}</span>'


def _comparison(judgements: Sequence[Judgement]) -> str:
    page = _table(judgements, table_rows(judgements), "", "founding target")
    if len(judgements) > 1:
        page += _table(judgements, founding_rows(judgements), "the founding document's table", "")
    return page


def _table(judgements: Sequence[Judgement], rows: Sequence[Row], title: str, last: str) -> str:
    head = "".join(f"<th>{escape(judgement.name)}</th>" for judgement in judgements)
    body = "".join(
        f"<tr><td>{escape(row.name)}</td>{''.join(f'<td>{escape(cell)}</td>' for cell in row.cells)}"
        f"{f'<td><small>{escape(row.target)}</small></td>' if last else ''}</tr>"
        for row in rows
    )
    head = f"<tr><th>{escape(title)}</th>{head}{f'<th>{last}</th>' if last else ''}</tr>"
    return f'<div class="wide"><table>{head}{body}</table></div>'


def _section(judgement: Judgement) -> str:
    d = judgement.diagnosis
    return "".join(
        [
            f"<h2>{escape(judgement.name)}</h2>",
            _facts(d),
            f"<p>{escape(plain_words(judgement))}</p>",
            _causes(judgement),
            f'<div class="pictures">{"".join(_pictures(judgement))}</div>',
            regime_table(d),
            _gates(f"Gates: {judgement.verdict.table}", judgement.verdict.results),
            "" if judgement.verdict.table == "seed" else _gates("Founding targets, for comparison", judgement.targets.results),
        ]
    )


def _facts(d: Diagnosis) -> str:
    seen = {
        "yes": "rows that the model had not seen",
        "unknown": "nobody knows whether the model had seen these rows",
    }[d.data.out_of_sample]
    words = [
        f"{d.data.rows:,} rows from {utc(d.data.first)} to {utc(d.data.last)} ({d.data.source} candles; {seen}).",
        _network_words(d),
        f"Features: {d.subject.feature_set.name}. Label: {d.label.rule}. {row_words(d)}",
        *(f"Repaired, {repair.cause}: {repair.remedy}." for repair in (d.checkpoint.repairs if d.checkpoint else ())),
    ]
    return f"<p class=soft>{escape(' '.join(words))} <code>{escape(d.model.path)}</code></p>"


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


def _causes(judgement: Judgement) -> str:
    causes = judgement.causes
    if not causes:
        return '<p class="good">No cause for concern was found.</p>'
    page = "".join(_cause(cause) for cause in causes[:MOST_CAUSES])
    if others := causes[MOST_CAUSES:]:
        names = ", ".join(cause.code for cause in others)
        page += f"<details><summary>and {escape(names)}</summary>{''.join(_cause(cause) for cause in others)}</details>"
    return page


def _cause(cause: Cause) -> str:
    evidence = ", ".join(f"{name.replace('_', ' ')} {value:,.4g}" for name, value in cause.evidence.items())
    what_if = ""
    if cause.what_if is not None:
        what_if = f"<br>{escape(str(cause.what_if))}<details><summary>all numbers</summary>{_what_if(cause.what_if)}</details>"
    return (
        f'<div class="cause {cause.severity}"><b>{escape(cause.code)}</b> <small>{cause.severity}</small><br>'
        f"{escape(cause.message)}<br><small>{escape(evidence)}{what_if}</small></div>"
    )


def _what_if(what_if: WhatIf) -> str:
    rows = "".join(
        f"<tr><td>{escape(METRIC_WORDS[name])}</td><td>{_cell(pair['before'])}</td><td>{_cell(pair['after'])}</td></tr>"
        for name, pair in what_if.to_dict()["measures"].items()
    )
    return f"<table><tr><th></th><th>as served</th><th>with the remedy</th></tr>{rows}</table>"


def _cell(value: float | Mapping[str, float]) -> str:
    if isinstance(value, Mapping):
        return escape(", ".join(f"{name} {percent(share)}" for name, share in value.items()))
    return f"{value:,.4g}"


def _gates(title: str, results: Sequence[GateResult]) -> str:
    rows = "".join(
        f'<tr><td class="{"good" if result.passed else "bad"}">{"passed" if result.passed else "FAILED"}</td>'
        f"<td>{escape(result.name)}</td><td>{escape(result.words)}</td><td>{escape(result.limit)}"
        f"{f' <small>(target {escape(result.target)})</small>' if result.target else ''}</td></tr>"
        for result in results
    )
    return (
        f'<h3>{escape(title)}</h3><div class="wide"><table><tr><th></th><th>gate</th><th>found</th><th>must be</th></tr>'
        f"{rows}</table></div>"
    )


def _pictures(judgement: Judgement) -> list[str]:
    d = judgement.diagnosis
    pictures = []
    if d.reliability is not None:
        pictures = [_reliability(d), _confidence(d), selective_picture(d), _logits(d)]
    if judgement.history:
        pictures.append(_loss(judgement.history))
    return pictures


def _reliability(d: Diagnosis) -> str:
    curve = d.reliability
    assert curve is not None
    low = min(0.3, float(curve.confidence.min()), float(curve.accuracy.min()) - 0.02)
    chart = Chart("Reliability", "confidence", "share that came true", (low, 1.0), (max(low, 0.0), 1.0))
    chart.line([low, 1.0], [low, 1.0], "ideal")
    chart.dots(curve.confidence.tolist(), curve.accuracy.tolist(), (1.96 * curve.error).tolist(), "up")
    return figure(
        chart,
        f"Honest confidence lies on the dashed line. {len(curve.rows)} bins of equal size, 95 % bars by blocks of a day; "
        f"calibration error {percent(curve.ece)}, of which chance would make {percent(curve.ece_by_chance)}.",
    )


def _confidence(d: Diagnosis) -> str:
    edges = np.linspace(1 / 3, 1, _N_BINS + 1)
    confidence = d.judged.prediction.probabilities.max(axis=1)
    heights = 100 * np.histogram(np.clip(confidence, edges[0], 1), edges)[0] / len(confidence)
    chart = Chart(
        "Confidence", "probability of the predicted class", "% of the rows", (edges[0], 1.0), (0.0, float(heights.max()))
    )
    chart.steps(edges.tolist(), heights.tolist(), "up")
    m = d.metrics
    passing = f"{percent(m.confidence_over_60)} of the rows reach 60 %, {percent(m.confidence_over_99)} pass 99 %."
    return figure(chart, passing)


def _logits(d: Diagnosis) -> str:
    logits = d.judged.prediction.logits
    low, high = float(logits.min()), float(logits.max())
    if high - low < 1e-6:
        low, high = low - 1, high + 1
    edges = np.linspace(low, high, _N_BINS + 1)
    heights = [100 * np.histogram(logits[:, i], edges)[0] / len(logits) for i in range(len(CLASSES))]
    chart = Chart("Logits", "logit, as served", "% of the rows", (low, high), (0.0, 1.35 * float(np.max(heights))))
    for name, height in zip(CLASSES, heights, strict=True):
        chart.steps(edges.tolist(), height.tolist(), name.lower(), name=name)
    return figure(chart, f"From {low:,.1f} to {high:,.1f}; a sound model stays within ±10.")


def _loss(history: "Sequence[Epoch]") -> str:
    members = [[epoch for epoch in history if epoch.member == one] for one in sorted({epoch.member for epoch in history})]
    every = [loss for epoch in history for loss in (epoch.training_loss, epoch.calibration_loss)]
    margin = (max(every) - min(every)) * 0.1 or abs(max(every)) * 0.1 or 1.0
    longest = max(len(epochs) for epochs in members)
    chart = Chart("Training", "epoch", "loss of the recipe", (0.5, longest + 0.5), (min(every) - margin, max(every) + 3 * margin))
    judging = "calibration block" if len(members) == 1 else "rows that stop it"
    for place, epochs in enumerate(members):
        xs = [float(epoch.epoch) for epoch in epochs]
        for values, style, name in (
            ([epoch.training_loss for epoch in epochs], "down", "training rows"),
            ([epoch.calibration_loss for epoch in epochs], "up", judging),
        ):
            chart.line(xs, values, style, name="" if place else name)
            chart.dots(xs, values, [float("nan")] * len(xs), style)
    best = ", ".join(str(max((epoch.epoch for epoch in epochs if epoch.best), default=0)) for epochs in members)
    if len(members) == 1:
        return figure(chart, f"Epoch {best} was kept: the best log loss on the calibration block, after the best temperature.")
    return figure(chart, f"Of the members the epochs {best} were kept: the best log loss on the rows that stop each.")
