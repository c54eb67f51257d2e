"""The JSON API beside the rooms': news as they come, health, and a page that describes all of it."""

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, StreamingResponse
from pydantic import BaseModel

from crpbot.version import code_version
from crpbot.web.render import house_of, render

if TYPE_CHECKING:
    from crpbot.web.news import News

router = APIRouter()


class Hello(BaseModel):
    """Whether the dashboard is there, and of what."""

    version: str
    time: int
    read_only: bool
    demo: bool


@router.get("/api/health", tags=["dashboard"])
async def health(request: Request) -> Hello:
    """Return whether the dashboard is there, and whether this visitor may change anything."""
    house = house_of(request)
    return Hello(
        version=code_version(), time=house.now(), read_only=not request.state.visitor.trusted, demo=bool(house.setting.words)
    )


@router.get(
    "/api/events",
    tags=["dashboard"],
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}, 503: {"description": "too many listeners"}},
)
async def events(request: Request) -> StreamingResponse:
    """Send news as they come.

    These are `hello` at first; `candle` with its numbers; `signals`, `models`, `health` and `jobs` when they have changed;
    `overview` when a new one is there; and `again` where some were missed, so that everything has to be looked at again.
    """
    news: News = request.app.state.news
    if news.full:
        raise HTTPException(503, "too many pages listen already; close some")
    return StreamingResponse(news.listen(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


@router.get("/api", response_class=HTMLResponse, include_in_schema=False)
async def page(request: Request) -> HTMLResponse:
    """Describe the API, as `/openapi.json` does."""
    paths: dict[str, Any] = request.app.openapi()["paths"]
    calls = [
        (method.upper(), path, call.get("summary", ""), call.get("description", ""))
        for path, methods in paths.items()
        for method, call in methods.items()
    ]
    return render(request, "api.html", calls=calls)
