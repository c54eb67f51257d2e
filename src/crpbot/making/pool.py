"""Tasks side by side in processes of this machine: what they tell on the way, workers that are killed, and Ctrl-C.

A task depends on nothing but its own arguments: the number of workers, their order and a worker that is killed change nothing.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import connection, get_context, parent_process
from multiprocessing.managers import SyncManager
from pathlib import Path
from queue import Empty, Queue
from typing import Any, TypeVar

from crpbot.errors import CrpbotError, TrainingError
from crpbot.model.recipe import Recipe

MOST_KILLS = 3
"""Rounds in which workers are killed before any task is done, until the whole is given up."""
_PATIENCE = 0.2
"""Seconds between two looks at what workers tell."""
_COPIES = 4
"""What a task needs, as multiples of its features in float64: the features, what they are made of, the same normalized. One more
where members of an ensemble leave a fold out: the rows that one of them learns from."""

Task = TypeVar("Task")
Given = TypeVar("Given")
Result = TypeVar("Result")
Told = Callable[[Any], None]
Do = Callable[[Task, Given, Told], Result]
"""Does a task with what it is given, in any process, so it is a function of a module; it may tell of what it does."""


def run_tasks(
    do: Do[Task, Given, Result],
    tasks: Sequence[Task],
    *,
    given: Callable[[Task], Given],
    workers: int,
    watch: Callable[[Task, Any], None],
    done: Callable[[Task, Result], None],
) -> Mapping[int, Result | CrpbotError]:
    """Do the tasks and return what each gave, or what it found wrong, by its number: one that fails does not stop the others.

    Args:
        do: a task.
        tasks: to do; they begin in this order.
        given: what a task needs besides itself.
        workers: processes side by side; 1 does everything in this one.
        watch: is told what a task tells on the way.
        done: is told of each result, after all that its task has told.

    Raises:
        TrainingError: workers were killed again and again.

    """
    found: dict[int, Result | CrpbotError] = {}

    def ended(number: int, result: Result | CrpbotError) -> None:
        found[number] = result
        if not isinstance(result, CrpbotError):
            done(tasks[number], result)

    if min(workers, len(tasks)) <= 1:
        for number, task in enumerate(tasks):
            try:
                result: Result | CrpbotError = do(task, given(task), partial(watch, task))
            except CrpbotError as error:
                result = error
            ended(number, result)
        return found
    kills = 0
    while len(found) < len(tasks):
        before = len(found)
        for number, result in _side_by_side(do, tasks, given, found, max(1, workers - kills), watch):
            ended(number, result)
        kills = kills + 1 if len(found) == before else 0
        if kills == MOST_KILLS:
            raise TrainingError(
                f"a worker must live until its model is done, found {kills} rounds of killed workers, mostly for lack "
                "of memory; take fewer side by side: --workers 1. The same command goes on from their last epochs"
            )
    return found


def _side_by_side(
    do: Do[Task, Given, Result],
    tasks: Sequence[Task],
    given: Callable[[Task], Given],
    found: Mapping[int, object],
    workers: int,
    watch: Callable[[Task, Any], None],
) -> Iterator[tuple[int, Result | CrpbotError]]:
    """Do what is not found yet in one pool of workers; yield each task as it ends, and stop when a worker is killed."""
    missing = [number for number in range(len(tasks)) if number not in found]
    with _pool(min(workers, len(missing))) as (pool, told):
        with deaf():
            futures = {pool.submit(_work, number, do, tasks[number], given(tasks[number])): number for number in missing}
        left = set(futures)
        while left:
            ended, left = wait(left, timeout=_PATIENCE)
            for number, news in _news(told):
                watch(tasks[number], news)
            alive = [future for future in ended if not isinstance(future.exception(), BrokenProcessPool)]
            for future in alive:
                outcome = _outcome(future)
                yield futures[future], outcome
            if len(alive) < len(ended):
                return


def _outcome(future: Future[Result]) -> Result | CrpbotError:
    error = future.exception()
    return error if isinstance(error, CrpbotError) else future.result()


def memory_of(recipe: Recipe, candles: int) -> int:
    """Return how many bytes it needs at most to train a recipe on so many candles."""
    return (_COPIES + (recipe.ensemble.vary == "fold")) * 8 * candles * len(recipe.features.table)


def fitting(tasks: int, needed: int) -> int:
    """Return how many workers this machine has processors and memory for, where each needs so many bytes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(tasks, cores, _memory() // max(needed, 1)))


def _memory() -> int:
    """Return the bytes of memory that can be had, or very many where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return 2**60


@contextmanager
def _pool(workers: int) -> Iterator[tuple[ProcessPoolExecutor, "Queue[tuple[int, Any]]"]]:
    """Give a pool, and where its workers tell of what they do; nothing of it is left when the block ends, however that is.

    The news comes through a process of their own: a worker that is killed while it tells of it would else keep the lock of
    the queue for ever.
    """
    spawn = get_context("spawn")
    manager = SyncManager(ctx=spawn)
    with deaf():
        manager.start(live_and_die_with_parent)
    try:
        told = manager.Queue()
        with processes(workers, _begin, told) as pool:
            yield pool, told
    finally:
        manager.shutdown()


@contextmanager
def processes(workers: int, begin: Callable[..., None], *given: object) -> Iterator[ProcessPoolExecutor]:
    """Give processes, each of which begins with `begin(*given)`; an error in the block ends them at once, its end when idle."""
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=begin, initargs=given)
    try:
        yield pool
    except BaseException:
        for process in list(pool._processes.values() if pool._processes else ()):  # noqa: SLF001  terminate_workers: Python 3.14
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _news(told: "Queue[tuple[int, Any]]") -> Iterator[tuple[int, Any]]:
    """Yield what workers have told since the last time; nothing where the process between was killed: results matter more."""
    with suppress(OSError, EOFError, Empty):
        while True:
            yield told.get_nowait()


@contextmanager
def deaf() -> Iterator[None]:
    """Let processes that are started in the block never hear a Ctrl-C, which is for this one to answer, and soon."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def live_and_die_with_parent() -> None:
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
    live_and_die_with_parent()


def _work(number: int, do: Do[Task, Given, Result], task: Task, given: Given) -> Result:
    def told(news: Any) -> None:  # noqa: ANN401
        with suppress(OSError, EOFError):  # nobody listens any more: the result is worth more than the news
            _told.put((number, news))

    return do(task, given, told)
