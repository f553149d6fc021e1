"""One live migration, as libvirt is asked for it. Functions of a connection; they run in threads.

Always peer-to-peer: the source's daemon drives it, so it goes on when we die.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import libvirt

from furlough.core.plan import Handover
from furlough.errors import Refused
from furlough.ports import MigrationOrder, MigrationReport, Progress

_MIB = 2**20
# libvirt's own word for no limit: the most that it can tell the emulator, in MiB/s. It is always
# said, since what somebody has set for a VM before would hold otherwise.
_NO_LIMIT_MIB_S = (2**63 - 1) // _MIB


def flags_of(order: MigrationOrder, *, waive_storage_check: bool = False) -> int:
    """libvirt's flags for an order."""
    flags: int = (
        libvirt.VIR_MIGRATE_LIVE
        | libvirt.VIR_MIGRATE_PEER2PEER
        | libvirt.VIR_MIGRATE_ABORT_ON_ERROR
        | libvirt.VIR_MIGRATE_AUTO_CONVERGE
    )
    if order.carries_definition:
        # Both or neither: a definition on two hosts can be started twice.
        flags |= libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    if order.handover is Handover.HELD:
        flags |= libvirt.VIR_MIGRATE_PAUSED
    if order.connections:
        flags |= libvirt.VIR_MIGRATE_PARALLEL
    if order.may_post_copy:
        flags |= libvirt.VIR_MIGRATE_POSTCOPY
    if order.resumes_post_copy:
        flags |= libvirt.VIR_MIGRATE_POSTCOPY_RESUME
    if waive_storage_check:
        flags |= libvirt.VIR_MIGRATE_UNSAFE
    if order.is_encrypted:
        flags |= libvirt.VIR_MIGRATE_TLS
    return flags


def migrate(
    connection: libvirt.virConnect,
    order: MigrationOrder,
    control: str,
    data: str,
    certified: str,
) -> tuple[str, ...]:
    """Carry out an order; returns notes. `control`: the URI at which the source's daemon finds the
    target's; `data`: where the memory goes; `certified`: the name that the target proves where that
    is encrypted."""
    domain = connection.lookupByUUIDString(order.vm)
    parameters = parameters_of(order, data)
    if order.is_encrypted:
        parameters[libvirt.VIR_MIGRATE_PARAM_TLS_DESTINATION] = certified
    try:
        domain.migrateToURI3(control, parameters, flags_of(order))
    except libvirt.libvirtError as error:
        unsafe = error.get_error_code() == libvirt.VIR_ERR_MIGRATE_UNSAFE
        if not (unsafe and order.waives_storage_check):
            raise
        # Refused at begin, so nothing has happened; and both of our own proofs hold.
        flags = flags_of(order, waive_storage_check=True)
        domain.migrateToURI3(control, parameters, flags)
        return ("libvirt's storage check was waived: sharing and locks are proven by us.",)
    return ()


def parameters_of(order: MigrationOrder, data: str) -> dict[str, str | int]:
    """libvirt's parameters for an order."""
    parameters: dict[str, str | int] = {
        libvirt.VIR_MIGRATE_PARAM_URI: data,
        libvirt.VIR_MIGRATE_PARAM_BANDWIDTH: order.speed_mib_s or _NO_LIMIT_MIB_S,
    }
    if order.connections:
        parameters[libvirt.VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS] = order.connections
    return parameters


def set_speed(domain: libvirt.virDomain, mib_s: int) -> None:
    """What its migration may send from now on. Until memory is copied, libvirt would set what the
    migration began with after us."""
    if progress_of(domain.jobStats()) is None:
        raise Refused("hypervisor.busy", "No memory is being copied yet.")
    domain.migrateSetMaxSpeed(mib_s or _NO_LIMIT_MIB_S)


def lift_speed(domain: libvirt.virDomain) -> None:
    """Leave no limit behind, with a VM that stayed: it would hold for whoever moves it next."""
    with suppress(libvirt.libvirtError):
        domain.migrateSetMaxSpeed(_NO_LIMIT_MIB_S)


def report_of(
    stats: Mapping[str, Any] | None, stopped_at: float | None, notes: tuple[str, ...]
) -> MigrationReport:
    """What the completed job's statistics say."""
    if stats is None:
        return MigrationReport(stopped_at=stopped_at, notes=notes)
    downtime = stats.get(libvirt.VIR_DOMAIN_JOB_DOWNTIME)
    return MigrationReport(
        sent_mib=round(stats.get(libvirt.VIR_DOMAIN_JOB_MEMORY_PROCESSED, 0) / _MIB),
        downtime_ms=None if downtime is None else int(downtime),
        copying_s=_copying_s(stats),
        stopped_at=stopped_at,
        notes=notes,
    )


def _copying_s(stats: Mapping[str, Any]) -> float | None:
    """All bytes that were sent, by the rate that the emulator itself worked out over the time of
    sending them; the time that libvirt tells counts the start of the target's process as well."""
    rate = stats.get(libvirt.VIR_DOMAIN_JOB_MEMORY_BPS, 0)
    sent = stats.get(libvirt.VIR_DOMAIN_JOB_MEMORY_PROCESSED, 0)
    return sent / rate if rate and sent else None


def progress_of(stats: Mapping[str, Any]) -> Progress | None:
    """How far an outgoing migration is; None where there is none."""
    if stats.get("operation") != libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT:
        return None
    if not stats.get(libvirt.VIR_DOMAIN_JOB_MEMORY_TOTAL):
        return None  # It is still being prepared.
    return Progress(
        total_mib=round(stats[libvirt.VIR_DOMAIN_JOB_MEMORY_TOTAL] / _MIB),
        sent_mib=round(stats.get(libvirt.VIR_DOMAIN_JOB_MEMORY_PROCESSED, 0) / _MIB),
        remaining_mib=round(stats.get(libvirt.VIR_DOMAIN_JOB_MEMORY_REMAINING, 0) / _MIB),
        rate_mib_s=round(stats.get(libvirt.VIR_DOMAIN_JOB_MEMORY_BPS, 0) / _MIB, 1),
        rounds=stats.get(libvirt.VIR_DOMAIN_JOB_MEMORY_ITERATION, 0),
        throttle_percent=stats.get(libvirt.VIR_DOMAIN_JOB_AUTO_CONVERGE_THROTTLE, 0),
    )
