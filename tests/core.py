"""The core install: an interpreter that sees what `pip install crpbot` brings, and nothing of the extras."""

import importlib.metadata
import os
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def core_packages(folder: Path) -> Path:
    """Link into `folder` everything that the dependencies of pyproject.toml bring, and what those bring in turn."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    left, done = [Requirement(text) for text in wanted], set()
    while left:
        requirement = left.pop()
        if canonicalize_name(requirement.name) in done or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        done.add(canonicalize_name(requirement.name))
        package = importlib.metadata.distribution(requirement.name)
        left += [Requirement(text) for text in package.requires or ()]
        for name in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
            link = folder / name
            if not link.exists():
                link.symlink_to(package.locate_file(name))
    return folder


def core(packages: Path, *words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `python WORDS…` with those packages and this source alone."""
    search = os.pathsep.join([str(ROOT / "src"), str(packages)])
    environment = {**os.environ, "PYTHONPATH": search}
    command = [sys.executable, "-S", *map(str, words)]  # -S: without the site-packages of this environment
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment, timeout=300)
