"""Training, recipe v7: the usual loops and ours, on the same rows with the same network.

One torch thread for each network; three symbols side by side, where the start of their processes is not counted.
"""

import hashlib
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.measuring import Call, Scale, Turns, in_turns, peak
from benchmarks.results import Budget, Row
from crpbot.dataset.assemble import assemble
from crpbot.dataset.labels import classify, fit_theta
from crpbot.market.synthetic import make_market
from crpbot.model.loss import focal_loss, mean_loss
from crpbot.model.network import DirectionNetwork
from crpbot.model.recipe import Recipe, load_recipe
from crpbot.model.training import Rows, evaluate, train

BATCHES = (64, 1_024)
SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")
MULTIPLICATIONS = 2 * (72 * 256 + 256 * 128 + 128 * 64 + 64 * 3)
"""Floating-point operations of one row on its way forward; backward has as many twice, less the slope along the input."""
OPERATIONS = 3 * MULTIPLICATIONS - 2 * 72 * 256

Trained = tuple[float, float]
"""Seconds, and the recipe's loss on the held rows."""


def rows_of(symbol: str, n: int) -> tuple[Rows, Rows]:
    """Return `n` rows of level noise to train on, and a fifth as many later ones."""
    recipe = load_recipe("v7")
    market = make_market("level-noise", symbol, rows=n + n // 5 + 400)
    data = assemble(market, recipe.features.table, recipe.label.rule)
    y = classify(data.moves, fit_theta(data.moves[:n], recipe.label.rule, neutral_share=recipe.label.neutral_share))
    held = slice(n, n + n // 5)
    return Rows(np.ascontiguousarray(data.x[:n]), y[:n]), Rows(np.ascontiguousarray(data.x[held]), y[held])


def recipe_of(batch: int, epochs: int) -> Recipe:
    """Return v7 with another batch size, and without an early stop."""
    recipe = load_recipe("v7")
    return replace(recipe, training=replace(recipe.training, batch_size=batch, epochs=epochs, patience=epochs))


def ours(training: Rows, held: Rows, batch: int, epochs: int) -> Trained:
    """Time the epochs; what is judged after each epoch is left out, as it is of the others."""
    recipe = recipe_of(batch, epochs)
    history = train(recipe, training, held, names=recipe.features.table.names, seed=0).history
    return sum(len(training.y) / epoch.rows_per_second for epoch in history), history[-1].calibration_loss


def prepared(training: Rows, held: Rows) -> tuple[torch.Tensor, ...]:
    """Return the rows as every contender but ours gets them: normalized tensors."""
    mean, scale = training.x.mean(axis=0), training.x.std(axis=0)
    z, z_held = (torch.from_numpy((one.x - mean) / scale).float() for one in (training, held))
    return z, torch.from_numpy(training.y), z_held, torch.from_numpy(held.y)


def loss_module() -> nn.Module:
    """Return the loss of v7 as a module, its settings read once."""
    choice = load_recipe("v7").loss

    class Focal(nn.Module):
        def forward(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return focal_loss(logits, y, alpha=choice.alpha, gamma=choice.gamma, label_smoothing=choice.label_smoothing)

    return Focal()


def judged(network: DirectionNetwork, z: torch.Tensor, y: torch.Tensor) -> float:
    """Return the loss of v7, dropout off."""
    return mean_loss(load_recipe("v7").loss, evaluate(network, z), y)


def data_loader(training: Rows, held: Rows, batch: int, epochs: int) -> Trained:
    """The loop of the tutorials."""
    z, y, z_held, y_held = prepared(training, held)
    network = DirectionNetwork(normalizer=False)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.001)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    loader = DataLoader(TensorDataset(z, y), batch_size=batch, shuffle=True)
    criterion = loss_module()
    start = time.perf_counter()
    for _ in range(epochs):
        network.train()
        for z_batch, y_batch in loader:
            optimizer.zero_grad()
            loss = criterion(network(z_batch), y_batch)
            loss.backward()
            optimizer.step()
        schedule.step()
    return time.perf_counter() - start, judged(network, z_held, y_held)


def skorch(training: Rows, held: Rows, batch: int, epochs: int) -> Trained:
    """A scikit-learn estimator around a network."""
    from skorch import NeuralNet
    from skorch.callbacks import LRScheduler

    z, y, z_held, y_held = prepared(training, held)
    net = NeuralNet(
        DirectionNetwork(normalizer=False),
        criterion=type(loss_module()),
        optimizer=torch.optim.Adam,
        lr=0.001,
        max_epochs=epochs,
        batch_size=batch,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        callbacks=[("rate", LRScheduler(policy=torch.optim.lr_scheduler.CosineAnnealingLR, T_max=epochs))],
    ).initialize()
    start = time.perf_counter()
    net.partial_fit(z, y)
    seconds = time.perf_counter() - start
    return seconds, judged(net.module_, z_held, y_held)


def lightning(training: Rows, held: Rows, batch: int, epochs: int) -> Trained:
    """A LightningModule, with everything switched off that writes or shows."""
    import lightning

    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    z, y, z_held, y_held = prepared(training, held)
    criterion = loss_module()

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = DirectionNetwork(normalizer=False)

        def training_step(self, batch_of_rows: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
            return criterion(self.network(batch_of_rows[0]), batch_of_rows[1])

        def configure_optimizers(self) -> dict[str, object]:
            optimizer = torch.optim.Adam(self.parameters(), lr=0.001)
            return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)}

    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    module = Module()
    start = time.perf_counter()
    trainer.fit(module, DataLoader(TensorDataset(z, y), batch_size=batch, shuffle=True))
    seconds = time.perf_counter() - start
    return seconds, judged(module.network, z_held, y_held)


LOOPS: Mapping[str, Callable[[Rows, Rows, int, int], Trained]] = {
    "DataLoader": data_loader,
    "skorch": skorch,
    "Lightning": lightning,
    "crpbot": ours,
}

THREE = {"crpbot": "three symbols", "DataLoader": "DataLoader, three likewise"}


def fit(name: str, file: str, batch: int, epochs: int) -> dict[str, float]:
    """Return rows per second, loss and extra MiB of one contender; its rows come from a file: none pays for making them."""
    torch.set_num_threads(1)
    with np.load(file) as arrays:
        training, held = Rows(arrays["x"], arrays["y"]), Rows(arrays["x_held"], arrays["y_held"])
    before = peak(anew=True)
    seconds, loss = LOOPS[name](training, held, batch, epochs)
    return {"rows_per_second": len(training.y) * epochs / seconds, "loss": loss, "mib": peak() - before}


def three(name: str, rows: int, batch: int, epochs: int) -> dict[str, float]:
    """Return rows per second of one contender for three symbols, as many side by side as there are processors."""
    workers = min(len(SYMBOLS), os.cpu_count() or 1)
    with get_context("spawn").Pool(workers, maxtasksperchild=1) as pool:
        spans = pool.starmap(one_of_three, [(name, symbol, rows, batch, epochs) for symbol in SYMBOLS], chunksize=1)
    seconds = sum(max(end for _, end in group) - min(start for start, _ in group) for group in waves(spans))
    return {"rows_per_second": len(SYMBOLS) * rows * epochs / seconds}


def waves(spans: list[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Group spans of time that overlap: between them only processes start."""
    groups: list[list[tuple[float, float]]] = []
    for span in sorted(spans):
        if groups and span[0] < max(end for _, end in groups[-1]):
            groups[-1].append(span)
        else:
            groups.append([span])
    return groups


def one_of_three(name: str, symbol: str, rows: int, batch: int, epochs: int) -> tuple[float, float]:
    """Train one symbol; return when that began and ended."""
    torch.set_num_threads(1)
    training, held = rows_of(symbol, rows)
    start = time.monotonic()
    LOOPS[name](training, held, batch, epochs)
    return start, time.monotonic()


def matrix_rate() -> float:
    """Return the floating-point operations a second of the best square matrix product, one thread."""
    torch.set_num_threads(1)
    best = 0.0
    for size in (128, 256, 512, 1_024):
        left, right, out = torch.randn(size, size), torch.randn(size, size), torch.empty(size, size)
        times = max(3, int(1e9 / (2 * size**3)))
        for _ in range(4):
            start = time.perf_counter()
            for _ in range(times):
                torch.mm(left, right, out=out)
            best = max(best, 2 * size**3 * times / (time.perf_counter() - start))
    return best


def measure(scale: Scale) -> Iterator[Row]:
    """Compare one symbol and three, at both batch sizes."""
    rows, epochs = scale.of(60_000, 6_000), scale.of(2, 1)
    rate = matrix_rate()
    with TemporaryDirectory() as folder:
        training, held = rows_of("BTC-USD", rows)
        file = Path(folder, "rows.npz")
        np.savez(file, x=training.x, y=training.y, x_held=held.x, y_held=held.y)
        data = f"level noise, {rows:,} rows, sha256 {hashlib.sha256(training.x.tobytes()).hexdigest()[:16]}"
        for batch in BATCHES:
            given = {"file": str(file), "batch": batch, "epochs": epochs}
            calls = {name: Call(function="training:fit", arguments={"name": name, **given}) for name in LOOPS}
            for name, words in THREE.items():
                asked = {"name": name, "rows": rows, "batch": batch, "epochs": epochs}
                calls[words] = Call(function="training:three", arguments=asked)
            yield from compared(in_turns(calls, scale.rounds), batch, rate, data)


def compared(turns: Turns, batch: int, rate: float, data: str) -> Iterator[Row]:
    """Return the rows of one batch size."""
    loops, work = [name for name in LOOPS if name != "crpbot"], f"recipe v7, batch {batch:,}"
    one, three_of_them = (
        Budget(text=f"at least {times} times the DataLoader loop", limit=times, against="DataLoader")
        if batch == BATCHES[0]
        else None
        for times in (2.0, 3.0)
    )
    share = turns.figure("crpbot", "rows_per_second")
    said = f" ({max(share.values) * OPERATIONS / rate:.0%} of this machine's best matrix product)" if share.values else ""
    given = {"better": "more", "others": loops, "data": data}
    yield turns.row("rows_per_second", f"{work}, one symbol{said}", "rows/s", budget=one, **given)
    given |= {"others": [THREE["DataLoader"], "DataLoader"]}
    side_by_side = f"{work}, three symbols side by side"
    yield turns.row("rows_per_second", side_by_side, "rows/s", ours=THREE["crpbot"], budget=three_of_them, **given)
    given = {"others": loops, "data": data}
    yield turns.row(
        "loss", f"{work}: the same is learned", "nats", what="the recipe's loss on later rows", better="same", **given
    )
    yield turns.row("mib", work, "MiB", what="extra memory", **given)
