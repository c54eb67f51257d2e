"""What-ifs: a remedy is fitted on one half of the rows and judged on the other, against the model as it is served.

The halves are every second day, so that both see the whole span: price levels drift.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.labels import CLASSES
from crpbot.model.calibration import fit_offsets, fit_temperature, softmax
from crpbot.model.checkpoint import Checkpoint
from crpbot.model.remedies import reestimated, relabelled, reordered, shifted, standardized, tempered
from crpbot.model.subject import Subject
from crpbot.quality import metrics
from crpbot.quality.diagnosis import Diagnosis, Judged
from crpbot.quality.layers import Layer, Push, measure_layers, measure_pushes
from crpbot.quality.metrics import Floats, Ints, Mean
from crpbot.quality.order import find_orders

MOST_ROWS = 60_000
"""Rows of an experiment, evenly spread: more do not change an answer and cost seconds."""
INSIDE_ROWS = 10_000
"""Rows that are followed through the layers."""

STANDARDIZED = "inputs standardized by the candles' own statistics"

Apply = Callable[[Checkpoint], Checkpoint]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """What a what-if measures before and after, on the same rows; as in `diagnosis.Metrics`.

    Attributes:
        logit_abs_max, logit_min, logit_max: of the served logits.
        confidence_over_99: share of rows with a probability above 0.99.
        mean_confidence: mean of the highest probability.
        predicted_share: of DOWN, NEUTRAL and UP.
        class_bias: the largest |mean probability − actual share|.
        ece: calibration error.
        log_loss: in nats; lower is better.
        accuracy: share of right classes.

    """

    logit_abs_max: float
    logit_min: float
    logit_max: float
    confidence_over_99: float
    mean_confidence: float
    predicted_share: tuple[float, ...]
    class_bias: float
    ece: float
    log_loss: float
    accuracy: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Trial:
    """A remedy that was tried.

    Attributes:
        remedy: what was done, in words.
        measures: after it, on the half that it was not fitted on.
        gain: nats of log loss that it removes there, as a mean by row; above 0 is better.
        apply: does it to a checkpoint; None where there is only a function.

    """

    remedy: str
    measures: Measures
    gain: Mean
    apply: Apply | None = None

    @property
    def proven(self) -> bool:
        """Whether the gain stands two standard errors above 0, and above a hundredth of a nat."""
        error = self.gain.error if np.isfinite(self.gain.error) else 0.0
        return self.gain.value > max(0.01, 2 * error)


@dataclass(frozen=True, eq=False)
class Experiment:
    """A model, rows to fit remedies on, and rows to judge them on. Each remedy is tried once, when it is first asked for.

    Attributes:
        subject: as it is served.
        judged: rows, labels and what the model says of them.
        effective_rows: independent outcomes among all of them.
        statistics: raw features that a normalizer is fitted on, where these are not the fitting half: the rows that a checkpoint
            of ours was trained on.

    """

    subject: Subject
    judged: Judged
    effective_rows: float
    statistics: Floats | None = None

    @cached_property
    def fitted(self) -> NDArray[np.intp]:
        """The rows that remedies are fitted on."""
        return self._halves[0]

    @cached_property
    def held(self) -> NDArray[np.intp]:
        """The rows that remedies are judged on."""
        return self._halves[1]

    @cached_property
    def before(self) -> Measures:
        """The model as it is served, on the held rows."""
        return self.measure(self._logits[self.held])

    @cached_property
    def prior_log_loss(self) -> float:
        """The log loss of always saying the actual shares of the held rows."""
        return metrics.prior_log_loss(self._y[self.held])

    @cached_property
    def standardized(self) -> Trial:
        """Feed the network inputs standardized by the candles' own statistics."""
        judged = self.judged
        x = judged.x[self.fitted] if self.statistics is None else self.statistics
        mean, scale = x.mean(axis=0), x.std(axis=0)
        scale = np.where(scale > 0, scale, 1.0)

        def apply(checkpoint: Checkpoint) -> Checkpoint:
            return standardized(checkpoint, x)

        if self.subject.checkpoint is not None:
            return self._network_trial(STANDARDIZED, apply)
        return self._trial(STANDARDIZED, self.subject.serve((judged.x[self.held] - mean) / scale))

    @cached_property
    def calmed(self) -> tuple[Trial, Mean] | None:
        """Standardize, then refit the temperature, and say how much better that is than knowing nothing; None for a function.

        Returns:
            The trial, and the nats of log loss by which it beats always saying the actual shares of the held rows.

        """
        checkpoint, apply, judged = self.subject.checkpoint, self.standardized.apply, self.judged
        if checkpoint is None or apply is None:
            return None
        fed = apply(checkpoint)
        factor = fit_temperature(fed.predict(judged.x[self.fitted]).logits, self._y[self.fitted], least=1e-3, most=1e6)
        logits = fed.predict(judged.x[self.held]).logits / factor
        trial = self._trial(
            f"{STANDARDIZED}, then logits divided by {factor:.3g}", logits, lambda one: tempered(apply(one), factor)
        )
        y = self._y[self.held]
        known = -np.log(metrics.shares(y)[y]) - metrics.row_log_loss(logits, y)
        return trial, metrics.mean_by_days(known, judged.day[self.held])

    @cached_property
    def temperature(self) -> float:
        """What the served logits should be divided by: the most likely factor on the fitting half, within 1e-3 and 1e6."""
        return fit_temperature(self._logits[self.fitted], self._y[self.fitted], least=1e-3, most=1e6)

    @cached_property
    def tempered(self) -> Trial:
        """Refit the temperature."""
        factor = self.temperature
        remedy = f"temperature refitted: logits divided by {factor:.3g}"
        return self._trial(remedy, self._logits[self.held] / factor, lambda checkpoint: tempered(checkpoint, factor))

    @cached_property
    def shifted(self) -> Trial:
        """Refit the biases of the classes."""
        offsets = fit_offsets(self._logits[self.fitted], self._y[self.fitted])
        words = ", ".join(f"{name} {offset:+.2f}" for name, offset in zip(CLASSES, offsets, strict=True))
        remedy = f"biases of the classes refitted: {words}"
        return self._trial(remedy, self._logits[self.held] + offsets, lambda checkpoint: shifted(checkpoint, offsets))

    @cached_property
    def reestimated(self) -> Trial | None:
        """Measure the statistics of batch normalization anew; None for a network without it."""
        network = self.subject.network
        if network is None or not network.batch_normalization:
            return None
        x = self.judged.x[self.fitted] if self.statistics is None else self.statistics
        x = x[:: max(1, len(x) // MOST_ROWS)]
        return self._network_trial(
            "statistics of batch normalization measured anew", lambda checkpoint: reestimated(checkpoint, x)
        )

    @cached_property
    def reordered(self) -> Trial | None:
        """Put the inputs into the best other order that there is reason to try; None where there is none."""
        network = self.subject.network
        if network is None:
            return None
        trials = []
        for found in find_orders(network, self.subject.features, self.judged.x[self.fitted]):

            def apply(checkpoint: Checkpoint, order: NDArray[np.intp] = found.order, both: bool = found.scaler_too) -> Checkpoint:  # noqa: FBT001
                return reordered(checkpoint, order, scaler_too=both)

            trials.append(self._network_trial(found.words, apply))
        return min(trials, key=lambda trial: trial.measures.log_loss, default=None)

    @cached_property
    def relabelled(self) -> Trial:
        """Read the outputs in the best other order of the classes, chosen on the fitting half."""
        logits, y = self._logits[self.fitted], self._y[self.fitted]
        others = [order for order in permutations(range(len(CLASSES))) if order != tuple(range(len(CLASSES)))]
        best = min(others, key=lambda order: metrics.log_loss_of_logits(logits[:, order], y))
        words = ", ".join(CLASSES[i] for i in np.argsort(best))
        remedy = f"outputs read as {words}"
        return self._trial(remedy, self._logits[self.held][:, best], lambda checkpoint: relabelled(checkpoint, best))

    @cached_property
    def pushes(self) -> tuple[Push, ...]:
        """How hard each feature pushes the first layer, hardest first; empty for a function."""
        network = self.subject.network
        return () if network is None else measure_pushes(network, self.subject.features, self._some)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """What each hidden layer makes of the rows; empty for a function."""
        network = self.subject.network
        return () if network is None else measure_layers(network, self._some)

    def measure(self, logits: Floats) -> Measures:
        """Measure logits of the held rows."""
        y, day = self._y[self.held], self.judged.day[self.held]
        p = softmax(logits)
        confidence, predicted = p.max(axis=1), p.argmax(axis=1)
        bins = metrics.n_bins(self.effective_rows * len(y) / len(self._y))
        return Measures(
            logit_abs_max=float(np.abs(logits).max()),
            logit_min=float(logits.min()),
            logit_max=float(logits.max()),
            confidence_over_99=float((confidence > 0.99).mean()),
            mean_confidence=float(confidence.mean()),
            predicted_share=tuple(metrics.shares(predicted).tolist()),
            class_bias=float(np.abs(p.mean(axis=0) - metrics.shares(y)).max()),
            ece=metrics.reliability(p, y, day, bins=bins).ece,
            log_loss=metrics.log_loss_of_logits(logits, y),
            accuracy=float((predicted == y).mean()),
        )

    @property
    def _logits(self) -> Floats:
        return self.judged.prediction.logits

    @property
    def _y(self) -> Ints:
        return self.judged.y

    @cached_property
    def _some(self) -> Floats:
        return self.judged.x[:: max(1, len(self._y) // INSIDE_ROWS)]

    @cached_property
    def _halves(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Every second day; a single day is cut in the middle."""
        day = self.judged.day
        odd = day % 2 == 1
        if odd.all() or not odd.any():
            odd = np.arange(len(day)) < len(day) // 2
        rows = np.arange(len(day))[:: max(1, -(-len(day) // MOST_ROWS))]
        return rows[odd[rows]], rows[~odd[rows]]

    def _network_trial(self, remedy: str, apply: Apply) -> Trial:
        assert self.subject.checkpoint is not None
        repaired = apply(self.subject.checkpoint)
        return self._trial(remedy, repaired.predict(self.judged.x[self.held]).logits, apply)

    def _trial(self, remedy: str, logits: Floats, apply: Apply | None = None) -> Trial:
        y, day = self._y[self.held], self.judged.day[self.held]
        if not np.isfinite(logits).all():
            logits = np.zeros_like(logits)  # a remedy that ends in nothing says nothing
        removed = metrics.row_log_loss(self._logits[self.held], y) - metrics.row_log_loss(logits, y)
        return Trial(
            remedy=remedy,
            measures=self.measure(logits),
            gain=metrics.mean_by_days(removed, day),
            apply=apply if self.subject.checkpoint is not None else None,
        )


def experiment_of(diagnosis: Diagnosis) -> Experiment | None:
    """Return the experiment on the rows of a diagnosis; None where its logits are not finite."""
    effective_rows = diagnosis.metrics.effective_rows
    if diagnosis.metrics.logit_abs_max is None or effective_rows is None:
        return None
    return Experiment(diagnosis.subject, diagnosis.judged, effective_rows)
