"""VMs with names that nobody would choose in good faith, or without a keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Disk, Nic
from furlough.sim.cluster import SimVm
from tests.api.running import Running, running

H1, H2 = HostName("h1"), HostName("h2")
FORGED = "x\nfurlough: all is well\x1b]0;owned\x07"
# The catalogue's, and some of their kind (F084).
NAMES = (
    "n" * 255,
    "ü" * 127,
    'it\'s "quoted" `id` $(id) \\',
    "-x",
    "--yes",
    "🐧 pingüino 👩‍🚀",
    FORGED,
    "<script>alert(1)</script>",
    "[bold]rich[/bold]",
    "../../etc/passwd",
    "%s%n{0}{vm}",
    "tab\tcolumn",
    "right\u202eleft",
    "' OR 1=1; --",
    "null",
)
# On h1 and on h2 there is one of this name.
TWICE = "twice"


def id_of(number: int) -> VmId:
    """The UUID of the n-th of these VMs."""
    return VmId(f"00000000-0000-4000-9000-{number:012d}")


SECOND = id_of(len(NAMES) + 2)
"""The VM on h2 that is named as one on h1 is."""


def _vm(number: int, name: str) -> SimVm:
    return SimVm(
        id=id_of(number),
        name=name,
        memory_mib=256,
        disks=(Disk(target="vda", source=f"ssd/{number}.img", datastore="ssd"),),
        nics=(Nic(network="lan"),),
    )


@contextmanager
def running_with_strange_names() -> Iterator[Running]:
    """A daemon whose h1 holds these VMs and no other."""
    with running() as daemon:

        def put() -> None:
            for vm in list(daemon.cluster.hosts[H1].copies):
                daemon.cluster.remove(H1, vm)
            for number, name in enumerate((*NAMES, TWICE), start=1):
                daemon.cluster.put(H1, _vm(number, name))
            daemon.cluster.put(H2, _vm(len(NAMES) + 2, TWICE))

        daemon.do(put)
        daemon.run(daemon.controller.work.observer.refresh())
        yield daemon
