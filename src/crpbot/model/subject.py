"""What a diagnosis is about: a checkpoint, any function from features to predictions, or a file that holds no weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.features.sets import FeatureSet, feature_set
from crpbot.dataset.labels import CLASSES
from crpbot.errors import DatasetError
from crpbot.model.checkpoint import Checkpoint, Prediction
from crpbot.model.weights import Weights

Floats = NDArray[np.float64]
Output = Literal["probabilities", "logits"]

_LEAST = 1e-12
"""A probability of 0 counts as this: logits have to be finite."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Subject:
    """Something that predicts, or should.

    Attributes:
        features: names of its inputs, in their order.
        feature_set: that they are taken from.
        serve: logits of raw features as served, `(n, len(features))` → `(n, 3)`, float64; NaN where there is no model.
        checkpoint: whose network serves; None for a function and for a file without weights.
        holds: what a file without weights holds, in words; None for everything else.

    """

    features: tuple[str, ...]
    feature_set: FeatureSet
    serve: Callable[[Floats], Floats]
    checkpoint: Checkpoint | None = None
    holds: str | None = None

    @property
    def weights(self) -> Weights | None:
        """All numbers of the network, where there is one."""
        return None if self.checkpoint is None else self.checkpoint.weights

    def predict(self, x: Floats) -> Prediction:
        """Predict rows of raw features, shape `(n, len(features))`."""
        if self.checkpoint is not None and self.checkpoint.weights.members > 1:
            return self.checkpoint.predict(x)
        return Prediction.of(self.serve(x), None)


def subject_of(checkpoint: Checkpoint) -> Subject:
    """Return the subject that a checkpoint is."""
    return Subject(
        features=checkpoint.features,
        feature_set=checkpoint.feature_set,
        serve=checkpoint.network.serve,  # not a lambda: it can go to another process
        checkpoint=checkpoint,
    )


def function_subject(
    function: Callable[[Floats], Floats], *, features: tuple[str, ...], output: Output = "probabilities"
) -> Subject:
    """Return the subject that a function is: `predict_proba` of an estimator, or anything that gives logits.

    Args:
        function: of raw features, `(n, len(features))` → `(n, 3)`: DOWN, NEUTRAL, UP.
        features: names of its inputs in their order, from `founding-72` or `relative-72`.
        output: what it returns.

    Raises:
        DatasetError: a feature is unknown; when it is called: the result has another shape, or is no probability.

    """
    if not callable(function):
        raise DatasetError(f"a model must be a file or a function, found {type(function).__name__}; pass its predict_proba")
    sets = [feature_set(name) for name in ("founding-72", "relative-72")]
    chosen = next((one for one in sets if features and set(features) <= set(one.names)), None)
    if chosen is None or len(set(features)) != len(features):
        unknown = ", ".join(sorted(set(features) - set(sets[0].names))[:5]) or "none, or one twice"
        raise DatasetError(
            f"features must name the inputs of the function, each once and all of one set; found {unknown}; correct it"
        )

    def serve(x: Floats) -> Floats:
        found = np.asarray(function(x), np.float64)
        if found.shape != (len(x), len(CLASSES)):
            raise DatasetError(
                f"a model must return shape ({len(x)}, {len(CLASSES)}), found {found.shape}; order it DOWN, NEUTRAL, UP"
            )
        if output == "logits":
            return found
        if not (np.isfinite(found).all() and (found >= 0).all() and np.allclose(found.sum(axis=1), 1, atol=1e-4)):
            raise DatasetError(
                'probabilities must be at least 0 and add up to 1, found others; pass output="logits" if they are logits'
            )
        return np.log(np.maximum(found, _LEAST))

    return Subject(features=tuple(features), feature_set=chosen, serve=serve)


def weightless_subject(holds: str) -> Subject:
    """Return the subject of a file that holds no weights: it foretells nothing."""
    founding = feature_set("founding-72")
    return Subject(
        features=founding.names,
        feature_set=founding,
        serve=lambda x: np.full((len(x), len(CLASSES)), np.nan),
        holds=holds,
    )
