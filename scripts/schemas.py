"""JSON Schemas (draft 2020-12) of what crpbot writes as JSON, made of the dataclasses it is written from.

The words of a field are those of the docstring of its dataclass, under "Attributes:".
"""

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from crpbot.dataset.labels import CLASSES
from crpbot.live.outcome import Outcome
from crpbot.live.records import Event, PaperSummary
from crpbot.model.checkpoint import Label, Repair
from crpbot.model.training import Epoch
from crpbot.quality.causes.cause import METRIC_WORDS
from crpbot.quality.causes.table import CAUSES, Severity
from crpbot.quality.diagnosis import DataFacts, ModelFacts
from crpbot.quality.experiment import Measures
from crpbot.quality.gates import GateResult, GateTable
from crpbot.quality.measure import Metrics
from crpbot.quality.regimes import Regime
from crpbot.quality.report.curves import Curves
from crpbot.quality.report.data import FORMAT as DIAGNOSIS
from crpbot.quality.selective import Selective
from crpbot.quality.trust import Trust
from crpbot.registry.ledger import FORMAT as LEDGER
from crpbot.registry.ledger import Line
from crpbot.signals.signal import FORMAT as SIGNAL
from crpbot.signals.signal import Signal

Schema = dict[str, Any]
_PLAIN = {str: "string", int: "integer", bool: "boolean", NoneType: "null"}


def words_of(kind: type) -> dict[str, str]:
    """Return what the docstring of a dataclass says of each of its fields."""
    return words_in(inspect.getdoc(kind) or "")


def words_in(text: str) -> dict[str, str]:
    """Return what a docstring says of each field, under "Attributes:"; what Python calls None and NaN is null in JSON."""
    section = re.split(r"\n(?=\S)", text.partition("Attributes:\n")[2])[0]
    entries = re.split(r"\n(?=    \S)", f"\n{section.rstrip()}")
    found: dict[str, str] = {}
    for entry in entries:
        names, colon, text = entry.partition(":")
        if colon:
            words = re.sub(r"`?\b(None|NaN)\b`?", "null", " ".join(text.split()).rstrip("."))
            found |= {name.strip(): words for name in names.split(",")}
    return found


def schema_of(kind: Any) -> Schema:  # noqa: ANN401
    """Return the schema of a type. A number that is not finite, and so could not be measured, is written as null."""
    if kind is float:
        return {"type": ["number", "null"]}
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if is_dataclass(kind):
        assert isinstance(kind, type)
        return record(kind)
    return _generic(get_origin(kind), get_args(kind))


def _generic(origin: Any, args: tuple[Any, ...]) -> Schema:  # noqa: ANN401
    if origin is Literal:
        return {"enum": list(args)}
    if origin in {Union, UnionType}:
        return any_of(*(schema_of(one) for one in args))
    if origin in {tuple, list, Sequence} and args[-1] is Ellipsis:
        return listed(schema_of(args[0]))
    if origin is tuple:
        return {"type": "array", "prefixItems": [schema_of(one) for one in args], "minItems": len(args), "items": False}
    assert origin in {dict, Mapping}
    return {"type": "object", "additionalProperties": schema_of(args[1])}


def any_of(*kinds: Schema) -> Schema:
    """Return the schema of what is one of several kinds."""
    if all(list(kind) == ["type"] for kind in kinds):
        names = [name for kind in kinds for name in ([kind["type"]] if isinstance(kind["type"], str) else kind["type"])]
        return {"type": list(dict.fromkeys(names))}
    return {"anyOf": list(kinds)}


def listed(items: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


def table(properties: Mapping[str, Schema]) -> Schema:
    """Return the schema of an object that has these keys, all of them and no other."""
    return {"type": "object", "properties": dict(properties), "required": list(properties), "additionalProperties": False}


def record(kind: type, *, without: Sequence[str] = (), renamed: Mapping[str, str] | None = None, **other: Schema) -> Schema:
    """Return the schema of a dataclass as `asdict` gives it.

    Args:
        kind: the dataclass.
        without: fields that are not written.
        renamed: fields that are written under another name.
        other: schemas by field of what is written otherwise, or beside the fields.

    """
    types, words = get_type_hints(kind), words_of(kind)
    found = {
        (renamed or {}).get(one.name, one.name): {
            **({"description": words[one.name]} if one.name in words else {}),
            **(other.pop(one.name, {}) or schema_of(types[one.name])),
        }
        for one in fields(kind)  # type: ignore[arg-type]
        if one.name not in without
    }
    return table({**found, **other})


NUMBER, TEXT = schema_of(float), schema_of(str)
NULL = schema_of(NoneType)
BY_CLASS = table(dict.fromkeys(CLASSES, NUMBER))


def said(text: str, schema: Schema) -> Schema:
    """Return a schema with its words."""
    return {**schema, "description": text}


_ROWS = listed(
    table(
        {
            "name": said("what was measured", TEXT),
            "cell": said("how much", TEXT),
            "target": said("of the founding document; empty without one", TEXT),
        }
    )
)
_WORDS = {
    "name": "the model in two words",
    "headline": "the verdict in one sentence",
    "plain": "what the numbers mean for somebody who would trade by them",
    "facts": "which rows it was judged on, what it is, and what it was made from",
    "selective": "what confidence is worth; empty where that is unknown",
}


def _metrics() -> Schema:
    return record(
        Metrics,
        without=("finite_weights", "normalizer_present", "regimes"),
        renamed={
            "ece_interval": "ece_ci",
            "accuracy_interval": "accuracy_ci",
            "rule_accuracy": "one_feature_accuracy",
            "over_rule": "over_one_feature",
        },
        **dict.fromkeys(("logit_mean", "predicted_share", "actual_share", "mean_probability"), any_of(BY_CLASS, NULL)),
        one_feature_rule=said("the best one-feature rule of the training rows, in words", schema_of(str | None)),
    )


def _cause() -> Schema:
    measured = record(Measures, predicted_share=BY_CLASS)["properties"]
    pair = {name: said(one["description"], table({"before": one, "after": one})) for name, one in measured.items()}
    what_if = table(
        {
            "metric": said("the number that tells most", {"enum": list(METRIC_WORDS)}),
            "before": said("that number as served", NUMBER),
            "after": said("the same with the remedy", NUMBER),
            "remedy": said("what was done, in words", TEXT),
            "measures": said("every number before and after", table(pair)),
        }
    )
    return table(
        {
            "code": said("its name", {"enum": list(CAUSES)}),
            "severity": said("how bad it is", {"enum": list(get_args(Severity))}),
            "message": said("what it is, what was found, and what to do", TEXT),
            "evidence": said("the numbers that show it", {"type": "object", "additionalProperties": NUMBER}),
            "what_if": said("what its remedy repairs, where one was tried", any_of(what_if, NULL)),
        }
    )


def _diagnosis() -> Schema:
    when = said("open time of the first and of the last of them, as text", TEXT)
    training = ("epoch", "member", "training_loss", "calibration_loss", "best")
    epoch = record(Epoch, without=[one.name for one in fields(Epoch) if one.name not in training])
    return table(
        {
            "format": {"const": DIAGNOSIS},
            "model": said("which model was judged", schema_of(ModelFacts)),
            "data": said(
                "which rows it was judged on",
                record(DataFacts, renamed={"first": "from", "last": "to"}, first=when, last=when),
            ),
            "repairs": said("what was done to the checkpoint after its training", listed(schema_of(Repair))),
            "dropped": said("how many of its candles made no row, by reason", schema_of(Mapping[str, int] | None)),
            "label": said("what the classes mean", schema_of(Label)),
            "gate_table": said("that decided", {"enum": list(get_args(GateTable))}),
            "metrics": said("what was measured", _metrics()),
            "regimes": said("the same in parts of the span", listed(schema_of(Regime))),
            "selective": said("what confidence is worth", any_of(schema_of(Selective), NULL)),
            "causes": said("in the order of what explains most", listed(_cause())),
            "gates": said("what each gate of the table says", listed(schema_of(GateResult))),
            "targets": said("what the founding table says", listed(schema_of(GateResult))),
            "passed": said("whether every required gate passed", schema_of(bool)),
            "words": said(
                "the sentences and tables of the report",
                table(
                    {
                        **{name: said(text, TEXT) for name, text in _WORDS.items()},
                        "table": said("what was measured, as a table", _ROWS),
                        "founding": said("the founding document's table", _ROWS),
                    }
                ),
            ),
            "curves": said(
                "what the pictures are drawn from", record(Curves, training=said("each epoch of the training", listed(epoch)))
            ),
        }
    )


def _signal(**more: Schema) -> Schema:
    found = record(Signal, probabilities=any_of(BY_CLASS, NULL), **more)
    return table({"format": {"const": SIGNAL}, **found["properties"]})


def _journal() -> Schema:
    of = {
        "symbol": said("of the market", TEXT),
        "model_sha256": said("digest of the checkpoint", TEXT),
        "of": said("what was looked at", {"enum": ["signals", "checks"]}),
    }
    signal = _signal(
        recorded=said("when it was written down, in milliseconds of UTC", schema_of(int)),
        outcome=said("what became of it; null while that is not known", any_of(schema_of(Outcome), NULL)),
    )
    return table(
        {
            "signals": said("the newest ones", listed(signal)),
            "trust": said("whether the confidence is honest, by market and model", listed(record(Trust, **of))),
            "paper": said("what paper trading has earned", schema_of(PaperSummary)),
            "events": said("the ten newest", listed(schema_of(Event))),
        }
    )


def schemas() -> dict[str, Schema]:
    """Return each schema by its name: what is written where is its `title`."""
    made = {
        "diagnosis": ("diagnosis.json of a model folder, and crpbot diagnose --json", _diagnosis()),
        "signal": ("one signal: crpbot signal --json prints a list of them", _signal()),
        "ledger": (
            "one line of ledger.jsonl of a registry",
            table({"format": {"const": LEDGER}, **schema_of(Line)["properties"]}),
        ),
        "journal": ("crpbot journal --json", _journal()),
        "epoch": ("one line of training.jsonl of a model folder", schema_of(Epoch)),
    }
    return {
        name: {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **schema}
        for name, (title, schema) in made.items()
    }
