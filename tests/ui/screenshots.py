"""Makes the pictures of the README: `python -m tests.ui.screenshots docs/screenshots`.

The pages are those of a simulated cluster in the midst of its work, in a real browser, light and
dark, wide and narrow.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from furlough.cli.demo import simulated_daemon
from furlough.client import Client
from tests.ui.conftest import sign_in

_PASSWORD = "a password for pictures"
_WIDE, _NARROW = (1280, 860), (390, 844)


def take(client: Client, url: str, browser: Browser, into: Path) -> None:
    """All of them."""
    wide = _page(browser, url, "light", _WIDE)
    dark = _page(browser, url, "dark", _WIDE)
    phone = _page(browser, url, "dark", _NARROW)
    pale_phone = _page(browser, url, "light", _NARROW)
    _keep(wide, f"{url}/hosts/h2/enter", into / "enter.png", whole=True)
    asked = {"reason": "new memory modules", "ticket": "OPS-17"}
    which = client.ask("enter", ["h2"], asked).id
    operation = f"{url}/operations/{which}"
    wide.goto(operation)
    # The guard and the first VM are done, others are on their way.
    wide.locator("#step-list .pill", has_text="succeeded").nth(1).wait_for()
    _keep(wide, operation, into / "operation.png")
    _keep(phone, operation, into / "operation-phone.png")
    _keep(wide, f"{operation}/cancel", into / "cancel.png")
    _keep(wide, url, into / "dashboard.png")
    _keep(dark, url, into / "dashboard-dark.png")
    assert client.operation(which).finished_at is None, "too slow: it is over already"
    list(client.events(which))
    _keep(wide, f"{url}/hosts/h2", into / "host.png")
    _keep(pale_phone, f"{url}/hosts/h2", into / "host-phone.png")
    _keep(wide, f"{url}/hosts/h2/exit", into / "exit.png")


def _page(browser: Browser, url: str, scheme: str, size: tuple[int, int]) -> Page:
    page = browser.new_page(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,  # type: ignore[arg-type]
    )
    sign_in(page, url, "admin", _PASSWORD)
    return page


def _keep(page: Page, url: str, file: Path, *, whole: bool = False) -> None:
    page.goto(url)
    page.screenshot(path=file, full_page=whole)


def main(into: Path) -> None:
    """A daemon, a browser, the pictures."""
    into.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as directory,
        simulated_daemon(Path(directory), _PASSWORD) as context,
        Client(context) as client,
        sync_playwright() as driver,
    ):
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        take(client, context.url, browser, into)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
