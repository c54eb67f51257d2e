"""`crpbot leaderboard`: an honest race of everything that claims to foretell direction."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crpbot.cli.options import CandlesOption, RecipeOption, SeedOption, WorkersOption, names

if TYPE_CHECKING:
    from crpbot.making.race.race import Ended


def command(
    candles: CandlesOption = None,
    symbols: Annotated[str | None, typer.Option(metavar="A,B,C", help="Markets. Default: all that there are.")] = None,
    recipe: RecipeOption = "v7",
    recipes: Annotated[
        str, typer.Option(metavar="FILE,FILE|NAMES", help="Recipes that stand beside --recipe and its variants.")
    ] = "v6,v8",
    contenders: Annotated[str | None, typer.Option(metavar="NAMES", help="Only these stand in the race. Default: all.")] = None,
    folds: Annotated[
        int,
        typer.Option(min=1, max=100, help="Of the walk-forward. The last is the split of --recipe; the others choose."),
    ] = 3,
    seed: SeedOption = 0,
    workers: WorkersOption = 0,
    out: Annotated[Path, typer.Option(help="Folder of this race and no other.")] = Path("runs/leaderboard"),
    tried: Annotated[int, typer.Option(min=0, metavar="N", help="Recipes that were tried on these candles before.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Race majority, prior, one feature, logistic regression, boosted trees and networks under one split.

    All folds but the last are for choosing. What they pick is written down before anything of the last test block is judged. A
    race that was cut off goes on when the same command is given again; one that is over is read, never judged anew. The recipe
    that was picked is written to pick.toml, with all tries of the race as its trials: an audit counts them.

    Example: crpbot leaderboard --candles candles/ --symbols BTC-USD,ETH-USD --out runs/leaderboard
    """
    from crpbot.cli.options import now
    from crpbot.cli.show import print_leaderboard, progress_of
    from crpbot.making.race.leaderboard import PICK, leaderboard

    with progress_of(_ended) as (watch, done):
        board = leaderboard(
            candles,
            symbols=names(symbols),
            recipe=recipe,
            recipes=names(recipes),
            contenders=names(contenders),
            folds=folds,
            seed=seed,
            workers=workers,
            out=out,
            tried=tried,
            now=now,
            watch=watch,
            done=done,
        )
    if as_json:
        typer.echo(board.to_json(), nl=False)
        return
    print_leaderboard(board)
    files = ["leaderboard.json", "leaderboard.md", *([] if board.picked is None else [PICK])]
    typer.echo(f"written: {', '.join(str(out / file) for file in files)}")


def _ended(ended: "Ended") -> str:
    seconds, failed = ended
    return f"failed: {failed}" if failed else f"done in {seconds:,.1f} s"
