"""Where a cell of the matrix is played: one VM that enters its way out of h1, two that look on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from furlough.client import Client
from furlough.context import load_context
from furlough.core.states import is_final
from furlough.errors import FurloughError
from furlough.lab.blueprint import Keepalive, Options
from furlough.lab.host import Host
from furlough.lab.patience import unix_now, wait_until
from furlough.lab.processes import Process
from furlough.wire.operations import OperationView, StepView
from tests.lab.adversary import forget, original_xml, restart, uuid_of
from tests.lab.fleet import Fleet
from tests.lab.matrix import gates
from tests.lab.matrix.links import healed

VM = "vm1"
_WAYS_BACK = {"maintenance": "exit", "cordoned": "uncordon"}
# 8 MiB are rewritten all the time: over a link of some Mbit/s a migration copies for ever.
OPTIONS = Options(
    hosts=3, vms=3, memory_mib=128, hot_mib=8, hot_mib_s=16,
    keepalive=Keepalive(interval_s=1, count=3),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A fleet whose hosts have gates, and a user."""

    fleet: Fleet
    client: Client

    @staticmethod
    def of(fleet: Fleet) -> Stage:
        """Put the gates in."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(gates.install, fleet.lab.hosts))
        return Stage(fleet=fleet, client=Client(load_context()))

    @property
    def source(self) -> Host:
        """The host that is to be emptied."""
        return self.fleet.lab.host("h1")

    @property
    def targets(self) -> tuple[Host, ...]:
        """The others."""
        return self.fleet.lab.hosts[1:]

    def enter(self) -> str:
        """Ask for maintenance of the source; which operation that is. A daemon that was just
        started has its guard proven first, which the last look may be too old to know."""
        wait_until(self.may_be_entered, "h1 to be fit to be entered", timeout_s=60, interval_s=0.5)
        return self.client.ask("enter", ["h1"], {}).id

    def may_be_entered(self) -> bool:
        """Whether a check of the source finds its guard proven."""
        (report,) = self.client.check(["h1"], {})
        return all(one.code != "guard.unproven" for one in report.findings)

    def operation(self, which: str) -> OperationView:
        """An operation as it is now."""
        return self.client.operation(which)

    def target_of(self, which: str) -> Host:
        """Where the VM is on its way to; it must be on its way."""
        target = move_of(self.operation(which)).target
        assert target is not None, f"{VM} is on its way nowhere"
        return self.fleet.lab.host(target)

    # --- looking at the VM --------------------------------------------------------------------

    def emulators(self, host: Host) -> list[Process]:
        """The VM's processes on a host, whatever libvirt knows of them."""
        return [one for one in host.processes() if is_emulator_of(one, uuid_of(self.fleet.lab, VM))]

    def state_on(self, host: Host) -> str:
        """The VM's state there by libvirt, "" where it is not known or libvirt does not say."""
        with suppress(FurloughError):
            return host.virsh("domstate", VM, timeout_s=5).strip()
        return ""

    def job(self) -> dict[str, str]:
        """What libvirt says of the VM's migration out of the source; empty if it says nothing."""
        with suppress(FurloughError):
            lines = self.source.virsh("domjobinfo", VM, timeout_s=5).splitlines()
            pairs = [line.partition(":") for line in lines if ":" in line]
            found = {name.strip(): value.strip() for name, _, value in pairs}
            return found if found.get("Operation") == "Outgoing migration" else {}
        return {}

    # --- before and after ---------------------------------------------------------------------

    def clear(self) -> None:
        """Everything mended, nothing under way, the VM at home, whatever was played before."""
        self.mend()
        for operation in self.client.operations(active=True):
            self.end(operation.id)
        mode = self.client.host("h1").mode.value
        if mode in _WAYS_BACK:
            back = self.client.ask(_WAYS_BACK[mode], ["h1"], {}).id
            self.wait_for_end(back, timeout_s=90)
        if not self.is_at_home:
            self.put_home()
        wait_until(self.is_well, "every host to be well", timeout_s=90, interval_s=0.5)
        self.fleet.lab.wait_for_guests(since=unix_now())

    def is_well(self) -> bool:
        """Whether every host answers us and keeps VMs out if told to: after a daemon's restart
        that has to be proven anew."""
        hosts = self.client.hosts()
        return all(one.reachability.value == "connected" and not one.guard_trouble for one in hosts)

    def mend(self) -> None:
        """Gates open, links whole, every daemon alive."""
        for host in self.fleet.lab.hosts:
            gates.messages_to(host).open()
            gates.endings_on(host).open()
            healed(host)
            if not host.answers():
                host.stop_daemon()
                host.start_daemon()
        if self.fleet.lab.controller.process() is None:
            self.fleet.lab.controller.start()

    def end(self, which: str) -> None:
        """What a person does about an operation that waits for one: stop it; and if it cannot be
        stopped because nobody knows which copy of the VM counts, remove both. It is started anew
        from its disk when the host lets VMs in again."""
        with suppress(FurloughError):
            self.client.cancel(which, "stop")
        with suppress(FurloughError):
            self.wait_for_end(which, timeout_s=15)
            return
        for host in self.fleet.lab.hosts:
            forget(host, VM)
        self.wait_for_end(which, timeout_s=90)

    def wait_for_end(self, which: str, timeout_s: float) -> None:
        """Until it is over."""
        wait_until(
            lambda: is_final(self.operation(which).state),
            f"{which} to end", timeout_s=timeout_s, interval_s=0.3,
        )  # fmt: skip

    @property
    def is_at_home(self) -> bool:
        """Whether the VM runs on the source and nothing of it is anywhere else."""
        elsewhere = [host for host in self.targets if VM in host.vms("--all")]
        is_alone = not any(self.emulators(host) for host in self.targets)
        return not elsewhere and is_alone and self.state_on(self.source) == "running"

    def put_home(self) -> None:
        """Started anew on the source, from its definition and its disk."""
        restart(self.fleet.lab, VM, "h1", original_xml(self.fleet.lab, VM))


def move_of(operation: OperationView) -> StepView:
    """The step that moves the VM."""
    return next(step for step in operation.steps if step.vm_name == VM)


def is_emulator_of(process: Process, uuid: str) -> bool:
    """Whether a process is a QEMU of this VM."""
    if not process.name.startswith("qemu-system"):
        return False
    with suppress(OSError):
        return uuid.encode() in Path(f"/proc/{process.pid}/cmdline").read_bytes()
    return False
