"""The race without a fit: damaged answers are asked anew, and nothing is said that chance explains."""

import dataclasses
import io
import json
import math
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from crpbot.dataset.assemble import Dataset
from crpbot.errors import CrpbotError, RecipeError, TrainingError
from crpbot.making.race import race
from crpbot.making.race.answers import pack, read
from crpbot.making.race.board import Block, Leaderboard, add_up
from crpbot.making.race.contenders import Answer, Contender, _earlier_seconds, compete
from crpbot.making.race.leaderboard import _contenders, leaderboard
from crpbot.making.race.protocol import cut_ground
from crpbot.making.race.score import Pair, Score
from crpbot.making.race.words import beating, markdown, sentences
from crpbot.making.variants import VARIANTS, variant_recipe
from crpbot.market.candles import MINUTE, Candles
from crpbot.market.source import Source
from crpbot.market.synthetic import make_market
from crpbot.model.choices import EnsembleChoice
from crpbot.model.fitting import folds_of
from crpbot.model.recipe import Recipe, load_recipe, recipe_from_dict
from crpbot.quality.metrics import Mean

ROWS = 10
WORDS = {"seconds": 1.5, "size": 3, "epochs": 2, "best_epoch": 1, "note": "7 steps", "trouble": ""}


def answer(seed: int = 0) -> Answer:
    drawn = np.random.default_rng(seed)
    logs = np.log(drawn.dirichlet([1, 1, 1], ROWS)).astype(np.float32)
    return Answer(says=logs.argmax(axis=1).astype(np.int8), log_probabilities=logs, **WORDS)


def same(one: Answer | str | None, other: Answer) -> bool:
    return (
        isinstance(one, Answer)
        and np.array_equal(one.says, other.says)
        and one.log_probabilities is not None
        and np.array_equal(one.log_probabilities, other.log_probabilities)
        and all(getattr(one, name) == value for name, value in WORDS.items())
    )


def test_an_answer_is_read_as_it_was_written_and_by_numpy_too(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    file.write_bytes(pack("k", answer()))
    assert same(read(file, "k", rows=ROWS), answer())
    with np.load(file) as arrays:
        assert np.array_equal(arrays["says"], answer().says)
    silent = dataclasses.replace(answer(), log_probabilities=None)
    file.write_bytes(pack("k", silent))
    assert read(file, "k", rows=ROWS).log_probabilities is None
    file.write_bytes(pack("k", "it failed"))
    assert read(file, "k", rows=ROWS) == "it failed"
    assert read(file, "other", rows=ROWS) is None


def test_whichever_bit_is_flipped_an_answer_is_read_as_it_was_or_asked_anew() -> None:
    whole = pack("k", answer())

    def found(content: bytes) -> Answer | str | None:
        return read(SimpleNamespace(open=lambda _: io.BytesIO(content)), "k", rows=ROWS)

    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        one = found(bytes(damaged))
        assert one is None or same(one, answer()), place
    assert not any(found(whole[:cut]) for cut in range(len(whole)))
    assert same(found(whole), answer())


def renamed(content: bytes, change: Any) -> bytes:
    """Return a zip whose parts are others, with checksums that fit."""
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    change(parts)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as new:
        for name, part in parts.items():
            new.writestr(name, part)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def huge() -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|i1", "fortran_order": False, "shape": (10**13,)})
    return stream.getvalue() + bytes(ROWS)


TOLD = {"key": "k", "failed": "", "sha256": "0" * 64, **WORDS}


@pytest.mark.parametrize(
    "change",
    [
        lambda parts: parts.pop("log_probabilities.npy"),
        lambda parts: parts.update({"log_probabilities.npy": npy(np.full((ROWS, 3), np.nan, np.float32))}),
        lambda parts: parts.update({"says.npy": npy(np.array(["x"] * ROWS))}),
        lambda parts: parts.update({"says.npy": huge()}),
        lambda parts: parts.update({"more.npy": npy(np.zeros(3))}),
        lambda parts: parts.update({"more.npy": bytes(10**6)}),
        lambda parts: parts.update({"told.npy": npy(np.frombuffer(b"[" * 50_000, np.uint8))}),
        lambda parts: parts.update({"told.npy": npy(np.frombuffer(b'"x"', np.uint8))}),
        lambda parts: parts.update({"told.npy": npy(np.frombuffer(json.dumps(TOLD).encode(), np.uint8))}),
    ],
    ids=["no-logs", "nan", "texts", "huge", "one-more", "too-large", "deep", "no-words", "no-seal"],
)
def test_a_file_that_does_not_fit_its_seal_is_asked_anew(change: Any, tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    file.write_bytes(renamed(pack("k", answer()), lambda _: None))
    assert same(read(file, "k", rows=ROWS), answer())
    file.write_bytes(renamed(pack("k", answer()), change))
    assert read(file, "k", rows=ROWS) is None


def test_no_more_is_read_than_an_answer_about_so_many_rows_can_have() -> None:
    asked = []

    class Endless(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            asked.append(size)
            return bytes(size or 0)

    assert read(SimpleNamespace(open=lambda _: Endless()), "k", rows=1_000) is None
    assert len(asked) == 1
    assert 13_000 < asked[0] < 13_000 + 100_000


def flat(rows: int = 3_000) -> Candles:
    price = np.ones(rows)
    volume = 1 + np.random.default_rng(0).random(rows)
    return Candles(MINUTE * np.arange(28_000_000, 28_000_000 + rows), price, price, price, price, volume)


@pytest.mark.parametrize("name", ["one-feature", "logistic", "boosting", "v7"])
def test_a_learner_that_sees_one_class_gives_no_answer(name: str, tmp_path: Path) -> None:
    recipe = load_recipe("v7")
    ground, known, _ = cut_ground("USDT-USD", flat(), recipe, [recipe], fold=1, folds=1)
    contender = Contender(name=name, recipe=recipe, baseline=None if name == "v7" else name)
    with pytest.raises(TrainingError, match="must have two classes to learn from, found NEUTRAL alone"):
        compete(contender, ground, known, seed=0, told=lambda _: None, state=tmp_path)


def test_a_race_on_a_flat_market_ends_with_reasons(tmp_path: Path) -> None:
    source = Source("file", "flat", {"USDT-USD": flat})
    board = leaderboard(source, contenders=("majority", "prior", "logistic", "v7"), folds=2, out=tmp_path, recipes=[])
    assert "two classes" in board.tests[0].answers["logistic"]
    said = " ".join(sentences(board))
    assert "USDT-USD: v7 failed: the training rows must have two classes" in said
    assert "one feature gave no answer, so nobody can be compared with it" in said
    assert not (tmp_path / "pick.toml").exists()


def own(recipe: Recipe, name: str, **features: Any) -> Recipe:
    return recipe_from_dict({**recipe.to_dict(), "name": name, "features": {"max_gap_minutes": 3, **features}})


def test_a_recipe_with_features_of_its_own_and_a_long_name_has_all_variants() -> None:
    base = load_recipe("v7")
    name = "a-recipe-with-a-name-of-forty-one-letters"
    assert len(name) == 41
    recipe = own(base, name, set="mine-73", base="founding-72", without=["rsi_14"], formulas={"z1": "close - open"})
    found = {one.name: one.recipe for one in _contenders(recipe, [], ())}
    assert len(found) == 6 + len(VARIANTS)
    small = found["a-recipe-with-a-name-of-forty-one-l-small"]
    assert (
        small.features.to_dict()
        if hasattr(small.features, "to_dict")
        else small.to_dict()["features"]
        == {
            "set": "relative-72",
            "max_gap_minutes": 3,
        }
    )
    assert found["a-recipe-with-a-name-of-forty-one-context"].features.without == ()


def test_only_variants_that_stand_in_the_race_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(
        "crpbot.making.race.leaderboard.variant_recipe", lambda base, one: made.append(one.name) or variant_recipe(base, one)
    )
    found = _contenders(load_recipe("v7"), ["v8"], ("v7-averaged", "prior"))
    assert made == ["averaged"]
    assert [one.name for one in found] == ["prior", "v7-averaged"]


@pytest.mark.parametrize(("shares", "most"), [((0.7, 0.15), 4), ((0.6, 0.2), 3), ((0.45, 0.1), 1), ((0.8, 0.1), 8)])
def test_the_choice_folds_judge_no_row_of_the_recipes_own_test_block(shares: tuple[float, float], most: int) -> None:
    recipe = load_recipe("v7")
    recipe = dataclasses.replace(recipe, split=dataclasses.replace(recipe.split, train=shares[0], calibration=shares[1]))
    candles = make_market("random-walk", "BTC-USD", rows=4_000, seed=0)
    setting = {"reference": recipe, "contenders": (), "markets": {"BTC-USD": candles}, "seed": 0}
    race.Race(folds=most, **setting)
    with pytest.raises(RecipeError, match=f"at most {most} folds? (is|are) possible, found {most + 1}; lower --folds"):
        race.Race(folds=most + 1, **setting)
    alone, *_ = cut_ground("BTC-USD", candles, recipe, [recipe], fold=1, folds=1)
    for fold in range(1, most + 1):
        ground, *_ = cut_ground("BTC-USD", candles, recipe, [recipe], fold=fold, folds=most)
        if fold == most:
            assert abs(len(ground.judged) - len(alone.judged)) <= 1
        else:
            assert ground.judged[-1] < alone.judged[0]


def test_a_recipe_with_more_to_test_than_to_train_on_is_not_raced() -> None:
    recipe = load_recipe("v7")
    recipe = dataclasses.replace(recipe, split=dataclasses.replace(recipe.split, train=0.2, calibration=0.1))
    with pytest.raises(RecipeError, match=r"test block has 70 % of the rows: at most 0 folds are possible, .* raise split.train"):
        race.Race(reference=recipe, contenders=(), markets={}, folds=1, seed=0)


def mean(errors: float) -> Mean:
    return Mean(0.001 * errors, 0.001)


def block(pairs: dict[str, tuple[float, float]], **changes: Any) -> Block:
    """Return a block with contenders that are so many errors ahead in skill and in accuracy."""
    found = {name: Pair(skill=mean(skill), accuracy=mean(accuracy)) for name, (skill, accuracy) in pairs.items()}
    scores = {
        name: Score(skill=one.skill, accuracy=one.accuracy, over_majority=one.accuracy, log_loss=1.0, ece=None, ece_excess=None)
        for name, one in found.items()
    }
    plain = {"symbol": "BTC-USD", "fold": 2, "test": True, "rows": 9, "moves": 9, "first": 0, "last": 9, "theta": 0.0}
    answers = dict.fromkeys(pairs, answer())
    settings = {"best_skill": None, "answers": answers, "scores": scores, "pairs": {"one-feature": found, "prior": found}}
    return Block(**plain, **(settings | changes))


def test_only_who_is_beyond_chance_himself_is_said_to_beat() -> None:
    """One is far ahead; at two standard errors each of the others is what 24 tries without skill give."""
    pairs = {"v8": (4.5, 1.0), "boosting": (2.0, 0.1), "v7": (3.6, 0.0), **{f"n{n}": (0.1, 0.1) for n in range(9)}}
    said = beating(block(pairs), "one-feature", "one feature", symbols=1)
    assert said.startswith("2 of 12 beat one feature, furthest v8 by")
    assert said.endswith("; also v7.")


def test_chance_is_counted_over_all_symbols() -> None:
    pairs = {"v8": (3.2, 0.0), **{f"n{n}": (0.1, 0.1) for n in range(11)}}
    assert beating(block(pairs), "prior", "the prior", symbols=1).startswith("1 of 12 beat the prior")
    said = beating(block(pairs), "prior", "the prior", symbols=10)
    assert said.startswith("nothing beats the prior by more than chance")
    assert "the best of 240 tries" in said


def test_without_skill_nobody_is_said_to_beat_in_19_of_20_races() -> None:
    drawn = np.random.default_rng(0)
    races, symbols, hits = 400, 5, 0
    for _ in range(races):
        said = [
            beating(block({f"n{n}": tuple(drawn.standard_normal(2)) for n in range(6)}), "prior", "the prior", symbols=symbols)
            for _ in range(symbols)
        ]
        hits += any(not words.startswith("nothing beats") for words in said)
    assert hits / races < 0.05 + 3 * math.sqrt(0.05 * 0.95 / races)


def test_who_is_ahead_in_accuracy_and_behind_in_skill_beats_nobody() -> None:
    said = beating(block({"logistic": (-3.0, 4.2), "v7": (0.5, 0.5)}), "one-feature", "one feature", symbols=1)
    assert said.startswith("nothing beats one feature: no contender")
    assert said.endswith("; logistic is ahead in accuracy, but behind in skill.")


@dataclasses.dataclass(frozen=True)
class Fake:
    """A race of which nothing is asked but who stands in it."""

    reference: Recipe
    contenders: tuple[Contender, ...]
    folds: int = 2
    markets: tuple[str, ...] = ()


def entrant(name: str, trials: int = 1, *, variant: bool = False) -> Contender:
    recipe = dataclasses.replace(load_recipe("v7"), name=name, trials=trials)
    return Contender(name=name, recipe=recipe, variant=variant)


def board(*blocks: Block, pick: str | None = None, names: tuple[str, ...] = ("v7",)) -> Leaderboard:
    entrants = tuple(entrant(name) for name in names)
    choice = None if pick is None else {"pick": pick}
    fake = Fake(entrants[0].recipe, entrants)
    nothing = {"chosen_by": {}, "edge": None, "tried": 0, "trials": 7, "source": ""}
    return Leaderboard(race=fake, blocks=blocks, choice=choice, **nothing)


def about(start: str, one: Leaderboard) -> str:
    return next(words for words in sentences(one) if start in words)


def test_the_share_of_the_best_skill_is_that_of_the_pick_with_its_error() -> None:
    known = block({"prior": (0.0, 0.0), "v7": (7.25, 0.0), "v8": (12.0, 0.0)}, best_skill=0.00833)
    names = ("v7", "v8")
    assert about("best possible", board(known, pick="v7", names=names)).endswith("nat; v7 finds 87 % ± 12 % of it.")
    both = about("best possible", board(known, names=names))
    assert both.endswith("v7 finds 87 % ± 12 % of it, v8 finds 144 % ± 12 % of it (more than there is: luck helped).")
    assert known.share_of_best("v7") == Mean(pytest.approx(0.8703, abs=1e-4), pytest.approx(0.12, abs=1e-3))
    assert known.to_dict()["contenders"]["v7"]["share_of_best_skill"] == dataclasses.asdict(known.share_of_best("v7"))


def test_a_leaderboard_of_many_symbols_counts_the_tries_of_all() -> None:
    one = block({"v7": (2.5, 0.0), "v8": (0.0, 0.0)})
    assert "1 of 2 beat the prior" in about("prior", board(one))
    many = board(*[dataclasses.replace(one, symbol=f"S{n}-USD") for n in range(10)])
    assert "best of 40 tries" in about("the prior", many)
    assert "best of 40 tries" in about("one feature", many)


def test_what_nobody_knows_is_said_to_be_unknown() -> None:
    """Nothing is a share of something of which the error is not known, and no cell says nan."""
    short = block({"v7": (11.0, 0.0), "one-feature": (0.0, 0.0)}, best_skill=0.002)
    lost = Mean(0.011, math.nan)
    score = dataclasses.replace(short.scores["v7"], skill=lost, over_majority=Mean(-0.0015, math.nan))
    pair = {"v7": Pair(skill=lost, accuracy=lost)}
    short = dataclasses.replace(short, scores={"v7": score}, pairs={"one-feature": pair}, answers={"v7": answer()})
    one = board(short)
    assert about("best possible", one).endswith("v7 finds an unknown share of it.")
    text = markdown(one)
    assert "nan" not in text.replace("of a nat", "")
    assert "−0.15 ± unknown" in text
    assert "| unknown |" in text


def test_why_nothing_is_known_of_the_pick_is_said() -> None:
    moved = block({"v7": (1.0, 1.0)})
    silent = dataclasses.replace(moved, symbol="ETH-USD", answers={"v7": "it failed"}, scores={}, pairs={})
    assert about("picked", board(moved, silent, pick="v7")).endswith("v7, which gave no answer on the test block of ETH-USD.")
    assert about("picked", board(moved, pick="v7")).endswith("v7, of which nothing can be said: no row of the test block moved.")


def test_all_tries_of_all_recipes_are_counted_once() -> None:
    """Variants share the tries of the reference; two tuned recipes bring theirs along, whoever is picked."""
    mine, other = entrant("mine", 41), entrant("other", 31)
    variants = (entrant("mine-small", 41, variant=True), entrant("mine-context", 41, variant=True))
    prior = Contender(name="prior", recipe=mine.recipe, baseline="prior")
    for contenders, wanted in (
        ((prior, mine, other), 2 + 5 + 40 + 30),
        ((mine, *variants), 3 + 5 + 40),
        (variants, 2 + 5 + 40),
        ((prior, other), 1 + 5 + 30),
        ((prior,), 5),
    ):
        ran = race.Ran(race=Fake(mine.recipe, contenders), legs={}, answers={}, choice={"pick": None})
        assert add_up(ran, source="", tried=5).trials == wanted


def test_the_recipe_that_was_picked_knows_of_all_tries() -> None:
    picked = board(pick="v8", names=("v7", "v8")).picked
    assert (picked.name, picked.trials) == ("v8", 7)
    assert board(names=("v7",)).picked is None


def test_a_folder_of_other_versions_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    candles = make_market("random-walk", "BTC-USD", rows=3_000, seed=0)
    source = Source("file", "walk", {"BTC-USD": lambda: candles})
    some = {"contenders": ("majority", "prior"), "folds": 1, "out": tmp_path, "recipes": []}
    first = leaderboard(source, **some).to_dict()
    plain = json.loads((tmp_path / "race.json").read_text())
    assert plain.pop("versions") == first["versions"] == race.versions()
    assert {*first["versions"]} == {"crpbot", "numpy", "scikit-learn", "torch"}
    assert first["race"] == race.digest(plain)
    ours = race.versions()
    monkeypatch.setattr(race, "versions", lambda: {**ours, "torch": "99.0"})
    with pytest.raises(CrpbotError, match=r"found another there: versions.torch was .*, is 99.0; choose another --out"):
        leaderboard(source, **some)
    monkeypatch.undo()
    (tmp_path / "race.json").write_text(json.dumps(plain))
    with pytest.raises(CrpbotError, match=r"versions.crpbot was not there, is"):
        leaderboard(source, **some)
    (tmp_path / "race.json").write_text("[" * 100_000)
    with pytest.raises(CrpbotError, match="must be readable JSON"):
        leaderboard(source, **some)


def test_a_choice_of_another_race_is_named_as_such(tmp_path: Path) -> None:
    one = race.Race(reference=load_recipe("v7"), contenders=(), markets={}, folds=2, seed=0)
    truth = SimpleNamespace(time=np.arange(3), known=np.arange(3), y=np.zeros(3, int), effective_rows=3.0)
    legs = [SimpleNamespace(truth=truth, ground=SimpleNamespace(shares=(1.0, 0.0, 0.0)))]
    kept = race._choose(one, tmp_path, legs, [{}], lambda: 0)
    file = tmp_path / "choice.json"
    for what, value in (("race", "abc"), ("pick", "v9")):
        file.write_text(json.dumps({**kept, what: value}))
        with pytest.raises(CrpbotError, match=rf"found the {what} '{value}', not "):
            race._choose(one, tmp_path, legs, [{}], lambda: 0)


def test_the_earlier_epochs_of_a_member_by_fold_count_the_rows_that_it_learned_from() -> None:
    rows = 1_000
    time = MINUTE * np.arange(rows)
    data = Dataset(("x",), time, time + 16 * MINUTE, np.zeros((rows, 1)), np.zeros(rows), {})
    epochs = [SimpleNamespace(member=n, earlier=n != 3, rows_per_second=10.0) for n in (1, 1, 2, 3)]

    def seconds(**choice: Any) -> float:
        recipe = dataclasses.replace(load_recipe("v7"), ensemble=EnsembleChoice(**choice))
        field = SimpleNamespace(
            contender=Contender(name="v", recipe=recipe), data=data, blocks=SimpleNamespace(train=slice(0, 600))
        )
        return _earlier_seconds(field, epochs)

    assert seconds(members=3, vary="seed") == pytest.approx(3 * 60)
    recipe = dataclasses.replace(load_recipe("v7"), ensemble=EnsembleChoice(members=3, vary="fold"))
    learned = [sum(part.stop - part.start for part in fold.train) for fold in folds_of(recipe, time[:600], data.known[:600])]
    assert seconds(members=3, vary="fold") == pytest.approx((2 * learned[0] + learned[1]) / 10)
    assert learned[1] < 600
