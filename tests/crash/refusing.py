"""Commands whose disk is full, or whose folder may only be read: `python tests/crash/refusing.py [NAME …]`, a line of JSON each.

A disk is full by a limit on the size of files (a real error in the middle of a real write, also where Polars or SQLite write),
and on a small file system in memory where this process may mount one. A folder is read-only for a user who is not root.
"""

import argparse
import gc
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "src")]
LIMIT = 1_024
"""Bytes that a file may have: fewer than anything that a command writes."""
NOBODY = 65_534

COMMANDS: dict[str, tuple[str, ...]] = {
    "candles-import": ("candles", "import", "BTC-USD.csv"),
    "candles-export": ("candles", "export", "BTC-USD.csv", "--symbol", "BTC-USD", "-o", "out/BTC-USD.parquet"),
    "candles-export-csv": ("candles", "export", "BTC-USD.csv", "--symbol", "BTC-USD", "-o", "out/BTC-USD.csv"),
    "candles-resample": ("candles", "resample", "BTC-USD.csv", "--to", "5m", "-o", "out/BTC-USD.feather"),
    "features": ("features", "BTC-USD.csv", "-o", "out/features.parquet"),
    "train": ("train", "--recipe", "tiny.toml", "--symbol", "BTC-USD", "--candles", "BTC-USD.csv", "--out", "out"),
    "diagnose-json": ("diagnose", "m/BTC-USD", "--candles", "BTC-USD.csv", "--json", "out/d.json"),
    "diagnose-html": ("diagnose", "m/BTC-USD", "--candles", "BTC-USD.csv", "--html", "out/d.html"),
    "diagnose-rows": ("diagnose", "m/BTC-USD", "--candles", "BTC-USD.csv", "--predictions", "out/p.parquet"),
    "repair": ("repair", "lost.pt", "--symbol", "BTC-USD", "--candles", "BTC-USD.csv", "-o", "out/repaired.pt"),
    "export": ("export", "m/BTC-USD", "--format", "onnx", "-o", "out/model.onnx"),
    "export-seed": ("export", "m/BTC-USD", "--format", "seed", "-o", "out/seed.pt"),
    "promote": ("promote", "m/BTC-USD", "--candles", "BTC-USD.csv"),
    "backtest": ("backtest", "m/BTC-USD", "--candles", "BTC-USD.csv", "--html", "out/b.html"),
    "journal": ("journal",),
    "live": ("live", "--replay", "BTC-USD.csv", "--symbols", "BTC-USD", "--speed", "0"),
}


@contextmanager
def small_disk(place: Path) -> Iterator[bool]:
    """Mount a file system of 8 kB at a folder; say whether that was possible."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8k", "crpbot-full", str(place)], capture_output=True, check=False
    ).returncode == 0  # fmt: skip
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(place)], check=False)


def begin(folder: Path) -> None:
    """Lay out candles, a recipe, a model folder and a foreign checkpoint."""
    from crash.operations import CANDLES, deliver, lost, tiny

    from crpbot.market.formats import write_foreign

    write_foreign(CANDLES, folder / "BTC-USD.csv", symbol="BTC-USD")
    (folder / "tiny.toml").write_text(tiny().to_toml())
    deliver(folder / "m")
    lost(folder)
    for name in ("out", "home"):
        (folder / name).mkdir()
        (folder / name / "old.json").write_text("{}")


def state(folder: Path) -> dict[str, str]:
    """Return every file below a folder, work in progress too."""
    import hashlib

    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in {".lock", "ledger.lock"} and path.stat().st_size
    }


def called(words: tuple[str, ...], folder: Path, way: str) -> tuple[int, str]:
    """Call the command line in a fork that may not write; return exit code and what it complained of."""
    from interpreter import call

    streams = [tempfile.mkstemp(prefix="crpbot-said-")[1] for _ in range(2)]
    for stream in streams:
        Path(stream).chmod(0o666)
    child = os.fork()
    if child == 0:
        if way == "full":
            resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))
        elif way == "read-only" and os.geteuid() == 0:
            os.setegid(NOBODY)
            os.seteuid(NOBODY)
        environment = {**os.environ, "CRPBOT_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1", "COLUMNS": "400"}
        try:
            call({"words": list(words), "cwd": str(folder), "env": environment, "streams": [os.devnull, streams[1]]})
        except BaseException:  # noqa: BLE001  the fork ends here, whatever it was
            traceback.print_exc()
        finally:
            os._exit(99)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    complained = Path(streams[1]).read_text(errors="replace")
    for stream in streams:
        Path(stream).unlink()
    return code, complained


def tried(name: str, start: Path, work: Path, way: str) -> dict[str, object]:
    """Try one command one way, and say what came of it."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(start, work)
    if way == "read-only":
        for place in (work / "out", work / "home"):
            place.chmod(0o555)
        work.chmod(0o755)
    if way == "small-disk":
        with small_disk(work / "out") as mounted:
            if not mounted:
                return {"name": name, "way": way, "skipped": True}
            (work / "out" / "old.json").write_text("{}")
            before = state(work)
            code, complained = called(COMMANDS[name], work, way)
            after = state(work)
    else:
        before = state(work)
        code, complained = called(COMMANDS[name], work, way)
        after = state(work)
    return {
        "name": name, "way": way, "code": code, "said": complained.strip().splitlines(),
        "new": sorted(set(after) - set(before)), "changed": sorted(one for one in before if before[one] != after.get(one)),
    }  # fmt: skip


def wrong(found: dict[str, object]) -> str:
    """Return what is wrong with what came of a command; empty where it refused as it should, or could not be tried."""
    if found.get("skipped"):
        return ""
    said = found["said"]
    if found["code"] != 2 or len(said) != 1:
        return "it must end with exit code 2 and one line"
    if not said[0].startswith("error: ") or not ("out/" in said[0] or "/home/" in said[0]):
        return "its line must name the file"
    if "check" not in said[0] and "is the disk full" not in said[0]:
        return "its line must say what to do"
    return "it must change nothing" if found["new"] or found["changed"] else ""


def main() -> int:
    """Try commands, and print what came of each; 1 where one did not refuse as it should."""
    import importlib

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(COMMANDS)}; all by default")
    given = parser.parse_args()
    from crash.killing import forked
    from crash.operations import warm_up
    from interpreter import HEAVY

    for module in (
        *HEAVY,
        "crpbot.cli",
        "onnxruntime",
        "crpbot.live.service",
        "multiprocessing.managers",
        "socketserver",
        "sqlite3",
    ):
        importlib.import_module(module)  # whoever is nobody may not even read where they are
    warm_up()
    gc.freeze()
    place = tempfile.mkdtemp(prefix="crpbot-full-")  # a `TemporaryDirectory` would go at the end of each fork
    try:
        Path(place).chmod(0o755)
        start = Path(place, "start")
        start.mkdir()
        assert forked(start, begin) == 0
        every = []
        for name in given.names or COMMANDS:
            for way in ("full", "read-only", "small-disk"):
                if way == "small-disk" and not any(word.startswith("out/") for word in COMMANDS[name]):
                    continue
                found = tried(name, start, Path(place, "work"), way)
                every.append(wrong(found))
                print(json.dumps({**found, "wrong": every[-1]}), flush=True)
        return int(any(every))
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
