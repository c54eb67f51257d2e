"""The page of each cause and of each gate: what it means, how it is recognised, what to do, and an example with real numbers."""

import difflib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from crpbot.errors import CrpbotError
from crpbot.quality.causes.table import CAUSES, FOUNDING_CAUSES, Kind
from crpbot.quality.gates import MARKET_GATES, SEED_GATES, Gate
from crpbot.quality.metrics import percent

_ROWS = (
    ("accuracy", "accuracy"),
    ("ece", "calibration error"),
    ("confidence_over_99", "confidence over 99 %"),
    ("class_bias", "class bias"),
    ("log_loss", "log loss"),
)
_SHARES = frozenset({"accuracy", "ece", "confidence_over_99", "class_bias"})
EXAMPLES_OF = (
    "A sound v7 network on level noise, a made-up market that can be foreseen (there, and only there, 70 % right is no alarm)"
)


@cache
def examples() -> Mapping[str, Any]:
    """Return what was measured of every cause, by its code; `scripts/make_causes.py` writes it."""
    found: Mapping[str, Any] = json.loads((files("crpbot.quality.causes") / "examples.json").read_text(encoding="utf-8"))
    return found


def gates() -> Mapping[str, Gate]:
    """Return every gate by its name; where both tables have one, that of the market."""
    return {gate.name: gate for gate in (*SEED_GATES, *MARKET_GATES)}


def explained(name: str) -> dict[str, Any]:
    """Return everything that is known of a cause or a gate: `name`, `kind` and `meaning` as in the list, and more.

    `kind` is the severity of a cause, or `gate`. Where a cause and a gate have one name, the gate is the cause's `gate`.

    Raises:
        CrpbotError: there is neither a cause nor a gate of that name.

    """
    gate = _gate(gates()[name]) if name in gates() else None
    if name in CAUSES:
        return {**_cause(CAUSES[name]), "gate": gate}
    if gate is not None:
        return gate
    near = difflib.get_close_matches(name.lower().replace("_", "-"), [*CAUSES, *gates()], n=1, cutoff=0.0)
    raise CrpbotError(
        f"CAUSE must be a cause or a gate, found {name!r}; the nearest is {near[0]}, and `crpbot explain` lists them all"
    )


def _cause(kind: Kind) -> dict[str, Any]:
    return {
        "name": kind.code,
        "kind": kind.severity,
        "founding": FOUNDING_CAUSES.get(kind.founding),
        "meaning": kind.meaning,
        "sign": kind.sign,
        "remedy": kind.remedy,
        "example": examples().get(kind.code),
    }


def _gate(gate: Gate) -> dict[str, Any]:
    return {
        "name": gate.name,
        "kind": "gate",
        "meaning": _must(gate),
        "measures": gate.measures,
        "limit": str(gate.limit),
        "target": gate.target,
        "required": gate.required,
        "causes": sorted(code for code, example in examples().items() if gate.name in example["failed"]),
    }


def every_line() -> Iterator[tuple[str, str, str]]:
    """Yield name, kind and first sentence of every cause, then of every gate of the market."""
    for kind in CAUSES.values():
        yield kind.code, kind.severity, f"{kind.meaning.partition('. ')[0]}."
    for gate in MARKET_GATES:
        yield gate.name, "gate", _must(gate)


def _must(gate: Gate) -> str:
    return f"{gate.measures} must be {gate.limit}."


def told(page: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what `explained` returned as headings with their text, in the order of reading; without the gate of a cause."""
    if page["kind"] == "gate":
        yield "what it looks at", page["measures"]
        yield "what must hold", page["limit"] + (f" (target {page['target']})" if page["target"] else "")
        yield "failed in the examples of", ", ".join(page["causes"]) or "none"
        return
    founding = f" It is one of the founding document's root causes: {page['founding']}." if page["founding"] else ""
    yield "what it means", page["meaning"] + founding
    yield "how it is recognised", page["sign"]
    yield "what to do", page["remedy"]
    if (example := page["example"]) is not None:
        yield "an example", f"{EXAMPLES_OF}; what was done to it: {example['fault']}."
        yield "what the diagnosis found", " ".join(found_words(example, page["name"]))


def found_words(example: Mapping[str, Any], code: str) -> Iterator[str]:
    """Yield what was found in an example, sentence by sentence."""
    if example["found"]:
        yield example["found"]
    if example["what_if"]:
        yield f"W{example['what_if'][1:]}."
    if example["first"] != code:
        yield f"First it named {example['first']}."
    yield f"It failed {', '.join(example['failed'])}." if example["failed"] else "It failed no gate."


def example_rows(example: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return what was measured before and after, as lines of a table."""
    before, after = example["before"], example["after"]
    rows = [("logits", _range(before), _range(after))]
    return rows + [(words, _number(name, before[name]), _number(name, after[name])) for name, words in _ROWS]


def _range(numbers: Mapping[str, float | None]) -> str:
    low, high = numbers["logit_min"], numbers["logit_max"]
    return "not finite" if low is None or high is None else f"{_plain(low)} to {_plain(high)}"


def _plain(value: float) -> str:
    text = f"{value:,.1f}" if abs(value) < 1e3 else f"{value:,.0f}" if abs(value) < 1e9 else f"{value:.2e}"
    return text.replace("-", "−")


def _number(name: str, value: float | None) -> str:
    return percent(value) if name in _SHARES or value is None else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
