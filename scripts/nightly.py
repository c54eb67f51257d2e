"""What takes hours, one part after another: `python scripts/nightly.py [PART …] [--seconds 600]`.

A part that fails does not stop the others; exit code 1 says that one did. A part is one line of the table below: another check
that takes long has its place there.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One check.

    Attributes:
        words: of its command, after that of Python.
        environment: beside ours.

    """

    words: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


PARTS: dict[str, Part] = {
    "fuzz": Part(words=("tests/fuzz/drive.py",)),
    "crash": Part(words=("tests/crash/killing.py",)),
    "refuse": Part(words=("tests/crash/refusing.py",)),
    "week": Part(words=("tests/live/growth.py",)),
    "docs": Part(words=("-m", "pytest", "-q", "tests/docs"), environment={"CRPBOT_WHOLE_DOCS": "1"}),
    "wheel": Part(words=("scripts/release.py", "test")),
    "lowest": Part(words=("scripts/release.py", "lowest")),
    "resolve": Part(words=("scripts/release.py", "resolve")),
}
"""By name, in the order in which they run."""


def main() -> int:
    """Run the parts, and say how each ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--seconds", default="600", help="for each target of fuzz")
    given = parser.parse_args()
    single = {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}  # a fork has no thread but ours
    said = []
    for name in given.parts or PARTS:
        part, began = PARTS[name], time.monotonic()
        words = [*part.words, *(["--seconds", given.seconds] if name == "fuzz" else [])]
        ended = subprocess.run(  # noqa: S603  our own commands
            [sys.executable, *words], check=False, cwd=ROOT, env={**os.environ, **single, **part.environment}
        ).returncode
        said.append(f"{name}: {'passed' if ended == 0 else f'FAILED ({ended})'} in {time.monotonic() - began:,.0f} s")
        print(said[-1], flush=True)
    print("\n".join(["", *said]))
    return int(any("FAILED" in one for one in said))


if __name__ == "__main__":
    sys.exit(main())
