"""The version comes from git's tags: whatever the clone, at a build and while it runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.version import Version

import crpbot
from crpbot import version
from crpbot.version import NEXT, code_version, of_archive, of_checkout, release

ROOT = Path(__file__).parents[1]


def git(folder: Path, *words: str) -> str:
    who = [item for key in ("user.name", "user.email") for item in ("-c", f"{key}=somebody")]
    done = subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(folder: Path, text: str = "") -> str:
    (folder / "file").write_text(text or f"{len(list(folder.iterdir()))}")
    git(folder, "add", "file")
    git(folder, "commit", "--allow-empty", "-qm", "a commit")
    return "g" + git(folder, "rev-parse", "--short=8", "HEAD")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q")
    return folder


def test_without_a_tag_every_commit_counts_towards_the_first_release(checkout: Path) -> None:
    assert of_checkout(checkout) is None  # nothing is committed yet
    for number in (1, 2, 3):
        last = commit(checkout)
        assert of_checkout(checkout) == f"{NEXT}.dev{number}+{last}"


@pytest.mark.parametrize(("tag", "after"), [("0.9.0", "0.9.1"), ("1.2.39", "1.2.40"), ("2.0.0rc1", "2.0.0rc2")])
def test_a_tagged_commit_is_that_release_and_later_ones_work_towards_the_next(checkout: Path, tag: str, after: str) -> None:
    commit(checkout)
    git(checkout, "tag", f"v{tag}")
    assert of_checkout(checkout) == tag
    commit(checkout, "one more")
    last = commit(checkout, "and another")
    assert of_checkout(checkout) == f"{after}.dev2+{last}"
    assert Version(tag) < Version(str(of_checkout(checkout))) < Version(after)


def test_a_tag_that_is_no_release_is_none(checkout: Path) -> None:
    commit(checkout)
    for tag in ("nightly", "v2", "1.0.0", "v1.0.0-rc.1"):
        git(checkout, "tag", tag)
    assert str(of_checkout(checkout)).startswith(f"{NEXT}.dev1+g")
    git(checkout, "tag", "v1.0.0", "-f")
    commit(checkout, "more")
    git(checkout, "tag", "tonight")  # nearer than the release, and hides it from nobody
    assert str(of_checkout(checkout)).startswith("1.0.1.dev1+g")


@pytest.mark.parametrize("odd", ["v2.0.0-wip", "v1.4.0.post1", "v2024.01.02.3", "v01.02.003", "v2024.01.02"])
def test_a_nearer_tag_that_is_no_release_hides_none(checkout: Path, odd: str) -> None:
    commit(checkout)
    git(checkout, "tag", "v1.3.0")
    last = commit(checkout, "more")
    git(checkout, "tag", "-a", odd, "-m", "a note")
    assert of_checkout(checkout) == f"1.3.1.dev1+{last}"


def test_of_two_releases_the_nearest_counts_and_none_of_another_branch(checkout: Path) -> None:
    commit(checkout)
    git(checkout, "tag", "v1.0.0")
    git(checkout, "checkout", "-qb", "other")
    commit(checkout, "elsewhere")
    git(checkout, "tag", "v9.0.0")
    git(checkout, "checkout", "-q", "-")
    commit(checkout, "here")
    git(checkout, "tag", "v1.1.0")
    last = commit(checkout, "later")
    assert of_checkout(checkout) == f"1.1.1.dev1+{last}"


def test_what_is_not_committed_shows_also_at_a_tag_but_not_files_beside_it(checkout: Path) -> None:
    commit(checkout)
    git(checkout, "tag", "v1.0.0")
    (checkout / "notes").write_text("mine")
    assert of_checkout(checkout) == "1.0.0"
    (checkout / "file").write_text("altered")
    assert str(of_checkout(checkout)).startswith("1.0.1.dev0+g")
    assert str(of_checkout(checkout)).endswith(".altered")


def test_a_shallow_clone_does_not_count_what_it_has_not(checkout: Path, tmp_path: Path) -> None:
    commit(checkout)
    last = commit(checkout, "more")
    git(tmp_path, "clone", "-q", "--depth=1", checkout.as_uri(), "shallow")
    assert of_checkout(tmp_path / "shallow") == f"{NEXT}.dev0+{last}"


@pytest.mark.parametrize("name", ["GIT_DIR", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_WORK_TREE", "GIT_NAMESPACE"])
def test_a_hook_s_variables_name_no_other_checkout(checkout: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    last = commit(checkout)
    monkeypatch.setenv(name, str(checkout.parent))
    assert of_checkout(checkout) == f"{NEXT}.dev1+{last}"


def test_a_folder_inside_somebody_else_s_checkout_is_none(checkout: Path) -> None:
    commit(checkout)
    (checkout / "inner").mkdir()
    assert of_checkout(checkout / "inner") is None
    (checkout / "inner" / ".git").mkdir()  # no repository either: git looks further up
    assert of_checkout(checkout / "inner") is None


def test_no_program_that_a_checkout_names_is_started(checkout: Path) -> None:
    commit(checkout)
    watch = checkout.parent / "watch"
    watch.write_text(f"#!/bin/sh\ntouch '{checkout.parent}/started'\n")
    watch.chmod(0o755)
    git(checkout, "config", "core.fsmonitor", str(watch))
    assert of_checkout(checkout) is not None
    assert not (checkout.parent / "started").exists()


def test_without_git_there_is_no_checkout(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(checkout)
    monkeypatch.setenv("PATH", "")
    assert of_checkout(checkout) is None


def test_a_source_archive_says_it_itself(tmp_path: Path) -> None:
    assert of_archive(tmp_path) is None
    (tmp_path / "PKG-INFO").write_text("Metadata-Version: 2.4\nName: crpbot\nVersion: 3.2.1\nRequires-Dist: x\n")
    assert of_archive(tmp_path) == "3.2.1"


def test_the_command_the_package_and_the_checkout_say_the_same() -> None:
    """Also where it was installed for editing many commits ago."""
    done = subprocess.run([sys.executable, "-m", "crpbot", "--version"], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout == f"crpbot {crpbot.__version__}\n"
    assert crpbot.__version__ == code_version()
    if Path(version.__file__).is_relative_to(ROOT) and (found := of_checkout(ROOT)):
        assert code_version().removesuffix(".altered") == found.removesuffix(".altered")
    assert Version(crpbot.__version__) >= Version(f"{NEXT}.dev0")
    assert crpbot.__version__.startswith(release())


def test_a_copy_of_the_sources_alone_has_one_too(tmp_path: Path) -> None:
    (tmp_path / "other" / "crpbot").mkdir(parents=True)
    for file in ("__init__.py", "version.py"):
        (tmp_path / "other" / "crpbot" / file).write_text((Path(crpbot.__file__).parent / file).read_text())
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "other")}
    command = [sys.executable, "-S", "-c", "import crpbot; print(crpbot.__version__)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == f"{NEXT}.dev0\n"


def test_help_and_import_do_not_ask_git() -> None:
    code = "import sys, crpbot, crpbot.cli; print('crpbot.version' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
