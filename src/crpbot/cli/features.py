"""`crpbot features`: the 72 columns as a file."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    candles: Annotated[str, typer.Argument(metavar="CANDLES", help="A Parquet or CSV file, a folder, or synthetic:NAME[:ROWS].")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The Parquet file to write.")],
    symbol: Annotated[str | None, typer.Option(help="Which symbol of a folder or known-answer market.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of a known-answer market.")] = 0,
) -> None:
    """Write `time` and the 72 features of every candle that has them, as Parquet.

    Example: crpbot features candles/BTC-USD.parquet -o features.parquet
    """
    from crpbot.cli.choose import only_symbol
    from crpbot.dataset.features.compute import compute_features
    from crpbot.dataset.features.files import write_features
    from crpbot.market.source import open_source

    source = open_source(candles, symbol=symbol or ("BTC-USD" if Path(candles).is_file() else None), seed=seed)
    market = source.read(symbol or only_symbol(source))
    features = compute_features(market)
    write_features(features, market, output)
    typer.echo(f"{len(features.rows):,} rows of {len(features.names)} features of {len(market):,} candles: {output}")
