"""The version, which git's tags decide: of a checkout as git tells it now, of everything else as it was when it was built.

An installation for editing knows the version of the day on which it was made, and its checkout moves on: so git is asked again.
The build asks here too (`tool.hatch.version` in pyproject.toml), so this needs the standard library alone.
"""

import os
import re
import subprocess
from functools import cache
from pathlib import Path

NEXT = "0.1.0"
"""The release that is worked towards where git knows of none before: no tag at all, or a clone too shallow to have one."""

_TAG = re.compile(r"v([0-9]+\.[0-9]+\.(?:[0-9]+(?:a|b|rc))?)([0-9]+)-([0-9]+)-g([0-9a-f]+)")
"""What `git describe --long` says: of v1.2.3, or v1.2.3rc1, how many commits ago, and the present commit."""

_SOURCE = Path(__file__).parents[1]


@cache
def code_version() -> str:
    """Return the version of the code that runs: PEP 440, `0.1.0`, or `0.1.1.dev3+g1a2b3c4d` three commits after it."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415  a checkout does not need it

    found = of_checkout(_SOURCE.parent) if _SOURCE.name == "src" else None
    if found is None:
        try:
            found = version("crpbot")
        except PackageNotFoundError:  # a copy of the sources alone, as a machine in a cloud has it
            found = f"{NEXT}.dev0"
    return found


def release() -> str:
    """Return the release that this is, or that it will be: what does not change with every commit."""
    return code_version().partition(".dev")[0]


def built() -> str:
    """Return the version for a build: of the checkout, or as a source archive says of itself."""
    root = _SOURCE.parent
    return of_checkout(root) or of_archive(root) or f"{NEXT}.dev0"


def of_archive(root: Path) -> str | None:
    """Return the version that the source archive unpacked at `root` was made with; None where this is none."""
    try:
        text = (root / "PKG-INFO").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"^Version: (\S+)$", text, re.MULTILINE)
    return found and found[1]


def of_checkout(root: Path) -> str | None:
    """Return the version of the git checkout at `root`; None where it is none, or where there is no git to ask.

    A commit with a tag is that release. Any other works towards the one after the newest tag, the last number one higher; the
    number of commits since orders them, and what is not committed shows.
    """
    if not (root / ".git").exists():
        return None
    described = _git(root, "describe", "--tags", "--long", "--abbrev=8", "--match=v[0-9]*.[0-9]*.[0-9]*")
    tag = _TAG.fullmatch(described or "")
    altered = _git(root, "status", "--porcelain", "--untracked-files=no")
    if altered is None:  # a folder that git does not trust, for one
        return None
    if tag:
        fixed, last, ago, commit = tag.groups()
        if ago == "0" and not altered:
            return fixed + last
        towards = f"{fixed}{int(last) + 1}"
    else:
        shallow = _git(root, "rev-parse", "--is-shallow-repository") != "false"
        towards, ago = NEXT, "0" if shallow else _git(root, "rev-list", "--count", "HEAD")
        commit = _git(root, "rev-parse", "--short=8", "HEAD")
        if not (ago and commit):  # nothing is committed yet
            return None
    return f"{towards}.dev{ago}+g{commit}{'.altered' if altered else ''}"


def _git(root: Path, *words: str) -> str | None:
    """Return what git says of the checkout at `root`; None where it fails. It takes no lock, so nobody's commit waits for it."""
    own = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"}  # of a hook that runs this: they would name another checkout
    environment = {key: value for key, value in os.environ.items() if key not in own} | {"GIT_OPTIONAL_LOCKS": "0"}
    command = ["git", "-C", str(root), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=30)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
