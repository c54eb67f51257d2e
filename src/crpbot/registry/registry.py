"""The registry: which model of a symbol may speak, as the ledger says, and nothing else."""

import getpass
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from crpbot import __version__
from crpbot.errors import RegistryError
from crpbot.market.candles import MINUTE, utc
from crpbot.model.folder import ONNX_NAME
from crpbot.registry.ledger import Ledger, Line, head_of
from crpbot.registry.shelf import Shelf
from crpbot.registry.stages import Move, Stage, move

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from crpbot.model.checkpoint import Checkpoint
    from crpbot.quality.report.data import Judgement

DAY = 24 * 60 * MINUTE


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One model of the registry.

    Attributes:
        symbol: of its market.
        stage: `live` may speak; `shadow` speaks for rehearsal only; `candidate` and `retired` may not speak.
        sha256: digest of the checkpoint, and the name of its folder.
        file: the checkpoint's name.
        reason: why it has this stage.
        onnx_sha256: digest of its deployed form.
        override: why it may rehearse although it was refused, in somebody's words; else empty.
        recipe: name of its recipe.
        since: when it got this stage, in milliseconds of UTC.
        proven_until: open time of the last candle that it was judged on, likewise.
        expires: from when on it may not speak: it was proven too long ago.
        files: digests of what is kept of it, by name.
        diagnosis_sha256: digest of what was measured of it last.
        demoted: whether it is in shadow because its confidence was not what it promised.

    """

    symbol: str
    stage: Stage
    sha256: str
    file: str
    reason: str
    onnx_sha256: str
    override: str
    recipe: str | None
    since: int
    proven_until: int
    expires: int
    files: "Mapping[str, str]"
    diagnosis_sha256: str | None
    demoted: bool = False

    def expired(self, now: int) -> bool:
        """Return whether it was proven too long before `now`, in milliseconds of UTC."""
        return now >= self.expires


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to a wish to promote.

    Attributes:
        stage: in which the model may speak now; None when it was refused.
        reason: why, in words.

    """

    stage: Stage | None
    reason: str


@dataclass(slots=True)
class _State:
    """What the ledger adds up to: every model, by digest; who serves, by symbol and stage; who was live so far, latest last."""

    entries: dict[str, Entry] = field(default_factory=dict)
    stages: dict[str, Stage] = field(default_factory=dict)
    serving: dict[tuple[str, str], str] = field(default_factory=dict)
    lives: dict[str, list[str]] = field(default_factory=dict)


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
        state = _add_up(self.lines())
        order = {"live": 0, "shadow": 1, "candidate": 2, "retired": 3}
        found = [one for one in state.entries.values() if every or one.stage in {"live", "shadow"}]
        return tuple(sorted(found, key=lambda one: (order[one.stage], one.symbol, -one.since)))

    def tries_with(self, symbol: str | None, sha256: str) -> int:
        """Return how many different models of a symbol were tried: those that the ledger has seen, kept or refused, and this."""
        return len({line.sha256 for line in self.lines() if line.symbol == symbol} | {sha256})

    def checkpoint(self, entry: Entry) -> Path:
        """Return the checkpoint of an entry, after proof that everything that is kept of it is as it was kept."""
        self._shelf.prove(entry.sha256, entry.files, diagnosis=entry.diagnosis_sha256)
        return self._shelf.file(entry.sha256, entry.file)

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
            state = _add_up(lines)
            was = state.stages.get(sha256)
            if kind in {"rehearse", "override"} and was == "live":
                kind, decision = (
                    "refuse",
                    Decision(None, "it is live already, and this judgement proves less: nothing is changed"),
                )
            if can_speak:
                assert ours is not None
                known = state.entries.get(sha256)
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
                who=who or _user(),
                move=kind,
                symbol=symbol,
                sha256=sha256,
                was=was,
                stage=move(symbol or "the model", kind, now=was),
                reason=reason,
                override=override if kind == "override" else "",
                recipe=diagnosis.model.recipe,
                recipe_sha256=_recipe_digest(ours),
                candles_sha256=diagnosis.data.sha256,
                gate_table=judgement.verdict.table,
                diagnosis_sha256=self._shelf.keep_judgement(judgement),
                proven_until=proven,
                expires=None if days is None else proven + MINUTE + days * DAY,
                files=kept,
                code_sha256=code_sha256(),
                version=__version__,
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

        def find(state: _State) -> Entry:
            earlier = [sha for sha in state.lives.get(symbol, ()) if state.stages[sha] == "retired"]
            if not earlier:
                raise RegistryError(
                    f"a rollback must have an earlier live model of {symbol}, found none; promote another (crpbot promote)"
                )
            entry = state.entries[earlier[-1]]
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

    def _decide(self, find: Callable[[_State], Entry], kind: Move, why: str, *, now: int, who: str) -> Entry:
        """Write a decision about a model that is known here, and return it as it is then."""
        with self._ledger.turn():
            lines = self._ledger.lines()
            entry = find(_add_up(lines))
            own = [line for line in lines if line.sha256 == entry.sha256]
            last = ([line for line in own if line.move != "refuse"] or own)[-1]  # a refusal proves nothing
            line = replace(
                last,
                number=len(lines) + 1,
                previous=head_of(lines),
                time=now,
                who=who or _user(),
                move=kind,
                was=entry.stage,
                stage=move(entry.symbol, kind, now=entry.stage),
                reason=why,
                code_sha256=code_sha256(),
                version=__version__,
                sha256_of_line="",
            ).sealed()
            self._ledger.append(line)
            return _add_up((*lines, line)).entries[entry.sha256]


def _kind(decision: Decision, override: str) -> Move:
    if decision.stage is None:
        return "override" if override else "refuse"
    return "promote" if decision.stage == "live" else "rehearse"


def _add_up(lines: "Iterable[Line]") -> _State:
    """Return what the lines add up to: a model that becomes live, or gets into shadow, displaces the one that was."""
    state = _State()
    for line in lines:
        if line.symbol is None or not line.files:  # a foreign file, which cannot speak
            continue
        before = state.entries.get(line.sha256)
        _remember(state.lives.setdefault(line.symbol, []), line)
        if line.move == "refuse" and before is not None:
            continue  # it stays what it was, and proven as long as it was
        after = _entry(line)
        if before is not None and before.stage == after.stage:
            after = replace(after, since=before.since)  # proven once more
        _displace(state, after)
        _put(state, after)
    return state


def _displace(state: _State, new: Entry) -> None:
    """Retire whoever is live, or in shadow, where another one of that symbol becomes it."""
    place = (new.symbol, new.stage)
    other = state.serving.get(place)
    if other is not None and other != new.sha256 and state.stages[other] == new.stage:
        _put(state, replace(state.entries[other], stage="retired", since=new.since, reason=f"displaced by {new.sha256[:12]}"))
    if new.stage in {"live", "shadow"}:
        state.serving[place] = new.sha256


def _remember(lives: list[str], line: Line) -> None:
    """Keep the order in which the models of a symbol were live, for a rollback: those of which nothing worse was said since."""
    if line.move == "rollback":
        del lives[lives.index(line.sha256) + 1 :]
        return
    lives[:] = [one for one in lives if one != line.sha256]
    if line.move == "promote":
        lives.append(line.sha256)


def _put(state: _State, entry: Entry) -> None:
    state.entries[entry.sha256], state.stages[entry.sha256] = entry, entry.stage


def _entry(line: Line) -> Entry:
    assert line.symbol is not None
    file = next((name for name in line.files if name.endswith(".pt")), "")
    return Entry(
        symbol=line.symbol,
        stage=line.stage,
        sha256=line.sha256,
        file=file,
        reason=line.reason,
        onnx_sha256=line.files.get(ONNX_NAME, ""),
        override=line.override,
        recipe=line.recipe,
        since=line.time,
        proven_until=line.proven_until or 0,
        expires=line.expires or 0,
        files=dict(line.files),
        diagnosis_sha256=line.diagnosis_sha256,
        demoted=line.move == "demote",
    )


def _recipe_digest(checkpoint: "Checkpoint | None") -> str | None:
    if checkpoint is None or checkpoint.recipe is None:
        return None
    return hashlib.sha256(json.dumps(checkpoint.recipe.to_dict(), sort_keys=True).encode()).hexdigest()


def _user() -> str:
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
