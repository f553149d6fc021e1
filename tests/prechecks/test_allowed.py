"""What may be done with the VMs of a host, by the mode it is in; and which hosts take VMs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from furlough.core.findings import CODES
from furlough.core.ids import HostName
from furlough.core.plan import OperationKind
from furlough.core.states import HostMode, Power
from furlough.errors import Refused
from furlough.planning.causes import Cause
from furlough.planning.compatibility import Obstacle
from furlough.planning.placement import Placement
from furlough.planning.planner import plan_power
from furlough.prechecks.requests import (
    ALLOWED_ON_VMS,
    check_allowed,
    check_plan_allowed,
    check_takes_vms,
    fits_nowhere,
)
from tests.core.builders import H1, H2, a_host, a_plan, a_vm, an_inventory, planned

STOPS_OR_MOVES = {
    OperationKind.SHUT_DOWN_VM,
    OperationKind.POWER_OFF_VM,
    OperationKind.MIGRATE_VM,
}
SERVED = (HostMode.ENTERING, HostMode.MAINTENANCE, HostMode.EXITING)
KEPT = "a person at the host since noon"


def test_every_request_about_a_vm_is_in_the_table() -> None:
    assert set(ALLOWED_ON_VMS) == {one for one in OperationKind if one.value.endswith("_vm")}


@pytest.mark.parametrize("mode", HostMode)
@pytest.mark.parametrize("kind", ALLOWED_ON_VMS)
def test_on_a_host_in_maintenance_or_on_the_way_vms_are_stopped_and_moved_and_nothing_else(
    kind: OperationKind, mode: HostMode
) -> None:
    host = a_host(H1, mode=mode)
    is_served = mode in SERVED
    starts_on_cordoned = kind is OperationKind.START_VM and mode is HostMode.CORDONED
    if kind in STOPS_OR_MOVES or not (is_served or starts_on_cordoned):
        check_allowed(kind, "vm1", host)
        return
    with pytest.raises(Refused, match=f"VM vm1 is on h1, which is {mode.value}") as refusal:
        check_allowed(kind, "vm1", host)
    assert refusal.value.code == "host.mode"
    assert refusal.value.remedy.endswith(".")
    assert "{" not in refusal.value.remedy


def test_nothing_is_started_where_a_person_keeps_the_host_empty() -> None:
    kept = replace(a_host(H1), kept_empty_by=KEPT)
    for kind in STOPS_OR_MOVES:
        check_allowed(kind, "vm1", kept)
    with pytest.raises(Refused, match=KEPT) as refusal:
        check_allowed(OperationKind.START_VM, "vm1", kept)
    assert refusal.value.code == "host.kept_by_person"
    assert refusal.value.remedy == CODES["host.kept_by_person"].remedy


@pytest.mark.parametrize("mode", HostMode)
def test_only_an_available_host_is_a_target_that_may_be_named(mode: HostMode) -> None:
    host = a_host(H2, mode=mode)
    if mode is HostMode.AVAILABLE:
        check_takes_vms(host)
        with pytest.raises(Refused, match=KEPT):
            check_takes_vms(replace(host, kept_empty_by=KEPT))
        return
    with pytest.raises(Refused, match=f"h2 is {mode.value}: no VM may be moved there") as refusal:
        check_takes_vms(host)
    assert refusal.value.remedy


def test_a_whole_plan_is_judged_by_the_hosts_of_its_vms() -> None:
    off = a_vm(1, power=Power.SHUT_OFF)
    start = plan_power(OperationKind.START_VM, off)

    def judged(mode: HostMode) -> None:
        hosts = [a_host(H1, mode=mode), a_host(HostName("h2"))]
        check_plan_allowed(start, an_inventory([off], hosts=hosts))

    judged(HostMode.AVAILABLE)
    with pytest.raises(Refused, match="nothing may be started there"):
        judged(HostMode.MAINTENANCE)


def test_a_plan_about_hosts_is_not_judged_by_it() -> None:
    hosts = [a_host(H1, mode=HostMode.ENTERING), a_host(H2)]
    check_plan_allowed(a_plan(planned(1), kind=OperationKind.ENTER), an_inventory(hosts=hosts))


def test_a_vm_that_fits_nowhere_is_refused_with_the_reasons_of_each_host() -> None:
    vm = a_vm(1)
    against = {
        H2: (
            Obstacle(cause=Cause.CPU, message="no such CPU"),
            Obstacle(cause=Cause.ROOM, message="no room"),
        ),
        HostName("h3"): (Obstacle(cause=Cause.SILENT, message="it does not answer"),),
    }
    told = fits_nowhere(vm, Placement(targets={}, refusals={vm.id: against}))
    assert told.code == "vm.no_target"
    assert "h2: no such CPU, no room; h3: it does not answer." in told.message
    alone = fits_nowhere(vm, Placement(targets={}, refusals={vm.id: {}}))
    assert "there is no other host" in alone.message
