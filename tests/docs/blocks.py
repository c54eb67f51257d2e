"""The blocks of a Markdown page, by the convention of CONTRIBUTING.md: what runs, what is written, what is only shown.

    ```sh       commands, run in order in the page's own folder; a comment `# exit code 1` behind one says another code than 0
    ```python   run in one namespace a page, in the same folder
    ```toml title="mine.toml"   written to that file first; without a title it must only parse
    ```json     must parse
    ```text     what was printed

Behind a line `<!-- not run: REASON -->` stands a block that cannot run in a test. `<!-- given: WORDS -->` names what lies in the
page's folder before.
"""

import re
from dataclasses import dataclass

LANGUAGES = ("sh", "python", "toml", "json", "text")
_BLOCK = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\s*\Z")
_GIVEN = re.compile(r"<!-- given: (.+?) -->")
_EXIT_CODE = re.compile(r"\bexit code (\d)\b")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block.

    Attributes:
        language: the first word behind the fence; empty where there is none.
        title: the file that it is written to, if any.
        text: what stands between the fences, without the indentation of the fence.
        line: where it begins in the page, counted from 1.
        not_run: why it cannot run in a test; empty for one that runs.

    """

    language: str
    title: str
    text: str
    line: int
    not_run: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One command of a `sh` block, and the exit code that the page promises."""

    command: str
    exit_code: int = 0


def blocks_of(page: str) -> tuple[Block, ...]:
    """Return the blocks of a Markdown page in order."""
    return tuple(map(_block, _BLOCK.finditer(page)))


def _block(found: re.Match[str]) -> Block:
    indent, info, text = found.groups()
    language, _, rest = info.strip().partition(" ")
    title = re.search(r'title="([^"]+)"', rest)
    reason = _NOT_RUN.search(found.string, 0, found.start())
    return Block(
        language,
        title[1] if title else "",
        re.sub(f"^{indent}", "", text, flags=re.MULTILINE),
        found.string.count("\n", 0, found.start()) + 1,
        reason[1] if reason else "",
    )


def given(page: str) -> tuple[str, ...]:
    """Return what must lie in the page's folder before."""
    return tuple(word for found in _GIVEN.finditer(page) for word in found[1].split())


def lines_of(block: Block) -> tuple[Line, ...]:
    """Return the commands of a `sh` block; a line that ends with a backslash goes on in the next."""
    joined = block.text.replace("\\\n", " ")
    return tuple(_line(one) for one in joined.splitlines() if one.strip() and not one.lstrip().startswith("#"))


def _line(text: str) -> Line:
    command, _, comment = text.partition(" #")
    code = _EXIT_CODE.search(comment)
    return Line(command.strip(), int(code[1]) if code else 0)


def without_blocks(page: str) -> str:
    """Return a page without its fenced blocks and without its `code`, where a bracket is no link."""
    return re.sub(r"`[^`\n]*`", "", _BLOCK.sub("", page))
