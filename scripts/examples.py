"""An example for every cause: a sound network is damaged in one way, and the diagnosis of before and after is kept."""

import dataclasses
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from faults import FAULTS, Payload, damaged, founding_payload

from crpbot.factory import diagnose, read_market
from crpbot.making.model import make_model
from crpbot.market.candles import Candles
from crpbot.market.source import SourceKind
from crpbot.model.archive import read_archive
from crpbot.model.checkpoint import Checkpoint
from crpbot.model.loading import ModelFile
from crpbot.model.pt_file import to_bytes
from crpbot.model.recipe import load_recipe
from crpbot.quality.report.curves import short
from crpbot.quality.report.data import Judgement, finite

NOISE = "synthetic:level-noise"
ROWS = 60_000
"""Candles that an example is judged on: the last ones of the market."""
FEW_ROWS, FEW_CANDLES, EPOCHS = 2_000, 12_000, 60
_SEEN = ("rows", "logit_min", "logit_max", "confidence_over_99", "accuracy", "ece", "log_loss", "class_bias")


@dataclass(frozen=True)
class Bench:
    """What the examples are made from.

    Attributes:
        sound: a v7 network that knows its market.
        candles: of that market.
        other: mean and scale of another symbol.

    """

    sound: Checkpoint
    candles: Candles
    other: tuple[torch.Tensor, torch.Tensor]

    def foreign(self, change: Callable[[Payload], object] = lambda _: None) -> Mapping[str, Any]:
        """Return the sound network as a file of the founding system, changed."""
        payload = founding_payload(self.sound)
        change(payload)
        return payload


@dataclass(frozen=True)
class Example:
    """One way to bring a cause about.

    Attributes:
        cause: that must be found.
        fault: what is done to the sound network, in words.
        judge: does it, and judges the result.
        sound: judges the network before it, where that is not the sound one as a file of the founding system.

    """

    cause: str
    fault: str
    judge: Callable[[Bench], Judgement]
    sound: Callable[[Bench], Judgement] | None = None


def judged(payload: object, candles: Candles, *, source: SourceKind = "synthetic") -> Judgement:
    """Return the judgement of a file that holds `payload`."""
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    return diagnose(ModelFile(Path("model.pt"), "", read_archive(buffer.getvalue(), where="model.pt")), candles, source=source)


def ours(checkpoint: Checkpoint, candles: Candles) -> Judgement:
    """Return the judgement of a checkpoint of ours."""
    file = ModelFile(Path("model.pt"), "", read_archive(to_bytes(checkpoint), where="model.pt"))
    return diagnose(file, candles, source="synthetic")


def _weights(name: str, change: Callable[[torch.Tensor], object]) -> Callable[[Bench], Judgement]:
    return lambda bench: judged(bench.foreign(lambda p: change(p["model_state_dict"][name])), bench.candles)


def _moved(candles: Candles, change: Callable[[np.ndarray], np.ndarray]) -> Candles:
    prices = {name: change(getattr(candles, name)) for name in ("open", "high", "low", "close")}
    return dataclasses.replace(candles, **prices)


def _calmer(bench: Bench) -> Judgement:
    level = float(np.median(bench.candles.close))
    return ours(bench.sound, _moved(bench.candles, lambda price: level * np.sqrt(price / level)))


def _small(bench: Bench) -> Checkpoint:
    return make_model("BTC-USD", bench.candles[:FEW_CANDLES], load_recipe("v7"), source="synthetic", seed=0)[0]


def _by_heart(bench: Bench) -> Judgement:
    """Train on, without dropout and without anybody who stops it, on the few rows of the training block."""
    checkpoint, candles = _small(bench), bench.candles[:FEW_CANDLES]
    learned = ours(checkpoint, candles).diagnosis.learned
    if learned is None:
        raise SystemExit("the candles must hold the training rows, found others")
    network, x = checkpoint.network, torch.from_numpy(learned.training.x)
    y = torch.from_numpy(learned.training.y)
    optimizer = torch.optim.Adam([w for name, w in network.named_parameters() if name != "temperature"], lr=0.001)
    network.train()
    network.dropout.p = 0.0
    generator = torch.Generator().manual_seed(0)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(y), generator=generator).split(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
            optimizer.step()
    network.eval()
    return ours(dataclasses.replace(checkpoint, network=network), candles)


def _v6(bench: Bench) -> Judgement:
    recipe = load_recipe("v6")
    recipe = dataclasses.replace(
        recipe, training=dataclasses.replace(recipe.training, epochs=8, batch_size=256, learning_rate=0.003)
    )
    raw = make_model("BTC-USD", bench.candles[:FEW_CANDLES], recipe, source="synthetic", seed=0)[0]
    return judged(dict(raw.network.state_dict()), bench.candles)


_TOO_MUCH = "noise of five times their size is added to the weights"
"""A fault that leaves too little of the network for its cause to be found on so few rows."""
_V6 = "a v6 network instead: trained and served raw, without dropout, batch normalization and temperature"
_OTHERS = (
    Example(
        "non-finite-outputs", "a variance of batch normalization is −1", _weights("bn1.running_var", lambda v: v[0].fill_(-1))
    ),
    Example("missing-normalizer", _V6, _v6),
    Example("raw-scale-inputs", "the scaler is dropped", lambda b: judged(damaged(b.sound, FAULTS[0], b.other), b.candles)),
    Example("overconfident", "the temperature is 10 times too low", _weights("temperature", lambda t: t.div_(10))),
    Example("underconfident", "the temperature is 8 times too high", _weights("temperature", lambda t: t.mul_(8))),
    Example("miscalibrated", "the temperature is 3 times too low", _weights("temperature", lambda t: t.div_(3))),
    Example("class-collapse", "the bias of UP is raised by 9", _weights("fc4.bias", lambda b: b[2].add_(9))),
    Example(
        "no-skill",
        "it is judged on a random walk, which nobody can foresee",
        lambda b: judged(b.foreign(), read_market("synthetic:random-walk", "BTC-USD")[0][-ROWS:]),
    ),
    Example(
        "too-good",
        "nothing; its made-up market is passed off as a real one",
        lambda b: judged(b.foreign(), b.candles, source="file"),
    ),
    Example(
        "overfit",
        f"a network made from {FEW_CANDLES:,} candles is trained for {EPOCHS} epochs more on its own training rows, without "
        "dropout, and nobody stops it",
        _by_heart,
        lambda b: ours(_small(b), b.candles[:FEW_CANDLES]),
    ),
    Example(
        "feature-drift",
        "every price is 2.5 times as high",
        lambda b: judged(b.foreign(), _moved(b.candles, lambda price: 2.5 * price)),
    ),
    Example("label-shift", "every move of the market is half as large", _calmer, lambda b: ours(b.sound, b.candles)),
    Example("saturated-units", "50 is added to the shifts of bn2", _weights("bn2.bias", lambda b: b.add_(50))),
    Example(
        "no-calibration",
        "the temperature is left out of the file",
        lambda b: judged(b.foreign(lambda p: p["model_state_dict"].pop("temperature")), b.candles),
    ),
    Example("no-regularization", _V6, _v6),
    Example("no-batch-normalization", _V6, _v6),
    Example(
        "too-few-rows",
        f"nothing; it is judged on {FEW_ROWS:,} candles",
        lambda b: judged(b.foreign(), b.candles[-FEW_ROWS:]),
    ),
)


def examples() -> tuple[Example, ...]:
    """Return one example for each cause: the first fault that has it as its right cause, or one of those above."""
    first: dict[str, Example] = {}
    for fault in FAULTS:
        if fault.name == _TOO_MUCH:
            continue
        example = Example(fault.cause, fault.name, lambda b, f=fault: judged(damaged(b.sound, f, b.other), b.candles))
        first.setdefault(fault.cause, example)
    return (*first.values(), *_OTHERS)


def measured(bench: Bench) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each cause with what its example showed, as plain types.

    Raises:
        SystemExit: a diagnosis did not find its cause.

    """
    sound = judged(bench.foreign(), bench.candles)
    for example in examples():
        before = sound if example.sound is None else example.sound(bench)
        after = example.judge(bench)
        cause = next((one for one in after.causes if one.code == example.cause), None)
        if cause is None or example.cause in [one.code for one in before.causes]:
            raise SystemExit(f"{example.cause} must be found after its fault only, found {[one.code for one in after.causes]}")
        print(example.cause, [one.code for one in after.causes])
        yield (
            example.cause,
            finite(
                short(
                    {
                        "fault": example.fault,
                        "before": _numbers(before),
                        "after": _numbers(after),
                        "found": cause.detail,
                        "what_if": None if cause.what_if is None else str(cause.what_if),
                        "first": after.causes[0].code,
                        "failed": [gate.name for gate in after.verdict.failed],
                    }
                )
            ),
        )


def _numbers(judgement: Judgement) -> dict[str, float | None]:
    return {name: getattr(judgement.diagnosis.metrics, name) for name in _SEEN}
