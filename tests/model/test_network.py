import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import quick
from torch.nn import functional

import crpbot
from crpbot.errors import DatasetError
from crpbot.model.calibration import LEAST, MOST, fit_temperature, softmax
from crpbot.model.loss import focal_loss
from crpbot.model.network import Normalizer, V7EnhancedFNN, predict_logits
from crpbot.model.training import Rows, train

NAMES = tuple("abcdef")


def rows(n: int = 2_000, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6)) * [1, 10, 1e5, 1e-4, 1, 1] + [0, 0, 8e4, 0, 0, 0]
    y = np.where(rng.uniform(size=n) < 0.1, 1, np.where(x[:, 0] + rng.normal(size=n) > 0, 2, 0))
    return Rows(x, y)


def test_the_founding_class_takes_rows_and_windows() -> None:
    network = crpbot.V7EnhancedFNN(72).eval()
    x = torch.randn(5, 20, 72)
    assert network(x).shape == (5, 3)
    torch.testing.assert_close(network(x), network(x[:, -1, :]))
    keys = set(network.state_dict())
    layers = {f"fc{i}.{part}" for i in range(1, 5) for part in ("weight", "bias")}
    norms = {
        f"bn{i}.{part}" for i in range(1, 4) for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }
    assert keys == layers | norms | {"temperature"}
    assert [tuple(network.get_submodule(f"fc{i}").weight.shape) for i in range(1, 5)] == [
        (256, 72),
        (128, 256),
        (64, 128),
        (3, 64),
    ]
    assert network.temperature.item() == 2.5


def test_the_founding_class_takes_a_normalizer_along() -> None:
    network = V7EnhancedFNN()
    network.normalizer = Normalizer.fit(np.random.default_rng(0).normal(80_000, 5, size=(100, 72)))
    x = torch.full((2, 72), 80_000.0)
    other = V7EnhancedFNN()
    other.load_state_dict(network.state_dict())
    torch.testing.assert_close(other.eval()(x), network.eval()(x))
    founding = {name: tensor for name, tensor in network.state_dict().items() if "normalizer" not in name}
    assert V7EnhancedFNN().load_state_dict(founding).missing_keys == []


@given(st.floats(1e-3, 1e5), st.floats(-1e5, 1e5), st.integers(0, 2**31))
def test_units_do_not_matter(scale: float, shift: float, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(200, 3))
    y = x * scale + shift
    one, other = (Normalizer.fit(a)(torch.from_numpy(a)) for a in (x, y))
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_the_normalizer_is_scikit_learn_s() -> None:
    from sklearn.preprocessing import StandardScaler

    x = rows().x
    x[:, 5] = 0.1
    ours, theirs = Normalizer.fit(x), StandardScaler().fit(x)
    np.testing.assert_allclose(ours.mean.numpy(), theirs.mean_, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(ours.scale.numpy(), theirs.scale_, rtol=1e-9)
    assert ours.fitted
    assert not Normalizer(3).fitted


def test_the_focal_loss_is_the_formula() -> None:
    logits, y = torch.randn(50, 3), torch.randint(0, 3, (50,))
    ce = functional.cross_entropy(logits, y, reduction="none", label_smoothing=0.05)
    wanted = (0.25 * (1 - torch.exp(-ce)) ** 2 * ce).mean()
    torch.testing.assert_close(focal_loss(logits, y, alpha=0.25, gamma=2.0, label_smoothing=0.05), wanted)
    plain = focal_loss(logits, y, alpha=1.0, gamma=0.0, label_smoothing=0.0)
    torch.testing.assert_close(plain, functional.cross_entropy(logits, y))


def test_the_same_seed_trains_the_same_bits_and_leaves_the_random_state_alone() -> None:
    torch.manual_seed(9)
    before = torch.random.get_rng_state()
    runs = [train(quick(), rows(), rows(500, 1), names=NAMES, seed=seed).network for seed in (1, 1, 2)]
    assert torch.equal(torch.random.get_rng_state(), before)
    states = [network.state_dict() for network in runs]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["fc1.weight"], states[2]["fc1.weight"])


def test_training_learns_keeps_its_best_epoch_and_stops_early() -> None:
    seen = []
    result = train(quick(epochs=40, patience=3), rows(), rows(1_000, 1), names=NAMES, seed=0, watch=seen.append)
    assert tuple(seen) == result.history
    losses = [epoch.calibration_log_loss for epoch in seen]
    assert result.best_epoch == 1 + int(np.argmin(losses))
    assert len(seen) == result.best_epoch + 3 < 40
    assert max(epoch.calibration_accuracy for epoch in seen) > 0.6
    held = rows(1_000, 1)
    probabilities = softmax(predict_logits(result.network, held.x))
    assert (probabilities.argmax(axis=1) == held.y).mean() == pytest.approx(seen[result.best_epoch - 1].calibration_accuracy)


def test_the_learning_rate_falls_by_a_cosine() -> None:
    history = train(quick(epochs=4, learning_rate=0.001), rows(), rows(500, 1), names=NAMES, seed=0).history
    assert [epoch.learning_rate for epoch in history] == pytest.approx(
        [0.001 * (1 + np.cos(np.pi * i / 4)) / 2 for i in range(4)]
    )


def test_a_last_batch_of_one_row_does_no_harm() -> None:
    history = train(quick(epochs=1, batch_size=64), rows(64 * 5 + 1), rows(200, 1), names=NAMES, seed=0).history
    assert np.isfinite(history[0].training_loss)


def test_a_feature_that_is_not_finite_is_named() -> None:
    bad = rows()
    bad.x[17, 3] = np.nan
    with pytest.raises(DatasetError, match="found nan in d at row 17"):
        train(quick(), bad, rows(500, 1), names=NAMES, seed=0)


@pytest.mark.slow
@given(st.floats(0.1, 10.0), st.integers(0, 2**31))
def test_the_temperature_is_found_again(truth: float, seed: int) -> None:
    """Draw labels from softmax(z / T): the fitted T is T, whatever it is, and the slope of the log loss is zero there."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(20_000, 3)) * 2 * truth
    p = softmax(z / truth)
    y = (p.cumsum(axis=1) < rng.uniform(size=(len(z), 1))).sum(axis=1).clip(0, 2)
    assert fit_temperature(z, y) == pytest.approx(truth, rel=0.1)


def test_the_temperature_is_scikit_learn_s() -> None:
    pytest.importorskip("sklearn", minversion="1.8", reason="older ones fit no temperature")
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    class Fixed(ClassifierMixin, BaseEstimator):
        classes_ = np.arange(3)

        def fit(self, _x: np.ndarray, _y: np.ndarray) -> "Fixed":
            self.fitted_ = True
            return self

        def predict(self, x: np.ndarray) -> np.ndarray:
            return x.argmax(axis=1)

        def decision_function(self, x: np.ndarray) -> np.ndarray:
            return x

    rng = np.random.default_rng(5)
    z = rng.normal(size=(5_000, 3)) * 4
    p = softmax(z / 2.5)
    y = (p.cumsum(axis=1) < rng.uniform(size=(len(z), 1))).sum(axis=1).clip(0, 2)
    theirs = CalibratedClassifierCV(FrozenEstimator(Fixed().fit(z, y)), method="temperature", ensemble=False).fit(z, y)
    assert softmax(z / fit_temperature(z, y)) == pytest.approx(theirs.predict_proba(z), abs=1e-3)


def test_the_temperature_is_bounded() -> None:
    z = np.tile([[3.0, 0.0, 0.0]], (100, 1))
    assert fit_temperature(z, np.zeros(100, np.int64)) == LEAST
    assert fit_temperature(z, np.full(100, 1)) == MOST


def test_the_temperature_divides_the_logits() -> None:
    network = V7EnhancedFNN().eval()
    x = torch.randn(4, 72)
    warm = network(x)
    network.temperature.data.fill_(5.0)
    torch.testing.assert_close(network(x), warm / 2)
