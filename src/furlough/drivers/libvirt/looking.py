"""One look at one VM, and at its migration. Functions of a connection; they run in threads."""

from __future__ import annotations

import libvirt

from furlough.core.ids import HostName, VmId
from furlough.core.looks import Look, Presence
from furlough.drivers.libvirt import errors, inventory, migration, states
from furlough.ports import Clock, Progress


def look(connection: libvirt.virConnect, host: HostName, vm: VmId, clock: Clock) -> Look:
    """What the host's libvirt says of a VM; `has_process` is only what it believes."""
    at = clock.now()
    try:
        domain = connection.lookupByUUIDString(vm)
        state, reason = domain.state()
        presence = states.presence_of(state)
        is_off = presence is Presence.SHUT_OFF
        is_persistent = bool(domain.isPersistent())
        job, _words = inventory.read_job(domain)
        has_autostart = bool(domain.autostart()) if is_persistent else False
        # Only a VM that is off can have one that counts: its next start would use it.
        has_managed_save = bool(domain.hasManagedSaveImage()) if is_off else False
    except libvirt.libvirtError as error:
        if not errors.is_absent(error):
            raise
        return Look(host=host, at=at, presence=Presence.ABSENT)
    return Look(
        host=host,
        at=at,
        presence=presence,
        why=states.why_of(state, reason),
        job=job,
        has_process=not is_off,
        is_persistent=is_persistent,
        has_autostart=has_autostart,
        has_managed_save=has_managed_save,
    )


def progress(domain: libvirt.virDomain) -> Progress | None:
    """How far its migration is; None where there is none, or the VM is off."""
    try:
        return migration.progress_of(domain.jobStats())
    except libvirt.libvirtError as error:
        if errors.is_lost(error):
            raise
        return None
