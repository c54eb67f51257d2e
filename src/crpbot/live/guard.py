"""Holds models to their word: confidence against what came true, expiry, and drift; and has people told."""

from typing import Literal, Protocol

from crpbot.live.desk import Desk, Model
from crpbot.live.journal import Journal
from crpbot.live.records import Event
from crpbot.market.candles import MINUTE, utc
from crpbot.quality.trust import Trust, trust
from crpbot.registry.registry import Registry

DAY = 24 * 60 * MINUTE
SOON = 3 * DAY
"""Before a model expires, people are told so long ahead."""


KINDS: tuple[Literal["signals", "checks"], ...] = ("signals", "checks")


class Tell(Protocol):
    """Has people told, once for each key, unless that was no use any more after `until`, in milliseconds of UTC."""

    def __call__(self, key: str, title: str, body: str, *, until: int) -> object: ...  # noqa: D102


class Guard:
    """Watches the models that serve.

    Args:
        registry: in which a model that breaks its word goes back to shadow.
        journal: that holds what it said and what came true.
        tell: people.
        binding: whether the registry may be changed; not while a recording is played.

    """

    def __init__(self, registry: Registry, journal: Journal, tell: Tell, *, binding: bool) -> None:
        self._registry, self._journal, self._tell, self._binding = registry, journal, tell, binding
        self.evidence: dict[tuple[str, str, str], float] = {}

    def look(self, desk: Desk, *, now: int) -> None:
        """Look at every model of a market."""
        for model in desk.models:
            self._look_at_expiry(model, now)
            self._look_at_drift(desk, model, now)
            self._look_at_trust(model, now)

    def _look_at_expiry(self, model: Model, now: int) -> None:
        entry = model.entry
        if entry.stage != "live" or now < entry.expires - SOON:
            return
        over = now >= entry.expires
        word = "expired" if over else "expires"
        text = f"the live model of {entry.symbol} {word} on {utc(entry.expires)}: retrain it"
        self._say(f"{word}:{entry.sha256}:{entry.expires}", word, model, text, now)

    def _look_at_drift(self, desk: Desk, model: Model, now: int) -> None:
        found = desk.drift(model)
        if found is None or abs(found[1]) <= model.speech.drift_limit:
            return
        entry = model.entry
        text = (
            f"the market of {entry.symbol} has drifted from what its {entry.stage} model has learned: over the last day "
            f"{found[0]} is {found[1]:+.1f} training deviations from its mean; it is silent until that is over"
        )
        self._say(f"drift:{entry.sha256}:{now // DAY}", "drift", model, text, now)

    def _look_at_trust(self, model: Model, now: int) -> None:
        entry = model.entry
        for of in KINDS:
            found = self.trust(model, of=of)
            self.evidence[entry.symbol, entry.stage, of] = found.evidence
            if not found.alarm or entry.stage != "live":
                continue
            text = f"the confidence of the live model of {entry.symbol} is not honest any more. Of its {of}: {found.words}"
            text += "; it goes back to shadow" if self._binding else "; in earnest it would go back to shadow"
            if self._binding:
                self._registry.demote(entry, now=now, why=text, who="crpbot live")
            self._say(f"distrust:{entry.sha256}:{entry.since}", "demoted", model, text, now)
            return

    def trust(self, model: Model, *, of: Literal["signals", "checks"]) -> Trust:
        """Return whether what a model said since it got its stage was honest: of its `signals`, or of its `checks`."""
        entry = model.entry
        return trust(self._journal.predictions(entry.sha256, entry.symbol, of=of, since=entry.since // MINUTE * MINUTE))

    def _say(self, key: str, kind: str, model: Model, text: str, now: int) -> None:
        if self._tell(key, f"crpbot: {model.entry.symbol} {kind}", text, until=now + 7 * DAY):
            self._journal.events.add(
                Event(time=now, kind=kind, text=text, symbol=model.entry.symbol, model_sha256=model.entry.sha256)
            )
