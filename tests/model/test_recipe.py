import dataclasses
from pathlib import Path

import pytest

from crpbot.errors import RecipeError
from crpbot.model.recipe import builtin_recipes, load_recipe, recipe_from_dict, recipe_from_toml, recipe_text


def test_the_recipes_are_the_founding_table() -> None:
    v6, v7 = load_recipe("v6"), load_recipe("v7")
    assert (v6.network.normalizer, v7.network.normalizer) == ("none", "fit")
    assert (v6.network.dropout, v7.network.dropout) == (0.0, 0.3)
    assert (v6.network.batch_normalization, v7.network.batch_normalization) == (False, True)
    assert (v6.loss.label_smoothing, v7.loss.label_smoothing) == (0.0, 0.05)
    assert (v6.network.temperature, v7.network.temperature, v7.network.initial_temperature) == ("none", "learned", 2.5)
    assert (v6.loss.kind, v7.loss.kind, v7.loss.alpha, v7.loss.gamma) == ("cross-entropy", "focal", 0.25, 2.0)
    assert (v6.training.learning_rate, v7.training.learning_rate, v7.training.schedule) == (0.001, 0.001, "cosine")
    assert (v6.training.batch_size, v7.training.batch_size) == (32, 64)
    assert (v6.training.epochs, v7.training.epochs) == (15, 30)
    assert (v6.training.patience, v7.training.patience) == (5, 5)
    assert v6.network.hidden == v7.network.hidden == (256, 128, 64)


def test_a_lost_scaler_is_the_only_difference_of_its_recipe() -> None:
    for name in ("v6", "v7"):
        sound, lost = load_recipe(name), load_recipe(f"{name}-lost-scaler")
        assert lost.network.normalizer == "lost"
        assert dataclasses.replace(lost.network, normalizer=sound.network.normalizer) == sound.network
        assert (lost.label, lost.split, lost.loss, lost.training) == (sound.label, sound.split, sound.loss, sound.training)


@pytest.mark.parametrize("name", builtin_recipes())
def test_a_recipe_survives_both_ways_of_writing_it(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert recipe_from_dict(recipe.to_dict()) == recipe
    file = tmp_path / "mine.toml"
    file.write_text(recipe.to_toml())
    assert load_recipe(str(file)) == recipe


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("dropout", "droput", "found 'droput'; did you mean dropout"),
        ("epochs = 30", "epochs = 0", "epochs must be between 1"),
        ("epochs = 30", "epochs = 3.5", "epochs must be a whole number"),
        ("epochs = 30", "epochs = true", "epochs must be a whole number"),
        ("horizon = 15\n", "", "must have the key 'horizon'"),
        ('normalizer = "fit"', 'normalizer = "maybe"', "must be one of fit, none, lost"),
        ("train = 0.70", "train = 0.90", "must leave rows for the test block"),
        ("train = 0.70", "train = nan", "train must be above 0"),
        ('name = "v7"', 'name = "../v7"', "name must be small letters"),
        ("hidden = [256, 128, 64]", "hidden = []", "hidden must be a list of widths"),
        ("[loss]", "[loss", "must be TOML"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_place(old: str, new: str, words: str) -> None:
    text = recipe_text("v7")
    assert old in text
    with pytest.raises(RecipeError, match=words.replace("[", r"\[")):
        recipe_from_toml(text.replace(old, new, 1))


def test_an_unknown_recipe_lists_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="v6, v6-lost-scaler, v7, v7-lost-scaler"):
        load_recipe("v9")
