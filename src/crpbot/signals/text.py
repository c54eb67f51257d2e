"""A signal in words and messages: a card for a terminal, a message for Telegram, hummingbot's livestream of probabilities."""

import math
from decimal import ROUND_DOWN, Decimal
from typing import TYPE_CHECKING, Any

from crpbot.errors import printable

if TYPE_CHECKING:
    from crpbot.signals.signal import Signal

TELEGRAM = 4_096
"""The most that Telegram takes in one message, in UTF-16 code units."""
HUMMINGBOT_DEFAULT = 0.01
"""What hummingbot's controller takes for `target_pct` where a message has none."""


def card(signal: "Signal") -> str:
    """Return the signal for a terminal."""
    said = "" if signal.confidence is None else f"{signal.side} {signal.confidence:.1%} "
    head = f"{signal.symbol}  {said}of the candle of {signal.candle}"
    if signal.stage == "shadow":
        head = f"REHEARSAL, not for trading  {head}"
    if signal.override:
        head += f"\n  REFUSED by its gates, and let speak all the same: {printable(signal.override)}"
    if signal.plan is None:
        return f"{head}\n  no signal: {signal.reason}"
    p, (base, quote) = signal.plan, signal.symbol.split("-", 1)
    lines = [
        head + (f"\n  EXPIRED: {signal.reason}" if signal.status == "expired" else ""),
        f"  entry zone   {_price(signal, p.zone_low)} to {_price(signal, p.zone_high)}",
        f"  order        {p.order_type} at {_price(signal, p.entry)}",
        f"  stop loss    {_price(signal, p.stop_loss)}",
        f"  take profit  {_price(signal, p.take_profit)}  (risk:reward 1:{p.risk_reward:.3g})",
        f"  size         {_size(signal)} {base}, risking {p.risk_money:,.2f} {quote}",
        *([] if signal.disagreement is None else [f"  members      disagree by {100 * signal.disagreement:.1f} points"]),
        f"  valid until  {signal.expires}",
        *([] if signal.close_by is None else [f"  close by     {signal.close_by}"]),
        *([] if signal.close_after is None else [f"  close        {signal.close_after} minutes after the entry"]),
    ]
    return "\n".join(lines)


def telegram(signal: "Signal") -> str:
    """Return the signal as one plain message, at most 4,096 UTF-16 code units; well below 1,000 as a rule.

    It has no markup, so it may be sent without a parse mode, and nothing in it can be taken for one.
    """
    head = ["REHEARSAL, not for trading"] if signal.stage == "shadow" else []
    head += [f"REFUSED by its gates, and let speak all the same: {signal.override}"] if signal.override else []
    head += [f"EXPIRED: {signal.reason}"] if signal.status == "expired" else []
    p, (base, quote) = signal.plan, signal.symbol.split("-", 1)
    if p is None:
        lines = [f"{signal.symbol}: no signal", signal.reason, f"Candle of {signal.candle}"]
    else:
        lines = [
            f"{p.side} {signal.symbol}, confidence {signal.confidence:.1%}",
            f"{p.order_type} at {_price(signal, p.entry)}",
            f"Entry zone {_price(signal, p.zone_low)} to {_price(signal, p.zone_high)}",
            f"Stop loss {_price(signal, p.stop_loss)} ({_away(p.stop_loss, p.entry)})",
            f"Take profit {_price(signal, p.take_profit)} ({_away(p.take_profit, p.entry)}), risk:reward 1:{p.risk_reward:.3g}",
            f"Size {_size(signal)} {base}, risking {p.risk_money:,.2f} {quote}",
            *([] if signal.disagreement is None else [f"Members disagree by {100 * signal.disagreement:.1f} points"]),
            f"Valid until {signal.expires}, candle of {signal.candle}",
            *([] if signal.close_by is None else [f"Close by {signal.close_by}"]),
            *([] if signal.close_after is None else [f"Close {signal.close_after} minutes after the entry"]),
        ]
    if signal.probabilities is not None:
        down, neutral, up = signal.probabilities
        lines.append(f"DOWN {down:.1%}, NEUTRAL {neutral:.1%}, UP {up:.1%}")
    return _cut("\n".join(printable(line) for line in (*head, *lines)))


def hummingbot(signal: "Signal") -> dict[str, Any]:
    """Return the message that hummingbot's controller `ai_livestream` reads from MQTT.

    It goes to the topic `hbot/predictions/btc_usd/ML_SIGNALS`. The controller sells where the first of `probabilities` (short,
    neutral, long) is above its `short_threshold`, else buys where the last is above its `long_threshold`, and keeps that until
    the next message. `target_pct` is the distance to the stop loss as a share of the entry: its stop loss and take profit are
    multiplied by it, so set them to 1 and to the risk:reward. What must not be traded, because there is no signal, it has
    expired or it is a rehearsal, is sent as all neutral, whatever the thresholds there are.
    """
    p = signal.plan
    if p is None or signal.status != "signal" or signal.stage != "live" or signal.probabilities is None:
        why = signal.reason or "a rehearsal, not for trading"
        return {"probabilities": [0.0, 1.0, 0.0], "target_pct": HUMMINGBOT_DEFAULT, "timestamp": signal.candle, "reason": why}
    down, neutral, up = signal.probabilities
    target = abs(p.entry - p.stop_loss) / p.entry
    return {"probabilities": [down, neutral, up], "target_pct": target, "timestamp": signal.candle}


def decimals(price: float) -> int:
    """Return how many decimals show a price to six digits.

    >>> decimals(60123.4), decimals(0.0123456)
    (2, 7)
    """
    return max(2, 5 - math.floor(math.log10(price)))


def _price(signal: "Signal", price: float) -> str:
    """Write a price in the market's own precision where that is known, else to six digits of the entry."""
    own = signal.rules.price_decimals
    assert signal.plan is not None
    return f"{price:,.{decimals(signal.plan.entry) if own is None else own}f}"


def _size(signal: "Signal") -> str:
    assert signal.plan is not None
    own = signal.rules.size_decimals
    return _down(signal.plan.size) if own is None else f"{signal.plan.size:.{own}f}"


def _down(size: float) -> str:
    """Write a size to six digits, never more than it is.

    >>> _down(1.1350467767), _down(518_466_666.67), _down(0.000012345678)
    ('1.13504', '518466000', '0.0000123456')
    """
    exact = Decimal(size)
    return f"{exact.quantize(Decimal(1).scaleb(exact.adjusted() - 5), rounding=ROUND_DOWN):f}"


def _away(price: float, entry: float) -> str:
    """Write how far a price is from the entry.

    >>> _away(99.0, 100.0), _away(101.8, 100.0)
    ('-1.00%', '+1.80%')
    """
    return f"{price / entry - 1:+.2%}"


def _cut(text: str) -> str:
    """Return what fits into one message.

    >>> _cut("x" * 5000)[-3:], len(_cut("x" * 5000))
    ('xx…', 4096)
    """
    units = text.encode("utf-16-le")
    return text if len(units) <= 2 * TELEGRAM else units[: 2 * TELEGRAM - 2].decode("utf-16-le", "ignore") + "…"
