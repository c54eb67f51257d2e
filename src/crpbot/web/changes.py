"""Changes: what somebody who is logged in may do to the registry. Every refusal is that of the command line, in its words."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi import Path as InPath
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, Field

from crpbot.errors import CrpbotError, RegistryError
from crpbot.market.files import check_symbol
from crpbot.model.loading import file_sha256
from crpbot.registry.entries import Entry
from crpbot.registry.registry import user_name
from crpbot.web.audit import note, write
from crpbot.web.candles import Symbol
from crpbot.web.diagnose import CsrfField, ErrandId, candles_words, command, errand_of, errands_of
from crpbot.web.errands import Errand
from crpbot.web.login import meant, trusted
from crpbot.web.render import house_of, visitor_of

router = APIRouter()
LONGEST_REASON = 500
_REFUSALS: Mapping[int | str, dict[str, Any]] = {
    400: {"description": "the request is damaged"},
    401: {"description": "nobody is logged in"},
    403: {"description": "the form is not of this session"},
    404: {"description": "no such model"},
    422: {"description": "the registry refuses, or the request is not as described"},
}

Sha256 = Annotated[str, InPath(pattern=r"^[0-9a-f]{12,64}$", description="digest of a model, or the first 12 characters or more")]
ReasonField = Annotated[str, Form(max_length=LONGEST_REASON)]


class Promote(BaseModel):
    """A wish to promote a model."""

    override: str = Field("", max_length=LONGEST_REASON, description="why a refused model may rehearse in shadow all the same")
    csrf: str = Field("", max_length=200, description="of a form of ours; a program with the token needs none")


class Why(BaseModel):
    """A wish to change something at once."""

    why: str = Field("", max_length=LONGEST_REASON, description="for the ledger")
    csrf: str = Field("", max_length=200, description="of a form of ours; a program with the token needs none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A model as it is after a change."""

    symbol: str
    sha256: str
    stage: str
    reason: str


def who() -> str:
    """Return who changes something, for the ledger."""
    return f"{user_name()} (dashboard)"


def promote(request: Request, sha256: str, *, override: str, csrf: str) -> Errand:
    """Ask the registry, in an errand, about a model that it keeps: it is judged anew on the candles that there are.

    Raises:
        HTTPException: 401, 403 or 404.
        CrpbotError: what is kept was altered, or too many wait.

    """
    _may(request, csrf)
    entry = _entry(request, sha256)
    file = house_of(request).registry.checkpoint(entry)
    with errands_of(request).new_folder("promote") as folder:
        return _promotion(request, file, name=entry.file, sha256=entry.sha256, override=override, folder=folder)


def promote_dropped(request: Request, errand: str, *, override: str, csrf: str) -> Errand:
    """Ask the registry about a file that was dropped and judged; as `promote`."""
    _may(request, csrf)
    found = errand_of(request, errand)
    dropped = errands_of(request).file(found)
    if found.kind != "diagnose" or not found.over or dropped is None:
        raise RegistryError("what is promoted must be a file that was judged here, found another; drop it again")
    with errands_of(request).new_folder("promote") as folder:
        file = folder / found.name
        shutil.copyfile(dropped, file)
        return _promotion(request, file, name=found.name, sha256=file_sha256(file), override=override, folder=folder)


def _promotion(request: Request, file: Path, *, name: str, sha256: str, override: str, folder: Path) -> Errand:
    setting, asks, address = house_of(request).setting, who(), visitor_of(request).address
    candles = candles_words(setting)
    note(request, "promote", "tried", sha256=sha256, override=override)

    def asked() -> Mapping[str, Any]:
        return {
            "do": "promote",
            "model": str(file.absolute()),
            "sha256": sha256,
            "candles": candles,
            "until": None if setting.until is None else setting.until(),
            "registry": str((setting.home / "registry").absolute()),
            "now": setting.now(),
            "override": override,
            "who": asks,
        }

    def ended(errand: Errand) -> None:
        write(setting.home, address, "promote", f"{errand.state}: {errand.words}", sha256=sha256)

    options = {"--candles": setting.candles or "sample", "--home": str(setting.home), "--override": override or None}
    line = command("promote", name, options)
    return errands_of(request).start("promote", folder, name=name, command=line, request=asked, ended=ended)


def rollback(request: Request, symbol: str, *, why: str, csrf: str) -> Changed:
    """Bring back the model that was live before.

    Raises:
        HTTPException: 401 or 403.
        RegistryError: there is none.

    """
    _may(request, csrf)
    house = house_of(request)
    check_symbol(symbol)
    return _change(
        request,
        "rollback",
        lambda: house.registry.rollback(symbol, now=house.now(), why=why.strip(), who=who()),
        symbol=symbol,
        why=why,
    )


def retire(request: Request, sha256: str, *, why: str, csrf: str) -> Changed:
    """Take a model out of service.

    Raises:
        HTTPException: 401, 403 or 404.
        RegistryError: no reason is given, or its stage does not allow it.

    """
    _may(request, csrf)
    house, entry = house_of(request), _entry(request, sha256)

    def change() -> Entry:
        if not why.strip():
            raise RegistryError("a model must be retired for a reason, found none; say why, for the ledger")
        return house.registry.retire(entry, now=house.now(), why=why.strip(), who=who())

    return _change(request, "retire", change, sha256=entry.sha256, why=why)


def _change(request: Request, what: str, change: Callable[[], Entry], **about: str) -> Changed:
    """Change something, and write down that it was tried and what came of it."""
    note(request, what, "tried", **about)
    try:
        entry = change()
    except CrpbotError as error:
        note(request, what, f"refused: {error}", **about)
        raise
    note(request, what, f"done: {entry.symbol} {entry.sha256[:12]} is {entry.stage}", **about)
    return Changed(symbol=entry.symbol, sha256=entry.sha256, stage=entry.stage, reason=entry.reason)


def _may(request: Request, csrf: str) -> None:
    trusted(request)
    meant(request, csrf)


def _entry(request: Request, sha256: str) -> Entry:
    found = house_of(request).entry(sha256)
    if found is None:
        raise HTTPException(404, "a model must be one of the registry, found no such digest; /models lists them")
    return found


@router.post("/models/{sha256}/promote", include_in_schema=False)
def promote_form(request: Request, sha256: Sha256, override: ReasonField = "", csrf: CsrfField = "") -> Response:
    """Promote a model, and show how it goes on."""
    return RedirectResponse(f"/errands/{promote(request, sha256, override=override.strip(), csrf=csrf).id}", 303)


@router.post("/diagnose/{errand}/promote", include_in_schema=False)
def promote_dropped_form(request: Request, errand: ErrandId, override: ReasonField = "", csrf: CsrfField = "") -> Response:
    """Promote a file that was dropped, and show how it goes on."""
    return RedirectResponse(f"/errands/{promote_dropped(request, errand, override=override.strip(), csrf=csrf).id}", 303)


@router.post("/markets/{symbol}/rollback", include_in_schema=False)
def rollback_form(request: Request, symbol: Symbol, why: ReasonField = "", csrf: CsrfField = "") -> Response:
    """Roll back, and show the model that is live again, with its last decision."""
    return RedirectResponse(f"/models/{rollback(request, symbol, why=why, csrf=csrf).sha256}", 303)


@router.post("/models/{sha256}/retire", include_in_schema=False)
def retire_form(request: Request, sha256: Sha256, why: ReasonField = "", csrf: CsrfField = "") -> Response:
    """Retire a model, and show it with its last decision."""
    return RedirectResponse(f"/models/{retire(request, sha256, why=why, csrf=csrf).sha256}", 303)


@router.post(
    "/api/models/{sha256}/promote",
    tags=["changes"],
    status_code=202,
    responses={**_REFUSALS, 429: {"description": "too many errands wait already"}},
)
def promote_call(request: Request, sha256: Sha256, wish: Promote) -> Errand:
    """Judge a model anew and ask the registry about it; ask `/api/errands/ID` until it is over."""
    return promote(request, sha256, override=wish.override.strip(), csrf=wish.csrf)


@router.post("/api/markets/{symbol}/rollback", tags=["changes"], responses=dict(_REFUSALS))
def rollback_call(request: Request, symbol: Symbol, wish: Why) -> Changed:
    """Bring back the model that was live before the present one; say which that is."""
    return rollback(request, symbol, why=wish.why, csrf=wish.csrf)


@router.post("/api/models/{sha256}/retire", tags=["changes"], responses=dict(_REFUSALS))
def retire_call(request: Request, sha256: Sha256, wish: Why) -> Changed:
    """Take a model out of service."""
    return retire(request, sha256, why=wish.why, csrf=wish.csrf)


@router.get("/api/errands/{errand}", tags=["changes"], responses={404: {"description": "no such errand"}})
def errand_call(request: Request, errand: ErrandId) -> Errand:
    """Return how a promotion is, and in the end what was decided."""
    return errand_of(request, errand)
