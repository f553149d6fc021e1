"""Entering by other hands (automation off): the guard keeps new VMs off, people move or stop those
that are there, and the proof comes when they are done.
"""

from __future__ import annotations

from collections.abc import Sequence

from furlough.core.ids import HostName
from furlough.core.inventory import Inventory, Vm
from furlough.core.plan import Method, OperationKind, Plan, PlannedStep, Unplaced, numbered
from furlough.core.policy import EnterOptions, Scope
from furlough.core.timing import NO_TIME, PROOF
from furlough.planning.candidates import movers
from furlough.planning.planner import GUARD_WAVE, LAST_WAVE

_WHY = "it is left to people to move it or to shut it down"


def plan_hands_off(inventory: Inventory, hosts: Sequence[HostName], options: EnterOptions) -> Plan:
    """The plan that moves nobody: guard, and proof where the request waits for it. Everybody who
    has to leave is in `unplaced`."""
    steps: list[PlannedStep] = []
    for host in hosts:
        steps.append(PlannedStep(number=0, method=Method.RAISE_GUARD, host=host, wave=GUARD_WAVE))
        if options.wait:
            steps.append(
                PlannedStep(number=0, method=Method.CONFIRM_EMPTY, host=host, wave=LAST_WAVE)
            )
    return Plan(
        kind=OperationKind.ENTER,
        hosts=tuple(hosts),
        steps=numbered(tuple(sorted(steps, key=lambda step: step.wave))),
        unplaced=tuple(
            Unplaced(vm=vm.id, vm_name=vm.name, reasons={host: (_WHY,)})
            for host in hosts
            for vm in still_there(inventory, host, options)
        ),
        eta=PROOF if options.wait else NO_TIME,
    )


def still_there(inventory: Inventory, host: HostName, options: EnterOptions) -> list[Vm]:
    """The VMs that people have yet to take off a host."""
    if options.scope is Scope.ALL:
        return [vm for vm in inventory.vms_on(host) if not vm.is_arriving]
    return movers(inventory, host)
