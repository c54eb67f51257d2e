"""Logging in and out."""

import math
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from crpbot.web.audit import note
from crpbot.web.render import render, visitor_of
from crpbot.web.security import TOO_OFTEN, WRONG, Doorman, cookie_words

router = APIRouter(include_in_schema=False)


def meant(request: Request, word: str) -> None:
    """Refuse a form that no page of ours has made for this visitor.

    Raises:
        HTTPException: 403.

    """
    if not request.app.state.doorman.is_meant(visitor_of(request), word):
        raise HTTPException(403, "this form must come from a page of this session, found an older one; load the page again")


def trusted(request: Request) -> None:
    """Refuse whoever has not logged in.

    Raises:
        HTTPException: 401.

    """
    if not visitor_of(request).trusted:
        raise HTTPException(401, "only somebody who is logged in may change something; log in first (CRPBOT_WEB_TOKEN)")


@router.get("/login", response_class=HTMLResponse)
async def page(request: Request) -> HTMLResponse:
    """Show the form."""
    return render(request, "login.html", wrong="")


@router.post("/login", response_class=HTMLResponse)
async def enter(
    request: Request, token: Annotated[str, Form(max_length=4_096)] = "", csrf: Annotated[str, Form(max_length=200)] = ""
) -> Response:
    """Log in. Whoever was wrong too often has to wait, whatever the token: that keeps the form slow to guess at."""
    meant(request, csrf)
    doorman: Doorman = request.app.state.doorman
    address = visitor_of(request).address
    if wait := doorman.by_form.wait(address):
        if doorman.by_form.first(address):
            await run_in_threadpool(note, request, "login", TOO_OFTEN)
        page = render(request, "login.html", status=429, wrong=f"Too many wrong tokens. Try again in {math.ceil(wait)} seconds.")
        page.headers["Retry-After"] = str(math.ceil(wait))
        return page
    visitor = doorman.let_in(token, address)
    if visitor is None:
        await run_in_threadpool(note, request, "login", WRONG)
        return render(request, "login.html", status=403, wrong="That is not the token.")
    await run_in_threadpool(note, request, "login", "let in")
    answer = RedirectResponse("/", 303)
    answer.headers["Set-Cookie"] = cookie_words(doorman.cookie(visitor), request.headers, secure=request.url.scheme == "https")
    return answer


@router.post("/logout")
def leave(request: Request, csrf: Annotated[str, Form(max_length=200)] = "") -> Response:
    """Log out."""
    meant(request, csrf)
    if visitor_of(request).trusted:
        request.app.state.doorman.let_out(visitor_of(request))
        note(request, "logout", "done")
    return RedirectResponse("/", 303)
