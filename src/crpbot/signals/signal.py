"""The signal: what a promoted model says of the newest candle, or why it says nothing."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from crpbot.dataset.features.compute import compute_features
from crpbot.dataset.features.sets import average_true_range
from crpbot.dataset.labels import CLASSES, DOWN, NEUTRAL, UP
from crpbot.errors import CheckpointError
from crpbot.market.candles import MINUTE, Candles, utc
from crpbot.model.checkpoint import Checkpoint, Label
from crpbot.registry import Stage
from crpbot.signals.plan import ATR_PRESET, OrderPlan, Preset, Side, make_plan

THRESHOLD = 0.60
"""The least confidence that makes a signal."""

Status = Literal["signal", "expired", "no signal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """What one model says of one closed candle.

    Attributes:
        symbol: of the market.
        stage: `live`, or `shadow` for a rehearsal that nobody may trade.
        status: `signal` can still be followed, `expired` is too old, `no signal` has no plan.
        reason: why there is no plan, or why it has expired; empty for a signal.
        candle: open time of the candle it is of.
        expires: when it stops being valid.
        close_by: when the trade is to be closed, whatever it has met; None where the label knows no such time.
        side: the more probable of LONG and SHORT.
        confidence: the probability of that very class, not one less the other.
        probabilities: of DOWN, NEUTRAL and UP; None, like side and confidence, where the newest candle has no features.
        plan: the order; None where there is no signal.

    """

    symbol: str
    stage: Stage
    status: Status
    reason: str
    candle: str
    expires: str
    close_by: str | None
    side: Side | None
    confidence: float | None
    probabilities: tuple[float, float, float] | None
    plan: OrderPlan | None

    def to_dict(self) -> dict[str, Any]:
        """Return the signal as plain JSON types."""
        named = None if self.probabilities is None else dict(zip(CLASSES, self.probabilities, strict=True))
        return {**asdict(self), "probabilities": named}

    def __str__(self) -> str:
        said = "" if self.confidence is None else f"{self.side} {self.confidence:.1%} "
        head = f"{self.symbol}  {said}of the candle of {self.candle}"
        if self.stage == "shadow":
            head = f"REHEARSAL, not for trading  {head}"
        if self.plan is None:
            return f"{head}\n  no signal: {self.reason}"
        p = self.plan
        digits = decimals(p.entry)
        lines = [
            head + (f"\n  EXPIRED: {self.reason}" if self.status == "expired" else ""),
            f"  entry zone   {p.zone_low:,.{digits}f} to {p.zone_high:,.{digits}f}",
            f"  order        {p.order_type} at {p.entry:,.{digits}f}",
            f"  stop loss    {p.stop_loss:,.{digits}f}",
            f"  take profit  {p.take_profit:,.{digits}f}  (risk:reward 1:{p.risk_reward:g})",
            f"  size         {p.size:.6g} {self.symbol.split('-')[0]}, risking {p.risk_money:,.2f} {self.symbol.split('-')[1]}",
            f"  valid until  {self.expires}",
            *([] if self.close_by is None else [f"  close by     {self.close_by}"]),
        ]
        return "\n".join(lines)


def decimals(price: float) -> int:
    """Return how many decimals show a price to six digits.

    >>> decimals(60123.4), decimals(0.0123456)
    (2, 7)
    """
    return max(2, 5 - int(np.floor(np.log10(price))))


def preset_of(label: Label | None) -> Preset:
    """Return the distances of a model's plans: a label that follows trades to their exits means those very trades."""
    if label is None or label.rule.kind == "horizon":
        return ATR_PRESET
    horizon = label.rule.horizon
    return replace(
        ATR_PRESET, exits=label.rule.exits, expiry_minutes=min(ATR_PRESET.expiry_minutes, horizon), hold_minutes=horizon
    )


def newest_signal(checkpoint: Checkpoint, candles: Candles, *, stage: Stage, now: int) -> Signal:
    """Return what `checkpoint` says of the newest of `candles`.

    Args:
        checkpoint: of ours, promoted.
        candles: of its symbol, at least one.
        stage: of the model.
        now: milliseconds of UTC.

    Raises:
        CheckpointError: the checkpoint is foreign.

    """
    if checkpoint.recipe is None or checkpoint.symbol is None:
        raise CheckpointError("only a checkpoint of ours can speak, found a foreign one; train and promote one here")
    choice = checkpoint.recipe.features
    features = choice.table
    # Exponential means remember long: use the whole last segment, as training did.
    *_, last = candles.segments(max_gap_minutes=choice.max_gap_minutes)
    recent = candles[last]
    opened, closed = int(recent.time[-1]), int(recent.time[-1]) + MINUTE
    preset = preset_of(checkpoint.label)
    expires = closed + preset.expiry_minutes * MINUTE
    atr_14 = average_true_range()
    needed = max(features.warm_up, atr_14.warm_up)
    silent = Signal(
        symbol=checkpoint.symbol,
        stage=stage,
        status="no signal",
        reason=f"the newest candle needs {needed} candles before it without a gap, and has {len(recent) - 1}",
        candle=utc(opened),
        expires=utc(expires),
        close_by=None if preset.hold_minutes is None else utc(closed + preset.hold_minutes * MINUTE),
        side=None,
        confidence=None,
        probabilities=None,
        plan=None,
    )
    if len(recent) <= needed:
        return silent
    values = compute_features(recent, features, max_gap_minutes=choice.max_gap_minutes).values[-1:]
    newest = recent[-1 - atr_14.warm_up :]
    atr = float(compute_features(newest, atr_14, max_gap_minutes=choice.max_gap_minutes).values[0, 0])
    probabilities = checkpoint.predict(values).probabilities[0]
    if not np.isfinite(probabilities).all():
        return replace(silent, reason="the model gives no finite probabilities")
    down, neutral, up = (float(probabilities[c]) for c in (DOWN, NEUTRAL, UP))
    side: Side = "LONG" if up > down else "SHORT"
    confidence = max(up, down)
    price = float(recent.close[-1])
    status: Status = "signal"
    reason = ""
    if now < closed:
        status, reason = "no signal", "its candle has not closed yet"
    elif neutral >= confidence:
        status, reason = "no signal", f"NEUTRAL is the most probable, {neutral:.1%}"
    elif confidence < THRESHOLD:
        status, reason = "no signal", f"its confidence {confidence:.1%} is below {THRESHOLD:.0%}"
    elif preset.exits.stop_distance(price, atr) == 0:
        status, reason = "no signal", "the price has not moved for 14 candles, so no distance to the stop loss can be set"
    elif preset.exits.reward * preset.exits.stop_distance(price, atr) >= price - preset.zone * atr:
        status, reason = "no signal", "the market moves so much that an exit would lie at or below 0"
    elif now >= expires:
        status, reason = "expired", f"it was valid until {utc(expires)}"
    return replace(
        silent,
        status=status,
        reason=reason,
        side=side,
        confidence=confidence,
        probabilities=(down, neutral, up),
        plan=None if status == "no signal" else make_plan(side, center=price, atr=atr, price=price, preset=preset),
    )
