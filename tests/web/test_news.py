"""What open pages hear, and what they do when they have missed something."""

import asyncio
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from journals import START, keep, signal
from playwright.sync_api import Page, expect, sync_playwright
from web.browsing import chromium
from web.houses import listening
from web.spoken import candles, spoken

from crpbot.live.journal import open_journal
from crpbot.live.trail import Trail
from crpbot.market.candles import MINUTE, utc
from crpbot.web import news
from crpbot.web.house import House
from crpbot.web.setting import Setting

NEVER = 1 << 60
TEMPLATES = Path(news.__file__).parent / "templates"


def test_a_listener_without_room_is_told_to_look_at_everything_again(tmp_path: Path) -> None:
    async def heard() -> list[str]:
        told = news.News(House(Setting(home=tmp_path, now=lambda: 0)))
        stream = told.listen()
        found = [await anext(stream)]
        for number in range(news._WAITING + 1):
            told.tell("candle", {"time": number})
        told.tell("models", {})
        found += [await anext(stream), await anext(stream)]
        await stream.aclose()
        return found

    assert [re.search("event: (.*)", one).group(1) for one in asyncio.run(heard())] == ["hello", "again", "models"]


@pytest.mark.parametrize("template", sorted(TEMPLATES.glob("*.html")), ids=lambda path: path.stem)
def test_what_the_keyboard_finds_in_a_part_that_lives_has_a_name(template: Path) -> None:
    """By its name it is found again, after the part was replaced, with what was open in it and how far it was scrolled."""
    _, _, living = template.read_text().partition("data-live")
    assert [tag for tag in re.findall(r'<(?:details|summary|pre|div class="wide")[^>]*>', living) if ' id="' not in tag] == []


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return spoken(tmp_path)


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": 360, "height": 740})
        browser.close()


def setting(home: Path) -> Setting:
    return Setting(home=home, now=lambda: START + 600 * MINUTE, candles=str(home / "candles"))


def say(home: Path, at: int) -> None:
    """Let a signal be written down, and a candle be taken."""
    journal = open_journal(home / "journal.db")
    keep(journal, signal(at), at)
    journal.close()
    Trail(home / "live" / "candles").take("BTC-USD", candles(520 + at - 40, 1), NEVER)


def look_at_signals(page: Page, where: str, query: str = "") -> None:
    page.goto(f"{where}/signals?symbol=BTC-USD{query}")
    page.wait_for_selector("#line[data-state=open]")
    expect(page.locator("#chart-words")).to_contain_text("40 signals drawn")
    page.evaluate("window.same = true")


def all_is_there(page: Page, signals: int) -> None:
    expect(page.locator("#said-table tr").nth(1)).to_have_attribute("id", f"signal-{signals}", timeout=10_000)
    expect(page.locator("#chart-words")).to_contain_text(f"{signals} signals drawn")
    expect(page.locator("[data-part=time]")).to_have_text(utc(START + (479 + signals) * MINUTE))
    assert page.evaluate("window.same"), "it was loaded anew"


@pytest.mark.slow
def test_a_page_whose_server_was_away_is_brought_up_to_date(page: Page, home: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with listening(setting(home), port=port) as where:
        look_at_signals(page, where)
    page.wait_for_selector("#line[data-state=lost]")
    say(home, 40)
    with listening(setting(home), port=port):
        page.wait_for_selector("#line[data-state=open]")
        all_is_there(page, 41)


@pytest.mark.slow
def test_a_page_that_comes_back_by_the_back_button_listens_again_and_is_brought_up_to_date(page: Page, home: Path) -> None:
    with listening(setting(home)) as where:
        look_at_signals(page, where)
        page.wait_for_timeout(1_500)  # what was told before has been looked at
        page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
        say(home, 40)
        page.wait_for_timeout(600)
        assert page.locator("#signal-41").count() == 0
        page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
        all_is_there(page, 41)
        say(home, 41)
        all_is_there(page, 42)


@pytest.mark.slow
@pytest.mark.parametrize("where_it_is", ["#card-words-open", "#said-wide", "#record-wide", "a[data-signal='30']"])
def test_news_leave_the_keyboard_where_it_is_and_what_is_scrolled(page: Page, home: Path, where_it_is: str) -> None:
    with listening(setting(home)) as where:
        look_at_signals(page, where, "&signal=30")
        page.click("#card-bot-open")
        page.focus(where_it_is)
        page.evaluate("document.getElementById('said-wide').scrollLeft = 200")
        say(home, 40)
        all_is_there(page, 41)
        expect(page.locator(where_it_is)).to_be_focused()
        assert page.evaluate("document.getElementById('said-wide').scrollLeft") == 200
        assert page.get_attribute("#card-bot", "open") is not None
