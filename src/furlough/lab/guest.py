"""The guests' initramfs: busybox, a few kernel modules, our one program, a script as init.

Words on the kernel's command line, which init finds in its environment, make a guest contrary:
`furlough_shutdown=ignore`, `=reboot`, `=sleep` (to RAM) or `=panic` when it is asked to shut down,
`furlough_agent=hangs` for an agent that opens its channel and never answers, and
`furlough_disk=writes` for one that writes to its disk all the time.
"""

import gzip
import lzma
import shutil
import stat
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from furlough.errors import Refused
from furlough.lab.command import PLAIN_ENVIRONMENT, run

SOURCE = Path(__file__).with_name("guest.c")
BUSYBOX = Path("/bin/busybox")
# The power button: without them a guest does not hear that it shall shut down.
MODULES = ("drivers/acpi/button.ko", "drivers/input/evdev.ko")
# Loaded only by guests that need them, by the folder they lie in.
EXTRA_MODULES = {
    "agent": ("drivers/virtio/virtio_pci.ko", "drivers/char/virtio_console.ko"),
    "disk": ("drivers/virtio/virtio_pci.ko", "drivers/block/virtio_blk.ko"),
    "panic": ("drivers/misc/pvpanic/pvpanic-mmio.ko",),
}

INIT = """\
#!/bin/busybox sh
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs dev /dev
load() { for module in $1/*.ko; do busybox insmod $module; done; }
load /modules
busybox acpid -l /dev/null
if [ "$furlough_shutdown" = panic ]; then load /modules/panic; fi
if [ "$furlough_disk" = writes ]; then
    (
        load /modules/disk
        until [ -b /dev/vda ]; do busybox sleep 0.1; done
        while busybox sleep 0.2; do
            busybox dd if=/dev/zero of=/dev/vda bs=4096 count=1 conv=fsync 2>/dev/null
        done
    ) &
fi
if [ "$furlough_agent" = hangs ]; then
    (
        load /modules/agent
        # The channel appears some time after its driver.
        until busybox ls /dev/vport*p1 >/dev/null 2>&1; do busybox sleep 0.1; done
        for port in /dev/vport*p1; do busybox sleep 1000000 <>$port & done
    ) &
fi
exec /bin/guest
"""
POWER_BUTTON = """\
#!/bin/busybox sh
case "$furlough_shutdown" in
ignore) ;;
reboot) exec /bin/busybox reboot -f ;;
sleep) echo mem >/sys/power/state ;;
panic) echo c >/proc/sysrq-trigger ;;
*) exec /bin/busybox poweroff -f ;;
esac
"""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file or, with no content, one directory of an archive."""

    path: str
    content: bytes | None = None
    is_program: bool = False


def build(target: Path, kernel: Path) -> None:
    """Compile the guest's program and write the initramfs for this kernel."""
    program = target.with_name("guest")
    # A killed compiler leaves its temporary files: they must lie where `down` removes them.
    surroundings = PLAIN_ENVIRONMENT | {"TMPDIR": str(target.parent)}
    run(["gcc", "-static", "-Os", "-Wall", "-o", program, SOURCE], base=surroundings)
    # Uncompressed on purpose: unpacking is the guest's work, and translated code is slow.
    target.write_bytes(archive(entries(program.read_bytes(), modules(kernel))))


def entries(program: bytes, drivers: dict[str, bytes]) -> list[Entry]:
    """Everything in the initramfs, directories before what is in them."""
    folders = ["bin", "dev", "proc", "sys", "etc", "etc/acpi", "etc/acpi/PWRF", "modules"]
    folders += [f"modules/{purpose}" for purpose in EXTRA_MODULES]
    files = [
        Entry(path="init", content=INIT.encode(), is_program=True),
        Entry(path="bin/busybox", content=BUSYBOX.read_bytes(), is_program=True),
        Entry(path="bin/guest", content=program, is_program=True),
        # acpid looks for the event's name, PWRF, and its code.
        Entry(path="etc/acpi/PWRF/00000080", content=POWER_BUTTON.encode(), is_program=True),
    ]
    files += [Entry(path=f"modules/{name}", content=body) for name, body in drivers.items()]
    return [Entry(path=folder) for folder in folders] + files


def modules(kernel: Path) -> dict[str, bytes]:
    """The modules of this kernel, unpacked; those built into it are not needed. Those for a purpose
    need others, and have to be loaded in the order of their names."""
    root = Path("/lib/modules") / kernel.name.removeprefix("vmlinuz-")
    builtin = (root / "modules.builtin").read_text(encoding="utf-8").split()
    dependencies = (root / "modules.dep").read_text(encoding="utf-8")
    needed = [name for name in MODULES if f"kernel/{name}" not in builtin]
    found = {Path(name).name: unpacked(root / "kernel" / name) for name in needed}
    for purpose, names in EXTRA_MODULES.items():
        loadable = [name for name in names if f"kernel/{name}" not in builtin]
        for number, name in enumerate(with_needs(loadable, dependencies)):
            target = f"{purpose}/{number:02}-{Path(name).name}"
            found[target] = unpacked(root / "kernel" / name)
    return found


def with_needs(names: Iterable[str], dependencies: str) -> list[str]:
    """Modules and those that they need, each after what it needs, by the text of a modules.dep:
    one line for each module, which names what it needs, what is to be loaded first last."""
    needs: dict[str, list[str]] = {}
    for line in dependencies.splitlines():
        name, _, others = line.partition(":")
        needs[plain(name)] = [plain(one) for one in reversed(others.split())]
    wanted = [one for name in names for one in (*needs.get(name, []), name)]
    return list(dict.fromkeys(wanted))


def plain(path: str) -> str:
    """A module's path as it is below the kernel's directory, however it is packed."""
    return path.removeprefix("kernel/").partition(".ko")[0] + ".ko"


def unpacked(module: Path) -> bytes:
    """The content of a module, however the distribution packed it."""
    if module.exists():
        return module.read_bytes()
    if (packed := module.with_name(module.name + ".xz")).exists():
        return lzma.decompress(packed.read_bytes())
    if (packed := module.with_name(module.name + ".gz")).exists():
        return gzip.decompress(packed.read_bytes())
    if (packed := module.with_name(module.name + ".zst")).exists():
        return unpacked_by_zstd(packed)
    raise Refused(
        "lab.module_missing",
        f"The kernel module {module} is missing.",
        remedy="Reinstall the kernel's package.",
    )


def unpacked_by_zstd(packed: Path) -> bytes:
    """Python 3.11 has no zstd of its own."""
    program = shutil.which("zstd")
    if program is None:
        raise Refused(
            "lab.packages_missing",
            f"{packed} is packed with zstd, which is not installed here.",
            remedy="apt-get install --no-install-recommends zstd",
        )
    done = subprocess.run([program, "-dc", packed], capture_output=True, check=True, timeout=60)
    return done.stdout


def archive(members: Iterable[Entry]) -> bytes:
    """A cpio archive in the "newc" form the kernel reads, everything owned by root."""
    body = b"".join(record(number, entry) for number, entry in enumerate(members, start=1))
    return body + record(0, Entry(path="TRAILER!!!", content=b""))


def record(number: int, entry: Entry) -> bytes:
    """One member: a header of hexadecimal fields, the name, the content, each padded to 4."""
    content = entry.content or b""
    mode = stat.S_IFDIR | 0o755
    if entry.content is not None:
        mode = stat.S_IFREG | (0o755 if entry.is_program else 0o644)
    name = entry.path.encode() + b"\0"
    # inode, mode, uid, gid, links, mtime, size, four device numbers, length of name, check
    numbers = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(f"{value:08x}".encode() for value in numbers)
    return padded(header + name) + padded(content)


def padded(part: bytes) -> bytes:
    """Filled up to a multiple of four bytes."""
    return part + b"\0" * (-len(part) % 4)
