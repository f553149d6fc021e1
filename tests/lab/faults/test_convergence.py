"""Guests that write as fast as they are copied, on real hosts: what helps, and what breaks then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest

from furlough.errors import FurloughError
from furlough.lab.blueprint import Options, Storage
from tests.lab.conftest import driven, own_name
from tests.lab.fleet import Fleet

pytestmark = [pytest.mark.lab_fault, pytest.mark.timeout(500)]


@pytest.fixture(scope="module")
def restless(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two hosts with proven locks, and two guests that rewrite 32 MiB faster than their link."""
    options = Options(
        hosts=2, vms=2, on="h1", storage=Storage.DIR, memory_mib=160, fill_percent=10,
        rate_mbit_s=100, hot_mib=32, hot_mib_s=60,
    )  # fmt: skip
    yield from driven(own_name("v"), options, tmp_path_factory)


def test_f060_a_post_copy_that_was_interrupted_goes_on(restless: Fleet) -> None:
    """Interrupted as a broken link does it, by libvirt's own means."""
    fleet = restless
    fleet.check(fleet.furlough("vm", "set", "vm1", "--post-copy", "if_needed"))
    moving = fleet.start("vm", "migrate", "vm1", "--to", "h2", "--wait", "--json")
    source = fleet.lab.host("h1")

    def broken() -> bool:
        with suppress(FurloughError):
            source.virsh("domjobabort", "vm1", "--postcopy")
        with suppress(FurloughError):
            return "failed" in source.virsh("domstate", "vm1", "--reason")
        return False

    fleet.wait_until(broken, "post-copy to be interrupted", timeout_s=120)
    ran = fleet.check(moving.wait(300))
    assert ran.json["state"] == "succeeded"
    assert fleet.running()["vm1"] == ["h2"]


def test_f059_a_guest_without_leave_pauses_within_its_budget_or_stays(restless: Fleet) -> None:
    """Either it comes to its end within what its owner accepts, or it stays and says what helps."""
    fleet = restless
    fleet.check(fleet.furlough("vm", "set", "vm2", "--downtime-budget", "4s"))
    ran = fleet.furlough("vm", "migrate", "vm2", "--to", "h2", "--wait", "--json")
    (step,) = [one for one in ran.json["steps"] if one["vm_uuid"]]
    if ran.code == 0:
        assert step["downtime_ms"] <= 4000 + 1000
        assert fleet.running()["vm2"] == ["h2"]
    else:
        assert step["error"]["code"] == "migration.not_converging"
        assert fleet.running()["vm2"] == ["h1"]
