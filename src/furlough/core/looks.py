"""Looks: what one host says about one VM at one instant. The only evidence a settling accepts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from furlough.core.ids import HostName


class Presence(StrEnum):
    """Whether the host knows the VM, and whether its CPUs run there."""

    SILENT = "silent"
    ABSENT = "absent"
    SHUT_OFF = "shut_off"
    PAUSED = "paused"
    RUNNING = "running"


class Why(StrEnum):
    """Why it is so, as far as the hypervisor says."""

    UNKNOWN = "unknown"
    USER = "user"
    MIGRATION = "migration"
    MIGRATED = "migrated"
    MIGRATION_CANCELED = "migration_canceled"
    API_ERROR = "api_error"
    IO_ERROR = "io_error"
    POSTCOPY = "postcopy"
    POSTCOPY_FAILED = "postcopy_failed"
    SHUTDOWN = "shutdown"
    DESTROYED = "destroyed"
    CRASHED = "crashed"
    FAILED = "failed"
    SAVED = "saved"
    ASLEEP = "asleep"


_STANDSTILLS = {
    Why.IO_ERROR: "an I/O error has stopped it",
    Why.CRASHED: "it has crashed",
    Why.ASLEEP: "its guest sleeps",
}


class Job(StrEnum):
    """What is being done to it there."""

    NONE = "none"
    OUTGOING = "outgoing"
    INCOMING = "incoming"
    OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class Look:
    """One answer of one host about one VM.

    `has_process` is from the host's process list, which also shows what the hypervisor has lost;
    `has_autostart`, `is_persistent` and `has_managed_save` (its next start goes on from a save
    image) are False where the VM is absent.
    """

    host: HostName
    at: datetime
    presence: Presence
    why: Why = Why.UNKNOWN
    job: Job = Job.NONE
    has_process: bool = False
    is_persistent: bool = False
    has_autostart: bool = False
    has_managed_save: bool = False

    @property
    def is_here(self) -> bool:
        """Whether anything of the VM is active on this host."""
        return self.has_process or self.presence in (Presence.PAUSED, Presence.RUNNING)

    @property
    def standstill(self) -> str:
        """Why the CPUs of a VM stand still, in words; empty if they run, or if somebody paused
        it. Moved, such a VM would be no better, and harder to mend."""
        return _STANDSTILLS.get(self.why, "") if self.presence is Presence.PAUSED else ""

    @property
    def facts(self) -> tuple[object, ...]:
        """All but the instant: two looks with equal facts say the same."""
        return (
            self.host, self.presence, self.why, self.job, self.has_process,
            self.is_persistent, self.has_autostart, self.has_managed_save,
        )  # fmt: skip

    def __str__(self) -> str:
        words = [f"{self.host}: {self.presence.value}"]
        if self.presence not in (Presence.SILENT, Presence.ABSENT) and self.why is not Why.UNKNOWN:
            words.append(f"({self.why.value})")
        if self.job is not Job.NONE:
            words.append(f"job {self.job.value}")
        if self.presence in (Presence.ABSENT, Presence.SHUT_OFF) and self.has_process:
            words.append("but a process is left")
        return " ".join(words)
