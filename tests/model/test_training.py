"""Training: the same bits again, also after a kill; the loss of a plain loop; nothing that is not finite."""

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from models import quick
from torch.utils.data import DataLoader, TensorDataset

from crpbot.errors import DatasetError, TrainingError
from crpbot.model.archive import read_archive
from crpbot.model.average import Average
from crpbot.model.calibration import fit_temperature, softmax
from crpbot.model.loss import focal_loss
from crpbot.model.network import DirectionNetwork
from crpbot.model.recipe import Recipe
from crpbot.model.state import load_state, save_state
from crpbot.model.step import draw_kept, flatten
from crpbot.model.training import Epoch, Rows, evaluate, train

NAMES = ("a", "b", "c", "d")


def rows(n: int = 3_000, seed: int = 0) -> Rows:
    """Return rows in which the sum of two features says something of the class."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)) * [1.0, 50.0, 1e-3, 1.0] + [0.0, 60_000.0, 0.0, 1.0]
    score = x[:, 0] + x[:, 2] * 1e3 + rng.normal(size=n)
    return Rows(x, np.digitize(score, [-0.3, 0.3]).astype(np.int64))


class Cut(BaseException):
    """What a kill is to Python code: nothing catches it."""


def train_until(epoch: int, recipe: Recipe, state: Path) -> None:
    def cut(one: Epoch) -> None:
        if one.epoch == epoch:
            raise Cut

    with pytest.raises(Cut):
        train(recipe, rows(), rows(800, 1), names=NAMES, seed=4, watch=cut, state=state)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "averaging"), [("v7", 0), ("v6", 0), ("v7", 100)])
def test_a_run_that_is_cut_off_at_any_epoch_ends_with_the_same_weights(name: str, averaging: int, tmp_path: Path) -> None:
    recipe = quick(name, epochs=7, patience=7, averaging=averaging)
    whole = train(recipe, rows(), rows(800, 1), names=NAMES, seed=4)
    for epoch in random.sample(range(1, 7), 3):
        state = tmp_path / str(epoch)
        train_until(epoch, recipe, state)
        again = train(recipe, rows(), rows(800, 1), names=NAMES, seed=4, state=state)
        for key, tensor in whole.network.state_dict().items():
            assert torch.equal(tensor, again.network.state_dict()[key]), (epoch, key)
        assert [one.earlier for one in again.history] == [number <= epoch for number in range(1, 8)]
        for one, other in zip(whole.history, again.history, strict=True):
            assert dataclasses.replace(other, rows_per_second=one.rows_per_second, earlier=False) == one


def test_a_run_that_is_cut_off_twice_and_had_stopped_early_goes_no_further(tmp_path: Path) -> None:
    recipe = quick(epochs=40, patience=2)
    whole = train(recipe, rows(), rows(800, 1), names=NAMES, seed=4, state=tmp_path)
    again = train(recipe, rows(), rows(800, 1), names=NAMES, seed=4, state=tmp_path)
    assert len(again.history) == len(whole.history) < 40
    assert all(epoch.earlier for epoch in again.history)
    assert torch.equal(whole.network.state_dict()["fc1.weight"], again.network.state_dict()["fc1.weight"])


@pytest.mark.slow
def test_a_state_of_another_run_or_a_damaged_one_is_not_taken_up(tmp_path: Path) -> None:
    recipe = quick(epochs=3)
    train_until(2, recipe, tmp_path)
    (file,) = tmp_path.iterdir()
    others = {
        "seed": train(recipe, rows(), rows(800, 1), names=NAMES, seed=5, state=tmp_path),
        "rows": train(recipe, rows(seed=7), rows(800, 1), names=NAMES, seed=4, state=tmp_path),
        "recipe": train(quick(epochs=3, learning_rate=0.002), rows(), rows(800, 1), names=NAMES, seed=4, state=tmp_path),
    }
    for what, other in others.items():
        assert not any(epoch.earlier for epoch in other.history), what
    content = file.read_bytes()
    tensors, plain = load_state(file, key_of(content))
    whole = train(recipe, rows(), rows(800, 1), names=NAMES, seed=4).network.state_dict()

    def fresh() -> bool:
        again = train(recipe, rows(), rows(800, 1), names=NAMES, seed=4, state=tmp_path)
        return not any(epoch.earlier for epoch in again.history) and torch.equal(
            again.network.state_dict()["fc1.weight"], whole["fc1.weight"]
        )

    for broken in (content[:-200], b"", b"PK" + content[2:50]):
        file.write_bytes(broken)
        assert fresh()
    one = next(iter(tensors))
    first = plain["history"][0]
    for bad_tensors, bad_plain in (
        ({name: tensor for name, tensor in tensors.items() if name != one}, plain),
        ({**tensors, one: tensors[one][:1].clone() if tensors[one].dim() else torch.zeros(2)}, plain),
        ({**tensors, one: torch.full_like(tensors[one], float("nan"))}, plain),
        (tensors, {}),
        (tensors, {"history": 5}),
        (tensors, {"history": [{"epoch": 1}]}),
        (tensors, {"history": [{**first, "epoch": "1"}]}),
        (tensors, {"history": [{**first, "epoch": 2}]}),
        (tensors, {"history": [{**first, "best": False}]}),
        (tensors, {"history": [{**first, "calibration_log_loss": float("nan")}]}),
    ):
        save_state(file, key_of(content), bad_tensors, bad_plain)
        assert fresh(), bad_plain


def key_of(content: bytes) -> str:
    return read_archive(content, where="a state")["key"]


def test_a_state_is_given_back_as_it_was_saved(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, 2), "b": torch.tensor(5), "c": torch.zeros(0)}
    file = tmp_path / "x.state"
    save_state(file, "key", tensors, {"history": [1.5, None]})
    found = load_state(file, "key")
    assert found is not None
    assert all(torch.equal(found[0][name], tensor) for name, tensor in tensors.items())
    assert found[1] == {"history": [1.5, None]}
    assert load_state(file, "another") is None
    assert load_state(tmp_path / "none", "key") is None


@pytest.mark.parametrize("dropout", [0.1, 0.3, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(dropout: float) -> None:
    factors = draw_kept(np.random.Generator(np.random.SFC64(1)), 2_000, (64, 33), dropout, torch.device("cpu"))
    assert [tuple(one.shape) for one in factors] == [(2_000, 64), (2_000, 33)]
    for one in factors:
        n = one.numel()
        error = np.sqrt(dropout * (1 - dropout) / n)
        assert (one == 0).double().mean().item() == pytest.approx(dropout, abs=5 * error)
        assert one.unique().tolist() == pytest.approx([0, 1 / (1 - dropout)], rel=1e-4)
        assert one.double().mean().item() == pytest.approx(1, abs=5 * error / (1 - dropout))
        assert abs(np.corrcoef(one[:, 0], one[:, 1])[0, 1]) < 0.12
    assert draw_kept(np.random.Generator(np.random.SFC64(1)), 10, (4,), 0.0, torch.device("cpu")) == ()


@pytest.mark.slow
def test_the_loss_curve_is_that_of_the_usual_loop() -> None:
    """Ours and a plain DataLoader loop with autograd: the same losses, epoch by epoch, as far as chance lets two runs agree."""
    recipe = quick(epochs=5, batch_size=64, learning_rate=0.001, patience=5)
    ours, theirs = [], []
    for seed in range(4):
        history = train(recipe, rows(3_000), rows(2_000, 1), names=NAMES, seed=seed).history
        ours.append([(epoch.training_loss, epoch.calibration_loss) for epoch in history])
        theirs.append(usual_loop(recipe, rows(3_000), rows(2_000, 1), seed))
    ours_mean, theirs_mean = np.mean(ours, axis=0), np.mean(theirs, axis=0)
    spread = np.std(theirs, axis=0) + np.std(ours, axis=0)
    assert (np.abs(ours_mean - theirs_mean) < 3 * spread / 2 + 2e-4).all(), (ours_mean, theirs_mean, spread)
    assert ours_mean[0, 0] > ours_mean[-1, 0]


def usual_loop(recipe: Recipe, training: Rows, held: Rows, seed: int) -> list[tuple[float, float]]:
    torch.manual_seed(seed + 100)
    mean, scale = training.x.mean(axis=0), training.x.std(axis=0)
    z, z_held = (torch.from_numpy((one.x - mean) / scale).float() for one in (training, held))
    y, y_held = torch.from_numpy(training.y), torch.from_numpy(held.y)
    network = DirectionNetwork(4, normalizer=False)
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.training.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.training.epochs)
    choice = recipe.loss
    settings = {"alpha": choice.alpha, "gamma": choice.gamma, "label_smoothing": choice.label_smoothing}
    found = []
    for _ in range(recipe.training.epochs):
        network.train()
        losses = []
        for z_batch, y_batch in DataLoader(TensorDataset(z, y), batch_size=recipe.training.batch_size, shuffle=True):
            optimizer.zero_grad()
            loss = focal_loss(network(z_batch), y_batch, **settings)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        schedule.step()
        found.append((float(np.mean(losses)), float(focal_loss(evaluate(network, z_held), y_held, **settings))))
    return found


@pytest.mark.slow
def test_half_precision_reaches_the_same_validation_loss() -> None:
    found = [
        [
            train(quick(epochs=4, precision=precision), rows(3_000), rows(2_000, 1), names=NAMES, seed=seed)
            .history[-1]
            .calibration_log_loss
            for seed in range(3)
        ]
        for precision in ("float32", "bfloat16")
    ]
    assert np.mean(found[1]) == pytest.approx(np.mean(found[0]), rel=0.01)


def test_averaged_weights_are_the_mean_of_the_last_steps() -> None:
    choice = quick("v7").network
    network = DirectionNetwork.from_recipe(choice, input_size=4, normalizer=True)
    parameters, _, _ = flatten(network)
    average, rng = Average(network, parameters, over=5), torch.Generator().manual_seed(0)
    wanted, seen = torch.zeros_like(parameters), []
    for step in range(1, 13):
        parameters.copy_(torch.randn(len(parameters), generator=rng))
        network.bn1.running_mean.fill_(step)
        seen.append(parameters.clone())
        wanted = torch.stack(seen).mean(0) if step <= 5 else wanted + (parameters - wanted) / 5
        average(step)
        found = torch.cat([one.detach().reshape(-1) for one in average.network.parameters()])
        torch.testing.assert_close(found, wanted)
        if step == 5:
            torch.testing.assert_close(average.network.bn1.running_mean, torch.full_like(network.bn1.running_mean, 3.0))


@pytest.mark.slow
def test_the_averaged_network_is_the_one_that_is_judged_and_given() -> None:
    plain, averaged = (
        train(quick(epochs=2, patience=2, averaging=over), rows(), rows(800, 1), names=NAMES, seed=0) for over in (0, 1)
    )
    for key, tensor in plain.network.state_dict().items():  # over one step, the mean is the network itself
        torch.testing.assert_close(tensor, averaged.network.state_dict()[key])
    wide = train(quick(epochs=2, patience=2, averaging=10**6), rows(), rows(800, 1), names=NAMES, seed=0)
    logits = evaluate(wide.network, torch.from_numpy(wide.network.normalizer(torch.from_numpy(rows(800, 1).x)).numpy()))
    served = logits.double().numpy()
    probabilities = softmax(served / fit_temperature(served, rows(800, 1).y))
    found = -np.log(probabilities[np.arange(800), rows(800, 1).y]).mean()
    assert found == pytest.approx(wide.history[wide.best_epoch - 1].calibration_log_loss)
    assert wide.history[-1].training_loss == plain.history[-1].training_loss  # the steps themselves are the same


def test_a_feature_that_is_not_finite_is_named() -> None:
    bad = rows()
    bad.x[17, 3] = np.nan
    with pytest.raises(DatasetError, match="found nan in d at row 17 of the training block"):
        train(quick(), bad, rows(500, 1), names=NAMES, seed=0)


def test_a_feature_that_is_finite_only_as_it_comes_is_named_too() -> None:
    """Calibration rows are normalized by the training rows; one can be too far away for float32."""
    far = rows(500, 1)
    far.x[11, 2] = 1e300
    with pytest.raises(DatasetError, match="found inf in c at row 11 of the calibration block"):
        train(quick(), rows(), far, names=NAMES, seed=0)


def test_a_block_needs_two_rows() -> None:
    for training, held in ((rows(1), rows(500)), (rows(500), rows(0))):
        with pytest.raises(DatasetError, match="must have at least 2 rows"):
            train(quick(), training, held, names=NAMES, seed=0)


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path: Path) -> None:
    """Raw prices and a huge learning rate: the weights leave what float32 can hold."""
    recipe = dataclasses.replace(quick("v6", epochs=3, learning_rate=0.99), loss=quick("v6").loss)
    huge = rows()
    huge.x[:] *= 1e33
    with pytest.raises(TrainingError, match=r"the loss must stay finite, found .* in epoch 1"):
        train(recipe, huge, rows(500, 1), names=NAMES, seed=0, state=tmp_path)
