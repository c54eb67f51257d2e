"""Tuning: the test block is never read, a cut-off study goes on to the same end, and every trial is counted."""

import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from models import market, quick
from overlap import times

from crpbot.cli import main
from crpbot.dataset.assemble import assemble
from crpbot.dataset.splits import calibration_folds
from crpbot.disk import locked
from crpbot.errors import DatasetError, RecipeError, TrainingError
from crpbot.making import trial as rooms
from crpbot.making.space import Space, read_space, space_from_toml, with_values
from crpbot.making.study import open_study
from crpbot.making.trial import Curve, Look, before_test, falls_behind, look_at, pose, standing
from crpbot.making.tune import BEST, STUDY, TRIALS, Tuned, tune
from crpbot.market.candles import MINUTE, Candles
from crpbot.model.choices import EnsembleChoice
from crpbot.model.recipe import Recipe, load_recipe
from crpbot.quality.metrics import prior_log_loss

ROWS = 4_000
SPACE = """
"training.learning_rate" = {low = 1e-4, high = 1e-2, log = true}
"training.batch_size" = {choices = [256, 512]}
"network.dropout" = {low = 0.0, high = 0.6, step = 0.1}
"""


@cache
def base(**training: float) -> Recipe:
    recipe = quick(**{"epochs": 2, "patience": 2, **training})
    return dataclasses.replace(recipe, network=dataclasses.replace(recipe.network, hidden=(8, 4)))


def space(text: str = SPACE, recipe: Recipe | None = None) -> Space:
    return space_from_toml(text, recipe or base(), where="space.toml")


def tuned(out: Path, *, candles: Candles | None = None, recipe: Recipe | None = None, text: str = SPACE, **options: Any) -> Tuned:
    recipe = recipe or base()
    given = {"trials": 4, "folds": 2, **options}
    return tune("BTC-USD", candles or market(rows=ROWS), recipe, out=out, space=space(text, recipe), **given)


def known(found: Tuned) -> list[tuple[object, ...]]:
    """Return everything of the trials but their seconds."""
    return [(one.number, one.values, one.look.state, one.look.curves) for one in found.trials]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tuned]:
    """A study that nobody cut off."""
    out = tmp_path_factory.mktemp("whole")
    return out, tuned(out)


# The space


def test_the_default_space_fits_the_recipes_of_the_package() -> None:
    for name in ("v6", "v7", "v7-barrier", "v7-relative"):
        found = read_space(None, load_recipe(name))
        assert len(found.parameters) > 5
    assert read_space(None, load_recipe("v7")).holds(read_space(None, load_recipe("v7")).values(load_recipe("v7")))


def test_every_proposal_of_the_default_space_is_a_recipe(tmp_path: Path) -> None:
    recipe = load_recipe("v7")
    default = read_space(None, recipe)
    with open_study(tmp_path / STUDY, {}, default, default.values(recipe), seed=0) as study:
        proposals = [study.propose(number).values for number in range(8)]
    assert proposals[0] == default.values(recipe)
    assert all(default.holds(values) for values in proposals)
    assert len({with_values(recipe, values).to_toml() for values in proposals}) == 8


def test_keys_may_be_dotted_or_stand_in_sections() -> None:
    one = space('"training.batch_size" = {choices = [64, 256]}')
    assert one == space("[training]\nbatch_size = {choices = [64, 256]}") == space("training.batch_size = {choices = [64, 256]}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must name what to tune"),
        ('"network.dropout" = {low = 0.0, high = 0.5, step = 5e-324}', "in whole steps"),
        (f'"training.batch_size" = {{low = 2, high = 1{"0" * 400}, step = 2}}', "must be between"),
        (f'"training.learning_rate" = {{low = 0, high = 1{"0" * 400}, step = 0.1}}', "must be between"),
        ("x = [", "must be TOML"),
        ('"training.learning_rat" = {low = 0.1, high = 0.2}', "did you mean training.learning_rate"),
        ('"training.batch_size" = {choises = [64, 256]}', "did you mean choices"),
        ('"label.horizon" = {choices = [5, 15]}', "would be another question"),
        ('"split.train" = {low = 0.5, high = 0.6}', "would be another question"),
        ('"features.max_gap_minutes" = {choices = [0, 1]}', "would be another question"),
        ('"ensemble.members" = {choices = [1, 5]}', "would be another question"),
        ('"training.learning_rate" = 0.1', "must be a range or choices"),
        ('"training.learning_rate" = {low = 0.1}', "found no high"),
        ('"training.learning_rate" = {low = 0.2, high = 0.1}', "low below high"),
        ('"training.learning_rate" = {low = nan, high = 0.1}', "must be a number"),
        ('"training.learning_rate" = {low = 0.1, high = 2.0}', "above 0 and below 1, found 2.0"),
        ('"training.learning_rate" = {low = 0.0, high = 0.1, log = true}', "low is above 0"),
        ('"network.dropout" = {low = 0.0, high = 0.5, step = 0.2}', "in whole steps"),
        ('"network.dropout" = {low = 0.0, high = 0.5, step = 0.0}', "in whole steps"),
        ('"training.batch_size" = {low = 64.0, high = 128}', "must be a whole number"),
        ('"training.batch_size" = {choices = [64, true]}', "must be a whole number, found True"),
        ('"training.batch_size" = {choices = [64]}', "at least two choices"),
        ('"training.batch_size" = {choices = [64, 64]}', "different choices"),
        ('"training.batch_size" = {choices = [64, 128], low = 1}', "choices or a range"),
        ('"network.hidden" = {low = 1, high = 2}', "may have choices, found 'low'"),
        ('"network.hidden" = {choices = [[8], [0]]}', "widths from 1 to 4096"),
        ('"loss.kind" = {choices = ["focal", "hinge"]}', "one of cross-entropy, focal"),
        ('"network.normalizer" = {choices = ["fit", "lost"]}', "training cannot see"),
        ('"training.epochs" = {choices = [1, 2]}\n[training]\nepochs = {choices = [1, 2]}', "found training.epochs twice"),
    ],
)
def test_a_space_that_cannot_be_is_refused_in_one_sentence(text: str, words: str) -> None:
    with pytest.raises(RecipeError, match=r"^space\.toml") as caught:
        space(text)
    assert words in str(caught.value)


@given(st.integers(0, 30), st.sampled_from([0.1, 0.05, 0.3]), st.sampled_from([0.0, 0.1, -0.7]))
def test_a_number_of_a_grid_is_written_as_people_write_it(steps: int, step: float, low: float) -> None:
    text = '"network.dropout" = {low = 0.0, high = 0.9, step = 0.1}'
    (parameter,) = space(text).parameters
    parameter = dataclasses.replace(parameter, low=low, high=low + 30 * step, step=step)
    found = parameter.on_grid(low + steps * step)
    assert len(str(found)) <= 5
    assert parameter.on_grid(found) == found


# The folds


@given(
    n=st.integers(2_000, 3_000),
    folds=st.integers(1, 6),
    share=st.floats(0.1, 0.3),
    horizon=st.integers(1, 60),
    embargo=st.integers(0, 60),
)
def test_folds_follow_each_other_to_the_end_and_no_label_reaches_over(
    n: int, folds: int, share: float, horizon: int, embargo: int
) -> None:
    time = times(n)
    cut = calibration_folds(time, time + (1 + horizon) * MINUTE, folds=folds, calibration=share, embargo=embargo)
    assert len(cut) == folds
    assert cut[-1].test[0].stop == n
    for before, after in pairwise(cut):
        assert after.test[0].start - embargo == before.test[0].stop
    for fold in cut:
        (train,), (judged,) = fold.train, fold.test
        assert train.start == 0
        assert time[train][-1] + (1 + horizon) * MINUTE <= time[judged.start - embargo]
        assert train.stop >= judged.stop - judged.start - horizon


def test_too_few_rows_make_no_folds() -> None:
    for n, folds in ((0, 1), (50, 3), (150, 1), (900, 0)):
        with pytest.raises(DatasetError):
            calibration_folds(times(n), times(n) + MINUTE, folds=folds, calibration=0.2, embargo=0)


def test_the_last_fold_is_nearly_what_the_recipe_trains_on_and_ends_before_its_test_block() -> None:
    recipe, candles = base(), market(rows=12_000)
    data = assemble(candles, recipe.features.table, recipe.label.rule)
    split = recipe.split.cut(data.time, data.known)
    shorter = before_test("BTC-USD", candles, recipe)
    begins = data.time[split.test.start - recipe.split.embargo]
    assert shorter.time[-1] == begins - MINUTE
    question = pose("BTC-USD", shorter, recipe, folds=1)
    (block,) = question.blocks
    assert abs(len(block.training.y) - split.train.stop) <= recipe.label.horizon
    assert abs(len(block.calibration.y) - (split.calibration.stop - split.calibration.start)) <= 2 * recipe.label.horizon


# Falling behind


CURVES = st.lists(st.lists(st.floats(-1, 1), min_size=1, max_size=6).map(tuple), min_size=3, max_size=3)


@given(CURVES, st.integers(0, 2), st.integers(1, 12))
def test_a_trial_stands_where_it_stopped(curves: list[Curve], fold: int, epoch: int) -> None:
    longer = [curve + (curve[-1] + 1,) * 12 for curve in curves]
    stopped = [curve + (max(curve),) * 12 for curve in curves]
    assert standing(curves, fold, epoch) <= standing(longer, fold, epoch) + 1e-12 or epoch <= len(curves[fold])
    assert standing(curves, fold, epoch) == standing(stopped, fold, epoch)


@given(st.lists(CURVES, min_size=5, max_size=8), CURVES)
def test_the_best_half_never_falls_behind_and_the_first_epochs_tell_nothing(others: list[list[Curve]], own: list[Curve]) -> None:
    best = [
        tuple(min(one[fold][min(epoch, len(one[fold]) - 1)] for one in others) - 1 for epoch in range(6)) for fold in range(3)
    ]
    assert not falls_behind(best, others)
    assert not falls_behind(own, others[:4])
    assert not falls_behind([own[0][: rooms.WARM_UP]], others)
    assert falls_behind([(2.0, 2.0, 2.0)], others)


@pytest.mark.slow
def test_giving_up_leaves_nothing_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    question = pose("BTC-USD", before_test("BTC-USD", market(rows=ROWS), base()), base(), folds=2)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    told: list[float] = []
    alone = look_at(base(), question, seed=0, told=lambda _, epoch: told.append(epoch.calibration_log_loss))
    priors = [prior_log_loss(block.calibration.y) for block in question.blocks for _ in range(2)]
    np.testing.assert_allclose(np.ravel(alone.curves), np.subtract(told, priors))
    monkeypatch.setattr(rooms, "WARM_UP", 0)
    pruned = look_at(base(), question, seed=0, earlier=[[(-9.0,), (-9.0,)]] * 5)
    assert (pruned.state, pruned.curves, pruned.value) == ("pruned", (alone.curves[0][:1],), None)
    assert "fold 1, epoch 1" in pruned.why
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert look_at(base(), question, seed=0).curves == alone.curves


# The study


@pytest.mark.slow
@settings(max_examples=2, phases=[Phase.generate])  # each example is a study; making a failing one smaller would take an hour
@given(seed=st.integers(0, 2**32 - 1))
def test_nothing_of_the_test_block_is_read(
    whole: tuple[Path, Tuned], tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """Every candle from its first moment on is another one; only how many there are is the same."""
    candles, other = market(rows=ROWS), np.random.default_rng(seed)
    data = assemble(candles, base().features.table, base().label.rule)
    begins = int(data.time[int(len(data) * (base().split.train + base().split.calibration))])
    test = candles.time >= begins
    assert 0.1 < test.mean() < 0.2
    close = np.where(test, np.exp(np.cumsum(other.normal(scale=0.05, size=len(candles)))), candles.close)
    changed = dataclasses.replace(
        candles,
        **{name: np.where(test, close, getattr(candles, name)) for name in ("open", "high", "low", "close")},
        volume=np.where(test, other.uniform(1, 9, len(candles)), candles.volume),
    )
    assert changed.sha256 != candles.sha256
    out = tmp_path_factory.mktemp("blind")
    found = tuned(out, candles=changed)
    assert known(found) == known(whole[1])
    assert (out / BEST).read_bytes() == (whole[0] / BEST).read_bytes()
    assert found.candles_sha256 == whole[1].candles_sha256


@pytest.mark.slow
def test_the_files_tell_what_was_found(whole: tuple[Path, Tuned]) -> None:
    out, found = whole
    told = json.loads((out / TRIALS).read_text())
    assert told == found.to_dict()
    assert [one["number"] for one in told["trials"]] == [0, 1, 2, 3]
    assert told["trials"][0]["values"] == {"network.dropout": 0.3, "training.batch_size": 256, "training.learning_rate": 0.003}
    best = load_recipe(str(out / BEST))
    assert best == found.recipe
    assert (best.name, best.trials) == ("v7-tuned", base().trials + 3)  # the base is one of the four
    assert found.ranked[0].look.value == min(one.look.value for one in found.trials)
    for one in found.trials:
        assert one.look.value == pytest.approx(np.mean(one.look.folds))


@pytest.mark.slow
def test_a_study_that_was_killed_ends_as_if_it_was_not(whole: tuple[Path, Tuned], tmp_path: Path) -> None:
    epochs = 0

    def kill(*_: object) -> None:
        nonlocal epochs
        epochs += 1
        if epochs in (1, 7, 12):  # in the first trial, between folds, and in a later one
            raise KeyboardInterrupt

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            tuned(tmp_path, watch=kill)
    assert (tmp_path / BEST).is_file()
    half = tuned(tmp_path, trials=3)
    assert known(half) == known(whole[1])[:3]
    assert known(tuned(tmp_path)) == known(whole[1])
    assert (tmp_path / BEST).read_bytes() == (whole[0] / BEST).read_bytes()
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / STUDY}")
    states = [one.state.name for one in optuna.load_study(study_name="tune", storage=storage).trials]
    storage.remove_session()
    storage.engine.dispose()
    assert (states.count("FAIL"), states.count("COMPLETE"), len(states)) == (3, 4, 7)


def test_the_first_recipe_is_proposed_once_however_early_a_run_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    first = space().values(base())
    with open_study(tmp_path / STUDY, {}, space(), first, seed=0) as study:
        monkeypatch.setattr(optuna.Study, "ask", killed)
        with pytest.raises(KeyboardInterrupt):
            study.propose(0)
        monkeypatch.undo()
        assert study.propose(0).values == first
        assert study.propose(1).values != first


@pytest.mark.slow
def test_a_trial_that_was_kept_but_not_yet_told_is_told_when_the_study_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the proposals after it would be others: a study has no more than what the sampler knows."""

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def proposed(file: Path, cuts: tuple[int, ...]) -> list[object]:
        found: list[object] = []
        while len(found) < 11:
            with open_study(file, {}, read(), values(), seed=0) as study:
                while (number := len(study.trials())) < 11:  # ten are drawn before the sampler learns
                    proposal = study.propose(number)
                    found.append(proposal.values)
                    gone: rooms.State = "pruned" if number == 3 else "complete"
                    curves = ((0.5, 0.1 * proposal.values["network.dropout"]),)
                    trial = rooms.Trial(number=number, values=proposal.values, look=Look(state=gone, curves=curves, seconds=0.0))
                    with monkeypatch.context() as patch:
                        if number in cuts:
                            patch.setattr(optuna.Study, "tell", killed)
                            with pytest.raises(KeyboardInterrupt):
                                study.tell(proposal, trial)
                            break
                        study.tell(proposal, trial)
        return found

    assert proposed(tmp_path / "cut", (2, 3)) == proposed(tmp_path / "whole", ())


KEPT = "update trial_user_attributes set value_json = '{}'"
LOOKED = {"number": 0, "values": {}, "look": {"state": "complete", "curves": [[0.1], [0.2]], "seconds": 1.0, "why": ""}}
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture(scope="module")
def one_trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study in which the base was looked at."""
    file = tmp_path_factory.mktemp("one") / STUDY
    with open_study(file, {"folds": 2}, read(), values(), seed=0) as study:
        proposal = study.propose(0)
        study.tell(proposal, rooms.Trial(number=0, values=proposal.values, look=look(0.1, 0.2)))
    return file


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (KEPT.format("{"), "Expecting property name"),
        (KEPT.format('"x"'), "trial 0"),
        (KEPT.format(DEEP), "recursion"),
        (KEPT.format('{"number": 0}'), "trial 0"),
        (KEPT.format(json.dumps({**LOOKED, "number": 1})), "trial 0"),
        (KEPT.format(json.dumps(LOOKED)).replace("[0.2]", "[NaN]"), "trial 0"),
        (KEPT.format(json.dumps(LOOKED)).replace(", [0.2]", ""), "trial 0"),
        (KEPT.format(json.dumps(LOOKED)).replace("[0.1], [0.2]", ""), "trial 0"),
        ("update trial_values set value = null", "cannot be read"),
        ("update study_user_attributes set value_json = '{'", "Expecting property name"),
        ("update alembic_version set version_num = 'zzz'", "no longer compatible"),
        ("update trials set state = 'X'", "X"),
        ("update trial_params set distribution_json = '{'", "Expecting property name"),
        ("update study_directions set direction = 'MAXIMIZE'", "MAXIMIZE"),
        ("drop table trials; drop table studies; drop table alembic_version", "no studies"),
    ],
)
def test_a_damaged_or_foreign_study_is_an_error_of_ours_and_is_left_alone(
    tmp_path: Path, one_trial: Path, change: str, words: str
) -> None:
    file, made_of = tmp_path / STUDY, {"folds": 2}
    shutil.copyfile(one_trial, file)
    with open_study(file, made_of, read(), values(), seed=0) as study:
        assert len(study.trials()) == 1
    with sqlite3.connect(file) as connection:
        connection.executescript(change)
    connection.close()
    before = file.read_bytes()
    with (
        pytest.raises(TrainingError, match="must be a file of Optuna") as caught,
        open_study(file, made_of, read(), values(), seed=0) as study,
    ):
        study.trials()
    assert words in str(caught.value)
    assert len(str(caught.value)) < 400
    assert file.read_bytes() == before


def test_an_error_of_who_uses_a_study_is_not_taken_for_damage(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), open_study(tmp_path / STUDY, {}, read(), values(), seed=0):
        raise ValueError("mine")


@pytest.mark.slow
def test_the_same_call_again_trains_nothing(whole: tuple[Path, Tuned]) -> None:
    def nobody(*_: object) -> None:
        raise AssertionError

    assert known(tuned(whole[0], watch=nobody, done=nobody)) == known(whole[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"folds": 3}, "folds 2 (now 3)"),
        ({"seed": 1}, "seed 0 (now 1)"),
        ({"recipe": base(epochs=3)}, "recipe.training.epochs 2 (now 3)"),
        ({"candles": market(rows=ROWS + 500)}, "candles "),
        ({"text": SPACE.replace("0.6", "0.5")}, "space.network.dropout.high 0.6 (now 0.5)"),
    ],
)
def test_another_question_in_the_same_folder_is_refused(whole: tuple[Path, Tuned], change: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match="goes on with what it began with") as caught:
        tuned(whole[0], **change)
    assert words in str(caught.value)


def test_what_a_study_does_not_name_is_another_than_what_it_names_as_none(tmp_path: Path) -> None:
    def opened(made_of: dict[str, Any]) -> None:
        with open_study(tmp_path / STUDY, made_of, space(), {}, seed=0):
            pass

    opened({"seed": 0, "rolling": None})
    opened({"seed": 0, "rolling": None})
    with pytest.raises(RecipeError, match="goes on with what it began with"):
        opened({"seed": 0})


@pytest.mark.slow
def test_a_better_value_is_found_beside_a_base_outside_of_the_space(tmp_path: Path) -> None:
    lame = base(learning_rate=1e-9)
    lame = dataclasses.replace(lame, trials=7, ensemble=EnsembleChoice(members=3))
    found = tuned(tmp_path, recipe=lame, trials=4, text='"training.learning_rate" = {low = 3e-3, high = 3e-2, log = true}')
    assert found.trials[0].values == {"training.learning_rate": 1e-9}
    assert found.best is not None
    assert found.best.number > 0
    assert found.better
    assert found.gain > 0.02
    assert (found.recipe.trials, found.recipe.ensemble.members) == (10, 3)
    assert "nats better than v7" in found.words
    assert "ensemble of 3 was tuned as one" in found.words


@pytest.mark.slow
def test_a_loss_that_explodes_is_a_trial_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(recipe: Recipe, *args: Any, **options: Any) -> object:
        if recipe.training.learning_rate != base().training.learning_rate:
            raise TrainingError("the loss must stay finite")
        return train(recipe, *args, **options)

    train = rooms.train
    monkeypatch.setattr(rooms, "train", explode)
    found = tuned(tmp_path, trials=3)
    assert [one.look.state for one in found.trials] == ["complete", "failed", "failed"]
    assert found.best.number == 0
    assert not found.better
    assert "none is better than v7 itself" in found.words
    assert load_recipe(str(tmp_path / BEST)).trials == 3


def look(*folds: float) -> Look:
    return Look(state="complete", curves=tuple((fold,) for fold in folds), seconds=0.0)


@cache
def read() -> Space:
    return space()


@cache
def values() -> dict[str, Any]:
    return read().values(base())


def of(*looks: Look) -> Tuned:
    """Return the study that gave these."""
    trials = tuple(rooms.Trial(number=n, values=values(), look=one) for n, one in enumerate(looks))
    made = {"symbol": "BTC-USD", "base": base(), "space": read(), "folds": len(looks[0].folds), "seed": 0, "candles_sha256": ""}
    return Tuned(**made, trials=trials, importance={})


def test_a_gain_within_the_spread_of_the_folds_is_none() -> None:
    for folds, better in (
        ((-0.1, -0.1, -0.1), True),
        ((-0.3, 0.1, -0.1), False),
        ((-0.1, -0.12, -0.08), True),
        ((0, 0, 0), False),
    ):
        now = of(look(0.0, 0.0, 0.0), look(*folds))
        assert now.better == better, folds
        assert ("Keep v7" in now.words or "keep it" in now.words) != better
    alone = of(look(0), look(-1))
    assert not alone.better
    assert "nobody knows" in alone.words


def test_the_best_of_many_must_gain_more_than_that_of_two() -> None:
    """The same gain, +8.7 standard errors of three folds: a chance of 0.7 % alone, and of 23 % as the best of 40."""
    gained = look(-0.1, -0.12, -0.08)
    two, many = of(look(0.0, 0.0, 0.0), gained), of(look(0.0, 0.0, 0.0), gained, *[look(1.0, 1.0, 1.0)] * 38)
    assert two.chance == pytest.approx(0.00653, rel=0.01)
    assert many.chance == pytest.approx(1 - (1 - two.chance) ** 39)
    assert (two.better, many.better) == (True, False)
    assert "than chance would be in 2 trials" in two.words
    assert "chance alone gets so far in 23 % of such studies" in many.words


@pytest.mark.parametrize(("trials", "folds"), [(2, 3), (40, 3), (40, 5)])
@pytest.mark.slow
def test_a_study_of_pure_noise_is_seldom_called_better(trials: int, folds: int) -> None:
    rng = np.random.default_rng(0)
    noise = [of(*[look(*one) for one in rng.normal(size=(trials, folds))]) for _ in range(2_000)]
    assert np.mean([one.better for one in noise]) < 0.07


@pytest.mark.slow
def test_a_damaged_study_is_an_error_of_one_line_and_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / STUDY).write_bytes(b"no database" * 1_000)
    with pytest.raises(TrainingError, match="move it away"):
        tuned(tmp_path)
    assert (tmp_path / STUDY).read_bytes() == b"no database" * 1_000


def test_two_at_once_in_a_folder_are_refused(tmp_path: Path) -> None:
    with locked(tmp_path / "study.lock") as ours:
        assert ours
        with pytest.raises(RecipeError, match="found another at work"):
            tuned(tmp_path)


def test_without_optuna_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("optuna.")] + ["crpbot.making.tune", "crpbot.making.study"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.setattr(sys, "argv", ["crpbot", "tune", "--symbol", "BTC-USD", "--out", "nowhere"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    wanted = "error: this command needs the extra `train`, found no optuna; pip install 'crpbot[train]'\n"
    assert capsys.readouterr().err == wanted


@pytest.mark.slow
def test_side_by_side_the_trials_are_the_same_and_a_killed_worker_loses_nothing(
    whole: tuple[Path, Tuned], tmp_path: Path
) -> None:
    """The first trials are drawn by their numbers alone, so they are those of one worker."""

    def kill(trial: rooms.Trial) -> None:
        if trial.number == 1:
            for child in multiprocessing.active_children():
                child.kill()

    with pytest.raises(TrainingError, match="take fewer with --workers"):
        tuned(tmp_path, workers=2, trials=3, done=kill)
    assert len(json.loads((tmp_path / TRIALS).read_text())["trials"]) == 2
    assert known(tuned(tmp_path, trials=3)) == known(whole[1])[:3]


@pytest.mark.slow
def test_as_a_user_types_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A Ctrl-C ends it in one line; the same command goes on, in a folder whose name a URL would misread; nobody warns."""
    (tmp_path / "quick.toml").write_text(base().to_toml())
    (tmp_path / "space.toml").write_text(SPACE)
    out = tmp_path / "a {b}?c%20"
    words = ["tune", "--recipe", tmp_path / "quick.toml", "--symbol", "BTC-USD", "--candles", f"synthetic:level-noise:{ROWS}"]
    words += ["--space", tmp_path / "space.toml", "--folds", "2", "--out", out]
    command = [sys.executable, "-W", "error", "-m", "crpbot", *map(str, words), "--trials", "5000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not (out / BEST).is_file() and process.poll() is None:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        stderr = process.communicate()[1]
    assert process.returncode == 130, stderr
    assert [line[:5] for line in stderr.splitlines()][-1] == "stopp"
    assert "an unfinished trial of tune from its beginning" in stderr
    assert all(line.startswith(("trial ", "stopped")) for line in stderr.splitlines())
    reached = len(json.loads((out / TRIALS).read_text())["trials"])
    monkeypatch.setattr(sys, "argv", ["crpbot", *map(str, words), "--trials", str(reached + 2)])
    with pytest.raises(SystemExit) as caught:
        main()
    done = capsys.readouterr()
    assert caught.value.code == 0, done.err
    assert len(done.err.splitlines()) in (1, 2)  # one may have ended in the moment of the Ctrl-C
    assert f"trial {reached + 1}  " in done.err
    for word in ("fold by fold", "v7", "best.toml, which knows of"):
        assert word in done.out
    for word in ("judge nothing", "crpbot train --recipe", "crpbot diagnose"):  # nobody is sent on with what chance explains
        assert (word in done.out) == json.loads((out / TRIALS).read_text())["better_than_recipe"]
