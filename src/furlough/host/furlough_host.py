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
    furlough-host act resume|power-off|undefine --vm UUID --epoch N
    furlough-host storage ACT --path DIRECTORY --token WORD
    furlough-host session

`act` does with a VM what a controller that was overtaken must not do: it remembers the epoch of
the last act on each VM, and refuses a lower one.

`storage` proves that hosts see the same directory (`write` a small file on one, `read` it on the
other) and that a lock held on one is respected on the other (`hold` it on one, `try` it on the
other; the way QEMU locks images); `remove` takes the file away and lets the lock go.

`session` answers one request after another, without a new process for each: a line of JSON with
the words of a verb (`["processes"]`) brings a line with its answer, `{"answer": ...}` or
`{"status": 3, "code": ..., "message": ...}`. It ends with its input.

With FURLOUGH_HOST_ROOT in its environment it works on the tree below that directory.

It is also libvirt's hook. A copy of it under another name, `/etc/libvirt/hooks/qemu.d/50-furlough`,
refuses `prepare`, `migrate` and `restore` while the marker is there, except
for the VMs that the marker admits, and lets everything else pass whatever happens inside: a
non-zero answer to `reconnect` would kill a running VM.

Exit status: 0 done, 1 failed, 2 usage, 3 refused (stale epoch, or a marker of another
controller). Errors are one JSON document on standard error.

If the controller is gone for good, one line takes the marker away:

    rm /var/lib/furlough-host/marker.json
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import sys
import time

MYPY = False
if MYPY:  # Type checkers take this for true; importing it would make every hook call slower.
    from collections.abc import Callable
    from typing import IO, Any

VERSION = 1
ROOT = os.environ.get("FURLOUGH_HOST_ROOT", "")
STATE_DIR = ROOT + "/var/lib/furlough-host"
HOOK_PATH = ROOT + "/etc/libvirt/hooks/qemu.d/50-furlough"
VIRSH = ROOT + "/usr/bin/virsh"
PROC = ROOT + "/proc"
REFUSED_OPERATIONS = ("prepare", "migrate", "restore")
LARGEST_XML = 4 << 20
LONGEST_REQUEST = 1 << 20

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
TOKEN = re.compile(r"[0-9a-f]{8,64}")
DIRECTORY = re.compile(r"(?:/(?!\.\.?(?:/|$))[A-Za-z0-9._ -]+)+")
ACTS = {
    "resume": ("resume",),
    "power-off": ("destroy",),
    "undefine": ("undefine", "--keep-nvram"),
}
MOST_ACTS = 10000
ACT_WITHIN_S = 50  # libvirt itself gives up a process that will not die after 40 s.
STORAGE_ACTS = ("write", "read", "hold", "try", "remove")
XML_UUID = re.compile(rb"<uuid>\s*([0-9a-fA-F-]{36})\s*</uuid>")
VM_PROGRAM = re.compile(r"(qemu-system-[a-z0-9_]+|qemu-kvm|kvm)")
PROVISIONING_PROGRAMS = {"qemu-img": "image", "libvirt_iohelper": "volume"}
DAEMONS = ("libvirtd", "virtqemud", "virtstoraged")
# Where a libvirt daemon keeps its own open files; a volume is never there.
DAEMON_FILES = ("/dev/null", "/etc/", "/proc/", "/run/", "/sys/", "/var/cache/", "/var/log/")


class Refusal(Exception):
    """The request is understood and refused; nothing has changed."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


# --- the hook -------------------------------------------------------------------------------


def hook(arguments: list[str]) -> int:
    """Answer libvirt: 0 lets the VM pass, 1 refuses it. Never prints on standard output."""
    operation = arguments[1] if len(arguments) > 1 else ""
    if operation not in REFUSED_OPERATIONS:
        return 0
    try:
        marker = read_marker()
        uuid = uuid_of(sys.stdin.buffer.read(LARGEST_XML))
    except Exception as error:  # noqa: BLE001  # whatever it is, libvirt needs an answer
        # The marker is there and unreadable: somebody wanted this host empty.
        print("furlough: refused, the marker cannot be read: %s" % error, file=sys.stderr)
        return 1
    if marker is None or is_admitted(marker, uuid):
        return 0
    print(
        "furlough: refused, host is kept empty by operation %s since %s"
        % (marker["operation"], marker.get("raised_at")),
        file=sys.stderr,
    )
    return 1


def uuid_of(xml: bytes) -> str | None:
    """The UUID of a domain XML: its first `uuid` element, as libvirt itself writes it."""
    found = XML_UUID.search(xml)
    return found.group(1).decode("ascii").lower() if found else None


def is_admitted(marker: dict[str, Any], uuid: str | None) -> bool:
    """Whether a marker lets this VM pass. A marker with `only` refuses that one VM alone."""
    if marker.get("only"):
        return bool(uuid != marker["only"])
    return uuid in marker.get("admit", ())


# --- the marker -----------------------------------------------------------------------------


def raise_marker(
    request: dict[str, Any], state_dir: str = STATE_DIR, now: float | None = None
) -> dict[str, Any]:
    """Write the marker; doing it twice is harmless. Refuses a lower epoch, a foreign marker."""
    os.makedirs(state_dir, mode=0o755, exist_ok=True)
    with Lock(state_dir):
        known = check_owner(request, state_dir)
        if request.get("only") and known is not None and not known.get("only"):
            raise Refusal("marker_in_use", "a proof must not replace the marker of an operation")
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


def lower_marker(request: dict[str, Any], state_dir: str = STATE_DIR) -> dict[str, bool]:
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


def check_owner(request: dict[str, Any], state_dir: str) -> dict[str, Any] | None:
    """A stale controller and a foreign one may not touch the marker; the one that is there."""
    highest = read_epoch(state_dir)
    if request["epoch"] < highest:
        raise Refusal(
            "stale_epoch", "epoch %d is below %d, seen before" % (request["epoch"], highest)
        )
    marker = read_marker(state_dir)
    if marker is not None and marker["controller"] != request["controller"]:
        raise Refusal("foreign_marker", "the marker is of controller %s" % marker["controller"])
    return marker


def read_marker(state_dir: str = STATE_DIR) -> dict[str, Any] | None:
    """The marker as a dictionary, or None where there is none. ValueError where it is damaged."""
    path = os.path.join(state_dir, "marker.json")
    text = read_text(path)
    if text is None:
        return None
    try:
        marker = json.loads(text)
    except (ValueError, RecursionError):
        marker = None
    if not is_marker(marker):
        raise ValueError("%s is damaged; remove it if this host need not be kept empty" % path)
    return dict(marker)


def is_marker(found: Any) -> bool:
    """Whether this is what `raise` writes, or a later version of it."""
    if not isinstance(found, dict) or not isinstance(found.get("epoch"), int):
        return False
    admit, only = found.get("admit", []), found.get("only")
    return (
        isinstance(found.get("operation"), str)
        and isinstance(found.get("controller"), str)
        and isinstance(admit, list)
        and all(isinstance(uuid, str) for uuid in admit)
        and (only is None or isinstance(only, str))
    )


def read_epoch(state_dir: str = STATE_DIR) -> int:
    """The highest epoch seen by this host, 0 before the first. ValueError where it is damaged."""
    path = os.path.join(state_dir, "epoch")
    text = read_text(path)
    if text is not None and not re.fullmatch("[0-9]{1,18}\n?", text):
        raise ValueError("%s is damaged" % path)
    return int(text or 0)


def read_text(path: str) -> str | None:
    """What a file of ours holds, None where there is none; never fails for what is in it."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return None


def remember_epoch(epoch: int, state_dir: str) -> None:
    """From now on a lower epoch is refused, also after a reboot."""
    if epoch > read_epoch(state_dir):
        write_durably(os.path.join(state_dir, "epoch"), "%d\n" % epoch)


def write_durably(path: str, text: str) -> None:
    """All of it or nothing, and still there after a power cut."""
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.rename(path + ".new", path)
    sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    """Make a rename or an unlink in this directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def act(
    what: str, vm: str, epoch: int, state_dir: str = STATE_DIR, virsh: str = VIRSH
) -> dict[str, Any]:
    """Resume, power off or undefine a VM. Refuses an epoch below that of an earlier act on it."""
    import subprocess

    os.makedirs(state_dir, mode=0o755, exist_ok=True)
    with Lock(state_dir):
        fence(vm, epoch, state_dir)
    command = [virsh, "--quiet", "--connect", "qemu:///system", *ACTS[what], "--domain", vm]
    try:
        ran = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ACT_WITHIN_S,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise OSError("virsh gave no answer within %d s" % ACT_WITHIN_S) from error
    if ran.returncode != 0:
        words = ran.stderr.decode("utf-8", "replace").replace("error: ", "").split()
        raise OSError(" ".join(words)[:500] or "virsh failed without a word")
    return {"done": what}


def fence(vm: str, epoch: int, state_dir: str) -> None:
    """Refuse an act of a controller that was overtaken; remember this one's epoch."""
    path = os.path.join(state_dir, "acts.json")
    try:
        acts = json.loads(read_text(path) or "{}")
        highest = int(acts.get(vm, 0))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("%s is damaged" % path) from error
    if epoch < highest:
        raise Refusal("stale_epoch", "epoch %d is below %d, seen before" % (epoch, highest))
    if epoch > highest:
        kept = sorted({**acts, vm: epoch}.items(), key=lambda one: int(one[1]))[-MOST_ACTS:]
        write_durably(path, json.dumps(dict(kept), indent=1))


class Lock:
    """One writer of the state directory at a time."""

    def __init__(self, state_dir: str) -> None:
        self.path = os.path.join(state_dir, "lock")

    def __enter__(self) -> None:
        import fcntl

        self.file = open(self.path, "w", encoding="ascii")
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self.file.close()


# --- storage ---------------------------------------------------------------------------------

HELD: dict[str, int] = {}  # Locks held in this session, by file name.
QEMU_LOCK_BYTE = 100  # The first byte of those on which QEMU locks an image.


def storage(act: str, path: str, token: str) -> dict[str, bool]:
    """One act of a storage proof, on a file of ours in a directory that both hosts should see."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    name = ".furlough-canary-" + token
    try:
        if act == "write":
            return write_canary(directory, name, token)
        if act == "read":
            return {"seen": read_canary(directory, name) == token}
        if act == "remove":
            return remove_canary(directory, name)
        descriptor = os.open(name, os.O_RDWR | os.O_NOFOLLOW, dir_fd=directory)
        if act == "hold":
            HELD[name] = descriptor
            return {"locked": lock_as_qemu_does(descriptor)}
        try:
            return {"locked": lock_as_qemu_does(descriptor)}
        finally:
            os.close(descriptor)
    finally:
        os.close(directory)


def write_canary(directory: int, name: str, token: str) -> dict[str, bool]:
    """A new file of ours, with a word that nobody could guess, safe on the disk."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    descriptor = os.open(name, flags, 0o600, dir_fd=directory)
    try:
        os.write(descriptor, token.encode("ascii"))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return {"written": True}


def read_canary(directory: int, name: str) -> str | None:
    """What the file holds, as this host sees it; None where there is no such file."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=directory)
    except FileNotFoundError:
        return None
    try:
        return os.read(descriptor, 256).decode("ascii", "replace")
    finally:
        os.close(descriptor)


def remove_canary(directory: int, name: str) -> dict[str, bool]:
    """Let go of the lock and take the file away; neither has to be there."""
    descriptor = HELD.pop(name, None)
    if descriptor is not None:
        os.close(descriptor)
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return {"removed": False}
    return {"removed": True}


def lock_as_qemu_does(descriptor: int) -> bool:
    """Whether an exclusive lock of the open file could be had: not of the process, so that two
    descriptors of one process conflict as well."""
    import fcntl
    import struct

    wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, QEMU_LOCK_BYTE, 1, 0)
    set_open_file_lock = 37  # F_OFD_SETLK, which Python 3.9 has no name for
    try:
        fcntl.fcntl(descriptor, set_open_file_lock, wanted)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


# --- what runs here -------------------------------------------------------------------------


def processes(proc: str = PROC) -> dict[str, list[dict[str, Any]]]:
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


def command_of(proc: str, pid: int) -> list[str]:
    """The command line of a process; empty for a zombie, a kernel thread or one just gone."""
    try:
        with open(os.path.join(proc, str(pid), "cmdline"), "rb") as file:
            return file.read().decode("utf-8", "replace").rstrip("\0").split("\0")
    except OSError:
        return []


def is_capability_probe(words: list[str]) -> bool:
    """libvirt asks a QEMU without a machine what it can do; that is no VM."""
    return any(
        word == "-machine" and following.split(",")[0] == "none"
        for word, following in zip(words, words[1:])
    )


def machine_of(pid: int, words: list[str]) -> dict[str, Any]:
    """One VM process: pid, UUID and name as its command line gives them."""
    uuid = value_after(words, "-uuid").lower()
    guest = re.match(r"(?:guest=)?((?:[^,]|,,)*)", value_after(words, "-name"))
    return {
        "pid": pid,
        "uuid": uuid if UUID.fullmatch(uuid) else None,
        "name": guest.group(1).replace(",,", ",") if guest else "",
    }


def value_after(words: list[str], option: str) -> str:
    """The word after an option, or an empty one."""
    return next((after for word, after in zip(words, words[1:]) if word == option), "")


def volumes_open_for_writing(proc: str, pid: int) -> list[str]:
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


def is_written(fdinfo: str) -> bool:
    """Whether a descriptor is open for writing (the access mode is the lowest octal digit)."""
    with open(fdinfo, encoding="ascii") as file:
        for line in file:
            if line.startswith("flags:"):
                return int(line.split()[1], 8) & 3 != os.O_RDONLY
    return False


def is_volume(path: str) -> bool:
    """Not one of the daemon's own files. Names ending in .pid and .lock are its own as well."""
    if path.startswith(DAEMON_FILES) or path.startswith("/memfd:"):
        return False
    return not path.split(" (deleted)", maxsplit=1)[0].endswith((".pid", ".lock", ".log"))


def status(state_dir: str = STATE_DIR) -> dict[str, Any]:
    """The host as this program sees it: marker, epoch, hook, clock, boot."""
    import socket

    with open(PROC + "/sys/kernel/random/boot_id", encoding="ascii") as file:
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


def main(arguments: list[str]) -> int:
    """Run one verb and print its answer."""
    if os.path.basename(arguments[0]) not in ("furlough-host", "furlough_host.py"):
        return hook(arguments[1:])
    if arguments[1:] == ["session"]:
        return session(sys.stdin.buffer, sys.stdout)
    result = outcome(arguments[1:])
    if "answer" in result:
        print(json.dumps(result["answer"]))
        return 0
    print(json.dumps(result), file=sys.stderr)
    return int(result["status"])


def session(requests: IO[bytes], answers: IO[str]) -> int:
    """Answer one line after another until the input ends, or a line has no end."""
    while line := requests.readline(LONGEST_REQUEST):
        is_whole = line.endswith(b"\n") or len(line) < LONGEST_REQUEST
        try:
            words = json.loads(line) if is_whole else None
            if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
                raise ValueError("not a list of words")
            if {"-h", "--help"} & set(words):
                raise ValueError("help is not given within a session")
        except (ValueError, RecursionError) as error:
            result = trouble(2, "usage", error)
        else:
            result = outcome(words)
        answers.write(json.dumps(result) + "\n")
        answers.flush()
        if not is_whole:
            return 2
    return 0


def outcome(words: list[str]) -> dict[str, Any]:
    """What one verb comes to, whatever happens in it."""
    try:
        return {"answer": answer(words)}
    except Refusal as error:
        return trouble(3, error.code, error)
    except (OSError, ValueError) as error:
        return trouble(1, "failed", error)
    except SystemExit as error:  # argparse has said what is wrong, on standard error
        if error.code == 0:
            raise
        return trouble(2, "usage", "malformed request")


def trouble(status: int, code: str, why: object) -> dict[str, Any]:
    """The answer to a request that was not carried out."""
    return {"status": status, "code": code, "message": str(why)}


def answer(words: list[str]) -> dict[str, Any]:
    """The verbs. Arguments are validated here, whoever called."""
    import argparse

    parser = argparse.ArgumentParser(prog="furlough-host", description="Keeps a host empty.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("status", help="marker, epoch, hook, clock")
    verbs.add_parser("processes", help="VM processes and provisioning under way")
    verbs.add_parser("session", help="answer requests on standard input, line by line")
    for verb, text in (("raise", "keep this host empty"), ("lower", "let VMs start again")):
        command = verbs.add_parser(verb, help=text)
        command.add_argument("--operation", type=matching(NAME), required=True)
        command.add_argument("--epoch", type=int, required=True)
        command.add_argument("--controller", type=matching(NAME), required=True)
        if verb == "raise":
            command.add_argument("--admit", type=matching(UUID), action="append", default=[])
            command.add_argument("--only", type=matching(UUID))
    command = verbs.add_parser("act", help="what an overtaken controller must not do to a VM")
    command.add_argument("what", choices=sorted(ACTS))
    command.add_argument("--vm", type=matching(UUID), required=True)
    command.add_argument("--epoch", type=int, required=True)
    command = verbs.add_parser("storage", help="one act of a storage proof")
    command.add_argument("act", choices=STORAGE_ACTS)
    command.add_argument("--path", type=matching(DIRECTORY), required=True)
    command.add_argument("--token", type=matching(TOKEN), required=True)
    request = vars(parser.parse_args(words))
    verb = request.pop("verb")
    if verb == "storage":
        return storage(**request)
    if verb == "act":
        return act(**request)
    if verb == "raise":
        return raise_marker(request)
    if verb == "lower":
        return lower_marker(request)
    if verb == "session":
        raise ValueError("a session cannot be asked for within a session")
    return status() if verb == "status" else processes()


def matching(pattern: re.Pattern[str]) -> Callable[[str], str]:
    """An argument type: text that fits the pattern from end to end."""

    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(text)
        return text

    return check


if __name__ == "__main__":
    sys.exit(main(sys.argv))
