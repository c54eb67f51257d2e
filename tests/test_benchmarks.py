"""What the page of benchmarks says is what was measured, and everything in benchmarks/ is measured by the one command."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import __main__ as command
from benchmarks import measuring
from benchmarks.measuring import ROOT, Call, machine, versions
from benchmarks.page import TITLES, line, page, plain_text
from benchmarks.results import FORMAT, Budget, Figure, Growth, Row, failures_of, plain

RESULTS = ROOT / "docs" / "benchmarks" / "results.json"
TIMES = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=4).map(tuple)


OURS = Figure(values=(2.0, 1.0))


def row(ours: Figure = OURS, **changes: Any) -> Row:
    return Row(**{"work": "walking", "unit": "s", "ours": ours, "others": {"a horse": Figure(values=(3.0, 4.0))}, **changes})


def results(*rows: Row, growth: tuple[Growth, ...] = (), failed: str = "", name: str = "features") -> dict[str, Any]:
    """Return a file of one group, as it is read again."""
    about = {"commit": "0" * 12, "date": "2026-11-28 02:30 UTC", "quick": False, "load": 0.0, "seconds": 1.0}
    group = {**about, "failed": failed, "rows": [one.to_dict() for one in rows], "growth": [vars(one) for one in growth]}
    whole = {"format": FORMAT, "machine": machine(), "versions": {"crpbot": "1"}, "groups": {name: group}}
    return json.loads(json.dumps(plain(whole)))


@given(TIMES, TIMES, st.sampled_from(["less", "more"]))
def test_a_ratio_above_one_is_ours_ahead_whichever_way_is_better(ours: tuple, theirs: tuple, better: Any) -> None:
    one = row(Figure(values=ours), others={"it": Figure(values=theirs)}, better=better)
    ahead = min(ours) <= min(theirs) if better == "less" else max(ours) >= max(theirs)
    assert (one.ratios()["it"] >= 1) == ahead


def test_a_row_is_read_again_as_it_was_written() -> None:
    whole = row(budget=Budget(text="twice", limit=2.0, against="a horse"), why="legs", data="a field", what="p50")
    assert Row.of(json.loads(json.dumps(plain(whole.to_dict())))) == whole


def test_the_page_is_what_the_results_say() -> None:
    text = page(results(row(budget=Budget(text="at least twice", limit=2.0, against="a horse"))))
    assert "| walking | s | **1.00 ±100 %** | a horse: 3.00 ±33 % (3.00×) | at least twice | met |" in text
    assert "0" * 12 in text
    assert "2026-11-28" in text


def test_where_ours_is_not_first_the_row_says_why_and_elsewhere_it_does_not() -> None:
    slow = row(Figure(values=(6.0,)), why="four legs are more", budget=Budget(text="at most 5 s", limit=5.0))
    assert "**missed**; behind a horse: four legs are more" in line(slow)
    assert "four legs" not in line(dataclasses.replace(slow, ours=Figure(values=(1.0,))))
    assert "no reason is known" in line(dataclasses.replace(slow, why=""))


@pytest.mark.parametrize("who", ["crpbot", "a horse"])
def test_whoever_failed_is_shown_and_meets_no_budget(who: str) -> None:
    broken = Figure(failed="a broken leg")
    one = row(budget=Budget(text="at least twice", limit=2.0, against="a horse"))
    one = dataclasses.replace(one, **({"ours": broken} if who == "crpbot" else {"others": {"a horse": broken}}))
    assert one.met is False
    text = page(results(one))
    assert f"- features, walking: {who}: a broken leg" in text
    assert "**failed**" in line(one)


def test_a_group_that_failed_is_shown_with_what_it_had_measured() -> None:
    text = page(results(row(), failed="was cut off"))
    assert "**failed**: was cut off" in text
    assert "| walking |" in text


def test_a_size_that_was_left_out_says_why() -> None:
    measured = Growth(work="walking", rows=1_000, seconds=0.5, mib=2.0)
    left, failed = Growth(work="walking", rows=10_000, left="about 9 days"), Growth(work="running", rows=1_000, failed="no air")
    text = page(results(growth=(measured, left, failed), name="growth"))
    assert "- growth, running, 1,000 rows: no air" in text
    assert "| walking | 1,000 | 0.500 | 500 | 2 | |" in text
    assert "| walking | 10,000 | — | — | — | left out: about 9 days |" in text


def test_a_group_that_fails_loses_nothing_and_the_command_says_no(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        @staticmethod
        def measure(_: object) -> Any:
            yield row()
            raise ValueError("the field is closed")

    monkeypatch.setattr(command.importlib, "import_module", lambda _: Broken)
    assert command.main(["--only", "features", "--quick", "--out", str(tmp_path / "bench")]) == 1
    found = json.loads((tmp_path / "bench" / "results.json").read_text())
    assert found["groups"]["features"]["rows"][0]["work"] == "walking"
    assert failures_of(found) == ["features: ValueError: the field is closed"]
    assert (tmp_path / "bench.md").read_text() == page(found)


def test_results_of_another_machine_are_not_added_to(tmp_path: Path) -> None:
    other = results(row())
    (tmp_path / "results.json").write_text(json.dumps(other))
    assert command.begin(tmp_path)["groups"] == {}  # other versions
    (tmp_path / "results.json").write_text(json.dumps({**other, "versions": versions()}))
    assert list(command.begin(tmp_path)["groups"]) == ["features"]


def test_every_file_is_part_of_the_one_command() -> None:
    tools = {"__init__", "__main__", "measuring", "results", "page", "contenders"}
    files = {file.stem for file in (ROOT / "benchmarks").glob("*.py")} - tools
    assert files == {*command.USUAL, *command.LONG} == set(TITLES)
    for name in files:
        assert "\ndef measure(scale: Scale)" in (ROOT / "benchmarks" / f"{name}.py").read_text()
    assert "python -m benchmarks" in (ROOT / "Makefile").read_text()


def test_an_unknown_name_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(["--only", "flying"])
    assert "features" in capsys.readouterr().err


def test_the_page_in_the_docs_is_of_the_results_there() -> None:
    assert (ROOT / "docs" / "benchmarks.md").read_text() == page(json.loads(RESULTS.read_text()))


def test_the_results_in_the_docs_say_what_they_are_of() -> None:
    found = json.loads(RESULTS.read_text())
    assert found["format"] == FORMAT
    assert {"processor", "cores", "memory_gib", "system", "python"} <= set(found["machine"])
    assert {"crpbot", "pandas", "polars", "ta-lib", "torch", "skorch", "lightning"} <= set(found["versions"])
    for name, group in found["groups"].items():
        assert len(group["commit"]) >= 12
        assert group["date"].endswith("UTC")
        if name in {"features", "live", "training", "diagnosis", "backtest", "drift", "inference"} and not group["failed"]:
            assert any("sha256" in one["data"] for one in group["rows"])
            assert plain_text(found, [name])


def test_a_contender_that_fails_is_asked_no_more_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def answer(call: Call) -> dict[str, float]:
        asked.append(call.function)
        if call.function == "bad":
            raise RuntimeError("a broken leg")
        return {"seconds": float(len(asked))}

    monkeypatch.setattr(measuring, "ask", answer)
    turns = measuring.in_turns({"bad": Call(function="bad"), "good": Call(function="good")}, 3)
    assert asked == ["bad", "good", "good", "good"]  # in turns
    assert turns.figure("good", "seconds") == Figure(values=(2.0, 3.0, 4.0))
    assert turns.figure("bad", "seconds") == Figure(failed="a broken leg")


@pytest.mark.slow
def test_a_process_of_its_own_answers_or_says_in_one_line_why_not() -> None:
    there, missing = (Call(function="start:importing", arguments={"modules": [name]}) for name in ("colorsys", "nothing_at_all"))
    assert measuring.ask(there)["seconds"] >= 0
    with pytest.raises(RuntimeError, match=r"No module named 'nothing_at_all'$"):
        measuring.ask(missing)
