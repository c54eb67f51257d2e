"""A diagnosis of 150,000 rows: all of it, with and without the page, and its core numbers beside scikit-learn and torchmetrics.

The usual notebook: the 72 features in plain pandas, the network in torch, and from its probabilities accuracy, log loss, Brier
score, calibration error and the table of predicted and true classes. A diagnosis has these and, beside them, an error from blocks
of time for every number, the calibration error that chance alone would show, parts of the span, what its confidence is worth, the
search for causes with a what-if each, and gates.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import Call, Scale, ask, costs, in_turns
from benchmarks.results import Budget, Row
from crpbot.market.candles import Candles
from crpbot.market.synthetic import make_market

LEARNED, TESTED = 40_000, 5_768
"""Candles that the model is made from, and the rows of its test block, which are judged, too."""
BINS = 15
Numbers = dict[str, float]


def market(rows: int) -> Candles:
    """Return candles with so many rows that the model has not seen, at least those of its test block."""
    return make_market("level-noise", "BTC-USD", rows=LEARNED + max(0, rows - TESTED), seed=0)


def make(folder: str) -> None:
    """Train a small model, and write it."""
    from crpbot.making.model import make_model
    from crpbot.model.pt_file import save_checkpoint
    from crpbot.model.recipe import load_recipe

    recipe = load_recipe("v7")
    recipe = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, epochs=3, batch_size=256))
    checkpoint, _, probe = make_model("BTC-USD", market(0), recipe, source="synthetic", seed=0)
    save_checkpoint(checkpoint, Path(folder) / "model.pt", probe=probe)


def ours(folder: str, rows: int, page: bool) -> dict[str, Any]:  # noqa: FBT001  plain types come from another process
    """Diagnose, and draw the page; torch is there already, as in the notebook."""
    import torch

    from crpbot.factory import diagnose
    from crpbot.quality.report.html import report_page

    torch.set_num_threads(1)
    candles = market(rows)

    def work() -> object:
        judgement = diagnose(Path(folder) / "model.pt", candles, source="synthetic")
        return judgement, report_page([judgement]) if page else ""

    found, result = costs(work)
    return {**found, "note": f"{result[0].diagnosis.metrics.rows:,} rows"}


def notebook(folder: str, rows: int) -> dict[str, Any]:
    """Do what a notebook does: features in pandas, torch, scikit-learn."""
    import pandas as pd
    import torch

    from benchmarks.contenders import in_pandas
    from crpbot.dataset.labels import classify, label_moves
    from crpbot.model.loading import load_checkpoint

    torch.set_num_threads(1)
    checkpoint = load_checkpoint(Path(folder) / "model.pt")
    candles, rule = market(rows), checkpoint.recipe.label.rule
    later = candles[int(np.searchsorted(candles.time, checkpoint.origin.unseen_from)) - 200 :]

    def work() -> Numbers:
        columns = {name: getattr(later, name) for name in ("open", "high", "low", "close", "volume")}
        x = pd.DataFrame(in_pandas(pd.DataFrame(columns)))[list(checkpoint.features)].to_numpy(copy=True)
        moves, _ = label_moves(later, rule)
        there = np.isfinite(x).all(axis=1) & np.isfinite(moves)
        with torch.inference_mode():
            p = torch.softmax(checkpoint.network(torch.from_numpy(x[there])), dim=1).numpy()
        return in_sklearn(p, classify(moves[there], checkpoint.label.theta))

    in_sklearn(np.full((3, 3), 1 / 3), np.arange(3))  # imports are not counted
    found, numbers = costs(work)
    return {**found, "note": f"five numbers, accuracy {numbers['accuracy']:.4f}"}


def in_sklearn(p: np.ndarray, y: np.ndarray) -> Numbers:
    """Return the core numbers; scikit-learn has no calibration error, so bins of equal mass come from its curve."""
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import accuracy_score, brier_score_loss, confusion_matrix, log_loss

    said, confidence = p.argmax(axis=1), p.max(axis=1)
    right, mean = calibration_curve(said == y, confidence, n_bins=BINS, strategy="quantile")
    confusion_matrix(y, said)
    return {
        "accuracy": float(accuracy_score(y, said)),
        "log_loss": float(log_loss(y, p, labels=[0, 1, 2])),
        "brier": float(brier_score_loss(y, p, labels=[0, 1, 2])),
        "ece": float(np.abs(right - mean).mean()),
    }


def in_torchmetrics(p: np.ndarray, y: np.ndarray) -> Numbers:
    """Return the core numbers; its calibration error has bins of equal width, and of the Brier score and the loss it has none."""
    import torch
    from torchmetrics.functional.classification import (
        multiclass_accuracy,
        multiclass_calibration_error,
        multiclass_confusion_matrix,
    )

    torch.set_num_threads(1)
    said, true = torch.from_numpy(p), torch.from_numpy(y)
    multiclass_confusion_matrix(said, true, num_classes=3)
    return {
        "accuracy": float(multiclass_accuracy(said, true, num_classes=3, average="micro")),
        "log_loss": float(torch.nn.functional.nll_loss(said.log(), true)),
        "brier": float(((said - torch.nn.functional.one_hot(true, 3)) ** 2).sum(dim=1).mean()),
        "ece": float(multiclass_calibration_error(said, true, num_classes=3, n_bins=BINS)),
    }


def in_crpbot(p: np.ndarray, y: np.ndarray) -> Numbers:
    """Return the core numbers by the functions of a diagnosis, without their errors."""
    from crpbot.quality.metrics import brier, log_loss
    from crpbot.quality.reliability import calibration_error

    said = p.argmax(axis=1)
    np.bincount(3 * y + said, minlength=9)
    return {
        "accuracy": float((said == y).mean()),
        "log_loss": log_loss(p, y),
        "brier": brier(p, y),
        "ece": calibration_error(p, y, bins=BINS),
    }


CORES: dict[str, Callable[[np.ndarray, np.ndarray], Numbers]] = {
    "crpbot": in_crpbot,
    "scikit-learn": in_sklearn,
    "torchmetrics": in_torchmetrics,
}


def core(name: str, rows: int) -> dict[str, Any]:
    """Return what the core numbers cost, and how far they are from ours."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 0.5, (rows, 3))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = (rng.random(rows)[:, None] > p.cumsum(axis=1)[:, :2]).sum(axis=1)
    CORES[name](p[:100], y[:100])  # imports are not counted
    found, numbers = costs(lambda: CORES[name](p, y), times=5)
    mine = in_crpbot(p, y)
    far = max(abs(numbers[key] - mine[key]) for key in ("accuracy", "log_loss", "brier"))
    said = f"the same to {max(far, 1e-16):.0e}, calibration error {numbers['ece']:.4f} for {mine['ece']:.4f}"
    return {**found, "note": "" if name == "crpbot" else said}


def measure(scale: Scale) -> Iterator[Row]:
    """Compare the whole, then the core."""
    rows = scale.of(150_000, 15_000)
    with tempfile.TemporaryDirectory() as folder:
        ask(Call(function="diagnosis:make", arguments={"folder": folder}))
        given = {"folder": folder, "rows": rows}
        calls = {
            "crpbot": Call(function="diagnosis:ours", arguments={**given, "page": False}),
            "with page": Call(function="diagnosis:ours", arguments={**given, "page": True}),
            "notebook": Call(function="diagnosis:notebook", arguments=given),
        }
        turns = in_turns(calls, scale.rounds)
    candles = market(rows)
    data = f"level noise, {len(candles):,} candles, sha256 {candles.sha256[:16]}"
    why = "a notebook has five numbers; ours also their errors from blocks of time, causes with what-ifs, and gates"
    work, budget = f"diagnosis of {rows:,} rows from candles", Budget(text="at most 10 s", limit=10.0)
    yield turns.row(
        "seconds", f"{work}, with the page", "s", ours="with page", others=("notebook",), budget=budget, why=why, data=data
    )
    yield turns.row("seconds", work, "s", others=("notebook",), why=why, data=data)
    yield turns.row("mib", work, "MiB", what="extra memory", others=("notebook",), why=why, data=data)
    calls = {name: Call(function="diagnosis:core", arguments={"name": name, "rows": rows}) for name in CORES}
    turns = in_turns(calls, scale.rounds)
    work = f"accuracy, log loss, Brier score, calibration error of {rows:,} rows"
    yield turns.row(
        "seconds",
        work,
        "s",
        data="drawn probabilities, seed 0",
        why="its bins are of equal width; bins of equal mass, as ours, have to be sorted",
    )
