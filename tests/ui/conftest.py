"""A daemon, a real browser, and somebody who has signed in.

The browser is the distribution's chromium. Without it these stories are skipped with that reason,
and fail where FURLOUGH_REQUIRE_BROWSER says that it has to be there.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from furlough.client import Client
from furlough.errors import Conflict
from furlough.sim.faults import Odds
from tests.api.people import PASSWORD, add_user
from tests.api.running import Running, bring_home, end, running

ADMIN = "alice"
# A busy machine may take long over a page; a story that fails says so after this time.
PATIENCE_MS = 20_000
# Connections that a story breaks, and refusals that it asks for.
_EXPECTED = re.compile(r"ERR_|status of 4\d\d")


@pytest.fixture(scope="session")
def daemon() -> Iterator[Running]:
    """A daemon with an administrator."""
    with running() as daemon:
        add_user(daemon, ADMIN, ("admin", "all"))
        yield daemon


@pytest.fixture
def client(daemon: Running) -> Iterator[Client]:
    """Our own client of the same daemon, with the local token."""
    with daemon.client() as client:
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. Of one module: while it runs, this thread has a loop of its driver's."""
    path = shutil.which("chromium")
    if path is None:
        message = "chromium is not installed (apt-get install chromium)"
        if os.environ.get("FURLOUGH_REQUIRE_BROWSER"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the browser has complained about: scripts that failed, what the policy has blocked."""
    return []


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser that knows nobody yet."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, daemon: Running, complaints: list[str]) -> Iterator[Page]:
    """A page of somebody who may do everything. At the end nothing may have gone wrong in it."""
    page = open_page(context, complaints)
    sign_in(page, daemon.url)
    yield page
    assert complaints == []


def open_page(context: BrowserContext, complaints: list[str]) -> Page:
    """A page whose complaints are kept."""
    page = context.new_page()
    page.on("pageerror", lambda error: complaints.append(f"script: {error}"))
    page.on("console", lambda message: _note(message, complaints))
    return page


def _note(message: ConsoleMessage, complaints: list[str]) -> None:
    if message.type == "error" and not _EXPECTED.search(message.text):
        complaints.append(message.text)


def sign_in(page: Page, url: str, name: str = ADMIN, password: str = PASSWORD) -> None:
    """Sign in by the form."""
    page.goto(f"{url}/sign-in")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Sign out").wait_for()


@pytest.fixture(autouse=True)
def everything_as_before(daemon: Running) -> Iterator[None]:
    """Each story leaves four available hosts behind, and nobody on record to come home."""
    yield
    daemon.faults.odds = Odds()
    for name in ("h1", "h2", "h3", "h4"):
        daemon.let_go(name)
    with daemon.client() as client:
        for operation in client.operations(active=True):
            with suppress(Conflict):  # It may have ended meanwhile.
                client.cancel(operation.id, "stop")
            end(client, operation.id)
        for host in client.hosts():
            if host.mode == "cordoned":
                end(client, client.ask("uncordon", [host.name], {}).id)
            bring_home(client, host.name)
        assert {host.mode.value for host in client.hosts()} == {"available"}
