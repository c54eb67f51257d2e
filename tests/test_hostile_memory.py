"""Small files that unpack to more than there is: an error in seconds, under a limit of memory, and never an end by the system."""

import gzip
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import polars as pl
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux does")]

READ = """
import resource, sys
from pathlib import Path
import polars, torch
from crpbot.errors import CrpbotError
from crpbot.market.files import read_candles
from crpbot.market.formats import read_foreign
from crpbot.model.loading import load_checkpoint
from crpbot.model.recipe import load_recipe
from crpbot.model.scaler import read_scaler
from crpbot.registry.ledger import Ledger
readers = {"candles": read_candles, "foreign": read_foreign, "model": load_checkpoint, "scaler": read_scaler,
           "recipe": lambda path: load_recipe(str(path)), "ledger": lambda path: Ledger(path).lines()}
resource.setrlimit(resource.RLIMIT_DATA, (2**30, 2**30))
for word in sys.argv[1:]:
    kind, _, path = word.partition("=")
    resource.setrlimit(resource.RLIMIT_CPU, (int(resource.getrusage(resource.RUSAGE_SELF).ru_utime) + 30, resource.RLIM_INFINITY))
    try:
        readers[kind](Path(path))
        print("read")
    except CrpbotError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
"""


def zeros(path: Path, size: int) -> Path:
    """Write a zip of one member of so many zeros."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("BTCUSDT-1m.csv", "w") as member:
        for _ in range(size // 2**20):
            member.write(bytes(2**20))
    return path


def test_bombs_are_refused_under_one_gibibyte(tmp_path: Path) -> None:
    one_line = tmp_path / "BTC-USD.csv"
    one_line.write_bytes(b"time,open,high,low,close,volume\n" + b"1" * 200_000_000)
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 500_000)
    parquet = tmp_path / "BTC-USD.parquet"
    rows = pl.select(pl.repeat(0, 60_000_000, dtype=pl.Int8).alias("time"))
    rows.write_parquet(parquet, row_group_size=2**24)
    assert parquet.stat().st_size < 2**20
    gz = tmp_path / "BTC-USD.gz"
    gz.write_bytes(gzip.compress(bytes(2**28), 1) * 9)
    recipe = tmp_path / "deep.toml"
    recipe.write_text("a = " + "[" * 200_000)
    model = tmp_path / "model.onnx"
    model.write_bytes(b"\x3a\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(2**20))
    ledger = tmp_path / "ledger.jsonl"
    ledger.write_text(json.dumps({"format": "crpbot.ledger/1"}) + "\n" + "[" * 500_000 + "\n")
    asked = {
        "candles": [one_line, parquet], "foreign": [zeros(tmp_path / "BTC-USD.zip", 600 * 2**20), gz, one_line],
        "model": [model, zeros(tmp_path / "m.pt", 300 * 2**20)], "scaler": [deep], "recipe": [recipe], "ledger": [ledger],
    }  # fmt: skip
    words = [f"{kind}={path}" for kind, paths in asked.items() for path in paths]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", READ, *words], capture_output=True, text=True, check=False, env=environment, timeout=300
    )
    said = dict(zip(words, done.stdout.splitlines(), strict=False))
    assert done.returncode == 0, (said, done.stderr[-1_000:])
    assert all(
        text.partition(":")[0] in {"CandleError", "CheckpointError", "RecipeError", "RegistryError"} for text in said.values()
    )
    assert len(said) == len(words)
