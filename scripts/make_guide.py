"""Run the pages of the guide and write what was printed into them: `python scripts/make_guide.py [PAGE …]`, minutes on two cores.

Between `<!-- output -->` and `<!-- /output -->` of a page stands what its commands have printed since the last such place:
`<!-- output: from "A" to "B" -->` keeps the lines from the first that holds A to the first after it that holds B.
"""

import os
import re
import sys
import textwrap
from itertools import dropwhile
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))

from docs.blocks import blocks_of, given  # noqa: E402  the tests run the same pages
from docs.pantry import stock  # noqa: E402
from docs.terminal import Terminal  # noqa: E402

WIDTH = 96
PAGES = ["docs/tutorial.md", *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs" / "how-to").glob("*.md"))]
_TABLE = tuple("┏┃┡│├└┌")
_OUTPUT = re.compile(
    r'<!-- output(?:: (?:from "(.+?)")? ?(?:to "(.+?)")?)? -->\n(?:(?!<!-- /output -->).)*<!-- /output -->', re.DOTALL
)


def main() -> None:
    """Make the pages that are named, or all."""
    os.environ["COLUMNS"] = str(WIDTH)
    with TemporaryDirectory() as pantry:
        stock(Path(pantry))
        for name in sys.argv[1:] or PAGES:
            page = ROOT / name
            text = page.read_text(encoding="utf-8")
            if _OUTPUT.search(text):
                page.write_text(made(text, Path(pantry)), encoding="utf-8")
                print(name)


def made(page: str, pantry: Path) -> str:
    """Return a page with what its blocks print now; they run as they are, on the rows and epochs that they name."""
    with TemporaryDirectory() as folder:
        os.environ["CRPBOT_HOME"] = str(Path(folder) / "home")
        os.chdir(folder)
        terminal = Terminal(Path(folder), whole=True)
        for wanted in given(page):
            if wanted != "aws":
                terminal.bring(pantry, wanted)
        parts, seen = [], 0
        for place in _OUTPUT.finditer(page):
            before = page[seen : place.start()]
            parts += [before, _output(place, terminal, before)]
            seen = place.end()
        os.chdir(ROOT)
    return "".join([*parts, page[seen:]])


def _output(place: re.Match[str], terminal: Terminal, before: str) -> str:
    terminal.printed.clear()
    for block in blocks_of(before):
        if not block.not_run and block.language in {"sh", "python", "toml"}:
            terminal.run(block)
    text = "".join(terminal.printed).replace(f"{terminal.folder}/", "")
    lines = list(dropwhile(lambda line: place[1] is not None and place[1] not in line, text.splitlines()))
    last = next((number for number, line in enumerate(lines) if place[2] and place[2] in line), len(lines))
    kept = "\n".join(map(_wrapped, lines[: last + 1])).strip("\n")
    opening = place[0].partition("\n")[0]
    return f"{opening}\n```text\n{kept}\n```\n<!-- /output -->"


def _wrapped(line: str) -> str:
    drawn = line[:1] in _TABLE or re.search(r"\S {3,}\S|─{3}", line)
    return line if drawn else textwrap.fill(line, WIDTH, subsequent_indent="    ")


if __name__ == "__main__":
    main()
