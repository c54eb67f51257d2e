"""`crpbot doctor`: is this machine fit?"""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from crpbot.cli.options import HomeOption, home_folder, now


def command(
    venue: Annotated[str, typer.Option(metavar="NAME", help="Whose address is asked.")] = "coinbase",
    lake: Annotated[str | None, typer.Option("--lake", metavar="DIR|s3://…", help="Where candles are kept.")] = None,
    home: HomeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    address: Annotated[str | None, typer.Option("--address", metavar="URL", help="Instead of the venue's own.")] = None,
) -> None:
    """Look at environment, disk, venue, clock, lake and credentials, and say what to do.

    Exit 1 when something is bad; what is optional and absent is only told.

    Example: crpbot doctor --venue binance
    """
    from crpbot.doctor import examine
    from crpbot.errors import printable

    folder = home_folder(home)
    findings = examine(home=folder, lake=lake or str(folder / "lake"), venue=venue, now=now, address=address)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            remedy = f": {finding.remedy}" if finding.remedy else ""
            typer.echo(printable(f"{finding.status:7}{finding.name}: {finding.words}{remedy}"))
    if any(finding.status == "bad" for finding in findings):
        raise typer.Exit(1)
