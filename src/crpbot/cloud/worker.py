"""What runs in the container: the very `crpbot train`, then the sanity gates, then a manifest. Exit 0 only with a sound model.

A SIGTERM (a spot machine that is taken away, a stop) ends the training at once; the last finished epoch is in the state folder,
which SageMaker keeps, and the next start goes on from there.
"""

import json
import os
import platform
import shutil
import signal
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from crpbot.cloud.artefact import write_manifest
from crpbot.cloud.child import INTERRUPTED, Child
from crpbot.cloud.contract import BASE_VARIABLE, ROOT, Contract, read_contract, write_failure
from crpbot.cloud.sanity import Sanity, examine
from crpbot.errors import CrpbotError
from crpbot.market.candles import Candles
from crpbot.market.source import open_source
from crpbot.model.folder import checkpoint_name
from crpbot.model.recipe import load_recipe


def work(contract: Contract) -> int:
    """Train, check and hand over; return the exit code.

    Raises:
        CrpbotError: the recipe or the candles cannot be used.

    """
    recipe = load_recipe(str(contract.recipe))
    candles = open_source(contract.candles, symbols=(contract.symbol,), seed=contract.seed).read(contract.symbol)
    if contract.candles_sha256 and candles.sha256 != contract.candles_sha256:
        write_failure(contract.failure, "the candles must have the digest that the job names, found others; upload them again")
        return 1
    training = Child(_command(contract))
    code, last = training.wait()
    if training.interrupted:
        sys.stderr.write("interrupted: the last finished epoch is kept, and the next start goes on from there\n")
        return INTERRUPTED
    if code != 0:
        write_failure(contract.failure, f"crpbot train ended with exit code {code}: {last.removeprefix('error: ')}")
        return 1
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is left takes seconds, and a stop waits longer than that
    folder = contract.work / contract.symbol
    return hand_over(contract, folder, checkpoint_name(contract.symbol, recipe.name), candles)


def hand_over(contract: Contract, folder: Path, checkpoint: str, candles: Candles) -> int:
    """Check the checkpoint, and put the model folder where it is uploaded from; a bad one goes to `rejected`."""
    sanity = examine(folder / checkpoint, candles, source=contract.kind)
    for result in sanity.results:
        sys.stderr.write(f"{'passed' if result.passed else 'FAILED'} {result.name}: {result.words}\n")
    target = contract.model if sanity.passed else contract.output / "rejected"
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir()):
        if path.is_file():
            shutil.copyfile(path, target / path.name)
    digest = write_manifest(target, _facts(contract, candles, sanity))
    sys.stderr.write(f"manifest {digest}\n")
    if sanity.passed:
        return 0
    write_failure(contract.failure, f"the checkpoint was refused, it is under rejected/ in output.tar.gz: {sanity.reason}")
    return 1


def _command(contract: Contract) -> list[str]:
    words = [sys.executable, "-m", "crpbot", "train", "--recipe", str(contract.recipe), "--symbol", contract.symbol]
    words += ["--seed", str(contract.seed), "--out", str(contract.work), "--state", str(contract.state)]
    return words + ([] if contract.candles is None else ["--candles", contract.candles])


def _facts(contract: Contract, candles: Candles, sanity: Sanity) -> dict[str, object]:
    import torch  # noqa: PLC0415

    return {
        "job": contract.job,
        "symbol": contract.symbol,
        "seed": contract.seed,
        "candles_sha256": candles.sha256,
        "sanity": [asdict(result) for result in sanity.results],
        "reason": sanity.reason,
        "versions": {"python": platform.python_version(), "torch": version("torch")},
        "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu",
    }


def main() -> int:
    """Do what the container is for."""
    try:
        contract = read_contract()
    except CrpbotError as error:
        write_failure(Path(os.environ.get(BASE_VARIABLE, ROOT)) / "output" / "failure", str(error))
        sys.stderr.write(f"error: {error}\n")
        return 2
    contract.failure.unlink(missing_ok=True)
    sys.stderr.write(json.dumps({"job": contract.job, "symbol": contract.symbol}) + "\n")
    try:
        return work(contract)
    except CrpbotError as error:
        write_failure(contract.failure, str(error))
        sys.stderr.write(f"error: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
