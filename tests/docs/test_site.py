"""The site: built strictly and without network, every link leads somewhere, nothing is loaded from another host."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from docs.blocks import without_blocks

pytestmark = pytest.mark.slow  # builds the site

ROOT = Path(__file__).parents[2]
ELSEWHERE = ("http", "https", "mailto", "data")
LOADING = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src", "audio": "src", "video": "src"}
HARMLESS = {"canonical", "prev", "next", "edit"}
"""Links that a browser does not follow by itself."""


class Links(HTMLParser):
    """What a page names: its anchors, where it leads, and what a browser loads for it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.leads: list[str] = []
        self.loads: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        self.leads += [given[name] for name in ("href", "src") if name in given]
        if tag in LOADING and LOADING[tag] in given and given.get("rel") not in HARMLESS:
            self.loads.append(given[LOADING[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Links]:
    """The pages of the site by file, after a strict build."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return {page: Links(page) for page in sorted(folder.rglob("*.html")) if page.name != "404.html"}


def test_every_link_of_the_site_leads_to_a_file_and_an_anchor_that_exist(site: dict[Path, Links]) -> None:
    astray = []
    for page, links in site.items():
        for lead in links.leads:
            path, anchor = urldefrag(lead)
            if urlsplit(lead).scheme in ELSEWHERE:
                continue
            there = (page.parent / unquote(path)).resolve() if path else page
            there = there / "index.html" if there.is_dir() else there
            if not there.is_file() or (anchor and there in site and unquote(anchor) not in site[there].anchors):
                astray.append((page.name, lead))
    assert not astray


def test_nothing_is_loaded_from_another_host(site: dict[Path, Links]) -> None:
    assert not [(page.name, one) for page, links in site.items() for one in links.loads if urlsplit(one).netloc]
    folder = min(site, key=lambda page: len(page.parts)).parent
    for sheet in folder.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_every_page_of_docs_is_reached_from_the_navigation(site: dict[Path, Links]) -> None:
    start = next(
        links
        for page, links in site.items()
        if page.name == "index.html" and len(page.parts) == min(len(one.parts) for one in site)
    )
    pages = {
        str(page.relative_to(ROOT / "docs").with_suffix(".html")).replace("README", "index")
        for page in (ROOT / "docs").rglob("*.md")
    }
    assert pages <= set(start.leads)


LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md"])
def test_relative_links_beside_the_docs_lead_somewhere(page: str) -> None:
    """With anchors as the forges make them of headings."""
    for lead in LINK.findall(without_blocks((ROOT / page).read_text(encoding="utf-8"))):
        if urlsplit(lead).scheme in ELSEWHERE:
            continue
        path, anchor = urldefrag(lead)
        there = ROOT / path if path else ROOT / page
        assert there.exists(), lead
        assert not anchor or anchor in slugs(there), lead


def slugs(page: Path) -> set[str]:
    """Return the anchors of the headings of a Markdown page."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
