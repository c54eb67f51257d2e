"""The page of a backtest: what it comes to, its numbers, and pictures of its equity, its confidence and its luck."""

import math
from html import escape

import numpy as np

from crpbot.market.candles import MINUTE, utc
from crpbot.quality.metrics import percent
from crpbot.quality.report.page import figure, page
from crpbot.quality.report.svg import Chart
from crpbot.signals.backtest import Backtest
from crpbot.signals.backtest_report import sentence, share_interval, table, trades
from crpbot.signals.earnings import Coins

MOST_SHOWN = 200
"""Trades that the page shows; the JSON has all."""
_POINTS = 600
_DAY = 1_440 * MINUTE


def backtest_page(b: Backtest) -> str:
    """Return the page; everything that comes from a file is escaped."""
    name = ", ".join(b.about.models) if b.about.symbol is None else b.about.symbol
    title = f"crpbot: backtest of {name}"
    lost = b.net is None or b.net.expectancy.value <= 0
    rows = "".join(f"<tr><td>{escape(key)}</td><td>{escape(cell)}</td></tr>" for key, cell in table(b))
    return page(
        title,
        [
            f"<h1>{escape(title)}</h1>",
            f'<p class="verdict {"bad" if lost else "good"}">{escape(sentence(b))}</p>',
            f"<p class=soft>{escape(_facts(b))}</p>",
            f'<div class="wide"><table>{rows}</table></div>',
            f'<div class="pictures">{"".join(_pictures(b))}</div>',
            _bin_table(b),
            _trade_table(b),
        ],
    )


def _facts(b: Backtest) -> str:
    preset, timing = b.terms.preset, b.terms.timing
    unit = {"atr": "average true ranges", "percent": "%"}
    since = "its entry" if timing.from_entry else "its signal"
    seen = {"yes": "rows that the model had not seen", "unknown": "nobody knows whether the model had seen these rows"}
    return (
        f"{', '.join(b.about.models)} on {b.about.source} candles, {seen[b.about.out_of_sample]}. "
        f"Confidence speaks of {b.about.label}. "
        f"Entry zone ± {preset.zone:g} {unit[preset.zone_in]}, stop loss at {preset.exits.stop:g} {unit[preset.exits.distance]}, "
        f"take profit {preset.exits.reward:g} times as far; an entry may wait {timing.expiry} minutes, and a trade ends within "
        f"{timing.hold} minutes of {since}. Limits fill only when the price trades through, stops at the worse of their price "
        "and the open, and where one candle meets both exits, it is the stop loss."
    )


def _pictures(b: Backtest) -> list[str]:
    pictures = [_equity(b)]
    if b.spoken.bins:
        pictures.append(_reliability(b))
    if b.coins is not None and b.net is not None:
        pictures.append(_throwers(b.coins, b.net.expectancy.value))
    return pictures


def _equity(b: Backtest) -> str:
    at = np.unique(np.linspace(0, len(b.time) - 1, _POINTS).astype(np.intp))
    days = ((b.time[at] - b.time[0]) / _DAY).tolist()
    curves = {
        "holding": (b.hold_equity, "neutral"),
        "before costs": (b.free_equity, "down"),
        "after costs": (b.equity, "up"),
    }
    shares = {name: (100 * (curve[at] / b.terms.preset.account - 1), style) for name, (curve, style) in curves.items()}
    every = np.concatenate([curve for curve, _ in shares.values()])
    low, high = float(every.min()), float(every.max())
    room = (high - low) or 1.0
    chart = Chart(
        "Equity", f"days since {utc(int(b.time[0]))[:10]}", "% of the account",
        (0.0, max(days[-1], 1e-3)), (low - 0.05 * room, high + 0.3 * room),
    )  # fmt: skip
    for name, (curve, style) in shares.items():
        chart.line(days, curve.tolist(), style, name=name)
    return figure(
        chart, "Open trades are counted at every close. Sizes are those of the plans: gains are not put into later trades."
    )


def _reliability(b: Backtest) -> str:
    bins = b.spoken.bins
    said, true = [one.confidence for one in bins], [one.came_true.value for one in bins]
    won = [(one.confidence, one.won) for one in bins if one.won is not None]
    every = [*said, *true, *(share for _, share in won)]
    low, high = max(min(every) - 0.05, 0.0), min(max(every) + 0.05, 1.0)
    chart = Chart("Reliability of the signals", "confidence", "share", (low, high), (low, high))
    chart.line([low, high], [low, high], "ideal")
    chart.dots(said, true, [1.96 * one.came_true.error for one in bins], "up", name="came true")
    chart.dots([x for x, _ in won], [y for _, y in won], [math.nan] * len(won), "down", name="trades that won before costs")
    return figure(
        chart,
        f"Honest confidence lies on the dashed line. {len(bins)} bins of equal size, 95 % bars by blocks of time. "
        "A prediction that comes true is not yet a trade that wins: exits, fills and costs stand between them.",
    )


def _throwers(coins: Coins, model: float) -> str:
    low, high = min(*coins.expectancies, model), max(*coins.expectancies, model)
    room = 0.1 * (high - low) or 1.0
    edges = np.linspace(low - room, high + room, 41)
    heights = 100 * np.histogram(coins.expectancies, edges)[0] / coins.throwers
    top = 1.3 * float(heights.max())
    chart = Chart(
        "Throwers of coins", "bp a trade, after costs", "% of the throwers", (float(edges[0]), float(edges[-1])), (0.0, top)
    )
    chart.steps(edges.tolist(), heights.tolist(), "neutral", name="coins")
    chart.line([model, model], [0.0, top], "up", name="the model")
    return figure(
        chart, f"The same moments and costs, the side thrown. {percent(coins.as_good)} did at least as well as the model."
    )


def _bin_table(b: Backtest) -> str:
    if not b.spoken.bins:
        return ""
    rows = "".join(
        f"<tr><td>{percent(one.confidence)}</td><td>{one.signals:,}</td>"
        f"<td>{percent(one.came_true.value)} ({share_interval(one.came_true)})</td>"
        f"<td>{one.trades:,}</td><td>{percent(one.won)}</td></tr>"
        for one in b.spoken.bins
    )
    head = "<tr><th>confidence</th><th>signals</th><th>came true</th><th>trades</th><th>won before costs</th></tr>"
    return f'<h2>Confidence and what came of it</h2><div class="wide"><table>{head}{rows}</table></div>'


def _trade_table(b: Backtest) -> str:
    every = trades(b)
    if not every:
        return ""
    names = ("candle", "side", "confidence", "entered", "entry", "ended", "exit", "by", "gross_bp", "net_bp")
    rows = "".join(f"<tr>{''.join(f'<td>{escape(_cell(one[name]))}</td>' for name in names)}</tr>" for one in every[:MOST_SHOWN])
    head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in names)
    which = f"The first {MOST_SHOWN} of {len(every):,} trades" if len(every) > MOST_SHOWN else "Trades"
    return f'<h2>{which}</h2><div class="wide"><table><tr>{head}</tr>{rows}</table></div>'


def _cell(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:,.6g}"
