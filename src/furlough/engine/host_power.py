"""Steps that reboot a host or switch it off.

    look: empty, guarded by us, nothing in flight ─► written down ─► told ─► watched

A reboot is over when the host answers from another boot, with its marker, a hook that refuses, and
nobody on it; until then it is silent, which is normal. It is never told twice: whoever takes the
step over after a crash compares the boot written down before with the one the host has now.
"""

from __future__ import annotations

from contextlib import suppress

from furlough.core.drift import check_unviolated
from furlough.core.journal import StepActed, StepFailed, StepStarted
from furlough.core.operation import Act, Failure
from furlough.core.plan import Method
from furlough.core.states import HostMode
from furlough.engine.guarding import HostStep
from furlough.errors import FurloughError, Refused, Stale, Unreachable
from furlough.ports import HostFacts, Marker, Occupancy
from furlough.prechecks.host_power import (
    OBEYS_WITHIN_S,
    REBOOTS_WITHIN_S,
    accepts_unproven,
    check_no_flights,
)

# S13: how old the look may be on which a power command rests.
_FRESH_S = 10.0
# How long a daemon that has just started may take until its hook is seen to refuse.
_PROVES_WITHIN_S = 60.0
# How long a host has to be silent before it counts as off.
_OFF_AFTER_S = 15.0
_ALL = 1_000_000


class HostPower(HostStep):
    """A power command to a host. Subclasses say which, and when it has had its effect."""

    act: Act

    async def attempt(self) -> None:
        """Write the intent with the boot that is to end, then see it through."""
        try:
            boot = await self._boot()
        except FurloughError as error:
            await self._fail(error)
            return
        epoch = self._ledger.operation.epoch
        intent = StepStarted(step=self._number, target=None, epoch=epoch, boot_id=boot)
        try:
            await self._ledger.record_if_unchanged(intent)
        except Stale:
            return
        await self.adopt()

    async def _boot(self) -> str:
        """The boot that the host runs from now."""
        facts = await self._work.observer.facts_now(self._host)
        if facts is None or not facts.boot_id:
            raise Refused(
                "host.silent",
                f"Host {self._host} or its furlough-host does not answer.",
                remedy="Bring its management connection back, then ask again.",
            )
        return facts.boot_id

    async def _act(self) -> None:
        if self.act in self._step.acts:
            await self._follow()
        else:
            await self._ask()

    async def _ask(self) -> None:
        """Look, write down what is about to be done, do it."""
        looked_at = await self._look_first()
        acted = StepActed(
            step=self._number, act=self.act, host=self._host, why="seen empty and guarded"
        )
        await self._ledger.record(acted)
        if self._work.clock.monotonic() - looked_at > _FRESH_S:
            await self._look_first()
        with suppress(Unreachable):  # In doubt: the boot it answers from tells.
            await self._tell(self._marker)

    @property
    def _marker(self) -> Marker:
        operation = self._ledger.operation
        return self._work.marker(operation.id, operation.epoch)

    async def _look_first(self) -> float:
        """S13: in maintenance, nobody on it, our marker, no migration it takes part in. When it
        was looked at, on our monotonic clock."""
        if self._is_cancelling:
            raise Refused("cancelled", f"Cancelled before {self._host} was told anything.")
        at = self._work.clock.monotonic()
        try:
            seen = await self._work.hypervisor.occupancy(self._host)
        except Unreachable as error:
            raise Refused(
                error.code, error.message, remedy="Nothing was done. Repair it, then ask again."
            ) from error
        host = (await self._work.observer.inventory()).host(self._host)
        if host.mode is not HostMode.MAINTENANCE:
            raise Refused("host.mode", f"Host {self._host} is {host.mode.value} by now.")
        check_unviolated(host)
        self._check_empty(seen)
        self._check_marker(seen)
        check_no_flights(self._host, await self._work.store.operations(active=True, limit=_ALL))
        return at

    def _check_empty(self, seen: Occupancy) -> None:
        if not seen.is_empty:
            raise Refused(
                "maintenance.violated",
                seen.words,
                remedy="Move it away or shut it down, see who started it, then ask again.",
            )

    def _check_marker(self, seen: Occupancy) -> None:
        if seen.marker is None or seen.marker.operation != self._ledger.operation.id:
            raise Refused(
                "guard.missing",
                f"The marker on {self._host} is gone or of another operation.",
                remedy=f"Find out who took it away, then exit maintenance of {self._host} and "
                "enter it again.",
            )

    async def _tell(self, marker: Marker) -> None:
        raise NotImplementedError

    async def _follow(self) -> None:
        """Look how far it is; record the end, or return to be called again."""
        raise NotImplementedError

    @property
    def _elapsed_s(self) -> float:
        """Since the intent was written, whoever wrote it."""
        began = self._step.attempts[-1].started_at
        return (self._work.clock.now() - began).total_seconds()

    @property
    def _asked_at(self) -> str:
        return f"{self._step.attempts[-1].started_at:%H:%M:%S} UTC"

    def _is_another_boot(self, facts: HostFacts) -> bool:
        return facts.boot_id not in ("", self._step.attempts[-1].boot_id)

    def _check_cancel(self) -> None:
        if self._is_cancelling:
            raise Refused(
                "cancelled",
                f"Cancelled after {self._host} was told; it obeys all the same.",
                remedy=f"Look at what it does: furlough host show {self._host}.",
            )

    async def _fail(self, error: FurloughError) -> None:
        """A power command is not sent again without a person."""
        await self._wait("", "")
        failure = Failure(code=error.code, message=error.message, remedy=error.remedy)
        await self._ledger.record(StepFailed(step=self._number, failure=failure, where=self._host))


class Rebooting(HostPower):
    """Reboot the host, and see that it comes back as it was left."""

    act = Act.REBOOT_HOST
    _back_at: float | None = None

    async def _tell(self, marker: Marker) -> None:
        await self._work.hypervisor.reboot(self._host, marker)

    async def _follow(self) -> None:
        self._check_cancel()
        facts = await self._work.observer.facts_now(self._host)
        if facts is None or not facts.boot_id:  # furlough-host comes up after the daemon.
            await self._wait_for_it()
        elif self._is_another_boot(facts):
            await self._confirm(facts)
        elif self._elapsed_s > OBEYS_WITHIN_S:
            raise Refused(
                "host.not_rebooted",
                f"{self._host} was told to reboot at {self._asked_at} and has not, in "
                f"{OBEYS_WITHIN_S / 60:.0f} min.",
                remedy="Look at its console, then ask again.",
            )
        else:
            await self._wait("host.rebooting", f"{self._host} to go down (told {self._asked_at})")

    async def _wait_for_it(self) -> None:
        if self._elapsed_s <= REBOOTS_WITHIN_S:
            words = f"{self._host} to come back from its reboot (told {self._asked_at})"
            await self._wait("host.rebooting", words)
            return
        await self._wait(
            "host.silent",
            f"{self._host}: it has not come back within {REBOOTS_WITHIN_S / 60:.0f} min of its "
            "reboot; look at its console",
        )

    async def _confirm(self, facts: HostFacts) -> None:
        """It answers from another boot: its marker, its hook, and that nobody is there, twice."""
        try:
            if not await self._is_as_left():
                return
            trouble = await self._work.hypervisor.prove_guard(self._host)
            if trouble and not await self._may_be_unproven(trouble):
                return
            await self._work.clock.sleep(self._work.pace.empty_pause_s)
            if not await self._is_as_left():
                return
        except Unreachable as error:
            await self._wait("host.rebooting", f"{self._host} to be up again: {error.message}")
            return
        hook = f"hook not proven ({trouble}), as accepted" if trouble else "its hook refused a VM"
        await self._succeed(
            f"boot {self._step.attempts[-1].boot_id} before, {facts.boot_id} now; marker of "
            f"{self._ledger.operation.id} seen, {hook}, no VM listed and no process, twice"
        )
        await self._work.observer.refresh([self._host])

    async def _is_as_left(self) -> bool:
        """Whether its marker is there and nobody is on it; waits where somebody is."""
        seen = await self._work.hypervisor.occupancy(self._host)
        self._check_marker(seen)
        if not seen.is_empty:
            await self._wait("host.not_empty", f"after its reboot: {seen.words}")
        return seen.is_empty

    async def _may_be_unproven(self, trouble: str) -> bool:
        """Whether the maintenance was entered with an unproven guard. If not, its daemon may need
        a moment; after that it is a failure."""
        if accepts_unproven(await self._work.store.operations(host=self._host)):
            return True
        now = self._work.clock.monotonic()
        self._back_at = now if self._back_at is None else self._back_at
        if now - self._back_at > _PROVES_WITHIN_S:
            raise Refused(
                "guard.unproven",
                f"{self._host} has rebooted and is empty, but nothing proves that its hook refuses "
                f"VMs: {trouble}.",
                remedy=f"Install the hook anew: furlough host prepare {self._host}.",
            )
        await self._wait("host.rebooting", f"{self._host}: its hook to be proven ({trouble})")
        return False


class SwitchingOff(HostPower):
    """Switch the host off. Without a way to its power supply, silence is all that shows it."""

    act = Act.POWER_OFF_HOST
    _silent_since: float | None = None

    async def _tell(self, marker: Marker) -> None:
        await self._work.hypervisor.power_off_host(self._host, marker)

    async def _follow(self) -> None:
        self._check_cancel()
        facts = await self._work.observer.facts_now(self._host)
        now = self._work.clock.monotonic()
        if facts is None:
            self._silent_since = now if self._silent_since is None else self._silent_since
            if now - self._silent_since >= _OFF_AFTER_S:
                await self._succeed(
                    f"silent for {_OFF_AFTER_S:.0f} s after it was told to switch off"
                )
            return
        self._silent_since = None
        if self._is_another_boot(facts):
            await self._succeed("it was off: it answers from another boot by now")
        elif self._elapsed_s > OBEYS_WITHIN_S:
            raise Refused(
                "host.still_on",
                f"{self._host} was told to switch off at {self._asked_at} and still answers.",
                remedy="Look at its console, then ask again.",
            )
        else:
            await self._wait(
                "host.going_down", f"{self._host} to switch off (told {self._asked_at})"
            )


HOST_POWER_STEPS: dict[Method, type[HostPower]] = {
    Method.REBOOT_HOST: Rebooting,
    Method.POWER_OFF_HOST: SwitchingOff,
}
