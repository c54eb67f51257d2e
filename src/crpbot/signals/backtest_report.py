"""A backtest told: one sentence, a table, and JSON."""

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from crpbot.market.candles import utc
from crpbot.quality.metrics import Mean, percent
from crpbot.quality.report.data import finite
from crpbot.signals.backtest import Backtest
from crpbot.signals.earnings import Coins, Earnings
from crpbot.signals.follow import OUTCOMES, Rows
from crpbot.signals.plan import REFUSALS, why_refused

FORMAT = "crpbot.backtest/1"


def sentence(b: Backtest) -> str:
    """Return what the backtest comes to."""
    if b.net is None or b.gross is None:
        return f"No trade: {_why_none(b)}. Nobody who follows it trades, so nobody earns, loses or pays anything."
    edge, net = b.gross.expectancy.value, b.net.expectancy.value
    words = (
        f"The edge is {edge:+.1f} bp a trade before costs ({_interval(b.gross.expectancy)}), fees and slippage are "
        f"{edge - net:.1f} bp: following it {'earned' if net > 0 else 'lost'} {abs(net):.1f} bp a trade "
        f"({_interval(b.net.expectancy)})."
    )
    low, high = b.gross.expectancy.interval
    if not math.isfinite(low):
        words += " That is too little to tell an edge from luck."
    elif low <= 0 <= high:
        words += " It cannot be told from no edge at all."
    if b.about.out_of_sample == "unknown":
        words += " Nobody knows whether the model had seen these candles."
    if b.about.source == "synthetic":
        words += " The market is made up: no real one behaves like it."
    return words


def _why_none(b: Backtest) -> str:
    s = b.spoken
    if b.threshold.value is None:
        return b.threshold.words
    if not s.signals and s.silenced:
        return f"members disagree too much on all {s.silenced:,} rows that reach a confidence of {percent(b.threshold.value)}"
    if not s.signals:
        highest = "none has a side" if s.highest is None else f"the highest is {percent(s.highest)}"
        return f"none of the {s.rows:,} rows reaches a confidence of {percent(b.threshold.value)}, {highest}"
    if refused := _refusals(b):
        why = "; ".join(f"{n:,} were refused: {reason}" for reason, n in refused.items())
        return f"of {s.signals:,} signals {why}; no order was filled"
    return f"none of the orders of {s.signals:,} signals was filled"


def table(b: Backtest) -> list[tuple[str, str]]:
    """Return the numbers as rows of a table: a name and a cell."""
    s, costs, preset = b.spoken, b.terms.costs, b.terms.preset
    money = (b.about.symbol or "").partition("-")[2] or "quote currency"
    counts = np.bincount(b.trades.outcome[b.made], minlength=len(OUTCOMES))
    threshold = "none" if b.threshold.value is None else percent(b.threshold.value)
    rows = [
        ("rows", f"{s.rows:,} from {utc(b.first)} to {utc(b.last)}"),
        ("speaks from", f"{threshold}, {b.threshold.words}"),
        ("signals", f"{s.signals:,} of {s.rows:,} rows ({percent(s.signals / s.rows)})"),
    ]
    if s.silenced is not None:
        rows.append(("silenced", f"{s.silenced:,} more, on which members disagree too much"))
    if s.median is not None and s.mean is not None:
        rows.append(("their confidence", f"median {percent(s.median)}, mean {percent(s.mean)}"))
    if s.came_true is not None:
        rows.append(
            ("came true", f"{percent(s.came_true.value)} ({share_interval(s.came_true)}), said {percent(s.labelled_mean)}")
        )
    what = ", ".join(f"{name} {n:,}" for name, n in zip(OUTCOMES, counts.tolist(), strict=True) if n) or "none"
    rows.append(("orders", f"{what}; {'side by side' if b.terms.several else 'one at a time'}"))
    if b.net is not None and b.gross is not None:
        rows += [
            ("trades", f"{int(b.taken.sum()):,}, won {percent(b.net.won)} (before costs {percent(b.gross.won)})"),
            ("a trade, before costs", _bp(b.gross.expectancy)),
            ("a trade, after costs", f"{_bp(b.net.expectancy)}; {costs.fee_bp:g} bp a side, {costs.slippage_bp:g} bp slippage"),
            ("profit factor", f"{_factor(b.net)} (before costs {_factor(b.gross)})"),
            (f"of {preset.account:,.0f} {money}", f"{_money(b.net)}{_empty(b)}; before costs {_money(b.gross)}"),
            ("deepest fall", f"{percent(b.net.drawdown)} (before costs {percent(b.gross.drawdown)})"),
            ("in the market", f"{percent(b.exposure)} of the minutes, at most {b.most_open:,} at once"),
        ]
    if b.coins is not None:
        rows.append((f"{b.coins.throwers} throwers of coins", _coins(b.coins)))
    rows.append(("buying and holding", f"{percent(b.hold)}, deepest fall {percent(b.hold_drawdown)}"))
    return rows


def to_dict(b: Backtest) -> dict[str, Any]:
    """Return the backtest as plain JSON types, in the format `crpbot.backtest/1`; unknown numbers are None."""
    counts = np.bincount(b.trades.outcome[b.made], minlength=len(OUTCOMES)).tolist()
    s = b.spoken
    plain = {
        "format": FORMAT,
        "models": list(b.about.models),
        "symbol": b.about.symbol,
        "data": {
            "source": b.about.source,
            "rows": s.rows,
            "from": utc(b.first),
            "to": utc(b.last),
            "out_of_sample": b.about.out_of_sample,
        },
        "label": b.about.label,
        "terms": asdict(b.terms),
        "threshold": asdict(b.threshold),
        "signals": {
            **asdict(s),
            "came_true": _mean(s.came_true),
            "bins": [{**asdict(one), "came_true": _mean(one.came_true)} for one in s.bins],
        },
        "orders": {**dict(zip(OUTCOMES, counts, strict=True)), "refusals": _refusals(b)},
        "trades": int(b.taken.sum()),
        "net": _earnings(b, b.net),
        "gross": _earnings(b, b.gross),
        "exposure": b.exposure,
        "most_open": b.most_open,
        "hold": {"total": b.hold, "drawdown": b.hold_drawdown},
        "coins": None if b.coins is None else {k: v for k, v in asdict(b.coins).items() if k != "expectancies"},
        "in_words": sentence(b),
        "list": trades(b),
    }
    return finite(plain)  # type: ignore[no-any-return]


def trades(b: Backtest) -> list[dict[str, Any]]:
    """Return every trade, oldest first: the candle of its signal, entry and exit, and what it earned."""
    t, costs, rows = b.trades, b.terms.costs, np.flatnonzero(b.taken)

    def times(of: Rows) -> list[str]:
        return [utc(time) for time in b.time[of[rows] - b.start].tolist()]

    columns = {
        "candle": times(t.rows),
        "side": ["LONG" if sign > 0 else "SHORT" for sign in t.plans.sign[rows]],
        "confidence": b.confidence[rows].tolist(),
        "entered": times(t.entry_row),
        "entry": t.entry[rows].tolist(),
        "ended": times(t.exit_row),
        "exit": t.exit[rows].tolist(),
        "by": [OUTCOMES[one] for one in t.outcome[rows]],
        "size": t.plans.size[rows].tolist(),
        "gross_bp": t.gross_bp[rows].tolist(),
        "net_bp": t.net_bp(costs)[rows].tolist(),
        "net_money": t.net_money(costs)[rows].tolist(),
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _refusals(b: Backtest) -> dict[str, int]:
    """Return how many plans were refused, by reason."""
    rules = b.terms.rules
    counts = np.bincount(b.trades.plans.refused, minlength=len(REFUSALS)).tolist()
    return {why_refused(number, rules): n for number, n in enumerate(counts) if number and n}


def _earnings(b: Backtest, earnings: Earnings | None) -> dict[str, Any] | None:
    if earnings is None:
        return None
    empty = None if earnings.empty is None else utc(int(b.time[earnings.empty - b.start]))
    return {**asdict(earnings), "expectancy": _mean(earnings.expectancy), "empty": empty}


def _mean(mean: Mean | None) -> dict[str, Any] | None:
    if mean is None:
        return None
    return {"value": mean.value, "error": mean.error, "ci": list(mean.interval) if math.isfinite(mean.error) else None}


def _bp(mean: Mean) -> str:
    return f"{mean.value:+.2f} bp ({_interval(mean)})"


def _interval(mean: Mean) -> str:
    low, high = mean.interval
    return f"95 %: {low:+.1f} to {high:+.1f}" if math.isfinite(low) else "too few for an interval"


def share_interval(mean: Mean) -> str:
    """Write the interval of a share."""
    low, high = mean.interval
    return f"95 %: {percent(low)} to {percent(high)}" if math.isfinite(low) else "too few for an interval"


def _money(earnings: Earnings) -> str:
    return f"{earnings.money:+,.2f} ({percent(earnings.total)})"


def _factor(earnings: Earnings) -> str:
    return "no trade lost" if earnings.profit_factor is None else f"{earnings.profit_factor:.2f}"


def _empty(b: Backtest) -> str:
    if b.net is None or b.net.empty is None:
        return ""
    return f", all of it gone by {utc(int(b.time[b.net.empty - b.start]))}"


def _coins(coins: Coins) -> str:
    return (
        f"{coins.mean:+.2f} bp a trade after costs (95 % of them {coins.low:+.1f} to {coins.high:+.1f}), "
        f"{coins.gross:+.2f} before; {percent(coins.as_good)} did at least as well"
    )
