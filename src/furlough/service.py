"""The use cases: the one door for API, facades and pages. Nothing above calls anything below.

Every method checks, decides with the core, and writes through the store. Effects on hosts are the
engine's; what a request accepts here is an operation that the engine carries out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from furlough.core.admission import (
    Standing,
    check_hosts_free,
    check_hosts_known,
    check_vms_free,
    terms_of,
)
from furlough.core.drift import line_of
from furlough.core.enrolment import Enrolment, Program, check_datastore, check_host
from furlough.core.hostlog import LogLine, log_lines
from furlough.core.ids import ClusterName, HostName, OperationId, VmId
from furlough.core.inventory import Host, Inventory
from furlough.core.journal import (
    CancelRequested,
    Entry,
    Event,
    HostModeChanged,
    OperationAccepted,
    OperationUnblocked,
)
from furlough.core.operation import Operation
from furlough.core.plan import Method, OperationKind, Plan, PlannedStep
from furlough.core.policy import (
    ActionOptions,
    CancelMode,
    EnterOptions,
    ExitOptions,
    Options,
)
from furlough.core.states import HostMode, OperationState, Power
from furlough.engine.supervisor import Supervisor
from furlough.engine.work import Work
from furlough.errors import Conflict, Invalid, Refused, Stale
from furlough.planning.assessment import Report
from furlough.planning.candidates import candidates
from furlough.planning.placement import place
from furlough.planning.planner import (
    plan_action,
    plan_enter,
    plan_migration,
    plan_power,
    roster_of,
)
from furlough.planning.restore import Away, Return, plan_exit
from furlough.ports import Progress
from furlough.prechecks.assessing import assess
from furlough.prechecks.host_power import check_power, plan_host_power
from furlough.prechecks.requests import (
    check_allowed,
    check_connected,
    check_hash,
    check_mode,
    check_movable,
    check_plan_allowed,
    check_takes_vms,
    check_timeout,
    fits_nowhere,
    nothing_to_do,
    settled,
)
from furlough.upkeep import Request, Upkeep, Ways

__all__ = ["Request", "Service", "with_hash"]

_MOST_TRIES = 20


def with_hash(request: Request, plan_hash: str | None) -> Request:
    """The same request, bound to one plan."""
    return replace(request, plan_hash=plan_hash)


class Service:
    """What can be asked of Furlough."""

    def __init__(self, work: Work, supervisor: Supervisor, *, default_timeout_s: float = 0) -> None:
        self._work = work
        self._default_timeout_s = default_timeout_s
        self._store = work.store
        self._observer = work.observer
        self._supervisor = supervisor
        self.upkeep = Upkeep(
            work,
            Ways(
                inventory_around=self._fresh_inventory,
                inventory_of=self._inventory_of,
                check_unowned=self._check_unowned,
                check=self.check,
                repeated=self._repeated,
                accept=self._accept,
            ),
        )

    # --- looking ---------------------------------------------------------------------------

    async def inventory(self) -> Inventory:
        """All facts as last observed."""
        return await self._observer.inventory()

    async def enrolment(self) -> Enrolment:
        """Everything enrolled."""
        return await self._store.enrolment()

    async def away(self) -> Sequence[Away]:
        """Every VM that an evacuation took from its home host."""
        return await self._store.away()

    async def operation(self, which: OperationId) -> Operation:
        """One operation; `NotFound` where there is none."""
        return await self._store.operation(which)

    async def operations(
        self, *, active: bool = False, host: HostName | None = None, limit: int = 100
    ) -> Sequence[Operation]:
        """Operations, newest first."""
        return await self._store.operations(active=active, host=host, limit=limit)

    async def journal(self, which: OperationId) -> Sequence[Entry]:
        """All events of an operation."""
        await self._store.operation(which)
        return await self._store.journal(which)

    async def host_log(self, host: HostName, most: int) -> Sequence[LogLine]:
        """The newest lines of a host's log, oldest first."""
        await self._known([host])
        lines: list[LogLine] = []
        for operation in await self._store.operations(host=host, limit=most):
            journal = await self._store.journal(operation.id)
            lines = [*log_lines(host, operation, journal), *lines]
            if len(lines) >= most:
                break
        lines += [line_of(note) for note in reversed(await self._store.host_notes(host, most))]
        return sorted(lines, key=lambda line: line.at)[-most:]

    async def entries(self, after: int, limit: int) -> Sequence[Entry]:
        """Events of all operations after a sequence number."""
        return await self._store.entries(after, limit)

    async def last_sequence(self) -> int:
        """The number of the newest event."""
        return await self._store.last_sequence()

    async def news(self) -> AsyncIterator[None]:
        """One item whenever something has been written; several at once count as one."""
        async with self._work.notifier.listen() as news:
            async for item in news:
                yield item

    def progress(self, operation: OperationId, step: int) -> Progress | None:
        """The newest progress of a migration in flight."""
        return self._work.board.get(operation, step)

    def now(self) -> datetime:
        """The instant, for whoever has to say how long something takes."""
        return self._work.clock.now()

    # --- enrolling -------------------------------------------------------------------------

    async def apply(self, enrolment: Enrolment) -> None:
        """Create or change everything named, or nothing; what is not named is left as it is."""
        for host in enrolment.hosts:
            check_host(host)
        for datastore in enrolment.datastores:
            check_datastore(datastore)
        await self._store.enrol(enrolment)
        await self._enrolled([host.name for host in enrolment.hosts])

    async def add(self, additions: Enrolment) -> None:
        """Create all of these; `Conflict` where there is one of the same name."""
        known = await self._store.enrolment()
        for kind, new, old in (
            ("cluster", additions.clusters, known.clusters),
            ("datastore", additions.datastores, known.datastores),
            ("host", additions.hosts, known.hosts),
        ):
            taken = {one.name for one in new} & {one.name for one in old}
            if taken:
                raise Conflict(
                    f"{kind}.exists",
                    f"There is a {kind} {min(taken)!r} already.",
                    remedy="Change it: furlough apply FILE."
                    if kind == "datastore"
                    else f"Change it: furlough {kind} set {min(taken)}.",
                )
        await self.apply(additions)

    async def remove_cluster(self, name: ClusterName) -> None:
        """Forget an empty cluster."""
        await self._store.remove_cluster(name)

    async def remove_datastore(self, name: str) -> None:
        """Forget a datastore that no host lists."""
        await self._store.remove_datastore(name)

    async def remove_host(self, name: HostName) -> None:
        """Forget a host that has no work."""
        await self._store.remove_host(name)
        await self._enrolled([])

    async def _enrolled(self, changed: Sequence[HostName]) -> None:
        await self._work.hypervisor.enrol(await self._store.enrolment())
        await self._observer.refresh(changed)

    # --- checking and planning -------------------------------------------------------------

    async def check(self, hosts: Sequence[HostName], options: EnterOptions) -> tuple[Report, ...]:
        """The precheck of entering maintenance, one report per host. Changes nothing."""
        inventory = await self._surveyed_inventory(hosts)
        options = settled(options, hosts, inventory)
        return assess(inventory, hosts, options, await self._store.reservations()).reports

    async def plan(self, hosts: Sequence[HostName], options: EnterOptions) -> Plan:
        """The plan that entering would carry out now. Changes nothing."""
        inventory = await self._surveyed_inventory(hosts)
        options = settled(options, hosts, inventory)
        assessment = assess(inventory, hosts, options, await self._store.reservations())
        return plan_enter(inventory, hosts, assessment, options.order)

    async def exit_check(
        self, hosts: Sequence[HostName], options: ExitOptions
    ) -> tuple[Plan, tuple[Return, ...]]:
        """What exiting would do about every VM of the record. Changes nothing."""
        inventory = await self._fresh_inventory(hosts)
        return await self._plan_exit(inventory, hosts, options)

    async def _plan_exit(
        self, inventory: Inventory, hosts: Sequence[HostName], options: ExitOptions
    ) -> tuple[Plan, tuple[Return, ...]]:
        record, reservations = await self._store.away(), await self._store.reservations()
        remedied = await self._store.remedies()
        return plan_exit(inventory, hosts, record, options.restore, reservations, remedied)

    async def _fresh_inventory(self, hosts: Sequence[HostName]) -> Inventory:
        """Facts asked for now, of all clusters that these hosts belong to."""
        if not hosts:
            raise Invalid("hosts.none", "No host is named.", remedy="Name at least one.")
        if len(set(hosts)) != len(hosts):
            raise Invalid("hosts.repeated", "A host is named twice.", remedy="Name each once.")
        enrolment = await self._store.enrolment()
        clusters = {enrolment.host(name).cluster for name in hosts}
        await self._observer.refresh(
            [one.name for one in enrolment.hosts if one.cluster in clusters]
        )
        return await self._observer.inventory()

    async def _surveyed_inventory(self, hosts: Sequence[HostName]) -> Inventory:
        """The same, and these hosts and their targets probed: what a precheck needs."""
        await self._fresh_inventory(hosts)
        return await self._observer.survey(hosts)

    # --- asking for operations -------------------------------------------------------------

    async def enter(
        self, hosts: Sequence[HostName], options: EnterOptions, request: Request
    ) -> Operation:
        """Empty these hosts. `Refused` with the findings where a precheck forbids it."""
        if (known := await self._repeated(request)) is not None:
            return known
        if options.timeout_s is None:
            options = replace(options, timeout_s=self._default_timeout_s)
        check_hosts_free(hosts, await self._known(hosts))
        inventory = await self._surveyed_inventory(hosts)
        options = settled(options, hosts, inventory)
        assessment = assess(inventory, hosts, options, await self._store.reservations())
        if assessment.blockers:
            raise Refused(
                "precheck.blocked",
                f"{', '.join(hosts)} cannot be entered: "
                + " ".join(one.message for one in assessment.blockers),
                remedy="See each finding's remedy: furlough check " + " ".join(hosts) + ".",
                findings=assessment.blockers,
            )
        plan = plan_enter(inventory, hosts, assessment, options.order)
        check_hash(plan, request.plan_hash)
        modes = [change for host in hosts for change in _towards_entering(inventory.host(host))]
        return await self._accept(plan, options, request, inventory, modes)

    async def exit(
        self, hosts: Sequence[HostName], options: ExitOptions, request: Request
    ) -> Operation:
        """Bring the VMs home and put these hosts back into service."""
        if (known := await self._repeated(request)) is not None:
            return known
        standings = await self._known(hosts)
        check_hosts_free(hosts, standings)
        for host in hosts:
            check_mode(host, standings[host].mode, HostMode.MAINTENANCE)
        inventory = await self._fresh_inventory(hosts)
        for host in hosts:
            check_connected(inventory.host(host))
        plan, _ = await self._plan_exit(inventory, hosts, options)
        check_hash(plan, request.plan_hash)
        modes = [
            HostModeChanged(host=host, before=HostMode.MAINTENANCE, after=HostMode.EXITING)
            for host in hosts
        ]
        return await self._accept(plan, options, request, inventory, modes)

    async def cordon(self, host: HostName, options: ActionOptions, request: Request) -> Operation:
        """No new VMs for this host by our hand; nothing moves."""
        if (known := await self._repeated(request)) is not None:
            return known
        standings = await self._known([host])
        check_hosts_free([host], standings)
        check_mode(host, standings[host].mode, HostMode.AVAILABLE)
        plan = plan_action(OperationKind.CORDON, host, ())
        return await self._accept(plan, options, request, await self._observer.inventory())

    async def uncordon(self, host: HostName, options: ActionOptions, request: Request) -> Operation:
        """A cordoned host takes VMs again; its guard is lowered."""
        if (known := await self._repeated(request)) is not None:
            return known
        standings = await self._known([host])
        check_hosts_free([host], standings)
        check_mode(host, standings[host].mode, HostMode.CORDONED)
        inventory = await self._observer.inventory()
        enrolled = (await self._store.enrolment()).host(host)
        # Where furlough-host neither is enrolled nor answers, there never was a guard.
        is_guarded = enrolled.program is not Program.NONE or inventory.host(host).has_guard
        step = PlannedStep(number=1, method=Method.LOWER_GUARD, host=host)
        plan = plan_action(OperationKind.UNCORDON, host, (step,) if is_guarded else ())
        return await self._accept(plan, options, request, inventory)

    async def change_host_power(
        self, kind: OperationKind, host: HostName, options: ActionOptions, request: Request
    ) -> Operation:
        """Reboot a host in maintenance, or switch it off."""
        if (known := await self._repeated(request)) is not None:
            return known
        check_hosts_free([host], await self._known([host]))
        await self._observer.refresh([host])
        inventory = await self._observer.inventory()
        check_power(inventory.host(host), await self._store.operations(host=host), self.now())
        return await self._accept(plan_host_power(kind, host), options, request, inventory)

    async def change_power(
        self, kind: OperationKind, vm: VmId, options: ActionOptions, request: Request
    ) -> Operation:
        """Start, shut down or power off one VM where it is."""
        if (known := await self._repeated(request)) is not None:
            return known
        inventory = await self._inventory_of(vm)
        found = inventory.vm(vm)
        host = inventory.host(found.host)
        check_connected(host)
        check_allowed(kind, found.name, host)
        if kind is OperationKind.START_VM:
            if found.power is not Power.SHUT_OFF:
                raise nothing_to_do(f"VM {found.name} is {found.power.value} already.")
        elif not found.is_active:
            raise nothing_to_do(f"VM {found.name} is off already.")
        return await self._accept(plan_power(kind, found), options, request, inventory)

    async def migrate(self, vm: VmId, options: ActionOptions, request: Request) -> Operation:
        """Move one VM live, to the host named or to the one that suits best."""
        if (known := await self._repeated(request)) is not None:
            return known
        inventory = await self._inventory_of(vm)
        found = inventory.vm(vm)
        check_connected(inventory.host(found.host))
        wanted = EnterOptions(target_hosts=(options.target,) if options.target else ())
        if options.target == found.host:
            raise nothing_to_do(f"VM {found.name} is on {found.host} already.")
        if options.target:
            check_takes_vms(inventory.host(options.target))
        await self._check_unowned(vm)
        check_movable(found)
        hosts = candidates(inventory, [found.host], wanted)
        reservations = await self._store.reservations()
        placement = place([found], hosts, inventory, reservations)
        if found.id not in placement.targets:
            raise fits_nowhere(found, placement)
        return await self._accept(
            plan_migration(found, placement, inventory), options, request, inventory
        )

    async def _repeated(self, request: Request) -> Operation | None:
        """What an earlier request with the same idempotency key has led to."""
        return None if request.key is None else await self._store.repeat_of(request.key)

    async def _inventory_of(self, vm: VmId) -> Inventory:
        """Fresh facts around one VM; `NotFound` where no host lists it."""
        inventory = await self._observer.inventory()
        if not inventory.copies_of(vm):
            await self._observer.refresh()
            inventory = await self._observer.inventory()
        return await self._fresh_inventory([inventory.vm(vm).host])

    async def _known(self, hosts: Sequence[HostName]) -> dict[HostName, Standing]:
        """The standings of all hosts; `NotFound` where one of these is not among them."""
        standings = dict(await self._store.standings())
        check_hosts_known(hosts, standings)
        return standings

    async def _check_unowned(self, vm: VmId) -> None:
        """`Conflict`, naming the operation, where one has this VM: it says more than the job that
        the operation runs on the VM. Decided again when the request is accepted."""
        owners = {
            entry.vm: operation.id
            for operation in await self._store.operations(active=True)
            for entry in operation.roster
        }
        check_vms_free([vm], owners)

    async def _accept(
        self,
        plan: Plan,
        options: Options,
        request: Request,
        inventory: Inventory,
        modes: Sequence[HostModeChanged] = (),
    ) -> Operation:
        check_timeout(options.timeout_s)
        check_plan_allowed(plan, inventory)
        timeout_s = options.timeout_s or 0.0
        targets = {step.targets[0] for step in plan.steps if step.targets}
        event = OperationAccepted(
            operation_kind=plan.kind,
            hosts=plan.hosts,
            options=options,
            plan=plan,
            roster=roster_of(plan, inventory),
            requested_by=request.by,
            deadline=self.now() + timedelta(seconds=timeout_s) if timeout_s > 0 else None,
        )
        accepted = await self._store.accept(event, modes, terms_of(inventory, targets), request.key)
        self._work.notifier.notify()
        self._supervisor.nudge(accepted.id)
        return accepted

    # --- steering operations ---------------------------------------------------------------

    async def cancel(self, which: OperationId, mode: CancelMode, by: str) -> Operation:
        """Stop an operation. Asking twice is asking once; a final one cannot be cancelled."""
        return await self._steer(which, CancelRequested(mode=mode, by=by))

    async def resume(self, which: OperationId, by: str) -> Operation:
        """Let a blocked operation go on, after a person has looked."""
        operation = await self._store.operation(which)
        if operation.state is not OperationState.BLOCKED:
            raise Conflict(
                "operation.not_blocked",
                f"{which} is {operation.state.value}; only a blocked one can be resumed.",
                remedy=f"See what it does: furlough operation show {which}.",
            )
        return await self._steer(which, OperationUnblocked(by=by))

    async def _steer(self, which: OperationId, event: Event) -> Operation:
        """Add a person's word to a journal that its runner writes to at the same time."""
        for _ in range(_MOST_TRIES):
            operation = await self._store.operation(which)
            if operation.is_final:
                raise Conflict(
                    "operation.final",
                    f"{which} is {operation.state.value} already.",
                    remedy="Nothing of it is left to be changed.",
                )
            try:
                changed = await self._store.append(operation, [event])
            except Stale:
                continue
            self._work.notifier.notify()
            self._supervisor.nudge(which)
            return changed
        raise Conflict("operation.busy", f"{which} changes too fast.", remedy="Try again.")


def _towards_entering(host: Host) -> list[HostModeChanged]:
    """The transitions from where a host is to `entering`."""
    cordon = HostModeChanged(host=host.name, before=HostMode.AVAILABLE, after=HostMode.CORDONED)
    enter = HostModeChanged(host=host.name, before=HostMode.CORDONED, after=HostMode.ENTERING)
    return [enter] if host.mode is HostMode.CORDONED else [cordon, enter]
