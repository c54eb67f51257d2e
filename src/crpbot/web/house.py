"""Everything that the pages show, read from the home folder: nothing here changes anything."""

import json
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from time import time as clock
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from crpbot.dataset.drift import LastDay, deviations
from crpbot.dataset.features.compute import compute_features
from crpbot.disk import read_regular, stamp
from crpbot.errors import CandleError, CrpbotError, RegistryError, printable
from crpbot.live.health import MOST_BYTES, TOO_OLD
from crpbot.live.patience import Patience
from crpbot.live.service import HEALTH, JOURNAL
from crpbot.live.trail import read_trail, trail_file, trail_version
from crpbot.market.candles import MINUTE, Candles
from crpbot.market.files import check_symbol
from crpbot.market.source import Source, open_source
from crpbot.registry.entries import Entry
from crpbot.registry.ledger import Line
from crpbot.registry.registry import Registry
from crpbot.web.remembered import Remembered
from crpbot.web.setting import Setting
from crpbot.web.trainings import Trainings

if TYPE_CHECKING:
    from crpbot.live.journal import Journal
    from crpbot.model.checkpoint import Checkpoint

R = TypeVar("R", Line, Entry)
NOTHING = Candles(*(np.zeros(0, kind) for kind in (np.int64, *[np.float64] * 5)))
"""No candles."""
_FORGOTTEN_AFTER = 300.0
"""Seconds, of this machine and not of a recording, after which candles on the disk are read again."""
_PATIENCE, _REST = 3.0, 10.0
"""Seconds that a page waits for the journal, and for which one that did not answer is left alone."""
_DAY = 24 * 60
_LATEST = 253_402_300_800_000
"""Milliseconds of UTC until the year 10000, which no calendar here knows."""
_TOLD = ("symbol", "recipe", "reason", "override", "who")


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """How `crpbot live` is, as its sign of life says.

    Attributes:
        time: of the sign, in milliseconds of UTC.
        age: seconds since it was given.
        well: whether nothing is wrong.
        problems: by market; those of the whole have no market, "".
        over: of a recording, that it is over; empty otherwise.

    """

    time: int
    age: float
    well: bool
    problems: Mapping[str, str]
    over: str = ""


class House:
    """One home folder, as the pages see it. Threads may share it.

    Args:
        setting: where everything is.

    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.kept = Remembered()
        self._patience = Patience(_PATIENCE, rest=_REST)
        self.trainings = Trainings(setting.runs)

    def now(self) -> int:
        """Return the time in milliseconds of UTC; of a demo, that of the recording."""
        return self.setting.now()

    # What has changed

    def versions(self) -> dict[str, Hashable]:
        """Return what changes whenever something does, by kind: `models`, `candles`, `signals`, `health`, `jobs`."""
        home = self.setting.home
        return {
            "models": stamp(home / "registry" / "ledger.jsonl"),
            "candles": trail_version(self.trail),
            "signals": self.journal_version(),
            "health": stamp(self._live / HEALTH),
            "jobs": (self.trainings.version(), stamp(home / "cloud" / "jobs")),
        }

    def journal_version(self) -> Hashable:
        """Return what changes when the journal does; of a server it is a clock of two seconds."""
        file = self.journal_file
        if file is not None:
            return stamp(file), stamp(file.with_name(file.name + "-wal"))
        return self.setting.now() // 2_000

    # Models

    @cached_property
    def registry(self) -> Registry:
        """The registry of the home folder."""
        return Registry(self.setting.home / "registry")

    def lines(self) -> tuple[Line, ...]:
        """Return every decision, oldest first.

        Raises:
            RegistryError: the ledger was altered.

        """
        return self.kept.get("lines", stamp(self.registry.path), lambda: tuple(map(_readable, self.registry.lines())))

    def entries(self) -> tuple[Entry, ...]:
        """Return every model that the registry knows, live ones first."""

        def read() -> tuple[Entry, ...]:
            return tuple(map(_readable, self.registry.entries(every=True)))

        return self.kept.get("entries", stamp(self.registry.path), read)

    def entry(self, sha256: str) -> Entry | None:
        """Return the model with that digest, or with that beginning of one, of at least 12 characters."""
        found = [one for one in self.entries() if len(sha256) >= 12 and one.sha256.startswith(sha256)]
        return found[0] if len(found) == 1 else None

    def judgement(self, entry: Entry) -> Mapping[str, Any] | None:
        """Return what was measured of a model last, as `diagnosis.json` says it; None where nothing is kept.

        Raises:
            RegistryError: what is kept was altered.

        """

        def read() -> Mapping[str, Any] | None:
            if entry.diagnosis_sha256 is None:
                return None
            found: Mapping[str, Any] = json.loads(self.registry.judgement(entry))
            return found

        return self.kept.get(("judgement", entry.sha256), entry.diagnosis_sha256, read)

    def speaker(self, entry: Entry) -> "Checkpoint":
        """Return what a model is served from, ready to predict."""
        return self.kept.get(("speaker", entry.sha256), entry.onnx_sha256, lambda: self.registry.speaker(entry))

    # Signals

    @property
    def journal_file(self) -> Path | None:
        """The file of the journal; None where it is on a server."""
        from crpbot.live.address import read_address  # noqa: PLC0415  an extra

        return read_address(self.setting.journal or self.setting.home / JOURNAL).file

    def journal(self) -> "Journal | None":
        """Return the journal; None where nobody has ever written one: to look does not make it.

        Raises:
            JournalError: it cannot be reached within a few seconds, or could not a few seconds ago, or is none.

        """
        from crpbot.live.journal import open_journal  # noqa: PLC0415  an extra

        file = self.journal_file
        if file is not None and not file.exists():
            return None
        if (opened := self.kept.last("journal")) is not None:
            found: Journal = opened
            return found
        address = self.setting.journal or self.setting.home / JOURNAL
        with self._patience.asking():  # before the others are waited for that open it
            return self.kept.get("journal", True, lambda: open_journal(address, self._patience))

    def close(self) -> None:
        """Close the journal."""
        from crpbot.live.journal import Journal  # noqa: PLC0415  an extra

        found = self.kept.forget("journal")
        if isinstance(found, Journal):
            found.close()

    # Candles

    @property
    def _live(self) -> Path:
        return self.setting.home / "live"

    @property
    def trail(self) -> Path:
        """Where the runtime leaves the last candles of each market."""
        return self._live / "candles"

    def source(self) -> Source | None:
        """Return where candles are kept; None where there is nothing of the kind."""

        def look() -> Source | None:
            try:
                return open_source(self.setting.candles)
            except (CandleError, OSError):
                return None

        return self.kept.get("source", clock() // _FORGOTTEN_AFTER, look)

    def symbols(self) -> tuple[str, ...]:
        """Return every market that there is something of: those with models first, then those with candles alone."""
        source = self.source()
        try:
            with_models = {entry.symbol for entry in self.entries()}
        except RegistryError:  # the overview says so
            with_models = set()
        return tuple(dict.fromkeys([*sorted(with_models), *sorted(source.symbols if source else ())]))

    def recorded(self, symbol: str) -> Candles:
        """Return all candles on the disk, also those that a demo does not know yet; none where there are none."""
        source = self.source()
        if source is None or symbol not in source.symbols:
            return NOTHING
        return self.kept.get(("candles", symbol), clock() // _FORGOTTEN_AFTER, lambda: _read(source, symbol))

    def heard(self, symbol: str) -> Candles:
        """Return the newest candles that the runtime has taken; none where it never took any."""
        version = stamp(trail_file(self.trail, check_symbol(symbol)))
        return self.kept.get(("trail", symbol), version, lambda: read_trail(self.trail, symbol))

    def known_until(self) -> int:
        """Return the open time before which a candle must be to be known, in milliseconds of UTC."""
        until = self.setting.until
        return int(np.iinfo(np.int64).max) if until is None else until()

    def candles(self, symbol: str, *, count: int = 1_500, before: int | None = None) -> Candles:
        """Return the newest candles of a market, of the disk and of the runtime.

        Args:
            symbol: of the market.
            count: at most so many.
            before: only those that opened before, in milliseconds of UTC.

        """
        heard, kept = self.heard(symbol), self.recorded(symbol)
        stop = self.known_until() if before is None else min(before, self.known_until())
        heard = _last(heard, stop, count)
        kept = _last(kept, min(stop, int(heard.time[0])) if len(heard) else stop, count - len(heard))
        return _joined(kept, heard)

    def drift(self, entry: Entry) -> tuple[str, float] | None:
        """Return the input of a model that is farthest from its training mean over the last day, and by how many deviations."""
        return next(iter(self.drifts(entry)), None)

    def drifts(self, entry: Entry) -> tuple[tuple[str, float], ...]:
        """Return how far each input of a model is from its training mean over the last day, in deviations, the farthest first.

        Nothing where there are too few candles, or the model has no normalizer: then nobody knows the training means.
        """
        newest = self.candles(entry.symbol, count=1)
        if not len(newest):
            return ()

        def look() -> tuple[tuple[str, float], ...]:
            speaker = self.speaker(entry)
            gap = 0 if speaker.recipe is None else speaker.recipe.features.max_gap_minutes
            known = self.candles(entry.symbol, count=_DAY + speaker.feature_set.memory)
            *_, last = known.segments(max_gap_minutes=gap)  # a day begins anew after a gap, as it does live
            recent = known[last]
            found = compute_features(recent, speaker.feature_set, max_gap_minutes=gap)
            day = LastDay()
            for row, x in zip(found.rows[-_DAY:].tolist(), found.values[-_DAY:], strict=True):
                day.take(int(recent.time[row]), x)
            later, scaling = day.mean(), speaker.weights.normalizer
            if later is None or scaling is None:
                return ()
            away = deviations(later, scaling.mean, scaling.scale).tolist()
            return tuple(sorted(zip(speaker.feature_set.names, away, strict=True), key=lambda one: -abs(one[1])))

        return self.kept.get(("drift", entry.sha256), int(newest.time[-1]) // (10 * MINUTE), look)

    # The runtime

    def runtime(self) -> Runtime | None:
        """Return the last sign of life of the runtime; None where there never was one. One that cannot be read is a problem."""
        try:
            plain = json.loads(read_regular(self._live / HEALTH, most=MOST_BYTES))
            _check_times(plain["time"], plain["written"])
            markets, time = plain["markets"], int(plain["time"])
            problems = {printable(symbol): printable(str(one["problem"])) for symbol, one in markets.items() if one["problem"]}
            if plain["problems"]:
                problems[""] = printable("; ".join(map(str, plain["problems"])))
            age, over = max(0.0, clock() - float(plain["written"])), printable(str(plain.get("over", "")))
            return Runtime(time=time, age=age, well=not problems, problems=problems, over=over)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            found = f"{type(error).__name__} ({error})"[:200]
            words = f"the sign of life of crpbot live must be readable, found {found}; start crpbot live again"
            return Runtime(time=self.now(), age=0.0, well=False, problems={"": printable(words)})


def _check_times(time: float, written: float) -> None:
    """Refuse times that cannot be: a runtime would be young for ever that speaks of tomorrow."""
    if not (0 <= time < _LATEST and 0 <= written <= clock() + TOO_OLD):
        raise ValueError(f"its times must be of now, found {time:g} and {written:g}")


def _readable(one: R) -> R:
    """Return a decision or a model whose texts any page can hold: a terminal may have given them half a character."""
    texts: dict[str, Any] = {
        name: printable(found) for name in _TOLD if isinstance(found := getattr(one, name, None), str) and not found.isprintable()
    }
    return replace(one, **texts) if texts else one


def _read(source: Source, symbol: str) -> Candles:
    try:
        return source.read(symbol)
    except (CrpbotError, OSError):
        return NOTHING


def _last(candles: Candles, stop: int, count: int) -> Candles:
    """Return the last `count` candles that opened before `stop`."""
    end = int(np.searchsorted(candles.time, stop))
    return candles[max(0, end - max(count, 0)) : end]


def _joined(older: Candles, newer: Candles) -> Candles:
    if not len(older) or not len(newer):
        return newer if len(newer) else older
    names = ("time", "open", "high", "low", "close", "volume")
    return Candles(*(np.concatenate([getattr(older, name), getattr(newer, name)]) for name in names))
