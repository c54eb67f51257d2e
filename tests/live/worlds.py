"""A registry with models that speak, and what the batch path says of the same candles: the loop has to say the same."""

import dataclasses
from functools import cache
from pathlib import Path

import numpy as np
from models import market, model

from crpbot.dataset.drift import LastDay
from crpbot.dataset.features.compute import compute_features
from crpbot.dataset.features.sets import average_true_range
from crpbot.factory import diagnose
from crpbot.market.candles import MINUTE, Candles
from crpbot.model.checkpoint import Checkpoint
from crpbot.model.pt_file import save_checkpoint
from crpbot.quality.report.data import Judgement
from crpbot.registry.registry import Registry
from crpbot.signals.rules import UNKNOWN, MarketRules
from crpbot.signals.signal import Moment, Signal, drift_of, say, speech_of

CHECKPOINT = "lstm_BTC-USD_v7_enhanced.pt"


@cache
def judged(folder: Path, epochs: int = 4) -> tuple[Path, Judgement]:
    """Return a checkpoint file and its judgement, as if it had passed every gate on real candles."""
    return as_if_passed(model(epochs=epochs), market(), folder)


def as_if_passed(checkpoint: Checkpoint, candles: Candles, folder: Path) -> tuple[Path, Judgement]:
    """Save and judge a checkpoint; the judgement says that it has passed, and learned from real candles."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / CHECKPOINT
    save_checkpoint(checkpoint, file, probe=np.ones((2, 72)))
    found = diagnose(file, candles, source="file")
    d = found.diagnosis
    checkpoint = dataclasses.replace(d.checkpoint, origin=dataclasses.replace(d.checkpoint.origin, source="file"))
    subject = dataclasses.replace(d.subject, checkpoint=checkpoint)
    d = dataclasses.replace(d, subject=subject, data=dataclasses.replace(d.data, source="file"))
    results = tuple(dataclasses.replace(result, passed=True) for result in found.verdict.results)
    return file, dataclasses.replace(found, diagnosis=d, verdict=dataclasses.replace(found.verdict, results=results))


def promoted(home: Path, models: Path, *, stage: str = "live", epochs: int = 4) -> Registry:
    """Return the registry of `home` after a model was promoted there."""
    registry = Registry(home / "registry")
    file, judgement = judged(models / str(epochs), epochs)
    if stage == "shadow":
        judgement = dataclasses.replace(judgement, verdict=dataclasses.replace(judgement.verdict, table="seed"))
    decision = registry.record(judgement, file, now=int(market().time[-1]))
    assert decision.stage == stage, decision
    return registry


def promoted_of(checkpoint: Checkpoint, candles: Candles, home: Path) -> Registry:
    """Return the registry of `home` after a checkpoint was promoted there on candles."""
    registry = Registry(home / "registry")
    file, judgement = as_if_passed(checkpoint, candles, home / "made")
    assert registry.record(judgement, file, now=int(candles.time[-1])).stage == "live"
    return registry


def batch_signals(
    registry: Registry, candles: Candles, *, threshold: float, since: int, rules: MarketRules = UNKNOWN
) -> dict[int, Signal]:
    """Return every signal that the one model of a registry says of candles from `since` on, all at once, by candle."""
    (entry,) = registry.entries()
    speaker = registry.speaker(entry)
    speech = speech_of(
        (speaker,),
        stage=entry.stage,
        threshold=threshold,
        rules=rules,
        expires=entry.expires,
        model_sha256=entry.sha256,
        ledger_head=registry.head(),
    )
    found = compute_features(candles, speaker.feature_set)
    ranges = compute_features(candles, average_true_range())
    atr = dict(zip(ranges.rows.tolist(), ranges.values[:, 0].tolist(), strict=True))
    predicted = speaker.predict(found.values)
    said, day, before = {}, LastDay(), None
    for place, row in enumerate(found.rows.tolist()):
        time = int(candles.time[row])
        if before is not None and time - before > MINUTE:
            day.clear()
        before = time
        day.take(time, found.values[place])
        moment = Moment(
            candle=time,
            close=float(candles.close[row]),
            atr=atr[row],
            probabilities=predicted.probabilities[place],
            disagreement=None if predicted.disagreement is None else float(predicted.disagreement[place]),
            drift=drift_of(speaker, day.mean()),
        )
        if day.mean() is None:
            continue  # nobody speaks before drift can be told
        signal = say(speech, moment, now=time + MINUTE + 1_500)
        if time >= since and signal.plan is not None:
            said[time] = signal
    return said


def without(candles: Candles, minutes: set[int]) -> Candles:
    """Return candles without those that opened at these times."""
    rows = ~np.isin(candles.time, sorted(minutes))
    columns = (candles.open, candles.high, candles.low, candles.close, candles.volume)
    return Candles(candles.time[rows], *(column[rows] for column in columns))
