"""The application: its rooms, the door that everything passes, and what happens to errors."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.resources import files

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from crpbot.errors import CrpbotError
from crpbot.quality.report.page import STYLE
from crpbot.version import code_version
from crpbot.web import (
    api,
    candles,
    changes,
    compare,
    data,
    diagnose,
    jobs,
    ledger,
    login,
    models,
    overview,
    reliability,
    signals,
)
from crpbot.web.audit import write
from crpbot.web.errands import BusyError, Errands
from crpbot.web.house import House
from crpbot.web.news import News
from crpbot.web.render import render
from crpbot.web.security import Door, Doorman
from crpbot.web.setting import Setting
from crpbot.web.steady import Steady

ROOMS = (overview, signals, candles, reliability, models, compare, ledger, data, jobs, diagnose, changes, login, api)


def make_app(setting: Setting) -> FastAPI:
    """Return the dashboard of a home folder.

    Args:
        setting: what it was told.

    """
    house, doorman = House(setting), Doorman(setting.token)
    news, desk, errands = News(house), overview.Desk(house), Errands()

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        errands.told = lambda: _on(loop, partial(news.tell, "jobs", {}))
        tasks = [asyncio.create_task(news.watch()), asyncio.create_task(_keep_fresh(desk, news))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(errands.stop)
            house.close()

    def noted(address: str, outcome: str) -> None:
        write(setting.home, address, "token", outcome)

    app = FastAPI(
        title="crpbot",
        version=code_version(),
        description="What the dashboard shows, as JSON. Times are milliseconds of UTC; shares and errors are fractions.",
        lifespan=life,
        docs_url=None,  # they would load scripts from elsewhere; /api is our own page of the same description
        redoc_url=None,
    )
    app.state.house, app.state.doorman, app.state.news, app.state.desk, app.state.errands = house, doorman, news, desk, errands
    for room in ROOMS:
        app.include_router(room.router)
    app.add_api_route("/pictures.css", _pictures, include_in_schema=False)
    app.add_api_route("/favicon.ico", _icon, include_in_schema=False)
    app.mount("/static", _Kept(directory=str(files("crpbot.web") / "static")))
    app.add_exception_handler(CrpbotError, _said_no)
    app.add_exception_handler(BusyError, _busy)
    app.add_exception_handler(OSError, _no_disk)
    app.add_exception_handler(HTTPException, _not_here)
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_exception_handler(Exception, _bug)
    app.add_middleware(Door, setting=setting, doorman=doorman, said=_answer, noted=noted)
    return app


def _on(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    """Let a thread have something done by the loop, unless that has ended."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(call)


async def _keep_fresh(desk: overview.Desk, news: News) -> None:
    """Make the overview anew whenever something has changed, so that nobody waits for it, and say so when it is there."""
    steady = Steady()
    while True:
        with steady:
            if not await asyncio.to_thread(desk.fresh):
                await asyncio.to_thread(desk.make)
                news.tell("overview", {})
        await asyncio.sleep(0.5)


async def _pictures() -> Response:
    return Response(STYLE, media_type="text/css", headers={"Cache-Control": "max-age=3600"})


async def _icon() -> Response:
    return RedirectResponse("/static/icon.svg", 308)


class _Kept(StaticFiles):
    """Files that browsers may keep for an hour: their addresses carry the version."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answer(message):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"cache-control", b"max-age=3600")]
            await send(message)

        await super().__call__(scope, receive, answer)


def _answer(request: Request, status: int, words: str) -> Response:
    if request.url.path.startswith(("/api", "/openapi")):
        return JSONResponse({"error": words}, status)
    return render(request, "error.html", status=status, code=status, words=words)


def _said_no(request: Request, error: Exception) -> Response:
    return _answer(request, 422, str(error))


def _not_here(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = _answer(request, error.status_code, error.detail)
    answer.headers.update(error.headers or {})
    return answer


def _not_understood(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5])
    return _answer(request, 422, f"what was asked must be as /openapi.json describes it, found {found}")


def _busy(request: Request, error: Exception) -> Response:
    answer = _answer(request, 429, str(error))
    answer.headers["Retry-After"] = "30"
    return answer


def _no_disk(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)
    return _answer(request, 503, f"the file system must allow this, found {error.strerror}; check rights and space")


def _bug(request: Request, error: Exception) -> Response:
    traceback.print_exception(error)
    return _answer(request, 500, "this is a bug of the dashboard; its terminal has the traceback")
