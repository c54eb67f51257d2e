"""`crpbot retrain`: train live models anew before they expire."""

from pathlib import Path
from typing import Annotated

import typer

from crpbot.cli.options import CandlesOption, HomeOption, SeedOption, home_folder, names, now
from crpbot.errors import CrpbotError


def command(
    candles: CandlesOption = None,
    symbols: Annotated[str | None, typer.Option(help="Comma-separated; default: every live one.")] = None,
    when_expiring: Annotated[
        bool, typer.Option("--when-expiring", help="Only models that expire within a week, or have expired.")
    ] = False,
    recipe: Annotated[
        str | None, typer.Option("--recipe", metavar="NAME|FILE", help="Default: that of the live model itself.")
    ] = None,
    window_days: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Newest days to train on. Default: as many as the live model had.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the new models. Default: retrained in the home folder.")] = None,
    seed: SeedOption = 0,
    home: HomeOption = None,
) -> None:
    """Train live models anew on a rolling window of the newest candles.

    A new model takes the place of the live one if it passes the same gates on candles that it has not seen; else the live one
    stays until it expires. Exit 1 when one was refused.

    Example: crpbot retrain --when-expiring --candles candles/
    """
    from crpbot import upkeep
    from crpbot.cli.show import console, print_audit, print_reasons, training_progress
    from crpbot.market.source import open_source
    from crpbot.model.recipe import load_recipe
    from crpbot.registry.registry import Registry

    folder = home_folder(home)
    registry = Registry(folder / "registry")
    chosen = None if recipe is None else load_recipe(recipe)
    entries = upkeep.due(registry, names(symbols), now=now(), within_days=upkeep.SOON if when_expiring else None)
    if not entries:
        typer.echo("nothing to retrain: " + ("no live model expires within a week" if when_expiring else "no model is live"))
        return
    source = open_source(candles, symbols=tuple(entry.symbol for entry in entries), seed=seed)
    refused = failed = False
    for entry in entries:
        try:
            with training_progress() as (watch, done):
                found = upkeep.retrain(
                    entry,
                    registry,
                    source.read(entry.symbol),
                    source=source.kind,
                    out=out or folder / "retrained",
                    now=now(),
                    recipe=chosen,
                    window_days=window_days,
                    seed=seed,
                    watch=watch,
                    done=done,
                )
        except CrpbotError as error:  # the others are retrained all the same
            typer.echo(f"error: {entry.symbol}: {error}", err=True)
            failed = True
            continue
        if found.audit is not None:
            print_audit(found.audit)
        print_reasons(found.judgement)
        console().print(f"{entry.symbol}: {found.decision.reason}", soft_wrap=True, markup=False)
        refused |= found.decision.stage != "live"
    if failed or refused:
        raise typer.Exit(2 if failed else 1)
