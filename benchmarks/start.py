"""How long one waits before anything happens: `crpbot --help` beside a bare Python, what importing costs, and what is installed.

Installed is what the core's dependencies bring, and what the extra `train` brings beside it: the sizes of all files that the
packages list, without compiled bytecode.
"""

import importlib
import importlib.metadata
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.measuring import ROOT, Call, Scale, in_turns, peak, timed
from benchmarks.results import Budget, Figure, Row

HELP = "import sys; sys.argv = ['crpbot', '--help']; from crpbot.cli import main; main()"
WORDS = {"crpbot": ("-m", "crpbot", "--help"), "bare Python": ("-c", "pass")}
TURNS = 15


def once(name: str) -> dict[str, float]:
    """Return the seconds of one start, after one that fills the disk's cache."""
    command = [sys.executable, *WORDS[name]]
    seconds = [timed(lambda: subprocess.run(command, capture_output=True, check=True))[0] for _ in range(3)]  # noqa: S603
    return {"seconds": min(seconds)}


def importing(modules: Sequence[str]) -> dict[str, float]:
    """Return seconds and MiB of importing modules."""
    before = peak(anew=True)
    seconds, _ = timed(lambda: [importlib.import_module(module) for module in modules])
    return {"seconds": seconds, "mib": peak() - before}


def size(extra: str) -> dict[str, float]:
    """Return the MiB of everything that the core needs, or with an extra."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(project["optional-dependencies"][extra] if extra else ())]
    left, done = [Requirement(text) for text in wanted], set()
    total = sum(file.stat().st_size for file in (ROOT / "src").rglob("*") if file.is_file() and file.suffix != ".pyc")
    while left:
        requirement = left.pop()
        name = canonicalize_name(requirement.name)
        if name in done or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        done.add(name)
        package = importlib.metadata.distribution(requirement.name)
        left += [Requirement(text) for text in package.requires or ()]
        total += weight([Path(str(package.locate_file(file))) for file in package.files or ()])
    return {"mib": total / 2**20, "note": f"{len(done)} packages"}


def weight(files: Sequence[Path]) -> int:
    """Return the bytes of files that are there."""
    return sum(file.stat().st_size for file in files if file.suffix != ".pyc" and file.is_file())


def over(one: Figure, other: Figure) -> Figure:
    """Return how many times as much as another one took, round by round."""
    pairs = zip(one.values, other.values, strict=False)
    return Figure(values=tuple(mine / theirs for mine, theirs in pairs), failed=one.failed or other.failed)


def measure(scale: Scale) -> Iterator[Row]:
    """Compare starts, imports and sizes."""
    calls = {name: Call(function="start:once", arguments={"name": name}) for name in WORDS}
    turns = in_turns(calls, scale.of(TURNS, 2))
    why = "a bare Python imports nothing"
    budget = Budget(text="at most 0.3 s", limit=0.3)
    yield turns.row("seconds", "`crpbot --help`", "s", budget=budget, why=why)
    yield Row(
        work="`crpbot --help` over a bare Python, turn by turn",
        unit="times",
        ours=over(turns.figure("crpbot", "seconds"), turns.figure("bare Python", "seconds")),
        budget=Budget(text="at most 27 times a bare Python", limit=27.0),
    )
    modules = {
        "crpbot": ("crpbot.factory", "polars", "onnxruntime"),
        "polars": ("polars",),
        "pandas": ("pandas",),
        "torch": ("torch",),
    }
    calls = {name: Call(function="start:importing", arguments={"modules": some}) for name, some in modules.items()}
    turns = in_turns(calls, scale.rounds)
    why = "numpy and onnxruntime come with ours, and not with polars"
    yield turns.row("seconds", "importing it, for crpbot what diagnosing and signals need", "s", why=why)
    yield turns.row("mib", "importing it, for crpbot what diagnosing and signals need", "MiB", what="extra memory", why=why)
    extras = {"crpbot": "", "with `train`": "train"}
    turns = in_turns({name: Call(function="start:size", arguments={"extra": extra}) for name, extra in extras.items()}, 1)
    yield turns.row(
        "mib", "the core install, on disk", "MiB", budget=Budget(text="at most 350 MB, no torch", limit=350e6 / 2**20)
    )
