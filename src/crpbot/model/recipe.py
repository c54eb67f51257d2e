"""A recipe: everything that decides a training run, as one TOML file."""

import difflib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from crpbot.errors import RecipeError
from crpbot.model.choices import (
    LONGEST_NAME,
    MOST_TRIALS,
    NAME,
    EnsembleChoice,
    FeatureChoice,
    LabelChoice,
    LossChoice,
    NetworkChoice,
    ServingChoice,
    SplitChoice,
    TrainingChoice,
    between,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides a training run.

    Attributes:
        name: becomes part of file names.
        description: one line for people.
        trials: how many recipes were tried before this one was chosen, itself included; an audit asks how far that explains a
            result.
        features, label, split, network, loss, training, ensemble, serving: the choices, one section of the file each.

    """

    name: str = field(metadata={"rule": ("small letters, digits, dots and dashes", lambda value: bool(NAME.fullmatch(value)))})
    description: str
    trials: int = field(default=1, metadata=between(1, MOST_TRIALS))
    features: FeatureChoice
    label: LabelChoice
    split: SplitChoice
    network: NetworkChoice
    loss: LossChoice
    training: TrainingChoice
    ensemble: EnsembleChoice = field(default_factory=EnsembleChoice)
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


def name_after(name: str, suffix: str) -> str:
    """Return the name of a recipe that was made of another: with a suffix, before which a long name is cut."""
    return name[: LONGEST_NAME - len(suffix)] + suffix


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
        return (files("crpbot.model") / "recipes" / f"{name_or_file}.toml").read_text(encoding="utf-8")
    if not Path(name_or_file).is_file():
        raise RecipeError(
            f"a recipe must be one of {', '.join(builtin_recipes())} or a TOML file; found neither at {name_or_file!r}"
        )
    try:
        return Path(name_or_file).read_text(encoding="utf-8")
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
