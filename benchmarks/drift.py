"""How many features leave their training range in the test block, for both sets of the package.

    .venv/bin/python benchmarks/drift.py                 # the bundled sample
    .venv/bin/python benchmarks/drift.py --candles PATH  # a file or a folder of your own

Blocks are those of recipe v7: training 70 %, test the last 15 % of the rows. Outside: features with more than 1 % of their test
rows outside the range of the training rows. Moved: features whose mean moved by more than half a training deviation.
"""

import argparse

from crpbot.dataset.features.compute import compute_features
from crpbot.dataset.features.sets import FEATURE_SETS, feature_set
from crpbot.market.source import open_source
from crpbot.model.recipe import load_recipe
from crpbot.quality.report.features import feature_blocks


def main() -> None:
    """Print one row a market and set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candles", help="a file or folder; by default the bundled sample")
    source = open_source(parser.parse_args().candles)
    recipe = load_recipe("v7")
    print(f"{'market':10}{'set':14}{'test rows':>10}{'outside':>9}{'moved':>7}  the largest shift")
    for symbol in source.symbols:
        candles = source.read(symbol)
        for name in FEATURE_SETS:
            table = feature_set(name)
            data = feature_blocks(symbol, candles, table, compute_features(candles, table), recipe)
            drifts, test = data.drift, data.blocks["test"]
            most = max(drifts, key=lambda drift: abs(drift.shift))
            print(
                f"{symbol:10}{name:14}{test.stop - test.start:10,}{sum(drift.left for drift in drifts):9}"
                f"{sum(drift.moved for drift in drifts):7}  {most.name} {most.shift:+.2f}"
            )


if __name__ == "__main__":
    main()
