"""What came back is believed only as far as it was checked here; only then it takes its place, whole."""

import json
import math
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crpbot import factory
from crpbot.cloud.artefact import MANIFEST, read_manifest, unpack
from crpbot.cloud.sanity import examine
from crpbot.errors import CloudError
from crpbot.making.model import write_beside
from crpbot.market.candles import Candles
from crpbot.market.source import SourceKind
from crpbot.model.checkpoint import Checkpoint
from crpbot.model.export import PROBE_ROWS
from crpbot.model.folder import checkpoint_name, model_folder
from crpbot.model.loading import file_sha256, load_checkpoint
from crpbot.model.recipe import Recipe
from crpbot.model.training import Epoch
from crpbot.quality.report.data import Judgement

MOST_EPOCHS = 64 * 10_000
TOLERANCE = 1e-3
"""By how much a number of the diagnosis may differ from the job's, absolutely or in proportion: another processor and another
torch add in another order, and a few rows of a hundred thousand change sides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What was ordered.

    Attributes:
        job: name of the work.
        symbol, recipe, seed: of the training.
        kind: of the candles.

    """

    job: str
    symbol: str
    recipe: Recipe
    seed: int
    kind: SourceKind


def accept(archive: Path, expected: Expected, candles: Candles, *, out: Path, manifest: str | None = None) -> Judgement:
    """Verify an artefact and place its model folder at `out`/SYMBOL; nothing is placed unless everything is right.

    Of what came, only the checkpoint is taken, and read as data. Its scaler, deployed form, report, recipe and diagnosis are made
    again here.

    Args:
        archive: of the artefact.
        expected: what was ordered.
        candles: that it was to be made of.
        out: folder of model folders.
        manifest: digest of the manifest that the job told elsewhere; None where it told none.

    Raises:
        CrpbotError: something is not what was ordered.

    """
    name = checkpoint_name(expected.symbol, expected.recipe.name)
    target = out / expected.symbol
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "artefact"
        unpack(archive, folder)
        if manifest is not None and file_sha256(folder / MANIFEST) != manifest:
            raise CloudError(
                "the manifest must be the one that the job wrote into its log, found another: "
                "the artefact was changed in the bucket; do not use it"
            )
        judgement = verify(folder, expected, candles, called=str(target / name))
        with model_folder(target) as partial:
            shutil.copyfile(folder / name, partial / name)
            write_beside(judgement, partial, probe=judgement.diagnosis.judged.x[-PROBE_ROWS:])
    return judgement


def verify(folder: Path, expected: Expected, candles: Candles, *, called: str) -> Judgement:
    """Hold an unpacked artefact against what was ordered.

    Args:
        folder: of the artefact.
        expected: what was ordered.
        candles: that it was to be made of.
        called: what the report calls the model.

    Returns:
        The diagnosis of its checkpoint as made here.

    Raises:
        CrpbotError: digests, order, checkpoint, sanity or diagnosis are not right.

    """
    facts = read_manifest(folder).facts
    wanted = {"job": expected.job, "symbol": expected.symbol, "seed": expected.seed, "candles_sha256": candles.sha256}
    for name, value in wanted.items():
        if facts.get(name) != value:
            raise CloudError(f"an artefact must have {name} {value!r}, found {facts.get(name)!r}; fetch the right one")
    path = folder / checkpoint_name(expected.symbol, expected.recipe.name)
    if not path.is_file():
        raise CloudError(f"an artefact must hold {path.name}, found none; train it again")
    checkpoint = load_checkpoint(path)
    _check_order(checkpoint, expected, candles)
    sanity = examine(path, candles, source=expected.kind)
    if not sanity.passed:
        raise CloudError(f"{path.name} must pass the sanity gates here as in the job, found {sanity.reason}; it was altered")
    history = _history(folder / "training.jsonl")
    judgement = factory.diagnose(path, candles, source=expected.kind, called=called, history=history)
    _compare(_diagnosis(folder / "diagnosis.json"), judgement.to_dict())
    return judgement


def differences(theirs: Any, ours: Any, where: str = "") -> list[str]:  # noqa: ANN401
    """Return where two trees of plain values differ by more than the tolerance."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        if set(ours) != set(theirs):
            return [f"{where}: other keys"]
        return [line for key in ours for line in differences(theirs[key], ours[key], f"{where}.{key}".lstrip("."))]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [line for i, (a, b) in enumerate(zip(theirs, ours, strict=True)) for line in differences(a, b, f"{where}[{i}]")]
    if _number(ours) and _number(theirs):
        try:
            near = math.isclose(theirs, ours, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        except OverflowError:  # a whole number of a stranger that no float can hold
            near = False
        return [] if near else [f"{where}: {theirs!r} there, {ours!r} here"]
    return [] if theirs == ours and type(theirs) is type(ours) else [f"{where}: {theirs!s:.60} there, {ours!s:.60} here"]


def _number(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_order(checkpoint: Checkpoint, expected: Expected, candles: Candles) -> None:
    origin = checkpoint.origin
    if checkpoint.repairs or origin is None or checkpoint.symbol != expected.symbol or checkpoint.recipe != expected.recipe:
        raise CloudError(
            f"the checkpoint must be of {expected.symbol} and recipe {expected.recipe.name}, found another; train it again"
        )
    if (origin.candles_sha256, origin.seed, origin.source) != (candles.sha256, expected.seed, expected.kind):
        raise CloudError(
            "the checkpoint must be made of these candles with this seed, found others; fetch it with its own candles"
        )


def _diagnosis(path: Path) -> Mapping[str, Any]:
    try:
        plain = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError, OverflowError) as error:
        raise CloudError(f"an artefact must hold its diagnosis, found {error!r}; train it again") from None
    if not isinstance(plain, dict):
        raise CloudError(f"an artefact must hold its diagnosis, found {type(plain).__name__}; train it again")
    return plain


def _compare(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """The numbers have to be the same; causes and verdicts follow from them."""
    names = ("data", "label", "metrics")
    found = differences({name: theirs.get(name) for name in names}, {name: ours[name] for name in names})
    model = theirs.get("model")
    sha256 = differences(model.get("sha256") if isinstance(model, Mapping) else None, ours["model"]["sha256"], "model.sha256")
    if found or sha256:
        raise CloudError(
            f"the diagnosis must be the same here as in the job, to {TOLERANCE:g}, found {len(found + sha256)} other numbers: "
            f"{'; '.join((sha256 + found)[:3])}; do not use the model"
        )


def _history(path: Path) -> tuple[Epoch, ...]:
    """Read the history as numbers and nothing else: it goes into the report."""
    try:
        epochs = tuple(Epoch(**json.loads(line)) for line in path.read_text().splitlines())
    except (OSError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise CloudError(f"an artefact must hold its history, found {error!r}; train it again") from None
    plain = all(value is None or isinstance(value, bool) or _number(value) for one in epochs for value in asdict(one).values())
    if not plain or not 1 <= len(epochs) <= MOST_EPOCHS:
        raise CloudError("an artefact must hold its history in numbers, found something else; train it again")
    return epochs
