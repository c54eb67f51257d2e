"""What-ifs: a remedy is fitted on one half of the rows and judged on the other, against the model as it is served.

The halves are every second block of time, so that both see the whole span: price levels drift. A block is a UTC day, or a
twentieth of fewer than twenty days, and never less than four hours.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.labels import CLASSES
from crpbot.market.candles import MINUTE
from crpbot.model.calibration import fit_offsets, fit_temperature, row_log_loss, softmax
from crpbot.model.checkpoint import Checkpoint
from crpbot.model.remedies import reestimated, relabelled, reordered, shifted, standardized, tempered
from crpbot.model.subject import Subject
from crpbot.model.weights import Scaling
from crpbot.quality import metrics
from crpbot.quality.bootstrap import DAY, block_length, longest_label
from crpbot.quality.diagnosis import Diagnosis
from crpbot.quality.layers import Layer, Push, measure_layers, measure_pushes
from crpbot.quality.metrics import Floats, Ints, Mean
from crpbot.quality.order import Order, find_orders
from crpbot.quality.reliability import calibration_error, n_bins
from crpbot.quality.rows import Judged

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
        knowledge: nats by which it then beats always saying the actual shares of those rows, likewise.
        blocks: of rows, behind the standard errors.
        apply: does it to a checkpoint; None where there is only a function.
        outputs_only: whether it changes what is said and not what is seen.

    """

    remedy: str
    measures: Measures
    gain: Mean
    knowledge: Mean
    blocks: int
    apply: Apply | None = None
    outputs_only: bool = False

    @property
    def proven(self) -> bool:
        """Whether the gain is above a hundredth of a nat, and stands out of chance though several remedies are tried."""
        return self.gain.value > LEAST_GAIN and stands_out(self.gain, self.blocks)

    @property
    def knowing(self) -> bool:
        """Whether it then beats always saying the actual shares, out of chance."""
        return self.knowledge.value > 0 and stands_out(self.knowledge, self.blocks)


def stands_out(mean: Mean, blocks: int) -> bool:
    """Return whether a mean differs from 0 by more than chance would; never where its error is unknown.

    The bar is the 99.65 % quantile of Student's distribution (5 % for eight remedies, both sides), by its expansion around
    the normal one (Abramowitz & Stegun, 1964, 26.7.5).
    """
    if blocks < 2:
        return False
    z, freedom = QUANTILE, blocks - 1
    bar = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return abs(mean.value) > bar * mean.error


LEAST_GAIN = 0.01
QUANTILE = 2.7


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
    def standardized(self) -> Trial | None:
        """Feed the model inputs standardized by the candles' own statistics; None for a function that refuses them."""
        judged = self.judged
        x = judged.x[self.fitted] if self.statistics is None else self.statistics
        if self.subject.checkpoint is not None:
            return self._network_trial(STANDARDIZED, lambda one: standardized(one, x))
        scaling = Scaling.fit(x)
        z = (judged.x[self.held] - scaling.mean) / scaling.scale
        try:
            return self._trial(STANDARDIZED, self.subject.serve(z))
        except Exception:  # noqa: BLE001  whatever a function of somebody else raises of inputs that it does not know
            return None

    @cached_property
    def standardized_and_shifted(self) -> Trial | None:
        """Refit the biases of the classes behind standardized inputs, for who balanced the classes; None for a function."""
        checkpoint, x = self.subject.checkpoint, self.judged.x[self.fitted]
        if checkpoint is None:
            return None
        base = standardized(checkpoint, x if self.statistics is None else self.statistics)
        offsets = fit_offsets(base.predict(x).logits, self._y[self.fitted])

        def apply(one: Checkpoint) -> Checkpoint:
            return shifted(standardized(one, x if self.statistics is None else self.statistics), offsets)

        return self._network_trial(f"{STANDARDIZED}, and the biases of the classes refitted", apply)

    @cached_property
    def temperature(self) -> float:
        """What the served logits should be divided by: the most likely factor on the fitting half, within 1e-3 and 1e6."""
        return fit_temperature(self._logits[self.fitted], self._y[self.fitted], least=1e-3, most=1e6)

    @cached_property
    def tempered(self) -> Trial:
        """Refit the temperature."""
        factor = self.temperature
        remedy = f"temperature refitted: logits divided by {factor:.3g}"
        return self._output_trial(remedy, self._logits[self.held] / factor, lambda one: tempered(one, factor))

    @cached_property
    def shifted(self) -> Trial:
        """Refit the biases of the classes."""
        offsets = fit_offsets(self._logits[self.fitted], self._y[self.fitted])
        words = ", ".join(f"{name} {offset:+.2f}" for name, offset in zip(CLASSES, offsets, strict=True))
        remedy = f"biases of the classes refitted: {words}"
        return self._output_trial(remedy, self._logits[self.held] + offsets, lambda one: shifted(one, offsets))

    @cached_property
    def reestimated(self) -> Trial | None:
        """Measure the statistics of batch normalization anew; None for a network without it."""
        weights = self.subject.weights
        if weights is None or not weights.batch_normalization:
            return None
        x = self.judged.x[self.fitted] if self.statistics is None else self.statistics
        x = x[:: max(1, len(x) // MOST_ROWS)]
        return self._network_trial(
            "statistics of batch normalization measured anew", lambda checkpoint: reestimated(checkpoint, x)
        )

    @cached_property
    def reordered(self) -> tuple[Order, Trial] | None:
        """Put the inputs into the best other order that there is reason to try, by the fitting half; None where there is none."""
        checkpoint, fitted = self.subject.checkpoint, self.fitted[:: max(1, len(self.fitted) // INSIDE_ROWS)]
        if checkpoint is None:
            return None

        def on_fitting_half(found: Order) -> float:
            logits = reordered(checkpoint, found.order, scaler_too=found.scaler_too).predict(self.judged.x[fitted]).logits
            return metrics.log_loss_of_logits(logits, self._y[fitted])

        orders = find_orders(checkpoint.weights, self.subject.features, self.judged.x[self.fitted])
        best = min(orders, key=on_fitting_half, default=None)
        if best is None:
            return None
        trial = self._network_trial(best.words, lambda one: reordered(one, best.order, scaler_too=best.scaler_too))
        return best, trial

    @cached_property
    def relabelled(self) -> Trial:
        """Read the outputs in the best other order of the classes, chosen on the fitting half."""
        logits, y = self._logits[self.fitted], self._y[self.fitted]
        others = [order for order in permutations(range(len(CLASSES))) if order != tuple(range(len(CLASSES)))]
        best = min(others, key=lambda order: metrics.log_loss_of_logits(logits[:, order], y))
        words = ", ".join(CLASSES[i] for i in np.argsort(best))
        remedy = f"outputs read as {words}"
        return self._output_trial(remedy, self._logits[self.held][:, best], lambda one: relabelled(one, best))

    @cached_property
    def pushes(self) -> tuple[Push, ...]:
        """How hard each feature pushes the first layer, hardest first; empty for a function."""
        weights = self.subject.weights
        return () if weights is None else measure_pushes(weights, self.subject.features, self._some)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """What each hidden layer makes of the rows; empty for a function."""
        weights = self.subject.weights
        return () if weights is None else measure_layers(weights, self._some)

    def over_chance(self, x: Floats) -> float:
        """Return the mean of `x`, one number for each row, or 0 where chance may have made it."""
        mean = metrics.mean_by_days(x, self.block)
        return mean.value if stands_out(mean, len(np.unique(self.block))) else 0.0

    def measure(self, logits: Floats) -> Measures:
        """Measure logits of the held rows."""
        y = self._y[self.held]
        p = softmax(logits)
        confidence, predicted = p.max(axis=1), p.argmax(axis=1)
        bins = n_bins(self.effective_rows * len(y) / len(self._y))
        return Measures(
            logit_abs_max=float(np.abs(logits).max()),
            logit_min=float(logits.min()),
            logit_max=float(logits.max()),
            confidence_over_99=float((confidence > 0.99).mean()),
            mean_confidence=float(confidence.mean()),
            predicted_share=tuple(metrics.shares(predicted).tolist()),
            class_bias=float(np.abs(p.mean(axis=0) - metrics.shares(y)).max()),
            ece=calibration_error(p, y, bins=bins),
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
    def block(self) -> Ints:
        """The number of each row's block of time."""
        time = self.judged.time
        length = block_length(int(time[-1] - time[0]) + MINUTE, longest=longest_label(time, self.judged.known))
        return time // DAY if length == DAY else (time - time[0]) // length

    @cached_property
    def _halves(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Every second block; a single block is cut in the middle."""
        odd = self.block % 2 == 1
        if odd.all() or not odd.any():
            odd = np.arange(len(odd)) < len(odd) // 2
        rows = np.arange(len(odd))[:: -(-len(odd) // MOST_ROWS)]
        return rows[odd[rows]], rows[~odd[rows]]

    def _network_trial(self, remedy: str, apply: Apply, *, outputs_only: bool = False) -> Trial:
        assert self.subject.checkpoint is not None
        repaired = apply(self.subject.checkpoint)
        return self._trial(remedy, repaired.predict(self.judged.x[self.held]).logits, apply, outputs_only=outputs_only)

    def _output_trial(self, remedy: str, logits: Floats, apply: Apply) -> Trial:
        """Try what is done to outputs alone; in an ensemble it is done to each member, so the ensemble has to be asked."""
        weights = self.subject.weights
        if weights is not None and weights.members > 1:
            return self._network_trial(remedy, apply, outputs_only=True)
        return self._trial(remedy, logits, apply, outputs_only=True)

    def _trial(self, remedy: str, logits: Floats, apply: Apply | None = None, *, outputs_only: bool = False) -> Trial:
        y, block = self._y[self.held], self.block[self.held]
        finite = bool(np.isfinite(logits).all())
        after = logits if finite else np.zeros_like(logits)
        loss = row_log_loss(after, y)
        removed = row_log_loss(self._logits[self.held], y) - loss
        unknown = Mean(float("nan"), float("nan"))  # a remedy that ends in nothing proves nothing
        return Trial(
            remedy=remedy,
            measures=self.measure(after),
            gain=metrics.mean_by_days(removed, block) if finite else unknown,
            knowledge=metrics.mean_by_days(-np.log(metrics.shares(y)[y]) - loss, block) if finite else unknown,
            blocks=len(np.unique(block)),
            apply=apply if self.subject.checkpoint is not None else None,
            outputs_only=outputs_only,
        )


def experiment_of(diagnosis: Diagnosis) -> Experiment | None:
    """Return the experiment on the rows of a diagnosis; None where its logits are not finite."""
    effective_rows = diagnosis.metrics.effective_rows
    if diagnosis.metrics.logit_abs_max is None or effective_rows is None:
        return None
    return Experiment(diagnosis.subject, diagnosis.judged, effective_rows)
