"""libvirt's states, reasons and jobs as the words of the core."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import libvirt

from furlough.core.looks import Job, Presence, Why
from furlough.core.states import Power

_PRESENCE = {
    libvirt.VIR_DOMAIN_RUNNING: Presence.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: Presence.RUNNING,
    libvirt.VIR_DOMAIN_SHUTDOWN: Presence.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: Presence.PAUSED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: Presence.PAUSED,
    libvirt.VIR_DOMAIN_CRASHED: Presence.PAUSED,
    libvirt.VIR_DOMAIN_SHUTOFF: Presence.SHUT_OFF,
}
_POWER = {
    libvirt.VIR_DOMAIN_PMSUSPENDED: Power.SUSPENDED,
    libvirt.VIR_DOMAIN_CRASHED: Power.ERROR,
}
_POWER_OF_PRESENCE = {
    Presence.RUNNING: Power.RUNNING,
    Presence.PAUSED: Power.PAUSED,
    Presence.SHUT_OFF: Power.SHUT_OFF,
}
_WHY = {
    (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_MIGRATED): Why.MIGRATED,
    (
        libvirt.VIR_DOMAIN_RUNNING,
        libvirt.VIR_DOMAIN_RUNNING_MIGRATION_CANCELED,
    ): Why.MIGRATION_CANCELED,
    (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_POSTCOPY): Why.POSTCOPY,
    (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_POSTCOPY_FAILED): Why.POSTCOPY_FAILED,
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER): Why.USER,
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION): Why.MIGRATION,
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR): Why.IO_ERROR,
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_CRASHED): Why.CRASHED,
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY): Why.POSTCOPY,
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED): Why.POSTCOPY_FAILED,
    # PAUSED_API_ERROR; libvirt 9.0's binding calls it so, older ones have no name for it.
    (libvirt.VIR_DOMAIN_PAUSED, 14): Why.API_ERROR,
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN): Why.SHUTDOWN,
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED): Why.DESTROYED,
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED): Why.CRASHED,
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED): Why.MIGRATED,
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_FAILED): Why.FAILED,
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SAVED): Why.SAVED,
}
_JOB = {
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT: Job.OUTGOING,
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN: Job.INCOMING,
}
_JOB_WORDS = {
    libvirt.VIR_DOMAIN_JOB_OPERATION_START: "a start",
    libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE: "a save to disk",
    libvirt.VIR_DOMAIN_JOB_OPERATION_RESTORE: "a restore from a save image",
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN: "an incoming migration",
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT: "an outgoing migration",
    libvirt.VIR_DOMAIN_JOB_OPERATION_SNAPSHOT: "a snapshot",
    libvirt.VIR_DOMAIN_JOB_OPERATION_DUMP: "a dump",
    libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP: "a backup",
}


def presence_of(state: int) -> Presence:
    """Whether its CPUs run; a VM in a state without name counts as paused."""
    return _PRESENCE.get(state, Presence.PAUSED)


def why_of(state: int, reason: int) -> Why:
    """Why it is so."""
    if state == libvirt.VIR_DOMAIN_CRASHED:
        return Why.CRASHED
    if state == libvirt.VIR_DOMAIN_PMSUSPENDED:
        return Why.ASLEEP
    return _WHY.get((state, reason), Why.UNKNOWN)


def power_of(state: int, reason: int) -> Power:
    """What a listing says of it. One that an I/O error or a crash has stopped is in error."""
    if why_of(state, reason) in (Why.IO_ERROR, Why.CRASHED) and state != libvirt.VIR_DOMAIN_SHUTOFF:
        return Power.ERROR
    return _POWER.get(state) or _POWER_OF_PRESENCE[presence_of(state)]


def job_of(stats: Mapping[str, Any]) -> Job:
    """The job that `jobStats` describes."""
    if stats.get("type", libvirt.VIR_DOMAIN_JOB_NONE) == libvirt.VIR_DOMAIN_JOB_NONE:
        return Job.NONE
    return _JOB.get(stats.get("operation", -1), Job.OTHER)


def job_words(stats: Mapping[str, Any]) -> str:
    """The job in words; empty if there is none."""
    if job_of(stats) is Job.NONE:
        return ""
    return _JOB_WORDS.get(stats.get("operation", -1), "a job")
