"""Remedies: what they would change is said first, recorded, and put back, unless the owner of a
VM has used the drive meanwhile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from furlough.core.findings import CODES, Finding, finding
from furlough.core.ids import HostName
from furlough.core.inventory import Disk, DiskKind, Inventory, Vm
from furlough.core.plan import Method, OperationKind, Plan, PlannedStep, Unplaced, numbered
from furlough.core.policy import ExitOptions
from furlough.core.states import HostMode, Power
from furlough.errors import Invalid
from furlough.planning.planner import LAST_POWER_WAVE, roster_of
from furlough.planning.remedies import (
    Change,
    DriveState,
    Remedied,
    Remedy,
    changes,
    inserts,
    look_at_drive,
    plan_ejecting,
    plan_undoing,
    remedy_of,
    undoing,
)
from furlough.planning.restore import plan_exit
from tests.core.builders import (
    H1,
    H2,
    H3,
    NOW,
    OPERATION,
    a_disk,
    a_host,
    a_vm,
    an_inventory,
    vm_id,
)

ISO = "/root/debian.iso"


def a_medium(
    source: str = ISO,
    *,
    target: str = "sda",
    kind: DiskKind = DiskKind.CDROM,
    address: str = "",
) -> Disk:
    """What a drive holds: a file that its host alone has."""
    return Disk(
        target=target,
        source=source,
        datastore=None,
        is_writable=False,
        kind=kind,
        address=address,
    )


def with_media(number: int = 1, *media: Disk, **traits: object) -> Vm:
    """A running VM with an ordinary disk and these media."""
    return a_vm(number, disks=(a_disk(), *(media or (a_medium(),))), **traits)  # type: ignore[arg-type]


def found(code: str, *vms: Vm) -> list[Finding]:
    """A finding of this code about each of these VMs."""
    return [finding(code, f"{vm.name} ({vm.id})", "It is so.") for vm in vms]


def taken(number: int = 1, *, home: HostName = H1, medium: str = ISO) -> Remedied:
    """The record of a medium that was taken out."""
    return Remedied(
        vm=vm_id(number),
        name=f"vm{number}",
        home=home,
        drive="sda",
        medium=medium,
        operation=OPERATION,
        since=NOW,
    )


# --- what would change -------------------------------------------------------------------------


def test_every_code_that_promises_a_remedy_has_one() -> None:
    promised = {code for code, kind in CODES.items() if kind.apply}
    assert {"vm.local_media", "guard.unproven"} <= promised
    for code in promised:
        assert remedy_of(code) in Remedy


@pytest.mark.parametrize("code", ["vm.device", "no.such_code", "", "x" * 500])
def test_a_code_without_a_remedy_is_refused_and_the_others_are_named(code: str) -> None:
    with pytest.raises(Invalid, match="no remedy that a program could apply") as caught:
        remedy_of(code)
    assert caught.value.code == "remedy.none"
    assert "vm.local_media" in caught.value.remedy
    assert len(caught.value.message) < 200


def test_ejecting_names_every_local_medium_and_nothing_else() -> None:
    floppy = a_medium("/root/driver.img", target="fda", kind=DiskKind.FLOPPY)
    on_store = replace(a_medium("/srv/images/x.iso", target="sdb"), datastore="images")
    from_net = a_medium("nbd://192.0.2.1/x", target="sdc", address="192.0.2.1")
    device = a_medium("block dev=/dev/sr0", target="sdd")
    vm = with_media(1, a_medium(), floppy, on_store, from_net, device)
    other = with_media(2)
    inventory = an_inventory([vm, other])
    told = changes("vm.local_media", inventory, H1, found("vm.local_media", vm))
    assert [(one.vm, one.drive, one.medium) for one in told] == [
        (vm.id, "sda", ISO),
        (vm.id, "fda", "/root/driver.img"),
        (vm.id, "sdd", "block dev=/dev/sr0"),
    ]
    assert told[0].what == f"Take {ISO} out of drive sda of VM vm1."
    assert "exits maintenance" in told[0].undo


def test_without_a_finding_there_is_nothing_to_change() -> None:
    vm = with_media()
    inventory = an_inventory([vm])
    assert changes("vm.local_media", inventory, H1, found("vm.paused", vm)) == ()
    assert changes("guard.unproven", inventory, H1, []) == ()


def test_preparing_says_what_is_installed_and_that_it_stays() -> None:
    unproven = finding("guard.unproven", H1, "Its hook is not installed.")
    (told,) = changes("guard.unproven", an_inventory(), H1, [unproven])
    assert (told.remedy, told.host, told.vm) == (Remedy.PREPARE, H1, None)
    assert "furlough-host and its hook" in told.what
    assert "stays" in told.undo


# --- plans -------------------------------------------------------------------------------------


def test_the_plan_takes_out_exactly_what_was_told() -> None:
    vms = [with_media(1), with_media(2, a_medium("/root/b.iso", target="hdc"))]
    inventory = an_inventory(vms)
    told = changes("vm.local_media", inventory, H1, found("vm.local_media", *vms))
    plan = plan_ejecting(H1, told, inventory)
    assert plan.kind is OperationKind.REMEDY_VM
    assert [(one.number, one.method, one.vm, one.drive, one.medium) for one in plan.steps] == [
        (1, Method.EJECT, vms[0].id, "sda", ISO),
        (2, Method.EJECT, vms[1].id, "hdc", "/root/b.iso"),
    ]
    assert plan_ejecting(H1, told[:1], inventory).hash != plan.hash


def test_a_change_of_the_host_itself_is_no_step_of_a_vm() -> None:
    told = Change(remedy=Remedy.PREPARE, host=H1, what="x", undo="y")
    assert plan_ejecting(H1, [told], an_inventory()).steps == ()


def test_what_was_taken_out_is_put_back_where_the_vm_is_at_home() -> None:
    record = [taken(1), taken(2), taken(3), taken(4, home=H2)]
    inventory = an_inventory([a_vm(1), a_vm(2, host=H2), a_vm(4, host=H2)])
    told = undoing(inventory, H1, record)
    assert [one.vm for one in told] == [vm_id(1)]
    assert told[0].what == f"Put {ISO} back into drive sda of VM vm1."
    assert str(OPERATION) in told[0].undo
    plan = plan_undoing(H1, inventory, record)
    assert [(one.method, one.vm, one.host) for one in plan.steps] == [(Method.INSERT, vm_id(1), H1)]


def test_an_exit_puts_back_at_last_what_belongs_to_those_who_are_at_home_then() -> None:
    record = [taken(1), taken(2), taken(3)]
    inventory = an_inventory([a_vm(1, host=H2), a_vm(2, host=H3), a_vm(3)])
    steps = inserts(inventory, H1, record, {vm_id(1)})
    assert [(one.vm, one.source, one.wave) for one in steps] == [
        (vm_id(1), H2, LAST_POWER_WAVE),
        (vm_id(3), H1, LAST_POWER_WAVE),
    ]


def test_a_vm_with_two_steps_is_one_vm_of_the_operation() -> None:
    inventory = an_inventory([a_vm(1, host=H2), a_vm(2)])
    record = [taken(1), replace(taken(1), drive="sdb"), taken(2)]
    steps = numbered(tuple(inserts(inventory, H1, record, {vm_id(1)})))
    plan = Plan(kind=OperationKind.EXIT, hosts=(H1,), steps=steps)
    assert [(one.vm, one.host) for one in roster_of(plan, inventory)] == [
        (vm_id(1), H2),
        (vm_id(2), H1),
    ]


def test_a_vm_that_is_left_on_a_host_is_one_of_the_operation_too() -> None:
    inventory = an_inventory([a_vm(1), a_vm(1, host=H2, power=Power.SHUT_OFF), a_vm(2)])
    left = Unplaced(vm=vm_id(1), vm_name="vm1", reasons={})
    plan = Plan(kind=OperationKind.ENTER, hosts=(H1,), steps=(), unplaced=(left,))
    assert [(one.vm, one.host) for one in roster_of(plan, inventory)] == [(vm_id(1), H1)]


def test_the_plan_of_an_exit_puts_it_back_before_the_guard_is_lowered() -> None:
    hosts = [a_host(H1, mode=HostMode.MAINTENANCE), a_host(H2)]
    inventory = an_inventory([a_vm(1, power=Power.SHUT_OFF)], hosts=hosts)
    plan, _ = plan_exit(inventory, [H1], [], ExitOptions(), (), [taken(1)])
    waves = {one.method: one.wave for one in plan.steps}
    assert waves[Method.INSERT] < waves[Method.LOWER_GUARD]


# --- looking at a drive ------------------------------------------------------------------------


def about(method: Method = Method.INSERT) -> PlannedStep:
    """A step about drive sda of vm1 on h1."""
    return PlannedStep(
        number=1, method=method, host=H1, vm=vm_id(1), vm_name="vm1", drive="sda", medium=ISO
    )


@pytest.mark.parametrize(
    ("inventory", "state", "words"),
    [
        (an_inventory([with_media()]), DriveState.HOLDS, f"{ISO} is in drive sda"),
        (an_inventory([a_vm(1)]), DriveState.EMPTY, "drive sda of VM vm1 is empty"),
        (
            an_inventory([with_media(1, a_medium(""))]),
            DriveState.EMPTY,
            "drive sda of VM vm1 is empty",
        ),
        (
            an_inventory([with_media(1, a_medium("/root/other.iso"))]),
            DriveState.OTHER,
            "drive sda of VM vm1 holds /root/other.iso by now",
        ),
        (an_inventory([a_vm(1, host=H2)]), DriveState.ELSEWHERE, "VM vm1 is on h2, not on h1"),
        (an_inventory([]), DriveState.GONE, "no host lists VM vm1 any more"),
        (
            an_inventory([], hosts=[a_host(H1), a_host(H2, silent_because="no route")]),
            DriveState.ELSEWHERE,
            "VM vm1 may be on h2, which does not answer",
        ),
        (
            an_inventory([with_media()], hosts=[a_host(H1, silent_because="no route")]),
            DriveState.SILENT,
            "h1 does not answer",
        ),
    ],
)
def test_a_look_at_a_drive_says_what_it_holds_or_why_nobody_knows(
    inventory: Inventory, state: DriveState, words: str
) -> None:
    sight = look_at_drive(about(), inventory)
    assert (sight.state, sight.words) == (state, words)
