"""What goes into the image of the live runtime, and how much it weighs.

    python scripts/image.py requirements     write deploy/requirements.txt from pyproject.toml and constraints.txt
    python scripts/image.py trim FOLDER [VERSION]
                                             take out what nothing here imports, compile the rest, and note which version it is,
                                             which no git tells there (a step of the Dockerfile)
    python scripts/image.py size [FOLDER]    do in FOLDER what the Dockerfile's first stage does, and print megabytes by package

`trim` needs the standard library alone, since it runs in the image's first stage.
"""

import compileall
import importlib.metadata
import py_compile
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
REQUIREMENTS = ROOT / "deploy" / "requirements.txt"
LIMIT_MB = 400

BASE_MB = 59.4
"""Of gcr.io/distroless/python3-debian12, at most: the Installed-Size fields of the 37 packages of Debian 12 that it is made of
(its python3/python.bzl, over cc, base and static): 57,940 KiB, as apt knew them in November 2026. That counts the manual pages
and documentation too, which the image leaves out, so the image itself is smaller."""

LEFT_OUT = {
    "polars": "candles of a venue come as numbers; tables of candles are read where models are trained and promoted",
    "polars-runtime-32": "a part of polars",
    "uvloop": "ccxt asks for it, and neither ccxt nor aiohttp's client imports it",
}
"""Requirements that live on the feed of an exchange does not import, and why."""

TARGET: Mapping[str, str] = {
    "sys_platform": "linux",
    "platform_system": "Linux",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "python_version": "3.11",
    "python_full_version": "3.11.2",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
}
"""The machine of the image, in the words of requirement markers."""

UNUSED = [
    *("**/tests", "**/*.pyi", "bin", "share"),
    *("ccxt/test", "alembic/testing", "sqlalchemy/testing"),
    *("onnxruntime/transformers", "onnxruntime/quantization", "onnxruntime/tools", "onnxruntime/datasets", "onnxruntime/backend"),
    *("apprise/i18n/*/LC_MESSAGES", "crpbot/market/sample/*.parquet"),
]
"""Tests, stubs of types, command lines, tools that make models, translations, and the bundled candles, which need Polars."""


def requirements() -> str:
    """Return a requirements file: the pins of the core and of the extra `live`, with all that they need, without `LEFT_OUT`."""
    from packaging.requirements import Requirement  # noqa: PLC0415  not in the image's first stage
    from packaging.utils import canonicalize_name  # noqa: PLC0415  likewise

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [Requirement(text) for text in [*project["dependencies"], *project["optional-dependencies"]["live"]]]
    pins = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines()]
    pinned = {canonicalize_name(pin.name): pin for pin in pins if not pin.marker or pin.marker.evaluate(dict(TARGET))}
    done: set[tuple[str, str]] = set()
    while asked:
        requirement = asked.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in done or name in LEFT_OUT:
                continue
            done.add((name, extra))
            for text in importlib.metadata.requires(name) or ():
                needed = Requirement(text)
                own = needed.marker is not None and "extra" in str(needed.marker)
                if own == bool(extra) and (not needed.marker or needed.marker.evaluate({**TARGET, "extra": extra})):
                    asked.append(needed)
    lines = [f"{name}{pinned[name].specifier}" for name in sorted({name for name, _ in done})]
    head = ["# Made by scripts/image.py from pyproject.toml and constraints.txt; a test compares. Without:"]
    head += [f"#   {name}: {reason}" for name, reason in LEFT_OUT.items()]
    return "\n".join([*head, *lines]) + "\n"


def build(folder: Path, python: str = sys.executable) -> None:
    """Fill `folder` as the first stage of the Dockerfile does; pip fetches what it has not kept."""
    command = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-compile",
        "--no-deps",
        "--disable-pip-version-check",
        "--no-warn-conflicts",
    ]
    subprocess.run([python, *command, f"--target={folder}", "-r", str(REQUIREMENTS)], check=True)  # noqa: S603
    shutil.copytree(ROOT / "src" / "crpbot", folder / "crpbot", ignore=shutil.ignore_patterns("__pycache__"))
    trim(folder)


def note_version(folder: Path, version: str) -> None:
    """Write down beside the sources in `folder` which version they are, as an installer does."""
    place = folder / f"crpbot-{version}.dist-info"
    place.mkdir()
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: crpbot\nVersion: {version}\n")


def trim(folder: Path) -> None:
    """Take out `UNUSED`, then compile every module once and for all: the image is read-only, so nobody could do it later."""
    for pattern in UNUSED:
        for path in sorted(folder.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    names = {"stripdir": str(folder), "prependdir": "/opt/crpbot"}  # as tracebacks shall name them
    compileall.compile_dir(folder, quiet=2, workers=0, invalidation_mode=unchecked, **names)


def sizes(folder: Path) -> Counter[str]:
    """Return bytes by package; their bytecode counts."""
    found: Counter[str] = Counter()
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            found[path.relative_to(folder).parts[0].partition("-")[0].removesuffix(".libs")] += path.stat().st_size
    return found


def table(folder: Path) -> Iterator[str]:
    """Yield the lines of the table, largest first."""
    found = sizes(folder)
    for name, size in found.most_common(15):
        yield f"{size / 1e6:7.1f} MB  {name}"
    rest = sum(found.values()) - sum(size for _, size in found.most_common(15))
    yield f"{rest / 1e6:7.1f} MB  {max(0, len(found) - 15)} others"
    yield f"{BASE_MB:7.1f} MB  the base image (at most)"
    yield f"{total(folder):7.1f} MB  in all; the limit is {LIMIT_MB}"


def total(folder: Path) -> float:
    """Return megabytes of the image: the folder and the base."""
    return sum(sizes(folder).values()) / 1e6 + BASE_MB


def main(words: list[str]) -> None:
    """Do what the words say."""
    if words == ["requirements"]:
        REQUIREMENTS.write_text(requirements())
    elif words[:1] == ["trim"] and len(words) in {2, 3}:
        trim(Path(words[1]))
        if words[2:] and words[2]:
            note_version(Path(words[1]), words[2])
    elif words[:1] == ["size"] and len(words) <= 2:
        with TemporaryDirectory() as temporary:
            folder = Path(words[1]) if len(words) == 2 else Path(temporary) / "site"
            build(folder)
            print("\n".join(table(folder)))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
