"""What stands against an exit; and who may be selected to come home."""

from __future__ import annotations

from dataclasses import replace

import pytest

from furlough.core.admission import Standing
from furlough.core.codes import RESTORE_CODES
from furlough.core.findings import Severity
from furlough.core.ids import HostName, VmId
from furlough.core.plan import Method
from furlough.core.policy import ExitOptions, RestoreMode
from furlough.core.states import HostMode, Power
from furlough.errors import Conflict, Invalid, Refused
from furlough.planning.restore import plan_exit
from furlough.prechecks.exiting import check_exit_mode, exit_findings, selected
from tests.core.builders import C1, H1, H2, H3, a_host, a_vm, an_inventory, vm_id
from tests.planning.test_restore import away

SELECTED = RestoreMode.SELECTED
MAINTENANCE, AVAILABLE = HostMode.MAINTENANCE, HostMode.AVAILABLE
_STOPPED = replace(away(2, left_on=H1), was_stopped=True, method=Method.SHUT_DOWN)
RECORD = [away(1), _STOPPED, away(3, home=H3)]


def _standings(**modes: HostMode) -> dict[HostName, Standing]:
    return {
        HostName(name): Standing(host=HostName(name), cluster=C1, mode=mode, operation=None)
        for name, mode in modes.items()
    }


def test_hosts_in_maintenance_are_exited_and_hosts_in_service_get_their_vms_back() -> None:
    assert not check_exit_mode([H1, H2], _standings(h1=MAINTENANCE, h2=MAINTENANCE), [])
    assert check_exit_mode([H1, H3], _standings(h1=AVAILABLE, h3=AVAILABLE), RECORD)


@pytest.mark.parametrize(
    ("modes", "words", "remedy"),
    [
        ({"h1": HostMode.CORDONED, "h2": MAINTENANCE}, "h1 is cordoned", "furlough host show h1"),
        ({"h1": AVAILABLE, "h2": MAINTENANCE}, "h1 is in service", "furlough exit h1 h2"),
        ({"h1": AVAILABLE, "h2": AVAILABLE}, "h2 is in service, and nobody", "host list"),
    ],
)
def test_other_hosts_are_refused_with_what_to_do(
    modes: dict[str, HostMode], words: str, remedy: str
) -> None:
    with pytest.raises(Conflict, match=words) as refusal:
        check_exit_mode([H1, H2], _standings(**modes), RECORD)
    assert remedy in refusal.value.remedy


def test_the_selected_are_found_by_name_or_uuid_each_once() -> None:
    options = ExitOptions(
        restore=SELECTED,
        power_on=(VmId("vm2"), VmId(vm_id(2).upper())),
        live_migrate_back=(vm_id(1),),
    )
    found = selected(options, [H1], RECORD)
    assert (found.power_on, found.live_migrate_back, found.cold_migrate_back) == (
        (vm_id(2),),
        (vm_id(1),),
        (),
    )


def test_without_lists_the_options_stay_as_they_are() -> None:
    for mode in RestoreMode:
        options = ExitOptions(restore=mode)
        assert selected(options, [H1], RECORD) == options


@pytest.mark.parametrize(
    ("options", "code", "kind", "remedy"),
    [
        (ExitOptions(power_on=(VmId("vm2"),)), "restore.lists", Invalid, "restore selected"),
        (
            ExitOptions(restore=SELECTED, power_on=(VmId("vm3"),)),
            "restore.not_recorded",
            Refused,
            "furlough exit h1 --check",
        ),
        (
            ExitOptions(restore=SELECTED, power_on=(VmId("vm1"),)),
            "restore.other_way",
            Invalid,
            "--live-migrate-back",
        ),
        (
            ExitOptions(restore=SELECTED, live_migrate_back=(VmId("twin"),)),
            "vm.ambiguous",
            Invalid,
            "UUID",
        ),
    ],
)
def test_lists_that_make_no_sense_are_refused_with_what_to_do(
    options: ExitOptions, code: str, kind: type[Exception], remedy: str
) -> None:
    twins = [replace(away(number), name="twin") for number in (8, 9)]
    with pytest.raises(kind) as refusal:
        selected(options, [H1], [*RECORD, *twins])
    assert getattr(refusal.value, "code", None) == code
    assert remedy in getattr(refusal.value, "remedy", "")


def test_a_silent_home_forbids_the_exit_and_who_cannot_come_deserves_a_thought() -> None:
    hosts = [a_host(H1, mode=MAINTENANCE, silent_because="no route"), a_host(H2), a_host(H3)]
    inventory = an_inventory([a_vm(1, host=H2)], hosts=hosts)
    _, decided = plan_exit(inventory, [H1], [away(1)], ExitOptions())
    found = exit_findings(H1, inventory, decided)
    assert [(one.code, one.severity) for one in found] == [
        ("host.silent", Severity.BLOCKER),
        ("restore.hindered", Severity.WARNING),
    ]
    assert "h1 does not answer: no route" in found[0].message
    assert found[1].subject == f"vm1 ({vm_id(1)})"


def test_what_has_changed_is_worth_knowing_and_what_is_as_it_was_is_not_mentioned() -> None:
    hosts = [a_host(H1, mode=MAINTENANCE), a_host(H2), a_host(H3)]
    vms = [a_vm(1, host=H2), a_vm(2, host=H3), a_vm(4, host=H2, power=Power.SHUT_OFF)]
    inventory = an_inventory(vms, hosts=hosts)
    record = [away(1), away(2), away(4)]
    _, decided = plan_exit(inventory, [H1], record, ExitOptions())
    found = exit_findings(H1, inventory, decided)
    assert [(one.code, one.severity) for one in found] == [("restore.changed", Severity.INFO)] * 2
    assert "VM vm2 has changed: somebody moved it from h2 since." in found[0].message


def test_every_code_of_exits_is_raised_by_a_story_of_this_page() -> None:
    assert set(RESTORE_CODES) == {"restore.hindered", "restore.changed"}
