"""What takes longer than a page may, or reads the file of a stranger: errands, one at a time, each in a process of its own.

An errand knows no secret, may use so much memory and time and no more, and is gone with the server. What came of it is kept in
memory, the newest few, and forgotten when the server stops.
"""

import re
import secrets
import shutil
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic, time
from typing import Any, Literal, get_args

from crpbot.errors import CrpbotError
from crpbot.web.place import ERRANDS, place
from crpbot.web.process import CHILD, GIB, Limits, Process

Kind = Literal["promote", "diagnose"]
"""In the order in which they have their turn: only who is logged in may promote, and anybody may drop a file."""
State = Literal["waiting", "running", "done", "refused", "failed"]

KEPT = 20
"""Errands of a kind that are remembered."""
MOST_WAITING = 4
"""More of a kind than these are sent away: each may take minutes."""
MOST_UPLOADS = 4
"""Files that may be on their way to us at once."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,12}")
_NOT_MODULES = (".py", ".pyc", ".so", ".pyd")


LIMITS: Mapping[Kind, Limits] = {
    "diagnose": Limits(memory=2 * GIB, seconds=120.0),  # two years of minutes take 1.2 GiB and 5 s
    "promote": Limits(memory=6 * GIB, seconds=3_600.0),  # an audit, where the alarm rings, trains the model again
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """An errand, and what came of it.

    Attributes:
        id: that nobody can guess.
        kind: what is to be done: `diagnose` a file, or ask the registry to `promote` a model.
        state: `waiting` for others; `running`; `done`; `refused`: file or wish is not good enough; `failed`: nobody knows.
        name: of the file.
        command: that does the same on the command line.
        created: when it was asked for, in milliseconds of UTC.
        seconds: that it took, or has taken by now; None before it began.
        words: why it was refused or has failed, or what was decided.
        passed: whether every required gate passed; None where nothing was judged.
        stage: that a promoted model has now; None where it has none.
        audit: that answered an alarm, as `crpbot audit --json` says it; None where none rang.
        judgement: as `diagnosis.json` says it; None where nothing was judged.

    """

    id: str
    kind: Kind
    state: State = "waiting"
    name: str
    command: str
    created: int
    seconds: float | None = None
    words: str = ""
    passed: bool | None = None
    stage: str | None = None
    audit: Mapping[str, Any] | None = None
    judgement: Mapping[str, Any] | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state not in {"waiting", "running"}

    @property
    def title(self) -> str:
        """What is done, for headings."""
        return f"{'Diagnosis' if self.kind == 'diagnose' else 'Promotion'} of {self.name}"


class BusyError(CrpbotError):
    """Too many errands wait already."""


@dataclass(slots=True)
class _Task:
    """An errand in the queue.

    Attributes:
        errand: as it is now.
        folder: its own.
        request: what the process is told, made when it begins.
        ended: is told how it ended.
        began: when, by the monotonic clock.

    """

    errand: Errand
    folder: Path
    request: Callable[[], Mapping[str, Any]]
    ended: Callable[[Errand], None]
    began: float | None = None


class Errands:
    """Runs errands, one at a time: promotions first, else in the order in which they came. Threads may share it.

    Args:
        limits: by kind.
        command: that starts the process.
        told: is told whenever something has changed.

    """

    def __init__(
        self,
        *,
        limits: Mapping[Kind, Limits] = LIMITS,
        command: Sequence[str] = CHILD,
        told: Callable[[], None] = lambda: None,
    ) -> None:
        self.limits, self._command, self.told = limits, tuple(command), told
        self._tasks: OrderedDict[str, _Task] = OrderedDict()
        self._queues: dict[Kind, deque[_Task]] = {kind: deque() for kind in get_args(Kind)}
        self._changed = threading.Condition()
        self._process: Process | None = None
        self._left = ExitStack()
        self._place: Path | None = None
        self._uploads = threading.Semaphore(MOST_UPLOADS)
        self._thread: threading.Thread | None = None
        self._stopped = False

    def all(self, *, brief: bool = False) -> tuple[Errand, ...]:
        """Return every errand that is remembered, newest first; in brief, without what was found."""
        with self._changed:
            found = [_seen(task) for task in reversed(self._tasks.values())]
        return tuple(replace(one, judgement=None, audit=None) for one in found) if brief else tuple(found)

    def get(self, name: str) -> Errand | None:
        """Return an errand; None where it is not known any more."""
        with self._changed:
            task = self._tasks.get(name)
            return None if task is None else _seen(task)

    def file(self, errand: Errand) -> Path | None:
        """Return the file that was dropped for an errand; None where it is not kept any more."""
        with self._changed:
            task = self._tasks.get(errand.id)
        file = None if task is None else task.folder / errand.name
        return file if file is not None and file.is_file() else None

    def check_room(self, kind: Kind) -> None:
        """Refuse one more of a kind where too many wait already.

        Raises:
            BusyError: so it is.

        """
        with self._changed:
            if self._stopped or len(self._queues[kind]) >= MOST_WAITING:
                raise BusyError(f"at most {MOST_WAITING} errands may wait, found as many; come back in a minute")

    @contextmanager
    def upload(self) -> Iterator[None]:
        """Let a file be sent while the block lasts.

        Raises:
            BusyError: too many are being sent already.

        """
        if not self._uploads.acquire(blocking=False):
            raise BusyError(f"at most {MOST_UPLOADS} files may be sent at once, found as many; come back in a minute")
        try:
            yield
        finally:
            self._uploads.release()

    @contextmanager
    def new_folder(self, kind: Kind) -> Iterator[Path]:
        """Give a new folder, for the files that an errand is to read: its name is that of the errand.

        It is gone after the block, unless the errand was started.

        Raises:
            BusyError: too many errands wait already.

        """
        self.check_room(kind)
        with self._changed:
            if self._place is None:
                self._place = self._left.enter_context(place(ERRANDS))
            folder = self._place / secrets.token_hex(16)
        folder.mkdir()
        try:
            yield folder
        finally:
            with self._changed:
                started = folder.name in self._tasks
            if not started:
                shutil.rmtree(folder, ignore_errors=True)

    def start(
        self,
        kind: Kind,
        folder: Path,
        *,
        name: str,
        command: str,
        request: Callable[[], Mapping[str, Any]],
        ended: Callable[[Errand], None] = lambda _: None,
    ) -> Errand:
        """Put an errand into the queue.

        Args:
            kind: of it.
            folder: of `new_folder`; it goes when the errand is forgotten.
            name: of the file.
            command: that does the same on the command line.
            request: makes what the process is told, when it begins.
            ended: is told how it ended.

        Raises:
            BusyError: too many wait already.

        """
        errand = Errand(id=folder.name, kind=kind, name=name, command=command, created=int(time() * 1000))
        task = _Task(errand=errand, folder=folder, request=request, ended=ended)
        with self._changed:
            self.check_room(kind)
            self._tasks[errand.id] = task
            self._queues[kind].append(task)
            self._forget(kind)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="errands", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        self.told()
        return errand

    def stop(self) -> None:
        """End what runs, forget everything, and take nothing more."""
        with self._changed:
            self._stopped = True
            for queue in self._queues.values():
                queue.clear()
            if self._process is not None:
                self._process.end()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(10)
        self._left.close()

    def _forget(self, kind: Kind) -> None:
        """Forget the oldest ones of a kind that are over."""
        own = {name: task for name, task in self._tasks.items() if task.errand.kind == kind}
        for name in [name for name, task in own.items() if task.errand.over][: max(0, len(own) - KEPT)]:
            shutil.rmtree(self._tasks.pop(name).folder, ignore_errors=True)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not any(self._queues.values()) and not self._stopped:
                    self._changed.wait()
                if self._stopped:
                    return
                task = next(queue for queue in self._queues.values() if queue).popleft()
                task.began = monotonic()
                task.errand = replace(task.errand, state="running")
            self.told()
            try:
                found = self._run(task)
            except CrpbotError as error:
                found = {"state": "refused", "words": str(error)}
            except Exception as error:  # noqa: BLE001  the next errand must have its turn
                sys.stderr.write(f"an errand has failed: {error!r}\n")
                words = f"this is a bug of the dashboard, or its disk is full: {type(error).__name__}"
                found = {"state": "failed", "words": words}
            with self._changed:
                task.errand = replace(task.errand, **found, seconds=round(monotonic() - task.began, 1))
            try:
                task.ended(task.errand)
                self.told()
            except Exception as error:  # noqa: BLE001  likewise
                sys.stderr.write(f"what came of an errand was not written down: {error!r}\n")

    def _run(self, task: _Task) -> Mapping[str, Any]:
        """Let a process do an errand, and return what came of it."""
        limits = self.limits[task.errand.kind]
        process = Process({**task.request(), "limits": asdict(limits)}, task.folder, command=self._command)
        with self._changed:
            self._process = process
            if self._stopped:
                process.end()
        try:
            return process.wait(limits)
        finally:
            with self._changed:
                self._process = None


def safe_name(name: str, *, otherwise: str = "checkpoint") -> str:
    r"""Return the name of a file that a visitor has sent, without anything that a path, a page or Python would obey.

    >>> [safe_name(name) for name in ("../../lstm_BTC-USD.pt", "C:\\x\\<script>.onnx", "torch.py", ".pt", "")]
    ['lstm_BTC-USD.pt', '_script_.onnx', 'torch.py.pt', 'checkpoint.pt', 'checkpoint.pt']
    """
    plain = _UNSAFE.sub("_", re.split(r"[/\\]", name)[-1])[-100:].lstrip(".-")
    suffix = Path(plain).suffix
    if not _SUFFIX.fullmatch(suffix) or suffix in _NOT_MODULES:
        plain = f"{'' if plain in {'pt', 'onnx'} else plain}" or otherwise
        return f"{plain}.pt"
    return plain


def _seen(task: _Task) -> Errand:
    """Return an errand with the time that it has taken by now."""
    errand = task.errand
    running = errand.state == "running" and task.began is not None
    return replace(errand, seconds=round(monotonic() - task.began, 1)) if running and task.began is not None else errand
