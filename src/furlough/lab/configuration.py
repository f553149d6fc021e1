"""The text of every configuration file a lab needs. Pure."""

import json

from furlough.lab.blueprint import Blueprint, HostPlan, Keepalive, Storage
from furlough.lab.domain_xml import SHARED_DIRECTORY

UNLIMITED_MBIT_S = 1000
TLS_DIRECTORY = "/etc/pki/qemu"
# As docs/how-to/prepare-hosts.md asks for: what is started at boot is the controller's business.
GUESTS_SERVICE = "ON_BOOT=ignore\nON_SHUTDOWN=shutdown\n"


def libvirtd(host: HostPlan) -> str:
    """libvirtd.conf: open to everybody who reaches it, which only a lab may be."""
    return f"""\
listen_tls = 0
listen_tcp = 1
listen_addr = "{host.address}"
auth_tcp = "none"
auth_unix_rw = "none"
auth_unix_ro = "none"
unix_sock_group = "root"
host_uuid = "{host.uuid}"
log_outputs = "2:file:/var/log/libvirt/libvirtd.log"
"""


def qemu(keepalive: Keepalive | None, *, has_certificates: bool) -> str:
    """qemu.conf: no security driver, no cgroups, no helpers that a host of ours does not run."""
    text = """\
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
stdio_handler = "file"
cgroup_controllers = []
namespaces = []
"""
    if keepalive:
        text += f"keepalive_interval = {keepalive.interval_s}\n"
        text += f"keepalive_count = {keepalive.count}\n"
    if has_certificates:
        text += f'migrate_tls_x509_cert_dir = "{TLS_DIRECTORY}"\n'
        text += "migrate_tls_x509_verify = 1\n"
    return text


def power(program: str) -> str:
    """What furlough-host runs on a host of the lab, which has no systemd."""
    return json.dumps({"reboot": [program, "reboot"], "power_off": [program, "off"]}) + "\n"


def hosts_file(blueprint: Blueprint) -> str:
    """Every host finds every other by name: without, libvirt's calls take seconds longer."""
    lines = ["127.0.0.1 localhost", f"{blueprint.switch_address} storage"]
    lines += [f"{host.address} {host.name}" for host in blueprint.hosts]
    return "\n".join(lines) + "\n"


def furlough_toml(blueprint: Blueprint) -> str:
    """What `furlough serve` needs to know about this lab."""
    trust = False
    if blueprint.options.storage is Storage.NBD:
        place = f'kind = "nbd"\naddress = "{blueprint.switch_address}"'
    else:
        place = f'kind = "directory"\npath = "{SHARED_DIRECTORY}"'
        # libvirt takes a directory for local; furlough proves that it is shared and locked.
        trust = True
    head = f"""\
# Written by `furlough lab up --name {blueprint.name}`; removed by `furlough lab down`.

[engine]
settle_window_s = {settle_window_s(blueprint.options.keepalive):.1f}

"""
    store = f"""
[[datastore]]
name = "vms"
cluster = "{blueprint.name}"
{place}
"""
    clusters = [cluster_table(blueprint, name, trust=trust) for name in blueprint.clusters]
    hosts = [host_table(blueprint, host) for host in blueprint.hosts]
    return "".join((head, *clusters, store, *hosts))


def cluster_table(blueprint: Blueprint, name: str, *, trust: bool) -> str:
    """One [[cluster]]; where there are several, each takes who finds no place in another one."""
    others = [other for other in blueprint.clusters if other != name]
    overflow = f"overflow_clusters = {json.dumps(others)}\n" if others else ""
    proofs = "trusts_own_proofs = true\n" if trust else ""
    return f"""
[[cluster]]
name = "{name}"
{overflow}{proofs}"""


def settle_window_s(keepalive: Keepalive | None) -> float:
    """How long a migration in doubt may still change: the keepalive time and five seconds."""
    wanted = keepalive or Keepalive(interval_s=5, count=5)
    return wanted.interval_s * (wanted.count + 1) + 5.0


def host_table(blueprint: Blueprint, host: HostPlan) -> str:
    """One [[host]]."""
    return f"""
[[host]]
name = "{host.name}"
cluster = "{blueprint.cluster_of(host)}"
address = "{host.address}"
transport = "tcp"
migration_address = "{host.address}"
link_mbit_s = {blueprint.options.rate_mbit_s or UNLIMITED_MBIT_S}
datastores = ["vms"]
program = "namespace"
has_other_way_in = true
namespace = "{blueprint.name}/{host.name}"
"""
