"""The chart, as a browser shows it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from journals import START
from playwright.sync_api import Page, expect, sync_playwright
from web.browsing import chromium
from web.houses import listening
from web.spoken import candles, joined, spoken

from crpbot.live.trail import Trail
from crpbot.market.candles import MINUTE
from crpbot.market.files import write_candles
from crpbot.web.setting import Setting

pytestmark = pytest.mark.slow
NEVER = 1 << 60


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = spoken(tmp_path_factory.mktemp("home"))
    write_candles(joined(candles(-400_000, 1_400), candles(0, 300)), home / "candles" / "ETH-USD.parquet")
    return home


@pytest.fixture(scope="module")
def page(home: Path) -> Iterator[Page]:
    """A page of the chart; whatever the browser complains about is in `page.said`."""
    setting = Setting(home=home, now=lambda: START + 600 * MINUTE, candles=str(home / "candles"))
    with listening(setting) as where, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page(base_url=where, viewport={"width": 1200, "height": 900})
        page.said = []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith(where) else page.said.append(request.url))
        yield page
        browser.close()


def test_the_chart_is_drawn_and_nothing_is_complained_about(page: Page) -> None:
    page.goto("/signals?symbol=BTC-USD")
    expect(page.locator("#chart-words")).to_contain_text("40 signals drawn")
    assert page.locator("#chart canvas").count() > 0
    found = Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in {"serious", "critical"}] == []
    for width in (360, 1200):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.said == []


def test_a_new_candle_is_on_the_chart_within_two_seconds(page: Page, home: Path) -> None:
    page.goto("/signals?symbol=BTC-USD")
    expect(page.locator("#chart-words")).to_contain_text("drawn")
    page.wait_for_selector("#line[data-state=open]")
    new = candles(520, 1)
    Trail(home / "live" / "candles").take("BTC-USD", new, NEVER)
    close = f"{new.close[0]:,.2f}"
    page.locator("[data-part=close]", has_text=close).wait_for(timeout=2_000)


def test_across_a_gap_a_change_is_not_said_to_be_of_a_day(page: Page) -> None:
    page.goto("/signals?symbol=ETH-USD")
    expect(page.locator("#chart-words")).to_contain_text("drawn")
    assert page.inner_text("[data-part=change]") == "+0.50 % in 4 h"


def test_a_signal_is_chosen_by_address_by_table_and_by_keys(page: Page) -> None:
    page.goto("about:blank")
    page.goto("/signals?symbol=BTC-USD#signal-3")
    page.wait_for_selector("#card-title[data-plan]")
    assert '"id": 3' in page.get_attribute("#card-title", "data-plan")
    page.click("a[data-signal='30']")
    page.wait_for_selector("#signal-30[aria-current]")
    assert page.url.endswith("signal=30#signal-30")
    page.focus("#chart")
    page.keyboard.press("ArrowDown")
    page.wait_for_selector("#signal-29[aria-current]")
    assert page.locator("tr[aria-current]").count() == 1
    assert "is drawn on the chart" in page.inner_text("#said")
    assert page.said == []
