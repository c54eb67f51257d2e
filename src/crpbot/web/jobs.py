"""Jobs: what is being trained and was, here and in the cloud, and what the dashboard does itself."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup

from crpbot.cloud.jobs import Jobs as CloudJobs
from crpbot.cloud.jobs import Sent
from crpbot.quality.report.html import section
from crpbot.quality.report.page import figure
from crpbot.quality.report.pictures import room
from crpbot.quality.report.svg import Chart
from crpbot.web.errands import Errand, Errands
from crpbot.web.render import house_of, render
from crpbot.web.trainings import Pass, Training

router = APIRouter()
MOST_CLOUD = 100
MOST_NETWORKS = 20
"""Networks of an ensemble whose curves are drawn: the last ones."""
_UNKNOWN = "a job must be one that the dashboard knows, found another; /jobs lists them"

JobId = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$", description="as /api/jobs says it")]


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudJob:
    """A job that was sent to AWS from here, as it was recorded then; AWS is not asked.

    Attributes:
        name: of the work.
        symbol, instance, backend, region: of it.
        spot: whether the machine may be taken away.
        usd_at_most: what it costs at most.
        attempt: how often it was started.
        created: when it was sent, in milliseconds of UTC.

    """

    name: str
    symbol: str
    instance: str
    backend: str
    region: str
    spot: bool
    usd_at_most: float
    attempt: int
    created: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """All jobs.

    Attributes:
        trainings: those at work first, then the newest.
        cloud: newest first.
        cloud_words: which of them cannot be told, and why; empty where all can.
        errands: of the dashboard, without what they found, newest first.

    """

    trainings: tuple[Training, ...]
    cloud: tuple[CloudJob, ...]
    cloud_words: str
    errands: tuple[Errand, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """One training with its epochs, oldest first."""

    training: Training
    epochs: tuple[Pass, ...]


def work(request: Request) -> Work:
    """Return all jobs of a home folder."""
    house = house_of(request)
    errands: Errands = request.app.state.errands
    sent, wrong = CloudJobs(house.setting.home).readable()
    words = f"{wrong[0]} ({len(wrong) - 1} more are damaged)" if len(wrong) > 1 else "".join(wrong)
    return Work(
        trainings=house.trainings.all(), cloud=tuple(_cloud_jobs(sent)), cloud_words=words, errands=errands.all(brief=True)
    )


def _cloud_jobs(jobs: Sequence[Sent]) -> list[CloudJob]:
    return [
        CloudJob(
            name=sent.name,
            symbol=sent.symbol,
            instance=sent.instance,
            backend=sent.backend,
            region=sent.region,
            spot=sent.spot,
            usd_at_most=max(sent.usd_per_hour, sent.usd_on_demand) * sent.limit_seconds / 3_600,
            attempt=sent.attempt,
            created=sent.created,
        )
        for sent in sorted(jobs, key=lambda one: -one.created)[:MOST_CLOUD]
    ]


def pictures(epochs: Sequence[Pass]) -> Markup:
    """Return the loss curves of a training, as markup: those of the recipe, and what early stopping watches."""
    if not epochs:
        return Markup("")
    by_member: dict[int, list[Pass]] = {}
    for one in epochs:
        by_member.setdefault(one.member, []).append(one)
    members = sorted(by_member)[-MOST_NETWORKS:]
    epochs = [one for member in members for one in by_member[member]]
    last = max(5, *(one.epoch for one in epochs))
    span = (0.5, last + 0.5)
    both = [loss for one in epochs for loss in (one.training_loss, one.calibration_loss)]
    losses = Chart("Loss", "epoch", "loss of the recipe", span, room(both, above=0.3))
    watched = Chart("Log loss as served", "epoch", "nats", span, room([one.calibration_log_loss for one in epochs], above=0.3))
    for member in members:
        own = by_member[member]
        xs, first = [float(one.epoch) for one in own], member == members[0]
        _curve(losses, xs, [one.training_loss for one in own], "down", "training rows" if first else "")
        _curve(losses, xs, [one.calibration_loss for one in own], "up", "calibration block" if first else "")
        _curve(watched, xs, [one.calibration_log_loss for one in own], "up", "calibration block" if first else "")
    several = f" One line for each of {len(members)} networks." if len(members) > 1 else ""
    if len(by_member) > len(members):
        several = f" One line for each of the last {len(members)} networks."
    best = min(epochs, key=lambda one: one.calibration_log_loss)
    found = (
        figure(losses, f"Lower is better; training rows with dropout, the calibration block without.{several}"),
        figure(watched, f"It stops the training early. The best so far: {best.calibration_log_loss:.4f} in epoch {best.epoch}."),
    )
    return Markup('<div class="pictures">{}</div>').format(Markup("".join(found)))  # noqa: S704  every text in it is escaped there


def _drawn(request: Request, training: Training, epochs: tuple[Pass, ...]) -> Markup:
    """Return the loss curves of a training, drawn when there is a new epoch."""
    return house_of(request).kept.get(("losses", training.id), epochs, lambda: pictures(epochs))


def _curve(chart: Chart, xs: Sequence[float], ys: Sequence[float], style: str, name: str) -> None:
    chart.line(xs, ys, style, name=name)
    chart.dots(xs, ys, [math.nan] * len(xs), style)


@router.get("/jobs", response_class=HTMLResponse, include_in_schema=False)
def page(request: Request) -> HTMLResponse:
    """Show all jobs."""
    found = work(request)
    drawn: dict[str, Markup] = {}
    for one in found.trainings:
        if one.state == "running" and len(drawn) < 3 and (seen := house_of(request).trainings.get(one.id)) is not None:
            drawn[one.id] = _drawn(request, *seen)
    return render(request, "jobs.html", work=found, drawn=drawn, runs=[str(one) for one in house_of(request).setting.runs])


@router.get("/jobs/{job}", response_class=HTMLResponse, include_in_schema=False)
def one_page(request: Request, job: JobId) -> HTMLResponse:
    """Show one training."""
    house = house_of(request)
    found = house.trainings.get(job)
    if found is None:
        raise HTTPException(404, _UNKNOWN)
    judged = house.trainings.judgement(job)
    return render(
        request,
        "job.html",
        training=found[0],
        epochs=found[1],
        drawn=_drawn(request, *found),
        report=None if judged is None else Markup(section(judged)),  # noqa: S704  the report escapes every text
    )


@router.get("/api/jobs", tags=["jobs"])
def jobs(request: Request) -> Work:
    """Return trainings, here and in the cloud, and the dashboard's own errands."""
    return work(request)


@router.get("/api/jobs/{job}", tags=["jobs"], responses={404: {"description": "no such job"}})
def job(request: Request, job: JobId) -> TrainingJob:
    """Return one training with its epochs."""
    found = house_of(request).trainings.get(job)
    if found is None:
        raise HTTPException(404, _UNKNOWN)
    return TrainingJob(training=found[0], epochs=found[1])
