"""The one command: measure, keep every row as soon as it is there, and draw the page.

    make bench                                          # everything, into docs/benchmarks
    python -m benchmarks --only features,live --quick   # to see whether it runs; into runs/bench
    python -m benchmarks --only years                   # what takes longer and is not in `make bench`
    python -m benchmarks --page                         # draw the page again, measure nothing

Exit codes: 0, everything was measured; 1, something failed, and the page says what; 2, it was asked wrongly.
"""

import argparse
import importlib
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.measuring import ROOT, Scale, commit, machine, versions
from benchmarks.page import TITLES, page, told, told_growth
from benchmarks.results import FORMAT, Growth, failures_of, plain
from crpbot.disk import write_whole

USUAL = {
    "start": 40,
    "features": 70,
    "drift": 15,
    "backtest": 60,
    "inference": 60,
    "diagnosis": 140,
    "live": 170,
    "web": 90,
    "training": 270,
    "growth": 280,
}
"""Seconds of each on two quiet cores, in the order of the run: what is short comes first."""
LONG = {"years": 900}
"""What is done only where it is asked for."""
DOCS = ROOT / "docs"


def main(words: list[str] | None = None) -> int:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(USUAL), help=f"some of {', '.join({**USUAL, **LONG})}")
    parser.add_argument("--page", action="store_true", help="draw the page again from the results that are there")
    parser.add_argument("--quick", action="store_true", help="few rows and one round")
    parser.add_argument("--candles", default="", help="a market of your own, for features, backtest and drift")
    parser.add_argument(
        "--out", type=Path, help="folder for results.json; docs/benchmarks, or runs/bench with --quick or --candles"
    )
    options = parser.parse_args(words)
    names, scale = options.only.split(","), Scale(quick=options.quick, candles=options.candles)
    if unknown := [name for name in names if name not in {**USUAL, **LONG}]:
        parser.error(f"--only must name some of {', '.join({**USUAL, **LONG})}, found {', '.join(unknown)}; correct it")
    whole = not (options.quick or options.candles)
    out = (options.out and options.out.resolve()) or (DOCS / "benchmarks" if whole else ROOT / "runs" / "bench")
    if options.page:
        draw(out)
        return 0
    results = begin(out)
    left = sum({**USUAL, **LONG}[name] for name in names) // (1 if whole else 4)
    print(
        f"{len(names)} of {len(TITLES)}, about {max(1, left // 60)} minutes on two quiet cores; results in {out / 'results.json'}"
    )
    for name in names:
        left -= {**USUAL, **LONG}[name] // (1 if whole else 4)
        run(name, scale, results, out)
        print(f"--- {name}: {results['groups'][name]['seconds']:.0f} s; about {left} s left\n", flush=True)
    failed = [line for line in failures_of(results) if line.split(",")[0].split(":")[0] in names]
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    return 1 if failed else 0


def begin(out: Path) -> dict[str, Any]:
    """Return results to add to: those that are there, where they are of this machine and these versions, or none."""
    fresh = {"format": FORMAT, "machine": machine(), "versions": versions(), "groups": {}}
    file = out / "results.json"
    if file.exists():
        found = json.loads(file.read_text())
        if all(found.get(key) == fresh[key] for key in ("format", "machine", "versions")):
            return found
        print("the results that are there are of another machine or other versions: begun anew")
    return fresh


def run(name: str, scale: Scale, results: dict[str, Any], out: Path) -> None:
    """Measure one group, and write after each row; what fails is a line of the table, and loses nothing."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    group: dict[str, Any] = {
        "commit": commit(),
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "quick": scale.quick,
        "load": load,
        "seconds": 0.0,
        "failed": "was cut off",
        "rows": [],
        "growth": [],
    }
    start = time.monotonic()
    results["groups"] = ordered({**results["groups"], name: group})
    try:
        for one in importlib.import_module(f"benchmarks.{name}").measure(scale):
            grown = isinstance(one, Growth)
            print(told_growth(one) if grown else told(one), flush=True)
            group["growth" if grown else "rows"].append(vars(one) if grown else one.to_dict())
            group["seconds"] = time.monotonic() - start
            keep(results, out)
        group["failed"] = ""
    except Exception as error:  # noqa: BLE001  whatever it is: the others go on, and the table says it
        group["failed"] = f"{type(error).__name__}: {error}"[:300]
    group["seconds"] = time.monotonic() - start
    keep(results, out)


def ordered(groups: dict[str, Any]) -> dict[str, Any]:
    """Return groups in the order of the page."""
    return {name: groups[name] for name in TITLES if name in groups}


def keep(results: dict[str, Any], out: Path) -> None:
    """Write the results, and their page."""
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "results.json", json.dumps(plain(results), indent=1, ensure_ascii=False) + "\n")
    draw(out)


def draw(out: Path) -> None:
    """Write the page beside the folder of its results."""
    found = json.loads((out / "results.json").read_text())
    write_whole(out.parent / f"{'benchmarks' if out.parent == DOCS else out.name}.md", page(found))


if __name__ == "__main__":
    sys.exit(main())
