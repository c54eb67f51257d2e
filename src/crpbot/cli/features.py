"""`crpbot features`: what a model sees, as a list, a file or a page."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from crpbot.dataset.features.sets import FeatureSet


def command(
    candles: Annotated[
        str | None, typer.Argument(metavar="CANDLES", help="A Parquet or CSV file, a folder, or synthetic:NAME[:ROWS].")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="F", help="Write Parquet there.")] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", metavar="F", help="Write a page there: distributions, missing rows, drift.")
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="Print the features with unit and formula, and read no candles.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --list: as JSON.")] = False,
    set_name: Annotated[str | None, typer.Option("--set", metavar="NAME", help="founding-72 or relative-72.")] = None,
    recipe: Annotated[
        str, typer.Option("--recipe", metavar="NAME|FILE", help="Whose features, gaps and blocks are meant.")
    ] = "v7",
    symbol: Annotated[str | None, typer.Option(help="Which symbol of a folder or known-answer market.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of a known-answer market.")] = 0,
) -> None:
    """Write the features as Parquet, draw them, or list them with their formulas.

    The columns of the file are `time` and then the features in order; candles that have none are left out.

    Example: crpbot features candles/BTC-USD.parquet -o features.parquet --html features.html
    """
    from crpbot.dataset.features.sets import feature_set
    from crpbot.model.recipe import load_recipe

    choices = load_recipe(recipe)
    table = choices.features.table if set_name is None else feature_set(set_name)
    if as_json and not show:
        raise typer.BadParameter("belongs to --list", param_hint="--json")
    if show:
        print_catalogue(table, as_json=as_json)
        return
    if candles is None or (output is None and html_file is None):
        raise typer.BadParameter("must be given with -o F or --html F, or --list instead", param_hint="CANDLES")
    from crpbot.dataset.drift import drift_in_words
    from crpbot.dataset.features.compute import compute_features
    from crpbot.dataset.features.files import write_features
    from crpbot.disk import write_whole
    from crpbot.errors import DatasetError
    from crpbot.market.source import open_source
    from crpbot.model.folder import symbol_in
    from crpbot.quality.report.features import feature_blocks, features_page

    nameless = Path(candles).is_file() and symbol_in(Path(candles).name) is None
    wanted = symbol or ("BTC-USD" if nameless else None)  # features do not depend on the symbol
    source = open_source(candles, symbols=(wanted,) if wanted else (), seed=seed)
    name = wanted or source.only_symbol()
    market = source.read(name)
    features = compute_features(market, table, max_gap_minutes=choices.features.max_gap_minutes)
    if not len(features.rows):
        raise DatasetError(
            f"features need {table.warm_up + 1} candles without a gap, found none such among {len(market):,}; bring more candles"
        )
    rows = f"{len(features.rows):,} rows of {len(features.names)} features of {len(market):,} candles"
    if output is not None:
        write_features(features, market, output)
        typer.echo(f"{rows}: {output}")
    if html_file is not None:
        data = feature_blocks(Path(candles).name if nameless else name, market, table, features, choices)
        write_whole(html_file, features_page(data))
        typer.echo(f"{rows}: {html_file}\n{drift_in_words(data.drift)}")


def print_catalogue(table: "FeatureSet", *, as_json: bool) -> None:
    """Print name, unit and formula of each feature."""
    units = dict(zip(table.names, map(str, table.units), strict=True))
    if as_json:
        features = [{"name": name, "unit": units[name], "formula": table.formulas[name]} for name in table.names]
        plain = {
            "set": table.name,
            "description": table.description,
            "sha256": table.sha256,
            "warm_up": table.warm_up,
            "features": features,
            "where": dict(table.where),
        }
        typer.echo(json.dumps(plain, indent=1, ensure_ascii=False))
        return
    width, unit_width = max(map(len, (*table.names, *table.where))), max(map(len, units.values()))
    typer.echo(f"{table.name}: {table.description}")
    typer.echo(f"{len(table)} features; the first {table.warm_up} candles after a gap have none.\n")
    for name in table.names:
        typer.echo(f"{name:{width}}  {units[name]:{unit_width}}  {table.formulas[name]}")
    if table.where:
        typer.echo("\nwhere")
        for name, text in table.where.items():
            typer.echo(f"{name:{width}}  {'':{unit_width}}  {text}")
