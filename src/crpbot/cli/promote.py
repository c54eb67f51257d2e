"""`crpbot promote`: let a model speak, if it is sound."""

from pathlib import Path
from typing import Annotated

import typer

from crpbot.cli.options import HomeOption, home_folder, now


def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A checkpoint file or a model folder.")],
    candles: Annotated[str, typer.Option(metavar="PATH", help="Candles that end after its training.")],
    home: HomeOption = None,
    override: Annotated[
        str, typer.Option("--override", metavar="REASON", help="Let a refused model rehearse in shadow; every signal says so.")
    ] = "",
) -> None:
    """Let a model speak, if it is sound.

    MODEL is diagnosed again on CANDLES, since no stored verdict counts; if it passes every market gate, it speaks for its symbol
    from now on. Where only the alarm (accuracy over 60 %) rings, the audit decides. Exit 1 when it is refused. With
    --override REASON a refused model gets into shadow, where it rehearses, and never further.

    Example: crpbot promote models/BTC-USD --candles candles/
    """
    from crpbot.model.loading import open_model

    opened = open_model(model)
    from crpbot import upkeep
    from crpbot.cli.choose import judge_model
    from crpbot.cli.show import console, print_audit, print_reasons, steps
    from crpbot.registry.registry import Registry

    registry = Registry(home_folder(home) / "registry")
    judgement = judge_model(opened, candles)
    with steps() as told:
        found = upkeep.promote(opened, judgement, candles, registry, now=now(), override=override.strip(), told=told)
    if found.audit is not None:
        print_audit(found.audit)
    print_reasons(found.judgement)
    console().print(found.decision.reason, soft_wrap=True, markup=False)
    if found.decision.stage != ("shadow" if override.strip() and found.decision.stage != "live" else "live"):
        raise typer.Exit(1)
