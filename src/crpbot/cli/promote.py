"""`crpbot promote`: let a model speak, if it is sound."""

from pathlib import Path
from typing import Annotated

import typer

from crpbot.cli.options import HomeOption, home_folder, now


def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A checkpoint file or a model folder.")],
    candles: Annotated[str, typer.Option(metavar="PATH", help="Candles that end after its training.")],
    home: HomeOption = None,
) -> None:
    """Let a model speak, if it is sound.

    MODEL is diagnosed again on CANDLES, since no stored verdict counts; if it passes every market gate, it speaks for its symbol
    from now on. Exit 1 when it is refused.

    Example: crpbot promote models/BTC-USD --candles candles/
    """
    from crpbot.model.loading import open_model

    opened = open_model(model)
    from crpbot.cli.choose import judge_model
    from crpbot.cli.show import console, print_reasons
    from crpbot.registry import Registry

    judgement = judge_model(opened, candles)
    decision = Registry(home_folder(home) / "registry").record(judgement, opened.path, now=now())
    print_reasons(judgement)
    console().print(decision.reason, soft_wrap=True, markup=False)
    if decision.stage != "live":
        raise typer.Exit(1)
