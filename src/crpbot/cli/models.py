"""`crpbot models`: what the registry holds, and models in a bucket."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from crpbot.cli.options import HomeOption, home_folder, now
from crpbot.errors import RegistryError, printable

app = typer.Typer(rich_markup_mode=None)

AddressArgument = Annotated[str, typer.Argument(metavar="s3://BUCKET/PREFIX", help="Where models lie, by digest.")]
RegionOption = Annotated[str | None, typer.Option("--region", help="Default: AWS_REGION, else us-east-1.")]


@app.callback(invoke_without_command=True)
def command(
    context: typer.Context,
    home: HomeOption = None,
    every: Annotated[bool, typer.Option("--all", help="Also candidates, which may not speak, and retired ones.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the registry: models and stages.

    Example: crpbot models --home runs/latest
    """
    if context.invoked_subcommand is not None:
        return
    from crpbot.market.candles import utc
    from crpbot.registry.registry import Registry

    registry = Registry(home_folder(home) / "registry")
    entries = registry.entries(every=every)
    if as_json:
        typer.echo(json.dumps([asdict(entry) for entry in entries], indent=1))
        return
    for entry in entries:
        until = ("expired on " if entry.expired(now()) else "until ") + utc(entry.expires)
        typer.echo(f"{entry.symbol:12} {entry.stage:9} {entry.file}  {entry.sha256[:12]}  {until}  {printable(entry.reason)}")
    if not entries:
        typer.echo("no model has passed its gates here yet; `crpbot run` trains and judges one for each symbol")
    if not every and (others := len(registry.entries(every=True)) - len(entries)):
        typer.echo(f"({others} more may not speak, refused or retired: --all lists them)")


@app.command("show")
def show(symbol: Annotated[str, typer.Argument(help="Of the market.")], home: HomeOption = None) -> None:
    """Show the models of a symbol as JSON, each with its file, after proof that it is the one that was promoted.

    Example: crpbot models show BTC-USD
    """
    from crpbot.registry.registry import Registry

    registry = Registry(home_folder(home) / "registry")
    entries = [entry for entry in registry.entries() if entry.symbol == symbol]
    if not entries:
        raise RegistryError(f"the registry must have a model of {symbol}, found none; promote one (crpbot promote)")
    typer.echo(json.dumps([{**asdict(entry), "path": str(registry.checkpoint(entry))} for entry in entries], indent=1))


@app.command("ledger")
def ledger(
    symbol: Annotated[str | None, typer.Argument(help="Of the market; default: all.")] = None,
    home: HomeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show every decision, oldest first, after proof that none was altered.

    Example: crpbot models ledger BTC-USD
    """
    from crpbot.market.candles import utc
    from crpbot.registry.registry import Registry

    lines = [line for line in Registry(home_folder(home) / "registry").lines() if symbol in {None, line.symbol}]
    if as_json:
        typer.echo(json.dumps([asdict(line) for line in lines], indent=1))
        return
    for line in lines:
        moved = line.stage if line.was in {None, line.stage} else f"{line.was} to {line.stage}"
        who = printable(f"{line.symbol or 'foreign'}  {line.who}: {line.reason}")
        typer.echo(f"{utc(line.time)}  {line.move:9} {moved:20} {line.sha256[:12]}  {who}")


@app.command("retire")
def retire(
    digest: Annotated[str, typer.Argument(metavar="SHA256", help="Of the model, or at least 12 characters of its beginning.")],
    why: Annotated[str, typer.Option(metavar="REASON", help="For the ledger.")],
    home: HomeOption = None,
) -> None:
    """Take a model out of service: it may not speak any more.

    Example: crpbot models retire 3f9ac01b77de --why "the market has changed"
    """
    from crpbot.registry.registry import Registry

    registry = Registry(home_folder(home) / "registry")
    found = [entry for entry in registry.entries(every=True) if len(digest) >= 12 and entry.sha256.startswith(digest)]
    if len(found) != 1:
        raise RegistryError(f"a digest must be the first 12 characters or more of one model's, found {len(found)} with it")
    entry = registry.retire(found[0], now=now(), why=why)
    typer.echo(f"{entry.symbol}: {entry.sha256[:12]} is retired")


@app.command("push")
def push(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A checkpoint (.pt), or a folder with one.")],
    address: AddressArgument,
    region: RegionOption = None,
) -> None:
    """Upload a checkpoint under its digest, once.

    Example: crpbot models push models/BTC-USD s3://my-models/live
    """
    from crpbot.cloud.aws import Aws, region_of
    from crpbot.cloud.share import push as send

    typer.echo(send(model, address, Aws(region_of(region))))


@app.command("pull")
def pull(
    address: AddressArgument,
    digest: Annotated[str, typer.Argument(metavar="SHA256", help="The digest, or at least 12 characters of its beginning.")],
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint.")] = Path("models"),
    region: RegionOption = None,
) -> None:
    """Download a checkpoint by its digest, verify it, and place it.

    Example: crpbot models pull s3://my-models/live 3f9ac01b77de --out models
    """
    from crpbot.cloud.aws import Aws, region_of
    from crpbot.cloud.share import pull as bring

    typer.echo(f"verified and written: {bring(address, digest, out, Aws(region_of(region)))}")
