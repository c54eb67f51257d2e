"""docs/reference is what the tables say, and what is written as JSON is what docs/reference says."""

import dataclasses
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import torch
from faults import founding_payload
from journals import keep, signal
from jsonschema import Draft202012Validator
from make_reference import REFERENCE, every_command, flat, pages, parameters, sections, sources_of
from models import market, quick
from schemas import schemas
from typer.testing import CliRunner

from crpbot.cli import app
from crpbot.dataset.features.sets import FEATURE_SETS, feature_set
from crpbot.errors import RecipeError
from crpbot.factory import diagnose
from crpbot.live.journal import open_journal
from crpbot.live.outcome import Outcome
from crpbot.live.records import Event
from crpbot.making.model import train_model
from crpbot.model.loading import load_checkpoint
from crpbot.model.recipe import Recipe, builtin_recipes, load_recipe, recipe_from_dict
from crpbot.quality.causes.table import CAUSES
from crpbot.quality.gates import GATES
from crpbot.registry.registry import Registry

WRITE = "python scripts/make_reference.py"


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    return pages()


# The pages


def page(name: str) -> str:
    return (REFERENCE / name).read_text()


def test_the_pages_are_what_the_tables_say(written: dict[str, str]) -> None:
    """Whatever is new, renamed or gone is named here, with what to run."""
    there = {str(file.relative_to(REFERENCE)): file.read_text() for file in REFERENCE.rglob("*") if file.is_file()}
    assert sorted(there) == sorted(written), f"run {WRITE}"
    for name, text in written.items():
        lines, old = set(text.splitlines()), set(there[name].splitlines())
        assert there[name] == text, f"docs/reference/{name}: run {WRITE}; new {sorted(lines - old)}, gone {sorted(old - lines)}"


def test_the_pages_do_not_depend_on_when_they_are_written(written: dict[str, str]) -> None:
    assert pages() == written


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_every_feature_is_there_with_its_formula(name: str) -> None:
    text = page("features.md").partition(f"## {name}")[2]
    for feature, formula in feature_set(name).formulas.items():
        assert re.search(rf"^\| `{feature}` \| [^|]+ \| \d+ \| `{re.escape(formula)}` \|", text, re.MULTILINE), feature


def test_every_source_belongs_to_a_feature() -> None:
    words = {name.partition("_")[0] for name in feature_set("founding-72").names}
    assert set(sources_of("founding-72")) <= words


def test_every_cause_and_every_gate_is_there() -> None:
    for code in CAUSES:
        assert f"| [`{code}`](../causes.md#{code}) |" in page("causes.md")
        assert f"\n### `{code}`\n" in (REFERENCE.parent / "causes.md").read_text()  # where that leads
    for name, table in GATES.items():
        text = page("gates.md").partition(f"## `{name}`")[2].partition("## ")[0]
        assert [gate.name for gate in table] == re.findall(r"^\| `([a-z0-9-]+)` \|", text, re.MULTILINE)


def test_every_command_has_words_and_an_example_and_every_argument_has_words() -> None:
    text = page("commands.md")
    for name, function in every_command():
        own = text.partition(f"## `crpbot {name}`\n")[2].partition("\n## ")[0]
        assert f"Example: `crpbot {name}" in own, name
        assert own.strip()[0].isupper(), name
        for row in parameters(function):
            assert row in own, name
            assert not row.endswith("|  |\n"), f"{name}: {row}"


def test_what_the_command_line_shows_is_what_the_page_shows() -> None:
    """The page is read off the functions; typer reads them by rules of its own."""
    for name, function in every_command():
        shown = CliRunner().invoke(app, [*name.split(), "--help"], terminal_width=200).stdout
        for row in parameters(function):
            first = re.match(r"\| (?:`|<code>)\[?(-{0,2}[\w-]+)", row)
            assert first is not None
            assert first[1].lower() in shown.lower(), f"{name}: {row}"


SECTIONS = {"": Recipe, **{one.name: get_type_hints(Recipe)[one.name] for one in sections(Recipe)}}


@pytest.mark.parametrize(("section", "kind"), SECTIONS.items(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_key_of_a_recipe_is_there_and_is_what_a_misspelt_one_is_answered_with(section: str, kind: type) -> None:
    text, inner = page("recipe-keys.md"), {one.name for one in sections(kind)}
    for key in {one.name for one in fields(kind)} - inner:
        assert f"| `{f'{section}.{key}'.lstrip('.')}` |" in text
        plain = load_recipe("v7").to_dict()
        (plain[section] if section else plain)[f"{key}x"] = 1
        with pytest.raises(RecipeError, match=rf"found '{key}x'; did you mean {key}\?"):
            recipe_from_dict(plain)


def test_the_command_line_names_every_recipe_of_the_package() -> None:
    text = page("commands.md")
    assert f"| {', '.join(builtin_recipes())}, or a TOML file. |" in text


@pytest.mark.parametrize(
    ("name", "begins", "source"),
    [
        ("gate-errors", "| `", "gates.md"),
        ("seventy", "| BTC-", "log.md"),
        ("seventy", "| ETH-", "log.md"),
        ("seventy", "| SOL-", "log.md"),
    ],
)
def test_what_an_explanation_quotes_still_stands_where_it_is_from(name: str, begins: str, source: str) -> None:
    docs = REFERENCE.parent
    lines = (docs / "explanation" / f"{name}.md").read_text().splitlines()
    quoted = [line for line in lines if line.startswith(begins)]
    assert quoted
    assert set(quoted) <= set((docs / source).read_text().splitlines())


# JSON


def hold(name: str, plain: Any) -> None:
    """Raise what a schema says of a value that was written."""
    Draft202012Validator(json.loads(page(f"schemas/{name}.json"))).validate(plain)


def test_the_schemas_are_schemas_and_say_what_their_fields_mean() -> None:
    for name, schema in schemas().items():
        Draft202012Validator.check_schema(schema)
        assert [path for path, _, words in flat(schema, "") if not words and not path.endswith("format")] == [], name


def test_a_signal_is_as_it_is_described() -> None:
    said = signal().to_dict()
    hold("signal", said)
    nothing = {"side": None, "confidence": None, "probabilities": None, "plan": None}
    hold("signal", dataclasses.replace(signal(), status="no signal", **nothing).to_dict())
    schema = Draft202012Validator(schemas()["signal"])
    assert not schema.is_valid({**said, "more": 1})
    assert not schema.is_valid({key: value for key, value in said.items() if key != "plan"})
    assert not schema.is_valid({**said, "confidence": "0.7"})


def test_a_journal_is_as_it_is_described(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "journal.db")
    for at in (0, 30):
        assert keep(journal, signal(at), at)
    journal.settle_signal(1, Outcome(label=2, hit=True, outcome="take profit", entry_time=1, entry=2.0), now=1)
    journal.events.add(Event(time=1, kind="start", text="a test"))
    journal.close()
    done = CliRunner().invoke(app, ["journal", "--journal", str(tmp_path / "journal.db"), "--json"])
    plain = json.loads(done.stdout)
    assert len(plain["signals"]) == 2
    assert plain["events"]
    hold("journal", plain)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of a tiny network."""
    recipe = quick(epochs=2)
    recipe = dataclasses.replace(recipe, network=dataclasses.replace(recipe.network, hidden=(8, 4)))
    folder = tmp_path_factory.mktemp("made") / "BTC-USD"
    train_model("BTC-USD", market(rows=6_000), recipe, source="synthetic", seed=0, folder=folder)
    return folder


@pytest.mark.slow
def test_what_a_training_leaves_is_as_it_is_described(folder: Path) -> None:
    hold("diagnosis", json.loads((folder / "diagnosis.json").read_text()))
    lines = (folder / "training.jsonl").read_text().splitlines()
    assert len(lines) == 2
    for line in lines:
        hold("epoch", json.loads(line))


@pytest.mark.slow
def test_a_diagnosis_of_a_broken_file_is_as_it_is_described(folder: Path, tmp_path: Path) -> None:
    """A scaler that was lost, with a what-if; a file without a model, where nothing could be measured."""
    payload = founding_payload(load_checkpoint(folder))
    del payload["scaler_mean"], payload["scaler_scale"]
    for name, content in (("lost.pt", payload), ("empty.pt", {"accuracy": 0.71})):
        torch.save(content, tmp_path / name)
        plain = json.loads(diagnose(tmp_path / name, market(rows=6_000), symbol="BTC-USD", source="synthetic").to_json())
        assert plain["causes"]
        assert any(cause["what_if"] for cause in plain["causes"]) == (name == "lost.pt")
        hold("diagnosis", plain)


@pytest.mark.slow
def test_a_line_of_the_ledger_is_as_it_is_described(folder: Path, tmp_path: Path) -> None:
    judgement = diagnose(folder, market(rows=6_000), source="synthetic")
    registry = Registry(tmp_path)
    registry.record(judgement, next(folder.glob("*.pt")), now=1)
    (line,) = (tmp_path / "ledger.jsonl").read_text().splitlines()
    hold("ledger", json.loads(line))
