"""The ledger on a page: every decision, the newest first, and whether the chain of them is whole."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from crpbot.errors import CrpbotError
from crpbot.registry.ledger import Line, head_of
from crpbot.web.house import House
from crpbot.web.refusal import REFUSED
from crpbot.web.render import house_of, render

router = APIRouter()
SHOWN, MOST = 200, 2_000
Symbol = Annotated[str, Query(max_length=41, description="of one market; empty for all")]
Before = Annotated[int | None, Query(ge=1, le=2**53, description="only lines with a smaller number")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Decisions, and whether any was altered.

    Attributes:
        whole: whether the chain is whole: no line was altered, taken out or put in.
        trouble: what is broken; empty where nothing is.
        head: digest of the last line of all.
        total: how many decisions there are in all.
        symbols: the markets that they are of.
        lines: those that were asked for, the newest first.
        more: how many older ones were not shown.

    """

    whole: bool
    trouble: str
    head: str
    total: int
    symbols: tuple[str, ...]
    lines: tuple[Line, ...]
    more: int


def chain(house: House, symbol: str, before: int | None, limit: int) -> Chain:
    """Return the newest `limit` decisions with numbers below `before`, of one market or of all."""
    try:
        every = house.lines()
    except CrpbotError as error:
        return Chain(whole=False, trouble=str(error), head="", total=0, symbols=(), lines=(), more=0)
    wanted = [line for line in every if symbol in {"", line.symbol} and (before is None or line.number < before)]
    return Chain(
        whole=True,
        trouble="",
        head=head_of(every),
        total=len(every),
        symbols=tuple(sorted({line.symbol for line in every if line.symbol})),
        lines=tuple(reversed(wanted[-limit:])),
        more=max(0, len(wanted) - limit),
    )


@router.get("/ledger", response_class=HTMLResponse, include_in_schema=False)
def page(request: Request, symbol: Symbol = "", before: Before = None) -> HTMLResponse:
    """Show every decision."""
    return render(request, "ledger.html", seen=chain(house_of(request), symbol, before, SHOWN), symbol=symbol)


@router.get("/api/ledger", tags=["models"], responses=REFUSED)
def ledger(
    request: Request,
    symbol: Symbol = "",
    before: Before = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = SHOWN,
) -> Chain:
    """Return every decision about every model, the newest first, and whether the chain of them is whole."""
    return chain(house_of(request), symbol, before, limit)
