"""What a lab consists of: frozen facts, decided before anything is built, kept as lab.json."""

import json
import re
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

from furlough.errors import Bug, Invalid
from furlough.lab.site import Site

FORMAT = 1
DISK_SIZE_MIB = 64
NBD_PORT = 10809
HOSTS_MOST, VMS_MOST = 20, 200
UUIDS = uuid5(NAMESPACE_DNS, "lab.furlough")


class Storage(StrEnum):
    """Kind of storage the VMs' disks are on."""

    NBD = "nbd"
    DIR = "dir"


class Accelerator(StrEnum):
    """What runs the guests' code: QEMU's translator, or the processor."""

    TCG = "tcg"
    KVM = "kvm"


@dataclass(frozen=True, kw_only=True)
class Keepalive:
    """How soon libvirtd gives a silent peer up: after interval x (count + 1) seconds."""

    interval_s: int
    count: int

    @staticmethod
    def parse(text: str) -> "Keepalive":
        """Read SECONDSxCOUNT."""
        found = re.fullmatch(r"([0-9]{1,4})x([0-9]{1,4})", text)
        if not found or int(found.group(1)) == 0:
            raise Invalid(
                "lab.keepalive",
                f"{text!r} is no keepalive.",
                remedy="Write SECONDSxCOUNT, for example 1x3; libvirt's own is 5x5.",
            )
        return Keepalive(interval_s=int(found.group(1)), count=int(found.group(2)))


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a person may choose at `up`. Checked when made."""

    hosts: int = 3
    vms: int = 6
    on: str | None = None
    storage: Storage = Storage.NBD
    accelerator: Accelerator = Accelerator.TCG
    memory_mib: int = 128
    fill_percent: int = 0
    hot_mib: int = 0
    hot_mib_s: int = 0
    rate_mbit_s: int | None = None
    keepalive: Keepalive | None = None
    tls: bool = False
    clusters: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        within("hosts", self.hosts, 1, HOSTS_MOST)
        within("vms", self.vms, 0, VMS_MOST)
        within("clusters", self.clusters, 1, self.hosts)
        within("memory", self.memory_mib, 96, 65536)
        within("fill", self.fill_percent, 0, 100)
        within("hot", self.hot_mib, 0, self.memory_mib)
        within("hot-rate", self.hot_mib_s, 0, 100_000)
        if self.rate_mbit_s is not None:
            within("rate", self.rate_mbit_s, 1, 100_000)
        if self.on is not None and self.on not in host_names(self.hosts):
            raise Invalid("lab.option", f"--on {self.on}: there is no such host in this lab.")
        if self.filled_mib + self.hot_mib > self.free_for_load_mib:
            raise Invalid(
                "lab.option",
                f"--fill and --hot ask for {self.filled_mib + self.hot_mib} MiB, but guests of "
                f"{self.memory_mib} MiB have {self.free_for_load_mib} MiB free.",
                remedy="Lower them, or raise --memory.",
            )

    @property
    def free_for_load_mib(self) -> int:
        """What kernel and initramfs leave free in a guest, measured from 96 MiB to 2 GiB."""
        return self.memory_mib * 15 // 16 - 60

    @property
    def filled_mib(self) -> int:
        """How much a guest fills with random data: a percentage of what is free in it."""
        return self.free_for_load_mib * self.fill_percent // 100


def within(option: str, value: int, least: int, most: int) -> None:
    """Invalid unless the value lies in the range."""
    if not least <= value <= most:
        raise Invalid("lab.option", f"--{option} {value} is not between {least} and {most}.")


@dataclass(frozen=True, kw_only=True)
class HostPlan:
    """One host to be: its name, number and identity."""

    name: str
    number: int
    uuid: str
    address: str
    mac: str


@dataclass(frozen=True, kw_only=True)
class VmPlan:
    """One VM to be, and the host it starts on."""

    name: str
    uuid: str
    host: str
    mac: str
    is_autostarted: bool


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """A whole lab, as it will be built and as it was built."""

    name: str
    network: int
    options: Options
    hosts: tuple[HostPlan, ...]
    vms: tuple[VmPlan, ...]

    @property
    def clusters(self) -> tuple[str, ...]:
        """The names of its clusters: the lab's own, and for further ones with a number behind."""
        further = range(2, self.options.clusters + 1)
        return (self.name, *(f"{self.name}-{number}" for number in further))

    def cluster_of(self, host: HostPlan) -> str:
        """The cluster of a host: neighbours together, the first clusters the larger ones."""
        count = len(self.hosts)
        return self.clusters[(host.number - 1) * self.options.clusters // count]

    @property
    def site(self) -> Site:
        """Where this lab keeps its things."""
        return Site.named(self.name)

    @property
    def switch_address(self) -> str:
        """The address of the switch, where the disks are served."""
        return address(self.network, 1)

    @property
    def outer_address(self) -> str:
        """The lab network's address of this machine itself."""
        return address(self.network, 254)

    def to_json(self) -> str:
        """For lab.json."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1)

    @staticmethod
    def from_json(text: str) -> "Blueprint":
        """From lab.json."""
        fields: dict[str, Any] = json.loads(text)
        if fields.pop("format", None) != FORMAT:
            raise Bug("lab.format", "lab.json was written by another version of Furlough.")
        options = dict(fields["options"])
        keepalive = options["keepalive"]
        options["storage"] = Storage(options["storage"])
        options["accelerator"] = Accelerator(options["accelerator"])
        options["keepalive"] = Keepalive(**keepalive) if keepalive else None
        return Blueprint(
            name=fields["name"],
            network=fields["network"],
            options=Options(**options),
            hosts=tuple(HostPlan(**host) for host in fields["hosts"]),
            vms=tuple(VmPlan(**vm) for vm in fields["vms"]),
        )


def draw(name: str, options: Options, network: int) -> Blueprint:
    """Decide everything about a lab; `network` is the third byte of its addresses.

    UUIDs depend on the names alone, so a lab built again has the same VMs.
    """
    hosts = tuple(
        HostPlan(
            name=host,
            number=number,
            uuid=str(uuid5(UUIDS, f"{name}/host/{host}")),
            address=address(network, 10 + number),
            mac=f"02:f1:00:{network:02x}:00:{number:02x}",
        )
        for number, host in enumerate(host_names(options.hosts), start=1)
    )
    vms = tuple(
        VmPlan(
            name=f"vm{number}",
            uuid=str(uuid5(UUIDS, f"{name}/vm/vm{number}")),
            host=options.on or hosts[(number - 1) % len(hosts)].name,
            mac=f"52:54:00:{network:02x}:00:{number:02x}",
            # The first and then every third: a mixture, so that carrying it over shows.
            is_autostarted=number % 3 == 1,
        )
        for number in range(1, options.vms + 1)
    )
    return Blueprint(name=name, network=network, options=options, hosts=hosts, vms=vms)


def host_names(count: int) -> tuple[str, ...]:
    """h1, h2 and so on."""
    return tuple(f"h{number}" for number in range(1, count + 1))


def address(network: int, last: int) -> str:
    """An address of a lab's network."""
    return f"10.213.{network}.{last}"
