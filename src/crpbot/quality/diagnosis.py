"""The diagnosis: what a checkpoint did on rows that it had not seen. Numbers only; `gates` holds the opinions."""

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
from crpbot.model.checkpoint import Checkpoint, Label, Prediction
from crpbot.model.recipe import Recipe
from crpbot.quality import metrics
from crpbot.quality.metrics import Mean, Reliability

DAY = 1_440 * MINUTE
FEWEST_ROWS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """Which checkpoint was judged. `None` where a foreign file does not say."""

    path: str
    sha256: str
    symbol: str | None
    recipe: str | None
    architecture: str
    n_features: int
    classes: tuple[str, ...]
    normalizer: Literal["present", "absent"]
    temperature: float


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
        normalizer_present: whether the checkpoint carries its normalizer.
        normalizer_ratio: the largest ratio, over scale-free features, between the rows' deviation and the normalizer's scale,
            either way up; 1 fits, `None` without a normalizer.
        logit_min, logit_max, logit_abs_max, logit_mean: after the temperature, as served; the mean by class.
        confidence_over_99: share of rows with a probability above 0.99.
        confidence_over_60: share of rows where DOWN or UP has at least 0.60, as a signal needs.
        confidence_50_90: share of rows whose highest probability is within 0.50 to 0.90.
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

    rows: int
    effective_rows: float
    finite_weights: bool
    normalizer_present: bool
    normalizer_ratio: float | None
    logit_min: float | None = None
    logit_max: float | None = None
    logit_abs_max: float | None = None
    logit_mean: tuple[float, ...] | None = None
    confidence_over_99: float | None = None
    confidence_over_60: float | None = None
    confidence_50_90: float | None = None
    predicted_share: tuple[float, ...] | None = None
    actual_share: tuple[float, ...]
    mean_probability: tuple[float, ...] | None = None
    class_bias: float | None = None
    ece: float | None = None
    ece_interval: tuple[float, float] | None = None
    log_loss: float | None = None
    prior_log_loss: float
    directional_log_loss: float | None = None
    prior_directional_log_loss: float | None
    brier: float | None = None
    accuracy: float | None = None
    accuracy_interval: tuple[float, float] | None = None
    majority_accuracy: float
    rule_accuracy: float | None
    over_majority: Mean | None = None
    over_rule: Mean | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Judged:
    """The rows of a diagnosis and what was said of them, for causes, pictures and `--predictions`.

    Attributes:
        x: raw features in the order of the checkpoint, shape `(n, n_features)`.
        y: labels, shape `(n,)`.
        time: open time of each row's candle, shape `(n,)`.
        day: UTC day of each row, shape `(n,)`.
        prediction: of the checkpoint.

    """

    x: NDArray[np.float64]
    y: NDArray[np.int64]
    time: NDArray[np.int64]
    day: NDArray[np.int64]
    prediction: Prediction


@dataclass(frozen=True, eq=False, kw_only=True)
class Diagnosis:
    """What a checkpoint did on rows that it had not seen.

    Attributes:
        checkpoint: that was judged.
        label: what the classes meant.
        model, data: which checkpoint, on which rows.
        metrics: what was measured.
        reliability: the calibration curve; None where the logits are not finite.
        rule: the one-feature rule that the model was compared with.
        judged: the rows themselves.

    """

    checkpoint: Checkpoint
    label: Label
    model: ModelFacts
    data: DataFacts
    metrics: Metrics
    reliability: Reliability | None
    rule: OneFeatureRule | None
    judged: Judged


def diagnose_checkpoint(
    checkpoint: Checkpoint, candles: Candles, *, path: str, sha256: str, source: SourceKind, label_recipe: Recipe
) -> Diagnosis:
    """Judge a checkpoint on candles: ours on the rows after what it was fitted on, a foreign one on all rows.

    Args:
        checkpoint: to judge.
        candles: of its symbol.
        path: of the checkpoint's file.
        sha256: of that file.
        source: kind of the candles.
        label_recipe: whose label a foreign checkpoint is judged by, with θ fitted on the rows themselves.

    Raises:
        DatasetError: fewer than 100 rows can be judged.

    """
    recipe = checkpoint.recipe or label_recipe
    rule = recipe.label.rule
    data = assemble(candles, checkpoint.feature_set, rule, max_gap_minutes=recipe.features.max_gap_minutes)
    if checkpoint.origin is not None:
        unseen = checkpoint.origin.unseen_from
        data = data.since(unseen)
        if len(data) < FEWEST_ROWS:
            raise DatasetError(
                f"a diagnosis needs at least {FEWEST_ROWS} rows that the model has not seen, from {utc(unseen)} on; found "
                f"{len(data)}; bring later candles"
            )
    elif len(data) < FEWEST_ROWS:
        raise DatasetError(f"a diagnosis needs at least {FEWEST_ROWS} labelled rows, found {len(data)}; bring more candles")
    theta = checkpoint.label.theta if checkpoint.label else fit_theta(data.moves, rule, neutral_share=recipe.label.neutral_share)
    y = classify(data.moves, theta)
    label = checkpoint.label or Label(rule=rule, theta=theta, sha256=label_digest(data.time, y))
    judged = _judge(checkpoint, data, y)
    one_feature = checkpoint.origin.rule if checkpoint.origin else None
    measured, curve = _measure(checkpoint, judged, float(average_uniqueness(data.time, data.known).sum()), one_feature)
    network = checkpoint.network
    return Diagnosis(
        checkpoint=checkpoint,
        label=label,
        model=ModelFacts(
            path=path,
            sha256=sha256,
            symbol=checkpoint.symbol,
            recipe=checkpoint.recipe.name if checkpoint.recipe else None,
            architecture=network.architecture,
            n_features=network.input_size,
            classes=CLASSES,
            normalizer="absent" if network.normalizer is None else "present",
            temperature=checkpoint.temperature,
        ),
        data=DataFacts(
            source=source,
            rows=len(data),
            first=int(data.time[0]),
            last=int(data.time[-1]),
            sha256=candles.sha256,
            out_of_sample="yes" if checkpoint.origin else "unknown",
        ),
        metrics=measured,
        reliability=curve,
        rule=one_feature,
        judged=judged,
    )


def _judge(checkpoint: Checkpoint, data: Dataset, y: NDArray[np.int64]) -> Judged:
    x = data.x
    if checkpoint.features != data.names:
        x = x[:, [data.names.index(name) for name in checkpoint.features]]
    return Judged(x=x, y=y, time=data.time, day=data.time // DAY, prediction=checkpoint.predict(x))


def _measure(
    checkpoint: Checkpoint, judged: Judged, effective_rows: float, rule: OneFeatureRule | None
) -> tuple[Metrics, Reliability | None]:
    y, day = judged.y, judged.day
    actual = metrics.shares(y)
    majority = int(actual.argmax())
    rule_right = (rule.predict(judged.x, checkpoint.features) == y).astype(float) if rule else None
    known: dict[str, Any] = {
        "rows": len(y),
        "effective_rows": effective_rows,
        "finite_weights": all(bool(np.isfinite(t.numpy()).all()) for t in checkpoint.network.state_dict().values()),
        "normalizer_present": checkpoint.network.normalizer is not None,
        "normalizer_ratio": _normalizer_ratio(checkpoint, judged.x),
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


def _normalizer_ratio(checkpoint: Checkpoint, x: NDArray[np.float64]) -> float | None:
    """Compare scales on scale-free features only: price levels honestly differ between markets and months."""
    normalizer = checkpoint.network.normalizer
    if normalizer is None:
        return None
    units = dict(zip(checkpoint.feature_set.names, checkpoint.feature_set.units, strict=True))
    free = [i for i, name in enumerate(checkpoint.features) if units[name] == PURE]
    spread, scale = x[:, free].std(axis=0), normalizer.scale.numpy()[free]
    varied = spread > 0
    if not varied.any() or not (np.isfinite(scale) & (scale > 0)).all():
        return None
    ratio = spread[varied] / scale[varied]
    return float(np.maximum(ratio, 1 / ratio).max())
