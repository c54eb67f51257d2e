"""`crpbot rollback`: bring back the model that was live before."""

from typing import Annotated

import typer

from crpbot.cli.options import HomeOption, home_folder, now


def command(
    symbol: Annotated[str, typer.Argument(help="Of the market.")],
    why: Annotated[str, typer.Option(metavar="REASON", help="For the ledger.")] = "",
    home: HomeOption = None,
) -> None:
    """Bring back the model that was live before the present one, in one step.

    The present one is retired. A running `crpbot live` takes the change at its next candle. Doing it again goes back one further.

    Example: crpbot rollback BTC-USD --why "it is silent since Monday"
    """
    from crpbot.registry.registry import Registry

    entry = Registry(home_folder(home) / "registry").rollback(symbol, now=now(), why=why)
    typer.echo(f"{symbol}: live again is {entry.file} {entry.sha256[:12]}")
