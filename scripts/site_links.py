"""Links out of docs/ lead somewhere in the site as well: what they mean becomes a page of it. A hook of mkdocs.yml.

A page says `../deploy/compose.yaml` or `../ARCHITECTURE.md`, which is right wherever the repository is browsed. The site holds
docs/ alone, so such a file is taken into it, below `project/`: Markdown as a page, any other text as a page with one block.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS, TAKEN_IN = "docs", "project"
_FENCE = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(#[^)\s]*)?(?=\))")
KINDS = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".sh": "sh", ".json": "json"}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add a page for each file outside of docs/ that a page leads to, and for those that these lead to."""
    waiting = [
        (f"{DOCS}/{file.src_uri}", Path(file.abs_src_path or "").read_text(encoding="utf-8"))
        for file in files.documentation_pages()
    ]
    seen: set[str] = set()
    while waiting:
        for target in outside(*waiting.pop()):
            if target not in seen:
                seen.add(target)
                text = (ROOT / target).read_text(encoding="utf-8")
                page = File.generated(
                    config, taken_in(target), content=as_page(target, text), inclusion=InclusionLevel.NOT_IN_NAV
                )
                files.append(page)
                if target.endswith(".md"):
                    waiting.append((target, text))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let the links of a page lead to where their files are in the site."""
    del config, files
    here = page.file.src_uri
    if not here.startswith(f"{TAKEN_IN}/"):
        return rewritten(markdown, f"{DOCS}/{here}", here)
    source = here.removeprefix(f"{TAKEN_IN}/")
    return rewritten(markdown, source, here) if (ROOT / source).suffix == ".md" and (ROOT / source).is_file() else markdown


def outside(source: str, text: str) -> Iterator[str]:
    """Yield the files outside of docs/ that a Markdown file of the repository leads to."""
    for link in _LINK.finditer(_FENCE.sub("", text)):
        target = meant(source, link[1])
        if target and not target.startswith(f"{DOCS}/"):
            yield target


def meant(source: str, link: str) -> str | None:
    """Return the file of the repository that a link means, from the root; None where there is none: mkdocs says so."""
    target = os.path.normpath(PurePosixPath(source).parent / link)
    if (ROOT / target).is_dir():
        target = f"{target}/README.md"
    return target if not target.startswith("..") and (ROOT / target).is_file() else None


def taken_in(target: str) -> str:
    """Return the page of a file outside of docs/."""
    return f"{TAKEN_IN}/{target}" if target.endswith(".md") else f"{TAKEN_IN}/{target}.md"


def as_page(target: str, text: str) -> str:
    """Return a file of the repository as Markdown."""
    if target.endswith(".md"):
        return text
    return f"# {target}\n\n````{KINDS.get(Path(target).suffix, 'text')}\n{text.rstrip()}\n````\n"


def rewritten(text: str, source: str, here: str) -> str:
    """Return Markdown of `source`, a file of the repository, with links for `here`, a page of the site."""

    def link(found: re.Match[str]) -> str:
        target = meant(source, found[1])
        if target is None or (source.startswith(f"{DOCS}/") and target.startswith(f"{DOCS}/") and found[1][-1] != "/"):
            return found[0]
        place = target.removeprefix(f"{DOCS}/") if target.startswith(f"{DOCS}/") else taken_in(target)
        return os.path.relpath(place, PurePosixPath(here).parent).replace(os.sep, "/") + (found[2] or "")

    return "".join(part if number % 2 else _LINK.sub(link, part) for number, part in enumerate(_FENCE.split(text)))
