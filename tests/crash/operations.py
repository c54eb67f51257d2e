"""What is killed: everything that keeps something on the disk, each small enough to be done hundreds of times."""

import dataclasses
import hashlib
import io
import json
import pickle
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from crash.killing import Operation, digests, forked
from journals import keep, signal
from live.worlds import as_if_passed
from models import market, quick

from crpbot import factory
from crpbot.dataset.features.compute import compute_features
from crpbot.dataset.features.files import write_features
from crpbot.dataset.features.sets import feature_set
from crpbot.disk import write_whole
from crpbot.live.journal import open_journal
from crpbot.making import model as making
from crpbot.market.files import read_candles
from crpbot.market.formats import write_foreign
from crpbot.market.lake import Lake
from crpbot.market.synthetic import make_market
from crpbot.model.export import to_onnx
from crpbot.model.folder import ONNX_NAME
from crpbot.model.loading import load_checkpoint, open_model
from crpbot.model.recipe import Recipe, load_recipe
from crpbot.model.scaler import read_scaler
from crpbot.model.state import load_state, save_state
from crpbot.registry.entries import add_up
from crpbot.registry.registry import Registry

torch.set_num_threads(1)
ROWS = 3_000
CANDLES = market(rows=ROWS)
NOW = 1_900_000_000_000


def tiny() -> Recipe:
    """Return a recipe that is trained in a moment."""
    recipe = quick(epochs=2)
    return dataclasses.replace(recipe, network=dataclasses.replace(recipe.network, hidden=(4, 3)))


@cache
def prepared() -> tuple[Any, Any, bytes]:
    """Return what `make_model` gives, its judgement, and its file.

    Made in a fork: features are computed by Polars, whose threads would be missing in every fork after that.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        assert forked(folder, _prepare) == 0
        return pickle.loads((folder / "prepared").read_bytes())  # noqa: S301  our own, of a moment ago


def _prepare(folder: Path) -> None:
    made = making.make_model("BTC-USD", CANDLES, tiny(), source="file", seed=0)
    file, judgement = as_if_passed(made[0], CANDLES, folder)
    (folder / "prepared").write_bytes(pickle.dumps((made, judgement.settled(), file.read_bytes())))


def trained() -> tuple[Any, Any, Any]:
    return prepared()[0]


def warm_up() -> None:
    """Make once, before anything is forked, what every operation begins with."""
    to_onnx(trained()[0], checkpoint_sha256="0" * 64)
    two_months()


def nothing(_: Path) -> None:
    """Begin with an empty folder."""


def whole_files(folder: Path) -> None:
    """Read every file that bears its final name with its own reader."""
    for name in digests(folder):
        path = folder / name
        if path.suffix == ".pt" or path.name == ONNX_NAME:
            load_checkpoint(path)
        elif path.suffix == ".pkl":
            read_scaler(path)
        elif path.suffix == ".toml":
            load_recipe(str(path))
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".html":
            assert path.read_text().rstrip().endswith("</html>"), name
        elif path.suffix in {".parquet", ".csv"} and "features" not in name:
            read_candles(path)


# A model folder


def make(folder: Path) -> None:
    making.train_model("BTC-USD", CANDLES, tiny(), source="file", seed=0, folder=folder / "BTC-USD")


def deliver(folder: Path) -> None:
    """Write all that is delivered of a model that was trained and judged before: the points are the same, the minutes are not."""
    known = {"make_model": trained(), "diagnose_subject": None, "weigh": prepared()[1]}
    with mock.patch.multiple(making, **{name: lambda *_, found=found, **__: found for name, found in known.items()}):
        make(folder)


def another_model(folder: Path) -> None:
    """Let the files of an earlier model stand there, which differ in every byte that matters."""
    deliver(folder)
    there = folder / "BTC-USD"
    judged = json.loads((there / "diagnosis.json").read_text())
    judged["model"]["sha256"] = "0" * 64
    (there / "diagnosis.json").write_text(json.dumps(judged))
    to_other = to_onnx(trained()[0], checkpoint_sha256="0" * 64)
    (there / ONNX_NAME).write_bytes(to_other)
    (there / "lstm_BTC-USD_v7_enhanced.pt").write_bytes(prepared()[2])
    (there / "scaler_ETH-USD.pkl").write_bytes((there / "scaler_BTC-USD.pkl").read_bytes())


def one_model(folder: Path) -> None:
    """Every file is whole, and what says of which checkpoint it is stands beside that one, or beside none."""
    whole_files(folder)
    there = folder / "BTC-USD"
    files = {hashlib.sha256(file.read_bytes()).hexdigest() for file in there.glob("*.pt")}
    said = set()
    if (there / "diagnosis.json").exists():
        said.add(json.loads((there / "diagnosis.json").read_text())["model"]["sha256"])
    if (there / ONNX_NAME).exists():
        said.add(dict(open_model(there / ONNX_NAME).payload)["checkpoint_sha256"])
    before = {"0" * 64}  # as what stands there at first says
    assert len(said) <= 1, said
    assert not said or said <= files or said == before, (said, files)
    assert said != before or files == {hashlib.sha256(prepared()[2]).hexdigest()}, "an earlier model beside the new checkpoint"


def ends_training(folder: Path) -> Mapping[str, Any]:
    """The history says how long each epoch took; everything else has no clock in it."""
    history = [json.loads(line) | {"seconds": 0} for line in (folder / "BTC-USD" / "training.jsonl").read_text().splitlines()]
    return {**digests(folder), "BTC-USD/training.jsonl": history}


def export(folder: Path) -> None:
    opened = open_model(folder / "BTC-USD")
    factory.export(opened, out=folder / "out.onnx", form="onnx")
    factory.export(open_model(folder / "BTC-USD"), out=folder / "seed.pt", form="seed")


def whole_export(folder: Path) -> None:
    whole_files(folder / "BTC-USD")
    for name in ("out.onnx", "seed.pt"):
        if (folder / name).exists():
            load_checkpoint(folder / name)


def lost(folder: Path) -> None:
    """A checkpoint that lost its scaler, as a foreign file."""
    checkpoint = trained()[0]
    state = {
        name: torch.from_numpy(np.array(array)) for name, array in checkpoint.weights.arrays.items() if "normalizer" not in name
    }
    buffer = io.BytesIO()
    torch.save({"model_state_dict": state, "feature_columns": list(checkpoint.features)}, buffer)
    (folder / "lost.pt").write_bytes(buffer.getvalue())


def repair(folder: Path) -> None:
    factory.repair(
        open_model(folder / "lost.pt"), CANDLES, source="file", out=folder / "repaired.pt", label_recipe=load_recipe("v7")
    )


def state(folder: Path) -> None:
    for epoch in range(3):
        save_state(folder / "a.state", "key", {"w": torch.full((50,), float(epoch))}, {"epoch": epoch})


def whole_state(folder: Path) -> None:
    if (folder / "a.state").exists():
        found = load_state(folder / "a.state", "key")
        assert found is not None
        assert (found[0]["w"] == found[1]["epoch"]).all()


# The registry


def to_promote(folder: Path) -> None:
    (folder / "in").mkdir()
    (folder / "in" / "lstm_BTC-USD_v7_enhanced.pt").write_bytes(prepared()[2])


def promote(folder: Path) -> None:
    """Promote a model, retire it, and promote it again, going on where an earlier try was."""
    registry = Registry(folder / "registry")
    file = folder / "in" / "lstm_BTC-USD_v7_enhanced.pt"
    for wanted in ("live", "shadow", "live"):
        done = len(registry.lines())
        if done >= {"live": 1, "shadow": 2}.get(wanted, 0) and not (wanted == "live" and done == 2):
            continue
        if wanted == "shadow":
            registry.demote(registry.entries()[0], now=NOW + 1, why="a test")
        else:
            registry.record(prepared()[1], file, now=NOW + done, who="me")


def whole_registry(folder: Path) -> None:
    """The chain is whole, and of whatever it says may speak, every file is what it was."""
    registry = Registry(folder / "registry")
    for entry in registry.entries(every=True):
        registry.checkpoint(entry)
        load_checkpoint(registry.deployed(entry))
    assert len(add_up(registry.lines()).entries) <= 1


def ends_registry(folder: Path) -> Mapping[str, Any]:
    """The files but for the ledger, whose lines say by whom and when; and what they add up to."""
    found = {name: digest for name, digest in digests(folder).items() if "ledger" not in name}
    registry = Registry(folder / "registry")
    return {**found, "moves": [(line.move, line.sha256, line.stage) for line in registry.lines()]}


# Candles and tables


def half_a_lake(folder: Path) -> None:
    Lake(folder / "lake").add("BTC-USD", two_months()[:1_500], venue="here")


@cache
def two_months() -> Any:
    candles = make_market("random-walk", "BTC-USD", rows=2_600)
    return dataclasses.replace(candles, time=candles.time - candles.time[0] + 1_706_658_000_000)  # the last day of January 2024


def add(folder: Path) -> None:
    lake = Lake(folder / "lake")
    with lake.lock("BTC-USD"):
        lake.add("BTC-USD", two_months()[1_000:], venue="there", asked=(1_706_658_000_000, 1_706_658_000_000 + 60_000 * 2_700))


def whole_lake(folder: Path) -> None:
    """Every candle that was there is there, and those of the new ones that are, are as they are meant."""
    lake = Lake(folder / "lake")
    found, wanted = lake.read("BTC-USD"), two_months()
    assert set(wanted.time[:1_500].tolist()) <= set(found.time.tolist())
    places = np.searchsorted(wanted.time, found.time)
    np.testing.assert_array_equal(found.close, wanted.close[places])
    assert lake.manifest("BTC-USD").rows == len(found)
    assert not lake.damaged("BTC-USD")


def ends_lake(folder: Path) -> Mapping[str, Any]:
    lake = Lake(folder / "lake")
    return {**digests(folder), "damaged": lake.damaged("BTC-USD"), "rows": lake.manifest("BTC-USD").rows}


def tables(folder: Path) -> None:
    """Write candles for others, features, and what backtests and diagnoses write."""
    for name in ("BTC-USD.csv", "BTC-USD.parquet"):
        write_foreign(two_months()[:400], folder / name, symbol="BTC-USD")
    write_features(
        compute_features(two_months()[:400], feature_set("relative-72")), two_months()[:400], folder / "features.parquet"
    )
    write_whole(folder / "diagnosis.json", prepared()[1].to_json())


# The journal


def journal(folder: Path) -> None:
    opened = open_journal(folder / "journal.db")
    for at in range(6):
        with opened.batch():
            keep(opened, signal(at), at)
            keep(opened, signal(at, symbol="ETH-USD"), at)
    opened.close()


def pairs(folder: Path) -> Mapping[str, Any]:
    """Return what a journal holds, by the minute: both signals of a batch, or none."""
    if not (folder / "journal.db").exists():
        return {}
    opened = open_journal(folder / "journal.db")
    found: dict[str, list[str]] = {}
    for one in opened.signals(limit=100):
        found.setdefault(str(one.candle), []).append(one.symbol)
    opened.close()
    return {candle: sorted(symbols) for candle, symbols in sorted(found.items())}


def whole_journal(folder: Path) -> None:
    assert all(symbols == ["BTC-USD", "ETH-USD"] for symbols in pairs(folder).values())


OPERATIONS: dict[str, Operation] = {
    "deliver": Operation(
        what="the files of a model folder, trained before, over another model",
        begin=another_model,
        act=deliver,
        whole=one_model,
        ends=digests,
        points=100,
    ),
    "train": Operation(what="a model folder, training included", begin=nothing, act=make, whole=whole_files, ends=ends_training),
    "export": Operation(
        what="the deployed and the founding form", begin=deliver, act=export, whole=whole_export, ends=digests, points=33
    ),
    "repair": Operation(what="a repaired checkpoint", begin=lost, act=repair, whole=whole_files, ends=digests, points=11),
    "state": Operation(what="the state of a training", begin=nothing, act=state, whole=whole_state, ends=digests, points=33),
    "registry": Operation(
        what="promote, demote, promote again", begin=to_promote, act=promote, whole=whole_registry, ends=ends_registry, points=58
    ),
    "lake": Operation(
        what="candles into two months of a lake", begin=half_a_lake, act=add, whole=whole_lake, ends=ends_lake, points=35
    ),
    "tables": Operation(
        what="candles for others, features, a diagnosis", begin=nothing, act=tables, whole=whole_files, ends=digests, points=41
    ),
    "journal": Operation(
        what="six batches of two signals", begin=nothing, act=journal, whole=whole_journal, ends=pairs, points=50
    ),
}
"""By name."""
