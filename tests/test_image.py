"""The image of the live runtime: small enough, and whole enough. Its first stage runs here, into a folder, without Docker."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import image
import numpy as np
import pytest
from models import market, model
from receiver import Receiver, receiver

from crpbot.dataset.features.compute import compute_features
from crpbot.model.export import export_onnx
from crpbot.model.loading import load_checkpoint

ROOT = Path(__file__).parents[1]
LIVE = ["crpbot.cli", "crpbot.factory", "crpbot.registry", "crpbot.dataset.drift", "crpbot.dataset.features.live"]
LIVE += ["crpbot.market.exchange", "crpbot.model.onnx_file", "crpbot.signals.hear", "crpbot.signals.signal"]
LIVE += [
    ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "src" / "crpbot" / "live").rglob("*.py"))
    if "migrations" not in path.parts  # Alembic runs those itself
]
LIBRARIES = ["alembic", "apprise", "ccxt", "ccxt.pro", "onnxruntime", "prometheus_client", "psycopg", "sqlalchemy"]


def test_the_requirements_are_those_of_the_project() -> None:
    """If not: `python scripts/image.py requirements`."""
    assert image.REQUIREMENTS.read_text() == image.requirements()


def test_the_image_knows_the_version_that_it_was_told(tmp_path: Path) -> None:
    """Git is not sent to whoever builds it."""
    (tmp_path / "crpbot").mkdir()
    for name in ("__init__.py", "version.py"):
        (tmp_path / "crpbot" / name).write_text((ROOT / "src" / "crpbot" / name).read_text())
    image.main(["trim", str(tmp_path), "1.2.3"])
    done = alone(tmp_path, "-c", "import crpbot; print(crpbot.__version__)")
    assert (done.returncode, done.stdout) == (0, "1.2.3\n"), done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if sys.version_info[:2] != (3, 11) or sys.platform != "linux":
        pytest.skip("the image has Python 3.11 on Linux, and so must have who fills it")
    folder = tmp_path_factory.mktemp("image") / "site"
    try:
        image.build(folder)
    except subprocess.CalledProcessError:
        if os.environ.get("CI"):
            raise
        pytest.skip("pip cannot fetch the packages of the image")
    return folder


def alone(site: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run Python with that folder as its only packages, as the image does."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-S", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", env=environment, timeout=300)


@pytest.mark.slow
def test_it_weighs_at_most_400_megabytes(site: Path) -> None:
    assert image.total(site) <= image.LIMIT_MB, "\n".join(image.table(site))
    assert image.total(site) > 200, "it has everything"


@pytest.mark.slow
def test_it_has_no_torch_nothing_that_was_left_out_and_nothing_to_compile(site: Path) -> None:
    for name in ("torch", "sklearn", "scipy", "boto3", "pip", *image.LEFT_OUT):
        done = alone(site, "-c", f"import {name.replace('-', '_')}")
        assert "No module named" in done.stderr or name == "polars-runtime-32", (name, done.stderr)
    sources = {path for path in site.rglob("*.py") if "static_dependencies" not in path.parts}
    compiled = {Path(str(path.parent.parent / path.name.split(".")[0]) + ".py") for path in site.rglob("*.pyc")}
    assert len(sources - compiled) <= 20, sorted(sources - compiled)  # templates that are no Python


@pytest.mark.slow
def test_the_command_line_runs_there(site: Path) -> None:
    done = alone(site, "-m", "crpbot", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "A factory for crypto direction models" in done.stdout
    assert alone(site, "-m", "crpbot", "models", "--home", "/nowhere").returncode == 0


@pytest.mark.slow
def test_everything_of_live_can_be_imported_there(site: Path) -> None:
    code = f"import importlib, sys; [importlib.import_module(name) for name in {[*LIVE, *LIBRARIES]!r}];"
    code += "print([name for name in ('torch', 'polars') if name in sys.modules])"
    done = alone(site, "-W", "ignore::DeprecationWarning", "-c", code)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


@pytest.mark.slow
def test_features_and_predictions_there_are_those_of_here(site: Path, tmp_path: Path) -> None:
    """Also without Polars, whose exponential mean batch features are made with: bit for bit."""
    export_onnx(model(), tmp_path / "model.onnx", checkpoint_sha256="0" * 64)
    candles = market()[-1_000:]
    columns = ("time", "open", "high", "low", "close", "volume")
    np.savez(tmp_path / "candles.npz", **{name: getattr(candles, name) for name in columns})
    code = f"""
import hashlib, json, numpy as np
from pathlib import Path
from crpbot.dataset.features.compute import compute_features
from crpbot.market.candles import Candles
from crpbot.model.loading import load_checkpoint
content = np.load({str(tmp_path / "candles.npz")!r})
columns = compute_features(Candles(**{{name: content[name] for name in {columns!r}}})).values
subject = load_checkpoint(Path({str(tmp_path / "model.onnx")!r}))
print(json.dumps([hashlib.sha256(columns.tobytes()).hexdigest(), subject.predict(columns[-50:]).probabilities.tolist()]))
"""
    done = alone(site, "-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    columns_here = compute_features(candles).values
    here = load_checkpoint(tmp_path / "model.onnx").predict(columns_here[-50:]).probabilities
    digest, there = json.loads(done.stdout)
    assert digest == hashlib.sha256(columns_here.tobytes()).hexdigest()
    assert np.array_equal(np.array(there), here)


@pytest.fixture
def server() -> Iterator[Receiver]:
    with receiver() as box:
        yield box


@pytest.mark.slow
def test_people_are_told_from_there(site: Path, server: Receiver) -> None:
    code = f"""
from crpbot.live.addresses import read_addresses
from crpbot.live.post import deliver
(address,) = read_addresses({{"CRPBOT_NOTIFY": {server.address!r}}})
print(deliver(address, "LONG BTC-USD", "body", str) or "taken")
"""
    done = alone(site, "-c", code)
    assert (done.returncode, done.stdout.strip()) == (0, "taken"), done.stderr
    assert server.titles == ["LONG BTC-USD"]


@pytest.mark.slow
def test_a_table_of_candles_is_refused_there_in_words(site: Path, tmp_path: Path) -> None:
    (tmp_path / "BTC-USD.csv").write_text("time,open,high,low,close,volume\n")
    code = "import sys; from pathlib import Path; from crpbot.market.files import read_candles; read_candles(Path(sys.argv[1]))"
    done = alone(site, "-c", code, tmp_path / "BTC-USD.csv")
    assert "needs Polars, which the image of live leaves out" in done.stderr
