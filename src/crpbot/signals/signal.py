"""The signal: what promoted models say of the newest candle, or why they say nothing."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from crpbot.dataset.features.compute import compute_features
from crpbot.dataset.features.sets import average_true_range
from crpbot.dataset.labels import CLASSES
from crpbot.errors import CheckpointError, PlanError
from crpbot.market.candles import MINUTE, Candles, utc
from crpbot.registry import Stage
from crpbot.signals.ensemble import THRESHOLD, Floats, Opinion, Speaker, average, opinion, same_question
from crpbot.signals.follow import Timing, timing_of
from crpbot.signals.plan import ATR_PRESET, OrderPlan, Preset, Side, make_plan, preset_of
from crpbot.signals.rules import UNKNOWN, MarketRules
from crpbot.signals.text import card

FORMAT = "crpbot.signal/1"
Status = Literal["signal", "expired", "no signal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """What one model, or several of one market, say of one closed candle.

    Attributes:
        symbol: of the market.
        stage: `live`, or `shadow` for a rehearsal that nobody may trade.
        status: `signal` can still be followed, `expired` is too old, `no signal` has no plan.
        reason: why there is no plan, or why it has expired; empty for a signal.
        candle: open time of the candle it is of.
        expires: when it stops being valid.
        close_by: when the trade is to be closed, whatever it has met; None where that counts from the entry.
        close_after: minutes from the entry until then, where it does: what the confidence speaks of is over, and a backtest
            closes it too.
        side: the more probable of LONG and SHORT.
        confidence: the probability of that very class, not one less the other.
        probabilities: of DOWN, NEUTRAL and UP; None, like side and confidence, where the newest candle has no features.
        plan: the order; None where there is no signal.
        rules: of the market, as far as they were known to the plan.
        model_sha256: digest of the checkpoint; of several, of their digests one after the other. Empty where nobody said.
        ledger_head: digest of the registry's last ledger line when this was said: who rewrites the ledger cannot rewrite this.
        override: why a model speaks that did not pass its gates, in the words of who let it; it is only ever a rehearsal.

    """

    symbol: str
    stage: Stage
    status: Status
    reason: str
    candle: str
    expires: str
    close_by: str | None
    close_after: int | None
    side: Side | None
    confidence: float | None
    probabilities: tuple[float, float, float] | None
    plan: OrderPlan | None
    rules: MarketRules = UNKNOWN
    model_sha256: str = ""
    ledger_head: str = ""
    override: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the signal as plain JSON types, in the format `crpbot.signal/1`."""
        named = None if self.probabilities is None else dict(zip(CLASSES, self.probabilities, strict=True))
        return {"format": FORMAT, **asdict(self), "probabilities": named}

    def __str__(self) -> str:
        return card(self)


def newest_signal(
    models: Speaker | Sequence[Speaker],
    candles: Candles,
    *,
    stage: Stage,
    now: int,
    threshold: float = THRESHOLD,
    weights: Sequence[float] | None = None,
    preset: Preset = ATR_PRESET,
    rules: MarketRules = UNKNOWN,
    price: float | None = None,
) -> Signal:
    """Return what `models` say of the newest of `candles`.

    Args:
        models: one of ours, promoted, or several of one market and with labels of one rule, whose average speaks.
        candles: of its symbol, at least one.
        stage: of the models.
        now: milliseconds of UTC.
        threshold: the least confidence that makes a signal.
        weights: of the models in the average; equal by default.
        preset: distances and money; a label that follows trades brings its own exits and times.
        rules: of the market.
        price: of the market now, from which the order type follows; by default the close of the newest candle.

    Raises:
        CheckpointError: a model is foreign.
        PlanError: the models do not answer one question, or the weights do not fit.

    """
    speakers = tuple(models) if isinstance(models, Sequence) else (models,)
    symbol, preset, timing = _one_market(speakers, preset)
    opened, closed = int(candles.time[-1]), int(candles.time[-1]) + MINUTE
    expires = closed + preset.expiry_minutes * MINUTE
    silent = Signal(
        symbol=symbol,
        stage=stage,
        status="no signal",
        reason="",
        candle=utc(opened),
        expires=utc(expires),
        close_by=None if preset.hold_minutes is None else utc(closed + preset.hold_minutes * MINUTE),
        close_after=timing.hold if timing.from_entry else None,
        side=None,
        confidence=None,
        probabilities=None,
        plan=None,
        rules=rules,
    )
    if candles.filled is not None and candles.filled[-1]:
        return replace(silent, reason="the newest candle is a stand-in for a missing minute")
    said = [_newest(speaker, candles) for speaker in speakers]
    for one in said:
        if isinstance(one, str):
            return replace(silent, reason=one)
    heard = [one for one in said if not isinstance(one, str)]
    together = average([probabilities for probabilities, _ in heard], weights=weights)[0]
    if not np.isfinite(together).all():
        return replace(silent, reason="the model gives no finite probabilities")
    found = opinion(together, threshold=threshold)
    if now < closed:
        found = replace(found, reason="its candle has not closed yet")
    close, atr = float(candles.close[-1]), heard[0][1]
    plan, reason = _plan(found, close, atr, close if price is None else price, preset, rules)
    late = plan is not None and now >= expires
    return replace(
        silent,
        status="no signal" if plan is None else "expired" if late else "signal",
        reason=f"it was valid until {utc(expires)}" if late else reason,
        side=found.side,
        confidence=found.confidence,
        probabilities=found.probabilities,
        plan=plan,
    )


def _one_market(speakers: Sequence[Speaker], preset: Preset) -> tuple[str, Preset, Timing]:
    """Return the market of the models, the preset with what their label says of its trades, and how long those last."""
    asked = []
    for speaker in speakers:
        if speaker.recipe is None or speaker.symbol is None:
            raise CheckpointError("only a checkpoint of ours can speak, found a foreign one; train and promote one here")
        asked.append((speaker.symbol, speaker.recipe.label.rule if speaker.label is None else speaker.label.rule))
    same_question(asked)
    preset = preset_of(speakers[0].label, preset)
    return asked[0][0], preset, timing_of(preset, asked[0][1])


def _newest(speaker: Speaker, candles: Candles) -> tuple[Floats, float] | str:
    """Return the probabilities of the newest candle, shape `(1, 3)`, and its average true range; or why there are none."""
    assert speaker.recipe is not None
    gap, features, atr_14 = speaker.recipe.features.max_gap_minutes, speaker.feature_set, average_true_range()
    # Exponential means remember long: use the whole last segment, as training did.
    *_, last = candles.segments(max_gap_minutes=gap)
    recent = candles[last]
    needed = max(features.warm_up, atr_14.warm_up)
    if len(recent) <= needed:
        return f"the newest candle needs {needed} candles before it without a gap, and has {len(recent) - 1}"
    values = compute_features(recent, features, max_gap_minutes=gap).values[-1:]
    newest = recent[-1 - atr_14.warm_up :]
    atr = float(compute_features(newest, atr_14, max_gap_minutes=gap).values[0, 0])
    return speaker.predict(values).probabilities, atr


def _plan(
    found: Opinion, close: float, atr: float, price: float, preset: Preset, rules: MarketRules
) -> tuple[OrderPlan | None, str]:
    """Return the plan, or why there is none."""
    if found.reason:
        return None, found.reason
    try:
        return make_plan(found.side, center=close, atr=atr, price=price, preset=preset, rules=rules), ""
    except PlanError as refusal:
        return None, str(refusal)
