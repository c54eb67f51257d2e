"""The candles of each market: where they come from, what is missing or wrong, and how far they are from what models learned."""

from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

import numpy as np
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup
from numpy.typing import NDArray

from crpbot.errors import CrpbotError
from crpbot.live.trail import read_trail
from crpbot.market.candles import MINUTE, Candles, utc
from crpbot.market.check import MEANINGS, Checked, check_columns, check_file
from crpbot.market.files import COLUMNS, find_candles
from crpbot.registry.entries import Entry
from crpbot.signals.ensemble import THRESHOLD
from crpbot.signals.signal import newest_signal
from crpbot.web.candles import Symbol
from crpbot.web.house import House
from crpbot.web.refusal import NOT_FOUND, REFUSED
from crpbot.web.render import house_of, render

router = APIRouter()
_LARGEST = 10
"""Gaps and other findings that are named one by one."""
_SHOWN = 10
"""Features whose drift is drawn: the farthest."""
_REMEMBERED = 300_000
"""Milliseconds for which candles that cannot be read are not looked at again."""
_BROKEN = frozenset({"duplicates", "disorder", "off_minute", "impossible"})
"""Kinds of findings with which nobody can tell where a segment ends."""
_MEMORY = 4_000
"""Candles that a signal is made from: exponential means remember long."""
_WIDE, _HIGH = 600, 28


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """Minutes that are missing between two candles, whose open times are in milliseconds of UTC."""

    last_before: int
    first_after: int
    missing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """One kind of finding.

    Attributes:
        kind, meaning: what it is, and what it means for training.
        count: how many findings.
        candles: that they concern.
        examples: the first ten, in words.

    """

    kind: str
    meaning: str
    count: int
    candles: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A feature, and how far its mean of the last day is from its training mean, in training deviations."""

    name: str
    deviations: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What a model says of the newest candle.

    Attributes:
        sha256, stage, recipe: of the model.
        limit: deviations beyond which it is silent; None where its recipe does not say.
        features: all of its inputs, the one that is farthest from training first; empty where that cannot be told.
        status: `signal`, `expired` or `no signal`.
        reason: why there is no signal; empty for one.
        side, confidence: that it would take; None where it says nothing.
        threshold: the least confidence of a signal.
        candle: that it is of, in words.

    """

    sha256: str
    stage: str
    recipe: str | None
    limit: float | None = None
    features: tuple[Moved, ...] = ()
    status: str = "no signal"
    reason: str = ""
    side: str | None = None
    confidence: float | None = None
    threshold: float = THRESHOLD
    candle: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The candles of one market; times are open times in milliseconds of UTC.

    Attributes:
        symbol: of the market.
        source: where the candles on the disk come from; None where there are none.
        kind: `file`, `sample` or `synthetic`; None likewise.
        rows, first, last: of them, as far as they are known.
        segments: runs without a gap, of these and of those that were heard; None where the candles cannot be read.
        heard: candles that the runtime has left since, beside them.
        newest: the newest of both; None without any.
        age: seconds since that has closed.
        gaps, missing: how many gaps, and how many minutes are missing in all: on the disk, in what was heard, and between.
        holes: the ten largest gaps, the largest first.
        wrong: what else is wrong, by kind.
        trouble: why the candles cannot be read; else empty.
        models: what those that speak say of the newest candle.

    """

    symbol: str
    source: str | None
    kind: str | None
    rows: int = 0
    first: int | None = None
    last: int | None = None
    segments: int | None = None
    heard: int = 0
    newest: int | None = None
    age: float | None = None
    gaps: int = 0
    missing: int = 0
    holes: tuple[Hole, ...] = ()
    wrong: tuple[Wrong, ...] = ()
    trouble: str = ""
    models: tuple[Heard, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looked:
    checked: Checked | None = None
    trouble: str = ""


def warm(house: House, ended: Event) -> None:
    """Look at every market once, so that the first visitor need not wait for the check of years of candles."""
    for symbol in house.symbols():
        if ended.is_set():
            return
        look(house, symbol)


def look(house: House, symbol: str) -> Data:
    """Return how the candles of a market are."""
    source, looked, now = house.source(), _checked(house, symbol), house.now()
    ours = source is not None and symbol in source.symbols
    newest, heard = house.candles(symbol, count=1), _since(house, symbol, looked.checked)
    return Data(
        symbol=symbol,
        source=source.name if source is not None and ours else None,
        kind=source.kind if source is not None and ours else None,
        heard=len(heard),
        newest=int(newest.time[-1]) if len(newest) else None,
        age=max(0.0, (now - int(newest.time[-1]) - MINUTE) / 1_000) if len(newest) else None,
        trouble=looked.trouble,
        models=tuple(_heard(house, entry) for entry in _speakers(house, symbol)),
        **_gaps(looked.checked, heard),  # type: ignore[arg-type]
        **(_seen(looked.checked) if looked.checked is not None else {}),  # type: ignore[arg-type]
    )


def _since(house: House, symbol: str, checked: Checked | None) -> NDArray[np.int64]:
    """Return the open times of the candles that the runtime has left after those on the disk."""
    time = read_trail(house.trail, symbol).time
    return time[(time > (-1 if checked is None else checked.last)) & (time < house.known_until())]


def _holes(checked: Checked | None, heard: NDArray[np.int64]) -> list[Hole]:
    """Return every gap, oldest first: on the disk, between that and what was heard, and in what was heard."""
    found = [one for one in checked.findings if one.kind == "gaps"] if checked is not None else []
    holes = [Hole(last_before=one.first, first_after=one.last, missing=one.count) for one in found]
    time = heard if checked is None else np.concatenate([[checked.last], heard])
    after = np.flatnonzero(np.diff(time) > MINUTE) + 1
    return holes + [
        Hole(last_before=int(time[i - 1]), first_after=int(time[i]), missing=int(time[i] - time[i - 1]) // MINUTE - 1)
        for i in after
    ]


def _gaps(checked: Checked | None, heard: NDArray[np.int64]) -> dict[str, object]:
    holes = _holes(checked, heard)
    broken = checked is not None and any(one.kind in _BROKEN for one in checked.findings)
    return {
        "segments": None if broken or (checked is None and not len(heard)) else len(holes) + 1,
        "gaps": len(holes),
        "missing": sum(hole.missing for hole in holes),
        "holes": tuple(sorted(holes, key=lambda hole: -hole.missing)[:_LARGEST]),
    }


def _seen(checked: Checked) -> dict[str, object]:
    kinds = [(kind, [one for one in checked.findings if one.kind == kind]) for kind in MEANINGS if kind != "gaps"]
    return {
        "rows": checked.rows,
        "first": checked.first,
        "last": checked.last,
        "wrong": tuple(
            Wrong(
                kind=kind,
                meaning=MEANINGS[kind],
                count=len(found),
                candles=sum(one.count for one in found),
                examples=tuple(map(str, found[:_LARGEST])),
            )
            for kind, found in kinds
            if found
        ),
    }


def _checked(house: House, symbol: str) -> _Looked:
    """Return what `crpbot candles check` finds in the candles on the disk, as far as they are known."""
    recorded, stop = house.recorded(symbol), house.known_until()
    version = recorded.sha256 if len(recorded) else house.now() // _REMEMBERED  # what has not changed is not checked again
    looked = house.kept.get(("checked", symbol), version, lambda: _check(house, symbol, recorded))
    if looked.checked is None or looked.checked.last < stop:
        return looked
    known = recorded.time[: int(np.searchsorted(recorded.time, stop))]
    return _Looked(checked=_until(looked.checked, known) if len(known) else None, trouble=looked.trouble)


def _until(checked: Checked, known: NDArray[np.int64]) -> Checked:
    """Return what is known of a check when the first candles are, of which these are the open times."""
    findings = tuple(one for one in checked.findings if one.last <= known[-1])
    return replace(checked, rows=len(known), last=int(known[-1]), findings=findings)


def _check(house: House, symbol: str, candles: Candles) -> _Looked:
    if len(candles):
        columns = {name: getattr(candles, name) for name in COLUMNS[1:]}
        return _Looked(checked=check_columns(symbol, candles.time, columns, candles.filled))
    source = house.source()
    if source is None or symbol not in source.symbols:
        return _Looked()
    try:
        source.read(symbol)
    except (CrpbotError, OSError) as error:
        return _Looked(checked=_raw(house, symbol), trouble=str(error))
    return _Looked()


def _raw(house: House, symbol: str) -> Checked | None:
    """Return what is wrong with a file that cannot be read as candles, row by row; None where even that cannot be said."""
    try:
        return check_file(find_candles(Path(house.setting.candles or ""))[symbol], symbol)
    except (CrpbotError, OSError, KeyError):
        return None


def _speakers(house: House, symbol: str) -> list[Entry]:
    try:
        return [entry for entry in house.entries() if entry.symbol == symbol and entry.stage in {"live", "shadow"}]
    except CrpbotError:  # the overview tells of a ledger that was altered
        return []


def _heard(house: House, entry: Entry) -> Heard:
    """Return what a model says of the newest candle, and how far that is from what it learned."""
    newest = house.candles(entry.symbol, count=1)
    if not len(newest):
        return Heard(sha256=entry.sha256, stage=entry.stage, recipe=entry.recipe, reason="there are no candles of this market")

    def ask() -> Heard:
        try:
            speaker = house.speaker(entry)
            said = newest_signal(
                speaker,
                house.candles(entry.symbol, count=_MEMORY),
                stage=entry.stage,
                now=house.now(),
                threshold=house.setting.threshold,
                expires=entry.expires,
                override=entry.override,
            )
            drifts = house.drifts(entry)
        except CrpbotError as error:
            return Heard(sha256=entry.sha256, stage=entry.stage, recipe=entry.recipe, reason=str(error))
        return Heard(
            sha256=entry.sha256,
            stage=entry.stage,
            recipe=entry.recipe,
            limit=speaker.recipe.serving.drift_limit if speaker.recipe is not None else None,
            features=tuple(Moved(name=name, deviations=away) for name, away in drifts if np.isfinite(away)),
            status=said.status,
            reason=said.reason,
            side=said.side,
            confidence=said.confidence,
            candle=said.candle,
            threshold=house.setting.threshold,
        )

    version = (int(newest.time[-1]), entry.stage, house.now() // _REMEMBERED)
    return house.kept.get(("heard", entry.sha256), version, ask)


def ends(seen: Data) -> tuple[int | None, int | None]:
    """Return the open times of the first and of the last candle, of the disk and of the runtime; None without any on the disk."""
    return seen.first, seen.last if not seen.heard else seen.newest


def span_picture(seen: Data, holes: tuple[Hole, ...]) -> Markup:
    """Return the span of the candles as a strip in which gaps are open."""
    first, last = ends(seen)
    if first is None or last is None or last <= first:
        return Markup("")
    size = last - first
    words = f"{utc(first)} to {utc(last)}: {seen.gaps} gaps, {seen.missing:,} minutes missing"
    parts = [f'<rect class="have" x="0" y="4" width="{_WIDE}" height="{_HIGH - 8}"/>']
    for hole in holes:
        x = _WIDE * (hole.last_before - first) / size
        wide = max(1.5, _WIDE * (hole.first_after - hole.last_before) / size)
        parts.append(f'<rect class="hole" x="{min(x, _WIDE - wide):.1f}" y="0" width="{wide:.1f}" height="{_HIGH}"/>')
    svg = f'<svg class="strip" viewBox="0 0 {_WIDE} {_HIGH}" preserveAspectRatio="none" role="img" aria-label="{words}">'
    return Markup(svg + "".join(parts) + "</svg>")  # noqa: S704  numbers and times only


def holes_of(house: House, symbol: str) -> tuple[Hole, ...]:
    """Return every gap, but at most one for each unit of the picture: the largest."""
    checked = _checked(house, symbol).checked
    return tuple(sorted(_holes(checked, _since(house, symbol, checked)), key=_missing)[-_WIDE:])


def _missing(hole: Hole) -> int:
    return hole.missing


@router.get("/data", response_class=HTMLResponse, include_in_schema=False)
def page(request: Request) -> HTMLResponse:
    """Show the candles of every market."""
    house = house_of(request)
    seen = [look(house, symbol) for symbol in house.symbols()]
    drawn = {one.symbol: span_picture(one, holes_of(house, one.symbol)) for one in seen}
    return render(
        request, "data.html", seen=seen, drawn=drawn, shown=_SHOWN, ends=ends, gaps=MEANINGS["gaps"], place=house.setting.candles
    )


@router.get("/api/data", tags=["data"])
def every(request: Request) -> tuple[Data, ...]:
    """Return how the candles of every market are: where they come from, what is missing, and how far they are from training."""
    house = house_of(request)
    return tuple(look(house, symbol) for symbol in house.symbols())


@router.get("/api/data/{symbol}", tags=["data"], responses=REFUSED | NOT_FOUND)
def one(request: Request, symbol: Symbol) -> Data:
    """Return how the candles of one market are."""
    house = house_of(request)
    if symbol not in house.symbols():
        raise HTTPException(404, f"a market must be one of this home, found none of {symbol}")
    return look(house, symbol)
