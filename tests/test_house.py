"""Rules of the house that no single room can hold."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from faults import FAULTS

import crpbot
from crpbot.quality.audit.audit import PROOFS
from crpbot.quality.audit.check import LEAKS
from crpbot.quality.causes.pages import example_rows, examples
from crpbot.quality.causes.table import CAUSES
from crpbot.quality.gates import MARKET_GATES

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "crpbot"
MODULES = sorted(SOURCE.rglob("*.py"))
RUNGS = [
    *("errors", "disk", "version", "market", "dataset", "model", "quality", "registry"),
    *("signals", "making", "factory", "upkeep", "doctor", "live", "cloud", "web", "cli", "__main__"),
]


def wing(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def wings_imported(path: Path) -> set[str]:
    """Find imports at any depth, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        names += [f"{node.module}.{alias.name}" for alias in node.names] if names == ["crpbot"] else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found |= {name.split(".")[1] for name in names if name.startswith("crpbot.")}
    return found & set(RUNGS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_only_go_down(path: Path) -> None:
    here = wing(path)
    if here == "__init__":
        return
    for there in wings_imported(path):
        assert RUNGS.index(there) <= RUNGS.index(here), f"{here} imports {there}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_room_is_above_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_function_is_above_60_lines_beside_its_docstring(path: Path) -> None:
    if "migrations" in path.parts:  # a table of tables, which never changes again
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            words = 0 if ast.get_docstring(node) is None else first.end_lineno - first.lineno + 1
            assert node.end_lineno - node.lineno + 1 - words <= 60, node.name


def test_the_public_list_is_exact() -> None:
    assert sorted(crpbot._HOMES) == sorted(crpbot.__all__)
    for name in crpbot.__all__:
        assert getattr(crpbot, name).__module__ == crpbot._HOMES[name]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = crpbot.nothing


def test_importing_and_asking_for_help_waits_for_nothing_heavy() -> None:
    code = "import sys, crpbot, crpbot.cli; print([m for m in ('torch','polars','numpy','sklearn') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_nothing_is_unpickled() -> None:
    for path in MODULES:
        text = path.read_text()
        assert "pickle.load" not in text
        for call in re.findall(r"torch\.load\([^\n]*", text):
            assert "weights_only=True" in call


def test_no_machine_and_no_registry_is_named_in_the_project() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    words = ["/opt/" + "wheels", "file:" + "///", "/work" + "/main", "pypi" + ".org", "files.python" + "hosted"]
    for name in listed:
        if Path(name).suffix in {".onnx", ".parquet", ".png", ".pt", ".zip"}:
            continue
        text = (ROOT / name).read_text()
        assert not [word for word in words if word in text], name


def test_every_gate_is_documented_with_its_errors() -> None:
    """`scripts/make_gates.py` writes the page."""
    page = (ROOT / "docs" / "gates.md").read_text()
    for gate in MARKET_GATES:
        assert f"| `{gate.name}` | {gate.measures} | {gate.limit} |" in page


def test_every_leak_and_every_check_is_documented() -> None:
    page = (ROOT / "docs" / "audit.md").read_text()
    for code, leak in LEAKS.items():
        assert f"| `{code}` | {leak.meaning} | {leak.remedy} |" in page
    for name in (*PROOFS, "random-split-illusion", "label-permutation", "trained-again", "one-feature-rule", "luck"):
        assert name in page


def test_every_cause_is_documented_and_the_page_is_of_this_table() -> None:
    """`scripts/make_causes.py` writes the page; a cause that was changed since is found here."""
    page = (ROOT / "docs" / "causes.md").read_text()
    for kind in CAUSES.values():
        assert f"| `{kind.code}` | {kind.severity} | {kind.meaning}" in page
        assert kind.remedy in page
    for fault in FAULTS:
        (row,) = [line for line in page.splitlines() if line.startswith(f"| {fault.name} | `{fault.cause}` |")]
        assert row.count(f"`{fault.cause}`") > 1  # it comes first on made-up candles, on real ones, or on both


def test_every_cause_has_a_page_with_an_example_of_real_numbers() -> None:
    """`scripts/make_causes.py` damages a network for each; `crpbot explain` and the page tell the same."""
    page = (ROOT / "docs" / "causes.md").read_text()
    assert list(examples()) == list(CAUSES)
    for code, kind in CAUSES.items():
        told_of = page.partition(f"### `{code}`")[2].partition("###")[0]
        assert kind.sign in told_of
        assert examples()[code]["fault"] in told_of
        for name, before, after in example_rows(examples()[code]):
            assert f"| {name} | {before} | {after} |" in told_of
