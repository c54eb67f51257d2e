"""The registry: which model of a symbol may speak, as the ledger says, and nothing else."""

import getpass
import hashlib
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from crpbot.errors import RegistryError
from crpbot.market.candles import MINUTE, utc
from crpbot.model.folder import ONNX_NAME, RECIPE_NAME
from crpbot.model.plain import digest
from crpbot.registry.entries import Entry, State, add_up
from crpbot.registry.ledger import Ledger, Line, head_of
from crpbot.registry.shelf import Shelf
from crpbot.registry.stages import Move, Stage, move
from crpbot.version import code_version

if TYPE_CHECKING:
    from crpbot.model.checkpoint import Checkpoint
    from crpbot.model.recipe import Recipe
    from crpbot.quality.report.data import Judgement

DAY = 24 * 60 * MINUTE


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to a wish to promote.

    Attributes:
        stage: in which the model may speak now; None when it was refused.
        reason: why, in words.

    """

    stage: Stage | None
    reason: str


def decide(judgement: "Judgement") -> Decision:
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

    `ledger.jsonl` says everything that was ever decided, and so which model of each symbol is live or in shadow: one line is one
    decision, so that each takes effect whole or not at all. `models/SHA256/` are the models, which never change, and
    `judgements/SHA256.json` what was measured of them. A stored judgement never decides.
    """

    def __init__(self, folder: Path) -> None:
        if (folder / "registry.json").exists() and not (folder / "ledger.lock").exists():
            raise RegistryError(
                f"{folder} must have been written by this crpbot, found the registry of an earlier one; move it away, and "
                "promote its models again"
            )
        self._ledger, self._shelf = Ledger(folder / "ledger.jsonl"), Shelf(folder)

    # What is there

    @property
    def path(self) -> Path:
        """The ledger: who watches it sees every change."""
        return self._ledger.path

    def lines(self) -> tuple[Line, ...]:
        """Return every decision, oldest first, after proof that the chain is whole."""
        return self._ledger.lines()

    def head(self) -> str:
        """Return the digest of the last decision: what a signal carries."""
        return head_of(self.lines())

    def entries(self, *, every: bool = False) -> tuple[Entry, ...]:
        """Return the models that may speak, live ones first; with `every`, candidates and retired ones after them."""
        state = add_up(self.lines())
        order = {"live": 0, "shadow": 1, "candidate": 2, "retired": 3}
        found = [one for one in state.entries.values() if every or one.stage in {"live", "shadow"}]
        return tuple(sorted(found, key=lambda one: (order[one.stage], one.symbol, -one.since)))

    def tries_with(self, symbol: str | None, sha256: str, recipe: "Recipe | None" = None) -> int:
        """Return how many tries there were on a symbol, this model included.

        Each different model that the ledger has seen, kept or refused, is one; and each different recipe brings those that were
        looked at to find it, itself left out. What two recipes share is counted twice: rather too many than too few.

        Args:
            symbol: of the market.
            sha256: digest of this checkpoint.
            recipe: of it; None for a foreign one.

        Raises:
            RegistryError: a recipe that is kept was altered, or is gone.

        """
        own = [line for line in self.lines() if line.symbol == symbol]
        kept = {line.recipe_sha256: line for line in own if RECIPE_NAME in line.files}
        brought = {digest: self._trials(line) - 1 for digest, line in kept.items()}
        if recipe is not None:
            brought[recipe_digest(recipe)] = recipe.trials - 1
        return len({line.sha256 for line in own} | {sha256}) + sum(brought.values())

    def _trials(self, line: Line) -> int:
        """Return how many recipes were looked at to find that of a line."""
        self._shelf.prove(line.sha256, {RECIPE_NAME: line.files[RECIPE_NAME]})
        return int(tomllib.loads(self._shelf.file(line.sha256, RECIPE_NAME).read_text(encoding="utf-8")).get("trials", 1))

    def checkpoint(self, entry: Entry) -> Path:
        """Return the checkpoint of an entry, after proof that everything that is kept of it is as it was kept."""
        self._shelf.prove(entry.sha256, entry.files, diagnosis=entry.diagnosis_sha256)
        return self._shelf.file(entry.sha256, entry.file)

    def judgement(self, entry: Entry) -> bytes:
        """Return what was measured of an entry last, as `diagnosis.json` says it, after proof that it is what was kept."""
        digest = entry.diagnosis_sha256 or ""
        self._shelf.prove(entry.sha256, {}, diagnosis=digest)
        return self._shelf.judgement(digest).read_bytes()

    def kept(self, entry: Entry, name: str) -> bytes:
        """Return one of the files that are kept of an entry, after proof that it is what was kept.

        Args:
            entry: of the model.
            name: one of `entry.files`.

        Raises:
            RegistryError: it was altered, or is gone.

        """
        return self._shelf.read(entry.sha256, name, entry.files[name])

    def deployed(self, entry: Entry) -> Path:
        """Return the deployed form of an entry, after the same proof."""
        self._shelf.prove(entry.sha256, entry.files, diagnosis=entry.diagnosis_sha256)
        return self._shelf.file(entry.sha256, ONNX_NAME)

    def speaker(self, entry: Entry) -> "Checkpoint":
        """Return what an entry is served from, ready to predict.

        Raises:
            CrpbotError: something kept of it was altered; or it is of another market, or live and of a made-up one.

        """
        from crpbot.model.loading import load_checkpoint  # noqa: PLC0415  a list of models needs no onnxruntime

        found = load_checkpoint(self.deployed(entry))
        if found.symbol != entry.symbol:
            raise RegistryError(
                f"the registry must serve {entry.symbol} by a model of it, found one of {found.symbol}; restore it"
            )
        if entry.stage == "live" and (found.origin is None or found.origin.source == "synthetic"):
            raise RegistryError(f"a live model must have learned from real candles, found {entry.symbol} of others; retire it")
        return found

    # What is decided

    def record(self, judgement: "Judgement", checkpoint: Path, *, now: int, override: str = "", who: str = "") -> Decision:
        """Decide about a freshly judged model, keep it, and write the decision to the ledger.

        A refusal leaves every model where it is; a new one that was refused becomes a candidate, which may not speak.

        Args:
            judgement: made from the file just now.
            checkpoint: that file.
            now: milliseconds of UTC, for the ledger.
            override: why a model that was refused may rehearse all the same: it gets into shadow, never further, and each of its
                signals says so.
            who: decides; by default the user of this process.

        Raises:
            RegistryError: the file cannot be promoted, or an override is asked for what cannot speak at all.

        """
        if checkpoint.suffix == ".onnx":
            raise RegistryError(f"what is promoted must be the .pt file, found the deployed form {checkpoint}; name the .pt")
        decision = decide(judgement)
        kind = _kind(decision, override)
        diagnosis, ours = judgement.diagnosis, judgement.diagnosis.checkpoint
        symbol, sha256 = diagnosis.model.symbol, diagnosis.model.sha256
        kept: dict[str, str] = {}
        can_speak = ours is not None and ours.recipe is not None and symbol is not None
        if kind == "override" and not can_speak:
            raise RegistryError("only a checkpoint of ours can speak, even for rehearsal, found a foreign one; train one here")
        with self._ledger.turn():
            lines = self._ledger.lines()
            state = add_up(lines)
            known = state.entries.get(sha256)
            was = None if known is None else known.stage
            if kind in {"rehearse", "override"} and was == "live":
                kind, decision = (
                    "refuse",
                    Decision(None, "it is live already, and this judgement proves less: nothing is changed"),
                )
            if can_speak:
                assert ours is not None
                kept = self._shelf.keep(ours, checkpoint, judgement, known=None if known is None else known.files)
            proven = diagnosis.data.last
            if kind == "promote" and proven > now:
                raise RegistryError(
                    f"a model must be proven on candles of the past, found one of {utc(proven)}, which has not closed on "
                    f"{utc(now)}; correct the candles, or the clock of this machine"
                )
            days = ours.recipe.serving.expires_after_days if ours is not None and ours.recipe is not None else None
            reason = f"{decision.reason}; overridden: {override}" if kind == "override" else decision.reason
            line = Line(
                number=len(lines) + 1,
                previous=head_of(lines),
                time=now,
                who=who or user_name(),
                move=kind,
                symbol=symbol,
                sha256=sha256,
                was=was,
                stage=move(symbol or "the model", kind, now=was),
                reason=reason,
                override=override if kind == "override" else "",
                recipe=diagnosis.model.recipe,
                recipe_sha256=recipe_digest(ours.recipe) if ours is not None and ours.recipe is not None else None,
                candles_sha256=diagnosis.data.sha256,
                gate_table=judgement.verdict.table,
                diagnosis_sha256=self._shelf.keep_judgement(judgement),
                proven_until=proven,
                expires=None if days is None else proven + MINUTE + days * DAY,
                files=kept,
                code_sha256=code_sha256(),
                version=code_version(),
            ).sealed()
            self._ledger.append(line)
        return Decision(None if kind == "refuse" else line.stage, reason)

    def rollback(self, symbol: str, *, now: int, why: str = "", who: str = "") -> Entry:
        """Bring the model back that was live before the present one, in one step, and return it.

        The present one is retired. Doing it again goes back one further. What was demoted, retired by hand, or judged again with
        less success since it was live, is passed over.

        Raises:
            RegistryError: there is none, it has expired, or something kept of it was altered.

        """

        def find(state: State) -> Entry:
            entry = state.earlier(symbol)
            if entry is None:
                raise RegistryError(
                    f"a rollback must have an earlier live model of {symbol}, found none; promote another (crpbot promote)"
                )
            if entry.expired(now):
                raise RegistryError(
                    f"the earlier model of {symbol} must not have expired, found it proven until {utc(entry.proven_until)} and "
                    f"expired on {utc(entry.expires)}; promote it again on later candles, or retrain"
                )
            self.speaker(replace(entry, stage="live"))
            return entry

        return self._decide(find, "rollback", why or "rolled back", now=now, who=who)

    def retire(self, entry: Entry, *, now: int, why: str, who: str = "") -> Entry:
        """Take a model out of service."""
        return self._decide(lambda state: state.entries[entry.sha256], "retire", why, now=now, who=who)

    def demote(self, entry: Entry, *, now: int, why: str, who: str = "") -> Entry:
        """Put a live model back into shadow: its confidence was not what it promised."""
        return self._decide(lambda state: state.entries[entry.sha256], "demote", why, now=now, who=who)

    def _decide(self, find: Callable[[State], Entry], kind: Move, why: str, *, now: int, who: str) -> Entry:
        """Write a decision about a model that is known here, and return it as it is then."""
        with self._ledger.turn():
            lines = self._ledger.lines()
            entry = find(add_up(lines))
            own = [line for line in lines if line.sha256 == entry.sha256]
            last = ([line for line in own if line.move != "refuse"] or own)[-1]  # a refusal proves nothing
            line = replace(
                last,
                number=len(lines) + 1,
                previous=head_of(lines),
                time=now,
                who=who or user_name(),
                move=kind,
                was=entry.stage,
                stage=move(entry.symbol, kind, now=entry.stage),
                reason=why,
                code_sha256=code_sha256(),
                version=code_version(),
                sha256_of_line="",
            ).sealed()
            self._ledger.append(line)
            return add_up((*lines, line)).entries[entry.sha256]


def _kind(decision: Decision, override: str) -> Move:
    if decision.stage is None:
        return "override" if override else "refuse"
    return "promote" if decision.stage == "live" else "rehearse"


def recipe_digest(recipe: "Recipe") -> str:
    """Return the digest of a recipe, as the ledger has it."""
    return digest(recipe.to_dict())


def user_name() -> str:
    """Return who runs this process, as the system names them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container may have a user without a name
        return "unknown"


@cache
def code_sha256() -> str:
    """Return the digest of the code of this package: names and contents of its Python files and tables."""
    digest = hashlib.sha256()
    root = Path(str(files("crpbot")))
    for path in sorted(root.rglob("*")):
        if path.suffix in {".py", ".toml"}:
            digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
