"""Disks of one host, with something of the same name on the others: the VM is named and stays, and
what lies on the others is not touched. Nothing copies disks yet."""

from __future__ import annotations

from typing import Any

import pytest

from furlough.lab.host import Host
from tests.lab.adversary import (
    Edit,
    block_device_on,
    file_on,
    redefined,
    with_block_disk,
    with_file_disk,
)
from tests.lab.fleet import Fleet

pytestmark = [pytest.mark.timeout(600)]

THEIRS = b"what another VM has written"


def read(host: Host, path: str) -> bytes:
    """The beginning of a file or device of a host."""
    return host.run("head", "-c", str(len(THEIRS)), path).encode()


def entered_by_consent(fleet: Fleet, edit: Edit, path: str) -> None:
    """The VM with that disk keeps the host from being entered; with its owner's consent it is
    shut down, and exit starts it with its own disk again."""
    host = fleet.lab.host("h1")
    with redefined(fleet, {"vm1": edit}):
        refused = fleet.furlough("enter", "h1", "--wait")
        assert refused.code == 3, refused.output
        finding = blocker_of(fleet, "vm1")
        assert finding["code"] == "vm.local_disk"
        assert path in finding["message"]
        fleet.check(fleet.furlough("enter", "h1", "--shut-down", "vm1", "--wait"))
        assert fleet.running()["vm1"] == []
        assert read(host, path) == b"our own data".ljust(len(THEIRS), b"\0")
        fleet.check(fleet.furlough("exit", "h1", "--wait"))
        assert fleet.running()["vm1"] == ["h1"]


def blocker_of(fleet: Fleet, vm: str) -> Any:
    """The one blocker of this VM in a check of h1."""
    (report,) = fleet.furlough("check", "h1", "--json").json
    of_vm = [one for one in report["findings"] if one["subject"].startswith(f"{vm} ")]
    (found,) = [one for one in of_vm if one["severity"] == "blocker"]
    return found


def test_f068_a_file_of_that_name_on_a_target_is_never_overwritten(fleet: Fleet) -> None:
    path = "/srv/local.img"
    h1, h2 = fleet.lab.host("h1"), fleet.lab.host("h2")
    with file_on(h1, path, "16M"), file_on(h2, path, "16M"):
        h1.run("dd", f"of={path}", "conv=notrunc", text_in="our own data")
        h2.run("dd", f"of={path}", "conv=notrunc", text_in=THEIRS.decode())
        entered_by_consent(fleet, with_file_disk(path), path)
        assert read(h2, path) == THEIRS


def test_f070_a_block_device_of_that_name_on_a_target_is_another_device(fleet: Fleet) -> None:
    path = "/srv/devices/volume"
    h1, h2 = fleet.lab.host("h1"), fleet.lab.host("h2")
    with block_device_on(h1, path, b"our own data"), block_device_on(h2, path, THEIRS):
        entered_by_consent(fleet, with_block_disk(path), path)
        assert read(h2, path) == THEIRS
