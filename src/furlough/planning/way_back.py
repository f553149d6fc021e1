"""The way back, planned at entry: what an exit would do right after an evacuation has gone as
planned.

The facts are told as they would be then, each VM where the plan takes it, and the exit is planned
as it always is. What else happens until then nobody knows: the exit is planned anew when its time
comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from furlough.core.ids import HostName, OperationId, VmId
from furlough.core.inventory import Inventory, Vm
from furlough.core.plan import Method, Plan, PlannedStep
from furlough.core.policy import ExitOptions
from furlough.core.states import HostMode, Power
from furlough.planning.record import Away
from furlough.planning.restore import plan_exit

_MOVES = frozenset({Method.LIVE, Method.COLD})
_STOPS = frozenset({Method.SHUT_DOWN, Method.SUSPEND})


def way_back(inventory: Inventory, plan: Plan) -> Plan:
    """The plan of the exit that would follow the plan of an evacuation at once."""
    steps = {
        (step.vm, step.source): step
        for step in plan.steps
        if step.vm is not None and step.source is not None and step.method in _MOVES | _STOPS
    }
    then = replace(
        inventory,
        hosts=[
            replace(host, mode=HostMode.MAINTENANCE) if host.name in plan.hosts else host
            for host in inventory.hosts
        ],
        vms=[_afterwards(vm, steps.get((vm.id, vm.host))) for vm in inventory.vms],
    )
    record = list(_record(inventory, steps))
    back, _ = plan_exit(then, plan.hosts, record, ExitOptions())
    return back


def _afterwards(vm: Vm, step: PlannedStep | None) -> Vm:
    """A VM as it is once its step is done."""
    if step is None:
        return vm
    if step.method in _MOVES:
        return replace(vm, host=step.targets[0])
    return replace(vm, power=Power.SHUT_OFF, has_managed_save=step.method is Method.SUSPEND)


def _record(
    inventory: Inventory, steps: Mapping[tuple[VmId, HostName], PlannedStep]
) -> Iterator[Away]:
    for (vm, source), step in steps.items():
        if source != step.host:
            continue  # It makes room, and stays where it goes.
        yield Away(
            vm=vm,
            name=step.vm_name,
            home=source,
            left_on=step.targets[0] if step.method in _MOVES else source,
            operation=_THIS,
            since=inventory.taken_at,
            before=step.before,
            was_stopped=step.method in _STOPS,
            method=step.method,
            load=step.load,
        )


# No operation has this number; nobody is shown it.
_THIS = OperationId("op-0")
