"""`crpbot features`: the 72 columns as a file."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    candles: Annotated[str, typer.Argument(metavar="CANDLES", help="A Parquet or CSV file, a folder, or synthetic:NAME[:ROWS].")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The Parquet file to write.")],
    symbol: Annotated[str | None, typer.Option(help="Which symbol of a folder or known-answer market.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of a known-answer market.")] = 0,
) -> None:
    """Write the 72 features as Parquet.

    The columns are `time` and then the features in order; candles that have none are left out.

    Example: crpbot features candles/BTC-USD.parquet -o features.parquet
    """
    from crpbot.cli.choose import only_symbol, symbol_in
    from crpbot.dataset.features.compute import compute_features
    from crpbot.dataset.features.files import write_features
    from crpbot.errors import DatasetError
    from crpbot.market.source import open_source

    nameless = Path(candles).is_file() and symbol_in(Path(candles).name) is None
    wanted = symbol or ("BTC-USD" if nameless else None)  # features do not depend on the symbol
    source = open_source(candles, symbols=(wanted,) if wanted else (), seed=seed)
    market = source.read(wanted or only_symbol(source))
    features = compute_features(market)
    if not len(features.rows):
        raise DatasetError(f"features need 200 candles without a gap, found none such among {len(market):,}; bring more candles")
    write_features(features, market, output)
    typer.echo(f"{len(features.rows):,} rows of {len(features.names)} features of {len(market):,} candles: {output}")
