"""One row of features through one v7 network: the deployed form beside torch, eager and traced, and beside numpy.

    .venv/bin/python benchmarks/inference.py

Each contender runs in a process of its own, with one thread, three times in turns; the fastest is shown. A prediction starts from
a row of 72 raw features in float64 and ends in three probabilities. Ready: seconds from here to the first prediction, imports and
loading included. MiB: the most that the process ever held.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROWS, ROUNDS, TARGET = 5_000, 3, 100.0
_START = time.perf_counter()

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
    "model.onnx": deployed,
    "onnxruntime alone": bare,
    "numpy": plain,
    "torch": eager,
    "torch, traced": traced,
}


def measure(name: str, folder: Path) -> dict[str, float]:
    """Return what one contender took, in this process."""
    rows = np.load(folder / "rows.npy")
    predict = CONTENDERS[name](folder)
    predict(rows[:1])
    ready = time.perf_counter() - _START
    for row in rows[:200]:
        predict(row[None])
    micros, said = np.empty(len(rows)), np.empty((len(rows), 3))
    for i in range(len(rows)):
        one = rows[i : i + 1]
        start = time.perf_counter_ns()
        said[i] = predict(one)
        micros[i] = (time.perf_counter_ns() - start) / 1_000
    np.save(folder / f"{name}.npy", said)
    return {
        "p50": float(np.median(micros)),
        "p99": float(np.quantile(micros, 0.99)),
        "ready": ready,
        "mib": most_memory(),
        "torch": float("torch" in sys.modules),
    }


def most_memory() -> float:
    """Return the MiB that this process held at most; NaN where the system has no /proc."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+)", status.read_text()) if status.exists() else None
    return int(found[1]) / 1024 if found else float("nan")


def write(folder: Path) -> None:
    """Write a v7 network with drawn weights in both forms, and rows to predict."""
    import torch

    from crpbot.model.export import export_onnx
    from crpbot.model.loading import file_sha256, load_checkpoint
    from crpbot.model.network import DirectionNetwork

    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    mean, scale = rng.normal(0, 1e4, 72), rng.uniform(0.1, 1e3, 72)
    np.save(folder / "rows.npy", mean + scale * rng.normal(size=(ROWS, 72)))
    scaler = {"mean": mean.tolist(), "scale": scale.tolist()}
    state = DirectionNetwork(normalizer=False).state_dict()
    torch.save({"model_state_dict": state, "scaler_params": scaler}, folder / "model.pt")
    checkpoint = load_checkpoint(folder / "model.pt")
    export_onnx(checkpoint, folder / "model.onnx", checkpoint_sha256=file_sha256(folder / "model.pt"))


def main() -> None:
    """Print one row a contender."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contender", nargs=2, metavar=("NAME", "FOLDER"), help="measure one here; used by the script itself")
    contender = parser.parse_args().contender
    if contender:
        print(json.dumps(measure(contender[0], Path(contender[1]))))
        return
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder)
        for _ in range(ROUNDS):
            for one, rounds in found.items():
                command = [sys.executable, __file__, "--contender", one, str(folder)]
                done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)  # noqa: S603
                rounds.append(json.loads(done.stdout))
        said = {one: np.load(folder / f"{one}.npy") for one in CONTENDERS}
    print(f"{'one row':20}{'p50 µs':>9}{'p99 µs':>9}{'ready s':>9}{'MiB':>7}{'torch loaded':>14}{'furthest from torch':>21}")
    for one, rounds in found.items():
        best = min(rounds, key=lambda each: each["p50"])
        far = np.abs(said[one] - said["torch"]).max()
        ready, mib = (min(each[key] for each in rounds) for key in ("ready", "mib"))
        loaded = "yes" if best["torch"] else "no"
        print(f"{one:20}{best['p50']:9.1f}{best['p99']:9.1f}{ready:9.2f}{mib:7.0f}{loaded:>14}{far:21.1e}")
    reached = min(each["p50"] for each in found["model.onnx"])
    print(f"target: at most {TARGET:.0f} µs a row from model.onnx; {'met' if reached <= TARGET else 'MISSED'}")


if __name__ == "__main__":
    main()
