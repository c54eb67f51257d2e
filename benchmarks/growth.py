"""How cost grows with the rows: 10 thousand to 10 million candles, each size in a process of its own.

What would take more memory than the machine has free, or more than two and a half minutes, by what the size before took, is left
out, and the page says so. Memory is what the work took over the candles, or the rows, that were there before.
"""

import dataclasses
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.measuring import Call, Scale, ask, costs, free_memory
from benchmarks.results import Growth

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
LONGEST, LEAVE = 150.0, 0.75
"""Seconds of one work at most, and the share of the free memory that may be taken."""
THERE = {"epoch": 584, "backtest": 120}
"""Bytes of a row before the work begins, where they are not those of a candle."""
CANDLE, WARM = 50, 5_000
"""Bytes of a candle, and how many of them a work does before it is measured, so that imports are not."""


def market(rows: int) -> Any:  # noqa: ANN401
    """Return candles of a random walk."""
    from crpbot.market.synthetic import make_market

    return make_market("random-walk", "BTC-USD", rows=rows, seed=0)


def features(rows: int) -> Callable[[], object]:
    """Compute the 72 features."""
    from crpbot.dataset.features.compute import compute_features

    candles = market(rows)
    return lambda: compute_features(candles)


def labels(rows: int) -> Callable[[], object]:
    """Label by recipe v7: what the price did, the threshold of it, the classes, and how unique each label is."""
    from crpbot.dataset.labels import average_uniqueness, classify, fit_theta, label_moves
    from crpbot.model.recipe import load_recipe

    candles, label = market(rows), load_recipe("v7").label

    def work() -> object:
        moves, known = label_moves(candles, label.rule)
        there = np.isfinite(moves)
        y = classify(moves[there], fit_theta(moves[there], label.rule, neutral_share=label.neutral_share))
        return y, average_uniqueness(candles.time[there], known[there])

    return work


def assembling(rows: int) -> Callable[[], object]:
    """Make rows of candles: features and labels."""
    from crpbot.dataset.assemble import assemble
    from crpbot.model.recipe import load_recipe

    candles, recipe = market(rows), load_recipe("v7")
    return lambda: assemble(candles, recipe.features.table, recipe.label.rule)


def diagnosis(rows: int) -> Callable[[], object]:
    """Diagnose a function of the features, from candles to gates and the page."""
    from crpbot.factory import diagnose
    from crpbot.quality.report.html import report_page

    candles = market(rows)
    drawn = np.random.default_rng(0).normal(0, 0.01, (72, 3))

    def says(x: np.ndarray) -> np.ndarray:
        return np.tanh((x - x.mean(axis=0)) @ drawn * 1e-3)

    return lambda: report_page([diagnose(says, candles, source="synthetic", output="logits")])


def backtest(rows: int) -> Callable[[], object]:
    """Follow one signal every 20 candles, from probabilities on."""
    from benchmarks.backtest import ATR_PRESET, TIMING, heard
    from crpbot.signals.backtest import About, Terms, follow_signals
    from crpbot.signals.follow import Costs
    from crpbot.signals.rules import MarketRules
    from crpbot.signals.threshold import fixed

    candles = market(rows)
    said = heard(candles, rows // 20)
    about = About(models=("a coin",), symbol="BTC-USD", source="synthetic", label="nothing", out_of_sample="yes")
    terms = Terms(preset=ATR_PRESET, timing=TIMING, rules=MarketRules(), costs=Costs(), several=True)
    return lambda: follow_signals(candles, said, fixed(0.6), terms, about)


def epoch(rows: int) -> Callable[[], object]:
    """Train one epoch of recipe v7 at its batch of 64, on drawn rows."""
    import torch

    from crpbot.model.recipe import load_recipe
    from crpbot.model.training import Rows, train

    torch.set_num_threads(1)
    rng, recipe = np.random.default_rng(0), load_recipe("v7")
    recipe = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, epochs=1))
    training, held = (Rows(rng.standard_normal((n, 72)), rng.integers(0, 3, n)) for n in (rows, 5_000))
    return lambda: train(recipe, training, held, names=recipe.features.table.names, seed=0)


WORKS: dict[str, Callable[[int], Callable[[], object]]] = {
    "features": features,
    "labels": labels,
    "assembling": assembling,
    "diagnosis": diagnosis,
    "backtest": backtest,
    "epoch": epoch,
}
SAID = {
    "features": "72 features",
    "labels": "labels of v7 and their uniqueness",
    "assembling": "assembling rows",
    "diagnosis": "diagnosis of a function, with the page",
    "backtest": "backtest, a signal every 20 candles",
    "epoch": "training, one epoch at batch 64",
}


def cost(work: str, rows: int) -> dict[str, float]:
    """Return what one work costs at one size."""
    WORKS[work](WARM)()
    found, _ = costs(WORKS[work](rows), times=3)
    return found


def measure(scale: Scale) -> Iterator[Growth]:
    """Grow each work as far as time and memory go."""
    for work, said in SAID.items():
        before: Growth | None = None
        for rows in SIZES[: scale.of(len(SIZES), 2)]:
            left = "" if before is None else too_much(before, rows, there=THERE.get(work, CANDLE))
            if left:
                yield Growth(work=said, rows=rows, left=left)
                continue
            threads = 0 if work in {"features", "assembling"} else 1
            try:
                found = ask(Call(function="growth:cost", arguments={"work": work, "rows": rows}, threads=threads))
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                yield Growth(work=said, rows=rows, failed=f"{error}")
                break
            before = Growth(work=said, rows=rows, seconds=found["seconds"], mib=found["mib"])
            yield before


def too_much(before: Growth, rows: int, *, there: int) -> str:
    """Say why a size is left out, by what a smaller one took, and the bytes of a row; empty where it is not."""
    times = rows / before.rows
    seconds, mib = before.seconds * times, before.mib * times + rows * there / 2**20
    free = free_memory() * LEAVE
    if mib > free:
        return f"about {mib / 1024:.0f} GiB, more than the {free / 1024:.0f} GiB that were to be had"
    return f"about {seconds:.0f} s, more than {LONGEST:.0f} s" if seconds > LONGEST else ""
