"""Variants of a recipe that stand in the leaderboard beside it: each adds one change to those before, for a reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crpbot.model.recipe import Recipe, name_after, recipe_from_dict


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One change of a recipe.

    Attributes:
        name: follows that of the recipe.
        why: what is hoped of it, for people.
        changes: keys with new values, by section; of the features, they replace all but the minutes of a gap.
        after: the variant that it adds to; the recipe itself by default.

    """

    name: str
    why: str
    changes: Mapping[str, Mapping[str, Any]]
    after: str | None = None


CONTEXT: Mapping[str, str] = {
    "candle_position": "ratio(close - low, high - low, 0.5)",
    "efficiency_15": "ratio(close - lag(close, 15), sum(abs(close - lag(close, 1)), 15), 0)",
    "efficiency_60": "ratio(close - lag(close, 60), sum(abs(close - lag(close, 1)), 60), 0)",
    "flow_5": "ratio(sum(volume * returns, 5), sum(volume, 5), 0)",
    "flow_15": "ratio(sum(volume * returns, 15), sum(volume, 15), 0)",
    "flow_60": "ratio(sum(volume * returns, 60), sum(volume, 60), 0)",
    "move_1": "ratio(returns, volatility_50, 0)",
    "move_5": "ratio(roc_5, volatility_50, 0)",
    "move_15": "ratio(close / lag(close, 15) - 1, volatility_50, 0)",
    "move_60": "ratio(close / lag(close, 60) - 1, volatility_50, 0)",
    "autocorrelation_60": "ratio(mean(returns * lag(returns, 1), 60), mean(returns * returns, 60), 0)",
    "volume_ratio_5_60": "ratio(mean(volume, 5), mean(volume, 60), 1)",
}
"""What an hour says besides: where the close stands in its candle; how straight the way was (the efficiency ratio of Kaufman,
Smarter Trading, 1995, with its sign); the mean return weighted by volume; moves in terms of what a minute usually moves; whether
minutes go on or turn back; how busy it is."""

VARIANTS = (
    Variant(
        name="batch-1024",
        why="larger batches at a learning rate that fits them: quieter steps, and twice the speed",
        changes={"training": {"batch_size": 1_024, "learning_rate": 0.003}},
    ),
    Variant(
        name="cross-entropy",
        why="a proper score in place of the focal loss: what is made small is what is asked for",
        changes={"loss": {"kind": "cross-entropy", "label_smoothing": 0.0}},
        after="batch-1024",
    ),
    Variant(
        name="averaged",
        why="averaged weights: the noise of single steps is no part of what was learned",
        changes={"training": {"averaging": 2_000}},
        after="cross-entropy",
    ),
    Variant(
        name="relative",
        why="features that do not know the level of the price, and so not the date",
        changes={"features": {"set": "relative-72"}},
        after="averaged",
    ),
    Variant(
        name="small",
        why="a third of the weights, and the patience to wait for what takes long to see",
        changes={"network": {"hidden": [128, 64]}, "training": {"epochs": 20, "patience": 10}},
        after="relative",
    ),
    Variant(
        name="context",
        why="features of an hour beside those of minutes",
        changes={"features": {"set": "context-84", "base": "relative-72", "formulas": CONTEXT}},
        after="small",
    ),
)
"""At most six: each one more is one more try that luck has. Recipe v8 is five of `small` with one voice."""


def variant_recipe(base: Recipe, variant: Variant) -> Recipe:
    """Return `base` with the changes of a variant and of those it adds to, under a name of its own.

    Raises:
        RecipeError: a key is unknown or a value impossible.

    """
    plain = base.to_dict()
    for one in _chain(variant):
        for section, changes in one.changes.items():
            kept = plain[section] if section != "features" else {"max_gap_minutes": base.features.max_gap_minutes}
            plain[section] = {**kept, **changes}
    name = variant_name(base, variant)
    return recipe_from_dict({**plain, "name": name, "description": f"{base.name} with {variant.why}."}, where=name)


def variant_name(base: Recipe, variant: Variant) -> str:
    """Return the name of a variant of `base`, of which a long name is cut."""
    return name_after(base.name, f"-{variant.name}")


def _chain(variant: Variant) -> tuple[Variant, ...]:
    """Return a variant after all that it adds to."""
    if variant.after is None:
        return (variant,)
    before = next(one for one in VARIANTS if one.name == variant.after)
    return (*_chain(before), variant)
