"""Reboot and power off of a host: when it may be asked for, and by which steps it is done.

Only in maintenance, and maintenance it stays: the marker is raised anew under the operation that
asks, so that furlough-host obeys nobody who was overtaken; the mode of the host does not change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from furlough.core.drift import check_unviolated
from furlough.core.ids import HostName
from furlough.core.inventory import Host
from furlough.core.operation import Act, Operation
from furlough.core.plan import Method, OperationKind, Plan, PlannedStep
from furlough.core.policy import EnterOptions
from furlough.core.states import HostMode, OperationState, StepState
from furlough.errors import Refused
from furlough.planning.planner import plan_action
from furlough.prechecks.requests import check_connected

REBOOTS_WITHIN_S = 15 * 60.0
OBEYS_WITHIN_S = 5 * 60.0
LEAST_APART_S = 60.0

_METHODS: Mapping[OperationKind, Method] = {
    OperationKind.REBOOT_HOST: Method.REBOOT_HOST,
    OperationKind.POWER_OFF_HOST: Method.POWER_OFF_HOST,
}
_ACTS = frozenset({Act.REBOOT_HOST, Act.POWER_OFF_HOST})


def plan_host_power(kind: OperationKind, host: HostName) -> Plan:
    """Raise the marker under this operation, then reboot the host or switch it off."""
    steps = (
        PlannedStep(number=0, method=Method.RAISE_GUARD, host=host),
        PlannedStep(number=0, method=_METHODS[kind], host=host, wave=1),
    )
    return plan_action(kind, host, steps)


def check_power(host: Host, operations: Iterable[Operation], now: datetime) -> None:
    """`Refused` where a host may not be rebooted or switched off now: it is not in maintenance,
    does not answer, something is on it, or the last such command is too fresh. `operations`: its
    newest ones."""
    if host.mode is not HostMode.MAINTENANCE:
        raise Refused(
            "host.not_in_maintenance",
            f"Host {host.name} is {host.mode.value}: its power is changed in maintenance alone.",
            remedy=f"Enter maintenance first: furlough enter {host.name}.",
        )
    check_connected(host)
    if not host.boot_id:
        raise Refused(
            "host.boot_unknown",
            f"{host.name} does not say which boot it runs from, so nobody could tell whether it "
            "has obeyed.",
            remedy=f"Bring its furlough-host up to date: furlough host prepare {host.name}.",
        )
    check_unviolated(host)
    last = max(_commands(operations), default=None)
    if last is not None and now - last < timedelta(seconds=LEAST_APART_S):
        left_s = LEAST_APART_S - (now - last).total_seconds()
        raise Refused(
            "host.power_rate",
            f"Host {host.name} was sent a power command at {last:%H:%M:%S} UTC; one a minute is "
            "the most.",
            remedy=f"Look at what it does, and ask again in {left_s:.0f} s if need be.",
        )


def _commands(operations: Iterable[Operation]) -> Iterable[datetime]:
    """When power commands were sent, or about to be."""
    for operation in operations:
        for step in operation.steps:
            for attempt in step.attempts:
                if not _ACTS.isdisjoint(attempt.acts):
                    yield attempt.started_at


def check_no_flights(host: HostName, operations: Iterable[Operation]) -> None:
    """`Refused` where a migration in flight has the host as source or target: its memory may be
    on both sides of the wire (S13)."""
    for operation in operations:
        for step in operation.steps:
            flies = step.method is Method.LIVE and step.state is StepState.STARTED
            if flies and host in (step.planned.source, step.target):
                raise Refused(
                    "host.in_flight",
                    f"VM {step.planned.vm_name} is being migrated by {operation.id}, and {host} "
                    "takes part in it.",
                    remedy=f"Wait for it: furlough operation watch {operation.id}.",
                )


def accepts_unproven(operations: Iterable[Operation]) -> bool:
    """Whether the maintenance that a host is in was entered in spite of an unproven guard.
    `operations`: those of the host, the newest first."""
    for operation in operations:
        succeeded = operation.state is OperationState.SUCCEEDED
        if succeeded and isinstance(operation.options, EnterOptions):
            return "guard.unproven" in operation.options.override
    return False
