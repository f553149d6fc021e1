#!/usr/bin/python3 -IS
"""furlough-host: the one program that Furlough puts on a host.

It holds the *marker* that keeps an emptied host empty, remembers the highest fencing epoch
it has seen, and says which VM processes exist, which libvirt alone cannot (a QEMU left behind
by a killed daemon is in no list of libvirt's). Standard library only, Python 3.9 or newer,
no shell, no network, a fixed list of verbs, one JSON document on standard output:

    furlough-host status
    furlough-host processes
    furlough-host raise --operation ID --epoch N --controller ID [--admit UUID]... [--only UUID]
    furlough-host lower --operation ID --epoch N --controller ID

It is also libvirt's hook. Called under another name (`/etc/libvirt/hooks/qemu.d/50-furlough`
is a link to it) it refuses `prepare`, `migrate` and `restore` while the marker is there, except
for the VMs that the marker admits, and lets everything else pass whatever happens inside: a
non-zero answer to `reconnect` would kill a running VM.

Exit status: 0 done, 1 failed, 2 usage, 3 refused (stale epoch, or a marker of another
controller). Errors are one JSON document on standard error.

If the controller is gone for good, one line takes the marker away:

    rm /var/lib/furlough-host/marker.json
"""

import json
import os
import re
import stat
import sys
import time

VERSION = 1
STATE_DIR = "/var/lib/furlough-host"
HOOK_PATH = "/etc/libvirt/hooks/qemu.d/50-furlough"
REFUSED_OPERATIONS = ("prepare", "migrate", "restore")
LARGEST_XML = 4 << 20

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
XML_UUID = re.compile(rb"<uuid>\s*([0-9a-fA-F-]{36})\s*</uuid>")
VM_PROGRAM = re.compile(r"(qemu-system-[a-z0-9_]+|qemu-kvm|kvm)")
PROVISIONING_PROGRAMS = {"qemu-img": "image", "libvirt_iohelper": "volume"}
DAEMONS = ("libvirtd", "virtqemud", "virtstoraged")
# Where a libvirt daemon keeps its own open files; a volume is never there.
DAEMON_FILES = ("/dev/null", "/etc/", "/proc/", "/run/", "/sys/", "/var/cache/", "/var/log/")


class Refusal(Exception):
    """The request is understood and refused; nothing has changed."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


# --- the hook -------------------------------------------------------------------------------


def hook(arguments, xml, state_dir=STATE_DIR):
    """Answer libvirt: 0 lets the VM pass, 1 refuses it. Never prints on standard output."""
    operation = arguments[1] if len(arguments) > 1 else ""
    if operation not in REFUSED_OPERATIONS:
        return 0
    try:
        marker = read_marker(state_dir)
    except (OSError, ValueError) as error:
        # The marker is there and unreadable: somebody wanted this host empty.
        print("furlough: refused, the marker cannot be read: %s" % error, file=sys.stderr)
        return 1
    if marker is None or is_admitted(marker, uuid_of(xml)):
        return 0
    print(
        "furlough: refused, host is kept empty by operation %s since %s"
        % (marker["operation"], marker["raised_at"]),
        file=sys.stderr,
    )
    return 1


def uuid_of(xml):
    """The UUID of a domain XML: its first `uuid` element, as libvirt itself writes it."""
    found = XML_UUID.search(xml)
    return found.group(1).decode("ascii").lower() if found else None


def is_admitted(marker, uuid):
    """Whether a marker lets this VM pass. A marker with `only` refuses that one VM alone."""
    if marker.get("only"):
        return uuid != marker["only"]
    return uuid in marker.get("admit", ())


# --- the marker -----------------------------------------------------------------------------


def raise_marker(request, state_dir=STATE_DIR, now=None):
    """Write the marker; doing it twice is harmless. Refuses a lower epoch, a foreign marker."""
    os.makedirs(state_dir, mode=0o755, exist_ok=True)
    with Lock(state_dir):
        check_owner(request, state_dir)
        remember_epoch(request["epoch"], state_dir)
        marker = {
            "format": 1,
            "operation": request["operation"],
            "epoch": request["epoch"],
            "controller": request["controller"],
            "admit": sorted(request.get("admit") or ()),
            "only": request.get("only"),
            "raised_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        }
        write_durably(os.path.join(state_dir, "marker.json"), json.dumps(marker, indent=1))
    return marker


def lower_marker(request, state_dir=STATE_DIR):
    """Take the marker away; no marker is fine. Refuses a lower epoch and a foreign marker."""
    os.makedirs(state_dir, mode=0o755, exist_ok=True)
    with Lock(state_dir):
        check_owner(request, state_dir)
        remember_epoch(request["epoch"], state_dir)
        try:
            os.unlink(os.path.join(state_dir, "marker.json"))
        except FileNotFoundError:
            return {"lowered": False}
        sync_directory(state_dir)
    return {"lowered": True}


def check_owner(request, state_dir):
    """A stale controller and a foreign one may not touch the marker."""
    highest = read_epoch(state_dir)
    if request["epoch"] < highest:
        raise Refusal(
            "stale_epoch", "epoch %d is below %d, seen before" % (request["epoch"], highest)
        )
    marker = read_marker(state_dir)
    if marker is not None and marker["controller"] != request["controller"]:
        raise Refusal("foreign_marker", "the marker is of controller %s" % marker["controller"])


def read_marker(state_dir=STATE_DIR):
    """The marker as a dictionary, or None where there is none."""
    try:
        with open(os.path.join(state_dir, "marker.json"), encoding="utf-8") as file:
            marker = json.load(file)
    except FileNotFoundError:
        return None
    if not isinstance(marker, dict) or not {"operation", "epoch", "controller"} <= set(marker):
        raise ValueError("not a marker")
    return marker


def read_epoch(state_dir=STATE_DIR):
    """The highest epoch seen by this host, 0 before the first."""
    try:
        with open(os.path.join(state_dir, "epoch"), encoding="ascii") as file:
            return int(file.read())
    except FileNotFoundError:
        return 0


def remember_epoch(epoch, state_dir):
    """From now on a lower epoch is refused, also after a reboot."""
    if epoch > read_epoch(state_dir):
        write_durably(os.path.join(state_dir, "epoch"), "%d\n" % epoch)


def write_durably(path, text):
    """All of it or nothing, and still there after a power cut."""
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.rename(path + ".new", path)
    sync_directory(os.path.dirname(path))


def sync_directory(path):
    """Make a rename or an unlink in this directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Lock:
    """One writer of the state directory at a time."""

    def __init__(self, state_dir):
        self.path = os.path.join(state_dir, "lock")

    def __enter__(self):
        import fcntl

        self.file = open(self.path, "w", encoding="ascii")
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_):
        self.file.close()


# --- what runs here -------------------------------------------------------------------------


def processes(proc="/proc"):
    """VM processes and provisioning under way, read from the process list alone."""
    machines, provisioning = [], []
    for pid in sorted(int(name) for name in os.listdir(proc) if name.isdigit()):
        words = command_of(proc, pid)
        program = os.path.basename(words[0]) if words else ""
        if VM_PROGRAM.fullmatch(program) and not is_capability_probe(words):
            machines.append(machine_of(pid, words))
        elif program in PROVISIONING_PROGRAMS:
            kind = PROVISIONING_PROGRAMS[program]
            provisioning.append({"pid": pid, "kind": kind, "what": " ".join(words[1:])[:200]})
        elif program in DAEMONS:
            for path in volumes_open_for_writing(proc, pid):
                provisioning.append({"pid": pid, "kind": "volume", "what": path})
    return {"processes": machines, "provisioning": provisioning}


def command_of(proc, pid):
    """The command line of a process; empty for a zombie, a kernel thread or one just gone."""
    try:
        with open(os.path.join(proc, str(pid), "cmdline"), "rb") as file:
            return file.read().decode("utf-8", "replace").rstrip("\0").split("\0")
    except OSError:
        return []


def is_capability_probe(words):
    """libvirt asks a QEMU without a machine what it can do; that is no VM."""
    return any(
        word == "-machine" and following.split(",")[0] == "none"
        for word, following in zip(words, words[1:])
    )


def machine_of(pid, words):
    """One VM process: pid, UUID and name as its command line gives them, incoming or not."""
    uuid = value_after(words, "-uuid").lower()
    guest = re.match(r"(?:guest=)?((?:[^,]|,,)*)", value_after(words, "-name"))
    return {
        "pid": pid,
        "uuid": uuid if UUID.fullmatch(uuid) else None,
        "name": guest.group(1).replace(",,", ",") if guest else "",
        "incoming": "-incoming" in words,
    }


def value_after(words, option):
    """The word after an option, or an empty one."""
    return next((after for word, after in zip(words, words[1:]) if word == option), "")


def volumes_open_for_writing(proc, pid):
    """Files and block devices that a libvirt daemon itself writes: an upload, a raw clone."""
    directory = os.path.join(proc, str(pid), "fd")
    try:
        descriptors = os.listdir(directory)
    except OSError:
        return []
    found = set()
    for descriptor in descriptors:
        path = os.path.join(directory, descriptor)
        try:
            target, mode = os.readlink(path), os.stat(path).st_mode
            written = is_written(os.path.join(proc, str(pid), "fdinfo", descriptor))
        except OSError:
            continue
        if written and stat.S_ISREG(mode) | stat.S_ISBLK(mode) and is_volume(target):
            found.add(target)
    return sorted(found)


def is_written(fdinfo):
    """Whether a descriptor is open for writing (the access mode is the lowest octal digit)."""
    with open(fdinfo, encoding="ascii") as file:
        for line in file:
            if line.startswith("flags:"):
                return int(line.split()[1], 8) & 3 != os.O_RDONLY
    return False


def is_volume(path):
    """Not one of the daemon's own files. Names ending in .pid and .lock are its own as well."""
    if path.startswith(DAEMON_FILES) or path.startswith("/memfd:"):
        return False
    return not path.split(" (deleted)")[0].endswith((".pid", ".lock", ".log"))


def status(state_dir=STATE_DIR):
    """The host as this program sees it: marker, epoch, hook, clock, boot."""
    import socket

    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot_id = file.read().strip()
    return {
        "program": VERSION,
        "hostname": os.uname().nodename,
        "boot_id": boot_id,
        "clock_s": round(time.time(), 3),
        "epoch": read_epoch(state_dir),
        "marker": read_marker(state_dir),
        "interfaces": [name for _index, name in socket.if_nameindex()],
        "hook_installed": os.access(HOOK_PATH, os.X_OK),
    }


# --- the command line -----------------------------------------------------------------------


def main(arguments):
    """Run one verb and print its answer."""
    if os.path.basename(arguments[0]) not in ("furlough-host", "furlough_host.py"):
        return hook(arguments[1:], sys.stdin.buffer.read(LARGEST_XML))
    try:
        print(json.dumps(answer(arguments[1:])))
    except Refusal as error:
        return complain(3, error.code, error)
    except (OSError, ValueError) as error:
        return complain(1, "failed", error)
    return 0


def answer(words):
    """The verbs. Arguments are validated here, whoever called."""
    import argparse

    parser = argparse.ArgumentParser(prog="furlough-host", description="Keeps a host empty.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("status", help="marker, epoch, hook, clock")
    verbs.add_parser("processes", help="VM processes and provisioning under way")
    for verb, text in (("raise", "keep this host empty"), ("lower", "let VMs start again")):
        command = verbs.add_parser(verb, help=text)
        command.add_argument("--operation", type=matching(NAME), required=True)
        command.add_argument("--epoch", type=int, required=True)
        command.add_argument("--controller", type=matching(NAME), required=True)
        if verb == "raise":
            command.add_argument("--admit", type=matching(UUID), action="append", default=[])
            command.add_argument("--only", type=matching(UUID))
    request = vars(parser.parse_args(words))
    verb = request.pop("verb")
    if verb == "raise":
        return raise_marker(request)
    if verb == "lower":
        return lower_marker(request)
    return status() if verb == "status" else processes()


def matching(pattern):
    """An argument type: text that fits the pattern from end to end."""

    def check(text):
        if not pattern.fullmatch(text):
            raise ValueError(text)
        return text

    return check


def complain(code, name, error):
    """One JSON document on standard error."""
    print(json.dumps({"code": name, "message": str(error)}), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv))
