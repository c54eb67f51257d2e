"""`crpbot audit` as a user types it: ours, a stranger's with a table of its rows, and errors in one line."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from faults import founding_payload
from models import market, quick
from pipelines import edge
from shell import crpbot

from crpbot.dataset.features.compute import compute_features
from crpbot.errors import DatasetError
from crpbot.factory import audit
from crpbot.making.model import train_model
from crpbot.market.files import write_candles
from crpbot.model.checkpoint import Checkpoint
from crpbot.model.loading import load_checkpoint, open_model, subject_in
from crpbot.model.network import Normalizer
from crpbot.model.pt_file import save_checkpoint
from crpbot.quality.audit.audit import Audit

pytestmark = pytest.mark.slow
ROWS, POINTS = 40_000, 15


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with candles of two symbols, a model of ours of one, and a stranger's copy of it."""
    folder = tmp_path_factory.mktemp("audit")
    (folder / "candles").mkdir()
    for seed, symbol in enumerate(("BTC-USD", "ETH-USD")):
        write_candles(edge(seed, ROWS, POINTS), folder / "candles" / f"{symbol}.parquet")
    train_model("BTC-USD", edge(0, ROWS, POINTS), quick(), source="file", seed=0, folder=folder / "BTC-USD")
    torch.save(founding_payload(ours(folder)), folder / "lstm_BTC-USD_v7_enhanced.pt")
    return folder


def ours(place: Path) -> Checkpoint:
    return load_checkpoint(place / "BTC-USD")


def audited(place: Path, model: str = "BTC-USD", **options: object) -> Audit:
    return audit(place / model, place / "candles", refit=False, **options)


def table(place: Path, name: str, blocks: dict[str, np.ndarray], symbol: str | None = None) -> Path:
    """Write which candles were used for what."""
    parts = [pl.DataFrame({"time": time}).with_columns(block=pl.lit(block)) for block, time in blocks.items()]
    frame = pl.concat(parts)
    path = place / f"{name}.parquet"
    (frame if symbol is None else frame.with_columns(symbol=pl.lit(symbol))).write_parquet(path)
    return path


def test_a_model_of_ours_is_audited_by_its_own_recipe(place: Path) -> None:
    done = crpbot("audit", place / "BTC-USD", "--candles", place / "candles", "--json", place / "audit.json", "--claim", "0.53")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "EARNED (earned) Earned: no leak was found." in done.stdout
    plain = json.loads((place / "audit.json").read_text())
    assert plain["earned"]
    assert [check["name"] for check in plain["checks"]] == [
        "future-overwrite", "test-block", "split-by-time", "purge", "timestamps-across-symbols", "duplicate-rows", "scaler",
        "random-split-illusion", "label-permutation", "trained-again", "label-shift", "one-feature-rule", "level-plus-noise",
        "effective-sample", "luck",
    ]  # fmt: skip


def test_a_claim_of_70_percent_is_refuted(place: Path) -> None:
    done = crpbot("audit", place / "BTC-USD", "--candles", place / "candles", "--claim", "0.70", "--quick", "--json", "-")
    assert done.returncode == 1
    plain = json.loads(done.stdout)
    assert (plain["verdict"], plain["claim"], plain["earned"]) == ("claim-refuted", 0.7, False)


def test_a_scaler_of_all_rows_is_found_in_our_own_file(place: Path) -> None:
    checkpoint = ours(place)
    subject = subject_in(open_model(place / "BTC-USD"))
    x = compute_features(edge(0, ROWS, POINTS), subject.feature_set).values[:-15]
    checkpoint.network.normalizer = Normalizer.fit(x)
    (place / "leaky").mkdir(exist_ok=True)
    save_checkpoint(checkpoint, place / "leaky" / "lstm_BTC-USD_v7_enhanced.pt", probe=x[:10])
    assert audited(place, "leaky").leaks == ("scaler-saw-test-rows",)


def test_without_the_candles_that_it_was_made_from_nothing_is_proven(place: Path) -> None:
    later = edge(0, ROWS, POINTS)[ROWS - 8_000 :]
    found = audit(place / "BTC-USD", later, refit=False)
    assert found.code == "unproven"


def test_a_stranger_s_rows_are_looked_at(place: Path) -> None:
    """The file itself does not tell; a table does: split by time, at random, without a purge, or symbol against symbol."""
    stranger, time = "lstm_BTC-USD_v7_enhanced.pt", edge(0, ROWS, POINTS).time[200:-15]
    cut, origin = int(0.7 * len(time)), ours(place).origin
    assert audited(place, stranger).code == "unproven"
    last = np.searchsorted(time, origin.training_from) + origin.training_rows
    good = table(place, "good", {"train": time[:last], "test": time[last + 300 :]})
    found = audited(place, stranger, rows=good)
    assert found.leaks == ()
    mixed = np.random.default_rng(0).permutation(time)
    at_random = table(place, "random", {"train": mixed[:cut], "test": mixed[cut:]})
    assert audited(place, stranger, rows=at_random).leaks[0] == "random-split"
    unpurged = table(place, "unpurged", {"train": time[:cut], "calibration": time[cut : cut + 500], "test": time[cut + 500 :]})
    assert audited(place, stranger, rows=unpurged).leaks[0] == "no-purge"
    both = pl.concat(
        [
            pl.read_parquet(table(place, "one", {"train": time[: cut - 15], "test": time[cut:]}, "BTC-USD")),
            pl.read_parquet(table(place, "two", {"train": time[: cut + 3_000], "test": time[cut + 3_100 :]}, "ETH-USD")),
        ]
    )
    both.write_csv(place / "both.csv")
    assert audited(place, stranger, rows=place / "both.csv").leaks[0] == "shared-timestamps"


def test_bad_calls_are_one_line(place: Path) -> None:
    rows = table(place, "any", {"train": edge(0, ROWS, POINTS).time[:300], "test": edge(0, ROWS, POINTS).time[300:]})
    (place / "poor.csv").write_text("when,block\n1,train\n")
    (place / "odd.csv").write_text("time,block\n1735689600000,holdout\n")
    model, candles = place / "BTC-USD", ("--candles", place / "candles")
    for words, expected in {
        (model, *candles, "--claim", "70"): "above 0 and at most 1",
        (model, *candles, "--rows", str(rows)): "knows its own rows",
        (place / "lstm_BTC-USD_v7_enhanced.pt", *candles, "--rows", place / "poor.csv"): "missing time",
        (place / "lstm_BTC-USD_v7_enhanced.pt", *candles, "--rows", place / "odd.csv"): "one of train, calibration, test",
        (place / "nothing.pt", *candles): "found nothing",
    }.items():
        done = crpbot("audit", *words)
        assert done.returncode == 2, (words, done.stdout)
        assert expected in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    with pytest.raises(DatasetError, match="at least 1"):
        audited(place, trials=0)


def test_what_a_recipe_knows_of_its_trials_counts_where_it_is_more(place: Path, tmp_path: Path) -> None:
    """`crpbot tune` writes it into the recipe, and the checkpoint keeps it."""
    recipe = dataclasses.replace(quick(epochs=1), trials=25)
    train_model("BTC-USD", edge(0, ROWS, POINTS), recipe, source="file", seed=0, folder=tmp_path / "BTC-USD")
    whoever = "whoever asked"
    for given, trials, counted_by in ((1, 25, "its recipe"), (26, 26, whoever), (lambda own: own.trials + 2, 27, whoever)):
        found = audit(tmp_path / "BTC-USD", place / "candles", refit=False, trials=given)
        assert (found.trials, found.counted_by, found.to_dict()["trials_counted_by"]) == (trials, counted_by, counted_by)
        (luck,) = (check for check in found.checks if check.name == "luck")
        assert f"the best of {trials} tries" in luck.words
        assert f"(tries counted by {counted_by})" in luck.words


def test_an_alarm_is_answered_by_the_audit_and_made_up_candles_do_not_go_live(tmp_path: Path) -> None:
    """A level plus noise, handed in as a file: 70 %, and no market."""
    write_candles(market(rows=120_000), tmp_path / "BTC-USD.parquet")
    train_model("BTC-USD", market(rows=120_000), quick(), source="file", seed=0, folder=tmp_path / "BTC-USD")
    done = crpbot("promote", tmp_path / "BTC-USD", "--candles", tmp_path, "--home", tmp_path / "home")
    assert done.returncode == 1
    assert "made-up-market" in done.stdout
    assert "refused by too-good" in done.stdout
    assert "tries counted by the ledger" in " ".join(done.stdout.split())
    other = tmp_path / "other" / "BTC-USD"
    train_model("BTC-USD", market(rows=120_000), quick(epochs=1), source="file", seed=1, folder=other)
    for model, tries in ((tmp_path / "BTC-USD", 1), (other, 2)):
        again = crpbot("audit", model, "--candles", tmp_path, "--home", tmp_path / "home", "--quick", "--json", "-")
        assert json.loads(again.stdout)["trials"] == tries
