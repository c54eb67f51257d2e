"""The choices of a recipe: one section of its file each, with what a value must be."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.features.sets import FEATURE_SETS, FeatureSet, extend, feature_set
from crpbot.dataset.labels import Exits, LabelRule
from crpbot.dataset.splits import Split, split_by_rows
from crpbot.errors import RecipeError

Precision = Literal["float32", "bfloat16"]
LONGEST_NAME, MOST_TRIALS = 41, 1_000_000
"""Letters of a name, and trials of a recipe, at most."""
NAME = re.compile(rf"[a-z0-9][a-z0-9.-]{{0,{LONGEST_NAME - 1}}}")


def between(least: float, most: float) -> Mapping[str, Any]:
    """Return the rule of a number that may be either bound."""
    return {"rule": (f"between {least:,.10g} and {most:,.10g}", lambda value: least <= value <= most)}


def inside(least: float, most: float) -> Mapping[str, Any]:
    """Return the rule of a number that may be neither bound."""
    return {"rule": (f"above {least:,.10g} and below {most:,.10g}", lambda value: least < value < most)}


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureChoice:
    """Which columns the network sees: a feature set of the package, or one's own.

    Attributes:
        set: the name of a set of the package, or of the one that the next keys define.
        max_gap_minutes: missing minutes that do not yet start a new segment.
        base: the set of the package that one's own begins with; none by default.
        without: features of `base` to leave out; their names can still be used in formulas.
        where: formulas of parts that others share, by name.
        formulas: of one's own features, by name.

    """

    set: str = field(metadata={"rule": ("small letters, digits, dots and dashes", lambda value: bool(NAME.fullmatch(value)))})
    max_gap_minutes: int = field(default=0, metadata=between(0, 60))
    base: str = field(default="", metadata={"rule": (f"one of {', '.join(FEATURE_SETS)}", lambda value: value in FEATURE_SETS)})
    without: tuple[str, ...] = ()
    where: Mapping[str, str] = field(default_factory=dict)
    formulas: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        own = any((self.base, self.without, self.where, self.formulas))
        if own == (self.set in FEATURE_SETS):
            raise RecipeError(
                f"features.set must be one of {', '.join(FEATURE_SETS)}, or another name with formulas or a base of its own; "
                f"found {self.set!r} {'with' if own else 'without'} them; rename it or write them"
            )
        _ = self.table  # a formula that is none is found now, not after the candles were read

    @property
    def table(self) -> FeatureSet:
        """The feature set itself."""
        if self.set in FEATURE_SETS:
            return feature_set(self.set)
        return _own_set(self.set, self.base, self.without, tuple(self.where.items()), tuple(self.formulas.items()))


_Texts = tuple[tuple[str, str], ...]


@lru_cache(maxsize=16)
def _own_set(name: str, base: str, without: tuple[str, ...], where: _Texts, formulas: _Texts) -> FeatureSet:
    return extend(
        feature_set(base) if base else None,
        name=name,
        description="The features of the recipe itself.",
        without=without,
        where=dict(where),
        formulas=dict(formulas),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelChoice:
    """What the network foretells.

    Attributes:
        kind: `horizon` compares the log return over the next `horizon` candles with ±θ; `triple-barrier` says whether a long
            (UP) or a short trade (DOWN) from the close of the candle would win.
        horizon: in candles; a trade that has met no exit by then has expired.
        neutral_share: of `horizon`, share of the training rows that θ makes NEUTRAL.
        distance: of `triple-barrier`, what `stop` counts: multiples of the `atr`, or `percent` of the close.
        stop: of `triple-barrier`, from the entry to the stop loss.
        reward: of `triple-barrier`, the distance to the take profit over that to the stop loss.

    """

    kind: Literal["horizon", "triple-barrier"]
    horizon: int = field(metadata=between(1, 10_080))
    neutral_share: float = field(default=0.08, metadata=between(0, 0.9))
    distance: Literal["atr", "percent"] = "atr"
    stop: float = field(default=1.5, metadata=between(0.01, 100))
    reward: float = field(default=1.8, metadata=between(1, 100))

    def __post_init__(self) -> None:
        if self.distance == "percent" and self.stop * self.reward >= 100:
            found = f"{self.stop * self.reward:g}"
            raise RecipeError(f"label.stop times label.reward must be below 100 percent of the price, found {found}; lower one")

    @property
    def rule(self) -> LabelRule:
        """What decides a label, apart from θ."""
        return LabelRule(
            kind=self.kind, horizon=self.horizon, exits=Exits(distance=self.distance, stop=self.stop, reward=self.reward)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitChoice:
    """How rows become blocks. The test block is what training and calibration leave.

    Attributes:
        train: share of the rows.
        calibration: share of the rows.
        embargo: rows dropped after each boundary.

    """

    train: float = field(metadata=inside(0, 1))
    calibration: float = field(metadata=inside(0, 1))
    embargo: int = field(metadata=between(0, 100_000))

    def cut(self, time: NDArray[np.int64], known: NDArray[np.int64]) -> Split:
        """Cut the rows of one symbol, as `split_by_rows` does."""
        return split_by_rows(time, known, train=self.train, calibration=self.calibration, embargo=self.embargo)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkChoice:
    """The network.

    Attributes:
        hidden: width of each hidden layer.
        batch_normalization: after each hidden layer.
        dropout: after each hidden layer; 0 is none.
        normalizer: `fit` on training rows and part of the network; `none`, raw features; `lost`, used in training and
            then left out of the checkpoint (to show what that does).
        temperature: `learned` with the weights and then refitted, or `none`.
        initial_temperature: where a learned temperature starts.

    """

    hidden: tuple[int, ...] = field(
        metadata={
            "rule": (
                "a list of at most 63 widths from 1 to 4096",
                lambda value: 1 <= len(value) < 64 and all(1 <= w <= 4096 for w in value),
            )
        }
    )
    batch_normalization: bool
    dropout: float = field(metadata=between(0, 0.9))
    normalizer: Literal["fit", "none", "lost"]
    temperature: Literal["learned", "none"]
    initial_temperature: float = field(default=2.5, metadata=between(0.05, 20))


@dataclass(frozen=True, slots=True, kw_only=True)
class LossChoice:
    """What training makes small.

    Attributes:
        kind: `cross-entropy`, or `focal`: mean(α·(1 − exp(−ce))^γ·ce).
        label_smoothing: of the cross entropy inside either kind.
        alpha: α of `focal`.
        gamma: γ of `focal`.

    """

    kind: Literal["cross-entropy", "focal"]
    label_smoothing: float = field(metadata=between(0, 0.5))
    alpha: float = field(default=0.25, metadata=inside(0, 100))
    gamma: float = field(default=2.0, metadata=between(0, 10))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingChoice:
    """How the loss is made small, by Adam.

    Attributes:
        learning_rate: of the first epoch.
        schedule: `cosine` falls to 0 over the epochs; `constant` stays.
        batch_size: in rows.
        epochs: at most.
        patience: epochs without a better log loss on the calibration block, after the best temperature, before training stops.
        threads: of the processor; more than one is slower for networks of this size, and may change the last bits.
        precision: of what matrix products read while training: `float32`, or `bfloat16` for GPUs that are faster with it.
        weight_decay: share of the weights of the linear layers, times the learning rate, that each step takes away; 0 is none.
        averaging: over how many of the last steps weights are averaged before an epoch is judged, as an exponential mean; 0 is
            none, the weights as they are.

    """

    learning_rate: float = field(metadata=inside(0, 1))
    schedule: Literal["constant", "cosine"]
    batch_size: int = field(metadata=between(2, 1_000_000))
    epochs: int = field(metadata=between(1, 10_000))
    patience: int = field(metadata=between(1, 10_000))
    threads: int = field(default=1, metadata=between(1, 256))
    precision: Precision = "float32"
    weight_decay: float = field(default=0.0, metadata=between(0, 1))
    averaging: int = field(default=0, metadata=between(0, 1_000_000))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingChoice:
    """How long, and under which conditions, a model may speak.

    Attributes:
        expires_after_days: after the last candle that it was judged on; then it has to be proven or trained again.
        drift_limit: training deviations by which the mean of any feature over the last day may differ from its training mean.

    """

    expires_after_days: int = field(default=30, metadata=between(1, 3_650))
    drift_limit: float = field(default=3.0, metadata=inside(0, 1_000))


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleChoice:
    """How many networks a checkpoint holds, and what they speak with: the average of their probabilities, calibrated as a whole.

    Attributes:
        members: how many networks; 1 is none but the one.
        vary: what differs between them: the `seed`, on the same rows; or the `fold`: each leaves another block of the training
            rows out, and stops early by it.
        most_disagreement: standard deviation between the members, of the probability of the side they take together, above which
            there is no signal.

    """

    members: int = field(default=1, metadata=between(1, 64))
    vary: Literal["seed", "fold"] = "seed"
    most_disagreement: float = field(default=0.5, metadata=between(0, 0.5))

    def __post_init__(self) -> None:
        if self.members == 1 and self.vary == "fold":
            raise RecipeError('ensemble.vary must be "seed" where there is one member, found "fold"; raise ensemble.members')
