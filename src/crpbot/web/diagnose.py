"""Diagnose: drop a checkpoint, get the report. The file is data, read in a process of its own, and forgotten with its errand."""

import json
import shlex
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, HTTPException, Request, UploadFile
from fastapi import Path as InPath
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from markupsafe import Markup

from crpbot.errors import CheckpointError, RecipeError
from crpbot.market.files import check_symbol
from crpbot.model.recipe import builtin_recipes
from crpbot.quality.report.html import drawn, section
from crpbot.web.audit import note
from crpbot.web.errands import Errand, Errands, safe_name
from crpbot.web.login import meant
from crpbot.web.process import GIB
from crpbot.web.render import house_of, render, visitor_of
from crpbot.web.security import MOST_UPLOAD
from crpbot.web.setting import Setting
from crpbot.web.upload import UploadRoute

router = APIRouter(route_class=UploadRoute)
_UNKNOWN = "an errand must be one of the newest since the dashboard was started, found another; drop the file again"
_SAID_NO: Mapping[int | str, dict[str, Any]] = {
    400: {"description": "the form is damaged"},
    401: {"description": "the token is missing, elsewhere than on the dashboard's own machine"},
    403: {"description": "the form is not of this session"},
    408: {"description": "the file did not arrive in time"},
    413: {"description": "the file is too large"},
    429: {"description": "too many wait already"},
}

ErrandId = Annotated[str, InPath(pattern=r"^[0-9a-f]{32}$", description="as it was given when the errand was asked for")]
CsrfField = Annotated[str, Form(max_length=200, description="of a form of ours; a program with the token needs none")]
FirstField = Annotated[str, Form(max_length=200, description="likewise; before everything else in the form")]


def errands_of(request: Request) -> Errands:
    """Return what runs errands."""
    found: Errands = request.app.state.errands
    return found


def errand_of(request: Request, errand: str) -> Errand:
    """Return an errand.

    Raises:
        HTTPException: 404, it is not known.

    """
    found = errands_of(request).get(errand)
    if found is None:
        raise HTTPException(404, _UNKNOWN)
    return found


def candles_words(setting: Setting) -> str | None:
    """Return the candles that errands judge on, as a person types them, wherever the process works.

    Raises:
        CheckpointError: they are in a bucket, whose keys an errand does not have.

    """
    text = setting.candles
    if text is None or text == "sample" or text.startswith("synthetic:"):
        return text
    if text.startswith("s3://"):
        raise CheckpointError(
            f"what judges must have its candles on this machine, since it is given no keys, found {text}; download them and "
            "start the dashboard with --candles"
        )
    return str(Path(text).absolute())


def ask(
    request: Request,
    file: UploadFile,
    scaler: UploadFile | None,
    *,
    csrf: str,
    symbol: str,
    label: str,
    features: str,
) -> Errand:
    """Put a dropped file into the queue.

    Raises:
        HTTPException: 403, the form is not ours.
        CrpbotError: the options are impossible, or too many wait.

    """
    meant(request, csrf)
    setting = house_of(request).setting
    if not file.filename:
        raise CheckpointError("a diagnosis must have a checkpoint file, found none; choose one")
    chosen = check_symbol(symbol) if symbol else None
    if label not in builtin_recipes():
        raise RecipeError(f"a label must be that of a recipe: {', '.join(builtin_recipes())}; found another, choose one")
    names = tuple(dict.fromkeys(part.strip() for part in features.split(",") if part.strip()))
    candles = candles_words(setting)
    name, brought = safe_name(file.filename), None
    if scaler is not None and scaler.filename:
        brought = "scaler-" + safe_name(scaler.filename, otherwise="scaler")

    def asked() -> Mapping[str, Any]:
        return {
            "do": "diagnose",
            "model": name,
            "candles": candles,
            "until": None if setting.until is None else setting.until(),
            "symbol": chosen,
            "label": label,
            "scaler": brought,
            "features": names,
        }

    options = {
        "--candles": setting.candles,
        "--symbol": chosen,
        "--label": label if label != "v7" else None,
        "--scaler": brought and brought.removeprefix("scaler-"),
        "--features": ",".join(names) or None,
    }
    line = command("diagnose", name, options)
    with errands_of(request).new_folder("diagnose") as folder:
        _keep(file, folder / name)
        if scaler is not None and brought is not None:
            _keep(scaler, folder / brought)
        note(request, "diagnose", "asked", file=name)
        return errands_of(request).start("diagnose", folder, name=name, command=line, request=asked)


def _keep(file: UploadFile, path: Path) -> None:
    with path.open("wb") as out:
        shutil.copyfileobj(file.file, out)


def command(verb: str, name: str, options: Mapping[str, str | None]) -> str:
    """Return a line for a shell."""
    words = ["crpbot", verb, name, *(word for option, value in options.items() if value is not None for word in (option, value))]
    return shlex.join(words)


def limits_words(errands: Errands) -> str:
    """Return what an errand may use, in words."""
    limits = errands.limits["diagnose"]
    most = f"at most {limits.seconds:g} seconds and {limits.memory / GIB:g} GiB of memory"
    if find_spec("resource") is None:
        most = f"at most {limits.seconds:g} seconds (this system does not know how to limit its memory)"
    return f"At most {MOST_UPLOAD // 2**20} MB. It is read as data, and nothing in it is executed; judging it may take {most}."


@router.get("/diagnose", response_class=HTMLResponse, include_in_schema=False)
def page(request: Request) -> HTMLResponse:
    """Show where a file can be dropped, and what came of others."""
    return render(
        request,
        "diagnose.html",
        symbols=house_of(request).symbols(),
        labels=builtin_recipes(),
        limits=limits_words(errands_of(request)),
        most=MOST_UPLOAD,
        errands=[one for one in errands_of(request).all(brief=True) if one.kind == "diagnose"],
    )


@router.post("/diagnose", response_class=HTMLResponse, include_in_schema=False)
def drop(
    request: Request,
    file: Annotated[UploadFile, File()],
    scaler: Annotated[UploadFile | None, File()] = None,
    csrf: CsrfField = "",
    symbol: Annotated[str, Form(max_length=41)] = "",
    label: Annotated[str, Form(max_length=50)] = "v7",
    features: Annotated[str, Form(max_length=20_000)] = "",
) -> Response:
    """Take a file, and show how it goes on."""
    errand = ask(request, file, scaler, csrf=csrf, symbol=symbol, label=label, features=features)
    return RedirectResponse(f"/diagnose/{errand.id}", 303)


@router.get("/diagnose/{errand}", response_class=HTMLResponse, include_in_schema=False)
@router.get("/errands/{errand}", response_class=HTMLResponse, include_in_schema=False)
def one_page(request: Request, errand: ErrandId) -> HTMLResponse:
    """Show how an errand is, and in the end what came of it."""
    found = errand_of(request, errand)
    may_promote = (
        found.kind == "diagnose"
        and found.passed is True
        and visitor_of(request).trusted
        and found.name.endswith(".pt")
        and errands_of(request).file(found) is not None
    )
    return render(
        request,
        "errand.html",
        errand=found,
        may_promote=may_promote,
        report=None if found.judgement is None else Markup(section(found.judgement)),  # noqa: S704  it escapes every text
    )


@router.get("/diagnose/{errand}/report.html", response_class=HTMLResponse, include_in_schema=False)
def report(request: Request, errand: ErrandId) -> Response:
    """Give the report as a file that stands alone."""
    return _download(drawn([_judgement(request, errand)]), "text/html; charset=utf-8", "report.html")


@router.get("/diagnose/{errand}/diagnosis.json", include_in_schema=False)
def diagnosis(request: Request, errand: ErrandId) -> Response:
    """Give what was measured as a file."""
    text = json.dumps(_judgement(request, errand), indent=1, ensure_ascii=False) + "\n"
    return _download(text, "application/json", "diagnosis.json")


def _judgement(request: Request, errand: str) -> Mapping[str, Any]:
    found = errand_of(request, errand).judgement
    if found is None:
        raise HTTPException(404, "a report must be of an errand that has judged something, found another; look at its page")
    return found


def _download(text: str, kind: str, name: str) -> Response:
    return Response(text, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})


@router.post("/api/diagnoses", tags=["diagnoses"], status_code=202, responses=dict(_SAID_NO))
def begin(
    request: Request,
    file: Annotated[UploadFile, File(description="a checkpoint, ours or foreign: .pt or .onnx")],
    scaler: Annotated[UploadFile | None, File(description="of a checkpoint that lacks one")] = None,
    csrf: FirstField = "",
    symbol: Annotated[str, Form(max_length=41, description="whose candles; by default its own")] = "",
    label: Annotated[str, Form(max_length=50, description="recipe by whose label a foreign checkpoint is judged")] = "v7",
    features: Annotated[str, Form(max_length=20_000, description="inputs of a foreign checkpoint, as A,B,C")] = "",
) -> Errand:
    """Take a checkpoint and begin to judge it; ask `/api/diagnoses/ID` until it is over."""
    return ask(request, file, scaler, csrf=csrf, symbol=symbol, label=label, features=features)


@router.get("/api/diagnoses", tags=["diagnoses"])
def diagnoses(request: Request) -> list[Errand]:
    """Return the newest diagnoses since the dashboard was started, without what was measured."""
    return [one for one in errands_of(request).all(brief=True) if one.kind == "diagnose"]


@router.get("/api/diagnoses/{errand}", tags=["diagnoses"], responses={404: {"description": "no such errand"}})
def one(request: Request, errand: ErrandId) -> Errand:
    """Return how a diagnosis is, and in the end what was measured."""
    return errand_of(request, errand)
