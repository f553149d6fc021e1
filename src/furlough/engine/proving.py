"""Proofs, made in the background. Of storage: when the hosts that share a datastore are there, and
again when they change. Of guards: when a host says that its hook was not seen to refuse since its
daemon started. A proof that cannot be made is no proof; nothing else stops for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import structlog

from furlough.core.enrolment import DatastoreKind, EnrolledDatastore, Enrolment, users_of
from furlough.core.ids import HostName
from furlough.core.inventory import Proof
from furlough.errors import FurloughError
from furlough.ports import Clock, HostFacts, Hypervisor, Store

log = structlog.get_logger()

# A trial starts a VM, if only for a moment: one that fails is not repeated all the time.
GUARD_INTERVAL_S = 60.0
_GUARDS_AT_ONCE = 4


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


class GuardProofs:
    """Has hosts try their hooks. `known` gives the newest facts of all connected hosts."""

    def __init__(
        self,
        hypervisor: Hypervisor,
        store: Store,
        clock: Clock,
        known: Callable[[], Iterable[HostFacts]],
    ) -> None:
        self._hypervisor = hypervisor
        self._store = store
        self._clock = clock
        self._known = known
        self._tried: dict[HostName, float] = {}

    async def attempt(self) -> list[HostName]:
        """Try every hook that needs it and may be tried now; the hosts that were tried."""
        due = await self._due()
        at_once = asyncio.Semaphore(_GUARDS_AT_ONCE)

        async def one(host: HostName) -> None:
            async with at_once:
                self._tried[host] = self._clock.monotonic()
                await self._prove(host)

        async with asyncio.TaskGroup() as tasks:
            for host in due:
                tasks.create_task(one(host))
        return due

    async def _due(self) -> list[HostName]:
        """Not while an operation works on the host, unless its marker is there: then only the
        refusal is tried, and nothing starts."""
        waiting = [facts for facts in self._known() if facts.has_guard and facts.guard_trouble]
        if not waiting:
            return []
        standings = await self._store.standings()
        now = self._clock.monotonic()
        return [
            facts.host
            for facts in waiting
            if (standing := standings.get(facts.host)) is not None
            and (standing.operation is None or facts.marker is not None)
            and now - self._tried.get(facts.host, now - GUARD_INTERVAL_S) >= GUARD_INTERVAL_S
        ]

    async def _prove(self, host: HostName) -> None:
        try:
            trouble = await self._hypervisor.prove_guard(host)
        except FurloughError as error:
            trouble = error.message
        if trouble:
            log.warning("guard not proven", host=host, because=trouble)
        else:
            log.info("guard proven", host=host)
