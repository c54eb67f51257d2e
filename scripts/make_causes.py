"""Write docs/causes.md and the examples of `crpbot explain`: what the diagnosis says of networks that were damaged on purpose.

Models are trained into runs/causes where they are not there yet (minutes on two cores): v7 on the bundled BTC-USD and on level
noise, and v6-lost-scaler on the three bundled symbols.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from examples import NOISE, ROWS, Bench, judged, measured
from faults import FAULTS, damaged, founding_payload

from crpbot.dataset.features.compute import compute_features
from crpbot.disk import write_whole
from crpbot.factory import diagnose, read_market
from crpbot.making.model import train_model
from crpbot.model.loading import load_checkpoint
from crpbot.model.network import Normalizer
from crpbot.model.recipe import load_recipe
from crpbot.quality.causes.pages import EXAMPLES_OF, example_rows, examples, found_words
from crpbot.quality.causes.table import CAUSES, FOUNDING_CAUSES
from crpbot.quality.report.data import Judgement
from crpbot.quality.report.text import founding_rows

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "runs" / "causes"
EXAMPLES = ROOT / "src" / "crpbot" / "quality" / "causes" / "examples.json"

HEAD = """# Causes

`crpbot diagnose MODEL --candles PATH` measures a model, names the causes of what it finds, and tries their remedies: each is
fitted on every second day of the rows and judged on the other days. Causes are named in the order of what their remedy repairs;
among those that repair as much, roots come before their symptoms. What makes everything else void comes first.

This page is written by `python scripts/make_causes.py`; do not edit it.
"""


def trained(recipe: str, symbol: str, market: str | None = None) -> Path:
    """Return the folder of a model, trained now where it is not there yet."""
    folder = MODELS / f"{recipe}{'-noise' if market else ''}" / symbol
    if not list(folder.glob("*.pt")):
        candles, source = read_market(market, symbol)
        train_model(symbol, candles, load_recipe(recipe), source=source, seed=0, folder=folder)
    return folder


def table_of_causes() -> Iterator[str]:
    """Explain every cause."""
    yield "\n| cause | | what it means | what to do |\n| --- | --- | --- | --- |\n"
    for kind in CAUSES.values():
        founding = f" (founding cause {kind.founding})" if kind.founding else ""
        yield f"| `{kind.code}` | {kind.severity} | {kind.meaning}{founding} | {kind.remedy} |\n"
    yield "\nThe founding document named four root causes: "
    yield "; ".join(f"{number}. {name}" for number, name in FOUNDING_CAUSES.items()) + ".\n"


def write_examples() -> None:
    """Damage a sound network once for every cause, and keep what was found."""
    candles = read_market(NOISE, "BTC-USD")[0][-ROWS:]
    other = Normalizer.fit(compute_features(read_market(NOISE, "ETH-USD")[0]).values)
    bench = Bench(
        sound=load_checkpoint(trained("v7", "BTC-USD", NOISE)),
        candles=candles,
        other=(other.mean, other.scale),
    )
    found = dict(measured(bench))
    write_whole(EXAMPLES, json.dumps({code: found[code] for code in CAUSES}, indent=1, ensure_ascii=False) + "\n")


def page_of_causes() -> Iterator[str]:
    """Tell how each cause is recognised, with its example: what `crpbot explain` prints."""
    yield f"\n## Each cause, with an example\n\n{EXAMPLES_OF}, is damaged once for each cause.\n"
    yield "`crpbot explain CAUSE` prints the same.\n"
    for kind in CAUSES.values():
        example = examples()[kind.code]
        yield f"\n### `{kind.code}`\n\n{kind.sign}\n\n"
        yield f"Example: {example['fault']}. {' '.join(found_words(example, kind.code))}\n\n"
        yield "| | sound | damaged |\n| --- | --- | --- |\n"
        yield from (f"| {name} | {before} | {after} |\n" for name, before, after in example_rows(example))


def table_of_faults() -> Iterator[str]:
    """Damage a sound network on purpose, and say what comes first."""
    yield (
        "\n## Faults put in on purpose\n\nA sound v7 network in the founding form (weights, scaler, names of the inputs), "
        "damaged in one "
        "way each. Level noise is a made-up market that can be foreseen; the real candles are the bundled year of BTC-USD, "
        "where a sound "
        "network knows very little, so that some faults cost next to nothing. The log loss is that of the first cause's "
        "what-if.\n\n"
        "| fault | right cause | level noise: first cause | log loss | real BTC-USD: first cause | log loss |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
    )
    cases = []
    for market in (NOISE, None):
        candles, source = read_market(market, "BTC-USD")
        other = Normalizer.fit(compute_features(read_market(market, "ETH-USD")[0]).values)
        checkpoint = load_checkpoint(trained("v7", "BTC-USD", market))
        cases.append((checkpoint, candles, source, (other.mean, other.scale)))
    sound = [_first(judged(founding_payload(checkpoint), candles, source=source)) for checkpoint, candles, source, _ in cases]
    yield f"| none | no critical cause | {' | '.join(sound)} |\n"
    for fault in FAULTS:
        found = [_first(judged(damaged(model, fault, other), candles, source=source)) for model, candles, source, other in cases]
        yield f"| {fault.name} | `{fault.cause}` | {' | '.join(found)} |\n"


def _first(judgement: Judgement) -> str:
    if not judgement.causes:
        return "none | "
    first = judgement.causes[0]
    if first.what_if is None:
        return f"`{first.code}` | "
    before, after = first.what_if.measured
    return f"`{first.code}` | {before.log_loss:,.4g} → {after.log_loss:,.4g}"


def founding_table() -> Iterator[str]:
    """Re-enact the disaster: V6 on three symbols, its scaler lost."""
    judgements = []
    for symbol in ("BTC-USD", "ETH-USD", "SOL-USD"):
        folder = trained("v6-lost-scaler", symbol)
        candles, source = read_market(None, symbol)
        judgements.append(diagnose(folder, candles, source=source))
    yield (
        "\n## The founding disaster, re-enacted\n\nRecipe `v6-lost-scaler` on the bundled real candles: trained on normalized "
        "features, then "
        "served without its scaler. The same rows as in the founding document's table.\n\n"
        f"| | {' | '.join(judgement.name for judgement in judgements)} |\n| --- {'| --- ' * len(judgements)}|\n"
    )
    for row in founding_rows(judgements):
        yield f"| {row.name} | {' | '.join(row.cells)} |\n"
    yield f"| first cause | {' | '.join(f'`{judgement.causes[0].code}`' for judgement in judgements)} |\n"
    losses = [judgement.causes[0].what_if for judgement in judgements]
    words = [f"{w.measured[0].log_loss:,.4g} → {w.measured[1].log_loss:,.4g}" if w else "" for w in losses]
    yield f"| its what-if, log loss | {' | '.join(words)} |\n"
    yield (
        "\nA network that raw prices leave mute repeats its biases: no logit is large, and its log loss is nearly the prior's. "
        "That its scaler was "
        "lost shows in what it knows once its inputs are standardized.\n"
    )


def main() -> None:
    """Write the examples, then the page, whole."""
    write_examples()
    text = "".join([HEAD, *table_of_causes(), *table_of_faults(), *founding_table(), *page_of_causes()])
    write_whole(ROOT / "docs" / "causes.md", text)


if __name__ == "__main__":
    main()
