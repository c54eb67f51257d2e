"""The interpreter of the documentation's commands, with shorter candles and trainings than they name.

Pages train `--recipe v7` on a year of candles. Here the bundled sample and the known-answer markets have a few thousand rows, a
training is two epochs of large batches, symbols are trained one after the other in the same process, and the clock stands where
the bundled candles end. What is proven is that every command runs, in its order, on the files that the ones before it wrote.
`CRPBOT_WHOLE_DOCS=1` runs the pages as they are.
"""

import dataclasses
import importlib
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))

ROWS = 6_000
LATEST = 1_780_272_000_000
"""2026-06-01 in milliseconds, the minute after the last bundled candle: what expires has not done so yet."""


def main() -> None:
    """Put the stand-ins in place before anything else can have imported what they stand for; then serve."""
    names = ("making.pool", "market.sample", "market.synthetic", "model.recipe")
    pool, sample, synthetic, recipe = (importlib.import_module(f"crpbot.{name}") for name in names)
    read_sample, make_market, load_recipe = sample.read_sample, synthetic.make_market, recipe.load_recipe

    def short_market(name: str, symbol: str, *, rows: int = ROWS, **more: Any) -> Any:
        return make_market(name, symbol, rows=min(rows, ROWS), **more)

    def short_recipe(name: str) -> Any:
        found = load_recipe(name)
        training = dataclasses.replace(found.training, epochs=2, batch_size=256, learning_rate=0.003)
        ensemble = dataclasses.replace(found.ensemble, members=min(found.ensemble.members, 2))
        return dataclasses.replace(found, training=training, ensemble=ensemble)

    pool.fitting = lambda _tasks, _needed: 1
    sample.read_sample = lambda symbol: read_sample(symbol)[-ROWS:]
    synthetic.make_market = short_market
    recipe.load_recipe = short_recipe
    importlib.import_module("crpbot.cli")
    for name, module in list(sys.modules.items()):
        if name.startswith("crpbot.cli.") and hasattr(module, "now"):
            module.now = lambda: LATEST
    importlib.import_module("interpreter").main()


if __name__ == "__main__":
    main()
