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

_NUMBER = "(?:0|[1-9][0-9]*)"
_RELEASE = re.compile(rf"v({_NUMBER}\.{_NUMBER}\.(?:{_NUMBER}(?:a|b|rc))?)({_NUMBER})")
"""The tag of a release: v1.2.3, or v1.2.3rc1. Whatever else is a tag, v1.2.3-wip or v2024.01.02, is somebody's note."""

_DESCRIBED = re.compile(r"(.+)-([0-9]+)-g([0-9a-f]+)")
"""What `git describe --long` says: a tag, how many commits ago, and the present commit."""

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

    A commit with a release's tag is that release. Any other works towards the one after the nearest, the last number one higher;
    the number of commits since orders them, and what is not committed shows.
    """
    if not (root / ".git").exists():
        return None
    top = _git(root, "rev-parse", "--show-toplevel")  # of somebody else, where `.git` is an empty folder inside theirs
    altered = _git(root, "status", "--porcelain", "--untracked-files=no")
    if top is None or altered is None or Path(top).resolve() != root.resolve():  # a folder that git does not trust, for one
        return None
    ago: str | None
    commit: str | None
    if nearest := _nearest_release(root):
        fixed, last, ago, commit = nearest
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


def _nearest_release(root: Path) -> tuple[str, str, str, str] | None:
    """Return the nearest release up to the present commit; None where there is none.

    Returned are its version without the last number, that number, how many commits ago it was, and the present commit. Git's
    patterns cannot say what the tag of a release is, so git is told their names.
    """
    tags = (_git(root, "tag", "--merged", "HEAD", "--list", "v*") or "").split()
    named = [f"--match={tag}" for tag in tags if _RELEASE.fullmatch(tag)]
    described = _git(root, "describe", "--tags", "--long", "--abbrev=8", *named) if named else None
    found = _DESCRIBED.fullmatch(described or "")
    release = found and _RELEASE.fullmatch(found[1])
    return (release[1], release[2], found[2], found[3]) if found and release else None


def _git(root: Path, *words: str) -> str | None:
    """Return what git says of the checkout at `root`; None where it fails.

    It takes no lock, so nobody's commit waits for it; starts no program that the checkout names; and sees no variable of git's
    own, which a hook that runs this hands on, and which would name another checkout.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")} | {"GIT_OPTIONAL_LOCKS": "0"}
    command = ["git", "-C", str(root), "-c", "core.fsmonitor=false", *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=30)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
