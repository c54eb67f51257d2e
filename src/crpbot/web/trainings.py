"""Trainings below the folders where models are made: those at work, those that were cut off, and those that are done.

Nothing is asked of the processes that train: what they leave is read, and may be damaged.
"""

import hashlib
import json
import os
import threading
import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from crpbot.disk import open_regular, read_regular, stamp
from crpbot.model.folder import PARTIAL, PROGRESS
from crpbot.quality.report import plain as read

DONE, JUDGED = "training.jsonl", "diagnosis.json"
MOST_SHOWN = 100
"""Trainings that are told of, newest first."""
_DEEPEST, _MOST_FOLDERS = 6, 2_000
"""How far is looked for them."""
_LOOK = 5.0
"""Seconds between two looks for new ones."""
_MOST_BYTES = 2 * 2**20
"""Of the end of a file that tells of epochs; two thousand of them have a quarter of that."""
_MOST_LINES = 8_000
MOST_EPOCHS = 2_000
"""The newest epochs of a training are told of."""
_MOST_JUDGED = 8 * 2**20
"""Bytes of a diagnosis."""
_QUIET = 600.0
"""Seconds without an epoch, and four times its longest one, after which a training is thought to be cut off."""

State = Literal["running", "quiet", "done"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One pass over the training rows, as it was told; see `model.training.Epoch`."""

    epoch: int
    of: int
    member: int
    training_loss: float
    calibration_loss: float
    calibration_log_loss: float
    rows_per_second: float
    best: bool
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One training.

    Attributes:
        id: made from its folder.
        name: of its folder, below the one that was named to the dashboard.
        state: `running`; `quiet`: it was cut off, or is very slow; `done`: its model folder is written.
        symbol, recipe: of the model; empty where nothing says.
        seed: likewise None.
        epoch, of: the last one that is done, and the most there may be.
        member, members: which network of an ensemble that was, and how many there are; 0 and 1 for a single one.
        rows_per_second: of that epoch.
        best_log_loss: on the calibration block, of the best epoch of that member, in nats.
        seconds: that it has taken so far; None where nothing says.
        touched: when it was last heard of, in milliseconds of UTC.
        passed: whether its model passed its gates; None where it is not judged yet.
        sha256: digest of the checkpoint; empty where it is not written yet.
        words: the verdict.

    """

    id: str
    name: str
    state: State
    symbol: str
    recipe: str
    seed: int | None
    epoch: int
    of: int
    member: int
    members: int
    rows_per_second: float | None
    best_log_loss: float | None
    seconds: float | None
    touched: int
    passed: bool | None
    sha256: str
    words: str


_Read = tuple[Training, tuple[Pass, ...], float]
"""A training, its newest epochs, and how many seconds it may be silent before it is thought to be cut off."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A folder in which a model is, or is being, made."""

    root: Path
    folder: Path
    file: Path
    touched: float

    @property
    def id(self) -> str:
        return hashlib.sha256(str(self.folder.absolute()).encode()).hexdigest()[:16]


class Trainings:
    """The trainings below some folders. Threads may share it.

    Args:
        folders: to look into.

    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)
        self._lock = threading.Lock()
        self._found: tuple[_Place, ...] = ()
        self._looked = -_LOOK
        self._read: dict[Path, tuple[Hashable, _Read]] = {}

    def version(self) -> Hashable:
        """Return what changes when a training does."""
        return tuple((place.folder, place.file.name, _touched(place.file)) for place in self._places())

    def all(self) -> tuple[Training, ...]:
        """Return the newest trainings, those at work first."""
        found = [self._training(place)[0] for place in self._places()]
        return tuple(sorted(found, key=lambda one: (one.state != "running", -one.touched)))

    def get(self, name: str) -> tuple[Training, tuple[Pass, ...]] | None:
        """Return a training with its epochs; None where it is not known."""
        place = next((place for place in self._places() if place.id == name), None)
        return None if place is None else self._training(place)

    def judgement(self, name: str) -> dict[str, Any] | None:
        """Return the `diagnosis.json` of a training that is done; None where there is none that can be read."""
        place = next((place for place in self._places() if place.id == name), None)
        return None if place is None or place.file.name != DONE else _judged(place.folder)

    def _training(self, place: _Place) -> tuple[Training, tuple[Pass, ...]]:
        """Return a training as it is by now; its files are read when they have changed."""
        version = stamp(place.file), stamp(place.folder / JUDGED)
        known = self._read.get(place.file)
        if known is None or known[0] != version:
            known = (version, read_training(place.id, place.root, place.folder, place.file))
            self._read[place.file] = known
        training, passes, patience = known[1]
        if training.state == "running" and time.time() - training.touched / 1000 > patience:
            training = replace(training, state="quiet")
        return training, passes

    def _places(self) -> tuple[_Place, ...]:
        with self._lock:
            if time.monotonic() - self._looked >= _LOOK:
                places = [place for root in self._folders for place in _look(root)]
                self._found = tuple(sorted(places, key=lambda place: -place.touched)[:MOST_SHOWN])
                self._looked = time.monotonic()
                shown = {place.file for place in self._found}
                self._read = {file: known for file, known in self._read.items() if file in shown}
            elif any(not place.file.exists() for place in self._found if place.file.name == PROGRESS):
                self._looked = -_LOOK  # one has ended: look again the next time
            return self._found


def _look(root: Path) -> Iterator[_Place]:
    """Yield the folders below `root` in which models are made; links are not followed."""
    level, left = [root], _MOST_FOLDERS
    for _ in range(_DEEPEST):
        below: list[Path] = []
        for folder in level:
            if (left := left - 1) < 0:
                return
            inside = _inside(folder)
            file = next((file for file in (folder / PARTIAL / PROGRESS, folder / DONE) if _is_in(file, inside)), None)
            if file is not None:
                yield _Place(root, folder, file, (_touched(file) or 0) / 1e9)
            below += [folder / name for name, is_folder in inside.items() if is_folder and not name.startswith(".")]
        level = below


def _inside(folder: Path) -> dict[str, bool]:
    """Return the names in a folder, and whether each is a folder."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
    except OSError:
        return {}


def _is_in(file: Path, inside: dict[str, bool]) -> bool:
    return inside.get(PARTIAL if file.name == PROGRESS else DONE) is (file.name == PROGRESS) and file.is_file()


def _touched(file: Path) -> int | None:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return None


def read_training(name: str, root: Path, folder: Path, file: Path) -> _Read:
    """Return a training and its newest epochs, as its file says, and how long it may be silent.

    A line that is none is left out, and so is half a line.
    """
    lines = list(_lines(file))
    passes = tuple(one for line in lines if (one := _pass(line)) is not None)
    at_work = file.name == PROGRESS
    judged = {} if at_work else _judged(folder) or {}
    about = next((line for line in lines if "format" in line), {}) if at_work else read.table(judged, "model")
    last = passes[-1] if passes else None
    own = [one for one in passes if last is not None and one.member == last.member]
    touched = (_touched(file) or 0) / 1e9
    seed = read.real(about, "seed")
    below = folder.relative_to(root).as_posix()
    training = Training(
        id=name,
        name=folder.name if below == "." else below,
        state="running" if at_work else "done",
        symbol=read.text(about, "symbol")[:50],
        recipe=read.text(about, "recipe")[:50],
        seed=None if seed is None else int(seed),
        epoch=last.epoch if last else 0,
        of=last.of if last else 0,
        member=last.member if last else 0,
        members=max(int(read.real(about, "members") or 1), *(one.member for one in passes), 1),
        rows_per_second=last.rows_per_second if last else None,
        best_log_loss=min((one.calibration_log_loss for one in own), default=None),
        seconds=last.seconds if last else None,
        touched=int(touched * 1000),
        passed=passed if isinstance(passed := judged.get("passed"), bool) else None,
        sha256=read.text(about, "sha256")[:64],
        words=read.text(judged, "words", "headline"),
    )
    return training, passes[-MOST_EPOCHS:], max(_QUIET, 4 * _longest(passes))


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the first line, which tells what is trained, and the newest ones."""
    try:
        with open_regular(file) as found:
            first = found.readline(_MOST_BYTES)
            rest = max(len(first), found.seek(0, os.SEEK_END) - _MOST_BYTES)
            found.seek(rest)
            content = found.read(_MOST_BYTES)
    except OSError:
        return
    for raw in [first, *content.splitlines()[-_MOST_LINES:]]:
        try:
            line = json.loads(raw)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict):
            yield line


def _pass(line: dict[str, Any]) -> Pass | None:
    names = ("epoch", "of", "member", "training_loss", "calibration_loss", "calibration_log_loss", "rows_per_second")
    numbers = {name: read.real(line, name) for name in names}
    if any(number is None for number in numbers.values()) or not all(-1 < (numbers[name] or 0) < 1e6 for name in names[:3]):
        return None
    whole = {name: int(numbers.pop(name) or 0) for name in names[:3]}
    return Pass(**whole, **numbers, best=line.get("best") is True, seconds=read.real(line, "seconds"))  # type: ignore[arg-type]


def _longest(passes: Sequence[Pass]) -> float:
    """Return the seconds between two epochs where there were most."""
    times = [one.seconds for one in passes if one.seconds is not None]
    return max((later - earlier for earlier, later in pairwise(times)), default=0.0)


def _judged(folder: Path) -> dict[str, Any] | None:
    """Return the `diagnosis.json` in a model folder; None where there is none that can be read."""
    try:
        plain = json.loads(read_regular(folder / JUDGED, most=_MOST_JUDGED))
    except (OSError, ValueError, RecursionError):
        return None
    return plain if isinstance(plain, dict) else None
