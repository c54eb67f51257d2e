"""`crpbot tune`: a better recipe, looked for on blocks before the test block."""

import json
import shlex
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crpbot.cli.options import CandlesOption, RecipeOption, SeedOption

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crpbot.making.trial import Trial
    from crpbot.making.tune import Done, Tuned, Watch

BEST_ROWS = 5
"""Trials of the table."""


def command(
    symbol: Annotated[str, typer.Option(help="The market, as BTC-USD.")],
    out: Annotated[Path, typer.Option(help="Folder for study.db, trials.json and best.toml.")],
    candles: CandlesOption = None,
    recipe: RecipeOption = "v7",
    space: Annotated[
        str | None, typer.Option(metavar="FILE", help="TOML: keys of the recipe with ranges or choices. Default: the usual keys.")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, max=100_000, help="Recipes in all, with those of earlier calls.")] = 40,
    folds: Annotated[int, typer.Option(min=1, max=100, help="Blocks before the test block that each is judged on.")] = 5,
    seed: SeedOption = 0,
    workers: Annotated[
        int, typer.Option(min=1, max=60, help="Trials side by side; what is proposed depends on how many there are.")
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Look for a better recipe, and never at the test block.

    Each trial is scored by the calibration blocks of folds before the test block, which also stop it early: the score is for
    choosing, not for judging. The first trial is the recipe itself. The same command goes on where it was cut off. The best
    recipe knows how many were tried, and an audit counts them.

    Example: crpbot tune --recipe v7 --symbol BTC-USD --candles candles/ --out tuned/BTC-USD --trials 40
    """
    from crpbot.making.tune import tune
    from crpbot.market.source import open_source
    from crpbot.model.recipe import load_recipe

    chosen = load_recipe(recipe)
    source = open_source(candles, symbols=(symbol,), seed=seed)
    with _progress() as (watch, done):
        tuned = tune(
            symbol,
            source.read(symbol),
            chosen,
            out=out,
            space=space,
            trials=trials,
            folds=folds,
            seed=seed,
            workers=workers,
            watch=watch,
            done=done,
        )
    if as_json:
        typer.echo(json.dumps(tuned.to_dict(), indent=1, ensure_ascii=False))
    else:
        _print(tuned, out, candles)


@contextmanager
def _progress() -> "Iterator[tuple[Watch, Done]]":
    """Show on standard error what is tried, in a terminal, and a line for what was."""
    from crpbot.cli.show import steps
    from crpbot.model.training import Epoch

    with steps() as told:

        def watch(trial: int, fold: int, epoch: Epoch) -> None:
            told(f"trial {trial}, fold {fold}, epoch {epoch.epoch}/{epoch.of}")

        def done(trial: "Trial") -> None:
            sys.stderr.write(f"trial {trial.number}  {_score(trial)}  {trial.look.seconds:.0f} s  {_values(trial)}\n")

        yield watch, done


def _score(trial: "Trial") -> str:
    value = trial.look.value
    return f"{trial.look.state}: {trial.look.why}" if value is None else f"{value:+.5f}"


def _values(trial: "Trial") -> str:
    return ", ".join(f"{key.partition('.')[2]} {_word(value)}" for key, value in trial.values.items())


def _word(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def _print(tuned: "Tuned", out: Path, candles: str | None) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from crpbot.cli.show import console
    from crpbot.making.tune import BEST

    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for heading in ("trial", "log loss less the prior's", "fold by fold", "seconds", "values"):
        table.add_column(heading, overflow="fold")
    for trial in tuned.ranked[:BEST_ROWS]:
        name = f"{trial.number} ({tuned.base.name})" if trial.number == 0 else str(trial.number)
        folds = " ".join(f"{value:+.4f}" for value in trial.look.folds)
        table.add_row(name, _score(trial), folds, f"{trial.look.seconds:.0f}", Text(_values(trial)))
    console().print(table)
    lines = [tuned.words]
    if tuned.importance:
        lines.append("What mattered: " + ", ".join(f"{key} {share:.0%}" for key, share in tuned.importance.items()) + ".")
    if tuned.recipe is not None:
        lines.append(f"written: {out / BEST}, which knows of {tuned.recipe.trials:,} trials.")
    if tuned.recipe is not None and tuned.better:
        given = "" if candles is None else f" --candles {shlex.quote(candles)}"
        given += f" --seed {tuned.seed}" if tuned.seed else ""
        lines.append(
            "Calibration blocks have stopped and chosen it, so these numbers judge nothing; the test block, which no trial has "
            "seen, does:"
        )
        lines.append(f"  crpbot train --recipe {shlex.quote(str(out / BEST))} --symbol {tuned.symbol}{given} --out models")
        lines.append(f"  crpbot diagnose models/{tuned.symbol}{given}")
    for line in lines:
        console().print(Text(line), soft_wrap=True)
