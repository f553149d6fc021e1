"""The whole job from the pages alone: sign in, enter, watch, cancel, exit, as an operator does it
in a real browser."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from furlough.client import Client
from tests.api.people import add_user
from tests.api.running import Running
from tests.ui.conftest import ADMIN, PATIENCE_MS, sign_in

pytestmark = pytest.mark.browser
expect.set_options(timeout=PATIENCE_MS)


def test_without_a_session_every_page_leads_to_sign_in_and_from_there_back(
    daemon: Running, page: Page
) -> None:
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile(r"/sign-in$"))
    page.goto(f"{daemon.url}/hosts/h1?log=all")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_label("Name").fill(ADMIN)
    page.get_by_label("Password").fill("a wrong password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert").filter(has_text="do not belong together")).to_be_visible()
    page.get_by_label("Password").fill("correct horse battery")
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{daemon.url}/hosts/h1?log=all")


def test_an_operator_enters_watches_and_exits_from_the_pages_alone(
    page: Page, daemon: Running, client: Client
) -> None:
    before = {vm.uuid: vm.host for vm in client.vms()}
    page.goto(daemon.url)
    page.get_by_role("link", name="h2", exact=True).click()
    expect(page.locator(".lead")).to_have_text("Running")
    for absent in ("Reboot", "Power off", "Exit maintenance"):
        expect(page.get_by_role("link", name=absent)).to_have_count(0)

    page.get_by_role("link", name="Enter maintenance").click()
    expect(page.get_by_text("Nothing stands against it.")).to_be_visible()
    expect(page.locator("table").first.locator("tbody tr")).to_have_count(6)
    expect(page.locator(".picture svg")).to_have_count(2)
    daemon.hold("h2")
    page.get_by_label("Reason, for the record").fill("new memory")
    page.get_by_role("button", name="Enter maintenance by this plan").click()

    expect(page).to_have_url(re.compile(r"/operations/op-\d+$"))
    expect(page.get_by_text("new memory")).to_be_visible()
    expect(page.locator("#step-list .pill", has_text="started").first).to_be_visible()
    expect(page.locator("#step-list progress").first).to_be_visible()
    watched = page.url
    page.goto(f"{daemon.url}/hosts/h2")
    expect(page.locator(".lead")).to_contain_text("Migrating")
    page.goto(watched)
    daemon.let_go("h2")
    # Nobody loads the page anew: it follows by itself.
    expect(page.locator("#head .pill").first).to_have_text("succeeded")
    expect(page.locator("#head")).to_contain_text("6 moved")
    page.get_by_role("link", name="To host h2").click()

    expect(page.locator(".lead")).to_have_text("Maintenance Mode")
    expect(page.get_by_role("link", name="Reboot")).to_be_visible()
    expect(page.locator("#log-lines")).to_contain_text("seen empty")
    assert {host.mode.value for host in client.hosts() if host.name == "h2"} == {"maintenance"}

    page.get_by_role("link", name="Exit maintenance").click()
    expect(page.get_by_text("Moved live, come home live (6)")).to_be_visible()
    expect(page.get_by_text("Were stopped, are started (0)")).to_be_visible()
    page.get_by_role("button", name="Exit maintenance by this plan").click()
    expect(page.locator("#head .pill").first).to_have_text("succeeded")
    assert {vm.uuid: vm.host for vm in client.vms()} == before


def test_cancel_offers_three_answers_with_their_cost_and_put_back_brings_home_who_left(
    page: Page, daemon: Running, client: Client
) -> None:
    before = {vm.uuid: vm.host for vm in client.vms()}
    # Whoever goes to h4 does not arrive; the others do.
    daemon.hold("h4")
    page.goto(f"{daemon.url}/hosts/h3/enter")
    page.get_by_role("button", name="Enter maintenance by this plan").click()
    expect(page.locator("#step-list .pill", has_text="succeeded").nth(1)).to_be_visible()
    page.get_by_role("link", name="Cancel...").click()
    expect(page.get_by_role("heading", name="Stop here")).to_be_visible()
    expect(page.get_by_role("heading", name="Finish what is in flight")).to_be_visible()
    back = page.locator("section", has=page.get_by_role("heading", name="Put back"))
    expect(back).to_contain_text(re.compile(r"comes? home: \d migrations?, about"))
    daemon.let_go("h4")
    back.get_by_role("button", name="Put back").click()
    expect(page.locator("#head .pill").first).to_have_text("cancelled")
    assert {vm.uuid: vm.host for vm in client.vms()} == before
    page.goto(f"{daemon.url}/hosts/h3")
    expect(page.locator(".lead")).to_have_text("Running, takes no new VMs")
    page.get_by_role("button", name="Uncordon").click()
    expect(page.locator(".lead")).to_have_text("Running")


def test_an_operation_that_waits_for_approval_says_so_and_goes_on_when_it_has_it(
    page: Page, daemon: Running
) -> None:
    page.goto(f"{daemon.url}/hosts/h4/enter")
    page.get_by_text("Options", exact=True).click()
    page.get_by_label("Who moves the VMs").select_option("manual")
    page.get_by_role("button", name="Check again with these").click()
    expect(page.get_by_label("Who moves the VMs")).to_have_value("manual")
    page.get_by_role("button", name="Enter maintenance by this plan").click()
    expect(page.locator("#head .pill").first).to_have_text("blocked")
    expect(page.locator("#head")).to_contain_text("It waits for:")
    waiting = page.url
    page.goto(daemon.url)
    expect(page.locator("#concerns")).to_contain_text("approv")
    page.goto(waiting)
    boxes = page.locator("#step-list input[type=checkbox]")
    expect(boxes).to_have_count(6)
    boxes.first.check()
    page.get_by_role("button", name="Approve those that are ticked").click()
    expect(page.locator("#step-list input[type=checkbox]")).to_have_count(5)
    page.get_by_role("button", name="Approve all 5 that wait").click()
    expect(page.locator("#head .pill").first).to_have_text("succeeded")


def test_the_plan_that_was_shown_is_the_one_that_is_carried_out_or_none(
    page: Page, daemon: Running, client: Client
) -> None:
    page.goto(f"{daemon.url}/hosts/h1/enter")
    # Meanwhile somebody takes a target away.
    with daemon.http() as other:
        asked = other.post("/hosts/h2/cordon", json={}).json()
    list(client.events(asked["id"]))
    page.get_by_role("button", name="Enter maintenance by this plan").click()
    expect(page.get_by_role("alert").filter(has_text="Nothing was done.")).to_be_visible()
    assert {host.mode.value for host in client.hosts() if host.name == "h1"} == {"available"}
    expect(page.locator("table").first).not_to_contain_text("h2")
    page.get_by_role("button", name="Enter maintenance by this plan").click()
    expect(page.locator("#head .pill").first).to_have_text("succeeded")


def test_a_viewer_sees_everything_and_is_offered_nothing(page: Page, daemon: Running) -> None:
    add_user(daemon, "victor", ("viewer", "all"))
    page.get_by_role("button", name="Sign out").click()
    sign_in(page, daemon.url, "victor")
    expect(page.get_by_role("link", name="Audit")).to_have_count(0)
    page.goto(f"{daemon.url}/hosts/h1")
    expect(page.get_by_role("button", name="Cordon")).to_have_count(0)
