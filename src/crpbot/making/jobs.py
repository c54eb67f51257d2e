"""Many models: symbols, seeds and folds, each a job of its own, side by side in processes of this machine.

A job depends on nothing but its own arguments: the number of workers, their order and a worker that is killed change nothing.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.managers import SyncManager
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from crpbot.errors import CrpbotError, TrainingError
from crpbot.making.model import cut_fold, train_model
from crpbot.market.candles import Candles
from crpbot.market.source import SourceKind
from crpbot.model.recipe import Recipe
from crpbot.model.training import Epoch
from crpbot.quality.gates import GateTable
from crpbot.quality.report.data import Judgement

MOST_KILLS = 3
"""Rounds in which workers are killed before any model is done, until the whole is given up."""
_PATIENCE = 0.2
"""Seconds between two looks at what workers tell."""
_COPIES = 4
"""What a job needs, as multiples of its features in float64: the features, what they are made of, the same normalized. One more
where members of an ensemble leave a fold out: the rows that one of them learns from."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One model to make.

    Attributes:
        name: what progress and tables call it.
        symbol: of the market.
        recipe: of the model.
        seed: of the training.
        source: kind of the candles.
        gates: table of gates to judge by.
        folder: of the model.
        state: folder for the state of a training that is not finished; None for the one inside `folder`.
        fold: of a walk-forward, from 1; None for the split of the recipe.
        folds: how many folds there are.

    """

    name: str
    symbol: str
    recipe: Recipe
    seed: int
    source: SourceKind
    gates: GateTable
    folder: Path
    state: Path | None = None
    fold: int | None = None
    folds: int = 1


Report = Callable[[Job, Epoch], None]
Done = Callable[[Job, Judgement], None]


def grid(
    symbols: Sequence[str],
    recipe: Recipe,
    *,
    source: SourceKind,
    gates: GateTable,
    out: Path,
    seed: int,
    seeds: int = 1,
    folds: int | None = None,
    state: Path | None = None,
) -> tuple[Job, ...]:
    """Return a job for every symbol, fold and seed, in this order.

    The model of a job is in `out/SYMBOL`, and within it in `fold-N` where there are folds, and in `seed-N` where there are seeds.
    """
    jobs = []
    for symbol in symbols:
        for fold in (None,) if folds is None else range(1, folds + 1):
            for one in range(seed, seed + seeds):
                inner = Path(symbol, *([] if fold is None else [f"fold-{fold}"]), *([f"seed-{one}"] if seeds > 1 else []))
                jobs.append(
                    Job(
                        name=inner.as_posix(),
                        symbol=symbol,
                        recipe=recipe,
                        seed=one,
                        source=source,
                        gates=gates,
                        folder=out / inner,
                        state=None if state is None else state / inner,
                        fold=fold,
                        folds=folds or 1,
                    )
                )
    return tuple(jobs)


def do(job: Job, candles: Candles, *, told: Callable[[Epoch], None], folder: Path | None = None) -> Judgement:
    """Make the model of one job, and return what a report needs; `folder` stands in where the files go elsewhere first."""
    try:
        return _do(job, candles, told, folder or job.folder)
    except CrpbotError as error:
        raise error if str(error).startswith(job.symbol) else type(error)(f"{job.name}: {error}") from None


def _do(job: Job, candles: Candles, told: Callable[[Epoch], None], folder: Path) -> Judgement:
    split = None
    if job.fold is not None:
        candles, split = cut_fold(job.symbol, candles, job.recipe, fold=job.fold, folds=job.folds)
    judgement = train_model(
        job.symbol,
        candles,
        job.recipe,
        source=job.source,
        gates=job.gates,
        seed=job.seed,
        folder=folder,
        watch=told,
        state=job.state,
        split=split,
        called=job.folder,
    )
    return judgement.settled()


def run_here(
    jobs: Sequence[Job],
    markets: Mapping[str, Candles],
    *,
    workers: int,
    watch: Report = lambda _, __: None,
    done: Done = lambda _, __: None,
) -> tuple[Judgement, ...]:
    """Do the jobs on this machine and return their judgements, in order.

    A job that fails does not stop the others; what it found wrong is raised when they are done.

    Args:
        jobs: to do.
        markets: candles by symbol.
        workers: processes side by side; 1 does everything in this one.
        watch: is told of each epoch.
        done: is told of each model, after all of its epochs.

    Raises:
        CrpbotError: a job failed; or workers were killed again and again.

    """
    found: dict[int, Judgement | CrpbotError] = {}
    if min(workers, len(jobs)) <= 1:
        for number, job in enumerate(jobs):
            try:
                judgement = do(job, markets[job.symbol], told=lambda epoch, job=job: watch(job, epoch))  # type: ignore[misc]
            except CrpbotError as error:
                found[number] = error
                continue
            found[number] = judgement
            done(job, judgement)
        return all_of(found)
    kills = 0
    while len(found) < len(jobs):
        before = len(found)
        for number, result in _side_by_side(jobs, markets, found, max(1, workers - kills), watch):
            found[number] = result
            if isinstance(result, Judgement):
                done(jobs[number], result)
        kills = kills + 1 if len(found) == before else 0
        if kills == MOST_KILLS:
            raise TrainingError(
                f"a worker must live until its model is done, found {kills} rounds of killed workers, mostly for lack "
                "of memory; take fewer side by side: --workers 1. The same command goes on from their last epochs"
            )
    return all_of(found)


def _side_by_side(
    jobs: Sequence[Job], markets: Mapping[str, Candles], found: Mapping[int, object], workers: int, watch: Report
) -> Iterator[tuple[int, Judgement | CrpbotError]]:
    """Do what is not found yet in one pool of workers; yield each job as it ends, and stop when a worker is killed."""
    missing = [number for number in range(len(jobs)) if number not in found]
    with _pool(min(workers, len(missing))) as (pool, told):
        with _deaf():
            futures = {pool.submit(_work, number, jobs[number], markets[jobs[number].symbol]): number for number in missing}
        left = set(futures)
        while left:
            ended, left = wait(left, timeout=_PATIENCE)
            for number, epoch in _news(told):
                watch(jobs[number], epoch)
            alive = [future for future in ended if not isinstance(future.exception(), BrokenProcessPool)]
            yield from ((futures[future], _outcome(future)) for future in alive)
            if len(alive) < len(ended):
                return


def _outcome(future: Future[Judgement]) -> Judgement | CrpbotError:
    error = future.exception()
    return error if isinstance(error, CrpbotError) else future.result()


def all_of(found: Mapping[int, Judgement | CrpbotError]) -> tuple[Judgement, ...]:
    """Return the judgements in order, or raise what went wrong first."""
    failed = [found[number] for number in sorted(found) if isinstance(found[number], CrpbotError)]
    if failed:
        first = failed[0]
        assert isinstance(first, CrpbotError)
        raise first if len(failed) == 1 else type(first)(f"{first}; and {len(failed) - 1} more of {len(found)} failed")
    return tuple(one for number in range(len(found)) if isinstance(one := found[number], Judgement))


def fitting_workers(jobs: Sequence[Job], markets: Mapping[str, Candles]) -> int:
    """Return how many workers this machine has processors and memory for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    copies = [_COPIES + (job.recipe.ensemble.vary == "fold") for job in jobs]
    needed = max(n * 8 * len(markets[job.symbol]) * len(job.recipe.features.table) for n, job in zip(copies, jobs, strict=True))
    return max(1, min(len(jobs), cores, _memory() // max(needed, 1)))


def _memory() -> int:
    """Return the bytes of memory that can be had, or very many where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return 2**60


@contextmanager
def _pool(workers: int) -> Iterator[tuple[ProcessPoolExecutor, "Queue[tuple[int, Epoch]]"]]:
    """Give a pool, and where its workers tell of their epochs; nothing of it is left when the block ends, however that is.

    The epochs come through a process of their own: a worker that is killed while it tells of one would else keep the lock of
    the queue for ever.
    """
    spawn = get_context("spawn")
    manager = SyncManager(ctx=spawn)
    with _deaf():
        manager.start(_live_and_die_with_parent)
    pool = None
    try:
        told = manager.Queue()
        pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_begin, initargs=(told,))
        yield pool, told
    except BaseException:
        for process in list(pool._processes.values() if pool and pool._processes else ()):  # noqa: SLF001  terminate_workers: Python 3.14
            process.terminate()
        raise
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)
        manager.shutdown()


def _news(told: "Queue[tuple[int, Epoch]]") -> Iterator[tuple[int, Epoch]]:
    """Yield what workers have told since the last time; nothing where the process between was killed: models matter more."""
    with suppress(OSError, EOFError, Empty):
        while True:
            yield told.get_nowait()


@contextmanager
def _deaf() -> Iterator[None]:
    """Let processes that are started in the block never hear a Ctrl-C, which is for this one to answer, and soon."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _live_and_die_with_parent() -> None:
    """Leave Ctrl-C to the parent, and end when it ends, however that happens."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


_told: Any = None


def _begin(told: Any) -> None:  # noqa: ANN401
    """Prepare a worker."""
    global _told  # noqa: PLW0603  a worker's one channel, given once
    _told = told
    _live_and_die_with_parent()


def _work(number: int, job: Job, candles: Candles) -> Judgement:
    def told(epoch: Epoch) -> None:
        with suppress(OSError, EOFError):  # nobody listens any more: the model is worth more than the news
            _told.put((number, epoch))

    return do(job, candles, told=told)
