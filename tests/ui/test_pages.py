"""Pages in a real browser: what stands against entering and its remedy, strange names, a stream
that breaks, narrow and dark screens, keyboards and screen readers, no scripts at all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from furlough.client import Client
from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Disk, DiskKind, Nic
from furlough.sim.cluster import SimVm
from tests.api.running import Running
from tests.ui.conftest import PATIENCE_MS, open_page, sign_in
from tests.ui.inspecting import troubles
from tests.ui.wire import Wire

pytestmark = pytest.mark.browser
expect.set_options(timeout=PATIENCE_MS)

H1 = HostName("h1")
EVIL = VmId("00000000-0000-4000-9000-000000000666")
EVIL_NAME = "<script>alert(1)</script>"
ISO = "/root/debian.iso"
CDROM = Disk(target="sda", source=ISO, datastore=None, is_writable=False, kind=DiskKind.CDROM)


def observe(daemon: Running) -> None:
    """The daemon looks at its hosts now."""
    daemon.run(daemon.controller.work.observer.refresh())


@pytest.fixture
def evil(daemon: Running) -> Iterator[None]:
    """On h1 there is a VM whose name is a script."""
    vm = SimVm(
        id=EVIL,
        name=EVIL_NAME,
        memory_mib=256,
        disks=(Disk(target="vda", source="ssd/evil.img", datastore="ssd"),),
        nics=(Nic(network="lan"),),
    )
    daemon.do(lambda: daemon.cluster.put(H1, vm))
    observe(daemon)
    yield

    def remove() -> None:
        for host, machine in daemon.cluster.hosts.items():
            if EVIL in machine.copies:
                daemon.cluster.remove(host, EVIL)

    daemon.do(remove)
    observe(daemon)


@pytest.fixture
def drive(daemon: Running) -> Iterator[str]:
    """The name of a VM of h1 that holds a medium which only h1 has."""
    copy = next(iter(daemon.cluster.hosts[H1].copies.values()))
    plain = copy.vm
    daemon.do(lambda: setattr(copy, "vm", replace(plain, disks=(*plain.disks, CDROM))))
    observe(daemon)
    yield plain.name

    def tidy() -> None:
        for machine in daemon.cluster.hosts.values():
            for one in machine.copies.values():
                if one.vm.id == plain.id:
                    one.vm, one.empty_drives = plain, {}

    daemon.do(tidy)
    observe(daemon)


def test_a_blocked_precheck_offers_its_remedy_and_checks_again_when_it_is_applied(
    page: Page, daemon: Running, drive: str
) -> None:
    page.goto(f"{daemon.url}/hosts/h1/enter")
    expect(page.get_by_text("It cannot be entered yet.")).to_be_visible()
    expect(page.get_by_role("button", name="Enter maintenance by this plan")).to_have_count(0)
    found = page.locator(".finding.blocker", has_text="vm.local_media")
    expect(found).to_contain_text("What to do:")
    expect(found).to_contain_text(f"Take {ISO} out of drive sda of VM {drive}.")
    found.get_by_role("button", name="Apply this remedy").click()
    expect(page.get_by_text(re.compile(r"The remedy \(op-\d+\) has succeeded"))).to_be_visible()
    expect(page.get_by_text("Nothing stands against it.")).to_be_visible()
    expect(page.get_by_role("button", name="Enter maintenance by this plan")).to_be_visible()


@pytest.mark.usefixtures("evil")
def test_a_vm_named_as_a_script_is_shown_as_text_wherever_it_stands(
    page: Page, daemon: Running, client: Client
) -> None:
    said: list[str] = []
    page.on("dialog", lambda dialog: said.append(dialog.message))
    entered = client.ask("enter", ["h1"], {"reason": EVIL_NAME}).id
    list(client.events(entered))
    for path in (
        f"/vms?q={EVIL_NAME}",
        f"/vms/{EVIL}",
        f"/operations/{entered}",
        "/hosts/h1",
        "/hosts/h1/exit",
    ):
        page.goto(f"{daemon.url}{path}")
        expect(page.get_by_text(EVIL_NAME).first).to_be_visible()
        assert page.locator("main script, #main script").count() == 0
    list(client.events(client.ask("exit", ["h1"], {}).id))
    page.goto(f"{daemon.url}/hosts/h1/enter")
    expect(page.get_by_text(EVIL_NAME).first).to_be_visible()
    assert EVIL_NAME in page.locator("svg").nth(1).inner_html().replace("&lt;", "<").replace(
        "&gt;", ">"
    )
    assert said == []


def test_a_page_whose_stream_breaks_says_so_comes_back_by_itself_and_has_missed_nothing(
    context: BrowserContext, daemon: Running, client: Client, complaints: list[str]
) -> None:
    wire = Wire(daemon.url)
    page = open_page(context, complaints)
    sign_in(page, wire.url)
    daemon.hold("h2")
    which = client.ask("enter", ["h2"], {}).id
    page.goto(f"{wire.url}/operations/{which}")
    expect(page.locator("#step-list .pill", has_text="started").first).to_be_visible()
    expect(page.locator("#not-live")).to_be_hidden()
    page.evaluate("window.isTheSamePage = true")
    client.pause(which)
    expect(page.locator("#head .pill").first).to_have_text("paused")
    client.resume(which)
    expect(page.locator("#head .pill").first).to_have_text("running")

    wire.cut()
    expect(page.locator("#not-live")).to_contain_text("Not live")
    daemon.let_go("h2")
    assert [event.content for event in client.events(which)][-1]["state"] == "succeeded"
    assert page.locator("#head .pill").first.inner_text() == "running"

    wire.mend()
    expect(page.locator("#head .pill").first).to_have_text("succeeded")
    expect(page.locator("#not-live")).to_be_hidden()
    assert page.evaluate("window.isTheSamePage") is True
    streams = wire.asked(f"/api/v1/events?operation={which}")
    assert len(streams) >= 2
    assert re.search(r"(?i)\r\nlast-event-id: \d+\r\n", streams[-1])
    assert complaints == []
    wire.close()


def test_search_finds_a_vm_among_all_and_its_policy_is_edited_where_it_stands(
    page: Page, daemon: Running, client: Client
) -> None:
    page.goto(f"{daemon.url}/vms")
    expect(page.locator("tbody tr")).to_have_count(24)
    page.get_by_label("Name or UUID").fill("QUEUE0")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tbody tr")).to_have_count(4)
    page.get_by_role("link", name="queue03").click()
    page.get_by_label("What is done when its host enters maintenance").select_option("shut_down")
    page.get_by_label("How long its guest may take").fill("90")
    page.get_by_role("button", name="Save the policy").click()
    expect(page.get_by_text("Saved:")).to_be_visible()
    (vm,) = [one for one in client.vms() if one.name == "queue03"]
    assert vm.own_policy == {"on_maintenance": "shut_down", "shut_down_grace_s": "90"}

    page.get_by_label("How long its guest may take").fill("soon")
    page.get_by_role("button", name="Save the policy").click()
    expect(page.get_by_role("alert").filter(has_text="soon")).to_contain_text("What to do:")
    page.goto(f"{daemon.url}/vms/{vm.uuid}")
    page.get_by_label("What is done when its host enters maintenance").select_option("")
    page.get_by_label("How long its guest may take").fill("")
    page.get_by_role("button", name="Save the policy").click()
    expect(page.get_by_text("Saved:")).to_be_visible()
    assert client.vm(vm.uuid).own_policy == {}


def test_users_and_tokens_are_made_shown_once_and_taken_away(page: Page, daemon: Running) -> None:
    page.goto(f"{daemon.url}/users")
    form = page.locator("section", has=page.get_by_role("heading", name="Add a user"))
    form.get_by_label("Name").fill("oscar")
    form.get_by_label("Password").fill("a long enough word")
    form.get_by_label("Role").select_option("operator")
    form.get_by_label("Reach").fill("host:h1")
    form.get_by_role("button", name="Add the user").click()
    expect(page.locator(".pill", has_text="operator in host:h1")).to_be_visible()
    page.get_by_label("What it is for").fill("nightly")
    page.get_by_role("button", name="Make the token").click()
    secret = page.locator("#new-token").inner_text()
    with daemon.http(secret) as program:
        assert program.get("/hosts").status_code == 200
        page.goto(f"{daemon.url}/users")
        assert secret not in page.content()
        page.get_by_role("button", name="Revoke nightly").click()
        expect(page.get_by_text("revoked")).to_be_visible()
        assert program.get("/hosts").status_code == 401
    page.get_by_text("Change oscar").click()
    oscar = page.locator("li", has_text="Change oscar")
    oscar.get_by_label("Yes, with all tokens and sessions").check()
    page.get_by_role("button", name="Remove oscar").click()
    expect(page.get_by_text("Change oscar")).to_have_count(0)
    page.goto(f"{daemon.url}/audit")
    expect(page.get_by_role("cell", name="user oscar").first).to_be_visible()
    page.get_by_role("link", name="Verify the trail").click()
    expect(page.get_by_text("lines are what was written")).to_be_visible()


def every_page(client: Client) -> list[str]:
    """An address of each kind of page, in a cluster where one host is in maintenance."""
    which = client.ask("enter", ["h2"], {"reason": "a look at every page"}).id
    list(client.events(which))
    vm = client.vms()[0].uuid
    return [
        "/", "/hosts/h1", "/hosts/h2", "/hosts/h2/exit", "/hosts/h2/exit?restore=selected",
        "/hosts/h2/power/reboot", "/hosts/h1/enter", "/hosts/h1/enter?automation=manual",
        "/operations", f"/operations/{which}", "/vms", f"/vms/{vm}", "/audit", "/audit/verify",
        "/users", "/account", "/hosts/h1/nothing-here", "/hosts/nobody",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)]
)
def test_every_page_has_labels_landmarks_and_contrast_and_fits_its_screen(
    browser: Browser, daemon: Running, client: Client, complaints: list[str],
    scheme: str, width: int,
) -> None:  # fmt: skip
    size = {"width": width, "height": 844}
    context = browser.new_context(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
    page = open_page(context, complaints)
    page.goto(f"{daemon.url}/first-admin")
    found = {"/first-admin": troubles(page)}
    page.goto(f"{daemon.url}/sign-in")
    found["/sign-in"] = troubles(page)
    sign_in(page, daemon.url)
    missing = []
    for path in every_page(client):
        answer = page.goto(f"{daemon.url}{path}")
        assert answer is not None
        if answer.status != 200:
            missing.append((answer.status, path))
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        found[path] = troubles(page)
    assert {path: wrong for path, wrong in found.items() if wrong} == {}
    assert missing == [(404, "/hosts/h1/nothing-here"), (404, "/hosts/nobody")]
    assert complaints == []
    context.close()


def test_the_keyboard_alone_gets_past_the_frame_and_into_the_flow(
    page: Page, daemon: Running
) -> None:
    page.goto(f"{daemon.url}/hosts/h1")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Enter maintenance")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{daemon.url}/hosts/h1/enter")


def test_without_scripts_pages_show_and_take_orders_all_the_same(
    browser: Browser, daemon: Running, client: Client
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    sign_in(page, daemon.url)
    page.goto(f"{daemon.url}/hosts/h1")
    expect(page.locator("noscript p")).to_be_visible()
    page.get_by_role("button", name="Cordon").click()
    list(client.events(client.operations(host="h1")[0].id))
    page.goto(f"{daemon.url}/hosts/h1")
    expect(page.locator(".lead")).to_have_text("Running, takes no new VMs")
    page.get_by_role("link", name="Enter maintenance").click()
    page.get_by_role("button", name="Enter maintenance by this plan").click()
    expect(page).to_have_url(re.compile(r"/operations/op-\d+$"))
    which = page.url.rpartition("/")[2]
    assert [event.content for event in client.events(which)][-1]["state"] == "succeeded"
    context.close()
