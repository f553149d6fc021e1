"""The lab's network: one switch, one link per host, one link to this machine.

The bridge lives in the switch's own namespace, out of reach of this machine's packet filter
(Docker, for one, drops forwarded packets, bridged ones too), and goes away with it.

    rate    the host sends at most so much (token bucket on its own eth0)
    cut     eth0 of the host is down: on that host every send fails at once
    silent  the switch drops everything for and from that host; nobody is told
"""

import contextlib
import ipaddress
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from furlough.errors import Refused
from furlough.lab.blueprint import Blueprint, HostPlan
from furlough.lab.command import run
from furlough.lab.namespaces import Namespaces

NETWORKS = ipaddress.IPv4Network("10.213.0.0/16")
SWITCH_MAC, OUTER_MAC = "02:f1:00:{:02x}:00:fe", "02:f1:00:{:02x}:00:ff"
VM_BRIDGE = "br-vms"


@dataclass(frozen=True, kw_only=True)
class Link:
    """The link of a host as it is now."""

    state: str
    rate_mbit_s: int | None


def free_network(taken: Iterable[str]) -> int:
    """The third byte of a /24 that overlaps none of these destinations."""
    used = [ipaddress.IPv4Network(text, strict=False) for text in taken]
    for number, network in enumerate(NETWORKS.subnets(new_prefix=24)):
        if 0 < number < 255 and not any(network.overlaps(other) for other in used):
            return number
    raise Refused(
        "lab.no_network",
        "Every /24 of 10.213.0.0/16 is routed already.",
        remedy="Take other labs down, or remove the routes.",
    )


def has_link(name: str) -> bool:
    """Whether this machine has an interface of that name."""
    return Path("/sys/class/net", name).exists()


def taken_networks() -> list[str]:
    """What this machine routes now, the default route excepted."""
    routes = json.loads(run(["ip", "-json", "-4", "route", "show", "table", "all"]) or "[]")
    return [route["dst"] for route in routes if route.get("dst", "default") != "default"]


def lay_out(blueprint: Blueprint, switch: Namespaces) -> None:
    """Make the bridge and the link to this machine. The switch's namespaces exist."""
    number, link = blueprint.network, blueprint.site.link
    switch.run_ip(
        [
            "link set lo up",
            f"link add br0 address {SWITCH_MAC.format(number)} type bridge",
            f"addr add {blueprint.switch_address}/24 dev br0",
            "link set br0 up",
        ]
    )
    # One end is in the switch from its first moment: killing the switch removes both.
    switch.run_ip(
        [
            f"link add root type veth peer name {link} netns {os.getpid()}",
            "link set root master br0 up",
        ]
    )
    lines = [
        f"link set {link} address {OUTER_MAC.format(number)} up",
        f"addr add {blueprint.outer_address}/24 dev {link}",
        *neighbours(blueprint, link, blueprint.outer_address),
    ]
    run(["ip", "-batch", "-"], text_in="\n".join(lines) + "\n")
    switch.run_ip(neighbours(blueprint, "br0", blueprint.switch_address))


def connect(blueprint: Blueprint, host: HostPlan, inside: Namespaces, switch: Namespaces) -> None:
    """Give a host its eth0 and the bridge its VMs are attached to."""
    pid = inside.living().pid
    switch.run_ip(
        [
            f"link add {host.name} type veth peer name eth0 address {host.mac} netns {pid}",
            f"link set {host.name} master br0 up",
        ]
    )
    inside.run_ip(
        [
            "link set lo up",
            f"addr add {host.address}/24 dev eth0",
            "link set eth0 up",
            f"link add {VM_BRIDGE} type bridge",
            f"link set {VM_BRIDGE} up",
            *neighbours(blueprint, "eth0", host.address),
        ]
    )


def disconnect(host: HostPlan, switch: Namespaces) -> None:
    """Remove a dead host's port, which the kernel would do in its own time."""
    with contextlib.suppress(Refused):
        switch.run_ip([f"link del {host.name}"])


def neighbours(blueprint: Blueprint, device: str, own_address: str) -> list[str]:
    """Everybody's hardware address, for good: a silent link must not show as a failed ARP."""
    number = blueprint.network
    known = {
        blueprint.switch_address: SWITCH_MAC.format(number),
        blueprint.outer_address: OUTER_MAC.format(number),
        **{host.address: host.mac for host in blueprint.hosts},
    }
    return [
        f"neigh replace {ip} lladdr {mac} dev {device} nud permanent"
        for ip, mac in known.items()
        if ip != own_address
    ]


def limit(inside: Namespaces, rate_mbit_s: int | None) -> None:
    """Limit what a host sends; None takes the limit away."""
    if rate_mbit_s is None:
        if link(inside, None, "").rate_mbit_s is not None:
            inside.run(["tc", "qdisc", "del", "dev", "eth0", "root"])
        return
    # A burst of about 3 ms keeps the average true at high rates; a packet must fit at low ones.
    burst = max(32_000, rate_mbit_s * 1_000_000 // 8 * 3 // 1000)
    inside.run(
        f"tc qdisc replace dev eth0 root tbf rate {rate_mbit_s}mbit"
        f" burst {burst} latency 50ms".split()
    )


def cut(inside: Namespaces) -> None:
    """Take the host's interface down."""
    inside.run_ip(["link set eth0 down"])


def silence(host: HostPlan, switch: Namespaces) -> None:
    """Let the switch drop everything for and from the host."""
    switch.run(["bridge", "link", "set", "dev", host.name, "state", "disabled"])


def restore(blueprint: Blueprint, host: HostPlan, inside: Namespaces, switch: Namespaces) -> None:
    """Undo rate, cut and silence."""
    limit(inside, blueprint.options.rate_mbit_s)
    # Taking a link down forgets its neighbours.
    inside.run_ip(["link set eth0 up", *neighbours(blueprint, "eth0", host.address)])
    switch.run(["bridge", "link", "set", "dev", host.name, "state", "forwarding"])


def link(inside: Namespaces, switch: Namespaces | None, name: str) -> Link:
    """Look at a host's link: up, cut or silent, and its rate."""
    state = "up"
    if "UP" not in json.loads(inside.run(["ip", "-json", "link", "show", "eth0"]))[0]["flags"]:
        state = "cut"
    elif switch is not None:
        ports = json.loads(switch.run(["bridge", "-json", "link", "show", "dev", name]))
        state = "silent" if ports and ports[0].get("state") == "disabled" else "up"
    queues = json.loads(inside.run(["tc", "-json", "qdisc", "show", "dev", "eth0"]) or "[]")
    rates = [q["options"]["rate"] for q in queues if q.get("kind") == "tbf"]
    return Link(state=state, rate_mbit_s=rates[0] * 8 // 1_000_000 if rates else None)
