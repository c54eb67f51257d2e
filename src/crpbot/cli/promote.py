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
    from now on. Where only the alarm (accuracy over 60 %) rings, the audit decides. Exit 1 when it is refused.

    Example: crpbot promote models/BTC-USD --candles candles/
    """
    from crpbot.model.loading import open_model

    opened = open_model(model)
    from dataclasses import replace

    from crpbot import factory
    from crpbot.cli.choose import judge_model
    from crpbot.cli.show import console, print_audit, print_reasons, steps
    from crpbot.quality.gates import answered
    from crpbot.registry.registry import Registry

    registry = Registry(home_folder(home) / "registry")
    judgement = judge_model(opened, candles)
    if judgement.verdict.only_alarm:
        with steps() as told:
            audit = factory.audit(opened, candles, trials=registry.tries_with(opened.market, opened.sha256), told=told)
        print_audit(audit)
        if audit.earned:
            judgement = replace(judgement, verdict=answered(judgement.verdict, audit.words))
    decision = registry.record(judgement, opened.path, now=now(), override=override.strip())
    print_reasons(judgement)
    console().print(decision.reason, soft_wrap=True, markup=False)
    if decision.stage != "live":
        raise typer.Exit(1)
