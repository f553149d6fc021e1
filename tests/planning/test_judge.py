"""Whom the judge of a placement is asked about: nobody whom nobody goes to."""

from __future__ import annotations

from furlough.core.inventory import Host, Inventory, Vm
from furlough.planning.compatibility import Obstacle
from furlough.planning.placement import place
from tests.core.builders import H1, H2, H3, H4, a_host, a_vm, an_inventory


def test_a_way_home_is_judged_for_the_home_alone() -> None:
    hosts = [a_host(name) for name in (H1, H2, H3, H4)]
    inventory = an_inventory([a_vm(1, host=H2), a_vm(2, host=H3)], hosts=hosts)
    asked = set()

    def judge(vm: Vm, host: Host, _inventory: Inventory) -> list[Obstacle]:
        asked.add((vm.name, host.name))
        return []

    placement = place(inventory.vms, [hosts[0]], inventory, judge=judge)
    assert set(placement.targets.values()) == {(H1,)}
    assert asked == {("vm1", H1), ("vm2", H1)}
