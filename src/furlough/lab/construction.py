"""Building a lab: claim its name, build, start the VMs, and take all of it down on a failure."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from furlough.errors import Bug, Refused, Unreachable
from furlough.lab import (
    certificates,
    configuration,
    demolition,
    domain_xml,
    guest,
    network,
    requirements,
    storage,
)
from furlough.lab.blueprint import Accelerator, Blueprint, Options, Storage, address, draw
from furlough.lab.host import Host
from furlough.lab.lab import Lab
from furlough.lab.namespaces import Specification
from furlough.lab.patience import unix_now
from furlough.lab.site import STATE_ROOT, Site

Teller = Callable[[str], None]


def silent(line: str) -> None:
    """Tell nobody."""


def construct(
    name: str = "lab",
    options: Options | None = None,
    *,
    has_daemon: bool = True,
    tell: Teller = silent,
) -> Lab:
    """Build a lab and wait until every guest counts and the furlough daemon is healthy.

    Refused, and nothing done, while one of that name exists. On a failure nothing stays behind.
    """
    options = options or Options()
    site = Site.named(name)
    requirements.check(options)
    lab = Lab(blueprint=claim(site, options))
    try:
        build(lab, tell)
        site.daemon_config.write_text(configuration.furlough_toml(lab.blueprint))
        if has_daemon:
            with step(tell, "furlough daemon"):
                lab.controller.start()
    except BaseException:
        tell("failed; taking down what was built")
        demolition.demolish(site)
        raise
    return lab


def claim(site: Site, options: Options) -> Blueprint:
    """Make the lab's directory and description, so that no other lab takes name or network."""
    with all_labs_locked():
        if site.directory.exists() or site.disks.exists() or network.has_link(site.link):
            raise Refused(
                "lab.exists",
                f"A lab called {site.name} is up, or was not taken down.",
                remedy=f"Take it down: furlough lab down --name {site.name}",
            )
        taken = network.taken_networks() + claimed_networks()
        blueprint = draw(site.name, options, network.free_network(taken))
        site.directory.mkdir(mode=0o700)
        site.description.write_text(blueprint.to_json(), encoding="utf-8")
    return blueprint


@contextlib.contextmanager
def all_labs_locked() -> Iterator[None]:
    """One claim at a time on this machine. Demolition may remove the directory meanwhile."""
    while True:
        STATE_ROOT.mkdir(mode=0o755, exist_ok=True)
        descriptor = os.open(STATE_ROOT, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if STATE_ROOT.exists() and STATE_ROOT.stat().st_ino == os.fstat(descriptor).st_ino:
                yield
                return
        finally:
            os.close(descriptor)


def claimed_networks() -> list[str]:
    """Networks of labs that exist, their links made or not."""
    found = []
    for description in STATE_ROOT.glob("*/lab.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, Bug):
            number = Blueprint.from_json(description.read_text(encoding="utf-8")).network
            found.append(f"{address(number, 0)}/24")
    return found


def build(lab: Lab, tell: Teller) -> None:
    """Everything but the furlough daemon, side by side where it pays."""
    kernel = requirements.kernel()
    if kernel is None:
        raise Bug("lab.kernel", "The kernel that was there a moment ago is gone.")
    blueprint = lab.blueprint
    lab.site.initramfs.parent.mkdir()
    if blueprint.options.tls:
        certificates.authority_of(blueprint).create(f"lab {lab.name}")
    with ThreadPoolExecutor(max_workers=8) as pool:
        initramfs = pool.submit(guest.build, lab.site.initramfs, kernel)
        with step(tell, "switch and disks"):
            lab.switch.create(Specification(hostname="switch", fresh=("/run",)))
            network.lay_out(blueprint, lab.switch)
            storage.create_images(blueprint)
            if blueprint.options.storage is Storage.NBD:
                storage.serve(blueprint, lab.switch)
        with step(tell, f"{len(lab.hosts)} hosts with libvirtd"):
            list(pool.map(Host.create, lab.hosts))
            initramfs.result()
        with step(tell, f"{len(lab.vm_names)} VMs counting"):
            since = unix_now()
            list(pool.map(lambda host: start_vms(host, kernel), lab.hosts))
            wait_for_guests(lab, since)


def wait_for_guests(lab: Lab, since: float) -> None:
    """Wait until every guest counts; Unreachable, with what a silent one said last."""
    try:
        lab.wait_for_guests(since=since)
    except Unreachable as error:
        mute = next((told.vm for told in lab.witness(since=since) if not told.lines), "")
        said = [host.serial(mute)[-500:].strip() for host in lab.hosts if mute]
        text = f"{error.message} {mute} said: {' '.join(said).strip() or 'nothing'}."
        remedy = "Try --accel tcg: not every KVM boots guests." if is_kvm(lab) else error.remedy
        raise Unreachable("lab.guests_silent", text, remedy=remedy) from error


def is_kvm(lab: Lab) -> bool:
    """Whether its guests run on the processor itself."""
    return lab.blueprint.options.accelerator is Accelerator.KVM


def start_vms(host: Host, kernel: Path) -> None:
    """Define and start a host's VMs."""
    for vm in host.blueprint.vms:
        if vm.host == host.name:
            path = host.directory / f"{vm.name}.xml"
            path.write_text(domain_xml.domain(host.blueprint, vm, kernel))
            host.virsh("define", str(path))
            if vm.is_autostarted:
                host.virsh("autostart", vm.name)
            host.virsh("start", vm.name)


@contextlib.contextmanager
def step(tell: Teller, what: str) -> Iterator[None]:
    """Tell how long it took."""
    started = unix_now()
    yield
    tell(f"{what}: {unix_now() - started:.1f} s")
