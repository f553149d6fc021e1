"""The link that memory passes over falls silent, or breaks in post-copy, on real hosts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from furlough.errors import FurloughError
from furlough.lab.blueprint import Keepalive, Options, Storage
from furlough.lab.patience import unix_now
from tests.lab.conftest import driven, own_name
from tests.lab.fleet import Fleet
from tests.lab.matrix import links

pytestmark = [pytest.mark.timeout(600), pytest.mark.lab_fault]

# By then a link that carries nothing must have been noticed; by default it takes 30 s.
STALLS_WITHIN_S = 60.0


@pytest.fixture(scope="module")
def locked(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two hosts with disks that are locked, so that there may be post-copy, and a daemon; one VM
    that rewrites its memory faster than the link carries it."""
    options = Options(
        hosts=2, vms=1, on="h1", storage=Storage.DIR, memory_mib=192, fill_percent=20,
        rate_mbit_s=60, hot_mib=60, hot_mib_s=60, keepalive=Keepalive(interval_s=1, count=3),
    )  # fmt: skip
    yield from driven(own_name("p"), options, tmp_path_factory)


@pytest.fixture
def fleet(locked: Fleet) -> Iterator[Fleet]:
    """That fleet with its VM at home, and whole links before and after."""
    heal(locked)
    locked.furlough("vm", "set", "vm1", "--post-copy", "if_needed")
    locked.bring_home("h1")
    for host in locked.lab.hosts:
        host.set_rate(locked.lab.blueprint.options.rate_mbit_s)
    yield locked
    heal(locked)


def heal(fleet: Fleet) -> None:
    for host in fleet.lab.hosts:
        links.healed(host)


def first_attempt(fleet: Fleet, which: str) -> Any:
    """The first attempt to move the VM, None before it has ended."""
    (vm,) = fleet.operation(which)["vms"]
    return next((one for one in vm["attempts"] if one["error"]), None)


def started(fleet: Fleet, *words: str) -> str:
    asked = fleet.furlough(*words, "--json")
    assert asked.code == 0, asked.complaint
    return str(asked.json["id"])


def acts_of(fleet: Fleet, which: str) -> list[str]:
    """What was announced about the VM, in order."""
    journal = fleet.furlough("operation", "show", which, "--journal", "--json").json
    return [one["event"]["act"] for one in journal if one["kind"] == "step_acted"]


def reason_on(fleet: Fleet, host: str) -> str:
    """What virsh says of the VM there; nothing where it is not known yet."""
    with suppress(FurloughError):
        return fleet.lab.host(host).virsh("domstate", "vm1", "--reason").strip()
    return ""


def test_f048_a_link_that_falls_silent_is_noticed_and_the_vm_stays(fleet: Fleet) -> None:
    since = unix_now()
    which = started(fleet, "vm", "migrate", "vm1", "--to", "h2")
    fleet.wait_for_copying("h1")
    links.silence_stream(fleet.lab.host("h1"), fleet.lab.host("h2"))
    fleet.wait_until(
        lambda: first_attempt(fleet, which) is not None,
        "the silence to be noticed",
        STALLS_WITHIN_S,
    )
    attempt = first_attempt(fleet, which)
    assert attempt["error"]["code"] == "migration.stalled", attempt
    assert "no memory has moved" in attempt["error"]["message"]
    assert "abort" in acts_of(fleet, which)
    assert reason_on(fleet, "h1").startswith("running")
    assert fleet.running() == {"vm1": ["h1"]}
    fleet.furlough("operation", "cancel", which, "--wait")
    fleet.check_witness(since, {})


def test_f060_post_copy_whose_link_broke_asks_and_goes_on_once_the_link_is_back(
    fleet: Fleet,
) -> None:
    since, (h1, h2) = unix_now(), fleet.lab.hosts
    which = started(fleet, "vm", "migrate", "vm1", "--to", "h2")
    fleet.wait_until(lambda: "post-copy" in reason_on(fleet, "h2"), "post-copy", 180)
    h1.set_rate(4)  # What is left to send takes long enough to be interrupted.
    links.silence_stream(h1, h2)
    links.cut_stream(h1, h2)
    fleet.wait_until(lambda: "failed" in reason_on(fleet, "h1"), "the break to be seen", 60)
    assert reason_on(fleet, "h2") == "running (post-copy failed)"
    fleet.wait_until(
        lambda: fleet.operation(which)["code"] == "migration.postcopy_failed", "to be told", 120
    )
    assert "vm1" in fleet.operation(which)["waiting_for"]

    heal(fleet)
    fleet.wait_until(lambda: fleet.operation(which)["finished_at"] is not None, "the end", 180)
    ended = fleet.operation(which)
    assert ended["state"] == "succeeded", ended
    assert "recover_post_copy" in acts_of(fleet, which)
    assert fleet.running() == {"vm1": ["h2"]}
    assert h1.vms("--all") == []
    fleet.check_witness(since, {})
