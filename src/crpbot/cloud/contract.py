"""The contract of a SageMaker container: where its inputs, outputs and words are. A test or `--local` moves its root."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from crpbot.errors import CloudError
from crpbot.market.files import check_symbol
from crpbot.market.source import SourceKind

ROOT = "/opt/ml"
BASE_VARIABLE = "SAGEMAKER_BASE_DIR"
"""The variable by which SageMaker's own toolkit moves the root, too."""
MOST_FAILURE = 1_024
"""Characters of the failure file that SageMaker shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """Where everything is, and what is to be done.

    Attributes:
        job: name of the work.
        symbol, seed: of the training.
        kind: of the candles.
        candles: what `crpbot train --candles` gets; None is the bundled sample.
        candles_sha256: digest that the candles must have.
        recipe: the TOML file.
        model: folder that becomes model.tar.gz.
        output: folder that becomes output.tar.gz.
        state: folder that SageMaker keeps in S3 while the job runs, and brings back after a spot machine was taken.
        failure: file that says why the job failed.
        work: folder for what is in the making.

    """

    job: str
    symbol: str
    seed: int
    kind: SourceKind
    candles: str | None
    candles_sha256: str
    recipe: Path
    model: Path
    output: Path
    state: Path
    failure: Path
    work: Path


def read_contract(environment: Mapping[str, str] | None = None) -> Contract:
    """Read what the container was given.

    The `SM_*` variables of SageMaker's toolkit count where they are set; without the toolkit the folders of the contract do.

    Raises:
        CloudError: something is missing or impossible.

    """
    variables = os.environ if environment is None else environment
    base = Path(variables.get(BASE_VARIABLE, ROOT))
    told = _hyperparameters(variables, base)
    try:
        kind, seed = told["kind"], int(told["seed"])
        symbol, job, sha256 = check_symbol(told["symbol"]), told["job"], told["candles_sha256"]
    except (KeyError, ValueError) as error:
        raise CloudError(
            f"the hyperparameters must name job, symbol, seed, kind and candles, found {error!r}; send it again"
        ) from None
    if kind not in get_args(SourceKind):
        raise CloudError(f"kind must be one of {', '.join(get_args(SourceKind))}, found {kind!r}; send the job again")
    candles: str | None = None
    if kind == "file":
        candles = str(_channel(variables, base, "candles"))
    elif kind == "synthetic":
        candles = told["candles"]
    return Contract(
        job=job,
        symbol=symbol,
        seed=seed,
        kind=cast("SourceKind", kind),
        candles=candles,
        candles_sha256=sha256,
        recipe=_channel(variables, base, "recipe") / "recipe.toml",
        model=Path(variables.get("SM_MODEL_DIR", base / "model")),
        output=Path(variables.get("SM_OUTPUT_DATA_DIR", base / "output" / "data")),
        state=base / "checkpoints",
        failure=base / "output" / "failure",
        work=base / "work",
    )


def write_failure(path: Path, reason: str) -> None:
    """Say why the job failed, where SageMaker looks for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(" ".join(reason.split())[:MOST_FAILURE])


def _hyperparameters(variables: Mapping[str, str], base: Path) -> Mapping[str, str]:
    path = base / "input" / "config" / "hyperparameters.json"
    try:
        told = json.loads(variables["SM_HPS"] if "SM_HPS" in variables else path.read_text())
        return {str(name): str(value) for name, value in told.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise CloudError(f"the job must have its hyperparameters in {path}, found {error}; send it again") from None


def _channel(variables: Mapping[str, str], base: Path, name: str) -> Path:
    folder = Path(variables.get(f"SM_CHANNEL_{name.upper()}", base / "input" / "data" / name))
    if not folder.is_dir():
        raise CloudError(f"the job must have the channel {name!r}, found no {folder}; send it again")
    return folder
