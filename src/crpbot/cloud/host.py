"""What SageMaker does around a container, on a machine that has none: lays the inputs out, and runs the worker."""

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from crpbot.cloud.child import Child
from crpbot.cloud.contract import BASE_VARIABLE


def lay_out(base: Path, hyperparameters: Mapping[str, str], channels: Mapping[str, Mapping[str, bytes]]) -> None:
    """Make a fresh folder by the contract; `checkpoints` stays, so that a training goes on where it was.

    Args:
        base: root of the contract, instead of /opt/ml.
        hyperparameters: for the worker.
        channels: files by name, by channel.

    """
    for name in ("input", "model", "output", "work"):
        shutil.rmtree(base / name, ignore_errors=True)
    for folder in ("input/config", "input/data", "model", "output/data", "checkpoints"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    (base / "input" / "config" / "hyperparameters.json").write_text(json.dumps(dict(hyperparameters)))
    for channel, files in channels.items():
        for name, content in files.items():
            path = base / "input" / "data" / channel / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def start_worker(base: Path) -> Child:
    """Start the worker on a folder that was laid out."""
    environment = {**os.environ, BASE_VARIABLE: str(base)}
    return Child([sys.executable, "-m", "crpbot.cloud.worker"], environment)


def reason(base: Path, code: int) -> str:
    """Return why a worker failed, in its own words."""
    failure = base / "output" / "failure"
    return failure.read_text() if failure.is_file() else f"the worker ended with exit code {code}; see its words above"
