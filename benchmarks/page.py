"""The page of results: from the file alone, without clock and disk, so that a test can hold it against the file."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.results import Figure, Growth, Row, failures_of, groups_of, spread

TITLES = {
    "features": "Features",
    "live": "Live",
    "training": "Training",
    "inference": "Inference",
    "diagnosis": "Diagnosis",
    "backtest": "Backtest",
    "drift": "Drift",
    "web": "Dashboard",
    "start": "Start and size",
    "growth": "Growth",
    "years": "Two markets, two years each",
}
UNNAMED = {"growth": "random walks and drawn rows of seed 0", "web": "the demo's home", "start": "none"}
"""What groups are measured on whose rows do not say it."""
BUSY = 1.5
"""Load over cores from which on others were at work, too."""
ABOUT = """# Benchmarks

`make bench` has measured this and written this page, from [results.json](benchmarks/results.json). Every contender does the same
work in the same run, in turns with ours, in a process of its own. What counts is the best of its rounds, three as a rule; ± is
how far off the worst was. Ratio: how many times as good as the contender ours is; above 1 ours is ahead, whatever the unit. Where
it is not, or a budget is missed, the last column says why. Do not compare times of different machines; compare ratios. Two
markets of two years, trained as written, take a quarter of an hour by themselves: `make bench ONLY=years` adds them."""


def page(results: Mapping[str, Any]) -> str:
    """Return the page as Markdown."""
    parts = [ABOUT, *warnings(results), table(results), *growth(results), facts(results)]
    return "\n\n".join(parts) + "\n"


def warnings(results: Mapping[str, Any]) -> list[str]:
    """Return what a reader has to know first: what failed, what is missing, and what was only tried."""
    failed = failures_of(results)
    quick = [TITLES[name] for name, group in results["groups"].items() if group["quick"]]
    missing = [title for name, title in TITLES.items() if name not in results["groups"] and name != "years"]
    said = []
    if failed:
        said.append("**Failed:**\n\n" + "\n".join(f"- {cell(line)}" for line in failed))
    if quick:
        said.append(f"**Only tried (`--quick`: few rows, one round): {', '.join(quick)}. Those numbers are not to be quoted.**")
    busy = [TITLES[name] for name, group in results["groups"].items() if group["load"] > BUSY * results["machine"]["cores"]]
    if busy:
        said.append(f"**Measured while others kept this machine busy: {', '.join(busy)}.**")
    if missing:
        said.append(f"**Not measured: {', '.join(missing)}.**")
    return said


def table(results: Mapping[str, Any]) -> str:
    """Return the one table."""
    lines = [
        "| work | what | ours | beside it (ratio) | budget | met, or why not first |",
        "| --- | --- | ---: | --- | --- | --- |",
    ]
    for name, (rows, _) in groups_of(results).items():
        if rows:
            lines.append(f"| **{TITLES[name]}** | | | | | |")
        lines += [line(row) for row in rows]
        if results["groups"][name]["failed"]:
            lines.append(f"| **{TITLES[name]}** | | | | | **failed**: {cell(results['groups'][name]['failed'])} |")
    return "\n".join(lines)


def line(row: Row) -> str:
    """Return one row of the table."""
    beside = "<br>".join(
        f"{name}: {shown(row, figure)} ({ratio(row, name)}){noted(figure)}" for name, figure in row.others.items()
    )
    budget = row.budget.text if row.budget else ""
    measured = row.what + (", " if row.what else "") + row.unit
    cells = (row.work, measured, f"**{shown(row, row.ours)}**{noted(row.ours)}", beside, budget, verdict(row))
    return "| " + " | ".join(cell(one) for one in cells) + " |"


def shown(row: Row, figure: Figure) -> str:
    """Return a figure with its spread."""
    if figure.failed:
        return "failed"
    apart = spread(figure)
    return short(row.best(figure)) + ("" if math.isnan(apart) else f" ±{100 * apart:.0f} %")


def noted(figure: Figure) -> str:
    """Return what else is to be said."""
    said = figure.failed or figure.note
    return f"; {said}" if said else ""


def ratio(row: Row, name: str) -> str:
    """Return how many times as good as a contender ours is."""
    value = row.ratios()[name]
    return "—" if math.isnan(value) else f"{short(value)}×" if row.better != "same" else f"{100 * (value - 1):+.1f} %"


def verdict(row: Row) -> str:
    """Return whether the budget is met, and why ours is not ahead where it is not."""
    if row.failures:
        return "**failed**"
    said = {True: "met", False: "**missed**", None: ""}[row.met]
    behind = f"behind {', '.join(row.behind)}" if row.behind else ""
    why = (row.why or "no reason is known") if behind or row.met is False else ""
    return ": ".join(part for part in ("; ".join(part for part in (said, behind) if part), why) if part)


def growth(results: Mapping[str, Any]) -> list[str]:
    """Return the section on growth, as far as it was measured."""
    found = [one for _, grown in groups_of(results).values() for one in grown]
    if not found:
        return []
    head = "| work | rows | seconds | µs a row | extra MiB | |\n| --- | ---: | ---: | ---: | ---: | --- |"
    text = (
        "Each size in a process of its own. Growth is linear where µs a row stay; of few rows, what is done once weighs more. "
        "Memory: the most that the work took over the candles that were there."
    )
    return ["## Growth", text, "\n".join([head, *map(grown_line, found)])]


def grown_line(one: Growth) -> str:
    """Return one row of the table of growth."""
    if one.left or one.failed:
        why = f"left out: {one.left}" if one.left else f"**failed**: {one.failed}"
        return f"| {one.work} | {one.rows:,} | — | — | — | {cell(why)} |"
    return f"| {one.work} | {one.rows:,} | {short(one.seconds)} | {short(one.micros)} | {one.mib:,.0f} | |"


def facts(results: Mapping[str, Any]) -> str:
    """Return on what, with what and when it was measured."""
    m, lines = results["machine"], ["## Machine, versions, data"]
    lines.append(f"{m['processor']}, {m['cores']} cores, {m['memory_gib']} GiB, {m['system']}, Python {m['python']}.")
    lines.append(", ".join(f"{name} {version}" for name, version in results["versions"].items()) + ".")
    lines.append("| | commit | when | seconds | load before | data |\n| --- | --- | --- | ---: | ---: | --- |")
    for name, group in results["groups"].items():
        data = "; ".join(dict.fromkeys(row["data"] for row in group["rows"] if row["data"])) or UNNAMED.get(name, "")
        at = f"{group['date']} | {group['seconds']:.0f} | {group['load']:.1f}"
        lines[-1] += f"\n| {TITLES[name]} | `{group['commit']}` | {at} | {cell(data)} |"
    return "\n\n".join(lines)


def plain_text(results: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return rows of some groups as lines, for a terminal or the README."""
    groups = groups_of(results)
    return "\n".join(told(row) for name in names if name in groups for row in groups[name][0])


def told(row: Row) -> str:
    """Return a row as a few lines of plain text."""
    measured = row.what + (", " if row.what else "") + row.unit
    lines = [f"{row.work}: {measured}", f"  {'crpbot':26}{shown(row, row.ours):>18}{'':12}{noted(row.ours)}".rstrip()]
    lines += [f"  {name:26}{shown(row, figure):>18}{ratio(row, name):>12}{noted(figure)}" for name, figure in row.others.items()]
    if row.budget or row.behind or row.failures:
        lines.append(f"  {row.budget.text + ': ' if row.budget else ''}{verdict(row).replace('**', '')}")
    return "\n".join(lines)


def told_growth(one: Growth) -> str:
    """Return a size as one line."""
    measured = f"{one.seconds:.3f} s, {one.micros:.2f} µs a row, {one.mib:,.0f} MiB"
    return f"{one.work:40}{one.rows:>12,}  {one.left or one.failed or measured}"


def short(value: float) -> str:
    """Return a number with three digits that count."""
    if math.isnan(value):
        return "—"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def cell(text: str) -> str:
    """Return a text that stays in its cell."""
    return text.replace("|", "\\|").replace("\n", " ")
