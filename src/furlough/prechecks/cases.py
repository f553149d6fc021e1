"""The case of one host that is to be entered: everything one precheck may look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Host, Inventory, Vm
from furlough.core.plan import Method
from furlough.core.policy import EnterOptions
from furlough.planning.bonds import Bonds
from furlough.planning.candidates import movers
from furlough.planning.cold import Resting
from furlough.planning.compatibility import Obstacle
from furlough.planning.dispositions import Choice
from furlough.planning.placement import Placement
from furlough.planning.ties import Tie

_HOSTS_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Case:
    """One host in question, all hosts that leave with it, the hosts that could take VMs, and what
    is to become of each VM.

    `ties`: what keeps a VM from moving live whatever the target; `refusals`: why no target takes
    one that could move, also where something else is done with it instead; `resting`: what
    becomes of those that are off, where all have to leave.
    """

    inventory: Inventory
    options: EnterOptions
    host: Host
    leaving: frozenset[HostName]
    targets: Sequence[Host]
    placement: Placement
    choices: Mapping[VmId, Choice]
    ties: Mapping[VmId, Sequence[Tie]]
    refusals: Mapping[VmId, Mapping[HostName, tuple[Obstacle, ...]]]
    bonds: Bonds
    resting: Mapping[VmId, Resting] = field(default_factory=dict)

    @property
    def movers(self) -> list[Vm]:
        """The VMs that have to leave the host."""
        return movers(self.inventory, self.host.name)

    @property
    def live_movers(self) -> list[Vm]:
        """Those of them that are to move live."""
        return [vm for vm in self.movers if self.method_of(vm) is Method.LIVE]

    @property
    def live_or_stuck(self) -> list[Vm]:
        """Those of them that need a way to a target: nothing else may be, or can be, done."""
        stopped = (Method.SHUT_DOWN, Method.SUSPEND, Method.COLD, Method.LEAVE)
        return [vm for vm in self.movers if self.method_of(vm) not in stopped]

    @property
    def touched(self) -> list[Vm]:
        """Those of them with which anything is to be done at all."""
        return [vm for vm in self.movers if self.method_of(vm) is not Method.LEAVE]

    def method_of(self, vm: Vm) -> Method | None:
        """What is to be done with a VM that has to leave."""
        return self.choices[vm.id].method

    @property
    def usable_hosts(self) -> list[Host]:
        """The host itself, if it answers, and the targets that do."""
        return [host for host in (self.host, *self.targets) if host.is_connected]


# --- words ------------------------------------------------------------------------------------


def subject_of(vm: Vm) -> str:
    """How a finding names a VM: names may repeat, UUIDs may not be readable."""
    return f"{vm.name} ({vm.id})"


def because(host: Host) -> str:
    """Why a host is silent, as the end of a sentence; empty if nobody knows."""
    return f": {host.silent_because.rstrip('.')}" if host.silent_because else ""


def reasons(against: Mapping[HostName, Sequence[Obstacle]]) -> str:
    """Per host why it is refused; long lists are summed up by reason."""
    if not against:
        return "there is no other host"
    if len(against) <= _HOSTS_SHOWN:
        return "; ".join(
            f"{name}: {', '.join(one.message for one in found)}"
            for name, found in sorted(against.items())
        )
    counts = Counter(one.message for found in against.values() for one in found)
    return "; ".join(f"{count} hosts: {message}" for message, count in counts.most_common(5))
