"""The diagnosis: what a model did on rows that it had not seen. Numbers only; `gates` holds the opinions."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.assemble import Dataset, assemble
from crpbot.dataset.baselines import OneFeatureRule
from crpbot.dataset.features.program import PURE
from crpbot.dataset.labels import CLASSES, DOWN, UP, average_uniqueness, classify, fit_theta, label_digest
from crpbot.errors import DatasetError
from crpbot.market.candles import MINUTE, Candles, utc
from crpbot.market.source import SourceKind
from crpbot.model.checkpoint import Checkpoint, Label, Origin, Prediction
from crpbot.model.recipe import Recipe
from crpbot.model.subject import Subject
from crpbot.quality import metrics
from crpbot.quality.metrics import Mean, Reliability

DAY = 1_440 * MINUTE
FEWEST_ROWS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """Which model was judged. `None` where a foreign file does not say, or there is nothing to be said."""

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
    """Which rows it was judged on; `first` and `last` are open times in milliseconds of UTC."""

    source: SourceKind
    rows: int
    first: int
    last: int
    sha256: str
    out_of_sample: Literal["yes", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What was measured. Shares and errors are fractions, losses in nats; `None` is unmeasurable, and fails every gate.

    Attributes:
        rows: that were judged.
        effective_rows: sum of the average uniqueness of the labels, since labels overlap: about rows over the horizon.
        finite_weights: whether every number of the network is finite.
        normalizer_present: whether the checkpoint carries a normalizer that can have been fitted.
        normalizer_ratio: the largest ratio, over scale-free features, between the rows' deviation and the normalizer's scale,
            either way up; 1 fits, `None` without a normalizer.
        logit_min, logit_max, logit_abs_max, logit_mean: after the temperature, as served; the mean by class.
        confidence_over_99: share of rows with a probability above 0.99.
        confidence_over_60: share of rows where DOWN or UP has at least 0.60, as a signal needs.
        confidence_50_90: share of rows whose highest probability is within 0.50 to 0.90.
        mean_confidence: mean of the highest probability.
        predicted_share, actual_share: of each class: the most probable one, and the true one.
        mean_probability: of each class.
        class_bias: the largest |mean probability − actual share|.
        ece, ece_interval: calibration error of the predicted class, lower is better.
        log_loss, prior_log_loss: of the model, and of always saying the actual shares; lower is better.
        directional_log_loss, prior_directional_log_loss: the same of UP against DOWN on rows that were not NEUTRAL.
        brier: 0 to 2, lower is better.
        accuracy, majority_accuracy, rule_accuracy: of the model, of always saying the commonest class in hindsight, and of the
            one-feature rule chosen on training rows (`None` where that is unknown).
        over_majority, over_rule: accuracy less theirs, row by row, with block standard errors.

    """

    rows: int | None = None
    effective_rows: float | None = None
    finite_weights: bool | None = None
    normalizer_present: bool = False
    normalizer_ratio: float | None = None
    logit_min: float | None = None
    logit_max: float | None = None
    logit_abs_max: float | None = None
    logit_mean: tuple[float, ...] | None = None
    confidence_over_99: float | None = None
    confidence_over_60: float | None = None
    confidence_50_90: float | None = None
    mean_confidence: float | None = None
    predicted_share: tuple[float, ...] | None = None
    actual_share: tuple[float, ...] | None = None
    mean_probability: tuple[float, ...] | None = None
    class_bias: float | None = None
    ece: float | None = None
    ece_interval: tuple[float, float] | None = None
    log_loss: float | None = None
    prior_log_loss: float | None = None
    directional_log_loss: float | None = None
    prior_directional_log_loss: float | None = None
    brier: float | None = None
    accuracy: float | None = None
    accuracy_interval: tuple[float, float] | None = None
    majority_accuracy: float | None = None
    rule_accuracy: float | None = None
    over_majority: Mean | None = None
    over_rule: Mean | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Judged:
    """The rows of a diagnosis and what was said of them, for causes, pictures and `--predictions`.

    Attributes:
        x: raw features in the order of the checkpoint, shape `(n, n_features)`.
        y: labels, shape `(n,)`.
        time: open time of each row's candle, shape `(n,)`.
        known: when each label is known, shape `(n,)`.
        day: UTC day of each row, shape `(n,)`.
        prediction: of the checkpoint.

    """

    x: NDArray[np.float64]
    y: NDArray[np.int64]
    time: NDArray[np.int64]
    known: NDArray[np.int64]
    day: NDArray[np.int64]
    prediction: Prediction


@dataclass(frozen=True, eq=False)
class Block:
    """Rows with their labels.

    Attributes:
        x: raw features in the order of the model, shape `(n, n_features)`.
        y: labels, shape `(n,)`.
        time: open time of each row's candle, in milliseconds of UTC, shape `(n,)`.
        known: when each label is known, likewise.

    """

    x: NDArray[np.float64]
    y: NDArray[np.int64]
    time: NDArray[np.int64]
    known: NDArray[np.int64]

    @property
    def day(self) -> NDArray[np.int64]:
        """The UTC day of each row."""
        return self.time // DAY


@dataclass(frozen=True, eq=False, kw_only=True)
class Learned:
    """The very rows that a checkpoint of ours was made from, where the candles still hold them: their digest says so.

    Attributes:
        training: weights were fitted on these.
        calibration: early stopping and the temperature used these.

    """

    training: Block
    calibration: Block


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
    _check_enough(len(block.y), origin)
    prediction = subject.predict(block.x)
    judged = Judged(x=block.x, y=block.y, time=block.time, known=block.known, day=block.day, prediction=prediction)
    one_feature = origin.rule if origin else None
    measured, curve = Metrics(), None
    if subject.holds is None:
        measured, curve = _measure(subject, judged, float(average_uniqueness(block.time, block.known).sum()), one_feature)
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
        judged=judged,
        learned=learned,
    )


def _check_enough(n_rows: int, origin: Origin | None) -> None:
    if n_rows >= FEWEST_ROWS:
        return
    if origin is not None:
        raise DatasetError(
            f"a diagnosis needs at least {FEWEST_ROWS} rows that the model has not seen, from {utc(origin.unseen_from)} on; "
            "found "
            f"{n_rows}; bring later candles"
        )
    raise DatasetError(f"a diagnosis needs at least {FEWEST_ROWS} labelled rows, found {n_rows}; bring more candles")


def _facts(subject: Subject, path: str, sha256: str) -> ModelFacts:
    checkpoint, network = subject.checkpoint, subject.network
    function = subject.holds is None and network is None
    return ModelFacts(
        path=path,
        sha256=sha256,
        symbol=checkpoint.symbol if checkpoint else None,
        recipe=checkpoint.recipe.name if checkpoint and checkpoint.recipe else None,
        architecture=network.architecture if network else "function" if function else None,
        n_features=len(subject.features) if subject.holds is None else None,
        classes=CLASSES,
        normalizer="absent" if network is None or network.normalizer is None else "present",
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


def _measure(
    subject: Subject, judged: Judged, effective_rows: float, rule: OneFeatureRule | None
) -> tuple[Metrics, Reliability | None]:
    y, day, network = judged.y, judged.day, subject.network
    actual = metrics.shares(y)
    majority = int(actual.argmax())
    rule_right = (rule.predict(judged.x, subject.features) == y).astype(float) if rule else None
    known: dict[str, Any] = {
        "rows": len(y),
        "effective_rows": effective_rows,
        "finite_weights": network is None or all(bool(np.isfinite(t.numpy()).all()) for t in network.state_dict().values()),
        "normalizer_present": network is not None and network.normalizer is not None and network.normalizer.fitted,
        "normalizer_ratio": _normalizer_ratio(subject, judged.x),
        "actual_share": tuple(actual.tolist()),
        "prior_log_loss": metrics.prior_log_loss(y),
        "prior_directional_log_loss": metrics.prior_directional_log_loss(y),
        "majority_accuracy": float(actual[majority]),
        "rule_accuracy": None if rule_right is None else float(rule_right.mean()),
    }
    logits, probabilities = judged.prediction.logits, judged.prediction.probabilities
    if not np.isfinite(logits).all():
        return Metrics(**known), None
    confidence, predicted = probabilities.max(axis=1), probabilities.argmax(axis=1)
    right = (predicted == y).astype(float)
    accuracy = metrics.mean_by_days(right, day)
    curve = metrics.reliability(probabilities, y, day, bins=metrics.n_bins(effective_rows))
    mean_probability = probabilities.mean(axis=0)
    return (
        Metrics(
            **known,
            logit_min=float(logits.min()),
            logit_max=float(logits.max()),
            logit_abs_max=float(np.abs(logits).max()),
            logit_mean=tuple(logits.mean(axis=0).tolist()),
            confidence_over_99=float((confidence > 0.99).mean()),
            confidence_over_60=float((probabilities[:, [DOWN, UP]].max(axis=1) >= 0.6).mean()),
            confidence_50_90=float(((confidence >= 0.5) & (confidence <= 0.9)).mean()),
            mean_confidence=float(confidence.mean()),
            predicted_share=tuple(metrics.shares(predicted).tolist()),
            mean_probability=tuple(mean_probability.tolist()),
            class_bias=float(np.abs(mean_probability - actual).max()),
            ece=curve.ece,
            ece_interval=curve.ece_interval,
            log_loss=metrics.log_loss_of_logits(logits, y),
            directional_log_loss=metrics.directional_log_loss(logits, y),
            brier=metrics.brier(probabilities, y),
            accuracy=accuracy.value,
            accuracy_interval=accuracy.interval,
            over_majority=metrics.mean_by_days(right - (y == majority), day),
            over_rule=None if rule_right is None else metrics.mean_by_days(right - rule_right, day),
        ),
        curve,
    )


def _normalizer_ratio(subject: Subject, x: NDArray[np.float64]) -> float | None:
    """Compare scales on scale-free features only: price levels honestly differ between markets and months."""
    normalizer = subject.network.normalizer if subject.network else None
    if normalizer is None:
        return None
    units = dict(zip(subject.feature_set.names, subject.feature_set.units, strict=True))
    free = [i for i, name in enumerate(subject.features) if units[name] == PURE]
    spread, scale = x[:, free].std(axis=0), normalizer.scale.numpy()[free]
    varied = spread > 0
    if not varied.any() or not (np.isfinite(scale) & (scale > 0)).all():
        return None
    ratio = spread[varied] / scale[varied]
    return float(np.maximum(ratio, 1 / ratio).max())
