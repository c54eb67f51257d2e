"""The page of a market's features: what is missing, how each is distributed, and how far it moved since training."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.assemble import labelled_rows
from crpbot.dataset.drift import Drift, drift_in_words, measure_drift
from crpbot.dataset.features.compute import Features
from crpbot.dataset.features.sets import FeatureSet
from crpbot.market.candles import MINUTE, Candles, utc
from crpbot.model.recipe import Recipe
from crpbot.quality.metrics import percent
from crpbot.quality.report.page import figure, page, scroller
from crpbot.quality.report.svg import Chart, number

DAY = 1_440 * MINUTE
_N_BINS = 40
_WHY = (
    "A network only knows the range that it was trained on. A feature that leaves it, such as the level of a doubled price, "
    "says something in the test block that no training row has said."
)
_STYLES = {"training": "neutral", "calibration": "down", "test": "up"}


@dataclass(frozen=True, eq=False)
class FeatureBlocks:
    """The features of one market, in the blocks of a recipe.

    Attributes:
        symbol: of the market.
        candles: that the features are of.
        table: what was computed.
        features: of every candle that has them.
        blocks: rows of `features` by block: training, calibration, test.

    """

    symbol: str
    candles: Candles
    table: FeatureSet
    features: Features
    blocks: Mapping[str, slice]

    @cached_property
    def drift(self) -> tuple[Drift, ...]:
        """Compare the test block with the training block."""
        x = self.features.values
        return measure_drift(self.features.names, x[self.blocks["training"]], x[self.blocks["test"]])


def feature_blocks(symbol: str, candles: Candles, table: FeatureSet, features: Features, recipe: Recipe) -> FeatureBlocks:
    """Cut features of `candles` into the blocks that `recipe` would train, calibrate and test on."""
    found = labelled_rows(candles, table, recipe.label.rule, max_gap_minutes=recipe.features.max_gap_minutes)
    split = recipe.split.cut(candles.time[found.rows], found.known)
    place = np.searchsorted(features.rows, found.rows)
    blocks = {"training": split.train, "calibration": split.calibration, "test": split.test}
    rows = {name: slice(int(place[block.start]), int(place[block.stop - 1]) + 1) for name, block in blocks.items()}
    return FeatureBlocks(symbol, candles, table, features, rows)


def features_page(data: FeatureBlocks) -> str:
    """Return the page; everything that comes from a file is escaped."""
    drifts = data.drift
    title = f"crpbot: features of {data.symbol}"
    ordered = sorted(range(len(drifts)), key=lambda i: (-drifts[i].outside, -abs(drifts[i].shift)))
    return page(
        title,
        [
            f"<h1>{escape(title)}</h1>",
            f"<p>{escape(_facts(data))}</p>",
            f'<p class="verdict">{escape(drift_in_words(drifts))}.</p>',
            f"<p class=soft>{_WHY}</p>",
            "<h2>Missing rows</h2>",
            _missing(data),
            "<h2>Drift between training and test block</h2>",
            _table(data, drifts, ordered),
            "<h2 id=distributions>Distributions</h2>",
            "<p class=soft>The outermost 0.1 % at both ends are not drawn. Those that drifted most come first.</p>",
            f'<div class="pictures small">{"".join(_histogram(data, drifts[i], i) for i in ordered)}</div>',
        ],
    )


def _facts(data: FeatureBlocks) -> str:
    time = data.candles.time
    blocks = ", ".join(
        f"{name} from {utc(int(time[data.features.rows[block.start]]))} ({block.stop - block.start:,} rows)"
        for name, block in data.blocks.items()
    )
    return (
        f"Set {data.table.name}: {data.table.description} {len(data.candles):,} candles "
        f"from {utc(int(time[0]))} to {utc(int(time[-1]))}, {len(data.features.rows):,} rows with features. Blocks: {blocks}."
    )


def _missing(data: FeatureBlocks) -> str:
    time = data.candles.time
    first = int(time[0]) // DAY
    day = (time // DAY - first).astype(np.intp)
    n_days = int(day[-1]) + 1
    candles = np.bincount(day, minlength=n_days)
    featured = np.bincount(day[data.features.rows], minlength=n_days)
    start = np.maximum((first + np.arange(n_days)) * DAY, time[0])
    stop = np.minimum((first + np.arange(n_days) + 1) * DAY, time[-1] + MINUTE)
    minutes = (stop - start) // MINUTE
    edges = [float(edge) for edge in range(n_days + 1)]
    chart = Chart(
        "Completeness", f"days since {utc(first * DAY)[:10]}", "% of the day's minutes", (0.0, float(n_days)), (0.0, 118.0)
    )
    chart.steps(edges, (100 * candles / minutes).tolist(), "neutral", name="minutes with a candle")
    chart.steps(edges, (100 * featured / minutes).tolist(), "up", name="with features")
    gaps = np.diff(time) // MINUTE - 1
    missing = int(gaps.sum())
    words = f"{missing:,} minutes have no candle, in {int((gaps > 0).sum()):,} gaps"
    if missing:
        longest = int(gaps.argmax())
        words += f", the longest of {int(gaps[longest]):,} minutes after {utc(int(time[longest]))}"
    short = len(data.candles) - len(data.features.rows)
    words += f". {short:,} candles have no features: fewer than {data.table.warm_up} candles lie between them and the gap before."
    return f'<div class="pictures wide-only">{figure(chart, words)}</div>'


def _table(data: FeatureBlocks, drifts: tuple[Drift, ...], ordered: list[int]) -> str:
    rows = "".join(_row(drifts[i], data.table.formulas[drifts[i].name], str(data.table.units[i])) for i in ordered)
    parts = "; ".join(f"{name} = {text}" for name, text in data.table.where.items())
    return (
        "<p class=soft>Outside: share of the test rows outside the range of the training rows. "
        "Shift: test mean less training mean, in training deviations.</p>"
        + scroller(
            "<table><tr><th>feature</th><th>outside</th><th>shift</th><th>training mean</th><th>deviation</th>"
            f"<th>test mean</th><th>unit</th><th>formula</th></tr>{rows}</table>",
            "Drift of each feature",
        )
        + (f"<p class=soft>where <code>{escape(parts)}</code></p>" if parts else "")
    )


def _row(drift: Drift, formula: str, unit: str) -> str:
    numbers = "".join(f"<td>{_plain(value)}</td>" for value in (drift.mean, drift.deviation, drift.later_mean))
    return (
        f'<tr><td class="{"bad" if drift.left else ""}">{escape(drift.name)}</td><td>{percent(drift.outside)}</td>'
        f"<td>{drift.shift:+.2f}</td>{numbers}<td class=short><small>{escape(unit)}</small></td>"
        f"<td><code>{escape(formula)}</code></td></tr>"
    )


def _histogram(data: FeatureBlocks, drift: Drift, column: int) -> str:
    values = data.features.values[:, column]
    parts = {name: values[block] for name, block in data.blocks.items()}
    low, high = _range(np.concatenate([np.quantile(part, [0.001, 0.999]) for part in parts.values()]))
    edges = np.linspace(low, high, _N_BINS + 1)
    heights = {name: 100 * np.histogram(part, edges)[0] / len(part) for name, part in parts.items()}
    top = max(float(height.max()) for height in heights.values()) or 1.0
    chart = Chart(drift.name, str(data.table.units[column]), "% of the rows", (low, high), (0.0, 1.3 * top))
    for name, height in heights.items():
        chart.steps(edges.tolist(), height.tolist(), _STYLES[name], name=name)
    return figure(chart, f"{percent(drift.outside)} outside the training range, shift {drift.shift:+.2f} deviations.")


def _range(quantiles: NDArray[np.float64]) -> tuple[float, float]:
    low, high = float(quantiles.min()), float(quantiles.max())
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        margin = max(abs(low), abs(high)) * 0.01 or 1.0
        return low - margin, high + margin
    return low, high


def _plain(value: float) -> str:
    return number(float(f"{value:.5g}"))
