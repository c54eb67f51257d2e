"""Write the pictures of the dashboard for the README: `python scripts/make_screenshots.py`. Needs Chromium and the extra `web`.

The demo is started as a user starts it, and photographed once its market moves.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "dashboard"
WIDTH, HEIGHT = 1280, 860


def chromium() -> str | None:
    """Return the browser of this machine; None where there is none."""
    return next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)


@contextmanager
def demo_address(*options: str, token: str = "") -> Iterator[str]:
    """Start `crpbot serve --demo` on any free port, and give its address."""
    command = [sys.executable, "-m", "crpbot", "serve", "--demo", "--port", "0", *options]
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"} | ({"CRPBOT_WEB_TOKEN": token} if token else {})
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as process:  # noqa: S603  our own command
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith("http"):
                    yield line.split()[0]
                    return
            raise SystemExit("the demo did not start")
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def browser() -> Iterator["Browser"]:
    """Give a browser without a window."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  only where pictures are taken

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        try:
            yield found
        finally:
            found.close()


def wait_for_candle(page: "Page") -> None:
    """Wait until a replayed candle has arrived on a page."""
    page.evaluate("() => new Promise((done) => document.addEventListener('candle', done, { once: true }))")


def main() -> None:
    """Take both pictures."""
    OUT.mkdir(exist_ok=True)
    with demo_address() as address, browser() as chrome:
        page = chrome.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(address)
        wait_for_candle(page)
        page.screenshot(path=OUT / "overview.png")
        page.goto(f"{address}/signals?symbol=BTC-USD")
        page.locator("#said-table tr", has_text=" bp").first.get_by_role("link").first.click()
        page.locator("#card dl").wait_for()
        wait_for_candle(page)
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=OUT / "signals.png")
    print(f"written: {OUT / 'overview.png'}, {OUT / 'signals.png'}")


if __name__ == "__main__":
    main()
