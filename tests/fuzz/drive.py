"""Fuzz the doors that files and answers of strangers come through: `python tests/fuzz/drive.py [--seconds 600] [TARGET …]`.

Each target runs in a process of its own. Where atheris is installed it is guided by what the code does; elsewhere damage of good
files is tried as long as the time allows. What breaks a rule is cut down to what matters and written to `found/TARGET/` beside
this file; once it is mended, it belongs to `kept/TARGET/` in base64, where the suite reads it for ever. Exit code 1: something
was found.
"""

import argparse
import base64
import hashlib
import io
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from importlib.util import find_spec
from pathlib import Path
from random import Random

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER.parent), str(FOLDER.parents[1] / "src")]
KEPT, FOUND = FOLDER / "kept", FOLDER / "found"
LONGEST, MOST = 2.0, 512 * 2**20
"""Seconds and bytes that one file may take."""


class TooLongError(BaseException):
    """A target did not end in time; no `except Exception` takes it for damage."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Interrupt what takes longer; code that is not Python's is noticed when it returns."""

    def ring(*_: object) -> None:
        raise TooLongError(f"it took more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def peak(*, anew: bool = False) -> int:
    """Return the most bytes of memory that this process has held since it was asked to count anew."""
    if anew:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    with suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1_024 for line in lines if line.startswith("VmHWM"))
    return 0


def broken(take: Callable[[bytes], None], content: bytes) -> str:
    """Return which rule is broken by what a target does with bytes, with its place; an empty text where none is."""
    from crpbot.errors import CrpbotError

    if case := os.environ.get("CRPBOT_FUZZ_CASE"):  # what ends the process is found there by who started it
        Path(case).write_bytes(content)
    before, began = peak(anew=True), time.process_time()
    try:
        with redirect_stderr(io.StringIO()), at_most(4 * LONGEST):
            take(content)
    except CrpbotError as error:
        if not str(error) or not str(error).isprintable():
            return "an error that is no printable line"
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001  polars panics with no Exception
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "crpbot" in frame.filename]
        where = f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "nowhere of ours"
        return f"{type(error).__name__} in {where}: {' '.join(str(error).split())[:200]}"
    if (took := time.process_time() - began) > LONGEST:  # others may keep this machine busy
        return f"seconds: {took:.1f}"
    if peak() - before > MOST:
        return f"MiB: {(peak() - before) / 2**20:,.0f}"
    return ""


def place_of(rule: str) -> str:
    """Return which finding this is: the same fault at the same place is one."""
    return rule.partition(": ")[0]


def shortened(take: Callable[[bytes], None], content: bytes, *, until: float) -> bytes:
    """Cut away whatever is not needed for the same finding, in ever smaller pieces."""
    what = place_of(broken(take, content))
    size = max(1, len(content) // 2)
    while size and time.monotonic() < until:
        at = 0
        while at < len(content) and time.monotonic() < until:
            shorter = content[:at] + content[at + size :]
            if place_of(broken(take, shorter)) == what:
                content = shorter
            else:
                at += size
        size //= 2
    return content


def kept(path: Path) -> bytes:
    """Return a case of `kept`: base64, so that every file of the project is text."""
    return base64.b64decode(path.read_text())


def keep(name: str, content: bytes, folder: Path = FOUND) -> Path:
    """Write a case into a folder, named by its digest."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    path = folder / name / hashlib.sha256(content).hexdigest()[:12]
    path.write_bytes(content)
    return path


def search(name: str, seconds: float, *, first: int) -> int:
    """Damage good files for so long, and return how many findings there were; each is kept once."""
    from fuzz.damage import damaged
    from fuzz.targets import TARGETS

    target = TARGETS[name]
    seeds = list(target.seeds())
    for seed in seeds:  # what is made once is made now
        broken(target.take, seed)
    seen: dict[str, Path] = {}
    until, number = time.monotonic() + seconds, first
    while time.monotonic() < until:
        content = damaged(seeds[number % len(seeds)], number, target.kind)
        rule = broken(target.take, content)
        if rule and place_of(rule) not in seen:
            short = shortened(target.take, content, until=time.monotonic() + 20)
            seen[place_of(rule)] = keep(name, short)
            print(f"{name}: {rule} ({seen[place_of(rule)]})", flush=True)
        number += 1
    print(f"{name}: {number - first:,} files, {len(seen)} findings", flush=True)
    return len(seen)


def guided(name: str, seconds: float, *, first: int) -> int:
    """Let atheris guide the damage by the lines of ours that it reaches; it ends at its first finding."""
    import atheris

    with atheris.instrument_imports(include=["crpbot"]):
        from fuzz.damage import damaged
        from fuzz.targets import TARGETS

        target = TARGETS[name]
        seeds = list(target.seeds())
    for seed in seeds:
        broken(target.take, seed)
    tried, seen = 0, dict[str, Path]()
    corpus, until = FOUND / f".corpus-{name}", time.monotonic() + seconds
    for seed in seeds:
        keep(corpus.name, seed)

    def take(content: bytes) -> None:
        nonlocal tried
        tried += 1
        if time.monotonic() > until:  # libFuzzer would end the process without a word
            print(f"{name}: {tried:,} files, {len(seen)} findings, guided", flush=True)
            os._exit(bool(seen))
        rule = broken(target.take, content)
        if rule and place_of(rule) not in seen:
            short = shortened(target.take, content, until=time.monotonic() + 20)
            seen[place_of(rule)] = keep(name, short)
            print(f"{name}: {rule} ({seen[place_of(rule)]})", flush=True)

    def mutate(content: bytes, most: int, number: int) -> bytes:
        if Random(number).random() < 0.5:  # noqa: S311
            return bytes(atheris.Mutate(content, most))
        return damaged(content, number, target.kind)[:most]

    most = max(65_536, 2 * max(map(len, seeds)))
    words = [f"-max_len={most}", f"-seed={first + 1}", "-timeout=60", "-rss_limit_mb=8192"]
    atheris.Setup([sys.argv[0], *words, "-verbosity=0", str(corpus)], take, custom_mutator=mutate)

    atheris.Fuzz()
    return 1  # it does not come back


def main() -> int:
    """Run each target in a process of its own, one after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help="names in targets.py; all by default")
    parser.add_argument("--seconds", type=float, default=600.0, help="for each target")
    parser.add_argument("--first", type=int, default=1_000, help="number of the first damage; others try others")
    parser.add_argument("--plain", action="store_true", help="without atheris, also where it is installed")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:  # nothing of ours is imported yet: atheris has to see that
        way = search if given.plain or find_spec("atheris") is None else guided
        code = way(given.targets[0], given.seconds, first=given.first) > 0
        sys.stdout.flush()
        os._exit(code)  # threads of libraries may wait for ever
    from fuzz.targets import TARGETS

    code = 0
    for name in given.targets or TARGETS:
        words = ["--here", "--seconds", str(given.seconds), "--first", str(given.first), *["--plain"] * given.plain]
        with tempfile.TemporaryDirectory(prefix="crpbot-fuzz-", ignore_cleanup_errors=True) as folder:
            case = Path(folder, "case")
            places = {"CRPBOT_FUZZ_CASE": str(case), "CRPBOT_FUZZ_FOLDER": str(Path(folder, "place"))}
            ended = subprocess.run([sys.executable, __file__, name, *words], check=False, env=os.environ | places).returncode
            if ended not in {0, 1}:
                found = keep(name, case.read_bytes()) if case.exists() else "no file"
                print(f"{name}: the process ended with {ended} ({found})", flush=True)
        code |= ended != 0
    return code


if __name__ == "__main__":
    sys.exit(main())
