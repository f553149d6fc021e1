"""The use cases: the one door for API, facades and pages. Nothing above calls anything below.

Every method checks, decides with the core, and writes through the store. Effects on hosts are the
engine's; what a request accepts here is an operation that the engine carries out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from furlough.access.desk import Desk
from furlough.core.access import SYSTEM, Principal, Privilege
from furlough.core.admission import (
    check_hosts_free,
)
from furlough.core.doors import check_sense, completed, defaults_of
from furlough.core.drift import line_of
from furlough.core.enrolment import Enrolment, Program
from furlough.core.hostlog import LogLine, log_lines
from furlough.core.ids import HostName, OperationId, VmId
from furlough.core.inventory import Host, Inventory
from furlough.core.journal import (
    Entry,
    HostModeChanged,
)
from furlough.core.operation import Operation
from furlough.core.outlook import Copied
from furlough.core.plan import Method, OperationKind, Plan, PlannedStep
from furlough.core.policy import (
    ActionOptions,
    Automation,
    CancelMode,
    EnterDefaults,
    EnterOptions,
    ExitOptions,
)
from furlough.core.states import HostMode, Power, StepState
from furlough.engine.supervisor import Supervisor
from furlough.engine.work import Work
from furlough.errors import Refused
from furlough.planning.assessment import Assessment, Report
from furlough.planning.candidates import candidates
from furlough.planning.crossing import place_across
from furlough.planning.hands_off import plan_hands_off
from furlough.planning.homecoming import Return
from furlough.planning.planner import (
    plan_action,
    plan_enter,
    plan_migration,
    plan_power,
)
from furlough.planning.record import Away
from furlough.planning.way_back import way_back
from furlough.ports import Progress
from furlough.prechecks.assessing import assess
from furlough.prechecks.host_power import check_power, plan_host_power
from furlough.prechecks.requests import (
    check_allowed,
    check_connected,
    check_hash,
    check_mode,
    check_movable,
    check_takes_vms,
    fits_nowhere,
    nothing_to_do,
    settled,
)
from furlough.service.accounts import Accounts
from furlough.service.authority import Authority, needs
from furlough.service.enrolling import Enrolling
from furlough.service.exiting import Exiting, ExitReport, Recorded
from furlough.service.intake import Intake, Request
from furlough.service.steering import Approval, Steering
from furlough.service.trail import Trail
from furlough.service.upkeep import Upkeep


@dataclass(frozen=True, kw_only=True)
class Preview:
    """Precheck and plan of an entering, from one look at the hosts. `options`: as they hold there,
    with nothing left open."""

    reports: tuple[Report, ...]
    plan: Plan
    options: EnterOptions
    inventory: Inventory


class Service:
    """What can be asked of Furlough."""

    def __init__(
        self,
        work: Work,
        supervisor: Supervisor,
        *,
        defaults: EnterDefaults | None = None,
        principal: Principal = SYSTEM,
        desk: Desk | None = None,
    ) -> None:
        self._work = work
        self._supervisor = supervisor
        self._defaults = defaults or EnterDefaults()
        self._store = work.store
        self._observer = work.observer
        self.authority = Authority(work, principal)
        self.desk = desk or Desk(work.store.access, work.clock)
        self._intake = Intake(work, supervisor, self.authority)
        self._exiting = Exiting(work, self._intake)
        self._steering = Steering(work, supervisor, self.authority)
        self.enrolling = Enrolling(work, self.authority)
        self.upkeep = Upkeep(work, self._intake, self.check, self.authority)
        self.accounts = Accounts(work, self.desk, self.authority)
        self.trail = Trail(work, self.authority)

    def of(self, principal: Principal) -> Service:
        """The same service for somebody: it does for them what they may, and shows them what they
        may see. The one that was not made for anybody is the daemon's own, and may do
        everything."""
        return Service(
            self._work,
            self._supervisor,
            defaults=self._defaults,
            principal=principal,
            desk=self.desk,
        )

    # --- looking ---------------------------------------------------------------------------

    @needs(Privilege.VIEW)
    async def inventory(self) -> Inventory:
        """All facts as last observed, as far as the caller may see them."""
        return self.authority.seen_inventory(await self._observer.inventory())

    @needs(Privilege.VIEW)
    async def all_inventory(self) -> Inventory:
        """The same, whoever may see it: to say where the VMs of an operation are that the caller
        sees. For listings it is not."""
        return await self._observer.inventory()

    @needs(Privilege.VIEW)
    async def enrolment(self) -> Enrolment:
        """Everything enrolled that the caller may see."""
        return self.authority.seen_enrolment(await self._store.enrolment())

    @needs(Privilege.VIEW)
    async def away(self) -> Sequence[Away]:
        """Every VM that an evacuation took from its home host."""
        return await self._store.away()

    @needs(Privilege.VIEW, on="which")
    async def operation(self, which: OperationId) -> Operation:
        """One operation; `NotFound` where there is none."""
        return await self._store.operation(which)

    @needs(Privilege.VIEW)
    async def operations(
        self,
        *,
        active: bool = False,
        host: HostName | None = None,
        limit: int = 100,
        before: OperationId | None = None,
    ) -> Sequence[Operation]:
        """Operations that the caller may see, newest first; `before`: older than this one."""
        seen: list[Operation] = []
        while len(seen) < limit:
            found = await self._store.operations(
                active=active, host=host, limit=limit, before=before
            )
            if self.authority.sees_everything:
                return found
            seen += [one for one in found if await self.authority.sees(one)]
            if len(found) < limit:
                break
            before = found[-1].id
        return seen[:limit]

    @needs(Privilege.VIEW, on="which")
    async def journal(self, which: OperationId) -> Sequence[Entry]:
        """All events of an operation."""
        await self._store.operation(which)
        return await self._store.journal(which)

    @needs(Privilege.VIEW, on="host")
    async def host_log(self, host: HostName, most: int) -> Sequence[LogLine]:
        """The newest lines of a host's log, oldest first."""
        await self._intake.known([host])
        lines: list[LogLine] = []
        for operation in await self._store.operations(host=host, limit=most):
            journal = await self._store.journal(operation.id)
            lines = [*log_lines(host, operation, journal), *lines]
            if len(lines) >= most:
                break
        lines += [line_of(note) for note in reversed(await self._store.host_notes(host, most))]
        return sorted(lines, key=lambda line: line.at)[-most:]

    @needs(Privilege.VIEW)
    async def entries(self, after: int, limit: int) -> Sequence[Entry]:
        """Events of all operations that the caller may see, after a sequence number; none only
        where there are no more."""
        while found := await self._store.entries(after, limit):
            if self.authority.sees_everything:
                return found
            operations = {one.operation for one in found}
            seen = {
                one
                for one in operations
                if await self.authority.sees(await self._store.operation(one))
            }
            if mine := [one for one in found if one.operation in seen]:
                return mine
            after = found[-1].sequence
        return []

    @needs(Privilege.VIEW)
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

    def copied(self, operation: Operation) -> Mapping[int, Copied]:
        """How far the migrations of an operation are that are in flight, by the steps' numbers."""
        found = {}
        for step in operation.steps:
            seen = self.progress(operation.id, step.number)
            if step.state is StepState.STARTED and seen is not None:
                found[step.number] = Copied(
                    remaining_mib=seen.remaining_mib, sent_mib=seen.sent_mib
                )
        return found

    def now(self) -> datetime:
        """The instant, for whoever has to say how long something takes."""
        return self._work.clock.now()

    # --- checking and planning -------------------------------------------------------------

    @needs(Privilege.CHECK, on="hosts")
    async def check(self, hosts: Sequence[HostName], options: EnterOptions) -> tuple[Report, ...]:
        """The precheck of entering maintenance, one report per host. Changes nothing."""
        inventory = await self._intake.surveyed_inventory(hosts)
        options = self._settled(options, hosts, inventory)
        return assess(inventory, hosts, options, await self._store.reservations()).reports

    @needs(Privilege.CHECK, on="hosts")
    async def plan(self, hosts: Sequence[HostName], options: EnterOptions) -> Plan:
        """The plan that entering would carry out now. Changes nothing."""
        inventory = await self._intake.surveyed_inventory(hosts)
        options = self._settled(options, hosts, inventory)
        assessment = assess(inventory, hosts, options, await self._store.reservations())
        return _plan(inventory, hosts, options, assessment)

    @needs(Privilege.CHECK, on="hosts")
    async def preview(self, hosts: Sequence[HostName], options: EnterOptions) -> Preview:
        """What `check` and `plan` say, from the same facts. Changes nothing."""
        inventory = await self._intake.surveyed_inventory(hosts)
        options = self._settled(options, hosts, inventory)
        assessment = assess(inventory, hosts, options, await self._store.reservations())
        return Preview(
            reports=assessment.reports,
            plan=_plan(inventory, hosts, options, assessment),
            options=options,
            inventory=inventory,
        )

    def _settled(
        self, options: EnterOptions, hosts: Sequence[HostName], inventory: Inventory
    ) -> EnterOptions:
        """The options as they hold for these hosts: nothing is left open, and all make sense."""
        names = dict.fromkeys(inventory.host(name).cluster for name in hosts)
        clusters = [one for one in inventory.clusters if one.name in names]
        of_clusters = defaults_of(clusters, options)
        options = completed(options, of_clusters, self._defaults)
        check_sense(options)
        return settled(options, hosts, inventory)

    @needs(Privilege.CHECK)
    async def way_back(self, plan: Plan) -> Plan:
        """The plan of the exit that would follow the plan of an evacuation at once."""
        return way_back(await self._observer.inventory(), plan)

    @needs(Privilege.CHECK, on="hosts")
    async def exit_check(self, hosts: Sequence[HostName], options: ExitOptions) -> ExitReport:
        """What exiting would do about every VM of the record. Changes nothing."""
        return await self._exiting.check(hosts, options)

    @needs(Privilege.VIEW, on="host")
    async def record(self, host: HostName) -> Recorded:
        """Who is on record to come home to a host."""
        return await self._exiting.record(host)

    # --- asking for operations -------------------------------------------------------------

    @needs(Privilege.MAINTAIN, on="hosts", action="enter")
    async def enter(
        self, hosts: Sequence[HostName], options: EnterOptions, request: Request
    ) -> Operation:
        """Empty these hosts. `Refused` with the findings where a precheck forbids it."""
        return await self._intake.once(request, lambda: self._enter(hosts, options, request))

    async def _enter(
        self, hosts: Sequence[HostName], options: EnterOptions, request: Request
    ) -> Operation:
        if options.override:
            await self.authority.check_hosts(Privilege.OVERRIDE, hosts)
        check_hosts_free(hosts, await self._intake.known(hosts))
        inventory = await self._intake.surveyed_inventory(hosts)
        options = self._settled(options, hosts, inventory)
        assessment = assess(inventory, hosts, options, await self._store.reservations())
        if assessment.blockers:
            raise Refused(
                "precheck.blocked",
                f"{', '.join(hosts)} cannot be entered: "
                + " ".join(one.message for one in assessment.blockers),
                remedy="See each finding's remedy: furlough check " + " ".join(hosts) + ".",
                findings=assessment.blockers,
            )
        plan = _plan(inventory, hosts, options, assessment)
        check_hash(plan, request.plan_hash)
        modes = [
            change for host in hosts for change in _towards(inventory.host(host), wait=options.wait)
        ]
        return await self._intake.accept(plan, options, request, inventory, modes)

    @needs(Privilege.MAINTAIN, on="hosts", action="exit")
    async def exit(
        self, hosts: Sequence[HostName], options: ExitOptions, request: Request
    ) -> Operation:
        """Bring the VMs home and put these hosts back into service."""
        return await self._exiting.exit(hosts, options, request)

    @needs(Privilege.MAINTAIN, on="host", action="close_record")
    async def close_record(
        self, host: HostName, options: ActionOptions, request: Request
    ) -> Operation:
        """Take off the record whoever is still to come home to a host: it stays where it is."""
        return await self._exiting.close_record(host, options, request)

    @needs(Privilege.CORDON, on="host", action="cordon")
    async def cordon(self, host: HostName, options: ActionOptions, request: Request) -> Operation:
        """No new VMs for this host by our hand; nothing moves."""
        if (known := await self._intake.repeated(request)) is not None:
            return known
        standings = await self._intake.known([host])
        check_hosts_free([host], standings)
        check_mode(host, standings[host].mode, HostMode.AVAILABLE)
        plan = plan_action(OperationKind.CORDON, host, ())
        return await self._intake.accept(plan, options, request, await self._observer.inventory())

    @needs(Privilege.CORDON, on="host", action="uncordon")
    async def uncordon(self, host: HostName, options: ActionOptions, request: Request) -> Operation:
        """A cordoned host takes VMs again; its guard is lowered."""
        if (known := await self._intake.repeated(request)) is not None:
            return known
        standings = await self._intake.known([host])
        check_hosts_free([host], standings)
        check_mode(host, standings[host].mode, HostMode.CORDONED)
        inventory = await self._observer.inventory()
        enrolled = (await self._store.enrolment()).host(host)
        # Where furlough-host neither is enrolled nor answers, there never was a guard.
        is_guarded = enrolled.program is not Program.NONE or inventory.host(host).has_guard
        step = PlannedStep(number=1, method=Method.LOWER_GUARD, host=host)
        plan = plan_action(OperationKind.UNCORDON, host, (step,) if is_guarded else ())
        return await self._intake.accept(plan, options, request, inventory)

    @needs(Privilege.POWER, on="host", action="change_host_power")
    async def change_host_power(
        self, kind: OperationKind, host: HostName, options: ActionOptions, request: Request
    ) -> Operation:
        """Reboot a host in maintenance, or switch it off."""
        if (known := await self._intake.repeated(request)) is not None:
            return known
        check_hosts_free([host], await self._intake.known([host]))
        await self._observer.refresh([host])
        inventory = await self._observer.inventory()
        check_power(inventory.host(host), await self._store.operations(host=host), self.now())
        return await self._intake.accept(plan_host_power(kind, host), options, request, inventory)

    @needs(Privilege.POWER, on="vm", action="change_power")
    async def change_power(
        self, kind: OperationKind, vm: VmId, options: ActionOptions, request: Request
    ) -> Operation:
        """Start, shut down or power off one VM where it is."""
        if (known := await self._intake.repeated(request)) is not None:
            return known
        inventory = await self._intake.inventory_of(vm)
        found = inventory.vm(vm)
        host = inventory.host(found.host)
        check_connected(host)
        check_allowed(kind, found.name, host)
        if kind is OperationKind.START_VM:
            if found.power is not Power.SHUT_OFF:
                raise nothing_to_do(f"VM {found.name} is {found.power.value} already.")
        elif not found.is_active:
            raise nothing_to_do(f"VM {found.name} is off already.")
        return await self._intake.accept(plan_power(kind, found), options, request, inventory)

    @needs(Privilege.MAINTAIN, on="vm", action="migrate")
    async def migrate(self, vm: VmId, options: ActionOptions, request: Request) -> Operation:
        """Move one VM live, to the host named or to the one that suits best."""
        if (known := await self._intake.repeated(request)) is not None:
            return known
        inventory = await self._intake.inventory_of(vm)
        found = inventory.vm(vm)
        check_connected(inventory.host(found.host))
        wanted = EnterOptions(target_hosts=(options.target,) if options.target else ())
        if options.target == found.host:
            raise nothing_to_do(f"VM {found.name} is on {found.host} already.")
        if options.target:
            await self.authority.check_host(Privilege.MAINTAIN, options.target)
            check_takes_vms(inventory.host(options.target))
        await self._intake.check_unowned(vm)
        check_movable(found)
        hosts = candidates(inventory, [found.host], wanted)
        reservations = await self._store.reservations()
        placement = place_across([found], hosts, inventory, reservations)
        if found.id not in placement.targets:
            raise fits_nowhere(found, placement)
        return await self._intake.accept(
            plan_migration(found, placement, inventory), options, request, inventory
        )

    # --- steering operations ---------------------------------------------------------------

    @needs(Privilege.CANCEL_OWN, on="which", action="cancel")
    async def cancel(
        self, which: OperationId, mode: CancelMode, by: str, plan_hash: str | None = None
    ) -> Operation:
        """Stop an operation. Asking twice is asking once; a final one cannot be cancelled.
        `plan_hash`: with mode `put_back`, carry out this plan and no other."""
        return await self._steering.cancel(which, mode, by, plan_hash)

    @needs(Privilege.CHECK, on="which")
    async def put_back_plan(self, which: OperationId) -> tuple[Plan, tuple[Return, ...]]:
        """What a cancel that puts back would do now, and what becomes of each VM that has left.
        Changes nothing."""
        return await self._steering.put_back_plan(which)

    @needs(Privilege.MAINTAIN, on="which", action="pause")
    async def pause(self, which: OperationId, by: str) -> Operation:
        """Start nothing new in an operation; what is in flight ends. Twice is once."""
        return await self._steering.pause(which, by)

    @needs(Privilege.MAINTAIN, on="which", action="resume")
    async def resume(self, which: OperationId, by: str) -> Operation:
        """Let a paused or blocked operation go on, after a person has looked."""
        return await self._steering.resume(which, by)

    @needs(Privilege.MAINTAIN, on="which", action="approve")
    async def approve(self, which: OperationId, approval: Approval, by: str) -> Operation:
        """Let steps of an operation with automation `manual` start."""
        return await self._steering.approve(which, approval, by)


def _plan(
    inventory: Inventory, hosts: Sequence[HostName], options: EnterOptions, assessment: Assessment
) -> Plan:
    """The plan of an entering: by our hands, or by those of people."""
    if options.automation is Automation.OFF:
        return plan_hands_off(inventory, hosts, options)
    return plan_enter(inventory, hosts, assessment, options.order)


def _towards(host: Host, *, wait: bool) -> list[HostModeChanged]:
    """The transitions from where a host is to `entering`; to `cordoned` where nobody waits until
    it is empty."""
    cordon = HostModeChanged(host=host.name, before=HostMode.AVAILABLE, after=HostMode.CORDONED)
    enter = HostModeChanged(host=host.name, before=HostMode.CORDONED, after=HostMode.ENTERING)
    changes = [] if host.mode is HostMode.CORDONED else [cordon]
    return [*changes, enter] if wait else changes
