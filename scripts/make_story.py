"""Re-enact how the scaler got lost and write it into docs/explanation: `python scripts/make_story.py`, 15 minutes.

Networks are trained into runs/story where they are not there yet; `page` only writes the page from what was measured.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from make_readme import put

from crpbot.disk import write_whole
from crpbot.factory import diagnose, read_market, repair
from crpbot.making.model import train_model
from crpbot.model.recipe import load_recipe
from crpbot.quality.metrics import percent
from crpbot.quality.report.data import Judgement
from crpbot.quality.report.text import founding_rows

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "runs" / "story"
PAGES = ROOT / "docs" / "explanation"
SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")
SEED = 0
ROLES = {"v6": "V6, trained raw", "v6-lost-scaler": "V6, its scaler lost", "v7-lost-scaler": "V7, its scaler lost"}
"""The networks of the story, by their recipe."""

TOLD_V6 = {
    "Overconfidence >99%": ("100 %", "100 %", "99 %"),
    "Class Bias": ("100 % DOWN", "100 % DOWN", "97 % DOWN"),
    "Average DOWN Logit": ("33,503", "1,398", "98.6"),
    "Average UP Logit": ("−9,475", "−981", "−23.3"),
    "Logit Range": ("15,684 to 52,011", "780 to 2,167", "37 to 215"),
}
TOLD_V7 = {"Logit Range": ("±158,041", "±4,759", "±500"), "Scaler Present": ("No", "No", "No")}
"""What the founding document measured, in the order of `SYMBOLS`; its V7 run ended before the rest was measured."""


def measure(name: str, symbol: str) -> None:
    """Train one network, lose its scaler, diagnose it, repair it, and diagnose it again; keep the numbers."""
    kept = RUNS / f"{name}-{symbol}.json"
    if kept.is_file():
        return
    candles, source = read_market(None, symbol)
    folder, fixed = RUNS / name / symbol, RUNS / name / f"{symbol}-repaired.pt"
    if not folder.is_dir():
        train_model(symbol, candles, load_recipe(name), source=source, seed=SEED, folder=folder)
    found: dict[str, Any] = {"lost": numbers(diagnose(folder, candles, source=source)), "repaired": None}
    if done := repair(folder, candles, out=fixed, source=source).done:
        found["done"] = [f"{one.cause}: {one.remedy}" for one in done]
        found["repaired"] = numbers(diagnose(fixed, candles, source=source))
    write_whole(kept, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    sys.stderr.write(f"{name} {symbol}: {found['lost']['causes']}\n")


def numbers(judgement: Judgement) -> dict[str, Any]:
    """Return what the page tells of a network."""
    m, first = judgement.diagnosis.metrics, next(iter(judgement.causes), None)
    what_if = first.what_if if first else None
    return {
        "rows": m.rows,
        "founding": {row.name: row.cells[0] for row in founding_rows([judgement])},
        "causes": [cause.code for cause in judgement.causes],
        "what_if": what_if and {"remedy": what_if.remedy, "log_loss": [one.log_loss for one in what_if.measured]},
        "accuracy": m.accuracy,
        "majority": m.majority_accuracy,
        "log_loss": m.log_loss,
        "ece": m.ece,
        "over_99": m.confidence_over_99,
        "failed": [gate.name for gate in judgement.verdict.failed],
    }


def story() -> Iterator[str]:
    """Tell it in tables."""
    kept = {(name, symbol): json.loads((RUNS / f"{name}-{symbol}.json").read_text()) for name in ROLES for symbol in SYMBOLS}
    rows = ", ".join(f"{kept['v6', symbol]['lost']['rows']:,} of {symbol}" for symbol in SYMBOLS)
    yield (f"Written by `python scripts/make_story.py`: the bundled candles, seed {SEED}, judged on the test blocks, {rows}.\n")
    yield from beside("v6-lost-scaler", TOLD_V6, kept)
    yield from beside("v7-lost-scaler", TOLD_V7, kept)
    yield "\n### V6, trained raw\n\nNothing was lost here: the network never had a scaler.\n\n"
    yield header(*SYMBOLS)
    raw = [kept["v6", symbol]["lost"] for symbol in SYMBOLS]
    for row in ("Overconfidence >99%", "Class Bias", "Average DOWN Logit", "Average UP Logit", "Logit Range"):
        yield line(row, *(found["founding"][row] for found in raw))
    yield line("accuracy (always the commonest class)", *(right(found) for found in raw))
    yield "\n### Found, tried, repaired\n\n"
    yield header("first cause", "what if: log loss", "`crpbot repair`", "log loss", "over 99 %", "ECE", "accuracy (commonest)")
    for (name, symbol), found in kept.items():
        yield line(f"{ROLES[name]}, {symbol}", f"`{found['lost']['causes'][0]}`", *repaired(found))


def temperatures() -> str:
    """Return a table of what training by focal loss made of the temperature, and what likelihood makes of it."""
    found = []
    for symbol in SYMBOLS:
        folder = RUNS / "v7-lost-scaler" / symbol
        epochs = [json.loads(text) for text in (folder / "training.jsonl").read_text().splitlines()]
        best = [epoch["temperature"] for epoch in epochs if epoch["best"]][-1]
        refitted = json.loads((folder / "diagnosis.json").read_text())["model"]["temperature"]
        found.append(line(symbol, f"{best:.2f}", f"{refitted:.2f}"))
    return header("learned with the weights", "refitted by likelihood") + "".join(found)


def beside(name: str, told: dict[str, tuple[str, ...]], kept: dict[tuple[str, str], Any]) -> Iterator[str]:
    """Put the document's numbers beside those of here."""
    yield f"\n### {ROLES[name]}\n\n"
    yield header(*(f"{symbol}, {where}" for symbol in SYMBOLS for where in ("the document", "here")))
    for row, cells in told.items():
        pairs = zip(cells, SYMBOLS, strict=True)
        yield line(row, *(one for theirs, symbol in pairs for one in (theirs, kept[name, symbol]["lost"]["founding"][row])))


def right(found: dict[str, Any]) -> str:
    """Write how often a network is right, and always saying the commonest class."""
    return f"{percent(found['accuracy'])} ({percent(found['majority'])})"


def repaired(kept: dict[str, Any]) -> Iterator[str]:
    """Yield what the diagnosis found of one network, and what became of it."""
    lost, after = kept["lost"], kept["repaired"]
    yield arrow(*lost["what_if"]["log_loss"]) if lost["what_if"] else "none tried"
    if after is None:
        yield "nothing is proven, nothing is written"
        yield from ("", "", "", "")
        return
    yield "; ".join(kept["done"])
    yield arrow(lost["log_loss"], after["log_loss"])
    yield f"{percent(lost['over_99'])} → {percent(after['over_99'])}"
    yield f"{percent(lost['ece'])} → {percent(after['ece'])}"
    yield f"{percent(lost['accuracy'])} → {percent(after['accuracy'])} ({percent(after['majority'])})"


def arrow(before: float, after: float) -> str:
    """Write what becomes of a number."""
    return f"{before:,.4g} → {after:,.4g}"


def header(*columns: str) -> str:
    """Return the head of a table."""
    return line("", *columns) + line("---", *("---" for _ in columns))


def line(*cells: str) -> str:
    """Return one line of a table."""
    return f"| {' | '.join(cells)} |\n"


def main() -> None:
    """Measure what is not measured yet, and write the page."""
    if sys.argv[1:] != ["page"]:
        RUNS.mkdir(parents=True, exist_ok=True)
        for symbol in reversed(SYMBOLS):
            for name in ROLES:
                measure(name, symbol)
    for name, mark, text in (("lost-scaler", "story", "".join(story())), ("calibration", "temperature", temperatures())):
        page = PAGES / f"{name}.md"
        write_whole(page, put(page.read_text(), mark, text))


if __name__ == "__main__":
    main()
