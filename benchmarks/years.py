"""Two markets of two years each, trained by recipe v7 as it is written, side by side: `crpbot train`, start to end."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.features import ROWS
from benchmarks.measuring import ROOT, Scale, timed
from benchmarks.results import Budget, Figure, Row

SYMBOLS = ("BTC-USD", "ETH-USD")


def measure(scale: Scale) -> Iterator[Row]:
    """Train both, and diagnose them, as the command does."""
    from crpbot.market.files import write_candles
    from crpbot.market.synthetic import make_market

    rows = scale.of(ROWS, 12_000)
    with tempfile.TemporaryDirectory() as folder:
        for seed, symbol in enumerate(SYMBOLS):
            write_candles(make_market("random-walk", symbol, rows=rows, seed=seed), Path(folder) / f"{symbol}.parquet")
        words = ["train", "--symbols", ",".join(SYMBOLS), "--candles", folder, "--out", f"{folder}/models", "--workers", "2"]
        command = [sys.executable, "-m", "crpbot", *words]
        seconds, done = timed(lambda: subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT))  # noqa: S603
    failed = "" if done.returncode in {0, 1} else (done.stderr.strip().splitlines() or ["said nothing"])[-1][:300]
    yield Row(
        work=f"two markets of {rows:,} candles, recipe v7 as written: trained, calibrated, diagnosed",
        unit="min",
        ours=Figure(failed=failed) if failed else Figure(values=(seconds / 60,)),
        budget=Budget(text="at most 15 minutes in all", limit=15.0),
        data=f"random walks, {rows:,} candles each, seeds 0 and 1",
    )
