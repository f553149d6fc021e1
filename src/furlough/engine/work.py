"""What every piece of work is done with: the ports, the observer, the settler, the settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from furlough.core.ids import HostName, OperationId, VmId
from furlough.core.inventory import with_neighbours
from furlough.engine.observer import Observer
from furlough.engine.queueing import SlotQueue
from furlough.engine.settling import Settler
from furlough.engine.traffic import Traffic
from furlough.ports import Clock, Hypervisor, Marker, Notifier, Progress, Store


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How often things are looked at, in seconds. Tests shorten nothing: they use virtual time.

    `empty_pause_s` lies between the two looks that confirm a host empty: longer than a start that
    had passed the hook just before the marker needs to show up in the process list. `stall_s`: how
    long the link of a migration may carry nothing at all.
    """

    lease_s: float = 15.0
    heartbeat_s: float = 5.0
    poll_s: float = 1.0
    reread_s: float = 5.0
    progress_s: float = 0.25
    stall_s: float = 30.0
    empty_pause_s: float = 2.0
    shut_down_again_s: float = 30.0


class ProgressBoard:
    """The newest progress of every migration in flight. Not durable: it is asked for anew."""

    def __init__(self) -> None:
        self._progress: dict[tuple[OperationId, int], Progress] = {}

    def put(self, operation: OperationId, step: int, progress: Progress | None) -> None:
        if progress is None:
            self._progress.pop((operation, step), None)
        else:
            self._progress[operation, step] = progress

    def get(self, operation: OperationId, step: int) -> Progress | None:
        return self._progress.get((operation, step))


@dataclass(frozen=True, kw_only=True)
class Work:
    """The tools of the engine. `controller` is the name that markers on hosts carry."""

    hypervisor: Hypervisor
    store: Store
    clock: Clock
    notifier: Notifier
    observer: Observer
    settler: Settler
    controller: str
    traffic: Traffic
    pace: Pace = field(default_factory=Pace)
    board: ProgressBoard = field(default_factory=ProgressBoard)
    queue: SlotQueue = field(default_factory=SlotQueue)

    def marker(self, operation: OperationId, epoch: int, admit: tuple[VmId, ...] = ()) -> Marker:
        """The marker that this operation puts on a host."""
        return Marker(operation=operation, epoch=epoch, controller=self.controller, admit=admit)

    async def all_hosts(self, near: HostName) -> list[HostName]:
        """Every host of the cluster that a host belongs to, and of those that exchange VMs
        with it."""
        enrolment = await self.store.enrolment()
        clusters = with_neighbours(enrolment.host(near).cluster, enrolment.clusters)
        return [one.name for one in enrolment.hosts if one.cluster in clusters]
