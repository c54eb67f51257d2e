"""`crpbot train`: one symbol, one model folder; or many of them, with one table."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crpbot.cli.options import LAST_SEED, CandlesOption, RecipeOption, SeedOption, WorkersOption, names
from crpbot.errors import CrpbotError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crpbot.making.jobs import Done, Job, Report
    from crpbot.market.candles import Candles
    from crpbot.quality.report.data import Judgement

ENGINES = ("local", "ray")


def command(
    out: Annotated[Path, typer.Option(help="Folder; the model goes to OUT/SYMBOL.")],
    symbol: Annotated[str | None, typer.Option(help="The market, as BTC-USD.")] = None,
    symbols: Annotated[str | None, typer.Option(metavar="A,B,C", help="Several markets, side by side.")] = None,
    candles: CandlesOption = None,
    recipe: RecipeOption = "v7",
    seed: SeedOption = 0,
    seeds: Annotated[int, typer.Option(min=1, max=1_000, help="How many seeds, from --seed on: OUT/SYMBOL[/fold-N]/seed-N.")] = 1,
    folds: Annotated[
        int | None, typer.Option(min=1, max=100, help="Walk forward in so many folds instead: OUT/SYMBOL/fold-N[/seed-N].")
    ] = None,
    workers: WorkersOption = 0,
    engine: Annotated[str, typer.Option(metavar="local|ray", help="Processes of this machine, or a Ray cluster.")] = "local",
    address: Annotated[str | None, typer.Option(help="Of the Ray cluster. Default: one on this machine, for this run.")] = None,
    track: Annotated[
        str | None, typer.Option(metavar="tensorboard|mlflow", help="Tell a tool too, in OUT/tracking. Needs the extra `track`.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="Where the state of unfinished training is kept. Default: OUT/SYMBOL/.partial.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train symbols, seeds and folds, each into a model folder of its own.

    Exit 0 when they are written, whatever the gates say. A run that was cut off goes on from its last epoch when the same command
    is given again, and ends with the same weights.

    Example: crpbot train --recipe v7 --symbol ETH-USD --candles candles/ --out models

    Example: crpbot train --symbols BTC-USD,ETH-USD --seeds 5 --folds 6 --candles candles/ --out models
    """
    _check_options(engine, address=address, state=state, workers=workers, last_seed=seed + seeds - 1)
    wanted = tuple(dict.fromkeys((*names(symbol), *names(symbols))))
    if not wanted:
        raise CrpbotError("train needs the markets, found none; name them with --symbol BTC-USD or --symbols BTC-USD,ETH-USD")
    from crpbot.cli.show import console, training_progress
    from crpbot.making.jobs import grid
    from crpbot.making.tracking import TRACKERS, both, tracking
    from crpbot.market.source import open_source
    from crpbot.model.recipe import load_recipe

    tool = next((tracker for tracker in TRACKERS if tracker == track), None)
    if track is not None and tool is None:
        raise CrpbotError(f"--track must be one of {', '.join(TRACKERS)}, found {track!r}; choose one")
    chosen = load_recipe(recipe)
    source = open_source(candles, symbols=wanted, seed=seed)
    jobs = grid(wanted, chosen, source=source.kind, gates="market", out=out, seed=seed, seeds=seeds, folds=folds, state=state)
    markets = {one: source.read(one) for one in wanted}
    with training_progress() as (watch, ended), tracking(tool, out / "tracking") as (epoch_told, model_told):
        told, done = both(watch, epoch_told), both(ended, model_told)
        judgements = _do(jobs, markets, told, done, workers=workers, engine=engine, address=address)
    if as_json:
        typer.echo(json.dumps([_plain(*pair) for pair in zip(jobs, judgements, strict=True)], indent=1, ensure_ascii=False))
        return
    _print(jobs, judgements)
    folders = ", ".join(str(job.folder) for job in jobs) if len(jobs) < 4 else f"{len(jobs)} models below {out}"
    console().print(f"written: {folders}", soft_wrap=True, markup=False)


def _check_options(engine: str, *, address: str | None, state: Path | None, workers: int, last_seed: int) -> None:
    if engine not in ENGINES:
        raise CrpbotError(f"--engine must be one of {', '.join(ENGINES)}, found {engine!r}; choose one")
    if address is not None and engine != "ray":
        raise CrpbotError(f"--address must be of a Ray cluster, found it with the engine {engine}; add --engine ray")
    if engine == "ray" and (state is not None or workers):
        raise CrpbotError("--state and --workers must be left out with --engine ray, found one; the cluster shares out the work")
    if last_seed > LAST_SEED:
        raise CrpbotError(f"seeds must be at most {LAST_SEED}, found {last_seed} as the last; begin lower")


def _do(
    jobs: "Sequence[Job]",
    markets: "Mapping[str, Candles]",
    watch: "Report",
    done: "Done",
    *,
    workers: int,
    engine: str,
    address: str | None,
) -> "Sequence[Judgement]":
    from crpbot.making.jobs import fitting_workers, run_here
    from crpbot.making.model import check_enough, cut_fold

    for job in jobs:  # before hours are spent on another one
        if job.fold is None:
            check_enough(job.symbol, markets[job.symbol], job.recipe)
        elif job.fold == 1:
            cut_fold(job.symbol, markets[job.symbol], job.recipe, fold=1, folds=job.folds)
    if engine == "ray":
        from crpbot.making.cluster import run_on_ray

        return run_on_ray(jobs, markets, address=address, watch=watch, done=done)
    return run_here(jobs, markets, workers=workers or fitting_workers(jobs, markets), watch=watch, done=done)


def _plain(job: "Job", judgement: "Judgement") -> dict[str, object]:
    return {
        "name": job.name,
        "symbol": job.symbol,
        "seed": job.seed,
        "fold": job.fold,
        "folder": str(job.folder),
        "passed": judgement.verdict.passed,
        "diagnosis": judgement.to_dict(),
    }


def _print(jobs: "Sequence[Job]", judgements: "Sequence[Judgement]") -> None:
    from crpbot.cli.show import print_reasons, print_runs, print_table

    if len(jobs) == len({job.symbol for job in jobs}):
        print_table(judgements)
        for judgement in judgements:
            print_reasons(judgement)
    else:
        print_runs(jobs, judgements)
