"""The same jobs on many machines: a Ray cluster, or this machine as a cluster of one.

Candles go to the cluster once per symbol; the files of a model come back and take their places here. A job whose worker is killed
is done again by Ray, with the same result, since it depends on nothing but its arguments.
"""

import os
import re
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from crpbot.errors import CrpbotError, TrainingError
from crpbot.making.jobs import Done, Job, Report, all_of, do
from crpbot.making.pool import MOST_KILLS
from crpbot.market.candles import Candles
from crpbot.model.folder import model_folder
from crpbot.model.training import Epoch
from crpbot.quality.report.data import Judgement

Files = Mapping[str, bytes]

_CONNECT = 10.0
"""Seconds for a cluster to answer."""
_PATIENCE = 0.5
"""Seconds between two looks at what is done."""


def run_on_ray(
    jobs: Sequence[Job],
    markets: Mapping[str, Candles],
    *,
    address: str | None = None,
    watch: Report = lambda _, __: None,
    done: Done = lambda _, __: None,
) -> tuple[Judgement, ...]:
    """Do the jobs on a Ray cluster and return their judgements, in order; the model folders are written here.

    Args:
        jobs: to do; each takes one processor. Their `state` is not used: a job that is cut off begins anew.
        markets: candles by symbol.
        address: of the cluster, as `ray://HOST:10001` or `auto`; None starts one on this machine, and ends it afterwards.
        watch: is told of each epoch.
        done: is told of each model.

    Raises:
        CrpbotError: a job failed, its worker was killed too often, or the cluster cannot be reached.

    """
    import ray  # noqa: PLC0415  an extra

    away = ray.remote(num_cpus=1, max_retries=MOST_KILLS - 1)(_do_away)
    found: dict[int, Judgement | CrpbotError] = {}
    with _cluster(address):
        board = ray.remote(num_cpus=0)(_Board).remote()
        candles = {symbol: ray.put(market) for symbol, market in markets.items()}
        waiting = {away.remote(number, job, candles[job.symbol], board): number for number, job in enumerate(jobs)}
        while waiting:
            ended, _ = ray.wait(list(waiting), timeout=_PATIENCE)
            for number, epoch in ray.get(board.take.remote()):
                watch(jobs[number], epoch)
            for reference in ended:
                number = waiting.pop(reference)
                result = _result(reference)
                if isinstance(result, CrpbotError):
                    found[number] = result
                    continue
                found[number] = judgement = _place(jobs[number], result)
                done(jobs[number], judgement)
    return all_of(found)


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """Join a cluster, or start one; leave it, or end it, when the block ends."""
    import ray  # noqa: PLC0415  an extra

    _check_answers(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody asked to tell a stranger about this run
    try:
        options = {} if address else {"include_dashboard": False}
        ray.init(address=address, log_to_driver=False, logging_level="error", **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(
            f"a Ray cluster must answer at {address or 'this machine'}, found: {reason}; check the address, or leave it out"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str | None) -> None:
    """Raise where nobody listens at an address: Ray itself would try for minutes before it says so."""
    place = re.fullmatch(r"(?:ray://)?([^/]+):(\d+)", address or "")
    if place is None:
        return
    try:
        socket.create_connection((place[1].strip("[]"), int(place[2])), timeout=_CONNECT).close()
    except (OSError, OverflowError) as error:
        raise TrainingError(
            f"a Ray cluster must answer at {address}, found: {error}; check the address, or leave it out"
        ) from None


def _result(reference: Any) -> tuple[Files, Judgement] | CrpbotError:  # noqa: ANN401
    """Return what a job gave, or what it found wrong."""
    import ray  # noqa: PLC0415  an extra

    try:
        result: tuple[Files, Judgement] | CrpbotError = ray.get(reference)
    except ray.exceptions.RayTaskError:
        raise  # a bug, with the traceback of the worker
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(f"a Ray worker must live until its model is done, found: {reason}; look after its memory") from None
    return result


def _place(job: Job, result: tuple[Files, Judgement]) -> Judgement:
    files, judgement = result
    with model_folder(job.folder) as partial:
        for name, content in files.items():
            (partial / name).write_bytes(content)
    return judgement


def _do_away(number: int, job: Job, candles: Candles, board: Any) -> tuple[Files, Judgement] | CrpbotError:  # noqa: ANN401
    """Do a job on a machine of the cluster, in a folder that nobody else has, and bring its files."""
    import ray  # noqa: PLC0415  an extra

    def told(epoch: Epoch) -> None:
        ray.get(board.put.remote(number, epoch))  # waits: no news may come after the model

    with tempfile.TemporaryDirectory(prefix="crpbot-") as place:
        try:
            judgement = do(replace(job, state=None), candles, told=told, folder=Path(place))
        except CrpbotError as error:
            return error
        return {file.name: file.read_bytes() for file in sorted(Path(place).iterdir())}, judgement


class _Board:
    """Where workers tell of their epochs, and the driver reads them."""

    def __init__(self) -> None:
        self.told: list[tuple[int, Epoch]] = []

    def put(self, number: int, epoch: Epoch) -> None:
        """Tell of one epoch."""
        self.told.append((number, epoch))

    def take(self) -> list[tuple[int, Epoch]]:
        """Return what was told since the last time."""
        told, self.told = self.told, []
        return told
