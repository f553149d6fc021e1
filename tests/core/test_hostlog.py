"""The log of a host: one line for each machine and event (what an operator reads afterwards)."""

from __future__ import annotations

from dataclasses import replace

from furlough.core.hostlog import Level, log_lines
from furlough.core.ids import HostName
from furlough.core.journal import (
    CancelRequested,
    DeadlinePassed,
    Entry,
    Event,
    HostModeChanged,
    OperationBlocked,
    OperationClaimed,
    OperationEnded,
    OperationUnblocked,
    StepActed,
    StepFailed,
    StepSkipped,
    StepStarted,
    StepSucceeded,
)
from furlough.core.operation import Act, Failure, Operation, Outcome
from furlough.core.plan import Method, OperationKind
from furlough.core.policy import CancelMode
from furlough.core.states import HostMode, OperationState
from tests.core.builders import (
    H1,
    H2,
    H3,
    NOW,
    a_plan,
    accepted,
    after,
    later,
    planned,
    running,
)

PLAN = a_plan(
    planned(1, Method.RAISE_GUARD),
    planned(2, Method.LIVE, targets=(H2, H3)),
    planned(3, Method.CONFIRM_EMPTY, wave=2),
)
FAILURE = Failure(code="hypervisor.failed", message="QEMU died.", remedy="Look at its log.")


def _told(*events: Event, host: HostName = H1, plan: Operation | None = None) -> list[str]:
    """The lines after acceptance, as level, machine and message."""
    operation = plan or running(PLAN)
    journal = [
        Entry(sequence=number, operation=operation.id, number=number, at=later(number), event=event)
        for number, event in enumerate(events, 1)
    ]
    return [
        f"{line.level.value} {line.vm_name or '-'}: {line.message}"
        for line in log_lines(host, operation, journal)
    ]


def _mode(before: HostMode, after: HostMode, host: HostName = H1) -> HostModeChanged:
    return HostModeChanged(host=host, before=before, after=after)


def test_an_evacuation_reads_from_the_request_to_maintenance_mode() -> None:
    vm_name = PLAN.steps[1].vm_name
    assert _told(
        accepted(PLAN),
        _mode(HostMode.AVAILABLE, HostMode.CORDONED),
        _mode(HostMode.CORDONED, HostMode.ENTERING),
        OperationClaimed(owner="p", epoch=1),
        StepStarted(step=1, target=None, epoch=1),
        StepSucceeded(step=1),
        StepStarted(step=2, target=H2, epoch=1),
        StepFailed(step=2, failure=FAILURE, not_before=later(9)),
        StepStarted(step=2, target=H3, epoch=1),
        StepActed(step=2, act=Act.SET_AUTOSTART, host=H3, why="it had autostart"),
        StepSucceeded(step=2, outcome=Outcome.MOVED, where=H3, downtime_ms=52),
        StepSucceeded(step=3),
        _mode(HostMode.ENTERING, HostMode.MAINTENANCE),
        OperationEnded(state=OperationState.SUCCEEDED, message="VMs: 1 moved."),
    ) == [
        "info -: enter requested by ann",
        "info -: cordoned: no new VMs",
        "info -: entering maintenance",
        "info -: guard raised: nothing starts here",
        f"info {vm_name}: migrating from h1 to h2",
        f"warning {vm_name}: attempt failed, another follows: QEMU died. Look at its log.",
        f"info {vm_name}: migrating from h1 to h3",
        f"info {vm_name}: set autostart on h3: it had autostart",
        f"info {vm_name}: now on h3, downtime 52 ms",
        "info -: seen empty",
        "info -: Maintenance Mode",
        "info -: succeeded. VMs: 1 moved.",
    ]


def test_every_machine_that_could_not_be_moved_has_an_error_line_with_the_reason() -> None:
    vm_name = PLAN.steps[1].vm_name
    assert _told(
        StepFailed(step=2, failure=FAILURE),
        StepSkipped(step=3, why="step op-7.2 (live) failed"),
        OperationEnded(state=OperationState.FAILED, message="VMs: 1 stayed."),
    ) == [
        f"error {vm_name}: failed: QEMU died. Look at its log.",
        "warning -: left as it is: step op-7.2 (live) failed",
        "error -: failed. VMs: 1 stayed.",
    ]


def test_waiting_and_stopping_are_in_the_log_with_who_and_why() -> None:
    assert _told(
        OperationBlocked(code="host.silent", waiting_for="h2 does not answer"),
        OperationUnblocked(),
        OperationUnblocked(by="ann"),
        CancelRequested(mode=CancelMode.STOP, by="ann"),
        DeadlinePassed(),
        StepSucceeded(step=2, outcome=Outcome.STOPPED_BY_GUEST),
        StepSucceeded(step=2, outcome=Outcome.MOVED, where=H2),
    )[:-1] == [
        "warning -: waiting: h2 does not answer",
        "info -: goes on",
        "info -: goes on, as told by ann",
        "warning -: cancel requested by ann",
        "warning -: time is over",
        f"info {PLAN.steps[1].vm_name}: stopped by guest",
    ]


def test_other_hosts_of_the_same_operation_have_logs_of_their_own() -> None:
    assert _told(_mode(HostMode.ENTERING, HostMode.MAINTENANCE), host=H2) == []
    assert _told(StepSucceeded(step=1), host=H2) == []


def test_a_line_says_when_and_in_which_operation() -> None:
    operation = after(running(PLAN))
    entry = Entry(sequence=1, operation=operation.id, number=1, at=NOW, event=DeadlinePassed())
    (line,) = log_lines(H1, operation, [entry])
    assert (line.at, line.operation, line.level) == (NOW, operation.id, Level.WARNING)


def test_a_reboot_reads_from_the_request_to_the_host_that_is_back() -> None:
    reboot = a_plan(
        planned(1, Method.RAISE_GUARD),
        replace(planned(2, Method.RAISE_GUARD), method=Method.REBOOT_HOST),
        kind=OperationKind.REBOOT_HOST,
    )
    assert _told(
        accepted(reboot),
        StepSucceeded(step=1),
        StepStarted(step=2, target=None, epoch=1, boot_id="a"),
        StepActed(step=2, act=Act.REBOOT_HOST, host=H1, why="seen empty and guarded"),
        OperationBlocked(code="host.rebooting", waiting_for="h1 to come back"),
        OperationUnblocked(),
        StepSucceeded(step=2),
        plan=running(reboot),
    ) == [
        "info -: reboot host requested by ann",
        "info -: guard raised: nothing starts here",
        "info -: reboot host on h1: seen empty and guarded",
        "info -: waiting: h1 to come back",
        "info -: goes on",
        "info -: has rebooted, empty and guarded as before",
    ]
