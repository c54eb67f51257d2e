"""A recipe: everything that decides a training run, as one TOML file."""

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.features.sets import FEATURE_SETS, FeatureSet, extend, feature_set
from crpbot.dataset.labels import Exits, LabelRule
from crpbot.dataset.splits import Split, split_by_rows
from crpbot.errors import RecipeError

Precision = Literal["float32", "bfloat16"]
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,40}")


def _between(least: float, most: float) -> Mapping[str, Any]:
    return {"rule": (f"between {least:g} and {most:g}", lambda value: least <= value <= most)}


def _inside(least: float, most: float) -> Mapping[str, Any]:
    return {"rule": (f"above {least:g} and below {most:g}", lambda value: least < value < most)}


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

    set: str = field(metadata={"rule": ("small letters, digits, dots and dashes", lambda value: bool(_NAME.fullmatch(value)))})
    max_gap_minutes: int = field(default=0, metadata=_between(0, 60))
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
    horizon: int = field(metadata=_between(1, 10_080))
    neutral_share: float = field(default=0.08, metadata=_between(0, 0.9))
    distance: Literal["atr", "percent"] = "atr"
    stop: float = field(default=1.5, metadata=_between(0.01, 100))
    reward: float = field(default=1.8, metadata=_between(1, 100))

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

    train: float = field(metadata=_inside(0, 1))
    calibration: float = field(metadata=_inside(0, 1))
    embargo: int = field(metadata=_between(0, 100_000))

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
    dropout: float = field(metadata=_between(0, 0.9))
    normalizer: Literal["fit", "none", "lost"]
    temperature: Literal["learned", "none"]
    initial_temperature: float = field(default=2.5, metadata=_between(0.05, 20))


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
    label_smoothing: float = field(metadata=_between(0, 0.5))
    alpha: float = field(default=0.25, metadata=_inside(0, 100))
    gamma: float = field(default=2.0, metadata=_between(0, 10))


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

    """

    learning_rate: float = field(metadata=_inside(0, 1))
    schedule: Literal["constant", "cosine"]
    batch_size: int = field(metadata=_between(2, 1_000_000))
    epochs: int = field(metadata=_between(1, 10_000))
    patience: int = field(metadata=_between(1, 10_000))
    threads: int = field(default=1, metadata=_between(1, 256))
    precision: Precision = "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingChoice:
    """How long, and under which conditions, a model may speak.

    Attributes:
        expires_after_days: after the last candle that it was judged on; then it has to be proven or trained again.
        drift_limit: training deviations by which the mean of any feature over the last day may differ from its training mean.

    """

    expires_after_days: int = field(default=30, metadata=_between(1, 3_650))
    drift_limit: float = field(default=3.0, metadata=_inside(0, 1_000))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides a training run.

    Attributes:
        name: becomes part of file names.
        description: one line for people.
        features, label, split, network, loss, training, serving: the choices, one section of the file each.

    """

    name: str = field(metadata={"rule": ("small letters, digits, dots and dashes", lambda value: bool(_NAME.fullmatch(value)))})
    description: str
    features: FeatureChoice
    label: LabelChoice
    split: SplitChoice
    network: NetworkChoice
    loss: LossChoice
    training: TrainingChoice
    serving: ServingChoice = field(default_factory=ServingChoice)

    def __post_init__(self) -> None:
        shares = self.split.train + self.split.calibration
        if shares >= 1:
            raise RecipeError(
                f"split.train and split.calibration must leave rows for the test block, found {shares:g} in all; lower one"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain JSON types; `recipe_from_dict` reads it back."""
        plain = asdict(self)
        plain["network"]["hidden"] = list(self.network.hidden)
        own = {key: list(value) if isinstance(value, tuple) else value for key, value in plain["features"].items()}
        plain["features"] = {key: value for key, value in own.items() if value not in ("", [], {})}
        return plain

    def to_toml(self) -> str:
        """Return the recipe as TOML; `recipe_from_toml` reads it back."""
        plain = self.to_dict()
        sections = {key: value for key, value in plain.items() if isinstance(value, dict)}
        text = "".join(_toml(key, value) for key, value in plain.items() if key not in sections)
        return text + "".join(_section(name, section) for name, section in sections.items())


def _section(name: str, table: Mapping[str, Any]) -> str:
    parts = {key: value for key, value in table.items() if isinstance(value, dict)}
    text = f"\n[{name}]\n" + "".join(_toml(key, value) for key, value in table.items() if key not in parts)
    return text + "".join(_section(f"{name}.{key}", part) for key, part in parts.items())


def _toml(key: str, value: Any) -> str:  # noqa: ANN401
    return f"{key} = {json.dumps(value, ensure_ascii=False)}\n"  # for these types, JSON's notation is TOML's


def builtin_recipes() -> tuple[str, ...]:
    """Return the names of the recipes in the package."""
    folder = files("crpbot.model") / "recipes"
    return tuple(sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml")))


def load_recipe(name_or_file: str) -> Recipe:
    """Return the recipe of that name, or of that TOML file.

    Raises:
        RecipeError: there is none, or a key is unknown, missing or impossible.

    """
    return recipe_from_toml(recipe_text(name_or_file), where=name_or_file)


def recipe_text(name_or_file: str) -> str:
    """Return the TOML of the recipe of that name, or of that file."""
    if name_or_file in builtin_recipes():
        return (files("crpbot.model") / "recipes" / f"{name_or_file}.toml").read_text()
    if not Path(name_or_file).is_file():
        raise RecipeError(
            f"a recipe must be one of {', '.join(builtin_recipes())} or a TOML file; found neither at {name_or_file!r}"
        )
    try:
        return Path(name_or_file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{name_or_file} must be a readable TOML file: {error}; check the file") from None


def recipe_from_toml(text: str, *, where: str = "the recipe") -> Recipe:
    """Read a recipe from TOML; `where` names it in errors."""
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a decoding error is a ValueError; so is a number of 5,000 digits
        raise RecipeError(f"{where} must be TOML: {error}; correct that line") from None
    return recipe_from_dict(table, where=where)


def recipe_from_dict(table: Mapping[str, Any], *, where: str = "the recipe") -> Recipe:
    """Read a recipe from plain types, as `Recipe.to_dict` gives them."""
    recipe = _read(Recipe, table, where)
    assert isinstance(recipe, Recipe)
    return recipe


def _read(kind: type, table: Any, where: str) -> Any:  # noqa: ANN401
    if not isinstance(table, Mapping):
        raise RecipeError(f"{where} must be a section with keys, found {table!r}; write it as [section]")
    known = {f.name: f for f in fields(kind)}
    _check_keys(table, known, where)
    types = get_type_hints(kind)
    values = {}
    for name, one in known.items():
        if name not in table:
            if one.default is MISSING and one.default_factory is MISSING:
                raise RecipeError(f"{where} must have the key {name!r}, found none; add it (see recipe v7)")
            continue
        place = f"{where}: {name}"
        value = table[name]
        if hasattr(types[name], "__dataclass_fields__"):
            values[name] = _read(types[name], value, place)
            continue
        values[name] = _convert(types[name], value, place)
        if rule := one.metadata.get("rule"):
            words, holds = rule
            if not holds(values[name]):
                raise RecipeError(f"{place} must be {words}, found {value!r}; correct it")
    return kind(**values)


def _check_keys(table: Mapping[Any, Any], known: Mapping[str, object], where: str) -> None:
    for key in table:
        if not isinstance(key, str):
            raise RecipeError(f"{where} has only known keys, found {key!r}; the keys are {', '.join(known)}")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(known)}"
            raise RecipeError(f"{where} has only known keys, found {key!r}; {hint}")


def _convert(kind: Any, value: Any, place: str) -> Any:  # noqa: ANN401
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise RecipeError(f"{place} must be one of {', '.join(get_args(kind))}, found {value!r}; choose one")
        return value
    if get_origin(kind) is tuple:
        item, _ = get_args(kind)
        if not isinstance(value, list) or not all(type(one) is item for one in value):
            words = {int: "whole numbers", str: "texts"}[item]
            raise RecipeError(f"{place} must be a list of {words}, found {value!r}; correct it")
        return tuple(value)
    if get_origin(kind) is Mapping:
        if not isinstance(value, Mapping) or not all(type(one) is str for pair in value.items() for one in pair):
            raise RecipeError(f"{place} must be a section of texts, found {value!r:.200}; write it as [section]")
        return dict(value)
    if kind is float and type(value) is int and abs(value) < 2**53:
        return float(value)
    if type(value) is str and not value.isprintable():
        raise RecipeError(f"{place} must be one line of printable text, found {value!r:.80}; correct it")
    if type(value) is not kind:
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[kind]
        raise RecipeError(f"{place} must be {words}, found {value!r}; correct it")
    return value
