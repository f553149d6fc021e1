"""Enrolment: what clusters, hosts and datastores there are."""

from __future__ import annotations

from collections.abc import Sequence

from furlough.core.access import Privilege
from furlough.core.enrolment import Enrolment, check_datastore, check_host
from furlough.core.ids import ClusterName, HostName
from furlough.engine.work import Work
from furlough.errors import Conflict
from furlough.service.authority import Authority, needs


class Enrolling:
    """Create, change, remove."""

    def __init__(self, work: Work, authority: Authority) -> None:
        self._work = work
        self.authority = authority
        self._store = work.store
        self._observer = work.observer

    @needs(Privilege.MANAGE_HOSTS, action="apply")
    async def apply(self, enrolment: Enrolment, based_on: Enrolment | None = None) -> None:
        """Create or change everything named, or nothing; what is not named is left as it is.
        `Stale` where one of these is no longer what it was in `based_on`."""
        await self.authority.check_enrolment(enrolment)
        for host in enrolment.hosts:
            check_host(host)
        for datastore in enrolment.datastores:
            check_datastore(datastore)
        names = [
            f"{kind} {one.name}"
            for kind, several in (
                ("cluster", enrolment.clusters),
                ("datastore", enrolment.datastores),
                ("host", enrolment.hosts),
            )
            for one in several
        ]
        deed = self.authority.deed("enrol", ", ".join(names)[:1000])
        await self._store.enrol(enrolment, deed, based_on)
        await self._enrolled([host.name for host in enrolment.hosts])

    @needs(Privilege.MANAGE_HOSTS, action="add")
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

    @needs(Privilege.MANAGE_HOSTS, on="cluster", action="remove_cluster")
    async def remove_cluster(self, cluster: ClusterName) -> None:
        """Forget an empty cluster."""
        deed = self.authority.deed("remove_cluster", f"cluster {cluster}")
        await self._store.remove_cluster(cluster, deed)

    @needs(Privilege.MANAGE_HOSTS, action="remove_datastore")
    async def remove_datastore(self, name: str) -> None:
        """Forget a datastore that no host lists."""
        known = (await self._store.enrolment()).datastores
        here = [one for one in known if one.name == name]
        await self.authority.check_enrolment(Enrolment(datastores=here))
        deed = self.authority.deed("remove_datastore", f"datastore {name}"[:1000])
        await self._store.remove_datastore(name, deed)

    @needs(Privilege.MANAGE_HOSTS, on="host", action="remove_host")
    async def remove_host(self, host: HostName) -> None:
        """Forget a host that has no work."""
        deed = self.authority.deed("remove_host", f"host {host}")
        await self._store.remove_host(host, deed)
        await self._enrolled([])

    async def _enrolled(self, changed: Sequence[HostName]) -> None:
        await self._work.hypervisor.enrol(await self._store.enrolment())
        await self._observer.refresh(changed)
