"""Every block of the documentation runs, is written to its file, or says why it cannot."""

import json
import tomllib
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from docs.blocks import LANGUAGES, Line, blocks_of, given, lines_of
from docs.terminal import WHOLE, Terminal

from docs import terminal as terminals

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@every_page
def test_every_block_says_what_it_is(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    blocks = blocks_of(text)
    fences = [line for line in text.splitlines() if line.lstrip().startswith(("```", "~~~")) and "````" not in line]
    assert len(blocks) * 2 == len(fences)  # none is hidden by its form
    for block in blocks:
        assert block.language in LANGUAGES or block.not_run, f"{page.name}:{block.line}: {block.language or 'no language'}"


@every_page
def test_every_table_of_keys_can_be_read(page: Path) -> None:
    for block in blocks_of(page.read_text(encoding="utf-8")):
        if block.language == "json" and not block.not_run:
            json.loads(block.text)
        if block.language == "toml" and not block.not_run:
            assert tomllib.loads(block.text), block.line


@pytest.mark.slow
@every_page
def test_the_blocks_of_a_page_run(
    page: Path, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On fewer rows and epochs than a page names: see `short.py`. CRPBOT_WHOLE_DOCS runs whole what is given nothing."""
    text = page.read_text(encoding="utf-8")
    blocks = [block for block in blocks_of(text) if block.language in {"sh", "python", "toml"} and not block.not_run]
    if not blocks:
        return
    monkeypatch.setenv("CRPBOT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    terminal = Terminal(tmp_path, whole=WHOLE and not given(text))
    for wanted in given(text):
        if wanted == "aws":
            request.getfixturevalue("cloud_on_loopback")
        else:
            terminal.bring(request.getfixturevalue("pantry"), wanted)
    for block in blocks:
        terminal.run(block)


@pytest.mark.parametrize(
    ("promised", "rows", "allowed"), [(0, "few", {0, 1}), (0, "all", {0}), (1, "few", {1}), (1, "all", {1}), (2, "few", {2})]
)
def test_a_verdict_on_few_rows_may_be_a_no_but_never_a_yes_that_nobody_promised(
    promised: int, rows: str, allowed: set[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(code: int) -> bool:
        monkeypatch.setattr(terminals, "crpbot", lambda *words, **_: CompletedProcess(words, code, "", ""))
        try:
            Terminal(tmp_path, whole=rows == "all").type(Line("crpbot diagnose models", promised))
        except AssertionError:
            return False
        return True

    assert {code for code in range(4) if ends(code)} == allowed


def test_a_block_is_found_with_its_language_its_title_and_its_reason() -> None:
    toml = 'a\n```toml title="a.toml"\nb = 1\n```\n'
    machine = "<!-- not run: it needs a machine -->\n```sh\nhalt\n```\n"
    page = f"{toml}{machine}```sh\ncrpbot x \\\n  y # exit code 2\n# c\n```\n"
    written, left, run = blocks_of(page)
    assert (written.language, written.title, written.text, written.line, written.not_run) == ("toml", "a.toml", "b = 1\n", 2, "")
    assert left.not_run == "it needs a machine"
    assert [(line.command, line.exit_code) for line in lines_of(run)] == [("crpbot x    y", 2)]
    assert given("<!-- given: candles models -->") == ("candles", "models")
