"""One host of a lab: how it is made, its libvirtd, its VMs, its link, its witness."""

import contextlib
import json
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from furlough.drivers.libvirt import installing
from furlough.errors import Invalid, Refused, Unreachable
from furlough.lab import certificates, configuration, domain_xml, network
from furlough.lab.blueprint import Accelerator, Blueprint, HostPlan, Storage
from furlough.lab.command import PLAIN_ENVIRONMENT, run
from furlough.lab.namespaces import Namespaces, Specification
from furlough.lab.patience import wait_until
from furlough.lab.processes import Process, end, send

DAEMON = "libvirtd"
COLLECTOR = Path(__file__).with_name("collector.py")
REBOOTER = Path(__file__).with_name("rebooter.py")
POWER_PROGRAM = "/usr/local/sbin/lab-power"
WITNESS_DIRECTORY = "/run/furlough-witness"
PRIVATE = {
    "etc-libvirt": "/etc/libvirt",
    "run-libvirt": "/run/libvirt",
    "etc-pki": "/etc/pki",
    "var-lib-libvirt": "/var/lib/libvirt",
    "var-cache-libvirt": "/var/cache/libvirt",
    "var-log-libvirt": "/var/log/libvirt",
    "furlough-host": "/var/lib/furlough-host",
    "sbin": "/usr/local/sbin",
    "witness": WITNESS_DIRECTORY,
}
# No kvm: libvirt would offer it to guests that are to be translated.
DEVICES: tuple[str, ...] = ("null", "zero", "full", "random", "urandom", "tty", "pts", "net/tun")
DEVICE_LINKS = (
    ("pts/ptmx", "/dev/ptmx"),
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
)


@dataclass(frozen=True, kw_only=True)
class Host:
    """A host of a lab, which may be running, dead, or not built yet."""

    plan: HostPlan
    blueprint: Blueprint

    @property
    def name(self) -> str:
        """h1, h2 and so on."""
        return self.plan.name

    @property
    def address(self) -> str:
        """Its address in the lab's network."""
        return self.plan.address

    @property
    def uri(self) -> str:
        """Its libvirt for everybody who can reach it over the network."""
        return f"qemu+tcp://{self.address}/system"

    @property
    def side_uri(self) -> str:
        """Its libvirt by the socket: works whatever happens to the network."""
        return f"qemu+unix:///system?socket={self.socket}"

    @property
    def socket(self) -> Path:
        """libvirtd's socket, as this machine sees it."""
        return self.directory / "run-libvirt" / "libvirt-sock"

    @property
    def directory(self) -> Path:
        """Its private files, as this machine sees them."""
        return self.blueprint.site.host(self.name)

    @property
    def inside(self) -> Namespaces:
        """Its namespaces."""
        return Namespaces(directory=self.directory, mark=self.blueprint.site.mark)

    @property
    def switch(self) -> Namespaces:
        """The switch it is plugged into."""
        site = self.blueprint.site
        return Namespaces(directory=site.host("switch"), mark=site.mark)

    # --- running things in it ---------------------------------------------------------------

    def run(self, *argv: str, text_in: str = "", timeout_s: float = 60) -> str:
        """Run a program on this host and return what it printed; Refused if it fails."""
        return self.inside.run(argv, text_in=text_in, timeout_s=timeout_s)

    def virsh(self, *arguments: str, timeout_s: float = 60) -> str:
        """Run a virsh command against its libvirtd, by the socket; Refused if it fails."""
        return run(["virsh", "-q", "-c", self.side_uri, *arguments], timeout_s=timeout_s)

    def processes(self) -> list[Process]:
        """All its processes, with the pids of the root namespace."""
        return self.inside.processes()

    # --- VMs --------------------------------------------------------------------------------

    def vms(self, *which: str) -> list[str]:
        """Names of its VMs: those that are running, or as `virsh list` options say."""
        return sorted(self.virsh("list", "--name", *which, timeout_s=10).split())

    def migrate(self, vm: str, target: "Host", *extra: str, timeout_s: float = 300) -> str:
        """Live migrate a VM the way Furlough does: peer to peer, persistent there, gone here.

        Autostart is lost on the way, as with every migration of libvirt's.
        """
        flags = ["--live", "--p2p", "--persistent", "--undefinesource", "--abort-on-error"]
        if self.blueprint.options.storage is Storage.DIR:
            # Sharing and locks are given by how the lab is built; libvirt cannot know.
            flags.append("--unsafe")
        to = [vm, target.uri, f"tcp://{target.address}"]
        return self.virsh("migrate", *flags, *extra, *to, timeout_s=timeout_s)

    def serial(self, vm: str) -> str:
        """All that a VM has printed on this host, kernel messages included."""
        path = self.directory / "var-log-libvirt" / "serial" / vm
        return path.read_text(errors="replace") if path.exists() else ""

    # --- libvirtd ---------------------------------------------------------------------------

    def daemon(self) -> list[Process]:
        """Its libvirtd: one process, or none."""
        return [process for process in self.processes() if process.name == DAEMON]

    def daemon_state(self) -> str:
        """`running`, `frozen` or `stopped`."""
        found = self.daemon()
        if not found:
            return "stopped"
        return "frozen" if any(process.is_stopped for process in found) else "running"

    def start_daemon(self) -> None:
        """Start libvirtd and wait until it answers. Refused while one runs."""
        if self.daemon():
            raise Refused("lab.daemon_runs", f"libvirtd of {self.name} runs already.")
        (self.directory / "run-libvirt" / "libvirtd.pid").unlink(missing_ok=True)
        self.run(
            f"/usr/local/sbin/{DAEMON}",
            "--daemon",
            "--listen",
            "--pid-file",
            "/run/libvirt/libvirtd.pid",
        )
        wait_until(self.answers, f"libvirtd of {self.name}", timeout_s=30, interval_s=0.05)

    def answers(self) -> bool:
        """Whether libvirtd answers a question about its VMs."""
        try:
            self.vms("--all")
        except (Refused, Unreachable):
            return False
        return True

    def stop_daemon(self) -> None:
        """Stop libvirtd in good order, frozen or not; its VMs run on."""
        self.thaw_daemon()
        self.end_daemon(signal.SIGTERM)

    def kill_daemon(self) -> None:
        """SIGKILL libvirtd; its VMs run on."""
        self.end_daemon(signal.SIGKILL)

    def end_daemon(self, number: signal.Signals) -> None:
        """Signal libvirtd and wait for its end."""
        if not end(self.daemon(), number, timeout_s=30):
            raise Unreachable("lab.daemon_stays", f"libvirtd of {self.name} did not end in 30 s.")

    def restart_daemon(self) -> None:
        """Stop, if it runs, and start."""
        self.stop_daemon()
        self.start_daemon()

    def freeze_daemon(self) -> None:
        """SIGSTOP: it accepts connections and never answers."""
        for process in self.daemon():
            send(process, signal.SIGSTOP)

    def thaw_daemon(self) -> None:
        """SIGCONT."""
        for process in self.daemon():
            send(process, signal.SIGCONT)

    # --- link -------------------------------------------------------------------------------

    def set_rate(self, mbit_s: int | None) -> None:
        """Limit what it sends; None for no limit."""
        if mbit_s is not None and mbit_s < 1:
            raise Invalid("lab.rate", "A rate is at least 1 Mbit/s.", remedy="Use --cut for none.")
        network.limit(self.inside, mbit_s)

    def cut(self) -> None:
        """Take its link down: on the host itself sends fail at once."""
        network.cut(self.inside)

    def silence(self) -> None:
        """Drop everything it sends and is sent, without a sign to anybody."""
        network.silence(self.plan, self.switch)

    def restore_link(self) -> None:
        """Undo `cut` and `silence`, and go back to the rate given at `up`."""
        network.restore(self.blueprint, self.plan, self.inside, self.switch)

    def link(self) -> network.Link:
        """Its link as it is now."""
        return network.link(self.inside, self.switch, self.name)

    # --- being made -------------------------------------------------------------------------

    def create(self) -> None:
        """Make its files, namespaces, link, guard, libvirtd and witness. VMs come later."""
        self.furnish()
        self.switch_on()
        self.install_guard()
        self.start_daemon()
        self.prove_guard()

    def boot(self) -> None:
        """Power on: everything but the files, which outlive a power cut."""
        self.switch_on()
        self.start_daemon()

    def switch_on(self) -> None:
        """Namespaces, link and witness: all but libvirtd."""
        empty(self.directory / "run-libvirt")
        (self.directory / "boot_id").write_text(f"{uuid4()}\n", encoding="ascii")
        self.inside.create(self.specification())
        network.connect(self.blueprint, self.plan, self.inside, self.switch)
        network.limit(self.inside, self.blueprint.options.rate_mbit_s)
        self.start_collector()

    def install_guard(self) -> None:
        """Put furlough-host there the way `furlough host prepare` does."""
        self.run(*installing.PYTHON, text_in=installing.script())

    def prove_guard(self) -> None:
        """Have the hook tried; Refused, with the reason, if it does not refuse."""
        trouble = json.loads(self.run("furlough-host", "prove"))["proof"]
        if trouble:
            raise Refused("lab.guard", f"The guard of {self.name} does not work: {trouble}.")

    def power_off(self) -> None:
        """Cut the power: every process dies at once, files stay. `boot` brings it back."""
        self.inside.destroy()
        network.disconnect(self.plan, self.switch)

    def start_collector(self) -> None:
        """Start the witness."""
        program, log = f"{WITNESS_DIRECTORY}/collector.py", f"{WITNESS_DIRECTORY}/witness.log"
        serial = domain_xml.SERIAL_DIRECTORY
        self.run("/usr/bin/python3", "-IS", program, serial, log)

    def furnish(self) -> None:
        """Write its private files."""
        for name in PRIVATE:
            (self.directory / name).mkdir(parents=True)
        etc = self.directory / "etc-libvirt"
        (etc / "libvirtd.conf").write_text(configuration.libvirtd(self.plan))
        (etc / "qemu.conf").write_text(self.qemu_configuration())
        if self.blueprint.options.tls:
            certificates.furnish(self.blueprint, self.plan, self.directory / "etc-pki")
        networks = etc / "qemu" / "networks" / "autostart"
        networks.mkdir(parents=True)
        text = domain_xml.network(self.plan.uuid, network.VM_BRIDGE)
        (networks.parent / f"{domain_xml.NETWORK_NAME}.xml").write_text(text)
        name = f"{domain_xml.NETWORK_NAME}.xml"
        (networks / name).symlink_to(f"/etc/libvirt/qemu/networks/{name}")
        (self.directory / "var-log-libvirt" / "serial").mkdir()
        (self.directory / "hosts").write_text(configuration.hosts_file(self.blueprint))
        (self.directory / "hostname").write_text(self.name + "\n")
        (self.directory / "witness" / "collector.py").write_bytes(COLLECTOR.read_bytes())
        # By its own path it may be confined by AppArmor, to the paths of a real host.
        shutil.copy2(where_is(DAEMON), self.directory / "sbin" / DAEMON)
        shutil.copy2(REBOOTER, self.directory / "sbin" / Path(POWER_PROGRAM).name)
        (self.directory / "sbin" / Path(POWER_PROGRAM).name).chmod(0o755)
        (self.directory / "libvirt-guests").write_text(configuration.GUESTS_SERVICE)
        (self.directory / "furlough-host.json").write_text(configuration.power(POWER_PROGRAM))

    def qemu_configuration(self) -> str:
        """Its qemu.conf."""
        options = self.blueprint.options
        return configuration.qemu(options.keepalive, has_certificates=options.tls)

    def specification(self) -> Specification:
        """Its namespaces and what is bound where in them."""
        site = self.blueprint.site
        binds = [(str(self.directory / name), where) for name, where in PRIVATE.items()]
        binds += [
            (str(self.directory / "hosts"), "/etc/hosts"),
            (str(self.directory / "hostname"), "/etc/hostname"),
            (str(self.directory / "furlough-host.json"), "/etc/furlough-host.json"),
            (str(self.directory / "libvirt-guests"), "/etc/default/libvirt-guests"),
            # The kernel has one for the whole machine; a host's own changes when it boots.
            (str(self.directory / "boot_id"), "/proc/sys/kernel/random/boot_id"),
            (str(site.initramfs.parent), domain_xml.GUEST_DIRECTORY),
        ]
        if self.blueprint.options.storage is Storage.DIR:
            binds.append((str(site.disks), domain_xml.SHARED_DIRECTORY))
        devices = DEVICES
        if self.blueprint.options.accelerator is Accelerator.KVM:
            devices = (*DEVICES, "kvm")
        binds += [(f"/dev/{name}", f"/dev/{name}") for name in devices]
        return Specification(
            hostname=self.name,
            fresh=("/run", "/srv", "/tmp", "/dev", "/dev/shm"),  # noqa: S108 - mount points inside
            regrown=("/var/lib", "/etc", "/etc/default"),
            binds=tuple(binds),
            links=DEVICE_LINKS,
        )


def where_is(program: str) -> str:
    """The path of a program of this machine. Refused if it has none."""
    path = shutil.which(program, path=PLAIN_ENVIRONMENT["PATH"])
    if path is None:
        raise Refused("lab.program_missing", f"The program {program} is missing.")
    return path


def empty(directory: Path) -> None:
    """A reboot empties /run."""
    for path in sorted(directory.rglob("*"), reverse=True):
        with contextlib.suppress(FileNotFoundError):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
