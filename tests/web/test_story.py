"""The demo in a real browser: what a new user does, from landing to "why was this one refused", and back.

No page may ask anybody but the dashboard for anything, nor write an error on its console. Pictures are left where
CRPBOT_PICTURES says, for somebody to look at.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from make_screenshots import browser, demo_address, wait_for_candle
from playwright.sync_api import Browser, Page, expect
from web.browsing import chromium
from web.houses import TOKEN

pytestmark = pytest.mark.slow

PAGES = ("/", "/signals?symbol=BTC-USD", "/models", "/ledger", "/data", "/jobs", "/diagnose", "/login", "/api")
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    assert chromium()
    with demo_address(token=TOKEN) as found:
        yield found


@pytest.fixture(scope="module")
def chrome(address: str) -> Iterator[Browser]:
    assert address
    with browser() as found:
        yield found


@contextmanager
def looking(
    chrome: Browser, address: str, *, size: dict[str, int] = DESK, dark: bool = False, may_fail: bool = False
) -> Iterator[Page]:
    """Give a page of a new visitor, and hold what it did against what every page must not do."""
    context = chrome.new_context(viewport=size, color_scheme="dark" if dark else "light", base_url=address, accept_downloads=True)
    context.set_default_timeout(20_000)
    page, wrong = context.new_page(), []
    page.on("request", lambda sent: None if sent.url.startswith((address, "data:")) else wrong.append(f"asked {sent.url}"))
    page.on("console", lambda told: wrong.append(told.text) if told.type in {"error", "warning"} and not may_fail else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    try:
        yield page
        assert wrong == []
    finally:
        context.close()


def keep(page: Page, name: str) -> None:
    """Leave a picture for people."""
    if folder := os.environ.get("CRPBOT_PICTURES"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def log_in(page: Page) -> None:
    page.goto("/login")
    page.get_by_label(re.compile("^Token")).fill(TOKEN)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("button", name="Log out")).to_be_visible()


def the_refused(page: Page) -> str:
    """Return the path of the model whose scaler was lost."""
    return str(page.get_by_role("link", name=re.compile("v7-lost-scaler")).first.get_attribute("href"))


def test_from_landing_to_why_one_was_refused(chrome: Browser, address: str) -> None:
    with looking(chrome, address) as page:
        page.goto("/")
        expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
        expect(page.get_by_role("note")).to_contain_text("A demo")
        keep(page, "overview")
        page.get_by_role("navigation").get_by_role("link", name="Models").click()
        keep(page, "models")
        page.get_by_role("link", name=re.compile("v7-lost-scaler")).first.click()
        expect(page.locator(".whynot")).to_contain_text("lost-normalizer")
        expect(page.locator(".whynot")).to_be_in_viewport()
        expect(page.locator("figure svg").first).to_be_visible()
        keep(page, "model")


def test_a_replayed_candle_is_on_every_page_that_lives_within_two_seconds(chrome: Browser, address: str) -> None:
    """The replay is 60 times as fast: two seconds are two minutes of it, and a candle closes a minute after it opens."""
    with looking(chrome, address) as page:
        page.goto("/")
        wait_for_candle(page)
        lag = page.evaluate(
            """async () => {
              const found = [];
              for (let i = 0; i < 5; i++) {
                const seen = await new Promise((done) =>
                  document.addEventListener("candle", (event) => done(event.detail), { once: true }));
                const { time } = await (await fetch("/api/health")).json();
                found.push((time - seen.time - 60000) / 60 / 1000);
              }
              return found.sort((a, b) => a - b)[2];
            }"""
        )
        assert lag < 2
        before = page.locator('[data-close="BTC-USD"]').inner_text()
        expect(page.locator('[data-close="BTC-USD"]')).not_to_have_text(before)
        page.goto("/signals?symbol=BTC-USD")
        words = page.locator("#chart-words").inner_text()
        expect(page.locator("#chart-words")).not_to_have_text(words)


def test_a_page_in_the_background_holds_no_line_and_is_up_to_date_when_it_comes_back(chrome: Browser, address: str) -> None:
    """A browser has six lines to a server: the seventh page would never load."""
    hide = """(hidden) => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    with looking(chrome, address) as first:
        pages = [first.context.new_page() for _ in range(7)]
        for page in pages:
            page.goto("/")
            expect(page.locator("#line")).to_have_attribute("data-state", "open")
            page.evaluate(hide, arg=True)
            expect(page.locator("#line")).to_have_text("paused")
        before = pages[0].locator('[data-close="BTC-USD"]').inner_text()
        pages[0].evaluate(hide, arg=False)
        expect(pages[0].locator("#line")).to_have_text("live")
        expect(pages[0].locator('[data-close="BTC-USD"]')).not_to_have_text(before)


def test_a_signal_is_drawn_and_told(chrome: Browser, address: str) -> None:
    with looking(chrome, address) as page:
        page.goto("/signals?symbol=BTC-USD")
        page.locator("#said-table tbody a").first.click()
        expect(page.locator("#card-title")).to_contain_text(re.compile("LONG|SHORT"))
        expect(page.locator("#card")).to_contain_text("top loss")
        expect(page.locator("#chart canvas").first).to_be_visible()
        keep(page, "signals")


def test_a_rollback_and_a_promotion_by_the_page(chrome: Browser, address: str) -> None:
    with looking(chrome, address) as page:
        log_in(page)
        page.goto("/models?symbol=BTC-USD")
        live = page.locator("#models tr", has=page.locator(".stage.live")).get_by_role("link").first
        was = str(live.get_attribute("href"))
        page.get_by_role("button", name=re.compile("^Roll")).first.click()
        page.goto("/models?symbol=BTC-USD")
        expect(live).not_to_have_attribute("href", was)
        keep(page, "rolled-back")
        page.goto(was)
        page.get_by_role("button", name=re.compile("promote")).click()
        expect(page.locator("#errand")).to_contain_text(re.compile("promoted|refused"), timeout=120_000)
        keep(page, "promoted")
        page.goto("/ledger")
        expect(page.locator("#ledger")).to_contain_text("(dashboard)")


def test_the_disaster_is_not_promoted_by_the_page(chrome: Browser, address: str) -> None:
    with looking(chrome, address) as page:
        log_in(page)
        page.goto("/models?symbol=BTC-USD")
        page.goto(the_refused(page))
        page.get_by_role("button", name=re.compile("promote")).click()
        expect(page.locator("#errand")).to_contain_text("normalizer-present", timeout=120_000)
        page.goto("/models?symbol=BTC-USD")
        row = page.locator("#models tr", has_text="v7-lost-scaler")
        expect(row.locator(".stage")).to_have_text("candidate")


def test_a_file_that_is_dropped_is_diagnosed(chrome: Browser, address: str, tmp_path: Path) -> None:
    with looking(chrome, address) as page:
        page.goto("/models?symbol=BTC-USD")
        page.goto(the_refused(page))
        with page.expect_download() as coming:
            page.get_by_role("link", name=re.compile(r"\.pt$")).click()
        file = tmp_path / coming.value.suggested_filename
        coming.value.save_as(file)
        page.goto("/diagnose")
        page.locator("#file").set_input_files(file)
        page.get_by_role("button", name="Diagnose").click()
        expect(page.locator("#errand")).to_contain_text("lost-normalizer", timeout=120_000)
        keep(page, "diagnosed")


def test_a_page_that_is_no_checkpoint_is_refused(chrome: Browser, address: str, tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    file.write_text("<script>alert(1)</script>")
    with looking(chrome, address) as page:
        page.goto("/diagnose")
        page.locator("#file").set_input_files(file)
        page.get_by_role("button", name="Diagnose").click()
        expect(page.locator("#errand")).to_contain_text(re.compile("must"), timeout=60_000)


def complaints(page: Page, path: str, options: dict[str, object] | None = None) -> list[str]:
    """Return what axe finds serious on a page."""
    page.goto(path)
    page.wait_for_timeout(300)
    return [
        f"{path}: {one['id']}: {one['nodes'][0]['html'][:200]}"
        for one in Axe().run(page, options=options).response["violations"]
        if one["impact"] in {"serious", "critical"}
    ]


def test_nobody_is_shut_out(chrome: Browser, address: str) -> None:
    """Nothing serious by axe, on any page."""
    with looking(chrome, address) as page:
        page.goto("/models?symbol=BTC-USD")
        assert [complaints(page, path) for path in (*PAGES, the_refused(page))] == [[]] * (len(PAGES) + 1)


def test_colours_are_told_apart_by_night_too(chrome: Browser, address: str) -> None:
    only = {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}
    with looking(chrome, address, dark=True) as page:
        page.goto("/models?symbol=BTC-USD")
        assert [complaints(page, path, only) for path in (*PAGES, the_refused(page))] == [[]] * (len(PAGES) + 1)


def test_a_phone_shows_all_of_it(chrome: Browser, address: str) -> None:
    with looking(chrome, address, size=PHONE) as page:
        page.goto("/models?symbol=BTC-USD")
        for number, path in enumerate((*PAGES, the_refused(page))):
            page.goto(path)
            page.wait_for_timeout(200)
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path
            keep(page, f"phone-{number}")


def test_the_keyboard_is_enough(chrome: Browser, address: str) -> None:
    with looking(chrome, address) as page:
        page.goto("/")
        page.keyboard.press("Tab")
        expect(page.locator(".skip")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#main")).to_be_focused()
        page.goto("/")
        for _ in range(4):
            page.keyboard.press("Tab")
        expect(page.get_by_role("navigation").get_by_role("link", name="Signals")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_contain_text("Signals")
        page.locator("#said-table tbody a").first.focus()
        page.keyboard.press("Enter")
        expect(page.locator("#card-title")).to_contain_text(re.compile("LONG|SHORT"))


def test_who_is_not_logged_in_finds_no_button(chrome: Browser, address: str) -> None:
    with looking(chrome, address) as page:
        page.goto("/models?symbol=BTC-USD")
        path = the_refused(page)
        expect(page.get_by_role("button", name=re.compile("^Roll"))).to_have_count(0)
        page.goto(path)
        expect(page.get_by_role("button", name=re.compile("promote|Retire"))).to_have_count(0)
