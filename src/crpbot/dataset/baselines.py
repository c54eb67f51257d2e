"""What a model has to beat: the best rule of one feature."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.labels import CLASSES

N_CUTS = 19
"""Candidate thresholds of a feature: its training quantiles at 5 %, 10 %, … 95 %."""


@dataclass(frozen=True, slots=True)
class OneFeatureRule:
    """One class where a feature is at or below a threshold, another where it is above: a decision stump.

    (Holte, "Very simple classification rules perform well on most commonly used datasets", Machine Learning 11, 1993.)

    Attributes:
        feature: the name of the feature.
        threshold: in the feature's unit.
        below: the class at or below the threshold, as its number.
        above: the class above it.
        training_accuracy: share of training rows that the rule gets right.

    """

    feature: str
    threshold: float
    below: int
    above: int
    training_accuracy: float

    def __str__(self) -> str:
        return f"{CLASSES[self.below]} where {self.feature} <= {self.threshold:.6g}, else {CLASSES[self.above]}"

    def predict(self, x: NDArray[np.float64], names: tuple[str, ...]) -> NDArray[np.int64]:
        """Return the class of each row of `x`, shape `(n,)`."""
        return np.where(x[:, names.index(self.feature)] <= self.threshold, self.below, self.above)


def best_one_feature_rule(x: NDArray[np.float64], y: NDArray[np.int64], names: tuple[str, ...]) -> OneFeatureRule:
    """Return the rule with the highest accuracy on these rows; pass training rows only.

    Args:
        x: features, shape `(n, len(names))`.
        y: labels, shape `(n,)`.
        names: of the features.

    """
    best = OneFeatureRule(names[0], 0.0, 0, 0, -1.0)
    total = np.bincount(y, minlength=len(CLASSES))
    for column, name in enumerate(names):
        values = x[:, column]
        cuts = np.unique(np.quantile(values, np.linspace(0, 1, N_CUTS + 2)[1:-1]))
        place = np.searchsorted(cuts, values, side="left")  # 0 where value <= the first cut
        counts = np.bincount(place * len(CLASSES) + y, minlength=(len(cuts) + 1) * len(CLASSES))
        below = counts.reshape(-1, len(CLASSES))[:-1].cumsum(axis=0)
        above = total - below
        right = below.max(axis=1) + above.max(axis=1)
        cut = int(right.argmax())
        accuracy = float(right[cut] / len(y))
        if accuracy > best.training_accuracy:
            best = OneFeatureRule(name, float(cuts[cut]), int(below[cut].argmax()), int(above[cut].argmax()), accuracy)
    return best
