"""Which symbol a command means when nobody said it."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from crpbot.errors import CandleError

if TYPE_CHECKING:
    from crpbot.market.source import Source
    from crpbot.quality.gates import GateTable
    from crpbot.quality.report.data import Judgement

_IN_NAME = re.compile(r"(?<![A-Z0-9])[A-Z0-9]{1,20}-[A-Z0-9]{1,20}(?![A-Z0-9])")


def only_symbol(source: "Source") -> str:
    """Return the one symbol of `source`."""
    if len(source.symbols) != 1:
        raise CandleError(
            f"one symbol must be meant, found {', '.join(source.symbols)} in {source.name}; say which with --symbol"
        )
    return source.symbols[0]


def judge_model(
    model: Path,
    candles: str | None,
    *,
    symbol: str | None = None,
    seed: int = 0,
    gates: "GateTable" = "market",
    label: str = "v7",
) -> "tuple[Path, Judgement]":
    """Return the file of a checkpoint, and its judgement on the candles of `symbol`, its own symbol, or the one in its name."""
    from crpbot import factory
    from crpbot.market.source import open_source
    from crpbot.model.loading import find_checkpoint, load_checkpoint
    from crpbot.model.recipe import load_recipe

    recipe = load_recipe(label)
    file = find_checkpoint(model)
    market = symbol or load_checkpoint(file).symbol or symbol_in(file.name)
    source = open_source(candles, symbols=(market,) if market else (), seed=seed)
    rows = source.read(market or only_symbol(source))
    return file, factory.diagnose(file, rows, source=source.kind, gates=gates, label_recipe=recipe)


def symbol_in(file_name: str) -> str | None:
    """Return the symbol in the name of a model file.

    >>> symbol_in("lstm_BTC-USD_v6_enhanced.pt")
    'BTC-USD'
    """
    match = _IN_NAME.search(file_name)
    return match[0] if match else None
