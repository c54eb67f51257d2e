"""The signals: what was said, drawn on the candles, what became of it, and whether the confidence is honest."""

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, HTTPException, Path, Query, Request
from fastapi.responses import HTMLResponse

from crpbot.errors import CrpbotError
from crpbot.live.records import OPEN, Event, Fill, PaperSummary, SignalRecord
from crpbot.market.candles import MINUTE, Candles
from crpbot.market.files import SYMBOL
from crpbot.signals.plan import OrderPlan
from crpbot.signals.text import hummingbot, telegram
from crpbot.web.candles import LATEST, Moment
from crpbot.web.house import NOTHING, House
from crpbot.web.promise import Promise, promise
from crpbot.web.refusal import NOT_FOUND, REFUSED
from crpbot.web.reliability import MODEL, Reliability, known_model, picture, reliability_of, speaker_of
from crpbot.web.render import house_of, render
from crpbot.web.silence import silence

router = APIRouter()
SHOWN = 25
"""Signals on one page."""
AT_ONCE = 10_000
"""Signals among which those of a stage or an outcome are looked for; older ones are on the next page."""
EVENTS = 12
DRAWN = 1_440
"""Candles that the words beside the chart are about: a day."""
Stage = Literal["", "live", "shadow"]
Outcome = Literal["", "open", "take profit", "stop loss", "time", "not filled", "gap", "lost from sight"]
Place = Annotated[
    str, Query(pattern=r"^(\d{1,16}-\d{1,16})?$", description="`next` of the page before; only what is older is returned")
]
Market = Annotated[str, Query(pattern=f"^({SYMBOL.pattern})?$", description="of one market only, like BTC-USD")]
Number = Annotated[int, Path(ge=1, le=LATEST)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """A signal in a line.

    Attributes:
        id: in the journal.
        candle: open time of the candle that it is of, in milliseconds of UTC, like all times here.
        symbol, side, confidence, stage, status, model_sha256, horizon, recorded: as in the journal.
        entry, zone_low, zone_high, stop_loss, take_profit: of its plan; None where that cannot be read.
        outcome: what became of it; None while it is open, like what follows.
        settled: when that was known.
        hit: whether the label was the side that was said; None, too, where there never will be one.
        entry_time, exit_time, exit: of the trade; None where there was none.
        net_bp: what it earned after costs, in basis points; None likewise.

    """

    id: int
    candle: int
    symbol: str
    side: str
    confidence: float
    stage: str
    status: str
    model_sha256: str
    horizon: int
    recorded: int
    entry: float | None
    zone_low: float | None
    zone_high: float | None
    stop_loss: float | None
    take_profit: float | None
    outcome: str | None
    settled: int | None
    hit: bool | None
    entry_time: int | None
    exit_time: int | None
    exit: float | None
    net_bp: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpokenPage:
    """Signals, newest first.

    Attributes:
        signals: of this page.
        next: what `before` has to be for the next page, where there may be more, even if this one is short; None on the last one.

    """

    signals: tuple[Spoken, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpokenWhole:
    """Everything that is known of a signal.

    Attributes:
        line: the signal in a line.
        plan: the order.
        fills: on paper, entry first.
        said: the signal as it was said.
        words: as people are told.
        hummingbot: as hummingbot's controller is told.

    """

    line: Spoken
    plan: OrderPlan
    fills: tuple[Fill, ...]
    said: dict[str, Any]
    words: str
    hummingbot: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a visitor wants to see; "" is everything."""

    symbol: str = ""
    model: str = ""
    stage: Stage = ""
    outcome: Outcome = ""
    before: str = ""


def spoken(record: SignalRecord) -> Spoken:
    """Return a signal in a line."""
    plan, became = _plan(record), record.outcome
    return Spoken(
        id=record.id,
        candle=record.candle,
        symbol=record.symbol,
        side=record.side,
        confidence=record.confidence,
        stage=record.stage,
        status=record.status,
        model_sha256=record.model_sha256,
        horizon=record.horizon,
        recorded=record.recorded,
        **{name: plan.get(name) for name in ("entry", "zone_low", "zone_high", "stop_loss", "take_profit")},
        outcome=None if became is None else became.outcome,
        settled=record.settled,
        hit=None if became is None else became.hit,
        entry_time=None if became is None else became.entry_time,
        exit_time=None if became is None else became.exit_time,
        exit=None if became is None else became.exit,
        net_bp=None if became is None else became.net_bp,
    )


def _plan(record: SignalRecord) -> dict[str, float]:
    try:
        return {name: float(value) for name, value in record.said["plan"].items() if not isinstance(value, str)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def find(house: House, asked: Asked, *, limit: int, since: int | None = None) -> SpokenPage:
    """Return the signals that somebody asks for, at most so many."""
    journal = house.journal()
    if journal is None:
        return SpokenPage(signals=(), next=None)
    candle, _, last = asked.before.partition("-")
    of = (asked.symbol or None, known_model(house, asked.model) if asked.model else None)
    before = (int(candle), int(last)) if asked.before else None
    seldom = bool(asked.stage) or asked.outcome not in {"", OPEN}
    end = journal.reach(*of, before=before, signals=AT_ONCE) if seldom else None
    if end is not None and since is not None and end <= since:
        end = None
    found = journal.signals(
        *of,
        since=since if end is None else end,
        before=before,
        stage=asked.stage or None,
        outcome=asked.outcome or None,
        limit=limit + 1,
    )
    more = None if end is None else f"{end}-0"
    if len(found) > limit:
        more = f"{found[limit - 1].candle}-{found[limit - 1].id}"
    return SpokenPage(signals=tuple(map(spoken, found[:limit])), next=more)


def whole(house: House, number: int) -> SpokenWhole | None:
    """Return everything that is known of a signal; None where there is none with that number.

    Raises:
        JournalError: it cannot be read.

    """
    journal = house.journal()
    record = journal.signal(number) if journal is not None else None
    if journal is None or record is None:
        return None
    signal = record.signal
    assert signal.plan is not None  # a journal keeps nothing else
    return SpokenWhole(
        line=spoken(record),
        plan=signal.plan,
        fills=journal.paper.fills(number),
        said=record.said,
        words=telegram(signal),
        hummingbot=hummingbot(signal),
    )


@router.get("/api/signals", tags=["signals"], responses=REFUSED | NOT_FOUND)
def signals(
    request: Request,
    symbol: Market = "",
    model: Annotated[str, Query(pattern=MODEL, description="of one model only: its digest, or the beginning")] = "",
    stage: Stage = "",
    outcome: Outcome = "",
    since: Moment | None = None,
    before: Place = "",
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> SpokenPage:
    """Return signals, newest first, page by page."""
    asked = Asked(symbol=symbol, model=model, stage=stage, outcome=outcome, before=before)
    return find(house_of(request), asked, limit=limit, since=since)


@router.get("/api/signals/{number}", tags=["signals"], responses=REFUSED | NOT_FOUND)
def signal(request: Request, number: Number) -> SpokenWhole:
    """Return a signal as it was said, its order, what became of it, and its fills on paper."""
    found = whole(house_of(request), number)
    if found is None:
        raise HTTPException(404, f"a signal must be in the journal, found none with the number {number}; see /api/signals")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What the page shows.

    Attributes:
        asked: by the visitor.
        symbol: of the market that is drawn; "" where there is none.
        symbols: of all markets.
        page: signals of the table.
        chosen: the signal that is told in full.
        day: the candles of the market of the 24 hours before its newest one; fewer across a gap.
        reliability, promise: of the model that is asked for there; by default of the one that spoke last.
        paper: what its trades earned on paper.
        events: what the runtime said lately of this market, or of all.
        silence: why nothing was said, and what to do; empty where something was.
        problems: what could not be read.

    """

    asked: Asked
    symbol: str
    symbols: tuple[str, ...]
    page: SpokenPage
    chosen: SpokenWhole | None
    day: Candles
    reliability: Reliability | None
    promise: Promise | None
    paper: PaperSummary | None
    events: tuple[Event, ...]
    silence: tuple[str, ...]
    problems: tuple[str, ...]


def look(house: House, asked: Asked, number: int | None) -> Sight:
    """Return what the page shows; what cannot be read is said, and the rest is shown all the same."""
    problems: list[str] = []
    seen: dict[str, Any] = {"page": SpokenPage(signals=(), next=None), "chosen": None}
    kept: dict[str, Any] = {"reliability": None, "promise": None, "paper": None, "events": ()}
    try:
        house.lines()
        seen["page"] = find(house, asked, limit=SHOWN)
        seen["chosen"] = None if number is None else whole(house, number)
    except CrpbotError as error:
        problems.append(str(error))
    symbols = house.symbols()
    symbol = _market(asked, seen, symbols)
    try:
        kept |= _record(house, symbol, asked.model)
    except CrpbotError as error:
        problems.append(str(error))
    return Sight(
        asked=asked,
        symbol=symbol,
        symbols=symbols,
        **seen,
        day=_day(house, symbol) if symbol in symbols else NOTHING,
        **kept,
        silence=() if seen["page"].signals or problems else _why(house, symbol, asked, seen["page"]),
        problems=tuple(dict.fromkeys(problems)),
    )


def _day(house: House, symbol: str) -> Candles:
    candles = house.candles(symbol, count=DRAWN + 1)
    return candles[int(candles.time.searchsorted(candles.time[-1] - DRAWN * MINUTE)) :] if len(candles) else candles


def _market(asked: Asked, seen: dict[str, Any], symbols: tuple[str, ...]) -> str:
    """Return the market to draw: that of the chosen signal, else the one that is asked for, else where somebody spoke last."""
    if seen["chosen"] is not None:
        return str(seen["chosen"].line.symbol)
    if asked.symbol:
        return asked.symbol
    if seen["page"].signals:
        return str(seen["page"].signals[0].symbol)
    return symbols[0] if symbols else ""


def _why(house: House, symbol: str, asked: Asked, page: SpokenPage) -> tuple[str, ...]:
    """Return why there is no signal to show."""
    if page.next is not None:
        return (f"None of {AT_ONCE:,} signals is like that. Look at the older ones.",)
    if asked.stage or asked.outcome or asked.before or asked.model:
        return ("No signal is like that. Ask for less.",)
    return silence(house, symbol)


def _record(house: House, symbol: str, model: str) -> dict[str, Any]:
    """Return what the journal says of a market as a whole; of the honesty of `model`, or, where that is "", of who spoke last."""
    journal = house.journal()
    if journal is None or not symbol:
        return {}
    sha256 = known_model(house, model) if model else speaker_of(house, symbol)
    found: dict[str, Any] = {
        "paper": house.kept.get(("paper", symbol), journal.paper.newest(), lambda: journal.paper.summary(symbol)),
        "events": tuple(one for one in journal.events.newest(500) if one.symbol in {None, symbol})[:EVENTS],
    }
    if sha256 is not None:
        found |= {"reliability": reliability_of(house, sha256, symbol, "checks"), "promise": promise(house, sha256, symbol)}
    return found


@router.get("/signals", response_class=HTMLResponse, include_in_schema=False)
def page(
    request: Request,
    symbol: Market = "",
    model: Annotated[str, Query(pattern=MODEL)] = "",
    stage: Stage = "",
    outcome: Outcome = "",
    before: Place = "",
    signal: Annotated[int | None, Query(ge=1, le=LATEST)] = None,
) -> HTMLResponse:
    """Show the signals."""
    house = house_of(request)
    seen = look(house, Asked(symbol=symbol, model=model, stage=stage, outcome=outcome, before=before), signal)
    drawn = picture(seen.reliability) if seen.reliability is not None and seen.reliability.bins else None
    plan = "" if seen.chosen is None else json.dumps(asdict(seen.chosen.line) | {"expires": seen.chosen.said.get("expires", "")})
    return render(
        request, "signals.html", seen=seen, drawn=drawn, plan_of_chart=plan, outcomes=get_args(Outcome)[1:], wanted=signal
    )
