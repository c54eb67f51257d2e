"""The written-out step against autograd and torch.optim."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from crpbot.model.choices import LossChoice
from crpbot.model.loss import focal_loss
from crpbot.model.network import DirectionNetwork
from crpbot.model.step import Step

LOSSES = [
    LossChoice(kind="focal", label_smoothing=0.05, alpha=0.25, gamma=2.0),
    LossChoice(kind="focal", label_smoothing=0.0, alpha=1.5, gamma=0.5),
    LossChoice(kind="focal", label_smoothing=0.1, alpha=0.25, gamma=0.0),
    LossChoice(kind="cross-entropy", label_smoothing=0.0),
    LossChoice(kind="cross-entropy", label_smoothing=0.2),
]


def size(vector: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(vector))


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return size(one - other)


def network(seed: int, *, normed: bool, temperature: float | None) -> DirectionNetwork:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        made = DirectionNetwork(7, hidden=(12, 9), batch_normalization=normed, temperature=temperature, normalizer=False)
    return made.train()


def by_autograd(
    net: DirectionNetwork, loss: LossChoice, z: torch.Tensor, y: torch.Tensor, keep: list[torch.Tensor]
) -> torch.Tensor:
    """Return the loss, plainly; gradients are in the parameters afterwards."""
    h = z
    for number, factors in enumerate(keep, start=1):
        h = net.get_submodule(f"fc{number}")(h)
        if net.batch_normalization:
            h = net.get_submodule(f"bn{number}")(h)
        h = torch.relu(h) * factors
    logits = net.get_submodule(f"fc{len(keep) + 1}")(h)
    served = logits if net.temperature is None else logits / net.temperature
    if loss.kind == "focal":
        value = focal_loss(served, y, alpha=loss.alpha, gamma=loss.gamma, label_smoothing=loss.label_smoothing)
    else:
        value = functional.cross_entropy(served, y, label_smoothing=loss.label_smoothing)
    value.backward()
    return value


def batch(seed: int, rows: int) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    random = torch.Generator().manual_seed(seed)
    keep = [(torch.rand(rows, width, generator=random) > 0.3).float() / 0.7 for width in (12, 9)]
    return torch.randn(rows, 7, generator=random), torch.randint(0, 3, (rows,), generator=random), keep


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(4, 40),  # with two, batch normalization leaves little but rounding
    loss=st.sampled_from(LOSSES),
    normed=st.booleans(),
    temperature=st.sampled_from([None, 2.5, 0.4]),
)
def test_every_slope_is_that_of_autograd(
    *, seed: int, rows: int, loss: LossChoice, normed: bool, temperature: float | None
) -> None:
    z, y, keep = batch(seed, rows)
    plain = network(seed, normed=normed, temperature=temperature)
    value = by_autograd(plain, loss, z, y, keep)
    ours = network(seed, normed=normed, temperature=temperature)
    step = Step(ours, loss, batch_size=48)
    losses = step.measure(z, y, keep)
    wanted = torch.cat([parameter.grad.reshape(-1) for parameter in plain.parameters()])
    torch.testing.assert_close(losses.mean(), value.detach(), rtol=1e-5, atol=1e-7)
    assert apart(step.slopes, wanted) < 1e-3 * size(wanted) + 1e-6
    for name, tensor in ours.state_dict().items():
        if "running" in name:
            torch.testing.assert_close(tensor, plain.state_dict()[name])


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_twenty_steps_are_those_of_torch_adam(decay: float) -> None:
    loss = LOSSES[0]
    plain, ours = (network(3, normed=False, temperature=2.5) for _ in range(2))
    matrices = [parameter for parameter in plain.parameters() if parameter.ndim == 2]
    others = [parameter for parameter in plain.parameters() if parameter.ndim != 2]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}], lr=0.01)
    step = Step(ours, loss, batch_size=32, weight_decay=decay)
    for seed in range(20):
        z, y, keep = batch(seed, 32 if seed % 3 else 20)
        optimizer.zero_grad()
        by_autograd(plain, loss, z, y, keep)
        optimizer.step()
        step(z, y, keep, rate=0.01)
    assert step.steps.item() == 20
    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(tensor, plain.state_dict()[name], rtol=1e-3, atol=1e-5)


def test_the_parameters_stay_those_of_the_network() -> None:
    net = network(0, normed=True, temperature=1.0)
    before = net.eval()(torch.ones(2, 7))
    step = Step(net, LOSSES[0], batch_size=4)
    assert torch.equal(net.eval()(torch.ones(2, 7)), before)
    with torch.no_grad():
        step.parameters.zero_()
    assert all((parameter == 0).all() for parameter in net.parameters())


def test_a_bias_before_batch_normalization_stays_as_it_was() -> None:
    net = network(1, normed=True, temperature=1.0)
    before = net.get_submodule("fc1").bias.clone()
    step = Step(net, LOSSES[0], batch_size=16)
    for seed in range(5):
        step(*batch(seed, 16), rate=0.01)
    assert torch.equal(net.get_submodule("fc1").bias, before)


@pytest.mark.parametrize("normed", [True, False])
def test_half_precision_gives_nearly_the_same_slopes(*, normed: bool) -> None:
    z, y, keep = batch(5, 40)
    slopes = []
    for precision in ("float32", "bfloat16"):
        step = Step(network(5, normed=normed, temperature=2.5), LOSSES[0], batch_size=40, precision=precision)
        step.measure(z, y, keep)
        slopes.append(step.slopes)
    assert 0 < apart(*slopes) < 0.06 * size(slopes[0])
