"""Makes the pictures of the README: `python -m tests.ui.screenshots docs/screenshots`.

The pages are those of a simulated cluster in the midst of its work, in a real browser, light and
dark, wide and narrow.
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from furlough.client import Client
from tests.api.people import add_user
from tests.api.running import Running, end, running
from tests.ui.conftest import ADMIN, sign_in

_WIDE, _NARROW = (1280, 860), (390, 844)


def take(daemon: Running, client: Client, browser: Browser, into: Path) -> None:
    """All of them."""
    wide = _page(browser, daemon, "light", _WIDE)
    _keep(wide, daemon, "/hosts/h2/enter", into / "enter.png", whole=True)
    daemon.hold("h4")
    which = client.ask("enter", ["h2"], {"reason": "new memory modules", "ticket": "OPS-17"}).id
    wide.goto(f"{daemon.url}/operations/{which}")
    # Whoever goes to h4 is on the way; the others have arrived.
    wide.locator("#step-list .pill", has_text="succeeded").nth(4).wait_for()
    wide.wait_for_timeout(1500)
    _keep(wide, daemon, f"/operations/{which}", into / "operation.png")
    _keep(wide, daemon, f"/operations/{which}/cancel", into / "cancel.png")
    _keep(wide, daemon, "/", into / "dashboard.png")
    dark = _page(browser, daemon, "dark", _WIDE)
    _keep(dark, daemon, "/", into / "dashboard-dark.png")
    phone = _page(browser, daemon, "dark", _NARROW)
    _keep(phone, daemon, f"/operations/{which}", into / "operation-phone.png")
    daemon.let_go("h4")
    end(client, which)
    _keep(wide, daemon, "/hosts/h2", into / "host.png")
    _keep(wide, daemon, "/hosts/h2/exit", into / "exit.png")
    phone = _page(browser, daemon, "light", _NARROW)
    _keep(phone, daemon, "/hosts/h2", into / "host-phone.png")


def _page(browser: Browser, daemon: Running, scheme: str, size: tuple[int, int]) -> Page:
    width, height = size
    page = browser.new_page(
        viewport={"width": width, "height": height},
        color_scheme=scheme,  # type: ignore[arg-type]
    )
    sign_in(page, daemon.url)
    return page


def _keep(page: Page, daemon: Running, path: str, file: Path, *, whole: bool = False) -> None:
    page.goto(f"{daemon.url}{path}")
    page.screenshot(path=file, full_page=whole)


def main(into: Path) -> None:
    """A daemon, a browser, the pictures."""
    into.mkdir(parents=True, exist_ok=True)
    with running() as daemon, daemon.client() as client, sync_playwright() as driver:
        add_user(daemon, ADMIN, ("admin", "all"))
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        take(daemon, client, browser, into)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
