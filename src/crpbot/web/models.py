"""The models: all of them, one of them, what can be downloaded of it, and what is done with it."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, Response
from markupsafe import Markup

from crpbot.errors import CrpbotError
from crpbot.quality.report.html import section
from crpbot.registry.ledger import Line
from crpbot.web.ledger import Symbol
from crpbot.web.model import Model, Whole, back, content, files_of, in_short, known, last_judged, measured, whole
from crpbot.web.refusal import NOT_FOUND, REFUSED
from crpbot.web.render import house_of, render

router = APIRouter()
MOST = 500
"""Models on one page: retraining every day leaves many, of which nobody reads more at once."""
_TYPES: Mapping[str, str] = {"toml": "text/plain", "json": "application/json", "html": "text/html"}


@router.get("/models", response_class=HTMLResponse, include_in_schema=False)
def list_page(request: Request, symbol: Symbol = "") -> HTMLResponse:
    """Show every model, by market and stage."""
    house = house_of(request)
    try:
        entries, trouble = house.entries(), ""
    except CrpbotError as error:
        entries, trouble = (), str(error)
    symbols = sorted({entry.symbol for entry in entries})
    wanted = [entry for entry in entries if symbol in {"", entry.symbol}]
    shown = [in_short(house, entry) for entry in wanted[:MOST]]
    groups = [
        (one, [model for model in shown if model.symbol == one], back(house, one)) for one in symbols if symbol in {"", one}
    ]
    return render(
        request,
        "models.html",
        trouble=trouble,
        symbols=symbols,
        symbol=symbol,
        groups=groups,
        more=len(wanted) - len(shown),
    )


@router.get("/models/{sha256}", response_class=HTMLResponse, include_in_schema=False)
def page(request: Request, sha256: str) -> HTMLResponse:
    """Show one model."""
    house = house_of(request)
    entry = known(house, sha256)
    judged, _ = last_judged(house, entry)
    plain, _ = measured(house, judged)
    live = next((one for one in house.entries() if one.symbol == entry.symbol and one.stage == "live"), None)
    return render(
        request,
        "model.html",
        seen=whole(house, entry),
        live=live,
        source=house.source(),
        diagnosis=house.kept.get(("section", entry.sha256), judged.diagnosis_sha256, lambda: _section(plain)),
    )


def _section(plain: Mapping[str, Any] | None) -> Markup:
    return Markup("" if plain is None else section(plain))  # noqa: S704  it escapes everything that a file holds


@router.get("/api/models", tags=["models"], responses=REFUSED)
def models(request: Request, symbol: Symbol = "", limit: Annotated[int, Query(ge=1, le=MOST)] = MOST) -> tuple[Model, ...]:
    """Return every model of the registry, live ones first, then those in shadow, candidates and retired ones."""
    house = house_of(request)
    return tuple(in_short(house, entry) for entry in house.entries() if symbol in {"", entry.symbol})[:limit]


@router.get("/api/models/{sha256}", tags=["models"], responses=REFUSED | NOT_FOUND)
def model(request: Request, sha256: str) -> Whole:
    """Return everything about one model, by its digest or 12 characters or more of its beginning."""
    house = house_of(request)
    return whole(house, known(house, sha256))


@router.get("/api/models/{sha256}/ledger", tags=["models"], responses=REFUSED | NOT_FOUND)
def decisions(request: Request, sha256: str) -> tuple[Line, ...]:
    """Return every decision about one model, the newest first."""
    house = house_of(request)
    entry = known(house, sha256)
    return tuple(line for line in reversed(house.lines()) if line.sha256 == entry.sha256)


@router.get("/models/{sha256}/files/{name}", include_in_schema=False)
@router.get(
    "/api/models/{sha256}/files/{name}",
    tags=["models"],
    response_class=Response,
    responses=REFUSED | NOT_FOUND | {200: {"content": {"application/octet-stream": {}}}},
)
def download(request: Request, sha256: str, name: str) -> Response:
    """Send a file that is kept of a model, after proof that it is the one that the ledger knows; or its report, drawn now."""
    house = house_of(request)
    entry, _ = last_judged(house, known(house, sha256))
    found = next((file for file in files_of(entry) if file.name == name), None)
    if found is None:
        raise HTTPException(404, f"a file must be one that is kept of this model, found {name[:120]!r}")
    kind = found.name.rpartition(".")[2]
    headers = {"Content-Disposition": f'attachment; filename="{found.name}"'}
    return Response(content(house, entry, found.name), media_type=_TYPES.get(kind, "application/octet-stream"), headers=headers)
