"""The signal: what promoted models say of the newest candle, or why they say nothing."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from crpbot.dataset.drift import FEWEST_MINUTES, HOURS, LastDay, farthest
from crpbot.dataset.features.compute import compute_features
from crpbot.dataset.features.sets import average_true_range
from crpbot.dataset.labels import CLASSES
from crpbot.errors import CheckpointError, PlanError
from crpbot.market.candles import MINUTE, Candles, utc
from crpbot.registry.stages import Stage
from crpbot.signals.ensemble import (
    ANY,
    THRESHOLD,
    Floats,
    Opinion,
    Speaker,
    average,
    most_disagreement,
    opinion,
    same_question,
    widest,
)
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
        disagreement: of the members of an ensemble, as in `Prediction`, of several models the largest; None for single networks.
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
    disagreement: float | None = None
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """How models of one market speak, whatever the candle.

    Attributes:
        symbol: of the market.
        stage: of the models.
        threshold: the least confidence that makes a signal.
        preset: distances and money, with the exits and times of the label where it has them.
        timing: how long plans last.
        rules: of the market.
        drift_limit: training deviations by which the mean of any feature over the last day may differ from its training mean.
        most_disagreement: of the members of an ensemble, above which there is no signal.
        expires: from when on the models may not be live, in milliseconds of UTC; None for never.
        model_sha256, ledger_head, override: as in `Signal`.

    """

    symbol: str
    stage: Stage
    threshold: float
    preset: Preset
    timing: Timing
    rules: MarketRules
    drift_limit: float
    most_disagreement: float = ANY
    expires: int | None = None
    model_sha256: str = ""
    ledger_head: str = ""
    override: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What is known when a candle has closed.

    Attributes:
        candle: its open time, in milliseconds of UTC.
        close: its close.
        atr: average true range of 14 candles, in quote currency; NaN where the segment is younger.
        probabilities: of DOWN, NEUTRAL and UP, shape `(3,)`; None where the candle has no features.
        disagreement: as in `Signal`.
        drift: the feature that is farthest from its training mean, and how many training deviations; None where it is not known.
        why: why there are no probabilities.

    """

    candle: int
    close: float
    atr: float
    probabilities: Floats | None
    disagreement: float | None = None
    drift: tuple[str, float] | None = None
    why: str = ""


def speech_of(
    models: Sequence[Speaker],
    *,
    stage: Stage,
    threshold: float = THRESHOLD,
    preset: Preset = ATR_PRESET,
    rules: MarketRules = UNKNOWN,
    expires: int | None = None,
    model_sha256: str = "",
    ledger_head: str = "",
    override: str = "",
) -> Speech:
    """Return how `models` speak; the arguments and errors of `newest_signal`."""
    symbol, preset, timing = _one_market(models, preset)
    return Speech(
        symbol=symbol,
        stage=stage,
        threshold=threshold,
        preset=preset,
        timing=timing,
        rules=rules,
        drift_limit=min(one.recipe.serving.drift_limit for one in models if one.recipe is not None),
        most_disagreement=most_disagreement(one.recipe for one in models),
        expires=expires,
        model_sha256=model_sha256,
        ledger_head=ledger_head,
        override=override,
    )


def say(speech: Speech, moment: Moment, *, now: int, price: float | None = None) -> Signal:
    """Return the signal of one closed candle, or why there is none.

    Args:
        speech: how the models speak.
        moment: what is known of the candle.
        now: milliseconds of UTC.
        price: of the market now; by default the close of the candle.

    """
    closed = moment.candle + MINUTE
    preset, expires = speech.preset, utc(closed + speech.preset.expiry_minutes * MINUTE)
    found, plan, reason, late = None, None, moment.why, False
    if moment.probabilities is not None and not np.isfinite(moment.probabilities).all():
        reason = "the model gives no finite probabilities"
    elif moment.probabilities is not None:
        disagreement, most = moment.disagreement, speech.most_disagreement
        found = opinion(moment.probabilities, threshold=speech.threshold, disagreement=disagreement, most=most)
        early = "its candle has not closed yet" if now < closed else ""
        reason = early or found.reason or _hindrance(speech, moment)
        if not reason:
            plan, reason = _plan(found, moment, price, speech)
        late = plan is not None and now >= closed + preset.expiry_minutes * MINUTE
    return Signal(
        symbol=speech.symbol,
        stage=speech.stage,
        status="no signal" if plan is None else "expired" if late else "signal",
        reason=f"it was valid until {expires}" if late else reason,
        candle=utc(moment.candle),
        expires=expires,
        close_by=None if preset.hold_minutes is None else utc(closed + preset.hold_minutes * MINUTE),
        close_after=speech.timing.hold if speech.timing.from_entry else None,
        side=None if found is None else found.side,
        confidence=None if found is None else found.confidence,
        probabilities=None if found is None else found.probabilities,
        plan=plan,
        disagreement=None if found is None else moment.disagreement,
        rules=speech.rules,
        model_sha256=speech.model_sha256,
        ledger_head=speech.ledger_head,
        override=speech.override,
    )


def _hindrance(speech: Speech, moment: Moment) -> str:
    """Return why what the models say may not be said now; empty where it may."""
    if speech.stage == "live" and speech.expires is not None and moment.candle + MINUTE > speech.expires:
        return f"the model expired on {utc(speech.expires)}: promote it again on later candles, or retrain it"
    if moment.drift is not None and not abs(moment.drift[1]) <= speech.drift_limit:
        name, away = moment.drift
        return (
            f"the market has drifted from what the model learned: over the last day {name} is {away:+.1f} training deviations "
            f"from its mean, more than {speech.drift_limit:g}; retrain it"
        )
    return ""


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
    expires: int | None = None,
    model_sha256: str = "",
    ledger_head: str = "",
    override: str = "",
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
        expires: from which candle close on live models may not speak, in milliseconds of UTC; None for never.
        model_sha256: digest of the checkpoint, for the signal.
        ledger_head: digest of the registry's last ledger line, for the signal.
        override: why a model speaks that did not pass its gates, for the signal.

    Raises:
        CheckpointError: a model is foreign.
        PlanError: the models do not answer one question, or the weights do not fit.

    """
    speakers = tuple(models) if isinstance(models, Sequence) else (models,)
    speech = speech_of(
        speakers,
        stage=stage,
        threshold=threshold,
        preset=preset,
        rules=rules,
        expires=expires,
        model_sha256=model_sha256,
        ledger_head=ledger_head,
        override=override,
    )
    nothing = Moment(candle=int(candles.time[-1]), close=float(candles.close[-1]), atr=float("nan"), probabilities=None)
    if candles.filled is not None and candles.filled[-1]:
        return say(speech, replace(nothing, why="the newest candle is a stand-in for a missing minute"), now=now)
    said = [_newest(speaker, candles) for speaker in speakers]
    for one in said:
        if isinstance(one, str):
            return say(speech, replace(nothing, why=one), now=now)
    heard = [one for one in said if not isinstance(one, str)]
    return say(speech, _together(nothing, heard, weights), now=now, price=price)


def _together(nothing: Moment, heard: "Sequence[_Heard]", weights: Sequence[float] | None) -> Moment:
    """Return a moment with what several models say of it as one."""
    apart = widest([one.disagreement for one in heard])
    return replace(
        nothing,
        atr=heard[0].atr,
        probabilities=average([one.probabilities for one in heard], weights=weights)[0],
        disagreement=None if apart is None else float(apart[0]),
        drift=max((one.drift for one in heard if one.drift is not None), key=lambda drift: abs(drift[1]), default=None),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heard:
    """What one model says of the newest candle: as in `Prediction`, of one row, and the rest as in `Moment`."""

    probabilities: Floats
    disagreement: Floats | None
    atr: float
    drift: tuple[str, float] | None


def _newest(speaker: Speaker, candles: Candles) -> _Heard | str:
    """Return what a model says of the newest candle; or why it says nothing."""
    assert speaker.recipe is not None
    gap, features, atr_14 = speaker.recipe.features.max_gap_minutes, speaker.feature_set, average_true_range()
    # Exponential means remember long: use the whole last segment, as training did.
    *_, last = candles.segments(max_gap_minutes=gap)
    recent = candles[last]
    needed = max(features.warm_up + FEWEST_MINUTES - 1, atr_14.warm_up)  # with fewer rows, drift cannot be told
    if len(recent) <= needed:
        return f"the newest candle needs {needed} candles before it without a gap, and has {len(recent) - 1}"
    computed = compute_features(recent, features, max_gap_minutes=gap)
    newest = recent[-1 - atr_14.warm_up :]
    atr = float(compute_features(newest, atr_14, max_gap_minutes=gap).values[0, 0])
    day = LastDay()
    newest_day = slice(-HOURS * 60, None)
    for time, row in zip(recent.time[computed.rows][newest_day].tolist(), computed.values[newest_day], strict=True):
        day.take(time, row)
    said = speaker.predict(computed.values[-1:])
    drift = drift_of(speaker, day.mean())
    return _Heard(probabilities=said.probabilities, disagreement=said.disagreement, atr=atr, drift=drift)


def drift_of(speaker: Speaker, later: Floats | None) -> tuple[str, float] | None:
    """Return the input that is farthest from what a model has learned, as in `Moment`.

    Args:
        speaker: of ours.
        later: means of its inputs over the last day; None where there are too few rows.

    """
    scaling = speaker.weights.normalizer  # without one, nobody knows the training means
    return None if scaling is None or later is None else farthest(speaker.feature_set.names, later, scaling.mean, scaling.scale)


def _plan(found: Opinion, moment: Moment, price: float | None, speech: Speech) -> tuple[OrderPlan | None, str]:
    """Return the plan, or why there is none."""
    at, preset = moment.close if price is None else price, speech.preset
    try:
        plan = make_plan(found.side, center=moment.close, atr=moment.atr, price=at, preset=preset, rules=speech.rules)
    except PlanError as refusal:
        return None, str(refusal)
    return plan, ""
