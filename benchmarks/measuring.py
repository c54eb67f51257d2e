"""How everything here is measured: contenders in turns, each in a process of its own, so that its memory is its own."""

import importlib
import importlib.metadata
import json
import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.results import Better, Budget, Figure, Row

ROOT = Path(__file__).parents[1]
PACKAGES = (
    *("numpy", "polars", "onnxruntime", "torch", "scikit-learn", "sqlalchemy"),
    *("pandas", "ta-lib", "pandas-ta-classic", "skorch", "lightning", "torchmetrics"),
)
LONGEST = 600
"""Seconds that a process may take."""
ENOUGH = 5.0


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is done.

    Attributes:
        quick: a tenth of the rows or less, to see whether it runs; such numbers are not to be quoted.
        candles: file of a market of one's own, for what can use one; empty for the made-up ones.

    """

    quick: bool = False
    candles: str = ""

    @property
    def rounds(self) -> int:
        """How often each contender has its turn."""
        return 1 if self.quick else 3

    def of(self, whole: int, quick: int) -> int:
        """Return a number of rows, epochs or requests."""
        return quick if self.quick else whole


@dataclass(frozen=True, kw_only=True)
class Call:
    """A function of a module of this folder, called in a process of its own.

    Attributes:
        function: as `module:function`.
        arguments: by name, plain types.
        threads: that numpy and torch may use; 0 is as many as they like.
        core: it is pinned to this one of the cores, counted from 0; −1 leaves it alone.

    """

    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1
    core: int = -1


def ask(call: Call) -> dict[str, Any]:
    """Return what a call returns.

    Raises:
        RuntimeError: the process failed; the last line that it wrote is the message.

    """
    limits = {name: str(call.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]),
        **(limits if call.threads else {}),
    }
    command = [sys.executable, "-m", "benchmarks.measuring", call.function, json.dumps(dict(call.arguments)), str(call.core)]
    done = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT, timeout=LONGEST
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"ended with {done.returncode} and said nothing"]
        raise RuntimeError(said[-1].replace(f"{ROOT}/", "").replace(f"{sys.prefix}/", "")[:300])
    return json.loads(done.stdout.splitlines()[-1])


@dataclass(frozen=True, kw_only=True)
class Turns:
    """What contenders answered, round after round.

    Attributes:
        found: the answers by contender, those of one that failed left out.
        failed: why, by contender.

    """

    found: Mapping[str, Sequence[Mapping[str, Any]]]
    failed: Mapping[str, str]

    def figure(self, name: str, key: str, *, note: str = "") -> Figure:
        """Return what contender `name` reached in `key`."""
        if name in self.failed:
            return Figure(failed=self.failed[name])
        return Figure(
            values=tuple(float(one[key]) for one in self.found[name]), note=note or str(self.found[name][-1].get("note", ""))
        )

    def row(
        self,
        key: str,
        work: str,
        unit: str,
        *,
        ours: str = "crpbot",
        others: Sequence[str] | None = None,
        what: str = "",
        better: Better = "less",
        budget: Budget | None = None,
        why: str = "",
        data: str = "",
    ) -> Row:
        """Return a row: `key` of ours beside that of the others, by default of all."""
        names = [name for name in {**self.found, **self.failed} if name != ours] if others is None else others
        return Row(
            work=work,
            unit=unit,
            what=what,
            better=better,
            ours=self.figure(ours, key),
            others={name: self.figure(name, key) for name in names},
            budget=budget,
            why=why,
            data=data,
        )


def in_turns(calls: Mapping[str, Call], rounds: int) -> Turns:
    """Let contenders work one after the other, and again; one that fails is asked no more, and the others go on."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in calls}
    failed: dict[str, str] = {}
    for _ in range(rounds):
        for name, call in calls.items():
            if name in failed:
                continue
            try:
                found[name].append(ask(call))
            except (RuntimeError, subprocess.TimeoutExpired, ValueError) as error:
                failed[name] = f"{error}"
    return Turns(found={name: answers for name, answers in found.items() if name not in failed}, failed=failed)


def timed(work: Callable[[], object]) -> tuple[float, object]:
    """Return the seconds of one call, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def costs(work: Callable[[], object], *, times: int = 1) -> tuple[dict[str, float], object]:
    """Return the seconds of the fastest call, those of the first, and the extra MiB at most; and the last result.

    What takes long is not repeated: after `ENOUGH` seconds there is no other call.
    """
    before = peak(anew=True)
    seconds, result = [], None
    while len(seconds) < times and sum(seconds) < ENOUGH:
        del result
        took, result = timed(work)
        seconds.append(took)
    return {"seconds": min(seconds), "first": seconds[0], "mib": peak() - before}, result


def peak(*, anew: bool = False) -> float:
    """Return the most memory that this process has had, in MiB; `anew` forgets what was before, where Linux lets it."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if anew:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    # not `ru_maxrss`: a child inherits that of its parent
    found = re.search(r"VmHWM:\s+(\d+)", status.read_text())
    return int(found[1]) / 1024 if found else float("nan")


def free_memory() -> float:
    """Return the MiB that nobody uses; what the machine has where only that is known."""
    about = Path("/proc/meminfo")
    if about.exists() and (found := re.search(r"MemAvailable:\s+(\d+)", about.read_text())):
        return int(found[1]) / 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20


def machine() -> dict[str, Any]:
    """Return what this machine is, as far as it says; no name of it and no path."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": found[1].strip() if found else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Return the versions of ours, of what it stands on and of every contender; `missing` where one is not installed."""
    found = {"crpbot": importlib.metadata.version("crpbot")}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def commit() -> str:
    """Return the commit that was measured, with a `+` where files have changed since; empty outside a repository."""
    asked = [["git", "rev-parse", "HEAD"], ["git", "status", "--porcelain", "--", "src", "benchmarks"]]
    said = [subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip() for words in asked]  # noqa: S603
    return said[0][:12] + ("+" if said[1] else "")


def quantiles(seconds: Sequence[float]) -> Iterator[tuple[str, float]]:
    """Return median and 99th percentile."""
    import numpy as np

    yield from zip(("p50", "p99"), np.quantile(seconds, [0.5, 0.99]).tolist(), strict=True)


def main() -> None:
    """Call one function in this process, and print what it returns."""
    where, arguments, core = sys.argv[1:]
    if int(core) >= 0 and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(core) % len(cores)]})
    module, _, function = where.partition(":")
    print(json.dumps(getattr(importlib.import_module(f"benchmarks.{module}"), function)(**json.loads(arguments))))


if __name__ == "__main__":
    main()
