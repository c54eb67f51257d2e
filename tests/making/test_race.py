"""The race: nobody sees the test block before the choice, all are judged on the same rows, and a kill changes nothing."""

import dataclasses
import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import quick
from pipelines import edge
from shell import crpbot

from crpbot.dataset.assemble import assemble
from crpbot.dataset.baselines import best_one_feature_rule
from crpbot.dataset.features.compute import rows_with_features
from crpbot.dataset.labels import UNLABELLED
from crpbot.errors import CrpbotError, RecipeError, TrainingError
from crpbot.making.race import contenders, race
from crpbot.making.race.board import Leaderboard
from crpbot.making.race.contenders import Answer, Contender, compete
from crpbot.making.race.leaderboard import leaderboard
from crpbot.making.race.protocol import Ground, Truth, cut_ground
from crpbot.making.race.score import Judge, Pair
from crpbot.making.race.words import beating, sentences
from crpbot.making.variants import VARIANTS, variant_recipe
from crpbot.market.candles import Candles
from crpbot.market.source import Source
from crpbot.market.synthetic import make_market
from crpbot.model.recipe import Recipe, load_recipe
from crpbot.quality.bootstrap import resample
from crpbot.quality.metrics import Mean, directional_log_loss

pytestmark = pytest.mark.slow  # each fits something

ROWS = 10_000
BASELINES = ("majority", "prior", "one-feature")
NETWORKS = ("v7", "v7-own")


def tiny(name: str = "v7", **training: Any) -> Recipe:
    recipe = quick(name, **{"epochs": 3, **training})
    return dataclasses.replace(recipe, network=dataclasses.replace(recipe.network, hidden=(8,)))


def longer() -> Recipe:
    """Return a recipe whose features look back further than those of the reference."""
    recipe = tiny()
    features = dataclasses.replace(
        recipe.features, set="own", formulas={"far": "close / mean(close, 400) - 1", "range": "high / low - 1"}
    )
    return dataclasses.replace(recipe, name="v7-own", features=features)


def market(candles: Candles) -> Source:
    return Source("file", "planted", {"BTC-USD": lambda: candles})


def run(out: Path, source: Source | None = None, **options: Any) -> Leaderboard:
    settings = {"recipe": tiny(), "recipes": [longer()], "contenders": (*BASELINES, *NETWORKS), "out": out, "now": lambda: 0}
    return leaderboard(source or market(edge(0, ROWS)), **(settings | options))


@dataclasses.dataclass
class Seen:
    """What a contender was handed, and whether the choice was written by then."""

    name: str
    fold: int
    last: int
    chosen: bool


Ran = tuple[Path, Leaderboard, list[Seen]]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A race with everything that the contenders were handed."""
    out, seen = tmp_path_factory.mktemp("race"), []
    with pytest.MonkeyPatch.context() as patch:
        asked(
            patch,
            lambda contender, ground, candles: seen.append(
                Seen(contender.name, ground.fold, int(candles.time[-1]), (out / "choice.json").is_file())
            ),
        )
        return out, run(out), seen


def numbers(board: Leaderboard) -> str:
    """Return everything but seconds."""
    return json.dumps(
        json.loads(board.to_json(), object_hook=lambda plain: {key: plain[key] for key in plain if key != "seconds"})
    )


def asked(monkeypatch: pytest.MonkeyPatch, told: Callable[[Contender, Any, Candles], None]) -> None:
    """Tell of whoever is asked for an answer, and of what it is handed."""

    def spy(contender: Contender, ground: Any, candles: Candles, **options: Any) -> Answer:
        told(contender, ground, candles)
        return compete(contender, ground, candles, **options)

    monkeypatch.setattr(race, "compete", spy)


def test_nobody_sees_a_row_of_the_test_block_before_the_choice_is_written(ran: Ran) -> None:
    _, board, seen = ran
    assert all(one.chosen or one.last < board.tests[0].first for one in seen)
    names = {*BASELINES, *NETWORKS}
    assert {(one.name, one.fold) for one in seen if not one.chosen} == {(name, fold) for name in names for fold in (1, 2)}
    assert {(one.name, one.fold) for one in seen if one.chosen} == {(name, 3) for name in names}


def test_a_contender_is_handed_no_label_of_the_rows_that_are_judged() -> None:
    candles, recipe = edge(0, ROWS), tiny()
    for fold in (1, 3):
        ground, known, truth = cut_ground("BTC-USD", candles, recipe, [recipe], fold=fold, folds=3)
        data = assemble(known, recipe.features.table, recipe.label.rule)
        blocks = ground.blocks(data)
        y = ground.labels(data, blocks)
        assert (y[ground.rows(data)] == UNLABELLED).all()
        assert (y[blocks.train] != UNLABELLED).all()
        assert not [name for name, value in vars(ground).items() if np.array_equal(value, truth.y)]
        assert data.known[blocks.train].max() <= data.time[blocks.calibration.start]
        assert data.known[blocks.calibration].max() <= ground.judged[0]
        assert data.time[blocks.calibration.start] - ground.train.last >= recipe.split.embargo * 60_000


def test_all_are_judged_on_the_same_rows_by_the_same_labels_whatever_their_features() -> None:
    """A gap in the test block costs the longer windows 199 rows more: nobody is judged on those."""
    whole, recipe = edge(0, ROWS), tiny()
    kept = np.r_[0:9_300, 9_400:ROWS]
    candles = Candles(*(getattr(whole, name)[kept] for name in ("time", "open", "high", "low", "close", "volume")))
    ground, known, truth = cut_ground("BTC-USD", candles, recipe, [recipe, longer()], fold=3, folds=3)
    for one in (recipe, longer()):
        table = one.features.table
        assert np.isin(ground.judged, known.time[rows_with_features(known, table)]).all()
        data = assemble(known, table, recipe.label.rule)
        blocks = ground.blocks(data)
        assert data.time[blocks.train.stop - 1] == ground.train.last
        assert data.time[blocks.calibration.start] == ground.calibration.first
    alone, _, _ = cut_ground("BTC-USD", candles, recipe, [recipe], fold=3, folds=3)
    assert (alone.theta, alone.train) == (ground.theta, ground.train)
    assert set(ground.judged) < set(alone.judged)
    row = {int(time): n for n, time in enumerate(candles.time)}
    for n in range(0, len(truth.y), 37):  # the plain form of a label
        now = row[int(ground.judged[n])]
        move = math.log(candles.close[now + 15] / candles.close[now])
        assert truth.y[n] == (2 if move > ground.theta else 0 if move < -ground.theta else 1)


@pytest.mark.parametrize("name", ["one-feature", "logistic", "v7"])
def test_what_comes_after_a_fold_changes_nothing_in_it(name: str, tmp_path: Path) -> None:
    candles, recipe = edge(0, ROWS), tiny()
    contender = Contender(name=name, recipe=recipe, baseline=None if name == "v7" else name)
    _, known, _ = cut_ground("BTC-USD", candles, recipe, [recipe], fold=1, folds=3)
    factor = np.where(np.arange(ROWS) < len(known), 1.0, 1.5)
    prices = (getattr(candles, name) * factor for name in ("open", "high", "low", "close"))
    other = Candles(candles.time, *prices, candles.volume)
    answers, keys = [], []
    for given in (candles, other):
        ground, handed, _ = cut_ground("BTC-USD", given, recipe, [recipe], fold=1, folds=3)
        answers.append(compete(contender, ground, handed, seed=0, told=lambda _: None, state=tmp_path))
        keys.append(ground.key)
    np.testing.assert_array_equal(answers[0].log_probabilities, answers[1].log_probabilities)
    assert keys[0] == keys[1]


def test_a_race_that_was_cut_off_goes_on_and_one_that_is_over_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ran: tuple[Path, Leaderboard]
) -> None:
    class Cut(BaseException):
        pass

    def cut(task: race.Task, epoch: Any) -> None:
        if (task.name, epoch.epoch) == ("BTC-USD/fold-2/v7-own", 2):
            raise Cut

    with pytest.raises(Cut):
        run(tmp_path, watch=cut)
    done = {file.parent.name + "/" + file.stem for file in tmp_path.rglob("*.npz")}
    assert done
    assert list((tmp_path / "states").rglob("*.state"))
    again, earlier = [], []
    asked(monkeypatch, lambda contender, ground, _: again.append(f"fold-{ground.fold}/{contender.name}"))
    board = run(tmp_path, watch=lambda _, epoch: earlier.append(epoch.earlier))
    assert not done & set(again)
    assert any(earlier)
    assert numbers(board) == numbers(ran[1])
    assert not (tmp_path / "states").exists()
    again.clear()
    written = (tmp_path / "leaderboard.json").read_bytes()
    run(tmp_path, now=lambda: 10**12)
    assert not again
    assert (tmp_path / "leaderboard.json").read_bytes() == written


def test_side_by_side_the_numbers_are_the_same(tmp_path: Path) -> None:
    some = {"folds": 1, "recipes": [], "contenders": ("one-feature", "v7")}
    assert numbers(run(tmp_path / "both", workers=2, **some)) == numbers(run(tmp_path / "alone", **some))


def test_a_folder_is_of_one_race(ran: Ran) -> None:
    out, *_ = ran
    with pytest.raises(CrpbotError, match=r"found another there: folds was 3, is 2; choose another --out"):
        run(out, folds=2)
    with pytest.raises(CrpbotError, match="seed was 0, is 1"):
        run(out, seed=1)
    with pytest.raises(CrpbotError, match=r"candles\.BTC-USD was"):
        run(out, market(edge(1, ROWS)))
    with pytest.raises(CrpbotError, match=r"contenders\.v7-own was \w+, is not there"):
        run(out, contenders=(*BASELINES, "v7"))
    assert json.loads((out / "race.json").read_text())["folds"] == 3


def test_a_test_block_that_was_answered_without_a_choice_is_refused(tmp_path: Path) -> None:
    some = {"contenders": ("prior", "one-feature"), "recipes": []}
    run(tmp_path, **some)
    (tmp_path / "choice.json").unlink()
    with pytest.raises(CrpbotError, match="must be written before the test block is answered"):
        run(tmp_path, **some)


def test_another_question_is_refused() -> None:
    recipe = tiny()
    label = dataclasses.replace(recipe, name="other", label=dataclasses.replace(recipe.label, horizon=30))
    split = dataclasses.replace(recipe, name="other", split=dataclasses.replace(recipe.split, embargo=0))
    gaps = dataclasses.replace(recipe, name="other", features=dataclasses.replace(recipe.features, max_gap_minutes=3))
    for other, words in ((label, "found label.horizon = 30 in other, not 15"), (split, "split.embargo = 0"), (gaps, "max_gap")):
        with pytest.raises(RecipeError, match=words):
            leaderboard(market(edge(0, ROWS)), recipe=recipe, recipes=[other], out="nowhere")
    assert not Path("nowhere").exists()


def test_the_prior_has_a_skill_of_exactly_0(ran: Ran) -> None:
    for block in ran[1].blocks:
        skill = block.scores["prior"].skill
        assert (skill.value, skill.error, skill.errors) == (0.0, 0.0, 0.0)
    assert all(skills["prior"].value == 0 for skills in ran[1].chosen_by.values())


def test_the_measures_are_those_of_the_plain_form(ran: Ran) -> None:
    out, board, _ = ran
    block = board.tests[0]
    _, _, truth = cut_ground("BTC-USD", edge(0, ROWS), tiny(), [tiny(), longer()], fold=3, folds=3)
    logs = {name: block.answers[name].log_probabilities.astype(float) for name in ("prior", "v7", "one-feature")}
    loss = {name: directional_log_loss(one, truth.y) for name, one in logs.items()}
    assert block.scores["v7"].skill.value == pytest.approx(loss["prior"] - loss["v7"], abs=1e-12)
    assert block.pairs["one-feature"]["v7"].skill.value == pytest.approx(loss["one-feature"] - loss["v7"], abs=1e-12)
    p = np.exp(logs["v7"])
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-6)
    moved = truth.y != 1
    up = p[moved, 2] / (p[moved, 0] + p[moved, 2])
    assert loss["v7"] == pytest.approx(-np.log(np.where(truth.y[moved] == 2, up, 1 - up)).mean(), abs=1e-6)
    right = p.argmax(axis=1) == truth.y
    theirs = block.answers["one-feature"].says == truth.y
    assert block.scores["v7"].accuracy.value == pytest.approx(right.mean())
    assert block.scores["v7"].over_majority.value == pytest.approx(right.mean() - np.bincount(truth.y).max() / len(truth.y))
    pair = block.pairs["one-feature"]["v7"].accuracy
    assert pair == resample(truth.time).mean(right.astype(float) - theirs)
    stored = json.loads((out / "leaderboard.json").read_text())
    assert stored["blocks"][2]["contenders"]["v7"]["skill"]["value"] == block.scores["v7"].skill.value


def test_the_pick_is_the_recipe_with_the_highest_skill_over_all_rows_of_the_choice_folds(ran: Ran) -> None:
    out, board, _ = ran
    choice = json.loads((out / "choice.json").read_text())
    total = {}
    for name in NETWORKS:
        blocks = [block for block in board.blocks if not block.test]
        total[name] = sum(b.scores[name].skill.value * b.moves for b in blocks) / sum(b.moves for b in blocks)
        assert board.chosen_by["BTC-USD"][name].value == pytest.approx(total[name])
    assert choice["pick"] == board.pick == max(total, key=total.get)
    assert board.edge.trials == len(NETWORKS)
    assert load_recipe(str(out / "pick.toml")) == board.picked
    assert (board.picked.name, board.picked.trials) == (board.pick, len(NETWORKS))


def test_earlier_tries_and_those_a_recipe_brings_along_are_counted(tmp_path: Path) -> None:
    brought = dataclasses.replace(tiny(), trials=40)
    board = run(tmp_path, recipe=brought, recipes=[], contenders=("prior", "v7"), folds=2, tried=100)
    assert board.edge.trials == 1 + 100 + 39
    assert "the best of 140 tries without skill" in " ".join(sentences(board))


def test_symbols_are_pooled_in_the_order_of_time() -> None:
    time = 60_000 * np.arange(600, dtype=np.int64)
    truths = [Truth(time=time, known=time + 16 * 60_000, y=np.full(len(time), label)) for label in (0, 2)]
    judge = Judge(truths, [(0.5, 0.0, 0.5)] * 2)
    assert (np.diff(judge.time) >= 0).all()
    says = [Answer(says=np.full(len(time), 0, np.int8), log_probabilities=None, seconds=0, size=0)] * 2
    right = judge.right(says)
    assert right.mean() == 0.5
    assert set(right[:2]) == {0.0, 1.0}  # the first minute of both


@cache
def walked(seed: int) -> Candles:
    return make_market("random-walk", "BTC-USD", rows=ROWS, seed=seed)


def test_on_a_random_walk_nobody_beats_the_prior_and_it_says_so(tmp_path: Path) -> None:
    said = []
    for seed in range(4):
        board = run(tmp_path / str(seed), market(walked(seed)), folds=1, recipes=[], contenders=(*BASELINES, "logistic"))
        said += [beating(block, "prior", "the prior", symbols=1) for block in board.tests]
    assert sum(words.startswith("nothing beats the prior") for words in said) >= 3  # 19 of 20 on average
    assert "With one fold there is nothing to choose by, so nothing is picked." in list(sentences(board))


def test_who_is_ahead_is_held_against_how_many_tried(ran: Ran) -> None:
    def said(errors: float, tries: int) -> str:
        pair = Pair(skill=Mean(0.001, 0.001 / errors), accuracy=Mean(-0.001, 0.01 * errors))
        pairs = {"one-feature": {f"v{n}": pair for n in range(tries)}}
        return beating(dataclasses.replace(ran[1].tests[0], pairs=pairs), "one-feature", "one feature", symbols=1)

    assert said(1.9, 10) == "nothing beats one feature: no contender is 2 standard errors ahead of it, in skill or in accuracy."
    assert said(2.2, 10).startswith("nothing beats one feature by more than chance: furthest ahead is v0 by 1.00 thousandths")
    assert "the best of 20 tries without skill gets there with a chance of 24 %" in said(2.2, 10)
    assert said(4.0, 2).startswith(
        "2 of 2 beat one feature, furthest v0 by 1.00 thousandths of a nat, 4.0 standard errors; also v1"
    )
    assert said(math.nan, 2).startswith("nobody can say who beats one feature: the rows are too few")


def test_an_edge_that_one_feature_shows_is_found_by_one_feature(tmp_path: Path) -> None:
    board = run(tmp_path, market(edge(0, 60_000, 15)), folds=1, recipes=[], contenders=("prior", "one-feature"))
    block = board.tests[0]
    answer = block.answers["one-feature"]
    assert "high_low_ratio" in answer.note
    assert block.scores["one-feature"].skill.errors > 2
    assert "BTC-USD: 1 of 1 beat the prior, furthest one-feature" in " ".join(sentences(board))
    assert "nothing beats one feature" in " ".join(sentences(board))


def test_each_side_of_the_cut_says_what_it_had_in_training() -> None:
    candles, recipe = edge(0, ROWS), tiny()
    ground, known, _ = cut_ground("BTC-USD", candles, recipe, [recipe], fold=1, folds=1)
    contender = Contender(name="one-feature", recipe=recipe, baseline="one-feature")
    answer = compete(contender, ground, known, seed=0, told=lambda _: None, state=Path())
    data = assemble(known, recipe.features.table, recipe.label.rule)
    blocks = ground.blocks(data)
    x, y = data.x[blocks.train], ground.labels(data, blocks)[blocks.train]
    rule = best_one_feature_rule(x, y, data.names)
    np.testing.assert_array_equal(answer.says, rule.predict(data.x[ground.rows(data)], data.names))
    column = data.names.index(rule.feature)
    below = x[:, column] <= rule.threshold
    wanted = {tuple(np.round([np.mean(y[side] == label) for label in range(3)], 5)) for side in (below, ~below)}
    assert set(map(tuple, np.round(np.exp(answer.log_probabilities.astype(float)), 5))) <= wanted


def test_one_that_fails_has_its_reason_and_the_race_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Any) -> None:
        raise TrainingError("the loss must stay finite, found nan")

    monkeypatch.setitem(contenders._FITS, "network", broken)
    board = run(tmp_path, recipes=[], contenders=("prior", "one-feature", "v7"), folds=2)
    assert board.tests[0].answers["v7"] == "the loss must stay finite, found nan"
    assert board.pick is None
    said = list(sentences(board))
    assert "BTC-USD: v7 failed: the loss must stay finite, found nan." in said
    assert "No recipe could be picked." in said
    assert "| v7 |  | failed |" in (tmp_path / "leaderboard.md").read_text()


def test_a_class_that_never_came_in_training_is_never_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = Ground.labels
    monkeypatch.setattr(Ground, "labels", lambda *given: np.where(labels(*given) == 1, 2, labels(*given)))
    board = run(tmp_path, recipes=[], contenders=("logistic", "boosting"), folds=1)
    for answer in board.tests[0].answers.values():
        assert isinstance(answer, Answer)
        assert not (answer.says == 1).any()
        assert np.isfinite(answer.log_probabilities).all()


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_a_variant_changes_what_it_says_and_nothing_else(variant: Any) -> None:
    base = load_recipe("v7")
    before = next((variant_recipe(base, one) for one in VARIANTS if one.name == variant.after), base).to_dict()
    changed = variant_recipe(base, variant).to_dict()
    assert changed["name"] == f"v7-{variant.name}"
    differs = {
        section: {key: value for key, value in changed[section].items() if before[section].get(key) != value}
        for section in before
        if isinstance(before[section], dict)
    }
    assert {section: keys for section, keys in differs.items() if keys} == variant.changes


def test_v8_is_five_of_the_small_variant() -> None:
    small = next(variant for variant in VARIANTS if variant.name == "small")
    wanted = variant_recipe(load_recipe("v7"), small).to_dict()
    found = load_recipe("v8").to_dict()
    wanted["loss"] |= {key: found["loss"][key] for key in ("alpha", "gamma")}  # of the focal loss, which it does not have
    told = {"name", "description", "trials", "ensemble"}
    assert {key: value for key, value in found.items() if key not in told} == {
        key: value for key, value in wanted.items() if key not in told
    }
    assert found["ensemble"]["members"] == 5
    assert len(VARIANTS) <= 6


def test_the_command_prints_a_narrow_table_and_the_sentences(tmp_path: Path) -> None:
    (tmp_path / "quick.toml").write_text(tiny(epochs=1).to_toml())
    words = ["leaderboard", "--candles", "synthetic:planted-edge-joint:10000", "--symbols", "BTC-USD", "--recipe", "quick.toml"]
    words += ["--contenders", "prior,one-feature,logistic,v7,v7-cross-entropy", "--folds", "2", "--out", "L"]
    done = crpbot(*words, "--workers", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "BTC-USD/fold-1/logistic  done in" in done.stderr
    table = [line for line in done.stdout.splitlines() if " s " in line or line.startswith("BTC-USD,")]
    assert len(table) == 6
    assert max(map(len, table)) <= 100
    assert "the best possible skill is 2." in done.stdout
    assert "The choice folds picked v7" in done.stdout
    assert done.stdout.replace("\n", " ").endswith("L/pick.toml ")
    again = crpbot(*words, "--json", cwd=tmp_path)
    assert again.stderr == ""
    plain = json.loads(again.stdout)
    assert plain == json.loads((tmp_path / "L" / "leaderboard.json").read_text())
    assert {*plain} >= {"protocol", "data", "versions", "choice", "blocks", "edge", "sentences"}
