import dataclasses
import json
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
        ("hidden = [256, 128, 64]", "hidden = []", "hidden must be a list of at most 63 widths"),
        ("[loss]", "[loss", "must be TOML"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_place(old: str, new: str, words: str) -> None:
    text = recipe_text("v7")
    assert old in text
    with pytest.raises(RecipeError, match=words.replace("[", r"\[")):
        recipe_from_toml(text.replace(old, new, 1))


def test_an_unknown_recipe_lists_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="v6, v6-lost-scaler, v7, v7-barrier, v7-lost-scaler, v7-relative"):
        load_recipe("v9")


def test_the_variants_of_v7_differ_in_one_section() -> None:
    v7 = load_recipe("v7").to_dict()
    for name, section in (("v7-relative", "features"), ("v7-barrier", "label")):
        other = load_recipe(name).to_dict()
        assert {key for key in v7 if v7[key] != other[key]} == {"name", "description", section}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("reward = 1.8", "reward = 0.5", "reward must be between 1 and 100"),
        ("learning_rate = 0.001", "learning_rate = 1" + "0" * 400, "learning_rate must be a number"),
        ("learning_rate = 0.001", "learning_rate = " + "9" * 5_000, "must be TOML"),
        ("learning_rate = 0.001", "learning_rate = " + "[" * 5_000, "must be TOML"),
        ('description = "', 'description = "\\u007f', "must be one line of printable text"),
        ('description = "', 'description = "\\n', "must be one line of printable text"),
    ],
)
def test_a_hostile_recipe_is_refused(old: str, new: str, words: str) -> None:
    text = recipe_text("v7-barrier")
    assert old in text
    with pytest.raises(RecipeError, match=words):
        recipe_from_toml(text.replace(old, new, 1))


def test_exits_beyond_the_price_are_refused() -> None:
    plain = load_recipe("v7-barrier").to_dict()
    plain["label"] |= {"distance": "percent", "stop": 60.0, "reward": 2.0}
    with pytest.raises(RecipeError, match="must be below 100 percent of the price, found 120"):
        recipe_from_dict(plain)


def test_keys_that_are_no_text_are_refused() -> None:
    with pytest.raises(RecipeError, match="only known keys, found 1"):
        recipe_from_dict({**load_recipe("v7").to_dict(), 1: 2})


OWN = """
[features]
set = "own"
base = "relative-72"
without = ["stoch_k_14", "stoch_d_14"]

[features.where]
body = "close - open"

[features.formulas]
body_share = "ratio(body, high - low, 0)"
body_trend = "mean(body, 30) / close"
"""


def own_features(text: str = OWN) -> str:
    v7 = recipe_text("v7")
    return v7[: v7.index("[features]")] + text + v7[v7.index("[label]") :]


def test_a_recipe_may_bring_its_own_features(tmp_path: Path) -> None:
    recipe = recipe_from_toml(own_features())
    assert len(recipe.features.table) == 72
    assert recipe.features.table.names[-2:] == ("body_share", "body_trend")
    assert recipe_from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    (tmp_path / "own.toml").write_text(recipe.to_toml())
    assert load_recipe(str(tmp_path / "own.toml")) == recipe
    assert recipe_from_toml(recipe.to_toml()).features.table.sha256 == recipe.features.table.sha256


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('set = "own"', 'set = "relative-72"', "found 'relative-72' with them; rename it"),
        (OWN, '[features]\nset = "own"\n', "found 'own' without them"),
        ('base = "relative-72"', 'base = "moon"', "base must be one of founding-72, relative-72"),
        ('"stoch_d_14"', '"moon"', "without must name features of its base, found 'moon'"),
        ('"stoch_d_14"', "3", "without must be a list of texts"),
        ('body = "close - open"', "body = 3", "where must be a section of texts"),
        ("mean(body, 30) / close", "mean(body, 30) / open_interest", "body_trend: names must be columns"),
        ("mean(body, 30) / close", "__import__('os').system('true')", "body_trend: a formula is made of"),
    ],
)
def test_wrong_features_are_refused_with_their_place(old: str, new: str, words: str) -> None:
    assert old in OWN
    with pytest.raises(RecipeError, match=words):
        recipe_from_toml(own_features(OWN.replace(old, new)))
