"""Enrolment: what clusters, hosts and datastores there are."""

from __future__ import annotations

from collections.abc import Sequence

from furlough.core.enrolment import Enrolment, check_datastore, check_host
from furlough.core.ids import ClusterName, HostName
from furlough.engine.work import Work
from furlough.errors import Conflict


class Enrolling:
    """Create, change, remove."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._store = work.store
        self._observer = work.observer

    async def apply(self, enrolment: Enrolment) -> None:
        """Create or change everything named, or nothing; what is not named is left as it is."""
        for host in enrolment.hosts:
            check_host(host)
        for datastore in enrolment.datastores:
            check_datastore(datastore)
        await self._store.enrol(enrolment)
        await self._enrolled([host.name for host in enrolment.hosts])

    async def add(self, additions: Enrolment) -> None:
        """Create all of these; `Conflict` where there is one of the same name."""
        known = await self._store.enrolment()
        for kind, new, old in (
            ("cluster", additions.clusters, known.clusters),
            ("datastore", additions.datastores, known.datastores),
            ("host", additions.hosts, known.hosts),
        ):
            taken = {one.name for one in new} & {one.name for one in old}
            if taken:
                raise Conflict(
                    f"{kind}.exists",
                    f"There is a {kind} {min(taken)!r} already.",
                    remedy="Change it: furlough apply FILE."
                    if kind == "datastore"
                    else f"Change it: furlough {kind} set {min(taken)}.",
                )
        await self.apply(additions)

    async def remove_cluster(self, name: ClusterName) -> None:
        """Forget an empty cluster."""
        await self._store.remove_cluster(name)

    async def remove_datastore(self, name: str) -> None:
        """Forget a datastore that no host lists."""
        await self._store.remove_datastore(name)

    async def remove_host(self, name: HostName) -> None:
        """Forget a host that has no work."""
        await self._store.remove_host(name)
        await self._enrolled([])

    async def _enrolled(self, changed: Sequence[HostName]) -> None:
        await self._work.hypervisor.enrol(await self._store.enrolment())
        await self._observer.refresh(changed)
