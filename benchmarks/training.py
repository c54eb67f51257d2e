"""Training, recipe v7: the usual loops and ours, on the same rows with the same network, as ratios from one run.

    make bench
    .venv/bin/python benchmarks/training.py --rows 50000 --epochs 2    # shorter

Every contender runs in processes of its own, so that its peak memory is its own; the fastest of three counts. One torch thread
for each network. Between the three symbols, the start of a process is not counted.
"""

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from crpbot.dataset.assemble import assemble
from crpbot.dataset.labels import classify, fit_theta
from crpbot.market.synthetic import make_market
from crpbot.model.loss import focal_loss, mean_loss
from crpbot.model.network import DirectionNetwork
from crpbot.model.recipe import Recipe, load_recipe
from crpbot.model.training import Rows, evaluate, train

BATCHES = (64, 1_024)
CONTENDERS = ("DataLoader", "skorch", "Lightning", "crpbot")
SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")
REPEATS = 3
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000)
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


def measure(name: str, file: str, batch: int, epochs: int) -> dict[str, float]:
    """Return rows per second, loss and extra MiB of one contender; its rows come from a file: none pays for making them."""
    with np.load(file) as arrays:
        training, held = Rows(arrays["x"], arrays["y"]), Rows(arrays["x_held"], arrays["y_held"])
    before = peak(anew=True)
    seconds, loss = LOOPS[name](training, held, batch, epochs)
    return {"rows_per_second": len(training.y) * epochs / seconds, "loss": loss, "mib": peak() - before}


def peak(*, anew: bool = False) -> float:
    """Return the most memory that this process has had, in MiB; `anew` forgets what was before, where Linux lets it."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if anew:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def three(rows: int, batch: int, epochs: int) -> float:
    """Return rows per second of ours for three symbols, as many side by side as there are processors."""
    workers = min(len(SYMBOLS), os.cpu_count() or 1)
    with get_context("spawn").Pool(workers, maxtasksperchild=1) as pool:
        spans = pool.starmap(one_of_three, [(symbol, rows, batch, epochs) for symbol in SYMBOLS], chunksize=1)
    return (
        len(SYMBOLS)
        * rows
        * epochs
        / sum(max(end for _, end in group) - min(start for start, _ in group) for group in waves(spans))
    )


def waves(spans: list[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Group spans of time that overlap: between them only processes start."""
    groups: list[list[tuple[float, float]]] = []
    for span in sorted(spans):
        if groups and span[0] < max(end for _, end in groups[-1]):
            groups[-1].append(span)
        else:
            groups.append([span])
    return groups


def one_of_three(symbol: str, rows: int, batch: int, epochs: int) -> tuple[float, float]:
    """Train one symbol; return when that began and ended."""
    training, held = rows_of(symbol, rows)
    start = time.monotonic()
    ours(training, held, batch, epochs)
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


def cost(rows: int) -> dict[str, float]:
    """Return seconds of one epoch of random rows at batch 64, and extra MiB over the features themselves."""
    rng = np.random.default_rng(0)
    training = Rows(rng.standard_normal((rows, 72)), rng.integers(0, 3, rows))
    held = Rows(rng.standard_normal((5_000, 72)), rng.integers(0, 3, 5_000))
    before = peak(anew=True)
    seconds, _ = ours(training, held, 64, 1)
    return {"seconds": seconds, "mib": peak() - before}


def best(*arguments: str) -> dict[str, float]:
    """Return the fastest of three processes."""
    return max((asked(*arguments) for _ in range(REPEATS)), key=lambda one: one["rows_per_second"])


def asked(*arguments: str) -> dict[str, float]:
    """Return what a process of its own has measured."""
    command = [sys.executable, str(Path(__file__)), "--only", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    found = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)  # noqa: S603
    return json.loads(found.stdout.splitlines()[-1])


def main() -> None:
    """Run every contender and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000, help="to train on")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--largest", type=int, default=SIZES[-1], help="of the table of costs")
    parser.add_argument("--only", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        kind, *rest = options.only
        torch.set_num_threads(1)
        if kind == "measure":
            print(json.dumps(measure(rest[0], rest[1], *map(int, rest[2:]))))
        elif kind == "three":
            print(json.dumps({"rows_per_second": three(*map(int, rest))}))
        else:
            print(json.dumps(cost(int(rest[0]))))
        return
    rate = matrix_rate()
    print(
        f"recipe v7, {options.rows:,} rows of level noise, {options.epochs} epochs, one thread a network, {os.cpu_count()} cores"
    )
    print(f"the best matrix product of this machine: {rate / 1e9:.0f} GFLOP/s on one thread\n")
    with TemporaryDirectory() as folder:
        training, held = rows_of("BTC-USD", options.rows)
        file = Path(folder, "rows.npz")
        np.savez(file, x=training.x, y=training.y, x_held=held.x, y_held=held.y)
        for batch in BATCHES:
            compare(options.rows, file, batch, options.epochs, rate)
    print("\none epoch at batch 64, random rows\n")
    print(f"{'rows':>12}{'seconds':>10}{'µs a row':>10}{'extra MiB':>11}")
    for size in SIZES:
        if size <= options.largest:
            one = asked("cost", str(size))
            print(f"{size:12,}{one['seconds']:10.2f}{1e6 * one['seconds'] / size:10.1f}{one['mib']:11,.0f}")


def compare(rows: int, file: Path, batch: int, epochs: int, rate: float) -> None:
    """Print the table of one batch size."""
    print(f"{f'batch {batch:,}':24}{'rows/s':>10}{'ratio':>8}{'loss':>10}{'extra MiB':>11}{'of the matrix rate':>20}")
    usual = 0.0
    for name in CONTENDERS:
        one = best("measure", name, str(file), str(batch), str(epochs))
        speed = one["rows_per_second"]
        usual = usual or speed
        share = speed * OPERATIONS / rate
        print(f"{name:24}{speed:10,.0f}{speed / usual:8.1f}{one['loss']:10.5f}{one['mib']:11,.0f}{share:20.0%}")
    together = best("three", str(rows), str(batch), str(epochs))["rows_per_second"]
    print(f"{'crpbot, three symbols':24}{together:10,.0f}{together / usual:8.1f}\n")


if __name__ == "__main__":
    main()
