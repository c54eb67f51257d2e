"""Without torch, scikit-learn, scipy and the package that writes ONNX: diagnosing and signals from the deployed form."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import polars as pl
import pytest
import shell
from core import core, core_packages
from models import market, model, quick

from crpbot.cli.options import now
from crpbot.factory import diagnose
from crpbot.making.model import train_model
from crpbot.market.candles import MINUTE, Candles
from crpbot.market.files import write_candles
from crpbot.model.checkpoint import Checkpoint
from crpbot.model.export import export_onnx
from crpbot.quality.report.data import finite
from crpbot.registry.registry import Registry

pytestmark = pytest.mark.slow  # each starts interpreters


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return core_packages(tmp_path_factory.mktemp("core"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, with the candles that it was made from beside it."""
    place = tmp_path_factory.mktemp("trained")
    train_model("BTC-USD", market(), quick(), source="file", seed=0, folder=place / "BTC-USD")
    write_candles(market(), place / "BTC-USD.parquet")
    return place


def crpbot(packages: Path, *words: object) -> CompletedProcess[str]:
    return core(packages, "-m", "crpbot", *words)


@pytest.mark.parametrize("package", ["torch", "sklearn", "scipy", "onnx", "ray", "pandas", "ccxt", "boto3"])
def test_the_extras_are_not_there(packages: Path, package: str) -> None:
    assert f"No module named '{package}'" in core(packages, "-c", f"import {package}").stderr


def test_a_model_folder_is_diagnosed_as_with_torch(packages: Path, folder: Path, tmp_path: Path) -> None:
    outputs = ("--json", tmp_path / "d.json", "--html", tmp_path / "d.html", "--predictions", tmp_path / "p.parquet")
    done = crpbot(packages, "diagnose", folder / "BTC-USD", "--candles", folder / "BTC-USD.parquet", *outputs)
    assert (done.returncode, done.stderr) == (1, "")  # too few rows, as ever
    assert "<svg" in (tmp_path / "d.html").read_text()
    assert pl.read_parquet(tmp_path / "p.parquet").height > 1_000
    found = json.loads((tmp_path / "d.json").read_text())
    assert found["data"]["out_of_sample"] == "yes"
    assert found["model"].pop("path").endswith("model.onnx")
    wanted = diagnose(folder / "BTC-USD", market()).to_dict()
    assert wanted["model"].pop("path").endswith(".pt")
    del found["model"]["sha256"], wanted["model"]["sha256"]
    assert_close(found, wanted)


FAULTS: dict[str, tuple[str, str, Callable[[np.ndarray], np.ndarray]]] = {
    "feature-order": ("fc1.weight", "normalizer", lambda array: array[..., ::-1]),
    "class-order": ("fc4", "fc4", lambda array: array[[2, 1, 0]]),
    "batch-norm-stale": ("bn1.running_mean", "bn1.running_mean", lambda array: array + 3),
    "extreme-logits": ("temperature", "temperature", lambda array: array / 20),
    "dead-units": ("fc2.weight", "fc2.weight", lambda array: array * 0),
    "non-finite-weights": ("fc2.weight", "fc2.weight", lambda array: array * float("nan")),
}
"""By cause: which arrays are changed, by the start of their names, and how."""


def faulty(kind: str) -> Checkpoint:
    if kind == "lost-normalizer":
        return model("v7-lost-scaler")
    *starts, fault = FAULTS[kind]
    weights = model().weights
    changed = weights.changed({name: fault(array) for name, array in weights.arrays.items() if name.startswith(tuple(starts))})
    return dataclasses.replace(model(), network=model().network.with_weights(changed))


@pytest.mark.parametrize("kind", [*FAULTS, "lost-normalizer"])
def test_every_kind_of_cause_is_found_from_the_graph_alone(packages: Path, folder: Path, tmp_path: Path, kind: str) -> None:
    export_onnx(faulty(kind), tmp_path / "model.onnx", checkpoint_sha256="0" * 64)
    done = crpbot(
        packages, "diagnose", tmp_path / "model.onnx", "--candles", folder / "BTC-USD.parquet", "--json", tmp_path / "d.json"
    )
    assert (done.returncode, done.stderr) == (1, "")
    causes = [cause["code"] for cause in json.loads((tmp_path / "d.json").read_text())["causes"]]
    assert kind in causes[:2], causes


def test_a_backtest_is_the_one_with_torch(packages: Path, folder: Path, tmp_path: Path) -> None:
    words = ("backtest", folder / "BTC-USD", "--candles", folder / "BTC-USD.parquet")
    done = crpbot(packages, *words, "--json", tmp_path / "core.json", "--html", tmp_path / "b.html")
    assert (done.returncode, done.stderr) == (0, "")
    assert shell.crpbot(*words, "--json", tmp_path / "whole.json").returncode == 0
    found, wanted = (json.loads((tmp_path / name).read_text()) for name in ("core.json", "whole.json"))
    assert [Path(found.pop("models")[0]).suffix, Path(wanted.pop("models")[0]).suffix] == [".onnx", ".pt"]
    assert found["trades"] == wanted["trades"]
    assert_close(found, wanted)


def test_candles_are_checked_and_made_into_features(packages: Path, folder: Path, tmp_path: Path) -> None:
    candles = folder / "BTC-USD.parquet"
    assert crpbot(packages, "candles", "check", candles).returncode == 0
    assert crpbot(packages, "features", candles, "-o", tmp_path / "f.parquet").returncode == 0
    assert pl.read_parquet(tmp_path / "f.parquet").shape == (12_000 - 199, 73)


def test_a_promoted_model_speaks(packages: Path, folder: Path, tmp_path: Path) -> None:
    home, file = tmp_path / "home", next((folder / "BTC-USD").glob("*.pt"))
    judgement = diagnose(file, market(), source="synthetic")
    verdict = dataclasses.replace(
        judgement.verdict, results=tuple(dataclasses.replace(one, passed=True) for one in judgement.verdict.results)
    )
    Registry(home / "registry").record(dataclasses.replace(judgement, verdict=verdict), file, now=2_000_000_000_000)
    fresh = shifted_to_now(market()[-3_000:])
    write_candles(fresh, tmp_path / "BTC-USD.parquet")
    done = crpbot(packages, "signal", "--home", home, "--candles", tmp_path / "BTC-USD.parquet", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    (signal,) = json.loads(done.stdout)
    assert (signal["symbol"], signal["stage"]) == ("BTC-USD", "shadow")
    assert sum(signal["probabilities"].values()) == pytest.approx(1)
    listed = crpbot(packages, "models", "--home", home)
    assert (listed.returncode, listed.stdout.split()[:2]) == (0, ["BTC-USD", "shadow"])


def shifted_to_now(candles: Candles) -> Candles:
    later = (now() // MINUTE - 1) * MINUTE - int(candles.time[-1])
    return dataclasses.replace(candles, time=candles.time + later)


def test_what_needs_torch_says_so_in_one_line(packages: Path, folder: Path, tmp_path: Path) -> None:
    file = next((folder / "BTC-USD").glob("*.pt"))
    for words in (
        ("diagnose", file, "--candles", folder / "BTC-USD.parquet"),
        ("train", "--symbol", "BTC-USD", "--candles", folder / "BTC-USD.parquet", "--out", tmp_path / "out"),
    ):
        done = crpbot(packages, *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "error: this command needs the extra `train`, found no torch; pip install 'crpbot[train]'\n"


def test_a_form_that_was_put_beside_a_promoted_model_does_not_speak(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "BTC-USD"
    shutil.copytree(folder / "BTC-USD", place)
    honest = (place / "model.onnx").read_bytes()
    export_onnx(faulty("extreme-logits"), place / "model.onnx", checkpoint_sha256="0" * 64)
    file = next(place.glob("*.pt"))
    judgement = diagnose(file, market(), source="synthetic")
    verdict = dataclasses.replace(judgement.verdict, results=())
    registry = Registry(tmp_path / "registry")
    registry.record(dataclasses.replace(judgement, verdict=verdict), file, now=2_000_000_000_000)
    (entry,) = registry.entries()
    assert registry.deployed(entry).read_bytes() == honest


def assert_close(found: object, wanted: object, at: str = "") -> None:
    """The same words and counts, and the same numbers to 1e-5: what float32 leaves of sums in another order."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), at
        for key, value in wanted.items():
            assert_close(found[key], value, f"{at}/{key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), at
        for i, value in enumerate(wanted):
            assert_close(found[i], value, f"{at}/{i}")
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=1e-5, abs=1e-5), at
    else:
        assert found == finite(wanted), at
