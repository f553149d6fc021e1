"""One simulated live migration: begin, prepare, perform, finish, confirm, as libvirt does them.

It belongs to the cluster, not to the controller: when the caller dies, it goes on. What happens
when a daemon or a host dies in some phase follows what was measured with libvirt 9.0 and QEMU 7.2
(docs/explanation/migrations-in-doubt.md).
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from enum import StrEnum

from furlough.core.bandwidth import STREAM_MIB_S, stream_mib_s
from furlough.core.looks import Job, Presence, Why
from furlough.core.plan import Handover
from furlough.errors import Bug, FurloughError, Refused, Unreachable
from furlough.ports import MigrationOrder, MigrationReport, Progress
from furlough.sim.cluster import Copy, SimCluster, SimHost
from furlough.sim.wire import Flow

DOWNTIME_LIMIT_S = 0.3
KEEPALIVE_S = 30.0
_SOCKET_CLOSED_S = 1.0
_MOST_ROUNDS = 1000
# What the pause takes where a VM goes over to post-copy: its devices, hardly any memory.
_POST_COPY_PAUSE_S = 0.05


class Phase(StrEnum):
    """How far a migration is."""

    PREPARE = "prepare"
    PERFORM = "perform"
    POST_COPY = "post_copy"
    FINISH = "finish"
    CONFIRM = "confirm"
    OVER = "over"


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long the phases around the copying take, and what one stream of memory moves at most."""

    set_up_s: float = 0.4
    finish_s: float = 0.05
    confirm_s: float = 0.15
    stream_mib_s: float = STREAM_MIB_S


class SimMigration:
    """One migration from its begin to its end. `result` is what the call returns or raises."""

    def __init__(
        self,
        cluster: SimCluster,
        order: MigrationOrder,
        timing: Timing,
        *,
        loses_finish_answer: bool = False,
    ) -> None:
        self.order = order
        self.source = order.source
        self.target = order.target
        self.phase = Phase.PREPARE
        self.result: asyncio.Future[MigrationReport] = asyncio.get_running_loop().create_future()
        self._cluster = cluster
        self._timing = timing
        self._loses_finish_answer = loses_finish_answer
        self._flow = Flow(
            source=order.source,
            target=order.target,
            limit_mib_s=order.speed_mib_s or math.inf,
            # Several connections move what they do in the same proportion to one.
            stream_mib_s=timing.stream_mib_s * stream_mib_s(order.connections) / STREAM_MIB_S,
        )
        self._rounds = 0
        self._throttle = 0.0
        self._downtime_limit_s = DOWNTIME_LIMIT_S
        self._goes_over = asyncio.Event()
        self.stopped = asyncio.Event()
        self._over_now = asyncio.Event()
        self._stopped_at = 0.0
        self._copying_s = 0.0
        self._rest_mib = 0.0
        self._source_copy = self._begin()
        # As it was at the begin: who pauses it on the way finds it running at the end.
        self._was_running = self._source_copy.presence is Presence.RUNNING
        self._target_copy: Copy | None = None
        self._vm = self._source_copy.vm

    def _begin(self) -> Copy:
        """What libvirt checks before anything happens."""
        copy = self._cluster.copy(self.source, self.order.vm)
        if copy is None:
            raise Refused("vm.changed", f"{self.source} does not know the VM.")
        if self.order.resumes_post_copy:
            return self._begin_again(copy)
        if not copy.has_process:
            raise Refused("hypervisor.failed", "domain is not running")
        if copy.job is Job.OTHER:
            raise Refused("hypervisor.busy", "cannot acquire state change lock")
        if copy.job is not Job.NONE:
            raise Refused("hypervisor.failed", "another migration job is already running")
        if copy.vm.snapshots:
            raise Refused("hypervisor.failed", f"cannot migrate with {copy.vm.snapshots} snapshots")
        if copy.vm.hindrances:
            raise Refused("vm.immovable", f"cannot migrate: {', '.join(copy.vm.hindrances)}")
        if not copy.has_run:
            # What QEMU before 10.0 does with a VM that arrived paused and is moved again.
            self._cluster.stop(self.source, self.order.vm, Why.CRASHED)
            raise Refused("hypervisor.failed", "domain is not running")
        copy.job = Job.OUTGOING
        return copy

    def _begin_again(self, copy: Copy) -> Copy:
        """The same for a post-copy whose link broke."""
        there = self._cluster.copy(self.target, self.order.vm)
        is_broken = copy.presence is Presence.PAUSED and copy.why is Why.POSTCOPY_FAILED
        if there is None or not is_broken or there.why is not Why.POSTCOPY_FAILED:
            raise Refused("hypervisor.failed", "migration of the domain is not in post-copy phase")
        if not self._cluster.wire.carries(self.source, self.target):
            raise Refused("hypervisor.failed", "Unable to connect: No route to host")
        self._goes_over.set()
        copy.job = Job.OUTGOING
        self._rest_mib = copy.broken_post_copy_mib
        return copy

    def start(self) -> None:
        """From here on it goes on by itself."""
        self._cluster.migrations[self._vm.id] = self
        self._cluster.spawn(self._run())

    @property
    def progress(self) -> Progress | None:
        """How far the copying is."""
        if self.phase not in (Phase.PERFORM, Phase.POST_COPY):
            return None
        moved = self._cluster.wire.moved(self._flow)
        return Progress(
            total_mib=self._vm.memory_mib,
            sent_mib=round(self._flow.sent_mib + moved),
            remaining_mib=round(self._flow.remaining_mib - moved),
            rate_mib_s=round(self._cluster.wire.rate(self._flow), 1),
            rounds=self._rounds,
            throttle_percent=round(100 * self._throttle),
        )

    def abort(self) -> None:
        """Somebody asked for its end: works until the source has stopped."""
        if self.phase is Phase.POST_COPY:
            raise Refused("hypervisor.failed", "cannot abort migration in post-copy mode")
        if self.phase in (Phase.PREPARE, Phase.PERFORM):
            self._end_at_home(Refused("hypervisor.aborted", "The migration was aborted."))

    def set_speed(self, mib_s: int) -> None:
        """What it may send from now on; 0: no limit."""
        if self.phase not in (Phase.PERFORM, Phase.POST_COPY):
            raise Refused("hypervisor.busy", "no memory is being copied")
        self._cluster.wire.set_limit(self._flow, mib_s or math.inf)

    def set_downtime_limit(self, ms: int) -> None:
        """How long the VM may pause at the end."""
        self._downtime_limit_s = ms / 1000

    def source_paused(self) -> None:
        """Somebody stopped the CPUs on the source: the VM's pause begins now."""
        self._stopped_at = self._stopped_at or self._cluster.clock.monotonic()
        self.stopped.set()

    def start_post_copy(self) -> None:
        """Go over at once."""
        if not self.order.may_post_copy:
            raise Refused("hypervisor.failed", "post-copy is not enabled for this migration")
        if self.phase is not Phase.PERFORM:
            raise Refused("hypervisor.failed", "no memory is being copied")
        self._goes_over.set()

    # --- the phases ----------------------------------------------------------------------------

    async def _run(self) -> None:
        """Phase after phase, until one fails or an accident ends it from outside."""
        phases = asyncio.create_task(self._go_through())
        over = asyncio.create_task(self._over_now.wait())
        try:
            await asyncio.wait((phases, over), return_when=asyncio.FIRST_COMPLETED)
        finally:
            phases.cancel()
            over.cancel()

    async def _go_through(self) -> None:
        try:
            if self.order.resumes_post_copy:
                self._target_copy = self._cluster.copy(self.target, self._vm.id)
            else:
                await self._prepare()
                await self._perform()
            await self._switch_over()
            await self._finish()
            await self._confirm()
        except FurloughError as error:
            self._end_at_home(error)

    async def _prepare(self) -> None:
        await self._cluster.clock.sleep(self._timing.set_up_s / 2)
        target = self._cluster.hosts[self.target]
        if not (target.is_up and target.has_daemon):
            raise Unreachable("hypervisor.lost", f"unable to connect to server at {self.target}")
        self._cluster.check_hook(self.target, self._vm.id)
        known = target.copies.get(self._vm.id)
        if known is not None and known.has_process:
            raise Refused("hypervisor.failed", "domain is already active")
        self._check_resources(target)
        self._target_copy = Copy(
            vm=self._vm,
            presence=Presence.PAUSED,
            has_run=False,
            why=Why.MIGRATION,
            job=Job.INCOMING,
            has_process=True,
            is_persistent=False,
            ignores_shutdown=self._source_copy.ignores_shutdown,
            reboots_instead=self._source_copy.reboots_instead,
            shutdown_takes_s=self._source_copy.shutdown_takes_s,
            boots=self._source_copy.boots,
            own_policy=self._source_copy.own_policy,
            empty_drives=dict(self._source_copy.empty_drives),
        )
        target.copies[self._vm.id] = self._target_copy
        self._cluster.changed()
        await self._cluster.clock.sleep(self._timing.set_up_s / 2)

    def _check_resources(self, target: SimHost) -> None:
        """What only the target's own emulator finds out: its storage, and a port to listen on."""
        if disk := self._cluster.lost_disk(self.target, self._vm):
            raise Refused("hypervisor.failed", f"Cannot access storage file {disk!r}")
        arriving = sum(one.job is Job.INCOMING for one in target.copies.values())
        if arriving >= target.migration_ports:
            raise Refused("hypervisor.busy", "Unable to find an unused port in range 'migration'")

    async def _perform(self) -> None:
        """Pre-copy in rounds until the rest fits into the downtime limit."""
        self.phase = Phase.PERFORM
        began_s = self._cluster.clock.monotonic()
        to_send = float(self._vm.memory_to_send_mib)
        for self._rounds in range(1, _MOST_ROUNDS):
            sent = to_send
            took_s = await self._send_round(to_send)
            to_send = self._rewritten_in(took_s * (1 - self._slowed_by))
            if self._goes_over.is_set():
                # What this round had not sent yet; the guest may have written to that as well.
                to_send = min(sent, self._flow.remaining_mib + to_send)
                break
            if to_send > sent / 2:
                # Auto-converge: the guest's CPUs are slowed, more with every such round.
                self._throttle = min(0.99, self._throttle + 0.1 if self._throttle else 0.2)
            if to_send / self._cluster.wire.rate(self._flow) <= self._downtime_limit_s:
                break
        self._rest_mib = to_send
        self._copying_s = self._cluster.clock.monotonic() - began_s

    async def _send_round(self, mib: float) -> float:
        """One round, or as much of it as goes before somebody asks for post-copy; the seconds."""
        began_s = self._cluster.clock.monotonic()
        sending = asyncio.ensure_future(self._cluster.wire.send(self._flow, mib))
        asked = asyncio.ensure_future(self._goes_over.wait())
        try:
            await asyncio.wait((sending, asked), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()
            asked.cancel()
            await asyncio.gather(sending, asked, return_exceptions=True)
        return self._cluster.clock.monotonic() - began_s

    @property
    def _slowed_by(self) -> float:
        """A guest that writes without its CPUs is not slowed by slowing them."""
        return 0.0 if self._vm.defies_throttling else self._throttle

    def _rewritten_in(self, seconds: float) -> float:
        """What the guest has written meanwhile, in MiB."""
        if self._source_copy.presence is not Presence.RUNNING:
            return 0.0
        return min(self._vm.working_set_mib, self._vm.dirty_mib_s * seconds)

    async def _switch_over(self) -> None:
        """The CPUs stop, and the rest is sent; in post-copy, after they have started again."""
        self._stopped_at = self._stopped_at or self._cluster.clock.monotonic()
        if self._goes_over.is_set():
            await self._post_copy()
            return
        self.phase = Phase.FINISH
        self._cluster.set_presence(self._source_copy, Presence.PAUSED, Why.MIGRATION)
        self.stopped.set()
        self._copying_s += await self._cluster.wire.send(self._flow, self._rest_mib)

    async def _post_copy(self) -> None:
        """It runs on the target, and each of both hosts has a part of it."""
        copy = self._target_copy
        if copy is None:
            raise Bug("sim.no_target_copy", "post-copy without prepare")
        self.phase = Phase.POST_COPY
        self._cluster.set_presence(self._source_copy, Presence.PAUSED, Why.POSTCOPY)
        self.stopped.set()
        await self._cluster.clock.sleep(_POST_COPY_PAUSE_S)
        self._cluster.let_run(self.target, copy, Why.POSTCOPY)
        self._downtime_ms = round(1000 * _POST_COPY_PAUSE_S)
        self._copying_s += await self._cluster.wire.send(self._flow, self._rest_mib)

    async def _finish(self) -> None:
        """The target has everything: it becomes persistent where asked, and starts the CPUs."""
        await self._cluster.clock.sleep(self._timing.finish_s)
        copy = self._target_copy
        if copy is None:
            raise Bug("sim.no_target_copy", "finish without prepare")
        copy.is_persistent = self.order.carries_definition
        copy.job = Job.NONE
        self._carry_state()
        if self.phase is Phase.POST_COPY:
            copy.why = Why.MIGRATED
        else:
            self._start_cpus(copy)
        self.phase = Phase.CONFIRM
        if self._loses_finish_answer:
            self._restart_source_after(KEEPALIVE_S)
            await asyncio.Event().wait()

    def _start_cpus(self, copy: Copy) -> None:
        if self._was_running and self.order.handover is Handover.NORMAL:
            self._cluster.let_run(self.target, copy, Why.MIGRATED)
        else:
            self._cluster.set_presence(copy, Presence.PAUSED, Why.USER)
        self._downtime_ms = round(1000 * (self._cluster.clock.monotonic() - self._stopped_at))

    def _carry_state(self) -> None:
        """What firmware and TPM have written travels with the memory."""
        source, target = (self._cluster.hosts[name] for name in (self.source, self.target))
        if self._vm.id in source.vm_state:
            target.vm_state[self._vm.id] = source.vm_state[self._vm.id]

    async def _confirm(self) -> None:
        """The source's copy goes, with its definition where that was carried along."""
        await self._cluster.clock.sleep(self._timing.confirm_s)
        self._over()
        if self.order.carries_definition or not self._source_copy.is_persistent:
            self._cluster.remove(self.source, self._vm.id)
        else:
            self._source_copy.job = Job.NONE
            self._cluster.set_presence(self._source_copy, Presence.SHUT_OFF, Why.MIGRATED)
        self._answer(
            MigrationReport(
                sent_mib=round(self._flow.sent_mib),
                downtime_ms=self._downtime_ms,
                copying_s=self._copying_s,
                stopped_at=self._stopped_at,
            )
        )

    # --- accidents -----------------------------------------------------------------------------

    def source_daemon_died(self) -> None:
        """In the copying the VM stays; after the switchover it stands still for us to decide."""
        lost = Unreachable("host.silent", "End of file while reading data")
        if self.phase in (Phase.PREPARE, Phase.PERFORM):
            self._end_at_home(lost)
        elif self.phase is Phase.POST_COPY:
            self._break_post_copy(lost)
        else:
            self._end_as_it_is(lost)

    def target_daemon_died(self) -> None:
        """The VM stays, and a process that waits in vain is left on the target; once the target
        has taken over, the source only misses the answer."""
        closed = Unreachable("hypervisor.lost", "client socket is closed")
        if self.phase is Phase.POST_COPY:
            self._break_post_copy(closed)
        if self.phase in (Phase.PREPARE, Phase.PERFORM, Phase.FINISH):
            if self._target_copy is not None:
                self._target_copy.is_orphan = True
                self._target_copy.job = Job.NONE
                self._target_copy = None
            self._end_at_home(closed)

    def source_host_died(self) -> None:
        """What the target has not taken over by now, it throws away."""
        silent = Unreachable("host.silent", f"{self.source} does not answer.")
        if self.phase is Phase.POST_COPY:
            self._break_post_copy(silent)
            return
        self._drop_target_copy()
        self._end_as_it_is(silent)

    def target_host_died(self) -> None:
        """The VM stays, unless it was handed over already: then it died with its host."""
        if self.phase is Phase.CONFIRM:
            return
        broken = Refused("hypervisor.failed", "Unable to write to socket")
        if self.phase is Phase.POST_COPY:
            self._break_post_copy(broken)
            return
        self._target_copy = None
        self._end_at_home(broken)

    def data_link_broke(self) -> None:
        """The connection that carries the memory was reset."""
        broken = Refused("hypervisor.failed", "Unable to write to socket: Connection reset by peer")
        if self.phase is Phase.POST_COPY:
            self._break_post_copy(broken)
        elif self.phase in (Phase.PERFORM, Phase.FINISH):
            self._end_at_home(broken)

    def _break_post_copy(self, error: FurloughError) -> None:
        """Each side keeps its part of the VM, and whose CPUs need the other part stand still."""
        left_mib = self._flow.remaining_mib - self._cluster.wire.moved(self._flow)
        copy = self._target_copy
        if copy is not None:
            copy.job = Job.NONE
            self._cluster.set_presence(copy, copy.presence, Why.POSTCOPY_FAILED)
        self._cluster.set_presence(self._source_copy, Presence.PAUSED, Why.POSTCOPY_FAILED)
        self._source_copy.broken_post_copy_mib = left_mib
        self._end_as_it_is(error)

    def target_copy_stopped(self) -> None:
        """Somebody ended the process that waited for the memory; what was handed over by now is
        nobody's to wait for."""
        if self.phase is Phase.POST_COPY:
            self._break_post_copy(Refused("hypervisor.failed", "Unable to write to socket"))
        if self.phase in (Phase.PERFORM, Phase.FINISH):
            self._target_copy = None
            self._end_at_home(Refused("hypervisor.failed", "Unable to write to socket"))

    def vm_stopped(self) -> None:
        """Its guest shut it down, or somebody powered it off, while it was being copied."""
        if self.phase is Phase.OVER:
            return
        stopped = Refused("hypervisor.failed", "domain is no longer running")
        if self.phase is Phase.POST_COPY:
            self._break_post_copy(stopped)
            return
        self._drop_target_copy()
        self._end_as_it_is(stopped)

    # --- how it ends ---------------------------------------------------------------------------

    def _end_at_home(self, error: FurloughError) -> None:
        """The VM runs on where it was."""
        if self.phase is Phase.OVER:
            return
        if self._source_copy.why is Why.MIGRATION and self._was_running:
            self._cluster.set_presence(self._source_copy, Presence.RUNNING, Why.MIGRATION_CANCELED)
        self._drop_target_copy()
        self._end_as_it_is(error)

    def _drop_target_copy(self) -> None:
        """The target's daemon kills what will never be complete."""
        copy = self._target_copy
        if copy is not None and copy.job is Job.INCOMING:
            self._cluster.remove(self.target, self._vm.id)

    def _end_as_it_is(self, error: FurloughError) -> None:
        self._source_copy.job = Job.NONE
        self._over()
        self._answer(error)

    def _restart_source_after(self, seconds: float) -> None:
        """The answer was lost: the source starts its CPUs again, unless a lock stops it."""

        async def restart() -> None:
            await self._cluster.clock.sleep(seconds)
            copy = self._source_copy
            alive = self._cluster.copy(self.source, self._vm.id) is copy and copy.has_process
            if alive and copy.why is Why.MIGRATION and self.phase is not Phase.OVER:
                runs_there = self._cluster.running_on(self._vm.id)
                if not (self._cluster.is_locked(self._vm) and runs_there):
                    self._cluster.set_presence(copy, Presence.RUNNING, Why.MIGRATION_CANCELED)
                self._end_as_it_is(Refused("hypervisor.failed", "client socket is closed"))

        self._cluster.spawn(restart())

    def _over(self) -> None:
        self.phase = Phase.OVER
        self._over_now.set()
        if self._cluster.migrations.get(self._vm.id) is self:
            del self._cluster.migrations[self._vm.id]

    def _answer(self, outcome: MigrationReport | FurloughError) -> None:
        if self.result.done():
            return
        if isinstance(outcome, MigrationReport):
            self.result.set_result(outcome)
        else:
            self.result.set_exception(outcome)
            self.result.exception()  # Whoever called may be dead: then nobody fetches it.
