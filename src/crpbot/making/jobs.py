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
from multiprocessing import get_context, parent_process
from multiprocessing.context import SpawnContext
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import Any

from crpbot.errors import TrainingError
from crpbot.making.model import cut_fold, train_model
from crpbot.market.candles import Candles
from crpbot.market.source import SourceKind
from crpbot.model.recipe import Recipe
from crpbot.model.training import Epoch
from crpbot.quality.gates import GateTable
from crpbot.quality.report.data import Judgement

MOST_KILLS = 3
"""Times that a worker may be killed before the whole is given up."""
_COPIES = 4
"""What a job needs, as multiples of its features in float64: the features, what they are made of, the same normalized."""


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
        folder=folder or job.folder,
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

    Args:
        jobs: to do.
        markets: candles by symbol.
        workers: processes side by side; 1 does everything in this one.
        watch: is told of each epoch.
        done: is told of each model.

    Raises:
        CrpbotError: a job failed; or its worker was killed too often.

    """
    if min(workers, len(jobs)) <= 1:
        judgements = []
        for job in jobs:
            judgements.append(do(job, markets[job.symbol], told=lambda epoch, job=job: watch(job, epoch)))  # type: ignore[misc]
            done(job, judgements[-1])
        return tuple(judgements)
    found: dict[int, Judgement] = {}
    for _ in range(MOST_KILLS):
        missing = [number for number in range(len(jobs)) if number not in found]
        if not missing:
            break
        with _pool(min(workers, len(missing)), jobs, watch) as pool:
            futures = {pool.submit(_work, number, jobs[number], markets[jobs[number].symbol]): number for number in missing}
            for future in _as_done(futures):
                if isinstance(future.exception(), BrokenProcessPool):
                    break  # the pool is lost, and with it what was under way: begin again with what is missing
                number = futures[future]
                found[number] = future.result()
                done(jobs[number], found[number])
    if len(found) < len(jobs):
        raise TrainingError(
            f"a worker must live until its model is done, found {MOST_KILLS} killed, mostly for lack of memory; "
            "take fewer side by side: --workers 1. The same command goes on from the last epochs"
        )
    return tuple(found[number] for number in range(len(jobs)))


def fitting_workers(jobs: Sequence[Job], markets: Mapping[str, Candles]) -> int:
    """Return how many workers this machine has processors and memory for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    needed = max(_COPIES * 8 * len(markets[job.symbol]) * len(job.recipe.features.table) for job in jobs)
    return max(1, min(len(jobs), cores, _memory() // max(needed, 1)))


def _memory() -> int:
    """Return the bytes of memory that can be had, or very many where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return 2**60


def _as_done(futures: Mapping[Future[Judgement], int]) -> Iterator[Future[Judgement]]:
    """Yield futures as they end; unlike the standard library's, a Ctrl-C between them is heard at once."""
    left = set(futures)
    while left:
        ended, left = wait(left, timeout=0.5)
        yield from ended
        if any(isinstance(future.exception(), BrokenProcessPool) for future in ended):
            return


@contextmanager
def _pool(workers: int, jobs: Sequence[Job], watch: Report) -> Iterator[ProcessPoolExecutor]:
    """Give a pool whose epochs are told to `watch`; nothing of it is left when the block ends, however that is.

    The epochs come through a process of their own: a worker that is killed while it tells of one would else keep the lock of
    the queue for ever.
    """
    spawn = get_context("spawn")
    with _manager(spawn) as manager:
        told = manager.Queue()

        def listen() -> None:
            with suppress(OSError, EOFError):
                while (item := told.get()) is not None:
                    watch(jobs[item[0]], item[1])

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_begin, initargs=(told,))
        try:
            yield pool
        except BaseException:
            for process in list((pool._processes or {}).values()):  # noqa: SLF001  terminate_workers comes with Python 3.14
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
            with suppress(OSError, EOFError):
                told.put(None)
            listener.join()


@contextmanager
def _manager(context: SpawnContext) -> Iterator[SyncManager]:
    """Give a manager that leaves Ctrl-C to this process."""
    manager = SyncManager(ctx=context)
    manager.start(_leave_interrupts_to_parent)
    try:
        yield manager
    finally:
        manager.shutdown()


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


_told: Any = None


def _begin(told: Any) -> None:  # noqa: ANN401
    """Prepare a worker: where it tells of epochs."""
    global _told  # noqa: PLW0603  a worker's one channel, given once
    _told = told
    _leave_interrupts_to_parent()


def _work(number: int, job: Job, candles: Candles) -> Judgement:
    parent = parent_process()

    def told(epoch: Epoch) -> None:
        if parent is not None and not parent.is_alive():
            os._exit(1)  # nobody waits for it any more, and somebody may have begun the same anew
        with suppress(OSError, EOFError):  # nobody listens any more: the model is worth more than the news
            _told.put((number, epoch))

    return do(job, candles, told=told)
