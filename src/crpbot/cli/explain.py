"""`crpbot explain`: what a cause or a gate means, with an example."""

import json
from typing import Annotated

import typer


def command(
    cause: Annotated[
        str | None,
        typer.Argument(metavar="CAUSE", help="A cause that `crpbot diagnose` names, or a gate. Default: list them all."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a cause means, how it is recognised, what to do, and show it on a network that was damaged on purpose.

    Example: crpbot explain lost-normalizer
    """
    from crpbot.cli.show import print_rows
    from crpbot.quality.causes.pages import every_line, example_rows, explained, told

    if cause is None:
        lines = list(every_line())
        if as_json:
            typer.echo(json.dumps([dict(zip(("name", "kind", "meaning"), line, strict=True)) for line in lines], indent=1))
            return
        width = max(len(name) for name, _, _ in lines)
        for name, kind, sentence in lines:
            typer.echo(f"{name:{width}}  {kind:8}  {sentence}")
        return
    page = explained(cause)
    if as_json:
        typer.echo(json.dumps(page, indent=1, ensure_ascii=False))
        return
    example = page.get("example")
    changes = [] if example is None else [(name, f"{before} → {after}") for name, before, after in example_rows(example)]
    gate = [] if page.get("gate") is None else [(f"the gate: {heading}", text) for heading, text in told(page["gate"])]
    print_rows(f"{cause} ({'a gate' if page['kind'] == 'gate' else page['kind']})", [*told(page), *changes, *gate])
