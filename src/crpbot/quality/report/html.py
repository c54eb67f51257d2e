"""The report as one page that stands alone: no script, no outside request.

It is drawn from plain data, as `diagnosis.json` keeps it: the verdict first, then why, then pictures, then tables. A file may be
old or damaged: what is not there is left out, and everything is escaped.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from crpbot.quality.causes.cause import METRIC_WORDS
from crpbot.quality.causes.table import CAUSES
from crpbot.quality.metrics import percent
from crpbot.quality.report import plain as read
from crpbot.quality.report.data import Judgement
from crpbot.quality.report.page import page, scroller, words
from crpbot.quality.report.pictures import pictures, spoken
from crpbot.quality.report.svg import Bar, bar_list
from crpbot.quality.report.worth import regime_table

Plain = Mapping[str, Any]

MOST_CAUSES = 4
"""Causes that are open at once; the others wait behind a click."""
_SEEN_AT_ONCE = ("log_loss", "ece", "accuracy", "confidence_over_99", "logit_abs_max")
"""What a what-if shows as bars, besides the number that tells most."""
_CARD = 320
"""Width of what stands in the card of a cause."""
_SHARES = frozenset({"ece", "accuracy", "confidence_over_99", "mean_confidence", "class_bias"})
_NAME = 60
"""Letters of a name that a heading has room for."""
_CELL = 24
"""Letters of a cell that stay in one line."""


def report_page(judgements: Sequence[Judgement]) -> str:
    """Return the page of one or more judged models; everything that comes from a file is escaped."""
    return drawn([judgement.to_dict() for judgement in judgements])


def drawn(plains: Sequence[Plain]) -> str:
    """Return the page of one or more models from their `diagnosis.json`, each as plain types."""
    names = _names(plains)
    title = f"crpbot: {', '.join(names)}"
    foot = (
        "<footer>Shares and errors are of the judged rows; bands and intervals are 95 %. "
        "<code>crpbot explain</code> lists every cause, <code>crpbot explain CAUSE</code> tells what one means.</footer>"
    )
    if len(plains) == 1:
        return page(title, [f"<h1>{escape(names[0])}</h1>", section(plains[0]), foot])
    links = "".join(f'<a href="#model-{i}">{escape(name)}</a>' for i, name in enumerate(names, 1))
    verdicts = "".join(
        f'<li><a href="#model-{i}">{escape(name)}</a><br>{_verdict(plain)}</li>'
        for i, (name, plain) in enumerate(zip(names, plains, strict=True), 1)
    )
    body = [
        f"<h1>{len(plains)} models side by side</h1>",
        f'<nav class="contents" aria-label="Models">{links}</nav>',
        f'<ul class="models">{verdicts}</ul>',
        comparison(plains),
    ]
    body += [f'<h2 id="model-{i}">{escape(names[i - 1])}</h2>{section(plain, tables=False)}' for i, plain in enumerate(plains, 1)]
    return page(title, [*body, foot])


def section(plain: Plain, *, tables: bool = True) -> str:
    """Return one model as markup without headings above the third rank: verdict, causes, pictures, gates, tables.

    Args:
        plain: its `diagnosis.json`.
        tables: whether to end with the table of what was measured, for a model that stands alone.

    """
    selected = "".join(pictures(plain))
    seed = read.text(plain, "gate_table") == "seed"
    return "".join(
        [
            f"<p>{_verdict(plain)}</p>",
            _failed(plain),
            _paragraph(read.text(plain, "words", "plain")),
            _tiles(plain),
            _causes(plain),
            f'<h3>What it did, in pictures</h3><div class="pictures">{selected}</div>' if selected else "",
            _gates(f"Gates: {read.text(plain, 'gate_table')}", read.items(plain, "gates")),
            regime_table(plain),
            "" if seed else _gates("Founding targets, for comparison", read.items(plain, "targets")),
            _measured([plain]) if tables else "",
            _about(plain),
        ]
    )


def comparison(plains: Sequence[Plain]) -> str:
    """Return the founding document's table and that of all measures, one column a model, as markup."""
    return _founding(plains) + _measured(plains)


def _founding(plains: Sequence[Plain]) -> str:
    return _side_by_side(plains, "founding", "The founding document's table", target=False)


def _measured(plains: Sequence[Plain]) -> str:
    return _side_by_side(plains, "table", "What was measured", target=True)


def _side_by_side(plains: Sequence[Plain], kind: str, title: str, *, target: bool) -> str:
    tables = [{read.text(row, "name"): row for row in read.items(plain, "words", kind)} for plain in plains]
    names = list(dict.fromkeys(name for one in tables for name in one))
    if not names:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in _names(plains))
    rows = ""
    for name in names:
        cells = "".join(_filled(read.text(one.get(name), "cell")) for one in tables)
        wanted = next((goal for one in tables if (goal := read.text(one.get(name), "target"))), "")
        style = ' class="deeper"' if name.startswith(" ") else ""
        cells += f"<td><small>{escape(wanted)}</small></td>" if target else ""
        rows += f"<tr><td{style}>{escape(name.strip())}</td>{cells}</tr>"
    last = "<th>founding target</th>" if target else ""
    return f"<h3>{title}</h3>{scroller(f'<table><tr><th></th>{head}{last}</tr>{rows}</table>', title)}"


def _name(plain: Plain) -> str:
    """Return what the model is called; a file that does not say is called by its path."""
    model = read.table(plain, "model")
    named = " ".join(part for part in (read.text(model, "symbol"), read.text(model, "recipe")) if part)
    name = read.text(plain, "words", "name") or named or read.text(model, "path") or "a model"
    return name if len(name) <= _NAME else f"{name[:_NAME]}…"


def _names(plains: Sequence[Plain]) -> list[str]:
    """Return a name for each model, another one for each."""
    names: list[str] = []
    for plain in plains:
        name, number = _name(plain), 1
        while (found := name if number == 1 else f"{name} ({number})") in names:
            number += 1
        names.append(found)
    return names


def _filled(cell: str) -> str:
    style = ' class="short"' if len(cell) <= _CELL else ""
    return f"<td{style}>{escape(cell)}</td>"


def _verdict(plain: Plain) -> str:
    """Return whether it passes, in a few words; a file that does not say is refused."""
    gates, table = read.items(plain, "gates"), read.text(plain, "gate_table")
    if read.at(plain, "passed") is True:
        return f'<span class="verdict good"><span class="badge">PASSED</span>all {len(gates)} {escape(table)} gates</span>'
    causes = read.items(plain, "causes")
    first = f"; first cause: {read.text(causes[0], 'code')}" if causes else ""
    said = f"by {len(_refusing(gates))} of {len(gates)} {table} gates{first}"
    return f'<span class="verdict bad"><span class="badge">REFUSED</span>{escape(said)}</span>'


def _refusing(gates: Sequence[Plain]) -> list[str]:
    return [read.text(one, "name") for one in gates if one.get("passed") is not True and one.get("required") is not False]


def _failed(plain: Plain) -> str:
    names = _refusing(read.items(plain, "gates"))
    return f'<p class="soft">Failed: {escape(", ".join(names))}.</p>' if names else ""


def _paragraph(text: str) -> str:
    return f"<p>{words(text)}</p>" if text else ""


def _tiles(plain: Plain) -> str:
    """Return the few numbers that one looks for first, large."""
    metrics, gates = read.table(plain, "metrics"), read.items(plain, "gates")
    low, high = read.real(metrics, "logit_min"), read.real(metrics, "logit_max")
    tiles = []
    if gates:
        held = sum(gate.get("passed") is True for gate in gates)
        tiles.append(("gates passed", f"{held} of {len(gates)}", f"table {read.text(plain, 'gate_table')}"))
    if (right := read.share(metrics, "accuracy")) is not None:
        common = percent(read.share(metrics, "majority_accuracy"))
        tiles.append(("accuracy", percent(right), f"{common} for the commonest class"))
    if (ece := read.share(metrics, "ece")) is not None:
        tiles.append(("calibration error", percent(ece), f"chance makes {percent(read.share(metrics, 'ece_by_chance'))}"))
    if (sure := read.share(metrics, "confidence_over_99")) is not None:
        tiles.append(("confidence over 99 %", percent(sure), "of the rows"))
    if low is not None and high is not None:
        tiles.append(("logits", f"{spoken(low)} to {spoken(high)}", "a sound model: within ±10"))
    cells = "".join(
        f'<div><dt>{words(name)}</dt><dd>{words(value)}</dd><dd class="soft">{words(note)}</dd></div>'
        for name, value, note in tiles
    )
    return f'<dl class="tiles">{cells}</dl>' if cells else ""


def _causes(plain: Plain) -> str:
    causes = [cause for cause in read.items(plain, "causes") if read.text(cause, "code")]
    if not causes:
        return '<h3>Why</h3><p class="good">No cause for concern was found.</p>' if read.at(plain, "causes") == [] else ""
    shown: dict[str, str] = {}
    cards = [_cause(cause, shown) for cause in causes]
    open_cards, others = "".join(cards[:MOST_CAUSES]), causes[MOST_CAUSES:]
    if not others:
        return f"<h3>Why</h3>{open_cards}"
    names = ", ".join(read.text(cause, "code") for cause in others)
    closed = f'<details class="more"><summary>and {escape(names)}</summary>{"".join(cards[MOST_CAUSES:])}</details>'
    return f"<h3>Why</h3>{open_cards}{closed}"


def _cause(cause: Plain, shown: dict[str, str]) -> str:
    """Return a card; a remedy that was `shown` for another cause already is only named."""
    code = read.text(cause, "code")
    severity = "critical" if read.text(cause, "severity") == "critical" else "warning"
    evidence = ", ".join(
        f"{name.replace('_', ' ')} {_short(value)}"
        for name, one in read.table(cause, "evidence").items()
        if (value := read.real(one)) is not None
    )
    explain = f" · <code>crpbot explain {escape(code)}</code>" if code in CAUSES else ""
    picture, every = _what_if(read.table(cause, "what_if"))
    remedy = read.text(cause, "what_if", "remedy")
    if remedy in shown:
        picture, every = "", f"<p><small><b>What if:</b> {words(remedy)}, as for {escape(shown[remedy])}.</small></p>"
    elif picture:
        shown[remedy] = code
    return (
        f'<div class="cause {severity}{" proven" if picture else ""}"><div><h4>{escape(code)} <small>{severity}</small></h4>'
        f"<p>{words(read.text(cause, 'message'))}</p><small>{escape(evidence)}{explain}</small>{every}</div>{picture}</div>"
    )


def _what_if(what_if: Plain) -> tuple[str, str]:
    """Return what a remedy changes: as a picture of the few numbers that tell most, and as a table of all."""
    metric, remedy, measures = read.text(what_if, "metric"), read.text(what_if, "remedy"), read.table(what_if, "measures")
    bars: list[Bar] = []
    for name in dict.fromkeys((metric, *_SEEN_AT_ONCE)):
        before, after = read.real(measures.get(name), "before"), read.real(measures.get(name), "after")
        if name in METRIC_WORDS and before is not None and after is not None:
            most = max(abs(before), abs(after)) or 1.0
            bars.append(Bar(METRIC_WORDS[name], abs(before) / most, _measure(name, before), "down"))
            bars.append(Bar("", abs(after) / most, _measure(name, after), "up"))
    if not bars:
        return "", ""
    told = f"<b>What if:</b> {words(remedy)}. Orange: as served; blue: with the remedy, on rows that it was not fitted on."
    picture = f"<figure>{bar_list(f'What if {remedy}', bars, width=_CARD)}<figcaption>{told}</figcaption></figure>"
    rows = "".join(
        f"<tr><td>{escape(METRIC_WORDS[name])}</td><td>{escape(_cell(pair, 'before', name))}</td>"
        f"<td>{escape(_cell(pair, 'after', name))}</td></tr>"
        for name, pair in measures.items()
        if name in METRIC_WORDS
    )
    table = f"<table><tr><th></th><th>as served</th><th>with the remedy</th></tr>{rows}</table>"
    return picture, f"<details><summary>all numbers</summary>{scroller(table, 'The what-if in numbers')}</details>"


def _cell(pair: object, when: str, name: str) -> str:
    value = read.real(pair, when)
    if value is not None:
        return _measure(name, value)
    return ", ".join(f"{one} {percent(read.share(part))}" for one, part in read.table(pair, when).items())


def _measure(name: str, value: float) -> str:
    return percent(value) if name in _SHARES else _short(value)


def _short(value: float) -> str:
    return (f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}" if abs(value) < 1e9 else f"{value:.3g}").replace("-", "−")


def _gates(title: str, results: Sequence[Plain]) -> str:
    if not results:
        return ""
    ordered = sorted(results, key=lambda result: result.get("passed") is True)  # what failed first
    rows = "".join(_gate(result) for result in ordered)
    head = "<tr><th></th><th>gate</th><th>value</th><th>must be</th><th>what was found</th></tr>"
    return f"<h3>{escape(title)}</h3>{scroller(f'<table>{head}{rows}</table>', title)}"


def _gate(result: Plain) -> str:
    passed, value, target = result.get("passed") is True, read.real(result, "value"), read.text(result, "target")
    wanted = escape(read.text(result, "limit")) + (f" <small>(target {escape(target)})</small>" if target else "")
    return (
        f'<tr><td class="{"good" if passed else "bad"}">{"passed" if passed else "FAILED"}</td>'
        f'<td class="short">{escape(read.text(result, "name"))}</td>'
        f'<td class="value">{"unknown" if value is None else escape(_short(value))}</td>'
        f'<td class="value">{wanted}</td><td>{escape(read.text(result, "words"))}</td></tr>'
    )


def _about(plain: Plain) -> str:
    facts, path = read.text(plain, "words", "facts"), read.text(plain, "model", "path")
    if not facts and not path:
        return ""
    return f'<h3>What was judged</h3><p class="soft">{words(facts)} <code>{escape(path)}</code></p>'
