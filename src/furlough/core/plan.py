"""Plans: complete, immutable, serialisable decisions. The engine adds nothing to them.

A plan is a list of steps. Steps of one host run wave by wave: a step starts when all steps of
that host with a lower wave are over. Within a wave, slots and reservations decide how many run
at once, in the order of the list.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from furlough.core.capacity import NOTHING, Load
from furlough.core.ids import HostName, VmId
from furlough.core.load_after import LoadAfter
from furlough.core.states import Power
from furlough.core.timing import NO_TIME, Range


class OperationKind(StrEnum):
    """What a user may ask for."""

    ENTER = "enter"
    EXIT = "exit"
    RESTORE = "restore"
    CLOSE_RECORD = "close_record"
    CORDON = "cordon"
    UNCORDON = "uncordon"
    START_VM = "start_vm"
    SHUT_DOWN_VM = "shut_down_vm"
    POWER_OFF_VM = "power_off_vm"
    MIGRATE_VM = "migrate_vm"
    REBOOT_HOST = "reboot_host"
    POWER_OFF_HOST = "power_off_host"
    REMEDY_VM = "remedy_vm"


class Method(StrEnum):
    """What a step does, or what is done with a VM. The first five concern a host, the others a
    VM; `leave` is a disposition that no step carries out."""

    RAISE_GUARD = "raise_guard"
    CONFIRM_EMPTY = "confirm_empty"
    LOWER_GUARD = "lower_guard"
    REBOOT_HOST = "reboot_host"
    POWER_OFF_HOST = "power_off_host"
    LIVE = "live"
    COLD = "cold"
    SUSPEND = "suspend"
    SHUT_DOWN = "shut_down"
    LEAVE = "leave"
    START = "start"
    POWER_OFF = "power_off"
    EJECT = "eject"
    INSERT = "insert"


class Handover(StrEnum):
    """How the target takes over: `held` starts no CPU before the source's copy is seen gone."""

    NORMAL = "normal"
    HELD = "held"


@dataclass(frozen=True, kw_only=True)
class Before:
    """What a VM was before its step: libvirt carries not all of it, so we do, and verify it."""

    power: Power
    is_persistent: bool = True
    has_autostart: bool = False


@dataclass(frozen=True, kw_only=True)
class PlannedStep:
    """One effect on the world.

    `host` is the host whose maintenance (or whose VM) this is about; `targets` are ranked, a
    retry takes the next one; `load` is what the VM takes on its target; `admit` the VMs that a
    raised guard lets pass; `grace_s` how long a guest may take to shut down (0: as the request
    says), `may_power_off` whether its power is cut after that; `drive` and `medium` the target
    and source of a disk that is taken out or put back; the estimates count from the start of the
    plan. `after`: numbers of steps, maybe of other hosts, that must have succeeded before: they
    make its room, or bring its VM to `source`.
    """

    number: int
    method: Method
    host: HostName
    wave: int = 0
    vm: VmId | None = None
    vm_name: str = ""
    source: HostName | None = None
    targets: tuple[HostName, ...] = ()
    handover: Handover = Handover.NORMAL
    waives_storage_check: bool = False
    load: Load = NOTHING
    before: Before = field(default_factory=lambda: Before(power=Power.RUNNING))
    admit: tuple[VmId, ...] = ()
    grace_s: float = 0.0
    may_power_off: bool = False
    drive: str = ""
    medium: str = ""
    after: tuple[int, ...] = ()
    start_s: float = 0.0
    duration_s: float = 0.0
    downtime_ms: int = 0
    sent_mib: int = 0


class WhyStays(StrEnum):
    """What follows from a VM's staying where it is: it was meant to go and cannot (`hindered`); it
    was not meant to go this time (`postponed`); or others have decided about it since, so that it
    is none of ours any more (`let_go`). The first two stay on record after an exit."""

    HINDERED = "hindered"
    POSTPONED = "postponed"
    LET_GO = "let_go"


@dataclass(frozen=True, kw_only=True)
class Unplaced:
    """A VM that the plan leaves where it is, with the reason per host."""

    vm: VmId
    vm_name: str
    reasons: Mapping[HostName, tuple[str, ...]]
    why: WhyStays = WhyStays.HINDERED

    @property
    def words(self) -> str:
        """Every reason, in a sentence."""
        return "; ".join(dict.fromkeys(one for found in self.reasons.values() for one in found))


NO_LOAD = LoadAfter(max=0.0, sd=0.0)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will be done, for whom, and about how long it takes: a range with its reasons, and what
    the moves take at least in any order (`bound_s`)."""

    kind: OperationKind
    hosts: tuple[HostName, ...]
    steps: tuple[PlannedStep, ...]
    unplaced: tuple[Unplaced, ...] = ()
    eta: Range = NO_TIME
    eta_reasons: tuple[str, ...] = ()
    bound_s: float = 0.0
    load_after: LoadAfter = NO_LOAD

    @property
    def hash(self) -> str:
        """SHA-256 of what is decided: what an operator approves is what is carried out.

        Estimates are left out: they say nothing about what will be done.
        """
        decided = [self.kind, self.hosts, [_decisions(step) for step in self.steps]]
        return hashlib.sha256(json.dumps(decided, separators=(",", ":")).encode()).hexdigest()

    @property
    def id(self) -> str:
        """A short name, the same for equal plans."""
        return f"plan-{self.hash[:12]}"

    @property
    def migrations(self) -> tuple[PlannedStep, ...]:
        """The steps that move a VM."""
        return tuple(step for step in self.steps if step.method is Method.LIVE)


def _decisions(step: PlannedStep) -> list[object]:
    waits = [step.after] if step.after else []
    return [
        step.number, step.method, step.host, step.wave, step.vm, step.source, step.targets,
        step.handover, step.waives_storage_check, step.admit, step.grace_s, step.may_power_off,
        step.drive, step.medium, *waits,
    ]  # fmt: skip


def numbered(steps: tuple[PlannedStep, ...], first: int = 1) -> tuple[PlannedStep, ...]:
    """The same steps, numbered in their order, and so the steps that they come after."""
    new = {step.number: first + n for n, step in enumerate(steps)}
    return tuple(
        replace(step, number=first + n, after=tuple(sorted(new[one] for one in step.after)))
        for n, step in enumerate(steps)
    )
