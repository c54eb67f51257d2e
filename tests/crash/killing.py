"""Kill an operation at every point where it writes, and look at what is left: `killing.py [NAME …] [--kills N]`.

A point is whatever changes the disk and can be seen from Python: a file opened for writing, renamed, linked, removed or made
longer, a folder made or removed, a file that is told to reach the disk (there twice: as it is, and with its end torn off), and
each statement and commit of a database. The interpreter imports what is heavy once; each kill is a fork of it, so hundreds take
seconds. After each kill, every file that bears its final name must be whole; and the same operation, done again, must end with
the very bytes of one that nobody disturbed.
"""

import argparse
import gc
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "src")]
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
"""Events of `sys.addaudithook` that change a folder or a file."""
TORN = 100
"""Bytes at the end of a file that a torn write lacks."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """Something that writes.

    Attributes:
        what: it does, in words.
        begin: lays the folder out before it; done once.
        act: does it in that folder.
        whole: raises, or is false, where something in the folder is not whole.
        ends: what the folder holds, for comparison with one that nobody disturbed; the digest of each file by default.
        points: how many it has; another number is a change to look at. None where nobody counts them.

    """

    what: str
    begin: Callable[[Path], None]
    act: Callable[[Path], object]
    whole: Callable[[Path], object]
    ends: Callable[[Path], Mapping[str, Any]]
    points: int | None = None


class Points:
    """Counts the points of this process below a folder, and ends it at one of them.

    It also holds against a file that it took its final name, or kept it to the end, with bytes that were not told to reach the
    disk: after a loss of power, which no kill shows, it would be empty.
    """

    def __init__(self, folder: Path, at: int | None) -> None:
        self.folder, self.at, self.count = str(folder), at, 0
        self.names: list[str] = []
        self.settled, self.written, self.faults = set[str](), set[str](), list[str]()
        fsync = os.fsync
        sys.addaudithook(self._hear)

        def torn(file: int) -> None:
            path = Path(f"/proc/self/fd/{file}").readlink()
            if path.is_relative_to(self.folder) and path.is_dir():
                self.pass_by("settle")
            elif path.is_relative_to(self.folder):
                self.settled.add(str(path))
                self.pass_by("fsync")
                if self.count == self.at:
                    size = os.fstat(file).st_size
                    os.ftruncate(file, max(0, size - min(TORN, size // 2)))
                self.pass_by("torn")
            fsync(file)

        os.fsync = torn
        self._listen_to_databases()

    def pass_by(self, what: str) -> None:
        """Count a point, and end there."""
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1
        self.names.append(what)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            if writes and isinstance(path, str | os.PathLike) and str(path).startswith(self.folder):
                self.settled.discard(str(path))
                self.written.add(str(path))
                self.pass_by("open")
        elif event in CHANGES and any(str(one).startswith(self.folder) for one in args):
            if event == "os.rename":
                self._rename(str(args[0]), str(args[1]))
            self.pass_by(event)

    def _rename(self, old: str, new: str) -> None:
        moved = [str(path) for path in Path(old).rglob("*") if path.is_file()] if Path(old).is_dir() else [old]
        if set(moved) <= self.settled:
            self.settled |= {path.replace(old, new, 1) for path in moved}
        elif final(Path(new).relative_to(self.folder)):
            self.faults.append(f"{new} took its name before its bytes reached the disk")

    def end(self) -> list[str]:
        """Return what is wrong with how the files came to be."""
        for path in sorted(self.written - self.settled):
            if final(Path(path).relative_to(self.folder)) and Path(path).is_file():
                self.faults.append(f"{path} was written, and never told to reach the disk")
        return self.faults

    def _listen_to_databases(self) -> None:
        if "sqlalchemy" in sys.modules:
            from sqlalchemy import event
            from sqlalchemy.engine import Engine

            event.listen(Engine, "before_cursor_execute", lambda *_: self.pass_by("statement"))
            event.listen(Engine, "commit", lambda *_: self.pass_by("commit"))


def final(name: Path) -> bool:
    """Return whether a name is that of a result: work in progress has a dot in front, of the file or of a folder above it."""
    return not any(part.startswith(".") for part in name.parts) and name.suffix != ".lock"


def forked(folder: Path, act: Callable[[Path], object], *, at: int | None = None, count: Path | None = None) -> int:
    """Do something in a fork, to be killed at a point; return its exit code, which is below 0 after a kill."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            points = Points(folder, at) if at is not None or count is not None else None
            act(folder)
            if points is not None and count is not None:
                points.at = None
                found = {"names": points.names, "faults": points.end()}
                points.folder = "nowhere"
                count.write_text(json.dumps(found))
            code = 0
        except BaseException:  # noqa: BLE001  whatever it was, the fork must not go on as if it were us
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def asked(folder: Path, ask: Callable[[Path], Mapping[str, Any]]) -> Any:
    """Ask something of a folder in a fork: nothing may start a thread here, which no fork would have."""
    reading, writing = os.pipe()

    def answer(_: Path) -> None:
        with os.fdopen(writing, "w") as out:
            json.dump(ask(folder), out)

    code = 0
    child = os.fork()
    if child == 0:
        try:
            answer(folder)
        except BaseException:  # noqa: BLE001  as above
            traceback.print_exc()
            code = 1
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as found:
        text = found.read()
    os.waitpid(child, 0)
    return json.loads(text or "null")


def digests(folder: Path) -> dict[str, str]:
    """Return the digest of every file that bears its final name: one without a dot in front of it or of a folder above it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            found[str(name)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of killing an operation.

    Attributes:
        name: of the operation.
        points: at which it writes.
        kills: that were tried.
        wrong: what was not whole, or ended otherwise, by point.
        left: names that work in progress had, after the second time.
        seconds: it took.

    """

    name: str
    points: int
    kills: int
    wrong: tuple[str, ...]
    left: tuple[str, ...]
    seconds: float


def kill(name: str, operation: Operation, *, kills: int | None) -> Outcome:
    """Kill an operation at `kills` points, evenly chosen from the first to the last; at every one by default."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="crpbot-crash-") as place:
        start, undisturbed, count = Path(place, "start"), Path(place, "work"), Path(place, "count")
        start.mkdir()
        if forked(start, operation.begin):
            return Outcome(name=name, points=0, kills=0, wrong=("it could not begin",), left=(), seconds=0.0)
        work = undisturbed  # the same path each time: it is in reports
        shutil.copytree(start, work)
        if forked(work, operation.act, count=count):
            return Outcome(name=name, points=0, kills=0, wrong=("it fails by itself",), left=(), seconds=0.0)
        counted = json.loads(count.read_text())
        names = counted["names"]
        wanted = asked(work, operation.ends)
        points = range(len(names))
        chosen = sorted({round(n * (len(points) - 1) / max(1, kills - 1)) for n in range(kills)}) if kills else list(points)
        wrong, left = list(counted["faults"]), set[str]()
        if operation.points not in {None, len(names)}:
            wrong.append(f"it has {len(names)} points, and had {operation.points}: look at why, and write down the new number")
        for at in chosen:
            shutil.rmtree(work)
            shutil.copytree(start, work)
            where = f"point {at} ({names[at]})"
            if forked(work, operation.act, at=at) != -signal.SIGKILL:
                wrong.append(f"{where}: it was not killed")
                continue
            again = asked(work, lambda folder: _again(operation, folder)) or {"wrong": "the second process ended by itself"}
            if again["wrong"]:
                wrong.append(f"{where}: {again['wrong']}")
            elif again["ends"] != wanted:
                found = again["ends"]
                differs = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
                wrong.append(f"{where}: another end: {', '.join(differs)[:200]}")
            left |= {re.sub(r"[a-z0-9_]{8}(?=\.partial$|$)", "…", path.name) for path in work.rglob(".*") if path.name != ".lock"}
    return Outcome(
        name=name, points=len(names), kills=len(chosen), wrong=tuple(wrong), left=tuple(sorted(left)),
        seconds=round(time.monotonic() - began, 1),
    )  # fmt: skip


def _again(operation: Operation, folder: Path) -> dict[str, Any]:
    """Look at what a kill has left, and do it again."""
    try:
        operation.whole(folder)
    except Exception:  # noqa: BLE001  whatever it is, it is not whole
        return {"wrong": f"something is not whole: {traceback.format_exc()[-300:]}"}
    try:
        operation.act(folder)
    except Exception:  # noqa: BLE001  as above
        return {"wrong": f"it does not go on: {traceback.format_exc()[-300:]}"}
    return {"wrong": "", "ends": operation.ends(folder)}


def main() -> int:
    """Kill operations, and print what came of it as a line of JSON each."""
    from crash.operations import OPERATIONS, warm_up

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(OPERATIONS)}, each maybe as NAME:KILLS; all by default")
    parser.add_argument("--kills", type=int, default=None, help="for each operation; by default one at every point")
    given = parser.parse_args()
    warm_up()
    threads = [Path(task, "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    assert not [one for one in threads if one.startswith("polars-0")], f"a fork would wait for {threads} for ever"
    gc.freeze()
    code = 0
    for word in given.names or OPERATIONS:
        name, _, kills = word.partition(":")
        outcome = kill(name, OPERATIONS[name], kills=int(kills or 0) or given.kills)
        print(json.dumps(asdict(outcome)), flush=True)
        code |= bool(outcome.wrong)
    return code


if __name__ == "__main__":
    sys.exit(main())
