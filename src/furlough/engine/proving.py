"""Storage proofs: made when the hosts that share a datastore are there, made again when they
change. A proof that cannot be made is no proof; nothing else stops for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog

from furlough.core.enrolment import DatastoreKind, EnrolledDatastore, Enrolment, users_of
from furlough.core.ids import HostName
from furlough.core.inventory import Proof
from furlough.errors import FurloughError
from furlough.ports import Hypervisor, Store

log = structlog.get_logger()


async def prove_storage(
    hypervisor: Hypervisor, store: Store, connected: Sequence[HostName]
) -> None:
    """Prove every directory datastore whose proof does not cover the hosts that list it, as soon
    as all of them are connected."""
    enrolment = await store.enrolment()
    for datastore in enrolment.datastores:
        hosts = users_of(datastore, enrolment.hosts)
        covered = set(hosts) <= set(datastore.proven_on)
        if datastore.kind is not DatastoreKind.DIRECTORY or covered or len(hosts) < 2:
            continue
        if set(hosts) <= set(connected):
            await _prove(hypervisor, store, datastore, hosts)


async def _prove(
    hypervisor: Hypervisor, store: Store, datastore: EnrolledDatastore, hosts: list[HostName]
) -> None:
    try:
        proof = await hypervisor.prove_storage(datastore, hosts)
    except FurloughError as error:
        log.warning("storage not proven", datastore=datastore.name, because=error.message)
        return
    log.info(
        "storage tried",
        datastore=datastore.name,
        shared=proof.is_shared,
        locked=proof.is_locked,
        because=proof.because or None,
    )
    proven = replace(
        datastore,
        shared=_better(datastore.shared, is_proven=proof.is_shared),
        locked=_better(datastore.locked, is_proven=proof.is_locked),
        proven_on=tuple(hosts),
    )
    await store.enrol(Enrolment(datastores=[proven]))


def _better(known: Proof, *, is_proven: bool) -> Proof:
    """A proof replaces a declaration; a failed one leaves it, but not an older proof."""
    if is_proven:
        return Proof.PROVEN
    return Proof.UNKNOWN if known is Proof.PROVEN else known
