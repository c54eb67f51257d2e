"""What a release is made of, and the proof that it works elsewhere than here: see docs/packaging.md.

    python scripts/release.py dist              build dist/: a source archive, and from that the wheel
    python scripts/release.py test [WORDS]      run the tests against the built wheel, in an environment and a folder of their own
    python scripts/release.py lowest [WORDS]    the same with the lowest versions that are allowed; torch stays as it is here
    python scripts/release.py resolve           find wheels for every Python and system, and for the lowest versions

WORDS are for pytest; without any, all tests run. uv fetches what it has not kept.
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
SYSTEMS = ("linux", "windows", "macos")
CORE_MB, CORE_COMPILED_MB = 350, 400
"""The most that `pip install crpbot` may weigh, without and with bytecode, in millions of bytes; uv makes none, pip does."""
TESTED = ("train", "live", "web", "cloud")
"""The extras that the tests against the wheel need."""
CHECKOUT = (
    "test_house.py",
    "test_deploy.py",
    "test_packaging.py",
    "test_version.py",
    "test_image.py",
    "test_core_install.py",
    "docs",
)
"""Tests about the checkout itself, its sources, its pages and its git, which have no place beside an installed package."""


def extras() -> dict[str, list[str]]:
    """Return what each extra of pyproject.toml requires."""
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])


def tools() -> list[str]:
    """Return the names of what tests need, in any version that suits the lowest of the rest; an older Starlette wants httpx."""
    return [*(re.split(r"[^\w-]", text, maxsplit=1)[0] for text in extras()["dev"]), "httpx"]


def uv(*words: object) -> str:
    """Call uv, and return what it prints.

    Raises:
        subprocess.CalledProcessError: it fails; its `stderr` says why.

    """
    beside = Path(sys.executable).with_name("uv")
    program = str(beside) if beside.is_file() else shutil.which("uv") or "uv"
    settings = {
        "MACOSX_DEPLOYMENT_TARGET": "14.0",  # the oldest that ONNX Runtime still builds for
        "UV_PYTHON_DOWNLOADS": "never",  # to find wheels for another Python does not take one
    }
    command = [program, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **settings}, cwd=ROOT)  # noqa: S603
    return done.stdout


def build(folder: Path) -> tuple[Path, Path]:
    """Build the source archive into `folder`, and from that the wheel; return wheel and archive."""
    uv("build", "--quiet", "--out-dir", folder, ROOT)
    (wheel,), (archive,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, archive


def wheel_files(wheel: Path) -> dict[str, bytes]:
    """Return what a wheel holds, by name."""
    with zipfile.ZipFile(wheel) as file:
        return {name: file.read(name) for name in file.namelist()}


def archive_files(archive: Path) -> dict[str, bytes]:
    """Return what a source archive holds, by name below its one folder."""
    found = {}
    with tarfile.open(archive) as file:
        for member in file:
            content = file.extractfile(member)
            if content is not None:
                found[member.name.partition("/")[2]] = content.read()
    return found


def tracked(folder: str) -> set[str]:
    """Return the files of the project below `folder`, as git knows them: committed, or about to be."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", folder]
    listed = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT).stdout.splitlines()  # noqa: S603
    return {name for name in listed if (ROOT / name).is_file()}


def environment(folder: Path, *words: object, python: str = f"{sys.version_info[0]}.{sys.version_info[1]}") -> Path:
    """Make an environment in `folder` with what `uv pip install WORDS` brings, and return its interpreter."""
    uv("venv", "--quiet", "--python", sys.executable if sys.version.startswith(python) else python, folder)
    inside = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    uv("pip", "install", "--quiet", "--python", inside, *words)
    return inside


def weights(folder: Path) -> tuple[Counter[str], int]:
    """Return bytes by top-level name below `folder` without bytecode, and the bytes of bytecode."""
    found: Counter[str] = Counter()
    compiled = 0
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            if path.suffix == ".pyc":
                compiled += path.stat().st_size
            else:
                found[path.relative_to(folder).parts[0]] += path.stat().st_size
    return found, compiled


def lowest(*extras: str, torch: str = "") -> str:
    """Return requirements: the lowest versions that pyproject.toml allows for the core and those extras, as wheels alone."""
    words = [word for extra in extras for word in ("--extra", extra)]
    with TemporaryDirectory() as folder:
        limits = Path(folder, "limits.txt")
        limits.write_text(f"torch=={torch}\n" if torch else "")
        how = ("--quiet", "--resolution", "lowest-direct", "--python-version", PYTHONS[0], "--only-binary", ":all:")
        return uv("pip", "compile", *how, "--no-header", "--no-annotate", "-c", limits, *words, "pyproject.toml")


def resolve(python: str, system: str) -> str:
    """Return the wheels of all extras, as constraints.txt pins them, for that Python on that system."""
    how = ("--quiet", "--python-version", python, "--python-platform", system, "--only-binary", ":all:")
    return uv("pip", "compile", *how, "--no-header", "--no-annotate", "-c", "constraints.txt", "--all-extras", "pyproject.toml")


def copy_of_the_tests(folder: Path) -> Path:
    """Copy everything that the tests read, apart from src/, to a folder where no source lies beside them."""
    for name in sorted(tracked(".")):
        if not name.startswith("src/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    if (ROOT.parent / "shared").is_dir():  # real candles, where somebody has them
        (folder.parent / "shared").symlink_to(ROOT.parent / "shared")
    return folder


PROOF = "import crpbot, sys; sys.exit(0 if crpbot.__file__.startswith(sys.prefix) else f'found the wrong one: {crpbot.__file__}')"


def run_tests(python: Path, words: list[str], folder: Path) -> int:
    """Run the tests in a copy without src/, after proof that the installed package is the one they get; return pytest's code."""
    copy = copy_of_the_tests(folder)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    subprocess.run([python, "-c", PROOF], check=True, cwd=copy, env=clean)  # noqa: S603
    without = [f"--ignore=tests/{name}" for name in CHECKOUT]
    lists = ["-o", "testpaths=tests", "-o", "filterwarnings=default", "-p", "no:cacheprovider"]
    command = [python, "-m", "pytest", "-q", *lists, *without, *words]
    return subprocess.run(command, check=False, cwd=copy, env=clean).returncode  # noqa: S603


def test(words: list[str], *, low: bool) -> int:
    """Run the tests against the built wheel, with the versions of constraints.txt or the lowest; return pytest's code."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wheel, _ = build(folder / "dist")
        if low:
            limits = folder / "lowest.txt"
            limits.write_text(lowest(*TESTED, torch=importlib.metadata.version("torch")))
            asked = [f"crpbot[{','.join(TESTED)}] @ {wheel.as_uri()}", *tools()]
        else:
            limits, asked = ROOT / "constraints.txt", [f"crpbot[{','.join(TESTED)},dev] @ {wheel.as_uri()}"]
        python = environment(folder / "venv", "-c", limits, *asked)
        return run_tests(python, words, folder / "elsewhere")


def table() -> Iterator[str]:
    """Yield a line for each Python and system, and for the lowest versions of each extra, as they are found."""
    for python in PYTHONS:
        for system in SYSTEMS:
            yield f"Python {python} on {system}: {len(resolve(python, system).splitlines())} wheels"
    for extra in ("", *extras()):
        yield f"lowest versions, {extra or 'core'}: {len(lowest(*filter(None, [extra])).splitlines())} wheels"


def main(words: list[str]) -> int:
    """Do what the words say."""
    if words == ["dist"]:
        shutil.rmtree(ROOT / "dist", ignore_errors=True)
        for path in build(ROOT / "dist"):
            print(f"{path.stat().st_size / 1e6:6.1f} MB  {path.relative_to(ROOT)}")
    elif words[:1] in (["test"], ["lowest"]):
        return test(words[1:], low=words[0] == "lowest")
    elif words == ["resolve"]:
        for line in table():
            print(line, flush=True)
    else:
        sys.exit(__doc__)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: {error.stderr or error}")
