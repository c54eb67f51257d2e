"""The registry: which model of a symbol may speak, and the ledger of how it came to that."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from crpbot.disk import whole_file, write_whole
from crpbot.errors import RegistryError
from crpbot.market.candles import utc
from crpbot.model.export import PROBE_ROWS, export_onnx
from crpbot.model.loading import ONNX_SUFFIX, file_sha256
from crpbot.quality.diagnosis import Diagnosis
from crpbot.quality.report.data import Judgement

Stage = Literal["live", "shadow"]
FORMAT = "crpbot.registry/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One model of the registry.

    Attributes:
        symbol: of its market.
        stage: `live` may speak; `shadow` passed its gates but may not, for `reason`.
        sha256: digest of the checkpoint, and its name in the registry's `models` folder.
        file: the checkpoint's name.
        reason: why it has this stage.
        onnx_sha256: digest of its deployed form; None for one that was promoted before there was such a form.

    """

    symbol: str
    stage: Stage
    sha256: str
    file: str
    reason: str
    onnx_sha256: str | None = None

    def __post_init__(self) -> None:
        if self.stage not in get_args(Stage):
            raise ValueError(f"a stage must be one of {', '.join(get_args(Stage))}, found {self.stage!r:.20}")


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to a wish to promote.

    Attributes:
        stage: the model's stage now; None when it was refused.
        reason: why, in words.

    """

    stage: Stage | None
    reason: str


def decide(judgement: Judgement) -> Decision:
    """Return which stage a freshly judged model has earned.

    Live needs the `market` gates, on real candles that the model has not seen, by a model that learned from real candles.
    """
    diagnosis, verdict = judgement.diagnosis, judgement.verdict
    if not verdict.passed:
        return Decision(None, f"refused by {', '.join(result.name for result in verdict.failed)}")
    origin = diagnosis.origin
    if origin is None or diagnosis.data.out_of_sample != "yes":
        return Decision(None, "refused: nobody knows which rows this foreign model was trained on")
    if origin.source == "synthetic" or diagnosis.data.source == "synthetic":
        return Decision("shadow", "passed, but a made-up market never goes live")
    if verdict.table != "market":
        return Decision("shadow", "passed, but only the market gates promote to live")
    return Decision("live", "promoted: every market gate passed")


class Registry:
    """The models under one folder.

    `registry.json` says which model of each symbol is live or in shadow; `models/SHA256.pt` are the checkpoints themselves, which
    never change, and `models/SHA256.onnx` their deployed forms; `ledger.jsonl` is appended to and never rewritten.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def entries(self) -> tuple[Entry, ...]:
        """Return the current models: at most one of each symbol and stage, live ones first."""
        path = self._folder / "registry.json"
        if not path.exists():
            return ()
        try:
            content = json.loads(path.read_text())
            if content["format"] != FORMAT:
                raise RegistryError(f"{path} must have the format {FORMAT}, found {content['format']!r}; update crpbot")
            return tuple(Entry(**entry) for entry in content["models"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RegistryError(f"{path} must be a whole registry, found a damaged one: {error!r}; restore it") from None

    def tries_with(self, symbol: str | None, sha256: str) -> int:
        """Return how many different models of a symbol were tried: those that the ledger has seen, kept or refused, and this."""
        path = self._folder / "ledger.jsonl"
        if not path.exists():
            return 1
        try:
            lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
            return len({line["sha256"] for line in lines if line["symbol"] == symbol} | {sha256})
        except (ValueError, KeyError, TypeError) as error:
            raise RegistryError(f"{path} must have one decision a line, found another: {error!r}; restore it") from None

    def checkpoint(self, entry: Entry) -> Path:
        """Return the file of an entry, after proof that it is the one that was promoted."""
        path = self._folder / "models" / f"{entry.sha256}.pt"
        if not path.exists() or file_sha256(path) != entry.sha256:
            raise RegistryError(f"{path} must be the checkpoint that was promoted, found another or none; promote it again")
        return path

    def deployed(self, entry: Entry) -> Path:
        """Return the file that an entry is served from, after proof that it is the one that was written when it was promoted.

        That is its deployed form, or the checkpoint itself where it has none.
        """
        if entry.onnx_sha256 is None:
            return self.checkpoint(entry)
        path = self._onnx(entry.sha256)
        if not path.exists() or file_sha256(path) != entry.onnx_sha256:
            raise RegistryError(f"{path} must be the deployed form that was promoted, found another or none; promote it again")
        return path

    def record(self, judgement: Judgement, checkpoint: Path, *, now: int) -> Decision:
        """Decide about a freshly judged model, keep it if it passed, and write the decision to the ledger.

        A refusal leaves the current model of the symbol where it is. The deployed form of a model that is kept is made anew from
        the checkpoint that was judged: one that lies beside it is not believed.

        Args:
            judgement: made from the file just now.
            checkpoint: that file.
            now: milliseconds of UTC, for the ledger.

        """
        if checkpoint.suffix == ONNX_SUFFIX:
            raise RegistryError(f"what is promoted must be the .pt file, found the deployed form {checkpoint}; name the .pt")
        decision = decide(judgement)
        diagnosis = judgement.diagnosis
        symbol, sha256 = diagnosis.model.symbol, diagnosis.model.sha256
        self._folder.mkdir(parents=True, exist_ok=True)
        onnx_sha256 = None
        if decision.stage is not None and symbol is not None:
            if file_sha256(checkpoint) != sha256:
                raise RegistryError(f"{checkpoint} must be the file that was judged, but it has changed since; judge it again")
            with whole_file(self._folder / "models" / f"{sha256}.pt") as partial:
                shutil.copyfile(checkpoint, partial)
            onnx_sha256 = self._deploy(diagnosis)
            entry = Entry(
                symbol=symbol,
                stage=decision.stage,
                sha256=sha256,
                file=checkpoint.name,
                reason=decision.reason,
                onnx_sha256=onnx_sha256,
            )
            kept = [one for one in self.entries() if (one.symbol, one.stage) != (symbol, decision.stage)]
            models = sorted([*kept, entry], key=lambda one: (one.stage, one.symbol))
            plain = {"format": FORMAT, "models": [asdict(one) for one in models]}
            write_whole(self._folder / "registry.json", json.dumps(plain, indent=1) + "\n")
        line = {
            "time": utc(now),
            "symbol": symbol,
            "sha256": sha256,
            "onnx_sha256": onnx_sha256,
            "recipe": diagnosis.model.recipe,
            "candles_sha256": diagnosis.data.sha256,
            "gate_table": judgement.verdict.table,
            "stage": decision.stage,
            "reason": decision.reason,
        }
        with (self._folder / "ledger.jsonl").open("a") as ledger:
            ledger.write(json.dumps(line) + "\n")
        return decision

    def _deploy(self, diagnosis: Diagnosis) -> str:
        """Write the deployed form of the checkpoint that was judged, and return its digest."""
        assert diagnosis.checkpoint is not None
        sha256, seen = diagnosis.model.sha256, diagnosis.judged.x[-PROBE_ROWS:]
        path, probe = self._onnx(sha256), seen if seen.shape[1] else None  # a settled judgement has left its features behind
        export_onnx(diagnosis.checkpoint, path, checkpoint_sha256=sha256, probe=probe)
        return file_sha256(path)

    def _onnx(self, sha256: str) -> Path:
        return self._folder / "models" / f"{sha256}.onnx"
