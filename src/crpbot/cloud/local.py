"""The contract of the container on this machine, without Docker and without AWS: what a job does, and what is checked of it."""

import shutil
import tempfile
from pathlib import Path

from crpbot.cloud import host
from crpbot.cloud.artefact import pack
from crpbot.cloud.child import INTERRUPTED
from crpbot.cloud.order import Market
from crpbot.cloud.pack import candles_blob
from crpbot.cloud.plan import Job
from crpbot.cloud.verify import Expected, accept
from crpbot.errors import CloudError
from crpbot.quality.report.data import Judgement


def train_local(job: Job, market: Market, *, home: Path, out: Path) -> Judgement:
    """Train one symbol by the contract, verify what it made, and place its model folder at `out`/SYMBOL.

    What was interrupted goes on from its last epoch.

    Args:
        job: of a plan.
        market: its candles.
        home: the work lies in `home`/cloud/local.
        out: of the model folder.

    Raises:
        CloudError: the worker refused its own checkpoint, or failed.

    """
    assert market.candles is not None
    base = home / "cloud" / "local" / job.name
    channels = {"recipe": {"recipe.toml": job.recipe.to_toml().encode()}}
    if not market.told:
        channels["candles"] = {f"{job.symbol}.parquet": candles_blob(job.symbol, market.candles).content}
    host.lay_out(base, job.hyperparameters(), channels)
    child = host.start_worker(base)
    code, _ = child.wait()
    if code == INTERRUPTED or child.interrupted:
        raise CloudError(f"{job.name} must run to its end, found it interrupted; repeat the command, and it goes on where it was")
    if code != 0:
        raise CloudError(f"{job.name} failed: {host.reason(base, code)}")
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "model.tar.gz"
        pack(base / "model", archive)
        expected = Expected(job=job.name, symbol=job.symbol, recipe=job.recipe, seed=job.seed, kind=job.kind)
        judgement = accept(archive, expected, market.candles, out=out)
    shutil.rmtree(base)
    return judgement
