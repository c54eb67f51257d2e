"""What is known of a model: what was decided about it, what was measured of it, and what is kept of it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fastapi import HTTPException

from crpbot.errors import CrpbotError
from crpbot.market.candles import utc
from crpbot.quality.causes.cause import METRIC_WORDS
from crpbot.quality.causes.table import CAUSES
from crpbot.quality.report import plain as read
from crpbot.quality.report.data import finite
from crpbot.quality.report.html import drawn
from crpbot.registry.entries import Entry, add_up
from crpbot.registry.ledger import Line
from crpbot.web.house import House
from crpbot.web.promise import Promise, promise

if TYPE_CHECKING:
    from crpbot.model.checkpoint import Checkpoint

DIAGNOSIS, REPORT = "diagnosis.json", "report.html"
_JUDGED = frozenset({"refuse", "promote", "rehearse", "override"})
"""The moves that answer a judgement."""
_NAME = re.compile(r"[A-Za-z0-9._-]{1,120}")
"""A file name that may stand in a header as it is."""
_ABOUT: Mapping[str, str] = {
    "pt": "the checkpoint: crpbot diagnose, backtest and promote take it",
    "onnx": "the deployed form: normalizer, network, temperature and softmax in one graph",
    "toml": "everything that decides a training run: crpbot train --recipe takes it",
    "json": "everything that was measured of it",
    "html": "the same as a page that stands alone",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model of the registry; times are in milliseconds of UTC, shares and errors fractions.

    Attributes:
        symbol, stage, sha256, recipe: of it; without a recipe where it is foreign.
        since: when it got that stage.
        proven_until, expires: until when it was proven, and when it may not be live any more.
        reason: why it has that stage.
        override: why it may rehearse although it was refused; else empty.
        accuracy, majority_accuracy, over_majority, error: on rows that it had not seen, and the difference with its error.
        ece: calibration error there.
        gates, passed: how many gates were asked, and how many passed.
        cause: code of the first cause; None where none was found.
        trouble: why what was measured cannot be shown; else empty.

    """

    symbol: str
    stage: str
    sha256: str
    recipe: str | None
    since: int
    proven_until: int
    expires: int
    reason: str
    override: str
    accuracy: float | None = None
    majority_accuracy: float | None = None
    over_majority: float | None = None
    error: float | None = None
    ece: float | None = None
    gates: int = 0
    passed: int = 0
    cause: str | None = None
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A gate that a model failed: what was found, what it must be, and the same in words."""

    name: str
    value: float | None
    limit: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """The first cause: what explains most.

    Attributes:
        code: `crpbot explain CODE` tells more; only where `known`.
        message: what it is, what was found, and what to do.
        metric: that tells most, in words; empty where no remedy was tried, like `remedy`.
        before, after: that number as served, and with the remedy; None likewise.

    """

    code: str
    known: bool
    message: str
    metric: str = ""
    remedy: str = ""
    before: float | None = None
    after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """Something that can be downloaded: its name, what it is, and its digest; None for what is drawn when it is asked for."""

    name: str
    about: str
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Where a model comes from, by name."""

    name: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """Everything about one model.

    Attributes:
        model: in short.
        failed: the gates that it failed.
        why: the first cause; None where none was found.
        promise: what became of what it said; None without a journal.
        facts: where it comes from.
        files: that can be downloaded.
        lines: every decision about it, the newest first.
        again: the refusal of a later judgement, which has left it what it is; None where there was none since.
        diagnosis: `diagnosis.json` of the last judgement, which `failed` and `why` are of; None where it cannot be shown.

    """

    model: Model
    failed: tuple[Gate, ...]
    why: Reason | None
    promise: Promise | None
    facts: tuple[Facts, ...]
    files: tuple[File, ...]
    lines: tuple[Line, ...]
    again: Line | None
    diagnosis: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Back:
    """What a rollback of a market would do.

    Attributes:
        symbol: of the market.
        live: the model that would be retired; None where none is live.
        model: that would be live again; None where there is none, and a rollback is refused.
        expired: whether that has expired, and a rollback is refused for it.

    """

    symbol: str
    live: Model | None
    model: Model | None
    expired: bool


def known(house: House, sha256: str) -> Entry:
    """Return the model that a digest means.

    Raises:
        HTTPException: 404.

    """
    entry = house.entry(sha256)
    if entry is None:
        raise HTTPException(404, f"a digest must be the first 12 characters or more of one model's, found {sha256[:64]!r}")
    return entry


def measured(house: House, entry: Entry) -> tuple[Mapping[str, Any] | None, str]:
    """Return what was measured of a model last, or why that cannot be shown."""
    try:
        found = house.judgement(entry)
    except CrpbotError as error:
        return None, str(error)
    return found, "" if found is not None else "nothing that was measured of it is kept"


def last_judged(house: House, entry: Entry) -> tuple[Entry, Line | None]:
    """Return a model with its last judgement, and the refusal that this was where it has left the model what it is."""
    own = [line for line in house.lines() if line.sha256 == entry.sha256 and line.move in _JUDGED]
    if not own or own[-1].diagnosis_sha256 in {None, entry.diagnosis_sha256}:
        return entry, None
    return replace(entry, diagnosis_sha256=own[-1].diagnosis_sha256), own[-1]


def in_short(house: House, entry: Entry) -> Model:
    """Return a model for a list."""
    plain, trouble = measured(house, entry)
    gates, metrics = read.items(plain, "gates"), read.table(plain, "metrics")
    return Model(
        symbol=entry.symbol,
        stage=entry.stage,
        sha256=entry.sha256,
        recipe=entry.recipe,
        since=entry.since,
        proven_until=entry.proven_until,
        expires=entry.expires,
        reason=entry.reason,
        override=entry.override,
        accuracy=read.share(metrics, "accuracy"),
        majority_accuracy=read.share(metrics, "majority_accuracy"),
        over_majority=read.real(metrics, "over_majority", "value"),
        error=read.real(metrics, "over_majority", "error"),
        ece=read.share(metrics, "ece"),
        gates=len(gates),
        passed=sum(gate.get("passed") is True for gate in gates),
        cause=next((read.text(cause, "code") for cause in read.items(plain, "causes")), None),
        trouble=trouble,
    )


def whole(house: House, entry: Entry) -> Whole:
    """Return everything about a model."""
    judged, again = last_judged(house, entry)
    plain, _ = measured(house, judged)
    causes = read.items(plain, "causes")
    return Whole(
        model=in_short(house, entry),
        failed=tuple(
            Gate(
                name=read.text(gate, "name"),
                value=read.real(gate, "value"),
                limit=read.text(gate, "limit"),
                words=read.text(gate, "words"),
            )
            for gate in read.items(plain, "gates")
            if gate.get("passed") is not True
        ),
        why=_reason(causes[0]) if causes else None,
        promise=_promise(house, entry),
        facts=_facts(house, entry, plain),
        files=files_of(judged),
        lines=tuple(line for line in reversed(house.lines()) if line.sha256 == entry.sha256),
        again=again,
        diagnosis=None if plain is None else finite(plain),
    )


def back(house: House, symbol: str) -> Back:
    """Return what a rollback of a market would do."""
    own = [entry for entry in house.entries() if entry.symbol == symbol]
    earlier = house.kept.get("state", house.versions()["models"], lambda: add_up(house.lines())).earlier(symbol)
    live = next((entry for entry in own if entry.stage == "live"), None)
    return Back(
        symbol=symbol,
        live=None if live is None else in_short(house, live),
        model=None if earlier is None else in_short(house, earlier),
        expired=earlier is not None and earlier.expired(house.now()),
    )


def _reason(cause: Mapping[str, Any]) -> Reason:
    code, metric = read.text(cause, "code"), read.text(cause, "what_if", "metric")
    before, after = read.real(cause, "what_if", "before"), read.real(cause, "what_if", "after")
    tried = metric in METRIC_WORDS and before is not None and after is not None
    return Reason(
        code=code,
        known=code in CAUSES,
        message=read.text(cause, "message"),
        metric=METRIC_WORDS[metric] if tried else "",
        remedy=read.text(cause, "what_if", "remedy") if tried else "",
        before=before if tried else None,
        after=after if tried else None,
    )


def _promise(house: House, entry: Entry) -> Promise | None:
    try:
        return promise(house, entry.sha256, entry.symbol)
    except CrpbotError:  # the overview tells of a journal that cannot be read
        return None


def _facts(house: House, entry: Entry, plain: Mapping[str, Any] | None) -> tuple[Facts, ...]:
    own = [line for line in house.lines() if line.sha256 == entry.sha256]
    judged = [line for line in own if line.candles_sha256 is not None]
    data = read.table(plain, "data")
    rows = read.real(data, "rows")
    found = [
        ("Recipe", entry.recipe or "foreign"),
        ("Network", " ".join(part for part in (read.text(plain, "model", "architecture"), _normalized(plain)) if part)),
        *_origin(_speaker(house, entry)),
        (
            "Judged on",
            f"{int(rows):,} rows, {read.text(data, 'from')} to {read.text(data, 'to')}, {read.text(data, 'source')} candles"
            if rows is not None
            else "unknown",
        ),
        ("Expires", utc(entry.expires)),
        ("Checkpoint", entry.sha256),
        ("Candles", judged[-1].candles_sha256 or "" if judged else "unknown"),
        ("Gates", f"table {judged[-1].gate_table}" if judged else "unknown"),
        ("Written by", f"crpbot {own[-1].version}, code {own[-1].code_sha256[:12]}"),
    ]
    return tuple(Facts(name=name, words=words) for name, words in found if words)


def _normalized(plain: Mapping[str, Any] | None) -> str:
    words = read.text(plain, "model", "normalizer")
    temperature = read.real(plain, "model", "temperature")
    return f"normalizer {words}" + ("" if temperature is None else f", temperature {temperature:.3g}") if words else ""


def _speaker(house: House, entry: Entry) -> "Checkpoint | None":
    try:
        return house.speaker(entry)
    except CrpbotError:  # what is kept of it was altered, or it cannot speak: the page shows the rest
        return None


def _origin(checkpoint: "Checkpoint | None") -> list[tuple[str, str]]:
    if checkpoint is None or checkpoint.origin is None or checkpoint.label is None:
        return []
    origin = checkpoint.origin
    return [
        ("Label", str(checkpoint.label.rule)),
        (
            "Fitted on",
            (
                f"{origin.training_rows:,} training and {origin.calibration_rows:,} calibration rows from "
                f"{utc(origin.training_from)} on; it has seen no price after {utc(origin.fitted_until)}"
            ),
        ),
        ("Seed", f"{origin.seed}, epoch {origin.best_epoch} was the best"),
    ]


def files_of(entry: Entry) -> tuple[File, ...]:
    """Return what can be downloaded of a model."""
    files: dict[str, str | None] = {name: digest for name, digest in entry.files.items() if _NAME.fullmatch(name)}
    if entry.diagnosis_sha256 is not None:
        files |= {DIAGNOSIS: entry.diagnosis_sha256, REPORT: None}
    return tuple(File(name=name, about=_ABOUT.get(name.rpartition(".")[2], ""), sha256=digest) for name, digest in files.items())


def content(house: House, entry: Entry, name: str) -> bytes:
    """Return a file that can be downloaded, after proof that it is what was kept.

    Raises:
        RegistryError: it was altered, or is gone.

    """
    if name == DIAGNOSIS:
        return house.registry.judgement(entry)
    if name == REPORT:
        return drawn([json.loads(house.registry.judgement(entry))]).encode("utf-8", "replace")
    return house.registry.kept(entry, name)
