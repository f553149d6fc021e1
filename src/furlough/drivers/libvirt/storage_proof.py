"""Proving a directory datastore: the same files on every host, and locks that hold across them.

A file with a secret word is written on the first host and read on the others; then a lock is held
on it there, the way QEMU locks an image, and tried on the others. Only directories can be proven
so; for network disks there is no lock of QEMU's to rely on.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress

from furlough.core.enrolment import DatastoreKind, EnrolledDatastore
from furlough.drivers.libvirt.program import HostProgram
from furlough.errors import FurloughError
from furlough.ports import StorageProof


async def prove(datastore: EnrolledDatastore, programs: Sequence[HostProgram]) -> StorageProof:
    """What can be shown about a datastore on the hosts of these programs. Raises `Unreachable`
    where one of them does not answer."""
    if datastore.kind is not DatastoreKind.DIRECTORY:
        return StorageProof(
            is_shared=False,
            is_locked=False,
            because=f"a datastore of kind {datastore.kind.value} has no locks that QEMU respects",
        )
    first, *others = programs
    token = secrets.token_hex(16)
    try:
        await first.on_storage("write", datastore.path, token)
        for other in others:
            if not (await other.on_storage("read", datastore.path, token))["seen"]:
                return StorageProof(
                    is_shared=False,
                    is_locked=False,
                    because=f"{other.name} does not see what {first.name} writes",
                )
        return await _prove_lock(datastore, first, others, token)
    finally:
        with suppress(FurloughError):
            await first.on_storage("remove", datastore.path, token)


async def _prove_lock(
    datastore: EnrolledDatastore, first: HostProgram, others: Sequence[HostProgram], token: str
) -> StorageProof:
    if not (await first.on_storage("hold", datastore.path, token))["locked"]:
        return StorageProof(
            is_shared=True, is_locked=False, because=f"{first.name} cannot lock a file there"
        )
    for other in others:
        if (await other.on_storage("try", datastore.path, token))["locked"]:
            return StorageProof(
                is_shared=True,
                is_locked=False,
                because=f"{other.name} could lock what {first.name} holds",
            )
    return StorageProof(is_shared=True, is_locked=True)
