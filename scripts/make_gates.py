"""Measure how often the gates are wrong and write docs/gates.md: `python scripts/make_gates.py`, about 100 minutes on two cores.

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
from scipy.stats import beta

from crpbot.dataset.features.sets import feature_set
from crpbot.disk import write_whole
from crpbot.making.model import make_model
from crpbot.market.candles import Candles
from crpbot.market.synthetic import MARKETS, make_market
from crpbot.model.checkpoint import Checkpoint
from crpbot.model.recipe import load_recipe
from crpbot.model.subject import Subject, subject_of
from crpbot.quality.diagnosis import diagnose_subject
from crpbot.quality.gates import MARKET_GATES, judge

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
        own: whether each is judged on its own test block too, as a user's would be.

    """

    market: str
    nets: int
    rows: int
    fresh: int
    own: bool = False


STUDIES = (
    Study("random-walk", 20, 200_000, 50),
    Study("volatile", 10, 200_000, 20),
    Study("planted-edge", 9, TWO_YEARS, 4, own=True),
    Study("planted-edge-2", 1, TWO_YEARS, 4, own=True),
    Study("planted-edge-1", 1, TWO_YEARS, 4, own=True),
    Study("planted-edge-joint", 2, TWO_YEARS, 4, own=True),
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


LOUD = ("logits 50 times too large", edited(lambda n: [p.data.mul_(50) for p in _layer(n).parameters()]))
EXCHANGED = ("DOWN and UP exchanged", edited(lambda n: [p.data.copy_(p.data.flip(0)) for p in _layer(n).parameters()]))
FAULTS: Mapping[str, tuple[str, Damage]] = {
    "finite-weights": ("one weight is NaN", edited(lambda n: n.fc2.weight.data[0, 0].fill_(float("nan")))),
    "normalizer-present": ("the scaler is lost", edited(lambda n: setattr(n, "normalizer", None))),
    "normalizer-fits": ("the scaler was fitted on made-up noise: returns 300 times too large", edited(_scale_of_returns)),
    "logit-range": LOUD,
    "overconfidence": LOUD,
    "no-collapse": ("the bias of UP raised by 2", edited(lambda n: _layer(n).bias.data[2].add_(2))),
    "class-bias": ("the bias of UP raised by 0.3", edited(lambda n: _layer(n).bias.data[2].add_(0.3))),
    "calibration": ("the temperature divided by 5", edited(lambda n: n.temperature.data.div_(5))),
    "beats-majority": EXCHANGED,
    "foretells-direction": EXCHANGED,
    "no-broken-regime": ("DOWN and UP exchanged in the wildest third", wrong_when_wild),
}
"""The fault that each gate is there for, put into a sound net."""


def fresh_market(market: str, seed: int) -> Candles:
    """Return candles whose rows are as many as a test block of two years has."""
    return make_market(market, "BTC-USD", rows=TEST_BLOCK + 199 + 15, seed=seed)


def evaluate(subject: Subject, candles: Candles) -> dict[str, Any]:
    """Judge a subject on rows that it has not seen."""
    diagnosis = diagnose_subject(subject, candles, path="", sha256="", source="file", label_recipe=load_recipe("v7"))
    m = diagnosis.metrics
    verdict = judge(m, "market")
    return {
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
    found: dict[str, Any] = {"fresh": [evaluate(subject_of(everywhere), fresh_market(study.market, seed)) for seed in seeds]}
    if study.own:
        found["own"] = evaluate(subject_of(checkpoint), candles)
    if study.market == SOUND:
        found["faults"] = {gate: evaluate(damage(checkpoint), candles) for gate, (_, damage) in FAULTS.items()}
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


def results(study: Study) -> list[dict[str, Any]]:
    """Return what the nets of a study were given, net by net."""
    return [json.loads((RUNS / f"{study.market}-{net}.json").read_text()) for net in range(study.nets)]


def clustered(passes: list[list[bool]], margins: list[list[float]]) -> tuple[float, float, float]:
    """Return a share, and its 95 % interval when evaluations of one net depend on each other.

    The interval is the exact one of Clopper & Pearson (Biometrika 26, 1934) for n / (1 + (m - 1)·ρ) evaluations (Kish, Survey
    Sampling, 1965): ρ is how much more alike the margins of one net are than those of two, from the analysis of variance, so it
    can be measured even where nothing passes.
    """
    n, m = sum(map(len, passes)), len(passes[0])
    share = sum(map(sum, passes)) / n
    values = np.array(margins)
    if len(passes) == 1:
        return share, *exact_interval(share * n, n)
    between, within = m * values.mean(axis=1).var(ddof=1), values.var(axis=1, ddof=1).mean()
    rho = max(0.0, (between - within) / (between + (m - 1) * within))
    effective = n / (1 + (m - 1) * rho)
    return share, *exact_interval(share * effective, effective)


def exact_interval(passed: float, n: float) -> tuple[float, float]:
    """Return the interval of Clopper & Pearson, for numbers that need not be whole."""
    low = 0.0 if passed <= 0 else float(beta.ppf(0.025, passed, n - passed + 1))
    high = 1.0 if passed >= n else float(beta.ppf(0.975, passed + 1, n - passed))
    return low, high


def percent(value: float) -> str:
    """Write a share."""
    return f"{100 * value:.1f} %" if 0 < value < 1 else f"{100 * value:.0f} %"


def study_row(study: Study, nets: list[dict[str, Any]]) -> str:
    """Return one line of the first table."""
    fresh = [net["fresh"] for net in nets]
    passes = [[one["passed"] for one in net] for net in fresh]
    share, low, high = clustered(passes, [[one["values"]["beats-majority"] for one in net] for net in fresh])
    over = 100 * np.mean([one["over_majority"] for net in fresh for one in net])
    best = 100 * max(0.0, MARKETS[study.market].best_accuracy(0.08) - 0.46)
    own = ""
    if study.own:
        good = sum(net["own"]["passed"] for net in nets)
        least, most = exact_interval(good, len(nets))
        own = f"{good} of {len(nets)} ({percent(least)} to {percent(most)})"
    return (
        f"| `{study.market}` | {study.nets} | {best:.1f} | {over:+.1f} | {own} | {sum(map(sum, passes))} of "
        f"{study.nets * study.fresh:,}: {percent(share)} ({percent(low)} to {percent(high)}) |"
    )


def page() -> str:
    """Return docs/gates.md."""
    every = {study.market: results(study) for study in STUDIES}
    sound = every[SOUND]

    def share_of(gate: str, market: str) -> str:
        return percent(float(np.mean([one["gates"][gate] for net in every[market] for one in net["fresh"]])))

    gates = []
    for gate in MARKET_GATES:
        fault, wrong = "", ""
        if gate.name in FAULTS:
            fault = FAULTS[gate.name][0]
            wrong = percent(float(np.mean([net["faults"][gate.name]["gates"][gate.name] for net in sound])))
        elif gate.name == "too-good":
            fault, wrong = "a level plus noise", share_of(gate.name, "level-noise")
        power = percent(float(np.mean([net["own"]["gates"][gate.name] for net in sound])))
        gates.append(
            f"| `{gate.name}` | {gate.measures} | {gate.limit} | {fault} | {wrong} | {share_of(gate.name, 'random-walk')} | "
            f"{share_of(gate.name, 'volatile')} | {power} |"
        )
    faulty = [one for net in sound for one in net["faults"].values()]
    return PAGE_TEXT.format(
        studies="\n".join(study_row(study, every[study.market]) for study in STUDIES),
        gates="\n".join(gates),
        wrong=sum(one["passed"] for one in faulty),
        faulty=len(faulty),
    )


PAGE_TEXT = """# The gates and their errors

Written by `python scripts/make_gates.py`: nets of recipe v7 on known-answer markets, judged on fresh ones of 157,448 rows, as
many as the test block of two years has. A gate can be wrong in two ways: it lets something broken pass (false pass), or it
refuses something sound (its power is how often it does not).

## All market gates together

| market | nets | best possible, points | the nets, points | pass on their own test block | pass on fresh markets |
| --- | --- | --- | --- | --- | --- |
{studies}

Points are accuracy over the commonest class, in percentage points; intervals are 95 %. The own test block is the last 15 % of
the candles that a net was trained on, as a user would judge it; a fresh market begins anew, at a price that the net may hardly
know, and so it is harder. `random-walk` and `volatile` hold nothing to find: every pass
there is false. On `planted-edge`, `planted-edge-2` and `planted-edge-1` an edge of 3, 2 and 1 points is shown by one feature, on
`planted-edge-joint` by two together, each of which alone is worth nothing. Nets of `random-walk`, `volatile` and `level-noise`
were trained on 200,000 candles, the others on two years. `level-noise` is found by every net, and refused by the alarm alone:
over 60 % right, which `crpbot audit` has to answer. Evaluations of one net depend on each other; the intervals count that, by
how alike the margins of `beats-majority` are within a net.

## Each gate alone

"False pass" is how often a gate passes when the fault that it is there for is put into a sound net of `planted-edge`. The next
two columns are how often it passes nets of markets that hold nothing: gates of form should, gates of skill should not. "Power"
is how often it passes sound nets of `planted-edge` on their own test block.

| gate | measures | must be | fault | false pass | random walk | volatile | power |
| --- | --- | --- | --- | --- | --- | --- | --- |
{gates}

All gates together let {wrong} of {faulty} faulty nets pass.

Standard errors are those of the stationary bootstrap: 2,000 draws, seeded, of blocks of a day on average (a twentieth of spans
below twenty days, never below four hours), one set of draws for all numbers of a diagnosis, so differences are paired. A number
that cannot be measured fails its gate.
"""


def main() -> None:
    """Measure what is not measured yet, and write the page."""
    if sys.argv[1:] != ["page"]:
        measure()
    write_whole(PAGE, page())


if __name__ == "__main__":
    main()
