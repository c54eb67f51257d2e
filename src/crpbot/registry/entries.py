"""What the ledger adds up to: which model is in which stage now."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from crpbot.model.folder import ONNX_NAME
from crpbot.registry.ledger import Line
from crpbot.registry.stages import Stage


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
    files: Mapping[str, str]
    diagnosis_sha256: str | None
    demoted: bool = False

    def expired(self, now: int) -> bool:
        """Return whether it was proven too long before `now`, in milliseconds of UTC."""
        return now >= self.expires


@dataclass(slots=True)
class State:
    """What the ledger adds up to: every model, by digest; who serves, by symbol and stage; who was live so far, latest last."""

    entries: dict[str, Entry] = field(default_factory=dict)
    serving: dict[tuple[str, str], str] = field(default_factory=dict)
    lives: dict[str, list[str]] = field(default_factory=dict)

    def earlier(self, symbol: str) -> Entry | None:
        """Return the model that a rollback of a market would bring back; None where there is none."""
        known = [sha256 for sha256 in self.lives.get(symbol, ()) if self.entries[sha256].stage == "retired"]
        return self.entries[known[-1]] if known else None


def add_up(lines: Iterable[Line]) -> State:
    """Return what the lines add up to: a model that becomes live, or gets into shadow, displaces the one that was."""
    state = State()
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
        state.entries[after.sha256] = after
    return state


def _displace(state: State, new: Entry) -> None:
    """Retire whoever is live, or in shadow, where another one of that symbol becomes it."""
    place = (new.symbol, new.stage)
    other = state.serving.get(place)
    if other is not None and other != new.sha256 and state.entries[other].stage == new.stage:
        state.entries[other] = replace(
            state.entries[other], stage="retired", since=new.since, reason=f"displaced by {new.sha256[:12]}"
        )
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
