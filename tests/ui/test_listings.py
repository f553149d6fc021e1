"""Listings of thousands: the right ones, in order, a page at a time."""

from __future__ import annotations

from dataclasses import replace

from furlough.core.states import Power
from furlough.ui.dashboard import host_row
from furlough.ui.visit import PER_PAGE, listed
from furlough.ui.vms import by_name, matching
from tests.core.builders import H1, H2, a_host, a_vm, an_inventory

_MANY = 2 * PER_PAGE + 7


def test_pages_of_vms_are_in_order_and_together_hold_each_once() -> None:
    vms = [a_vm(number, name=f"vm{(number * 37) % 1000:03d}") for number in range(1, _MANY + 1)]
    pages = [by_name(vms, page) for page in (1, 2, 3)]
    names = [vm.name for page in pages for vm in page.items]
    assert names == sorted(vm.name for vm in vms)
    assert [len(page.items) for page in pages] == [PER_PAGE, PER_PAGE, 7]
    assert {(page.total, page.pages) for page in pages} == {(_MANY, 3)}
    # Beyond the last page there is the last page.
    assert by_name(vms, 99) == pages[2]
    assert by_name([], 5).items == listed([], 5).items == []


def test_vms_are_found_by_parts_of_names_in_any_case_by_uuid_host_and_power() -> None:
    inventory = an_inventory(
        [a_vm(1, name="Web01"), a_vm(2, name="db01", host=H2), a_vm(3, power=Power.SHUT_OFF)]
    )

    def found(part: str = "", host: str = "", power: str = "") -> list[str]:
        return [vm.id[-1] for vm in matching(inventory, part, host, power)]

    assert found("wEB") == ["1"]
    assert found("01") == ["1", "2"]
    assert found("000000000003") == ["3"]
    assert found(host="h2") == ["2"]
    assert found(power="shut_off") == ["3"]
    assert found("nobody") == []


def test_a_hosts_row_counts_what_holds_memory_there_and_not_who_is_only_arriving() -> None:
    inventory = an_inventory(
        [
            a_vm(1, memory_mib=1000),
            a_vm(2, memory_mib=2000, power=Power.SHUT_OFF),
            replace(a_vm(3, memory_mib=500), is_arriving=True),
        ],
        hosts=[a_host(H1, memory_mib=10_000)],
    )
    row = host_row(inventory.host(H1), inventory)
    assert (row.running, row.total, row.used_mib, row.limit_mib) == (1, 2, 1500, 10_000)
