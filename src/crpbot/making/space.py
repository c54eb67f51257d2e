"""Where a better recipe is looked for: a few of its keys, each with a range or choices; one TOML file."""

import difflib
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, get_type_hints

from crpbot.errors import RecipeError
from crpbot.model.choices import LossChoice, NetworkChoice, TrainingChoice
from crpbot.model.recipe import Recipe, recipe_from_dict

_SECTIONS: Mapping[str, type] = {"network": NetworkChoice, "loss": LossChoice, "training": TrainingChoice}
"""What may be tuned: with other rows or other labels, two numbers would answer two questions."""
_KINDS = {f"{name}.{key}": kind for name, section in _SECTIONS.items() for key, kind in get_type_hints(section).items()}
_OTHERS = tuple(one.name for one in fields(Recipe) if one.name not in _SECTIONS)
_RANGE = ("low", "high", "log", "step")
_MOST = 10**15
"""No number of a recipe is so large, and whole numbers beyond are none of a float."""
_DIGITS = 12
"""Digits of a value on a grid: 0.1 + 0.2 is 0.3 for people, and in a recipe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One key of a recipe, and what it may be: `choices`, or numbers from `low` to `high`.

    Attributes:
        key: as `training.batch_size`.
        choices: of plain JSON types; none for a range.
        low: the least number.
        high: the greatest; may itself be met.
        step: between the numbers, counted from `low`; None for every number, or every whole one.
        log: whether 1 to 10 is as wide as 10 to 100.
        whole: whether the numbers are whole.

    """

    key: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    whole: bool = False

    def holds(self, value: Any) -> bool:  # noqa: ANN401
        """Return whether this could propose `value`, of plain JSON types."""
        if self.choices:
            return value in self.choices
        return self.low <= value <= self.high and bool(value == self.on_grid(value))

    def on_grid(self, value: float) -> float:
        """Return the number of the grid that is nearest to `value`; itself where there is no grid."""
        if self.step is None:
            return value
        near = self.low + round((value - self.low) / self.step) * self.step
        return near if self.whole else round(near, _DIGITS)


@dataclass(frozen=True, slots=True)
class Space:
    """Keys of a recipe and what they may be.

    Attributes:
        name: of the file, or of the one of the package.
        parameters: sorted by key.

    """

    name: str
    parameters: tuple[Parameter, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the space as plain JSON types, by key."""
        return {one.key: json.loads(json.dumps(asdict(one))) for one in self.parameters}

    def values(self, recipe: Recipe) -> dict[str, Any]:
        """Return what a recipe has for each key."""
        plain = recipe.to_dict()
        return {one.key: _at(plain, one.key) for one in self.parameters}

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Return whether all `values` could be proposed."""
        return all(one.holds(values[one.key]) for one in self.parameters)


def read_space(file: str | None, base: Recipe) -> Space:
    """Return the space of a TOML file, proven against the rules of recipes; None is that of the package.

    Args:
        file: where it is.
        base: recipe that is to be tuned.

    Raises:
        RecipeError: the file is none, or names a key or a value that a recipe may not have.

    """
    if file is None:
        text = (files("crpbot.making") / "spaces" / "default.toml").read_text(encoding="utf-8")
        return space_from_toml(text, base, where="the default space")
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"a space must be a readable TOML file, found {error} at {file}; check the path") from None
    return space_from_toml(text, base, where=file)


def space_from_toml(text: str, base: Recipe, *, where: str) -> Space:
    """Read a space from TOML; `where` names it in errors. Keys may be dotted and quoted, or stand in sections."""
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{where} must be TOML: {error}; correct that line") from None
    flat: dict[str, Any] = {}
    for key, value in table.items():
        inner = {f"{key}.{name}": one for name, one in value.items()} if key in _SECTIONS and isinstance(value, dict) else {}
        if both := sorted(flat.keys() & (inner or {key: None}).keys()):
            raise RecipeError(f"{where} must have each key once, found {both[0]} twice; leave out one")
        flat |= inner or {key: value}
    if not flat:
        raise RecipeError(f'{where} must name what to tune, found nothing; write "training.batch_size" = {{choices = [64, 256]}}')
    found = [_parameter(key, value, where) for key, value in sorted(flat.items())]
    for parameter in found:
        _prove(parameter, base, where)
    return Space(Path(where).name, tuple(found))


def with_values(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return the recipe with other values, by key, of plain JSON types.

    Raises:
        RecipeError: a recipe may not have one of them.

    """
    plain = recipe.to_dict()
    for key, value in values.items():
        section, _, name = key.partition(".")
        plain[section][name] = value
    return recipe_from_dict(plain, where=recipe.name)


def _at(plain: Mapping[str, Any], key: str) -> Any:  # noqa: ANN401
    section, _, name = key.partition(".")
    return plain[section][name]


def _parameter(key: str, table: Any, where: str) -> Parameter:  # noqa: ANN401
    _check_key(key, where)
    place = f"{where}: {key}"
    if not isinstance(table, Mapping):
        raise RecipeError(
            f"{place} must be a range or choices, found {table!r}; write {{low = …, high = …}} or {{choices = […]}}"
        )
    number = _KINDS[key] in (int, float)
    allowed = ("choices", *(_RANGE if number else ()))
    for name in table:
        if name not in allowed:
            raise RecipeError(f"{place} may have {', '.join(allowed)}, found {name!r}; {_hint(name, allowed)}")
    if "choices" in table:
        return _choices(key, table, place)
    if not number:
        raise RecipeError(f"{place} is no number and must have choices, found none; write {{choices = [one, another]}}")
    return _range(key, table, place, whole=_KINDS[key] is int)


def _check_key(key: str, where: str) -> None:
    if key in _KINDS:
        return
    if key.partition(".")[0] in _OTHERS:
        raise RecipeError(
            f"{where} must leave {key} as the recipe has it, since another one would be another question; tune keys of "
            f"{', '.join(_SECTIONS)}"
        )
    raise RecipeError(f"{where} has only keys of a recipe, found {key!r}; {_hint(key, tuple(_KINDS))}")


def _hint(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else f"they are {', '.join(known)}"


def _choices(key: str, table: Mapping[str, Any], place: str) -> Parameter:
    choices = table["choices"]
    if len(table) > 1:
        raise RecipeError(f"{place} must have choices or a range, found both; leave out one")
    if not isinstance(choices, list) or len(choices) < 2:
        raise RecipeError(f"{place} must have at least two choices, found {choices!r}; add some, or leave out the key")
    if len({json.dumps(one, default=str) for one in choices}) < len(choices):
        raise RecipeError(f"{place} must have different choices, found {choices!r}; leave out what is there twice")
    return Parameter(key=key, choices=tuple(choices))


def _range(key: str, table: Mapping[str, Any], place: str, *, whole: bool) -> Parameter:
    for name in ("low", "high", "step"):
        if name in table:
            _check_number(table[name], f"{place}: {name}", whole=whole)
        elif name != "step":
            raise RecipeError(f"{place} must have low and high, or choices; found no {name}: add it")
    low, high, step, log = table["low"], table["high"], table.get("step"), table.get("log", False)
    if not low < high:
        raise RecipeError(f"{place} must have low below high, found {low} and {high}; correct one")
    if type(log) is not bool or (log and (low <= 0 or step is not None)):
        raise RecipeError(
            f"{place} may have log = true where low is above 0 and there is no step, found {dict(table)}; correct it"
        )
    if step is not None:
        steps = (high - low) / step if step > 0 else 0.0  # infinite where a step is next to nothing
        if not 1 <= steps <= _MOST or not math.isclose(steps, round(steps), rel_tol=1e-9):
            raise RecipeError(f"{place} must reach high in whole steps above 0, found {low} to {high} by {step}; correct one")
    return Parameter(key=key, low=low, high=high, step=step, log=log, whole=whole)


def _check_number(value: Any, place: str, *, whole: bool) -> None:  # noqa: ANN401
    if type(value) is not int and (whole or type(value) is not float or not math.isfinite(value)):
        raise RecipeError(f"{place} must be a {'whole ' if whole else ''}number, found {value!r}; correct it")
    if abs(value) > _MOST:
        raise RecipeError(f"{place} must be between -1e15 and 1e15, found {value!s:.20}; correct it")


def _prove(parameter: Parameter, base: Recipe, where: str) -> None:
    """Raise `RecipeError` where a recipe may not have one of the values; the rules of numbers are bounds, so the ends tell."""
    for value in parameter.choices or (parameter.low, parameter.high):
        try:
            recipe = with_values(base, {parameter.key: value})
        except RecipeError as error:
            raise RecipeError(f"{where}: {str(error).removeprefix(f'{base.name}: ')}") from None
        if recipe.network.normalizer == "lost" and base.network.normalizer != "lost":
            raise RecipeError(
                f'{where}: {parameter.key} may not be "lost", which shows a fault that training cannot see; drop it'
            )
