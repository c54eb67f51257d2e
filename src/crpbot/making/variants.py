"""Variants of a recipe that stand in the leaderboard beside it: each changes one thing, for a reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crpbot.model.recipe import Recipe, recipe_from_dict


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One change of a recipe.

    Attributes:
        name: follows that of the recipe.
        why: what is hoped of it, for people.
        changes: keys with new values, by section.

    """

    name: str
    why: str
    changes: Mapping[str, Mapping[str, Any]]


VARIANTS = (
    Variant(
        name="batch-1024",
        why="fewer and quieter steps",
        changes={"training": {"batch_size": 1_024, "learning_rate": 0.003}},
    ),
    Variant(
        name="cross-entropy",
        why="a proper score instead of the focal loss",
        changes={"loss": {"kind": "cross-entropy", "label_smoothing": 0.0}},
    ),
    Variant(
        name="relative",
        why="features without a price level",
        changes={"features": {"set": "relative-72"}},
    ),
)


def variant_recipe(base: Recipe, variant: Variant) -> Recipe:
    """Return `base` with the changes of a variant, under a name of its own.

    Raises:
        RecipeError: a key is unknown or a value impossible.

    """
    plain = base.to_dict()
    for section, changes in variant.changes.items():
        plain[section] = {**plain[section], **changes}
    name = f"{base.name}-{variant.name}"
    return recipe_from_dict({**plain, "name": name, "description": f"{base.name} with {variant.why}."}, where=name)
