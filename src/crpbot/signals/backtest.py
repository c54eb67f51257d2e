"""The backtest: what following a model's order plans would have earned, on candles that it has not seen.

The plans are the very ones that a signal shows, from the same functions; what becomes of them is decided by the rules in
`signals/follow.py`. Nothing is annualised, and no mean is told without the interval that it may lie in.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.labels import DOWN, UNLABELLED, UP
from crpbot.errors import CheckpointError
from crpbot.market.candles import Candles
from crpbot.market.source import SourceKind
from crpbot.model.recipe import Recipe, load_recipe
from crpbot.quality.metrics import Mean
from crpbot.quality.reliability import equal_mass
from crpbot.quality.rows import Block
from crpbot.signals.earnings import (
    Coins,
    Earnings,
    Sample,
    drawdown,
    equity_of,
    exposure,
    hold_equity,
    measure_earnings,
    positions,
    throw_coins,
)
from crpbot.signals.ensemble import THRESHOLD, Floats, spoken
from crpbot.signals.follow import Costs, Followed, Rows, Timing, follow, one_at_a_time, timing_of
from crpbot.signals.hear import Heard, Voice
from crpbot.signals.plan import ATR_PRESET, Preset, make_plans, preset_of
from crpbot.signals.rules import UNKNOWN, MarketRules
from crpbot.signals.threshold import Choice, Threshold, by_accuracy, by_value, fixed

if TYPE_CHECKING:
    from crpbot.model.subject import Subject

FREE = Costs(fee_bp=0.0, slippage_bp=0.0)
"""A world without costs."""
ROWS_OF_A_BIN, MOST_BINS = 100, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a backtest is of.

    Attributes:
        models: files or names.
        symbol: of the market; None where nobody said.
        source: kind of the candles.
        label: what the confidence speaks of, in words.
        out_of_sample: `unknown` for a foreign model: nobody knows what it has seen.

    """

    models: tuple[str, ...]
    symbol: str | None
    source: SourceKind
    label: str
    out_of_sample: Literal["yes", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How plans are made and followed.

    Attributes:
        preset: distances and money, with the exits and the times of the label where it has them.
        timing: how long plans last.
        rules: of the market.
        costs: of trading.
        several: whether plans are followed side by side, or one at a time.

    """

    preset: Preset
    timing: Timing
    rules: MarketRules
    costs: Costs
    several: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Signals of about the same confidence.

    Attributes:
        signals: with a label.
        confidence: their mean.
        came_true: share whose label was their side, with its block standard error.
        trades: that were made of them.
        won: share of these that earned something before costs; None where there is none.

    """

    signals: int
    confidence: float
    came_true: Mean
    trades: int
    won: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """What was said, and whether it came true.

    Attributes:
        rows: that the model was asked about.
        signals: how many of them reached the threshold, and were not silenced.
        silenced: how many reached the threshold and were silenced, since the members of an ensemble disagree more than its recipe
            allows; None for single networks.
        highest: confidence of any row that has a side; None where none has.
        median, mean: confidence of the signals; None without any, like the rest.
        came_true: share of the signals with a label whose label was their side, with its block standard error.
        labelled_mean: mean confidence of just these.
        bins: by confidence, least first.

    """

    rows: int
    signals: int
    silenced: int | None
    highest: float | None
    median: float | None
    mean: float | None
    came_true: Mean | None
    labelled_mean: float | None
    bins: tuple[Bin, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Backtest:
    """What following a model would have earned.

    Attributes:
        about: what it is of.
        first, last: open times of the first and the last row, in milliseconds of UTC.
        terms: how plans were made and followed.
        threshold: from which confidence on the model spoke.
        spoken: what was said.
        trades: the plans of all signals, each as if it were alone.
        confidence: of each of them.
        made: which of them were made; all with several, else those that no other stood in the way of.
        net, gross: what the made and filled ones earned, with costs and in a world without; None where there is none.
        exposure: share of the candles in which a trade was open.
        most_open: the most trades at once.
        hold, hold_drawdown: what buying at the beginning and selling at the end earned, as a share of the account, and its fall.
        coins: throwers at the same moments.
        start: the candle that the span begins with, as an index.
        time: open time of each candle of the span, in milliseconds of UTC, shape `(n,)`.
        equity, free_equity, hold_equity: the account at each close: with costs, without, and of holding; shape `(n,)`.

    """

    about: About
    first: int
    last: int
    terms: Terms
    threshold: Threshold
    spoken: Spoken
    trades: Followed
    confidence: Floats
    made: NDArray[np.bool_]
    net: Earnings | None
    gross: Earnings | None
    exposure: float
    most_open: int
    hold: float
    hold_drawdown: float
    coins: Coins | None
    start: int
    time: NDArray[np.int64]
    equity: Floats
    free_equity: Floats
    hold_equity: Floats

    @property
    def taken(self) -> NDArray[np.bool_]:
        """Which plans were made and became a trade."""
        return self.made & self.trades.filled


def backtest(
    models: "Sequence[Subject]",
    candles: Candles,
    *,
    label_recipe: Recipe | None = None,
    threshold: Choice = THRESHOLD,
    preset: Preset = ATR_PRESET,
    costs: Costs | None = None,
    rules: MarketRules = UNKNOWN,
    several: bool = False,
    weights: Sequence[float] | None = None,
    names: Sequence[str] = ("a model",),
    symbol: str | None = None,
    source: SourceKind = "file",
) -> Backtest:
    """Follow what models say of the candles that they have not seen.

    Args:
        models: one, or several of one market whose average speaks.
        candles: of that market. A threshold that is chosen needs those that the models were made from, too.
        label_recipe: whose label a foreign model is taken to have; v7 by default.
        threshold: the least confidence that makes a signal; `selective` and `value` choose it on the calibration block.
        preset: distances and money; a label that follows trades brings its own exits and times.
        costs: of trading; 10 basis points a side and 1 of slippage by default.
        rules: of the market.
        several: whether plans are followed side by side; one at a time by default.
        weights: of the models in the average; equal by default.
        names: of the models, for the report.
        symbol: of the market, likewise.
        source: kind of the candles, likewise.

    Raises:
        DatasetError: fewer than 100 rows are left that no model has seen.
        PlanError: the models do not answer one question, or there is nothing to choose a threshold on.
        CheckpointError: a file holds no weights.

    """
    for model in models:
        if model.holds is not None:
            raise CheckpointError(f"a model must hold the weights of a network, found {model.holds:.200}; nothing to follow")
    shares = None if weights is None else tuple(weights)
    voice = Voice(subjects=tuple(models), weights=shares, label_recipe=label_recipe or load_recipe("v7"))
    preset = preset_of(voice.label, preset)
    terms = Terms(preset=preset, timing=timing_of(preset, voice.rule), rules=rules, costs=costs or Costs(), several=several)
    unseen = voice.unseen(candles)
    if isinstance(threshold, str):
        calibrated = voice.calibrated(candles)
        heard = voice.hear(candles, np.union1d(calibrated, unseen))
        chosen = choose(threshold, candles, _of(heard, calibrated), terms)
        heard = _of(heard, unseen)
    else:
        heard, chosen = voice.hear(candles, unseen), fixed(threshold)
    if not np.isfinite(heard.probabilities).any():
        raise CheckpointError("a model must give finite probabilities, found none on any row; diagnose it")
    known: Literal["yes", "unknown"] = "unknown" if voice.origin is None else "yes"
    about = About(models=tuple(names), symbol=symbol, source=source, label=str(voice.rule), out_of_sample=known)
    return follow_signals(candles, heard, chosen, terms, about)


def choose(how: Literal["selective", "value"], candles: Candles, heard: Heard, terms: Terms) -> Threshold:
    """Choose a threshold on the calibration block, which `heard` is of."""
    if how == "selective":
        agreed = heard.agreed  # nobody will hear of the others
        block = Block(np.empty((agreed.sum(), 0)), heard.y[agreed], candles.time[heard.rows[agreed]], heard.known[agreed])
        return by_accuracy(block, heard.probabilities[agreed])
    trades, confidence = _followed(candles, heard, terms, threshold=0.0)
    return by_value(confidence, trades, terms.costs, several=terms.several)


def follow_signals(candles: Candles, heard: Heard, threshold: Threshold, terms: Terms, about: About) -> Backtest:
    """Follow what was heard: every number of a backtest comes from here.

    Args:
        candles: of the market.
        heard: what was said of the rows, at least one.
        threshold: from which confidence on to follow it.
        terms: how plans are made and followed.
        about: what the backtest is of.

    """
    account, costs = terms.preset.account, terms.costs
    bar = np.inf if threshold.value is None else threshold.value
    trades, confidence = _followed(candles, heard, terms, threshold=bar)
    made = np.ones(len(trades.rows), bool) if terms.several else one_at_a_time(trades.rows, trades.free)
    made &= trades.plans.refused == 0
    taken = made & trades.filled
    span = slice(int(heard.rows[0]), int(max(heard.rows[-1], trades.exit_row.max(initial=0))) + 1)
    sample = Sample.of(candles.time[heard.rows], heard.known)
    place = np.searchsorted(heard.rows, trades.rows)
    curves = [equity_of(candles, span, trades, taken, one, account) for one in (costs, FREE)]
    net, gross = (
        measure_earnings(trades, taken, one, curve, first=span.start, account=account, sample=sample, place=place)
        for one, curve in zip((costs, FREE), curves, strict=True)
    )
    held = hold_equity(candles, span, costs, account)
    coins = None
    if net is not None:
        sides = [
            _plans_followed(candles, trades.rows, np.full(len(trades.rows), sign, np.int8), heard, terms) for sign in (1, -1)
        ]
        coins = throw_coins(sides[0], sides[1], costs, net.expectancy.value, several=terms.several)
    return Backtest(
        about=about,
        first=int(candles.time[heard.rows[0]]),
        last=int(candles.time[heard.rows[-1]]),
        terms=terms,
        threshold=threshold,
        spoken=_measure_spoken(heard, trades, confidence, made, place, sample, bar),
        trades=trades,
        confidence=confidence,
        made=made,
        net=net,
        gross=gross,
        exposure=exposure(span, trades, taken),
        most_open=int(positions(span, trades, taken).max()),
        hold=float(held[-1]) / account - 1,
        hold_drawdown=drawdown(held, account),
        coins=coins,
        start=span.start,
        time=candles.time[span],
        equity=curves[0],
        free_equity=curves[1],
        hold_equity=held,
    )


def _of(heard: Heard, rows: Rows) -> Heard:
    """Return what was heard of some of the rows."""
    place = np.searchsorted(heard.rows, rows)
    return replace(
        heard,
        rows=rows,
        probabilities=heard.probabilities[place],
        y=heard.y[place],
        known=heard.known[place],
        atr=heard.atr[place],
        disagreement=None if heard.disagreement is None else heard.disagreement[place],
    )


def _followed(candles: Candles, heard: Heard, terms: Terms, *, threshold: float) -> tuple[Followed, Floats]:
    """Return what becomes of the plan of every signal, and the confidence of each."""
    sign, confidence = spoken(
        heard.probabilities, threshold=threshold, disagreement=heard.disagreement, most=heard.most_disagreement
    )
    signals = np.flatnonzero(sign)
    return _plans_followed(candles, heard.rows[signals], sign[signals], heard, terms), confidence[signals]


def _plans_followed(candles: Candles, rows: Rows, sign: NDArray[np.int8], heard: Heard, terms: Terms) -> Followed:
    close = candles.close[rows]
    atr = heard.atr[np.searchsorted(heard.rows, rows)]
    plans = make_plans(sign, center=close, atr=atr, price=close, preset=terms.preset, rules=terms.rules)
    return follow(candles, rows, plans, terms.timing)


def _measure_spoken(
    heard: Heard, trades: Followed, confidence: Floats, made: NDArray[np.bool_], place: Rows, sample: Sample, bar: float
) -> Spoken:
    _, every = spoken(heard.probabilities, threshold=0.0)
    highest = float(every.max())
    n, y = len(place), heard.y[place]
    labelled = y != UNLABELLED
    side = np.where(trades.plans.sign > 0, UP, DOWN)
    right = (side == y).astype(np.float64)
    bins = []
    with_label = np.flatnonzero(labelled)
    n_bins = min(MOST_BINS, max(1, len(with_label) // ROWS_OF_A_BIN)) if len(with_label) else 0
    bin_of = equal_mass(confidence[with_label], n_bins) if n_bins else with_label
    for one in range(n_bins):
        which = np.zeros(n, bool)
        which[with_label[bin_of == one]] = True
        taken = which & made & trades.filled
        bins.append(
            Bin(
                signals=int(which.sum()),
                confidence=float(confidence[which].mean()),
                came_true=sample.mean(right[which], place[which]),
                trades=int(taken.sum()),
                won=float((trades.gross_bp[taken] > 0).mean()) if taken.any() else None,
            )
        )
    return Spoken(
        rows=len(heard.rows),
        signals=n,
        silenced=None if heard.disagreement is None else int(((every > 0) & (every >= bar) & ~heard.agreed).sum()),
        highest=highest if highest > 0 else None,
        median=float(np.median(confidence)) if n else None,
        mean=float(confidence.mean()) if n else None,
        came_true=sample.mean(right[labelled], place[labelled]) if labelled.any() else None,
        labelled_mean=float(confidence[labelled].mean()) if labelled.any() else None,
        bins=tuple(bins),
    )
