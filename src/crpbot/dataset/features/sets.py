"""Feature sets: tables of formulas, by name. The package brings two; a recipe may bring its own."""

import ast
import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import files
from types import MappingProxyType

from crpbot.dataset.features.formulas import compile_formulas
from crpbot.dataset.features.program import Program, Unit
from crpbot.errors import DatasetError, RecipeError
from crpbot.market.candles import utc


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """What a model sees: a table of formulas, in the order of the network's inputs.

    Attributes:
        name: of the set.
        description: one line for people.
        formulas: text of each feature by its name; `formulas` explains the language.
        where: text of the parts that formulas share, by name.
        program: the steps that compute the features.

    Raises:
        RecipeError: a formula is not one.

    """

    name: str
    description: str
    formulas: Mapping[str, str]
    where: Mapping[str, str]
    program: Program = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "program", compile_formulas(self.formulas, self.where, what=f"feature set {self.name}"))

    def __len__(self) -> int:
        return len(self.formulas)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the features, in order."""
        return tuple(self.formulas)

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """Unit of each feature, worked out from its formula."""
        return tuple(self.program.steps[output].unit for output in self.program.outputs)

    @cached_property
    def warm_up(self) -> int:
        """Candles at the start of a segment that have no features: the longest window less one, 199 for the founding set."""
        return self.program.warm_up

    @cached_property
    def memory(self) -> int:
        """Candles of a segment after which it does not matter where it began; 2,500 for the sets of the package."""
        return self.program.memory

    @cached_property
    def sha256(self) -> str:
        """Digest of what is computed: the formulas with their names and parts, in order, however they are spaced."""
        texts = [
            [name, ast.unparse(ast.parse(text.strip()))] for table in (self.formulas, self.where) for name, text in table.items()
        ]
        return hashlib.sha256(json.dumps([len(self.formulas), texts]).encode()).hexdigest()

    def not_finite(self, column: int, value: float, time: int) -> DatasetError:
        """Return the error of a feature, by its column, that is not finite at `time`."""
        return DatasetError(
            f"feature {self.names[column]} of {self.name} must be finite, found {value} at {utc(time)}; "
            "rewrite its formula so that it cannot overflow"
        )

    def only(self, *names: str) -> "FeatureSet":
        """Return a set of some of these features, in the order of this set."""
        for unknown in (name for name in names if name not in self.formulas):
            raise RecipeError(f"feature set {self.name} has no feature {unknown!r}; it has {', '.join(self.names)}")
        left = [name for name in self.names if name not in names]
        return extend(self, name=f"{self.name}: {', '.join(names)}", description=self.description, without=left)


def extend(
    base: FeatureSet | None,
    *,
    name: str,
    description: str,
    without: Sequence[str] = (),
    where: Mapping[str, str] = MappingProxyType({}),
    formulas: Mapping[str, str] = MappingProxyType({}),
) -> FeatureSet:
    """Return the features of `base` but those in `without`, then `formulas`, which may use every name of `base`.

    Raises:
        RecipeError: a formula is not one, a name is defined twice, or `without` names a feature that `base` does not have.

    """
    theirs = {} if base is None else base.formulas
    shared = {} if base is None else base.where
    for unknown in (one for one in without if one not in theirs):
        raise RecipeError(f"feature set {name}: without must name features of its base, found {unknown!r}; correct it")
    for twice in [one for one in (*where, *formulas) if one in theirs or one in shared]:
        raise RecipeError(f"feature set {name} must not define {twice!r} again, its base has that name; choose another")
    kept = {one: text for one, text in theirs.items() if one not in without}
    dropped = {one: theirs[one] for one in without}
    return FeatureSet(name, description, {**kept, **formulas}, {**shared, **dropped, **where})


FEATURE_SETS = ("founding-72", "relative-72")
"""The feature sets of the package."""


@cache
def feature_set(name: str) -> FeatureSet:
    """Return the feature set of the package with that name.

    Raises:
        RecipeError: there is none.

    """
    if name not in FEATURE_SETS:
        raise RecipeError(f"a feature set must be one of {', '.join(FEATURE_SETS)}, found {name!r}; choose one")
    table = tomllib.loads((files("crpbot.dataset.features") / "sets" / f"{name}.toml").read_text(encoding="utf-8"))
    return extend(
        feature_set(table["base"]) if "base" in table else None,
        name=name,
        description=table["description"],
        without=table.get("without", ()),
        where=table.get("where", {}),
        formulas=table["features"],
    )


@cache
def average_true_range() -> FeatureSet:
    """Return the set of `atr_14` alone, in which the distances of orders and of `triple-barrier` labels are counted."""
    return feature_set("founding-72").only("atr_14")


@cache
def recent_volatility() -> FeatureSet:
    """Return the set of `volatility_50` alone, by which regimes are told apart."""
    return feature_set("founding-72").only("volatility_50")
