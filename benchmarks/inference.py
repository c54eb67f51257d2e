"""Rows of features through one v7 network: the deployed form beside torch, eager and traced, beside onnxruntime alone and numpy.

One thread. A prediction starts from a row of 72 raw features in float64 and ends in three probabilities. Ready: seconds to
the first prediction, imports (but for numpy's) and loading included. MiB: the most that the process ever held.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import Call, Scale, ask, in_turns, peak, quantiles
from benchmarks.results import Budget, Row

_START = time.perf_counter()
MANY = 1_000
"""Rows of one call, where many are asked at once."""

Predict = Callable[[np.ndarray], np.ndarray]


def deployed(folder: Path) -> Predict:
    """Serve `model.onnx` as `crpbot signal` does."""
    from crpbot.model.loading import load_checkpoint

    checkpoint = load_checkpoint(folder / "model.onnx")
    return lambda x: checkpoint.predict(x).probabilities


def bare(folder: Path) -> Predict:
    """Serve `model.onnx` by onnxruntime alone, without crpbot."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(["probabilities"], {"features": x})[0]


def plain(folder: Path) -> Predict:
    """Serve the arrays of `model.onnx` by numpy."""
    from crpbot.model.calibration import softmax
    from crpbot.model.loading import load_checkpoint

    weights = load_checkpoint(folder / "model.onnx").weights
    return lambda x: softmax(weights.serve(x))


def eager(folder: Path) -> Predict:
    """Serve the `.pt` by torch."""
    import torch

    from crpbot.model.loading import load_checkpoint

    torch.set_num_threads(1)
    network = load_checkpoint(folder / "model.pt").network

    @torch.inference_mode()
    def predict(x: np.ndarray) -> np.ndarray:
        return torch.softmax(network(torch.from_numpy(x)), dim=1).numpy()

    return predict


def traced(folder: Path) -> Predict:
    """Serve the `.pt` by torch, traced, frozen and optimized."""
    import warnings

    import torch

    from crpbot.model.loading import load_checkpoint

    warnings.simplefilter("ignore")  # torch.jit is deprecated, and still what people deploy
    torch.set_num_threads(1)
    network = load_checkpoint(folder / "model.pt").network
    script = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(network, torch.zeros(1, 72).double())))

    @torch.inference_mode()
    def predict(x: np.ndarray) -> np.ndarray:
        return torch.softmax(script(torch.from_numpy(x)), dim=1).numpy()

    return predict


CONTENDERS: dict[str, Callable[[Path], Predict]] = {
    "crpbot": deployed,
    "torch": eager,
    "torch, traced": traced,
    "onnxruntime alone": bare,
    "numpy": plain,
}


def serve(name: str, folder: str) -> dict[str, Any]:
    """Return what one contender took, in this process; its answers go into the folder."""
    place = Path(folder)
    rows = np.load(place / "rows.npy")
    predict = CONTENDERS[name](place)
    predict(rows[:1])
    ready, said, micros = time.perf_counter() - _START, np.empty((len(rows), 3)), []
    for row in rows[:200]:
        predict(row[None])
    for i in range(len(rows)):
        one = rows[i : i + 1]
        start = time.perf_counter_ns()
        said[i] = predict(one)
        micros.append((time.perf_counter_ns() - start) / 1_000)
    np.save(place / f"{name}.npy", said)
    return {**dict(quantiles(micros)), "many": together(predict, rows), "ready": ready, "mib": peak(), "note": loaded()}


def together(predict: Predict, rows: np.ndarray) -> float:
    """Return the median microseconds of a call with many rows."""
    micros = []
    for start in range(0, 50 * MANY, MANY):
        block = rows[np.arange(start, start + MANY) % len(rows)]
        begun = time.perf_counter_ns()
        predict(block)
        micros.append((time.perf_counter_ns() - begun) / 1_000)
    return float(np.median(micros))


def loaded() -> str:
    """Say whether torch was needed."""
    return "with torch" if "torch" in sys.modules else "without torch"


def write(folder: str, rows: int) -> None:
    """Write a v7 network with drawn weights in both forms, and rows to predict."""
    import torch

    from crpbot.model.export import export_onnx
    from crpbot.model.loading import file_sha256, load_checkpoint
    from crpbot.model.network import DirectionNetwork

    rng, place = np.random.default_rng(0), Path(folder)
    torch.manual_seed(0)
    mean, scale = rng.normal(0, 1e4, 72), rng.uniform(0.1, 1e3, 72)
    np.save(place / "rows.npy", mean + scale * rng.normal(size=(rows, 72)))
    scaler = {"mean": mean.tolist(), "scale": scale.tolist()}
    state = DirectionNetwork(normalizer=False).state_dict()
    torch.save({"model_state_dict": state, "scaler_params": scaler}, place / "model.pt")
    checkpoint = load_checkpoint(place / "model.pt")
    export_onnx(checkpoint, place / "model.onnx", checkpoint_sha256=file_sha256(place / "model.pt"))


def measure(scale: Scale) -> Iterator[Row]:
    """Compare single rows, many at once, and what stands around them."""
    from crpbot.model.loading import file_sha256

    with tempfile.TemporaryDirectory() as folder:
        ask(Call(function="inference:write", arguments={"folder": folder, "rows": scale.of(5_000, 500)}))
        calls = {name: Call(function="inference:serve", arguments={"name": name, "folder": folder}) for name in CONTENDERS}
        turns = in_turns(calls, scale.rounds)
        data = f"drawn rows, sha256 {file_sha256(Path(folder) / 'rows.npy')[:16]}"
        said = {name: np.load(Path(folder) / f"{name}.npy") for name in CONTENDERS if name not in turns.failed}
    far = (
        max((float(np.abs(one - said["crpbot"]).max()) for one in said.values()), default=float("nan"))
        if "crpbot" in said
        else 0.0
    )
    budget = Budget(text="at most 100 µs, no torch imported", limit=100.0)
    why = "ours asks that very session for logits; softmax and the record of a prediction come on top"
    work = f"one prediction from `model.onnx` (no two answers further apart than {far:.0e})"
    yield turns.row("p50", work, "µs", what="p50", budget=budget, why=why, data=data)
    yield turns.row("p99", work, "µs", what="p99", why=why, data=data)
    yield turns.row("many", f"{MANY:,} predictions at once", "µs", what="p50", why=why, data=data)
    why = "ours reads the header and checks it, and onnxruntime alone does not; numpy needs no onnxruntime"
    yield turns.row("ready", "imports and loading, until the first prediction", "s", why=why, data=data)
    yield turns.row("mib", "the process that predicts", "MiB", what="memory at most", why=why, data=data)
