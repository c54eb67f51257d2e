"""The diagnosis: what a model did on rows that it had not seen. Numbers only; `gates` holds the opinions."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from crpbot.dataset.assemble import Dataset, assemble
from crpbot.dataset.baselines import OneFeatureRule
from crpbot.dataset.features.compute import compute_features
from crpbot.dataset.features.sets import recent_volatility
from crpbot.dataset.labels import CLASSES, classify, fit_theta, label_digest
from crpbot.errors import DatasetError
from crpbot.market.candles import Candles, utc
from crpbot.market.source import SourceKind
from crpbot.model.checkpoint import Checkpoint, Label, Origin
from crpbot.model.recipe import Recipe
from crpbot.model.subject import Subject
from crpbot.quality.measure import Metrics, measure
from crpbot.quality.metrics import Floats, Ints
from crpbot.quality.reliability import Reliability
from crpbot.quality.rows import Block, Judged, Learned
from crpbot.quality.selective import Selective, measure_selective

FEWEST_ROWS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """Which model was judged. `None` where a foreign file does not say, or there is nothing to be said.

    Attributes:
        path, sha256: of the file; without a digest where a function was judged.
        symbol, recipe: that it was trained for, and by.
        architecture: sizes of its layers.
        n_features: how many inputs it has.
        classes: of its outputs, in order.
        normalizer: whether the file carries one.
        temperature: that its logits are divided by.

    """

    path: str
    sha256: str
    symbol: str | None
    recipe: str | None
    architecture: str | None
    n_features: int | None
    classes: tuple[str, ...]
    normalizer: Literal["present", "absent"]
    temperature: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFacts:
    """Which rows it was judged on.

    Attributes:
        source: kind of the candles.
        rows: how many.
        first, last: their open times, in milliseconds of UTC.
        sha256: digest of the candles.
        out_of_sample: whether the model had not seen these rows, as far as anybody knows.

    """

    source: SourceKind
    rows: int
    first: int
    last: int
    sha256: str
    out_of_sample: Literal["yes", "unknown"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Diagnosis:
    """What a model did on rows that it had not seen.

    Attributes:
        subject: that was judged.
        label: what the classes meant.
        model, data: which model, on which rows.
        metrics: what was measured.
        reliability: the calibration curve; None where the logits are not finite.
        rule: the one-feature rule that the model was compared with.
        selective: what its confidence is worth; None where it says nothing or the rows are too few.
        judged: the rows themselves.
        learned: the rows that it learned from, where they are known.

    """

    subject: Subject
    label: Label
    model: ModelFacts
    data: DataFacts
    metrics: Metrics
    reliability: Reliability | None
    rule: OneFeatureRule | None
    selective: Selective | None
    judged: Judged
    learned: Learned | None

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The checkpoint that was judged; None for a function and for a file without weights."""
        return self.subject.checkpoint

    @property
    def origin(self) -> Origin | None:
        """Where the model comes from; None for a foreign one."""
        return None if self.subject.checkpoint is None else self.subject.checkpoint.origin


def diagnose_subject(
    subject: Subject,
    candles: Candles,
    *,
    path: str,
    sha256: str,
    source: SourceKind,
    label_recipe: Recipe,
    on: Literal["unseen", "calibration"] = "unseen",
) -> Diagnosis:
    """Judge a model on candles: ours on the rows after what it was fitted on, a foreign one on all rows.

    Args:
        subject: to judge.
        candles: of its symbol.
        path: of its file.
        sha256: of that file.
        source: kind of the candles.
        label_recipe: whose label a foreign model is judged by, with θ fitted on the rows themselves.
        on: `calibration` judges a model of ours on its calibration block, where the candles hold what it was made from. That
            proves nothing about the model; it lets a repair be chosen without touching the test block.

    Raises:
        DatasetError: fewer than 100 rows can be judged.

    """
    checkpoint = subject.checkpoint
    recipe = (checkpoint.recipe if checkpoint else None) or label_recipe
    own_label, origin = (checkpoint.label, checkpoint.origin) if checkpoint else (None, None)
    rule = recipe.label.rule
    every = assemble(candles, subject.feature_set, rule, max_gap_minutes=recipe.features.max_gap_minutes)
    data = every if origin is None else every.since(origin.unseen_from)
    theta = (
        own_label.theta
        if own_label
        else fit_theta(data.moves, rule, neutral_share=recipe.label.neutral_share)
        if len(data)
        else 0.0
    )
    learned = _learned(subject, every, theta)
    block = learned.calibration if learned and on == "calibration" else _block(subject, data, theta)
    check_enough(len(block.y), origin)
    prediction = subject.predict(block.x)
    volatility = _volatility(candles, block.time, recipe.features.max_gap_minutes)
    judged = Judged(block.x, block.y, block.time, block.known, prediction, volatility)
    one_feature = origin.rule if origin else None
    measured, curve, selective = Metrics(), None, None
    if subject.holds is None:
        measured, curve = measure(subject, judged, one_feature)
    if curve is not None:
        earlier = subject.predict(learned.calibration.x).probabilities if learned and on == "unseen" else None
        selective = measure_selective(judged, learned, earlier)
    return Diagnosis(
        subject=subject,
        label=own_label or Label(rule=rule, theta=theta, sha256=label_digest(block.time, block.y)),
        model=_facts(subject, path, sha256),
        data=DataFacts(
            source=source,
            rows=len(block.y),
            first=int(block.time[0]),
            last=int(block.time[-1]),
            sha256=candles.sha256,
            out_of_sample="yes" if origin else "unknown",
        ),
        metrics=measured,
        reliability=curve,
        rule=one_feature,
        selective=selective,
        judged=judged,
        learned=learned,
    )


def check_enough(n_rows: int, origin: Origin | None, *, what: str = "a diagnosis") -> None:
    """Raise `DatasetError` where fewer than 100 rows are left to judge.

    Args:
        n_rows: how many there are.
        origin: of a model of ours, which may be judged only on rows that it has not seen; None for a foreign one.
        what: is made of them.

    """
    if n_rows >= FEWEST_ROWS:
        return
    if origin is not None:
        raise DatasetError(
            f"{what} needs at least {FEWEST_ROWS} rows that the model has not seen, from {utc(origin.unseen_from)} on; "
            f"found {n_rows}; bring later candles"
        )
    raise DatasetError(f"{what} needs at least {FEWEST_ROWS} labelled rows, found {n_rows}; bring more candles")


def _facts(subject: Subject, path: str, sha256: str) -> ModelFacts:
    checkpoint, weights = subject.checkpoint, subject.weights
    function = subject.holds is None and weights is None
    return ModelFacts(
        path=path,
        sha256=sha256,
        symbol=checkpoint.symbol if checkpoint else None,
        recipe=checkpoint.recipe.name if checkpoint and checkpoint.recipe else None,
        architecture=weights.architecture if weights else "function" if function else None,
        n_features=len(subject.features) if subject.holds is None else None,
        classes=CLASSES,
        normalizer="absent" if weights is None or weights.normalizer is None else "present",
        temperature=checkpoint.temperature if checkpoint else None,
    )


def _block(subject: Subject, data: Dataset, theta: float) -> Block:
    x = data.x
    if subject.features != data.names:
        x = x[:, [data.names.index(name) for name in subject.features]]
    return Block(x, classify(data.moves, theta), data.time, data.known)


def _learned(subject: Subject, every: Dataset, theta: float) -> Learned | None:
    """Find the rows that a checkpoint of ours was made from; None where the candles are others, or do not reach back."""
    checkpoint = subject.checkpoint
    if checkpoint is None or checkpoint.origin is None or checkpoint.label is None:
        return None
    origin = checkpoint.origin
    blocks = []
    for first, count in ((origin.training_from, origin.training_rows), (origin.calibration_from, origin.calibration_rows)):
        start = int(np.searchsorted(every.time, first))
        blocks.append(_block(subject, every[start : start + count], theta))
    digest = label_digest(*(np.concatenate([getattr(block, name) for block in blocks]) for name in ("time", "y")))
    return Learned(training=blocks[0], calibration=blocks[1]) if digest == checkpoint.label.sha256 else None


def _volatility(candles: Candles, time: Ints, max_gap_minutes: int) -> Floats:
    """Return the volatility at each row; NaN where its segment is too young."""
    found = compute_features(candles, recent_volatility(), max_gap_minutes=max_gap_minutes)
    volatility = np.full(len(candles), np.nan)
    volatility[found.rows] = found.values[:, 0]
    return volatility[np.searchsorted(candles.time, time)]
