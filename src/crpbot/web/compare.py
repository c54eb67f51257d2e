"""Two models side by side: what was measured, what the gates and causes say, and what their recipes do not share."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup

from crpbot.errors import CrpbotError
from crpbot.model.folder import RECIPE_NAME
from crpbot.model.plain import flat
from crpbot.quality.metrics import Z_95
from crpbot.quality.report import plain as read
from crpbot.quality.report.html import comparison
from crpbot.quality.report.pictures import pictures
from crpbot.registry.entries import Entry
from crpbot.web.house import House
from crpbot.web.model import Model, in_short, known, measured
from crpbot.web.refusal import NOT_FOUND, REFUSED
from crpbot.web.render import house_of, render

router = APIRouter()
_PICTURES = 4
"""Pictures of each, those that say most: reliability, the same by class, confidence and logits."""
_ERROR = {"accuracy": "over_majority", "directional_log_loss": "over_direction"}
"""Where the standard error of a metric is: what it is compared with there is the same for both on the same rows."""
_INTERVAL = {"ece": "ece_ci"}
Row = tuple[str, str, str, bool | None]
_METRICS: tuple[Row, ...] = (
    ("accuracy", "accuracy", "share", True),
    ("ece", "calibration error", "share", False),
    ("log_loss", "log loss", "number", False),
    ("directional_log_loss", "log loss UP against DOWN", "number", False),
    ("brier", "Brier score", "number", False),
    ("class_bias", "class bias", "share", False),
    ("confidence_over_60", "confidence from 60 %", "share", None),
    ("confidence_over_99", "confidence over 99 %", "share", False),
    ("logit_abs_max", "largest |logit|", "number", None),
)
"""Fields of `metrics`, what people call them, whether they are shares, and whether more is better; None where neither is."""
Digest = Annotated[str, Query(max_length=64, description="digest of a model, or 12 characters or more of its beginning")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One number of both.

    Attributes:
        name, words: of the number; `unit` is `share` or `number`.
        a, b: of each; None where it is unknown.
        difference: b less a; None where they were not judged on the same rows, or one is unknown.
        error: standard error of the difference as if both were independent, on the same rows too large; None where unknown.
        wanted: `more` or `less`; None where neither is better.
        better: which is better beyond two such errors, `a` or `b`; None where nobody can tell.

    """

    name: str
    words: str
    unit: str
    a: float | None
    b: float | None
    difference: float | None
    error: float | None
    wanted: str | None
    better: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePair:
    """One gate of both: whether each passed, None where it was not asked, and its value."""

    name: str
    limit: str
    a: bool | None
    b: bool | None
    a_value: float | None
    b_value: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key of a recipe on which the two differ; None where a recipe does not have it."""

    name: str
    a: str | None
    b: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two models side by side.

    Attributes:
        a, b: the models.
        same_rows: whether both were judged on the same rows of the same candles with the same labels.
        apart: why their numbers may not be subtracted; empty where they may.
        measures: the numbers of both.
        gates: of both.
        causes: codes, of both.
        recipes: keys on which the recipes differ; None where one cannot be read.
        shared: how many keys are the same.

    """

    a: Model
    b: Model
    same_rows: bool
    apart: str
    measures: tuple[Measure, ...]
    gates: tuple[GatePair, ...]
    causes: tuple[tuple[str, ...], tuple[str, ...]]
    recipes: tuple[Key, ...] | None
    shared: int


def compare_two(house: House, a: Entry, b: Entry) -> Comparison:
    """Return two models side by side."""
    one, two = measured(house, a)[0] or {}, measured(house, b)[0] or {}
    apart = why_apart(one, two)
    first, second = _recipe(house, a), _recipe(house, b)
    names = sorted({*(first or {}), *(second or {})})
    keys = None
    if first is not None and second is not None:
        keys = tuple(
            Key(name=name, a=first.get(name), b=second.get(name)) for name in names if first.get(name) != second.get(name)
        )
    return Comparison(
        a=in_short(house, a),
        b=in_short(house, b),
        same_rows=not apart,
        apart=apart,
        measures=measures(one, two, subtract=not apart),
        gates=_gates(one, two),
        causes=(_codes(one), _codes(two)),
        recipes=keys,
        shared=0 if keys is None else len(names) - len(keys),
    )


def why_apart(one: Mapping[str, Any], two: Mapping[str, Any]) -> str:
    """Return why the numbers of two diagnoses may not be subtracted; empty where they may."""
    if not one or not two:
        return "what was measured of one of them cannot be shown"
    if read.table(one, "data").get("sha256") != read.table(two, "data").get("sha256"):
        return "they were judged on other candles"
    if any(read.table(one, "data").get(key) != read.table(two, "data").get(key) for key in ("rows", "from", "to")):
        return "they were judged on other rows of the same candles"
    if read.at(one, "label") != read.at(two, "label"):
        return "their labels mean something else"
    return ""


def measures(one: Mapping[str, Any], two: Mapping[str, Any], *, subtract: bool) -> tuple[Measure, ...]:
    """Return the numbers of two diagnoses, and their differences where they may be subtracted."""
    return tuple(_measure(one, two, row, subtract=subtract) for row in _METRICS)


def _measure(one: Mapping[str, Any], two: Mapping[str, Any], row: Row, *, subtract: bool) -> Measure:
    name, words, unit, more = row
    a, b = read.real(one, "metrics", name), read.real(two, "metrics", name)
    difference = b - a if subtract and a is not None and b is not None else None
    errors = (_error(one, name), _error(two, name))
    error = None
    if difference is not None and errors[0] is not None and errors[1] is not None:
        error = math.hypot(*(one for one in errors if one is not None))
    clear = difference is not None and error is not None and more is not None and abs(difference) > 2 * error
    better = None if not clear or difference is None else "b" if (difference > 0) == more else "a"
    wanted = None if more is None else "more" if more else "less"
    return Measure(name=name, words=words, unit=unit, a=a, b=b, difference=difference, error=error, wanted=wanted, better=better)


def _error(plain: Mapping[str, Any], name: str) -> float | None:
    if name in _ERROR:
        return read.real(plain, "metrics", _ERROR[name], "error")
    if name in _INTERVAL:
        bounds = read.reals(plain, "metrics", _INTERVAL[name])
        return (bounds[1] - bounds[0]) / (2 * Z_95) if len(bounds) == 2 else None
    return read.real(plain, "metrics", "errors", name)


def _gates(one: Mapping[str, Any], two: Mapping[str, Any]) -> tuple[GatePair, ...]:
    tables = [{read.text(gate, "name"): gate for gate in read.items(plain, "gates")} for plain in (one, two)]
    first, second = tables
    return tuple(
        GatePair(
            name=name,
            limit=read.text(first.get(name) or second.get(name), "limit"),
            a=first[name].get("passed") is True if name in first else None,
            b=second[name].get("passed") is True if name in second else None,
            a_value=read.real(first.get(name), "value"),
            b_value=read.real(second.get(name), "value"),
        )
        for name in dict.fromkeys([*first, *second])
    )


def _codes(plain: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(read.text(cause, "code") for cause in read.items(plain, "causes"))


def _recipe(house: House, entry: Entry) -> dict[str, str] | None:
    """Return the recipe of a model, flat, as text; None where there is none, or none that can be believed."""
    if RECIPE_NAME not in entry.files:
        return None
    try:
        return {key: str(value) for key, value in flat(tomllib.loads(house.registry.kept(entry, RECIPE_NAME).decode())).items()}
    except (CrpbotError, ValueError):
        return None


def _two(request: Request, a: str, b: str) -> tuple[House, Entry, Entry]:
    """Return the two models.

    Raises:
        HTTPException: 404 for an unknown one, 422 for the same one twice.

    """
    house = house_of(request)
    one, two = known(house, a), known(house, b)
    if one.sha256 == two.sha256:
        raise HTTPException(422, f"two models must be compared, found {one.sha256[:12]} twice; choose another one")
    return house, one, two


@router.get("/compare", response_class=HTMLResponse, include_in_schema=False)
def page(request: Request, a: Digest = "", b: Digest = "") -> HTMLResponse:
    """Show two models side by side."""
    if not a or not b:
        raise HTTPException(422, "two models must be chosen, found fewer; mark a first and a second one on the page of models")
    house, one, two = _two(request, a, b)
    plains = [measured(house, entry)[0] or {} for entry in (one, two)]
    tables = comparison(plains) if all(plains) else ""
    drawn = [[Markup(picture) for picture in pictures(plain)[:_PICTURES]] for plain in plains]  # noqa: S704  of ours, escaped
    return render(
        request,
        "compare.html",
        seen=compare_two(house, one, two),
        tables=Markup(tables),  # noqa: S704  likewise
        drawn=drawn,
    )


@router.get("/api/compare", tags=["models"], responses=REFUSED | NOT_FOUND)
def compare(request: Request, a: Digest, b: Digest) -> Comparison:
    """Return two models side by side: numbers with their differences, gates, causes, and keys of the recipes that differ."""
    return compare_two(*_two(request, a, b))
