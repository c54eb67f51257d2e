"""Measure how often the gates are wrong and write docs/gates.md: `python scripts/make_gates.py`, about 80 minutes on two cores.

Nets are trained by recipe v7 on known-answer markets, seeds 0, 1, 2, …, and judged on fresh ones (100,000 + 1,000·net + number).
Every evaluation is kept under `runs/gates`, so a run that was stopped goes on; `page` only writes the page.
"""

import copy
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from crpbot.dataset.features.sets import feature_set
from crpbot.disk import write_whole
from crpbot.factory import make_model
from crpbot.market.synthetic import make_market
from crpbot.model.checkpoint import Checkpoint
from crpbot.model.recipe import load_recipe
from crpbot.model.subject import Subject, subject_of
from crpbot.quality.diagnosis import diagnose_subject
from crpbot.quality.gates import judge

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "runs" / "gates"
PAGE = ROOT / "docs" / "gates.md"
TWO_YEARS, TEST_BLOCK = 1_051_200, 157_448
Damage = Callable[[Checkpoint], Subject]


@dataclass(frozen=True)
class Study:
    """Nets of one market, judged on fresh candles of it.

    Attributes:
        market: its name.
        nets: how many are trained.
        rows: candles that each is trained on.
        fresh: fresh markets of a test block's length that each is judged on.

    """

    market: str
    nets: int
    rows: int
    fresh: int


STUDIES = (
    Study("random-walk", 20, 200_000, 50),
    Study("volatile", 10, 200_000, 20),
    Study("planted-edge", 10, TWO_YEARS, 5),
    Study("planted-edge-2", 4, TWO_YEARS, 5),
    Study("planted-edge-1", 4, TWO_YEARS, 5),
    Study("planted-edge-joint", 4, TWO_YEARS, 5),
    Study("level-noise", 3, 200_000, 5),
)
SOUND = "planted-edge"


def change(checkpoint: Checkpoint, edit: Callable[[Any], object]) -> Checkpoint:
    """Return a copy whose network was edited."""
    network = copy.deepcopy(checkpoint.network)
    edit(network)
    return dataclasses.replace(checkpoint, network=network)


def edited(edit: Callable[[Any], object]) -> Damage:
    """Return a damage that edits the network."""
    return lambda checkpoint: subject_of(change(checkpoint, edit))


def wrong_when_wild(checkpoint: Checkpoint) -> Subject:
    """Exchange DOWN and UP in the third of the rows that is the wildest: an average may hide it."""
    column = checkpoint.features.index("volatility_50")
    sound = subject_of(checkpoint)

    def serve(x: np.ndarray) -> np.ndarray:
        logits = sound.serve(x)
        wild = x[:, column] > np.quantile(x[:, column], 2 / 3)
        logits[wild] = logits[wild][:, ::-1]
        return logits

    return dataclasses.replace(sound, serve=serve)


def _layer(network: Any) -> Any:  # noqa: ANN401
    return [module for name, module in network.named_children() if name.startswith("fc")][-1]


def _scale_of_returns(network: Any) -> None:  # noqa: ANN401
    network.normalizer.scale[feature_set("founding-72").names.index("returns")] *= 300


FAULTS: Mapping[str, tuple[str, Damage]] = {
    "finite-weights": ("one weight is NaN", edited(lambda n: n.fc2.weight.data[0, 0].fill_(float("nan")))),
    "normalizer-present": ("the scaler is lost", edited(lambda n: setattr(n, "normalizer", None))),
    "normalizer-fits": ("the scaler was fitted on made-up noise: returns 300 times too large", edited(_scale_of_returns)),
    "logit-range": ("logits 50 times too large", edited(lambda n: [p.data.mul_(50) for p in _layer(n).parameters()])),
    "overconfidence": ("logits 50 times too large", edited(lambda n: [p.data.mul_(50) for p in _layer(n).parameters()])),
    "no-collapse": ("the bias of UP raised by 2", edited(lambda n: _layer(n).bias.data[2].add_(2))),
    "class-bias": ("the bias of UP raised by 0.3", edited(lambda n: _layer(n).bias.data[2].add_(0.3))),
    "calibration": ("the temperature divided by 5", edited(lambda n: n.temperature.data.div_(5))),
    "beats-majority": ("DOWN and UP exchanged", edited(lambda n: [p.data.copy_(p.data.flip(0)) for p in _layer(n).parameters()])),
    "foretells-direction": (
        "DOWN and UP exchanged",
        edited(lambda n: [p.data.copy_(p.data.flip(0)) for p in _layer(n).parameters()]),
    ),
    "no-broken-regime": ("DOWN and UP exchanged in the wildest third", wrong_when_wild),
}
"""The fault that each gate is there for, put into a sound net."""


def evaluate(subject: Subject, market: str, seed: int) -> dict[str, Any]:
    """Judge a subject on a fresh market."""
    candles = make_market(market, "BTC-USD", rows=TEST_BLOCK + 199 + 15, seed=seed)
    diagnosis = diagnose_subject(subject, candles, path="", sha256="", source="file", label_recipe=load_recipe("v7"))
    m = diagnosis.metrics
    verdict = judge(m, "market")
    return {
        "seed": seed,
        "passed": verdict.passed,
        "gates": {result.name: result.passed for result in verdict.results},
        "values": {result.name: result.value for result in verdict.results},
        "over_majority": None if m.over_majority is None else m.over_majority.value,
        "direction_errors": None if m.over_direction is None else m.over_direction.errors,
    }


def study_net(study: Study, net: int) -> None:
    """Train one net of a study, judge it, and, where it is sound, judge it with every fault."""
    path = RUNS / f"{study.market}-{net}.json"
    if path.is_file():
        return
    candles = make_market(study.market, "BTC-USD", rows=study.rows, seed=net)
    checkpoint = make_model("BTC-USD", candles, load_recipe("v7"), source="synthetic", seed=net)[0]
    assert checkpoint.origin is not None
    everywhere = dataclasses.replace(checkpoint, origin=dataclasses.replace(checkpoint.origin, unseen_from=0))
    seeds = [100_000 + 1_000 * net + number for number in range(study.fresh)]
    found: dict[str, Any] = {"fresh": [evaluate(subject_of(everywhere), study.market, seed) for seed in seeds]}
    if study.market == SOUND:
        found["faults"] = {gate: evaluate(damage(everywhere), study.market, seeds[0]) for gate, (_, damage) in FAULTS.items()}
    write_whole(path, json.dumps(found) + "\n")
    sys.stderr.write(f"{path.stem}: {sum(one['passed'] for one in found['fresh'])} of {study.fresh} pass\n")


def measure() -> None:
    """Do what is left of all studies."""
    RUNS.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        tasks = [pool.submit(study_net, study, net) for study in STUDIES for net in range(study.nets)]
        for task in tasks:
            task.result()


def main() -> None:
    """Measure and write the page."""
    measure()


if __name__ == "__main__":
    main()
