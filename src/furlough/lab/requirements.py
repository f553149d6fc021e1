"""What a lab needs of this machine, and the line to type where something is missing."""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

from furlough.errors import Refused
from furlough.lab.blueprint import Accelerator, Options
from furlough.lab.command import PLAIN_ENVIRONMENT

# Program and the Debian package that has it.
PROGRAMS = {
    "gcc": "gcc",
    "ip": "iproute2",
    "libvirtd": "libvirt-daemon-system",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "qemu-img": "qemu-utils",
    "qemu-storage-daemon": "qemu-system-common",
    "qemu-system-x86_64": "qemu-system-x86",
    "start-stop-daemon": "dpkg",
    "tini": "tini",
    "virsh": "libvirt-clients",
}
FILES = {
    "/usr/bin/python3": "python3",
    "/usr/lib/x86_64-linux-gnu/libc.a": "libc6-dev",
    "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so": (
        "libvirt-daemon-driver-qemu"
    ),
    # A package of its own since Debian 13.
    "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_network.so": (
        "libvirt-daemon-driver-network"
    ),
}
KERNELS = ("vmlinuz-*cloud*", "vmlinuz-*-kvm", "vmlinuz-*-generic")
# What a QEMU takes besides the guest's memory: translation cache, tables, its own code.
QEMU_OVERHEAD_MIB = 110


def check(options: Options) -> None:
    """Refused, with the remedy, unless this machine can run such a lab."""
    check_user(os.geteuid())
    check_packages(missing_packages(PLAIN_ENVIRONMENT["PATH"]))
    check_binding()
    check_devices(options)
    check_memory(options)


def check_user(user: int) -> None:
    """Refused for everybody but root."""
    if user != 0:
        raise Refused(
            "lab.not_root",
            "A lab needs root: it makes namespaces, links and bridges.",
            remedy="Run it with sudo, or try `furlough demo`, which needs no privileges.",
        )


def check_packages(missing: list[str]) -> None:
    """Refused, with the line to type, if any package is missing."""
    if missing:
        raise Refused(
            "lab.packages_missing",
            "A lab needs programs that are not installed here.",
            remedy=f"apt-get install --no-install-recommends {' '.join(missing)}",
            packages=missing,
        )


def check_binding() -> None:
    """Refused where our own daemon could not speak to libvirt."""
    if find_spec("libvirt") is None:
        raise Refused(
            "lab.no_binding",
            "libvirt's Python binding is not installed beside furlough.",
            remedy="pip install 'furlough[libvirt]'; it is built where libvirt-dev is installed.",
        )


def missing_packages(search_path: str) -> list[str]:
    """The Debian packages to install, sorted; empty where nothing is missing."""
    missing = {pkg for name, pkg in PROGRAMS.items() if not shutil.which(name, path=search_path)}
    missing |= {package for name, package in FILES.items() if not Path(name).exists()}
    if not has_static_busybox():
        missing.add("busybox-static")
    if kernel() is None:
        missing.add(kernel_package())
    return sorted(missing)


def has_static_busybox() -> bool:
    """Whether /bin/busybox runs without libraries, as it must in an initramfs."""
    try:
        head = Path("/bin/busybox").read_bytes()[:4096]
    except OSError:
        return False
    return b"/ld-linux" not in head


def kernel() -> Path | None:
    """The newest kernel fit for a small guest."""
    for pattern in KERNELS:
        found = sorted(Path("/boot").glob(pattern), key=version_of)
        if found:
            return found[-1]
    return None


def version_of(path: Path) -> list[tuple[int, str]]:
    """A key that sorts 6.1.0-10 after 6.1.0-9."""
    words = path.name.replace(".", "-").split("-")
    return [(int(word), "") if word.isdigit() else (-1, word) for word in words]


def kernel_package() -> str:
    """Debian has a kernel for clouds; elsewhere the one for virtual machines comes nearest."""
    try:
        is_debian = "ID=debian" in Path("/etc/os-release").read_text(encoding="utf-8").split()
    except OSError:
        is_debian = True
    return "linux-image-cloud-amd64" if is_debian else "linux-image-virtual"


def check_devices(options: Options) -> None:
    """The kernel gives us tap devices, and KVM where it is asked for."""
    if not Path("/dev/net/tun").exists():
        raise Refused("lab.no_tun", "/dev/net/tun is missing: guests cannot have a NIC.")
    if options.accelerator is Accelerator.KVM and not os.access("/dev/kvm", os.R_OK | os.W_OK):
        raise Refused("lab.no_kvm", "This machine has no /dev/kvm.", remedy="Leave --accel at tcg.")


def check_memory(options: Options) -> None:
    """All guests must fit: a lab that is killed for memory shows nothing."""
    needed = options.vms * (options.memory_mib + QEMU_OVERHEAD_MIB)
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    available = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    if needed > available // 1024:
        raise Refused(
            "lab.memory",
            f"{options.vms} VMs need {needed} MiB, this machine has {available // 1024} MiB free.",
            remedy="Ask for fewer or smaller VMs.",
        )
