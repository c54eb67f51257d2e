"""`crpbot serve`: the dashboard."""

from pathlib import Path
from typing import Annotated

import typer

from crpbot.cli.options import HomeOption, home_folder, now


def command(
    demo: Annotated[bool, typer.Option("--demo", help="Show it all on bundled data and a replayed market.")] = False,
    host: Annotated[str, typer.Option(help="To listen on. Others than this machine need a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="To listen on; 0 is any that is free.")] = 8000,
    home: HomeOption = None,
    candles: Annotated[
        str | None, typer.Option(metavar="PATH", help="Candles to show and to judge on. Default: the lake in the home folder.")
    ] = None,
    journal: Annotated[
        str | None, typer.Option(envvar="CRPBOT_JOURNAL", metavar="FILE|URL", help="Default: journal.db in the home folder.")
    ] = None,
    runs: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="Where models are trained, to see how far they are. Default: runs.")
    ] = None,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Least confidence, as `crpbot live` was told.")] = 0.60,
    speed: Annotated[float, typer.Option(min=1, max=3600, help="Of the demo: times as fast as the market.")] = 60.0,
) -> None:
    """Serve the dashboard: models, signals, data, jobs, and a diagnosis of any checkpoint that is dropped on it.

    It listens on this machine only. To change anything on it (promote, roll back, retire) log in with the token that it was
    started with: CRPBOT_WEB_TOKEN, or a file named by CRPBOT_WEB_TOKEN_FILE. Elsewhere than on this machine it asks for the token
    from the start.

    Example: crpbot serve --demo
    """
    from crpbot.web.serve import demo_setting, home_setting, in_order, serve

    def told(address: str) -> None:
        typer.echo(f"{address}  (Ctrl-C ends it)")

    if demo:
        with in_order(), demo_setting(host=host, port=port, speed=speed) as setting:
            typer.echo(setting.words)
            serve(setting, told=told)
        return
    setting = home_setting(
        home_folder(home),
        now=now,
        candles=candles,
        journal=journal,
        runs=tuple(runs or [Path("runs")]),
        threshold=threshold,
        host=host,
        port=port,
    )
    with in_order():
        serve(setting, told=told)
