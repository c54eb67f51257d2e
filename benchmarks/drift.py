"""How many features leave their training range in the test block: `relative-72` beside the founding set.

Blocks are those of recipe v7: training 70 %, test the last 15 % of the rows. Outside: features with more than 1 % of their test
rows outside the range of the training rows. Moved: features whose mean moved by more than half a training deviation.
"""

from collections.abc import Iterator
from typing import Any

from benchmarks.measuring import Call, Scale, in_turns
from benchmarks.results import Row
from crpbot.market.source import open_source

NAMES = {"relative-72": "relative-72", "founding-72": "founding-72"}


def blocks(name: str, path: str, symbol: str) -> dict[str, Any]:
    """Count the features of a set that left, and those that moved."""
    from crpbot.dataset.features.compute import compute_features
    from crpbot.dataset.features.sets import feature_set
    from crpbot.model.recipe import load_recipe
    from crpbot.quality.report.features import feature_blocks

    candles, table = open_source(path or None).read(symbol), feature_set(name)
    data = feature_blocks(symbol, candles, table, compute_features(candles, table), load_recipe("v7"))
    most = max(data.drift, key=lambda drift: abs(drift.shift))
    test = data.blocks["test"]
    return {
        "outside": sum(drift.left for drift in data.drift),
        "moved": sum(drift.moved for drift in data.drift),
        "rows": test.stop - test.start,
        "note": f"{most.name} {most.shift:+.2f}",
    }


def measure(scale: Scale) -> Iterator[Row]:
    """Compare the two sets on every market; there is no chance in it, and one round says it all."""
    source = open_source(scale.candles or None)
    symbols = source.symbols[:1] if scale.quick else source.symbols
    for symbol in symbols:
        calls = {
            title: Call(function="drift:blocks", arguments={"name": name, "path": scale.candles, "symbol": symbol})
            for title, name in NAMES.items()
        }
        turns = in_turns(calls, 1)
        data = f"{'candles of a file' if scale.candles else 'bundled sample'}, sha256 {source.read(symbol).sha256[:16]}"
        given = {"ours": "relative-72", "data": data}
        yield turns.row("outside", f"{symbol}, test block after training", "of 72", what="features outside their range", **given)
        yield turns.row("moved", f"{symbol}, test block after training", "of 72", what="features that moved", **given)
