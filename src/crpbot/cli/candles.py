"""`crpbot candles`: download, import, check, resample and export candles."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crpbot.cli.options import HomeOption, home_folder, now
from crpbot.errors import CandleError, printable

if TYPE_CHECKING:
    from crpbot.market.check import Checked
    from crpbot.market.lake import Lake

app = typer.Typer(help="Candles: download, import, check, resample, export.", rich_markup_mode=None, no_args_is_help=True)

LakeOption = Annotated[
    str | None,
    typer.Option("--lake", metavar="DIR|s3://…", help="Where candles are kept. Default: `lake` in the user's data folder."),
]
_UNITS = {"m": 1, "h": 60, "d": 1_440}
_FIRST = 1_230_768_000_000
_SPANS = {"d": 1, "w": 7, "y": 365.25}


@app.command("check")
def check(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file, a folder of files, or a lake.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Name every gap, duplicate, impossible or frozen candle, and say what each means for training.

    Nothing is corrected. Exit 1 when something was found.

    Example: crpbot candles check candles/
    """
    from crpbot.market.check import MEANINGS

    looked = _look(path)
    findings = [finding for one in looked for finding in one.findings]
    if as_json:
        plain = {kind: [one.to_dict() for one in findings if one.kind == kind] for kind in MEANINGS}
        typer.echo(json.dumps({**plain, "symbols": [_facts(one) for one in looked], "passed": not findings}, indent=1))
    else:
        for one in looked:
            _print(one)
    if findings:
        raise typer.Exit(1)


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="CSV, Parquet, zip, .feather or .json.gz of others.")],
    symbol: Annotated[
        str | None, typer.Option("--symbol", help="Whose candles. Default: what the name of the file or a column says.")
    ] = None,
    lake: LakeOption = None,
    home: HomeOption = None,
) -> None:
    """Take candles of others into the lake: each file whole, checked row by row, or not at all.

    A row that is there twice, number for number, is taken once; two different ones of a minute are refused. The last line says
    where the lake is, for --candles and for `crpbot candles check`, which names its gaps.

    Example: crpbot candles import BTCUSDT-1m-2024-06.zip
    """
    from crpbot.market.candles import MINUTE
    from crpbot.market.formats import read_foreign

    read = [read_foreign(file, symbol=symbol) for file in files]  # every file is read before anything is written
    store = _lake(lake, home)
    for file, (name, candles) in zip(files, read, strict=True):
        with store.lock(name):
            store.add(name, candles, venue=f"file {file.name}")
        missing = int(candles.time[-1] - candles.time[0]) // MINUTE + 1 - len(candles)
        gaps = f", minutes missing between them: {missing:,}" if missing else ""
        typer.echo(f"{name}: {len(candles):,} candles of {printable(file.name)}{gaps}")
    typer.echo(f"in the lake: use it with --candles {printable(str(store))}")


@app.command("export")
def export(
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="CSV, Parquet, .feather or .json.gz (freqtrade).")],
    symbol: Annotated[str, typer.Option("--symbol", help="Whose candles.")],
    path: Annotated[str | None, typer.Argument(metavar="[PATH]", help="A file, a folder or a lake. Default: the lake.")] = None,
    fill: Annotated[str, typer.Option(metavar="none|flat", help="Whether short gaps get marked stand-ins.")] = "none",
    lake: LakeOption = None,
    home: HomeOption = None,
) -> None:
    """Write candles in a form of others.

    With `--fill flat`, short gaps are filled with the close before and no volume, and marked in a column `filled` of
    the Parquet file; no row and no label is made of a stand-in.

    Example: crpbot candles export --symbol BTC-USD -o BTC_USDT-1m.feather
    """
    from crpbot.market.fill import fill_flat
    from crpbot.market.formats import write_foreign
    from crpbot.market.source import open_source

    folder = path or _lake_folder(lake, home)
    candles = open_source(folder, symbols=(symbol,)).read(symbol)
    if fill not in {"none", "flat"} or (fill == "flat" and out.suffix not in {".parquet", ".csv"}):
        raise CandleError(f"--fill must be none, or flat for .parquet or .csv, which can mark them; found {fill!r} and {out}")
    if fill == "flat":
        candles = fill_flat(candles)
    write_foreign(candles, out, symbol=symbol)
    typer.echo(f"{symbol}: {len(candles):,} candles written to {out}")


@app.command("resample")
def resample(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file, a folder of files, or a lake.")],
    to: Annotated[str, typer.Option("--to", metavar="5m|15m|1h|…", help="Length of the new candles.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="CSV or Parquet.")],
    symbol: Annotated[str | None, typer.Option("--symbol", help="Whose candles. Default: of the only market there.")] = None,
) -> None:
    """Make longer candles of 1-minute ones. A candle with a missing minute is left out: gaps stay gaps.

    Example: crpbot candles resample candles/ --symbol BTC-USD --to 15m -o BTC-USD-15m.parquet
    """
    from crpbot.market.formats import write_foreign
    from crpbot.market.resample import resample as longer
    from crpbot.market.source import open_source

    source = open_source(path, symbols=(symbol,) if symbol else ())
    name = symbol or source.only_symbol()
    candles = source.read(name)
    made = longer(candles, _minutes(to))
    write_foreign(made, out, symbol=name)
    typer.echo(f"{len(made):,} candles of {to} of {len(candles):,} of a minute written to {out}")


@app.command("download")
def download(
    symbols: Annotated[list[str], typer.Argument(metavar="SYMBOL...", help="As BTC-USD.")],
    since: Annotated[str, typer.Option(metavar="2y|90d|2024-06-01", help="How far back.")] = "2y",
    until: Annotated[str | None, typer.Option(metavar="DAY", help="The day after the last. Default: now.")] = None,
    venue: Annotated[str, typer.Option(metavar="NAME", help="coinbase, coinbase-advanced, binance or kraken.")] = "coinbase",
    address: Annotated[
        str | None, typer.Option("--address", metavar="URL", help="Of a proxy, instead of the venue's own.")
    ] = None,
    lake: LakeOption = None,
    home: HomeOption = None,
) -> None:
    """Download 1-minute candles into the lake, and only those that are missing.

    Interrupted, it goes on where it was. Only closed candles are kept; a minute that the venue does not have stays a gap.

    Example: crpbot candles download BTC-USD ETH-USD SOL-USD --since 2y --venue coinbase
    """
    from crpbot.cli.show import download_progress
    from crpbot.market.exchange import download as fetch
    from crpbot.market.venues import printable_address

    moment = now()
    store = _lake(lake, home)
    with download_progress() as watch:
        done = fetch(
            store,
            tuple(symbols),
            venue=venue,
            since=_day(since, moment),
            until=moment if until is None else _day(until, moment),
            now=now,
            address=printable_address(address),
            watch=watch,
        )
    for one in done:
        typer.echo(f"{one.symbol}: {one.rows:,} candles added, {one.absent:,} minutes that {venue} does not have")


def _look(path: str) -> list["Checked"]:
    from crpbot.market.check import check_columns, check_file
    from crpbot.market.files import COLUMNS, find_candles
    from crpbot.market.lake import Lake, is_lake

    if not is_lake(path):
        return [check_file(file, symbol or file.stem) for symbol, file in find_candles(Path(path)).items()]
    store = Lake(path)
    found = []
    for symbol in store.symbols:
        if not store.manifest(symbol).months:
            continue
        candles = store.read(symbol)
        columns = {name: getattr(candles, name) for name in COLUMNS[1:]}
        found.append(check_columns(symbol, candles.time, columns, candles.filled))
    return found


def _facts(one: "Checked") -> dict[str, object]:
    from crpbot.market.candles import MINUTE, utc

    first, last = (utc(time - time % MINUTE) for time in (one.first, one.last))
    return {"symbol": one.symbol, "rows": one.rows, "first": first, "last": last}


def _print(one: "Checked") -> None:
    from crpbot.market.check import MEANINGS

    facts = _facts(one)
    typer.echo(
        f"{printable(one.symbol)}: {one.rows:,} candles from {facts['first']} to {facts['last']}"
        + ("" if one.findings else ", complete")
    )
    for kind in MEANINGS:
        of_kind = [finding for finding in one.findings if finding.kind == kind]
        if of_kind:
            typer.echo(f"  {kind.replace('_', ' ')} ({len(of_kind)}): {MEANINGS[kind]}")
            for finding in of_kind[:20]:
                typer.echo(f"    {finding}")
            if of_kind[20:]:
                typer.echo(f"    and {len(of_kind) - 20} more: --json names them all")


def _lake_folder(lake: str | None, home: Path | None) -> str:
    return lake or str(home_folder(home) / "lake")


def _lake(lake: str | None, home: Path | None) -> "Lake":
    from crpbot.market.lake import Lake

    return Lake(_lake_folder(lake, home))


def _minutes(text: str) -> int:
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not _whole(number) or not 1 <= int(number) <= 1_440:
        raise CandleError(f"--to must be minutes, hours or days, such as 5m, 1h or 1d; found {text!r}; correct it")
    return int(number) * _UNITS[unit]


def _day(text: str, moment: int) -> int:
    """Return the moment that `2y`, `90d`, `6w` ago or a day means, in milliseconds of UTC, on the whole minute."""
    number, unit = text[:-1], text[-1:]
    try:
        if unit in _SPANS and _whole(number):
            found = moment - int(timedelta(days=int(number) * _SPANS[unit]).total_seconds() * 1_000)
        else:
            day = datetime.fromisoformat(text)
            found = int((day if day.tzinfo else day.replace(tzinfo=UTC)).timestamp() * 1_000)
    except (ValueError, OverflowError):
        raise CandleError(
            f"a time must be a span such as 2y or 90d, or a day such as 2024-06-01; found {text!r}; correct it"
        ) from None
    if found < _FIRST:
        raise CandleError(f"a time must not be before 2009, when the first coin was made, found {text!r}; correct it")
    return found // 60_000 * 60_000


def _whole(text: str) -> bool:
    return text.isascii() and text.isdecimal()
