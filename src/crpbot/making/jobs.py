"""Many models: symbols, seeds and folds, each a job of its own, side by side in processes of this machine.

A job depends on nothing but its own arguments: the number of workers, their order and a worker that is killed change nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crpbot.errors import CrpbotError
from crpbot.making.model import cut_fold, train_model
from crpbot.making.pool import fitting, memory_of, run_tasks
from crpbot.market.candles import Candles
from crpbot.market.source import SourceKind
from crpbot.model.recipe import Recipe
from crpbot.model.training import Epoch
from crpbot.quality.gates import GateTable
from crpbot.quality.report.data import Judgement


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


def _do_here(job: Job, candles: Candles, told: Callable[[Epoch], None]) -> Judgement:
    return do(job, candles, told=told)


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
    found = run_tasks(
        _do_here,
        jobs,
        given=lambda job: markets[job.symbol],
        workers=workers,
        watch=watch,
        done=done,
    )
    return all_of(found)


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
    needed = max(memory_of(job.recipe, len(markets[job.symbol])) for job in jobs)
    return fitting(len(jobs), needed)
