"""`crpbot models`: what the registry holds."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from crpbot.cli.options import HomeOption, home_folder


def command(
    home: HomeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the registry: models and stages.

    Example: crpbot models --home runs/latest
    """
    from crpbot.registry import Registry

    entries = Registry(home_folder(home) / "registry").entries()
    if as_json:
        typer.echo(json.dumps([asdict(entry) for entry in entries], indent=1))
        return
    for entry in entries:
        typer.echo(f"{entry.symbol:12} {entry.stage:7} {entry.file}  {entry.sha256[:12]}  {entry.reason}")
    if not entries:
        typer.echo("no model has passed its gates here yet; `crpbot run` trains and judges one for each symbol")
