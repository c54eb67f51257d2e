"""An ensemble: what its members say, pooled and then calibrated, whatever form it has; and how they are trained."""

import dataclasses
import io
import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from models import ensemble, market, quick, several
from torch.nn.functional import log_softmax, softmax

from crpbot.dataset.labels import DOWN, UP
from crpbot.errors import CheckpointError, DatasetError
from crpbot.factory import audit, diagnose, repair
from crpbot.making.model import make_model, train_model
from crpbot.market.candles import MINUTE
from crpbot.model import fitting
from crpbot.model.calibration import LEAST, MOST, fit_temperature, row_log_loss
from crpbot.model.checkpoint import Checkpoint
from crpbot.model.export import distance, to_onnx
from crpbot.model.fitting import Dated, fit_network, lessons, member_seed
from crpbot.model.loading import load_checkpoint
from crpbot.model.network import DirectionNetwork
from crpbot.model.onnx_file import read_onnx
from crpbot.model.pt_file import save_checkpoint, to_bytes
from crpbot.model.recipe import Recipe
from crpbot.model.remedies import reestimated, relabelled, reordered, shifted, tempered
from crpbot.model.seed import export_seed
from crpbot.model.training import Epoch, Rows, Watch
from crpbot.model.weights import Weights, packed, pooled, shapes_of
from crpbot.quality.experiment import experiment_of
from crpbot.quality.layers import measure_layers

WIDTHS = (5, 8, 4, 3)
X = np.random.default_rng(0).normal(100, 20, size=(50, 5))
NAMES = tuple("abcde")


def drawn(seed: int, *, normalization: bool = True, temperature: float | None = 1.7) -> Weights:
    """A network whose every number is drawn; all of them share one normalizer."""
    rng, shapes = (
        np.random.default_rng(seed),
        shapes_of(WIDTHS, batch_normalization=normalization, temperature=False, normalizer=False),
    )
    arrays = {name: rng.normal(0, 0.7, size=shape).astype(np.float32) for name, shape in shapes.items()}
    arrays |= {name: np.abs(array) + np.float32(0.3) for name, array in arrays.items() if name.endswith("running_var")}
    shared = {"normalizer.mean": np.full(5, 100.0), "normalizer.scale": np.full(5, 20.0)}
    own = {} if temperature is None else {"temperature": np.array(temperature, np.float32)}
    return Weights({**shared, **arrays, **own})


def together(members: int = 3, *, temperature: float | None = None) -> Weights:
    whole = packed([drawn(seed) for seed in range(members)])
    return whole if temperature is None else whole.changed({"temperature": np.array(temperature)})


def checkpoint_of(weights: Weights) -> Checkpoint:
    return Checkpoint(network=weights, features=NAMES)


def module_of(weights: Weights) -> DirectionNetwork:
    """A member as a module of torch."""
    made = DirectionNetwork(
        5, hidden=WIDTHS[1:-1], batch_normalization=weights.batch_normalization, dropout=0.0, temperature=None
    )
    return made.with_weights(weights).eval()


# What they say


@pytest.mark.parametrize("normalization", [True, False])
@pytest.mark.parametrize("temperature", [1.7, 0.05, None])
def test_copies_of_one_network_say_what_it_says_and_do_not_disagree(*, normalization: bool, temperature: float | None) -> None:
    one = drawn(1, normalization=normalization, temperature=temperature)
    found, wanted = (checkpoint_of(weights).predict(X) for weights in (packed([one] * 4), one))
    np.testing.assert_allclose(found.probabilities, wanted.probabilities, atol=1e-5)
    assert (found.disagreement == 0).all()
    assert wanted.disagreement is None


def test_the_order_of_members_does_not_matter() -> None:
    members = [drawn(seed) for seed in range(3)]
    first, *others = [checkpoint_of(packed(order)).predict(X) for order in permutations(members)]
    for other in others:
        np.testing.assert_allclose(other.logits, first.logits, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(other.disagreement, first.disagreement, rtol=1e-9)


@pytest.mark.parametrize("temperature", [None, 0.6, 3.0])
def test_numpy_says_what_a_plain_loop_of_torch_says(temperature: float | None) -> None:
    whole, t = together(temperature=temperature), temperature or 1.0
    with torch.inference_mode():
        z = torch.stack([module_of(member)(torch.from_numpy(X)) for member in whole.each]).double()
        logits = torch.log(softmax(z, 2).mean(0)) / t
        each = softmax(log_softmax(z, 2) / t, 2)
    found = checkpoint_of(whole).predict(X)
    np.testing.assert_allclose(found.logits, logits.numpy(), atol=1e-5)
    np.testing.assert_allclose(whole.speak(X)[1], each.numpy(), atol=1e-6)
    side = np.where(found.probabilities[:, UP] > found.probabilities[:, DOWN], UP, DOWN)
    wanted = [np.std([member[row, side[row]] for member in each.numpy()]) for row in range(len(X))]
    np.testing.assert_allclose(found.disagreement, wanted, atol=1e-6)


LOGITS = hnp.arrays(np.float64, (4, 6, 3), elements=st.floats(-20, 20) | st.sampled_from([-1e4, 1e4, 1e6]))


@given(LOGITS, hnp.arrays(np.int64, 6, elements=st.integers(0, 2)))
def test_the_whole_is_never_worse_than_its_members_are_on_average(logits: np.ndarray, y: np.ndarray) -> None:
    """Jensen's inequality: the logarithm of a mean is at least the mean of the logarithms, row by row, before any temperature."""
    whole = row_log_loss(pooled(logits), y)
    members = np.mean([row_log_loss(member, y) for member in logits], axis=0)
    assert (whole <= members + 1e-9 * np.maximum(members, 1)).all()


def test_a_network_that_shouts_stays_loud_and_becomes_no_nan() -> None:
    loud = np.array([[[-12_730.0, 3e37, 0.0]], [[1.0, -3e37, 2.0]]])
    assert np.isfinite(pooled(loud)).all()
    assert pooled(loud[:1]).tolist() == [[-3e37, 0.0, -3e37]]
    broken = together(temperature=1.0)
    raw = Weights({name: array for name, array in broken.arrays.items() if not name.startswith("normalizer.")})
    logits = checkpoint_of(raw).predict(X * 1e6).logits
    assert np.isfinite(logits).all()
    assert np.abs(logits).max() > 1e4


def test_one_who_asks_for_layers_gets_the_units_of_all_members() -> None:
    whole, members = together(), together().each
    assert (whole.members, whole.architecture, whole.hidden) == (3, "3 x 5-8-4-3", (8, 4))
    for number in range(1, whole.depth + 1):
        for place in (0, 1):
            parts = [member.linear(number)[place] for member in members]
            np.testing.assert_array_equal(whole.linear(number)[place], np.concatenate(parts))
    np.testing.assert_array_equal(whole.norm(2).variance, np.concatenate([member.norm(2).variance for member in members]))
    dead = whole.changed({"bn1.weight": whole.arrays["bn1.weight"] * np.array([[0], [1], [1]]),
                          "bn1.bias": -np.abs(whole.arrays["bn1.bias"]) * np.array([[1], [0], [0]])})  # fmt: skip
    first = measure_layers(dead, X)[0]
    assert first.units == 24
    assert first.dead == pytest.approx(np.mean([measure_layers(member, X)[0].dead for member in dead.each]))
    assert first.dead >= 1 / 3


def test_what_is_put_right_in_an_ensemble_is_put_right_in_each_member() -> None:
    whole = checkpoint_of(together(temperature=1.4))
    logits = whole.predict(X).logits
    np.testing.assert_allclose(tempered(whole, 2.0).predict(X).logits, logits / 2, rtol=1e-6)
    np.testing.assert_allclose(relabelled(whole, (2, 0, 1)).predict(X).logits, logits[:, [2, 0, 1]], rtol=1e-6)
    order = np.array([3, 1, 0, 4, 2])
    swapped = reordered(whole, order, scaler_too=True)
    np.testing.assert_allclose(swapped.predict(X).logits, whole.predict(X[:, order]).logits, atol=1e-4)
    moved = shifted(whole, np.array([-0.3, 0.1, 0.2])).weights
    for member, before in zip(moved.each, whole.weights.each, strict=True):
        step = member.serve(X) - before.serve(X)
        np.testing.assert_allclose(step, np.tile(np.array([-0.3, 0.1, 0.2]) * 1.4, (50, 1)), atol=1e-5)
    again = reestimated(whole, X)
    for member, before in zip(again.weights.each, whole.weights.each, strict=True):
        alone = reestimated(checkpoint_of(before), X).weights
        np.testing.assert_array_equal(member.arrays["bn2.running_var"], alone.arrays["bn2.running_var"])


# How they are trained


def dated(n: int = 1_200, horizon: int = 15) -> Dated:
    """Rows that are known by their first number, in which the second says something of the class."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 5))
    x[:, 0] = np.arange(n)
    time = 1_700_000_040_000 + MINUTE * np.arange(n)
    return Dated(x, np.digitize(x[:, 1] + rng.normal(size=n), [-0.4, 0.4]).astype(np.int64), time, time + (1 + horizon) * MINUTE)


def recipe_of(vary: str, **network: object) -> Recipe:
    recipe = several(quick(epochs=3, batch_size=64), vary=vary)
    split = dataclasses.replace(recipe.split, embargo=20)
    return dataclasses.replace(recipe, split=split, network=dataclasses.replace(recipe.network, **network))


CALIBRATION = Rows(dated(300).x + 5_000, dated(300).y)


@given(st.integers(2, 6), st.integers(0, 40), st.integers(0, 40))
def test_a_member_never_learns_from_its_group_or_what_overlaps_it(members: int, embargo: int, horizon: int) -> None:
    recipe = dataclasses.replace(several(quick(), members, vary="fold"))
    recipe = dataclasses.replace(recipe, split=dataclasses.replace(recipe.split, embargo=embargo))
    training = dated(1_200, horizon)
    judged = []
    for own, judging in lessons(recipe, training, CALIBRATION):
        learned, stopping = own.x[:, 0].astype(int), judging.x[:, 0].astype(int)
        judged += stopping.tolist()
        np.testing.assert_array_equal(own.y, training.y[learned])
        before, after = learned[learned < stopping[0]], learned[learned > stopping[-1]]
        assert len(before) + len(after) == len(learned)
        assert (training.known[before] <= training.time[stopping[0]]).all()
        assert (training.time[after] >= training.known[stopping].max() + embargo * MINUTE).all()
    assert judged == list(range(1_200))  # every row of the training block judges one member, and no other row does


def test_members_of_neighbouring_runs_have_other_seeds_and_the_first_is_the_run_itself() -> None:
    seeds = [member_seed(seed, member) for seed in range(50) for member in range(1, 65)]
    assert [member_seed(seed, 1) for seed in range(50)] == list(range(50))
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_training_rows_that_are_too_few_for_so_many_folds_are_refused_before_training() -> None:
    with pytest.raises(DatasetError, match="at least 100 rows"):
        list(lessons(several(quick(), 8, vary="fold"), dated(700), CALIBRATION))


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Rows, Rows, int]]:
    """What training was given: rows to learn from, rows to stop early by, and the seed."""
    seen, train = [], fitting.train

    def watched(recipe: Recipe, training: Rows, judging: Rows, **more: object) -> object:
        seen.append((training, judging, more["seed"]))
        return train(recipe, training, judging, **more)

    monkeypatch.setattr(fitting, "train", watched)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("vary", ["seed", "fold"])
def test_members_share_the_normalizer_of_the_whole_block_and_only_the_temperature_sees_the_calibration_block(
    vary: str, handed: list[tuple[Rows, Rows, int]]
) -> None:
    recipe, training = recipe_of(vary), dated()
    fitted = fit_network(recipe, training, CALIBRATION, names=NAMES, seed=7)
    np.testing.assert_allclose(fitted.network.weights.normalizer.mean, training.x.mean(axis=0), rtol=1e-12)
    assert [seed for *_, seed in handed] == [member_seed(7, member) for member in (1, 2, 3)]
    for own, judging, _ in handed:
        assert own.x[:, 0].max() < 5_000
        assert (judging is CALIBRATION) == (vary == "seed")
        assert (judging.x[:, 0].max() < 5_000) == (vary == "fold")
    bare = Weights({name: array for name, array in fitted.network.weights.arrays.items() if name != "temperature"})
    wanted = fit_temperature(bare.serve(CALIBRATION.x), CALIBRATION.y)
    assert LEAST <= wanted <= MOST
    assert fitted.network.weights.temperature == pytest.approx(wanted, rel=1e-6)
    kept = [max(one.epoch for one in fitted.history if one.member == member and one.best) for member in (1, 2, 3)]
    assert fitted.best_epoch == sorted(kept)[1]


@pytest.mark.slow
def test_the_first_member_by_seed_is_the_single_network_of_that_seed() -> None:
    recipe = recipe_of("seed", temperature="none")
    alone = dataclasses.replace(recipe, ensemble=dataclasses.replace(recipe.ensemble, members=1))
    one, three = (fit_network(each, dated(), CALIBRATION, names=NAMES, seed=3).network.weights for each in (alone, recipe))
    assert three.temperature is None
    for name, array in three.each[0].arrays.items():
        np.testing.assert_array_equal(array, one.arrays[name], err_msg=name)
    assert not np.array_equal(three.each[1].arrays["fc1.weight"], one.arrays["fc1.weight"])


class Cut(BaseException):
    """What a kill is to Python code: nothing catches it."""


def cutting(at: tuple[int, int]) -> Watch:
    def cut(epoch: Epoch) -> None:
        if (epoch.member, epoch.epoch) == at:
            raise Cut

    return cut


@pytest.mark.slow
@pytest.mark.parametrize("vary", ["seed", "fold"])
def test_a_run_that_is_cut_off_in_any_member_ends_with_the_same_numbers(vary: str, tmp_path: Path) -> None:
    recipe = recipe_of(vary)
    whole = fit_network(recipe, dated(), CALIBRATION, names=NAMES, seed=4)

    for at in ((1, 1), (1, 3), (2, 2), (3, 2)):
        with pytest.raises(Cut):
            fit_network(recipe, dated(), CALIBRATION, names=NAMES, seed=4, state=tmp_path, watch=cutting(at))
    again = fit_network(recipe, dated(), CALIBRATION, names=NAMES, seed=4, state=tmp_path)
    assert [(one.member, one.epoch) for one in again.history if not one.earlier] == [(3, 3)]
    for name, array in whole.network.weights.arrays.items():
        np.testing.assert_array_equal(again.network.weights.arrays[name], array, err_msg=name)
    assert len(set(again.states)) == 3
    assert sorted(again.states) == sorted(tmp_path.iterdir())


@pytest.mark.slow
def test_a_model_that_was_cut_off_in_its_second_member_is_the_same_in_the_end(tmp_path: Path) -> None:
    recipe, candles = several(quick(epochs=2)), market(rows=5_000)

    def made(folder: str, watch: Watch | None = None) -> Path:
        train_model("BTC-USD", candles, recipe, source="synthetic", seed=0, folder=tmp_path / folder, watch=watch)
        return tmp_path / folder

    whole = made("whole")
    with pytest.raises(Cut):
        made("cut", cutting((2, 1)))
    assert len(list((tmp_path / "cut").rglob("*.state"))) == 2
    again = made("cut")
    for name in ("lstm_BTC-USD_v7_enhanced.pt", "model.onnx"):
        assert (again / name).read_bytes() == (whole / name).read_bytes()
    assert sorted(file.name for file in again.iterdir()) == sorted(file.name for file in whole.iterdir())
    rows = [json.loads(line) for line in (again / "training.jsonl").read_text().splitlines()]
    assert [(row["member"], row["epoch"], row["earlier"]) for row in rows] == [
        (1, 1, True), (1, 2, True), (2, 1, True), (2, 2, False), (3, 1, False), (3, 2, False)
    ]  # fmt: skip
    assert "3 x 72-8-4-3" in (again / "report.html").read_text()
    assert "members disagree by" in (again / "report.html").read_text()
    plain = json.loads((again / "diagnosis.json").read_text())
    assert plain["model"]["architecture"] == "3 x 72-8-4-3"
    assert 0 < plain["metrics"]["disagreement_mean"] < 0.5


@pytest.mark.slow
def test_a_scaler_that_an_ensemble_has_lost_comes_back(tmp_path: Path) -> None:
    recipe, candles = several(quick(epochs=2)), market(rows=5_000)
    lost = dataclasses.replace(recipe, network=dataclasses.replace(recipe.network, normalizer="lost"))
    train_model("BTC-USD", candles, lost, source="synthetic", seed=0, folder=tmp_path / "lost")
    done = repair(tmp_path / "lost", candles, out=tmp_path / "fixed.pt", source="synthetic").done
    assert done[0].cause == "lost-normalizer"
    fixed = load_checkpoint(tmp_path / "fixed.pt").weights
    for name, array in ensemble().weights.arrays.items():  # the same recipe, seed and rows
        if name.startswith("normalizer."):
            np.testing.assert_allclose(fixed.arrays[name], array, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tempered", "shifted", "relabelled"])
def test_what_a_what_if_measures_of_an_ensemble_is_what_a_repair_would_write(name: str, tmp_path: Path) -> None:
    save_checkpoint(ensemble(), tmp_path / "m.pt", probe=np.ones((2, 72)))
    experiment = experiment_of(diagnose(tmp_path / "m.pt", market(rows=5_000), source="synthetic").diagnosis)
    trial = getattr(experiment, name)
    written = trial.apply(ensemble()).predict(experiment.judged.x[experiment.held])
    assert trial.measures.log_loss == pytest.approx(
        row_log_loss(written.logits, experiment.judged.y[experiment.held]).mean(), rel=1e-9
    )
    assert trial.outputs_only


# The file


def saved(tmp_path: Path, made: Checkpoint, change: object = None) -> Path:
    payload = torch.load(io.BytesIO(to_bytes(made)), weights_only=True)
    if change is not None:
        change(payload)
    torch.save(payload, tmp_path / "m.pt")
    return tmp_path / "m.pt"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fit", "none", "lost", "no-temperature"])
def test_the_file_read_back_says_the_same_in_both_forms(kind: str, tmp_path: Path) -> None:
    made = ensemble("fold")
    probe = made.weights.normalizer.mean + made.weights.normalizer.scale * np.random.default_rng(0).normal(size=(200, 72))
    if kind != "fit":
        recipe = several(quick(epochs=1), vary="fold")
        choice = {"temperature": "none"} if kind == "no-temperature" else {"normalizer": kind}
        recipe = dataclasses.replace(recipe, network=dataclasses.replace(recipe.network, **choice))
        made = make_model("BTC-USD", market(rows=5_000), recipe, source="synthetic", seed=0)[0]
        assert (made.weights.normalizer is None) == (kind != "no-temperature")
        assert (made.weights.temperature is None) == (kind == "no-temperature")
    save_checkpoint(made, tmp_path / "m.pt", probe=probe)
    state = torch.load(tmp_path / "m.pt", weights_only=True)["model_state_dict"]
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == shapes_of(
        (72, 8, 4, 3),
        batch_normalization=True,
        temperature=kind != "no-temperature",
        normalizer=kind in {"fit", "no-temperature"},
        members=3,
    )
    back = load_checkpoint(tmp_path / "m.pt")
    np.testing.assert_array_equal(back.predict(probe).disagreement, made.predict(probe).disagreement)
    content = to_onnx(made, checkpoint_sha256="ab" * 32)
    deployed = read_onnx(content, where="m")[1]
    assert distance(deployed, made, probe).max() <= 1e-6
    assert to_onnx(deployed, checkpoint_sha256="ab" * 32) == content
    with pytest.raises(CheckpointError, match="must hold one network, found an ensemble of 3; export it as onnx"):
        export_seed(made, tmp_path / "seed.pt")


def layers(change: object) -> object:
    """Change every array of the members at once."""

    def altered(payload: dict) -> None:
        arrays = payload["model_state_dict"]
        arrays.update({name: change(array) for name, array in arrays.items() if array.ndim > 1})

    return altered


class Spread:
    """An ensemble that says as a whole what another one says, by members that are further apart."""

    def __init__(self, network: Weights) -> None:
        self.weights = network

    def speak(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, members = self.weights.speak(x)
        return logits, members.mean(axis=0) + 1.01 * (members - members.mean(axis=0))


def test_two_forms_that_differ_in_what_their_members_say_are_not_the_same() -> None:
    whole = together()
    assert distance(checkpoint_of(whole), checkpoint_of(whole), X).max() == 0
    assert distance(checkpoint_of(Spread(whole)), checkpoint_of(whole), X).max() > 1e-5


def state(name: str, change: object) -> object:
    def altered(payload: dict) -> None:
        arrays = payload["model_state_dict"]
        arrays[name] = change(arrays[name])

    return altered


ALTERED = {
    "a-member-less": (layers(lambda a: a[:2]), "for fc1"),
    "a-member-less-in-one-layer": (state("fc2.weight", lambda a: a[:2]), "for fc2"),
    "flat-in-one-layer": (state("fc2.weight", lambda a: a[0]), "for fc2"),
    "flat-everywhere": (layers(lambda a: a[0]), "for fc1"),
    "more-members-in-the-recipe": (lambda p: p["recipe"]["ensemble"].update(members=4), "for fc1"),
    "one-member-in-the-recipe": (lambda p: p["recipe"]["ensemble"].update(members=1), "for fc1"),
    "a-bias-of-others": (state("fc3.bias", lambda a: a[:, :2]), "for fc3.bias"),
    "no-bias": (lambda p: p["model_state_dict"].pop("fc1.bias"), "for fc1.bias"),
    "nan": (state("bn2.running_var", lambda a: a * float("nan")), "for bn2.running_var"),
    "infinite": (state("fc3.weight", lambda a: a + float("inf")), "for fc3.weight"),
    "wide-numbers": (state("fc2.weight", lambda a: a.double()), "for fc2.weight"),
    "another-array": (state("bn1.weight", lambda a: a), "for fc9.weight"),
    "a-temperature-a-member": (state("temperature", lambda a: a.repeat(3)), "for temperature"),
    "temperature-of-0": (state("temperature", lambda a: a * 0), "positive temperature"),
    "normalizer-a-member": (state("normalizer.mean", lambda a: a.repeat(3, 1)), "for normalizer.mean"),
    "no-normalizer": (lambda p: [p["model_state_dict"].pop(f"normalizer.{part}") for part in ("mean", "scale")], "found none"),
    "unfitted": (state("normalizer.scale", lambda a: a * 0), "positive scale"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALTERED)
def test_an_altered_ensemble_cannot_be_loaded(kind: str, tmp_path: Path) -> None:
    change, words = ALTERED[kind]

    def altered(payload: dict) -> None:
        change(payload)
        if kind == "another-array":
            payload["model_state_dict"]["fc9.weight"] = torch.zeros(3, 1, 1)

    with pytest.raises(CheckpointError, match=words) as refused:
        load_checkpoint(saved(tmp_path, ensemble(), altered))
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_an_ensemble_that_normalizes_cannot_be_written_without_its_normalizer(tmp_path: Path) -> None:
    arrays = {name: array for name, array in ensemble().weights.arrays.items() if not name.startswith("normalizer.")}
    with pytest.raises(CheckpointError, match="normalizes"):
        save_checkpoint(dataclasses.replace(ensemble(), network=Weights(arrays)), tmp_path / "m.pt", probe=np.ones((2, 72)))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_audit_trains_the_whole_ensemble_again(tmp_path: Path, handed: list[tuple[Rows, Rows, int]]) -> None:
    made = ensemble("fold")
    save_checkpoint(made, tmp_path / "lstm_BTC-USD_v7_enhanced.pt", probe=np.ones((2, 72)))
    found = audit(tmp_path / "lstm_BTC-USD_v7_enhanced.pt", market(rows=5_000), source="synthetic")
    assert len(handed) >= 9  # three trainings of three members
    assert [seed for *_, seed in handed] == [member_seed(0, member) for member in (1, 2, 3)] * (len(handed) // 3)
    assert {check.name: check.status for check in found.checks}["label-permutation"] in {"passed", "failed"}
