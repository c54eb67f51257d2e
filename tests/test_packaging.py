"""The wheel and the source archive: they hold the package, all of it and nothing else, and it works where it is installed."""

import os
import re
import subprocess
import sys
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
import release
from core import core_packages

import crpbot

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow  # it builds, installs and starts interpreters


def fetched(error: subprocess.CalledProcessError) -> None:
    """Skip where uv could not fetch what it needs, or raise: CI must be able to, and any other failure is one."""
    offline = re.search(r"error sending request|failed to fetch|dns error|connect", str(error.stderr), re.IGNORECASE)
    if os.environ.get("CI") or not offline:
        pytest.fail(str(error.stderr))
    pytest.skip("uv cannot fetch what it needs")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    try:
        return release.build(tmp_path_factory.mktemp("dist"))
    except subprocess.CalledProcessError as error:
        fetched(error)
        raise


@pytest.fixture(scope="module")
def wheel(built: tuple[Path, Path]) -> dict[str, bytes]:
    return release.wheel_files(built[0])


@pytest.fixture(scope="module")
def archive(built: tuple[Path, Path]) -> dict[str, bytes]:
    return release.archive_files(built[1])


@pytest.fixture(scope="module")
def metadata(wheel: dict[str, bytes]) -> Message:
    (name,) = [name for name in wheel if name.endswith(".dist-info/METADATA")]
    return message_from_bytes(wheel[name])


def test_the_wheel_holds_the_package_whole_and_nothing_else(wheel: dict[str, bytes]) -> None:
    package = {name.removeprefix("src/") for name in release.tracked("src/crpbot")}
    assert {name for name in wheel if name.startswith("crpbot/")} == package
    beside = {name.partition(".dist-info/")[2] for name in wheel if not name.startswith("crpbot/")}
    assert beside == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    for name in package:
        assert wheel[name] == (ROOT / "src" / name).read_bytes(), name


def test_the_wheel_holds_what_is_no_module() -> None:
    """Named here, lest they all vanish from the source at once."""
    package = {name.removeprefix("src/crpbot/") for name in release.tracked("src/crpbot")}
    wanted = {"py.typed", "web/demo.zip", "quality/causes/examples.json", "live/migrations/versions/first.py", "cloud/start.sh"}
    wanted |= {f"market/sample/{symbol}-USD.parquet" for symbol in ("BTC", "ETH", "SOL")}
    assert wanted <= package
    for folder in ("model/recipes/", "dataset/features/sets/", "web/templates/", "web/static/", "making/spaces/"):
        assert any(name.startswith(folder) for name in package), folder
    assert not [name for name in package if "__pycache__" in name or "test" in name.split("/")]


def test_the_source_archive_holds_what_the_wheel_is_made_of(archive: dict[str, bytes]) -> None:
    """The wheel was made from it: that is what `release.build` does."""
    beside = {".gitignore", "CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"}
    assert archive.keys() == release.tracked("src/crpbot") | beside


def test_the_metadata_is_complete(metadata: Message, wheel: dict[str, bytes]) -> None:
    assert metadata["Name"] == "crpbot"
    assert metadata["Version"] == crpbot.__version__
    assert (metadata["License-Expression"], metadata["Requires-Python"]) == ("MIT", ">=3.11")
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload(decode=True).decode().strip() == (ROOT / "README.md").read_text().strip()  # type: ignore[union-attr]
    spoken = {line.rpartition(" ")[2] for line in metadata.get_all("Classifier", []) if "Python :: 3.1" in line}
    assert spoken == set(release.PYTHONS)
    assert set(metadata.get_all("Provides-Extra", [])) == set(release.extras())
    assert b"crpbot = crpbot.cli:main" in next(content for name, content in wheel.items() if name.endswith("entry_points.txt"))


@pytest.fixture(scope="module")
def installed(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and, linked, what its dependencies are here: the folder of its commands."""
    folder = tmp_path_factory.mktemp("installed")
    python = release.environment(folder / "venv", "--no-deps", "--offline", built[0])
    packages = core_packages(folder)
    (site,) = (
        (folder / "venv").glob("lib/python*/site-packages") if sys.platform != "win32" else [folder / "venv/Lib/site-packages"]
    )
    (site / "core.pth").write_text(f"{packages}\n")
    return python.parent


def call(installed: Path, program: str, *words: str) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run([installed / program, *words], capture_output=True, text=True, check=False, cwd=installed, env=clean)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_what_is_installed_is_what_is_imported_and_is_typed(installed: Path) -> None:
    code = "import crpbot, importlib.resources as r; print(crpbot.__file__); print((r.files('crpbot') / 'py.typed').is_file())"
    file, typed = call(installed, "python", "-c", code).splitlines()
    assert Path(file).is_relative_to(installed.parent)
    assert typed == "True"


def test_the_command_of_the_wheel_works_and_knows_its_version(installed: Path, metadata: Message) -> None:
    assert call(installed, "crpbot", "--version") == f"crpbot {metadata['Version']}\n"
    assert "A factory for crypto direction models" in call(installed, "crpbot", "--help")
    assert "true_range" in call(installed, "crpbot", "features", "--list")
    assert "lost-normalizer" in call(installed, "crpbot", "explain", "lost-normalizer")


def test_the_core_install_weighs_at_most_350_megabytes_and_400_with_bytecode(built: tuple[Path, Path], tmp_path: Path) -> None:
    """As `pip install crpbot` resolves it today, without what constraints.txt says."""
    try:
        release.uv("pip", "install", "--quiet", "--compile-bytecode", "--python", sys.executable, "--target", tmp_path, built[0])
    except subprocess.CalledProcessError as error:
        fetched(error)
    found, compiled = release.weights(tmp_path)
    whole = sum(found.values())
    most = "".join(f"\n{size / 1e6:7.1f} MB  {name}" for name, size in found.most_common(8))
    assert whole <= release.CORE_MB * 1e6, most
    assert whole + compiled <= release.CORE_COMPILED_MB * 1e6, f"{compiled / 1e6:.1f} MB of bytecode{most}"
    assert compiled > 1e6
    assert not {"torch", "sklearn", "scipy"} & found.keys()


@pytest.mark.parametrize(("python", "system"), [("3.12", "windows"), ("3.13", "linux"), ("3.13", "macos")])
def test_there_are_wheels_of_the_pinned_versions_for(python: str, system: str) -> None:
    """`make resolve` asks for all of them."""
    try:
        found = release.resolve(python, system)
    except subprocess.CalledProcessError as error:
        fetched(error)
    else:
        assert len(found.splitlines()) > 100


def test_there_are_wheels_of_the_lowest_versions() -> None:
    try:
        found = release.lowest().splitlines()
    except subprocess.CalledProcessError as error:
        fetched(error)
    else:
        for name in ("numpy", "onnxruntime", "polars", "rich", "typer"):
            (bound,) = [text for text in metadata_of_the_core() if text.startswith(f"{name}>=")]
            (pinned,) = [line for line in found if line.startswith(f"{name}==")]
            assert f"{pinned.replace('==', '>=')}.".startswith(f"{bound}."), (pinned, bound)


def metadata_of_the_core() -> list[str]:
    return re.findall(r'^    "([a-z]+>=[0-9.]+)",', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
