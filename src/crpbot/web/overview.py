"""The overview: how each market is, and what needs attention first."""

import threading
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from crpbot.errors import CrpbotError, JournalError
from crpbot.live.health import TOO_OLD
from crpbot.market.candles import MINUTE, Candles
from crpbot.registry.entries import Entry
from crpbot.upkeep import SOON
from crpbot.web.house import House, Runtime
from crpbot.web.promise import Promise, promise
from crpbot.web.render import render, signed, span

router = APIRouter()
DAY = 24 * 60 * MINUTE
OLD = 60 * MINUTE
"""Age of the newest candle from which on nobody seems to bring any."""
DRAWN = 6 * 60 * MINUTE
"""Milliseconds of the small line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Something that somebody should look at.

    Attributes:
        rank: 0 is the gravest.
        symbol: of the market; "" for the whole.
        words: what is wrong, and what to do.
        link: to the page that tells more.

    """

    rank: int
    symbol: str
    words: str
    link: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LastSignal:
    """The last signal of a market."""

    id: int
    candle: int
    side: str
    confidence: float
    stage: str
    outcome: str | None
    hit: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """How one market is.

    Attributes:
        symbol: of it.
        stage: of the model that speaks; `candidate` or `retired` where none may; None where there is none.
        sha256, recipe: of that model.
        since: when it got that stage, in milliseconds of UTC, like all times here.
        proven_until, expires: until when it was proven, and when it may not speak any more.
        accuracy, majority_accuracy, over_majority, error: on rows that it had not seen, and the difference with its error.
        ece: calibration error there.
        reason: why it has that stage.
        last: its last signal.
        promise: what became of what it said.
        drift: the input farthest from what it has learned over the last day, and by how many training deviations.
        drift_limit: of its recipe.
        candle: open time of the newest candle.
        close: of that candle.
        change: of the close over the last 24 hours, as a fraction.
        others: models of the market beside it.

    """

    symbol: str
    stage: str | None = None
    sha256: str | None = None
    recipe: str | None = None
    since: int | None = None
    proven_until: int | None = None
    expires: int | None = None
    accuracy: float | None = None
    majority_accuracy: float | None = None
    over_majority: float | None = None
    error: float | None = None
    ece: float | None = None
    reason: str = ""
    last: LastSignal | None = None
    promise: Promise | None = None
    drift: tuple[str, float] | None = None
    drift_limit: float | None = None
    candle: int | None = None
    close: float | None = None
    change: float | None = None
    others: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """All of it.

    Attributes:
        time: that it is of, in milliseconds of UTC.
        attention: gravest first.
        markets: with a live model first.
        runtime: how the runtime is, in words.
        runtime_well: whether nothing is wrong with it; None where it does not run.
        over: whether a recording was played, and is over.
        models_known: whether the registry can be read; where it cannot, a market without a model may have one.
        signals_known: whether the journal can be read; where it cannot, a market may have a last signal all the same.

    """

    time: int
    attention: tuple[Attention, ...]
    markets: tuple[Market, ...]
    runtime: str
    runtime_well: bool | None
    over: bool = False
    models_known: bool = True
    signals_known: bool = True


class Desk:
    """Keeps the overview at hand: whoever asks gets the last one, and a new one is made when something has changed."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._lock = threading.Lock()
        self._made: tuple[Any, Overview, dict[str, Candles]] | None = None

    def fresh(self) -> bool:
        """Return whether nothing has changed since the last one."""
        return self._made is not None and self._made[0] == self._version()

    def last(self) -> tuple[Overview, dict[str, Candles]] | None:
        """Return the last one, with the candles of the small lines; None before the first."""
        return None if self._made is None else self._made[1:]

    def make(self) -> tuple[Overview, dict[str, Candles]]:
        """Make one now, unless the last one is as good; threads wait for each other."""
        with self._lock:
            try:
                if not self.fresh():
                    version = self._version()
                    self._made = (version, *look(self._house))
            except Exception:
                self._made = None  # the old one is not taken for the present: whoever asks hears what is wrong
                raise
            assert self._made is not None
            return self._made[1:]

    def _version(self) -> object:
        versions = self._house.versions()
        return {kind: versions[kind] for kind in versions if kind != "jobs"}, self._house.now() // 60_000


def look(house: House) -> tuple[Overview, dict[str, Candles]]:
    """Return the overview of a home folder, and the newest candles by market.

    What cannot be read is an alarm and is unknown; the rest is told all the same.
    """
    attention: list[Attention] = []
    entries: tuple[Entry, ...] | None = None
    try:
        house.lines()
        entries = house.entries()
    except CrpbotError as error:
        attention.append(Attention(rank=0, symbol="", words=f"Nobody may speak: {error}", link="/models"))
    markets, drawn = [], {}
    for symbol in house.symbols():
        own = [entry for entry in entries or () if entry.symbol == symbol]
        market, drawn[symbol] = _market(house, symbol, own, attention)
        markets.append(market)
    signals_known = True
    try:
        markets = [_with_signals(house, market) for market in markets]
    except JournalError as error:
        signals_known = False
        attention.append(Attention(rank=0, symbol="", words=f"What was said cannot be read: {error}", link="/signals"))
    for market in markets:
        attention += _needs(market, house.now())
    runtime = house.runtime()
    words, well = _runtime(runtime, attention, speaks=any(one.stage in {"live", "shadow"} for one in markets))
    order = {"live": 0, "shadow": 1, "candidate": 2, "retired": 3, None: 4}
    markets.sort(key=lambda one: (order[one.stage], one.symbol))
    attention.sort(key=lambda one: (one.rank, one.symbol))
    found = Overview(
        time=house.now(),
        attention=tuple(attention),
        markets=tuple(markets),
        runtime=words,
        runtime_well=well,
        over=runtime is not None and runtime.over != "",
        models_known=entries is not None,
        signals_known=signals_known,
    )
    return found, drawn


def _market(house: House, symbol: str, own: list[Entry], attention: list[Attention]) -> tuple[Market, Candles]:
    candles = house.candles(symbol, count=24 * 60 + 1)
    seen: dict[str, Any] = {"symbol": symbol, "others": max(0, len(own) - 1)}
    if len(candles):
        seen |= {"candle": int(candles.time[-1]), "close": float(candles.close[-1])}
        if int(candles.time[0]) == int(candles.time[-1]) - DAY:
            seen["change"] = float(candles.close[-1] / candles.close[0] - 1)
        candles = candles[int(candles.time.searchsorted(candles.time[-1] - DRAWN, side="right")) :]
    if own:
        seen |= _decided(own[0])
        for part in (_measured, _drifted):
            try:
                seen |= part(house, own[0])
            except CrpbotError as error:
                link = f"/models/{own[0].sha256}"
                attention.append(Attention(rank=0, symbol=symbol, words=str(error), link=link))
    return Market(**seen), candles


def _decided(entry: Entry) -> dict[str, Any]:
    return {
        "stage": entry.stage,
        "sha256": entry.sha256,
        "recipe": entry.recipe,
        "since": entry.since,
        "proven_until": entry.proven_until,
        "expires": entry.expires,
        "reason": entry.reason,
    }


def _measured(house: House, entry: Entry) -> dict[str, Any]:
    measured = (house.judgement(entry) or {}).get("metrics", {})
    over = measured.get("over_majority") or {}
    return {
        "accuracy": measured.get("accuracy"),
        "majority_accuracy": measured.get("majority_accuracy"),
        "over_majority": over.get("value"),
        "error": over.get("error"),
        "ece": measured.get("ece"),
    }


def _drifted(house: House, entry: Entry) -> dict[str, Any]:
    if entry.stage not in {"live", "shadow"}:
        return {}
    recipe = house.speaker(entry).recipe
    return {"drift": house.drift(entry), "drift_limit": recipe.serving.drift_limit if recipe else None}


def _with_signals(house: House, market: Market) -> Market:
    """Return a market with its last signal, and with what became of what its model said.

    Raises:
        JournalError: the journal cannot be read.

    """
    if market.sha256 is None or (journal := house.journal()) is None:
        return market
    promised = promise(house, market.sha256, market.symbol)
    (last, *_) = (*journal.signals(market.symbol, limit=1), None)
    if last is None:
        return replace(market, promise=promised)
    became = last.outcome
    signal = LastSignal(
        id=last.id,
        candle=last.candle,
        side=last.side,
        confidence=last.confidence,
        stage=last.stage,
        outcome=None if became is None else became.outcome,
        hit=None if became is None else became.hit,
    )
    return replace(market, promise=promised, last=signal)


def _needs(market: Market, now: int) -> list[Attention]:
    """Return what is wrong with one market."""
    found: list[tuple[int, str]] = []
    if market.promise is not None and market.promise.alarm and market.stage in {"live", "shadow"}:
        found.append((1, f"Its confidence is not what it promises: {market.promise.words}."))
    if market.stage == "live" and market.expires is not None:
        if now >= market.expires:
            found.append((1, "Its model has expired and may not speak. Promote it again on later candles, or retrain it."))
        elif now >= market.expires - SOON * DAY:
            found.append((3, f"Its model expires in {(market.expires - now) / DAY:.0f} days. Retrain it: crpbot retrain."))
    if market.drift is not None and market.drift_limit is not None and abs(market.drift[1]) > market.drift_limit:
        name, away = market.drift
        found.append(
            (2, f"The market has left what the model learned: {name} is {signed(away)} training deviations off. It is silent.")
        )
    speaks = market.stage in {"live", "shadow"}
    if speaks and market.candle is not None and (age := now - market.candle - MINUTE) > OLD:
        old = span(age / 1_000)
        found.append((2, f"Its newest candle is {old} old. Bring newer ones: crpbot live, or crpbot candles download."))
    if market.stage == "candidate":
        found.append((4, f"Its model may not speak: {market.reason}."))
    link = f"/models/{market.sha256}" if market.sha256 else "/data"
    return [Attention(rank=rank, symbol=market.symbol, words=words, link=link) for rank, words in found]


def _runtime(runtime: Runtime | None, attention: list[Attention], *, speaks: bool) -> tuple[str, bool | None]:
    if runtime is None or runtime.age > TOO_OLD:
        words = (
            "crpbot live does not run here"
            if runtime is None
            else f"crpbot live was last heard of {runtime.age / 60:,.0f} min ago"
        )
        if speaks:
            attention.append(Attention(rank=2, symbol="", words=f"Nobody listens to the market: {words}.", link="/signals"))
        return words, None
    for symbol, problem in runtime.problems.items():
        attention.append(Attention(rank=1, symbol=symbol, words=problem, link="/signals"))
    if runtime.over:
        return runtime.over, runtime.well
    return ("crpbot live is well" if runtime.well else "crpbot live has trouble"), runtime.well


@router.get("/", response_class=HTMLResponse, include_in_schema=False)
async def page(request: Request) -> HTMLResponse:
    """Show the overview."""
    seen, drawn = await _newest(request)
    return render(request, "overview.html", seen=seen, drawn=drawn)


@router.get("/api/overview", tags=["overview"])
async def overview(request: Request) -> Overview:
    """Return how each market is, and what needs attention first."""
    return (await _newest(request))[0]


async def _newest(request: Request) -> tuple[Overview, dict[str, Candles]]:
    desk: Desk = request.app.state.desk
    last = desk.last()
    return last if last is not None else await run_in_threadpool(desk.make)
