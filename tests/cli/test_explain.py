"""`crpbot explain`, as it is called."""

import json

import pytest
from typer.testing import CliRunner

from crpbot.cli import app
from crpbot.errors import CrpbotError
from crpbot.quality.causes.table import CAUSES
from crpbot.quality.gates import MARKET_GATES

RUN = CliRunner()


def test_without_a_cause_all_are_listed_with_one_line_each() -> None:
    lines = RUN.invoke(app, ["explain"]).output.splitlines()
    assert [line.split()[0] for line in lines] == [*CAUSES, *(gate.name for gate in MARKET_GATES)]
    listed = json.loads(RUN.invoke(app, ["explain", "--json"]).output)
    assert [one["name"] for one in listed] == [line.split()[0] for line in lines]


@pytest.mark.parametrize("code", CAUSES)
def test_a_cause_is_told_with_what_was_done_and_what_it_changed(code: str) -> None:
    page = json.loads(RUN.invoke(app, ["explain", code, "--json"]).output)
    words = " ".join(RUN.invoke(app, ["explain", code]).output.replace("│", " ").split())
    assert page["example"]["fault"].split()[-1] in words
    assert "how it is recognised" in words
    assert "71.1 % →" in words or page["name"] == "overfit"


def test_a_lost_scaler_shows_its_logits_before_and_after() -> None:
    words = RUN.invoke(app, ["explain", "lost-normalizer"]).output
    assert "−3.9 to 5.1 → −15," in words


def test_a_gate_is_explained_by_the_causes_whose_examples_fail_it() -> None:
    page = json.loads(RUN.invoke(app, ["explain", "logit-range", "--json"]).output)
    assert {"extreme-logits", "lost-normalizer"} <= set(page["causes"])
    assert "<= 20" in RUN.invoke(app, ["explain", "logit-range"]).output


@pytest.mark.parametrize("name", sorted(set(CAUSES) & {gate.name for gate in MARKET_GATES}))
def test_a_cause_and_a_gate_of_one_name_are_both_told(name: str) -> None:
    page = json.loads(RUN.invoke(app, ["explain", name, "--json"]).output)
    (gate,) = [gate for gate in MARKET_GATES if gate.name == name]
    words = " ".join(RUN.invoke(app, ["explain", name]).output.replace("│", " ").split())
    assert (page["gate"]["name"], page["gate"]["limit"]) == (name, str(gate.limit))
    assert "how it is recognised" in words
    assert "what must hold" in words
    assert str(gate.limit) in words


def test_a_page_says_what_the_list_says_under_the_same_keys() -> None:
    for one in json.loads(RUN.invoke(app, ["explain", "--json"]).output):
        page = json.loads(RUN.invoke(app, ["explain", one["name"], "--json"]).output)
        page = page["gate"] if one["kind"] == "gate" and page["kind"] != "gate" else page
        assert (page["name"], page["kind"]) == (one["name"], one["kind"])
        assert page["meaning"].startswith(one["meaning"].rstrip("."))


@pytest.mark.parametrize(("typed", "meant"), [("lost_normaliser", "lost-normalizer"), ("OverFit", "overfit"), ("", "")])
def test_an_unknown_cause_names_the_nearest(typed: str, meant: str) -> None:
    error = RUN.invoke(app, ["explain", typed]).exception
    assert isinstance(error, CrpbotError)
    assert f"the nearest is {meant}" in str(error)
