"""What the pictures of a report are drawn from: small tables of numbers, that a file can keep for whoever draws them later."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from crpbot.dataset.drift import measure_drift, population_stability
from crpbot.dataset.labels import CLASSES
from crpbot.market.candles import utc
from crpbot.quality.diagnosis import Diagnosis
from crpbot.quality.experiment import Experiment
from crpbot.quality.layers import Layer
from crpbot.quality.metrics import Floats
from crpbot.quality.reliability import Reliability, calibration_error, equal_mass, simulated_errors
from crpbot.quality.rows import Judged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from crpbot.model.training import Epoch

HISTOGRAM_BINS = 60
MOST_BINS, MOST_SPANS, FEWEST_SPANS = 10, 30, 6
"""Bins of the reliability of one class, and spans of time."""
BLOCKS_OF_A_SPAN = 3
"""Blocks of time that a span has at least, where the rows last long enough: fewer say nothing of its error."""
SPAN_BINS, SPAN_DRAWS = 5, 20
"""Bins of the calibration error of one span, and draws of what chance would make of it."""
MOST_FEATURES = 12
"""Features whose drift is kept: the farthest."""
DIGITS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Bins:
    """Confidence against what came true, in bins of equal numbers of rows, least confident first.

    Attributes:
        said: mean probability, by bin.
        came: share that came true, by bin.
        error: block standard error of that share, by bin; NaN where it is unknown.
        rows: how many rows, by bin.

    """

    said: tuple[float, ...]
    came: tuple[float, ...]
    error: tuple[float, ...]
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """How numbers are spread.

    Attributes:
        edges: of the bins, one more than there are bins, increasing.
        shares: of the rows, by name and bin; each sums to 1.

    """

    edges: tuple[float, ...]
    shares: dict[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One of several equal spans of time.

    Attributes:
        first: open time of its first candle, as text.
        rows: how many.
        accuracy, error: share of right predictions, with its block standard error; NaN where that is unknown.
        majority: accuracy of always saying the class that is the commonest there, in hindsight.
        ece: calibration error in five bins, 0 to 1; lower is better.
        ece_by_chance: what a perfectly calibrated model would show there, with so few rows.

    """

    first: str
    rows: int
    accuracy: float
    error: float
    majority: float
    ece: float
    ece_by_chance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """How far one feature has moved since training.

    Attributes:
        name: of the feature.
        shift: mean of the judged rows less the training mean, in training deviations.
        outside: share of the judged rows outside the training range; None against a scaler, which knows no range.
        psi: population stability index, as `drift.population_stability`; None likewise.

    """

    name: str
    shift: float
    outside: float | None
    psi: float | None


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Everything that is drawn. `None` and empty are what cannot be said: of a function, of numbers that are not finite.

    Attributes:
        reliability: of the predicted class as `all`, and of each class against the others by its name.
        confidence: histogram of the highest probability, on edges from 1/3 to 1.
        logits: histogram of the served logits, by class, on edges from the smallest to the largest.
        confusion: rows by true class and by predicted class.
        over_time: accuracy and calibration, span by span.
        layers: of the network, as `layers.Layer`.
        drift_against: what `drift` compares with.
        drift: the features that moved farthest: those that left the training range first, then by their shift.

    """

    reliability: dict[str, Bins] | None = None
    confidence: Histogram | None = None
    logits: Histogram | None = None
    confusion: tuple[tuple[int, ...], ...] | None = None
    over_time: tuple[Span, ...] = ()
    layers: tuple[Layer, ...] = ()
    drift_against: Literal["training rows", "scaler"] | None = None
    drift: tuple[Moved, ...] = ()

    def to_dict(self, history: "Sequence[Epoch]" = ()) -> dict[str, Any]:
        """Return it as plain types, with six digits, and with the `history` of the training beside it."""
        training = [
            {
                "epoch": epoch.epoch,
                "member": epoch.member,
                "training_loss": epoch.training_loss,
                "calibration_loss": epoch.calibration_loss,
                "best": epoch.best,
            }
            for epoch in history
        ]
        plain: dict[str, Any] = short({**asdict(self), "training": training})
        return plain


def short(value: Any) -> Any:  # noqa: ANN401
    """Return plain types with every number cut to six digits: nobody sees more in a picture."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: short(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [short(item) for item in value]
    return value


def curves_of(diagnosis: Diagnosis, experiment: Experiment | None) -> Curves:
    """Measure what the pictures show.

    Args:
        diagnosis: of the model.
        experiment: on its rows; it knows the layers already. None where the logits are not finite.

    """
    against, drift = _drift(diagnosis)
    if diagnosis.reliability is None or experiment is None:
        return Curves(drift_against=against, drift=drift)
    judged = diagnosis.judged
    return Curves(
        reliability={"all": _bins(diagnosis.reliability), **class_reliability(judged, len(diagnosis.reliability.rows))},
        confidence=confidence_histogram(judged.prediction.probabilities),
        logits=logit_histogram(judged.prediction.logits),
        confusion=confusion(judged),
        over_time=over_time(judged),
        layers=experiment.layers,
        drift_against=against,
        drift=drift,
    )


def _bins(curve: Reliability) -> Bins:
    return Bins(
        said=tuple(curve.confidence.tolist()),
        came=tuple(curve.accuracy.tolist()),
        error=tuple(curve.error.tolist()),
        rows=tuple(curve.rows.tolist()),
    )


def class_reliability(judged: Judged, bins: int) -> dict[str, Bins]:
    """Return the reliability of each class against the others: its probability, and how often it came."""
    bins, found = min(bins, MOST_BINS), {}
    for number, name in enumerate(CLASSES):
        said, came = judged.prediction.probabilities[:, number], (judged.y == number).astype(float)
        place = equal_mass(said, bins)
        rows = np.bincount(place, minlength=bins)
        found[name] = Bins(
            said=tuple((np.bincount(place, said, bins) / rows).tolist()),
            came=tuple((np.bincount(place, came, bins) / rows).tolist()),
            error=tuple(judged.resamples.errors_by(came, place, bins).tolist()),
            rows=tuple(rows.tolist()),
        )
    return found


def confidence_histogram(probabilities: Floats) -> Histogram:
    """Return how the highest of the probabilities, shape `(n, 3)`, is spread from 1/3 to 1."""
    edges = np.linspace(1 / 3, 1, HISTOGRAM_BINS + 1)
    confidence = np.clip(probabilities.max(axis=1), edges[0], 1)
    return Histogram(edges=tuple(edges.tolist()), shares={"all": _shares(confidence, edges)})


def logit_histogram(logits: Floats) -> Histogram:
    """Return how the logits, shape `(n, 3)`, are spread from the smallest to the largest, by class."""
    low, high = float(logits.min()), float(logits.max())
    if high - low < 1e-6 * max(1.0, abs(low)):
        low, high = low - 1, high + 1
    edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
    return Histogram(edges=tuple(edges.tolist()), shares={name: _shares(logits[:, i], edges) for i, name in enumerate(CLASSES)})


def _shares(x: Floats, edges: Floats) -> tuple[float, ...]:
    return tuple((np.histogram(x, edges)[0] / len(x)).tolist())


def confusion(judged: Judged) -> tuple[tuple[int, ...], ...]:
    """Count the rows by true class, then by predicted class."""
    said, n = judged.prediction.probabilities.argmax(axis=1), len(CLASSES)
    counts = np.bincount(judged.y * n + said, minlength=n * n).reshape(n, n)
    return tuple(tuple(row) for row in counts.tolist())


def over_time(judged: Judged) -> tuple[Span, ...]:
    """Cut the rows into equal spans, each three blocks of time or more where there are enough, and measure each."""
    p, y = judged.prediction.probabilities, judged.y
    n_spans = int(np.clip(judged.resamples.blocks // BLOCKS_OF_A_SPAN, FEWEST_SPANS, MOST_SPANS))
    n_spans = min(n_spans, len(y) // (SPAN_BINS * 2))
    place: NDArray[np.intp] = np.arange(len(y)) * n_spans // len(y)
    right = (p.argmax(axis=1) == y).astype(float)
    error = judged.resamples.errors_by(right, place, n_spans)
    found = []
    for number in range(n_spans):
        rows = place == number
        chance = simulated_errors(p[rows], judged.time[rows], judged.known[rows], bins=SPAN_BINS, draws=SPAN_DRAWS)
        found.append(
            Span(
                first=utc(int(judged.time[rows][0])),
                rows=int(rows.sum()),
                accuracy=float(right[rows].mean()),
                error=float(error[number]),
                majority=float(np.bincount(y[rows]).max() / rows.sum()),
                ece=calibration_error(p[rows], y[rows], bins=SPAN_BINS),
                ece_by_chance=float(chance.mean()),
            )
        )
    return tuple(found)


def _drift(diagnosis: Diagnosis) -> tuple[Literal["training rows", "scaler"] | None, tuple[Moved, ...]]:
    """Compare the judged rows with the training rows, or else with the scaler of the network."""
    subject, x = diagnosis.subject, diagnosis.judged.x
    normalizer = None if subject.weights is None else subject.weights.normalizer
    if diagnosis.learned is not None:
        training = diagnosis.learned.training.x
        drifts = measure_drift(subject.features, training, x)
        ordered = sorted(range(len(drifts)), key=lambda i: (-drifts[i].outside * drifts[i].left, -abs(drifts[i].shift)))
        ordered = ordered[:MOST_FEATURES]
        stability = population_stability(training[:, ordered], x[:, ordered])
        kept = [drifts[i] for i in ordered]
        found = [
            Moved(name=drift.name, shift=drift.shift, outside=drift.outside, psi=float(psi))
            for drift, psi in zip(kept, stability, strict=True)
        ]
        return "training rows", tuple(found)
    if normalizer is None or not normalizer.fitted:
        return None, ()
    with np.errstate(all="ignore"):  # a stranger's scaler may hold any number
        shift = (x.mean(axis=0) - normalizer.mean) / normalizer.scale
    farthest = np.argsort(-np.abs(shift), kind="stable")[:MOST_FEATURES]
    moved = [Moved(name=subject.features[i], shift=float(shift[i]), outside=None, psi=None) for i in farthest.tolist()]
    return "scaler", tuple(moved)
