#!/usr/bin/python3 -IS
"""furlough-host: the one program that Furlough puts on a host.

It holds the *marker* that keeps an emptied host empty, remembers the highest fencing epoch
it has seen, and says which VM processes exist, which libvirt alone cannot (a QEMU left behind
by a killed daemon is in no list of libvirt's). Standard library only, Python 3.9 or newer,
no shell, no network, a fixed list of verbs, one JSON document on standard output:

    furlough-host status
    furlough-host processes
    furlough-host prove
    furlough-host probe [--peer NAME ADDRESS PORT]...
    furlough-host raise --operation ID --epoch N --controller ID [--admit UUID]... [--only UUID]
    furlough-host lower --operation ID --epoch N --controller ID
    furlough-host act resume|power-off|undefine|fence --vm UUID --epoch N
    furlough-host vm-state list|read|write|keep --vm UUID [--part NAME] ...
    furlough-host storage ACT --path DIRECTORY --token WORD
    furlough-host reboot|power-off --operation ID --epoch N --controller ID
    furlough-host install|uninstall
    furlough-host session
    furlough-host maintenance get|enter|exit

`prove` tries the hook: a VM of its own, without disk, must be refused while a marker forbids just
that one, and another one must start. Where an operation's marker keeps the host empty, only the
refusal is tried. What came of it holds until libvirt's daemon starts again or the hook changes;
`status` says in `proof` why it does not hold, and nothing where it does.

`probe` looks for what may go wrong later: arrays under repair, the way to other hosts, daemons that
let in anybody, settings that start VMs at boot. It changes nothing.

`reboot` and `power-off` are for an empty host that the same controller keeps empty. What they run,
/etc/furlough-host.json may say, if it belongs to root: {"reboot": ["/path", "word"], ...}.

`install` puts this program, its hook and the name `esxcli` in their places, without touching what
others have put there; `uninstall` takes them away again and gives back what was there before.

`maintenance` is for a person at the host, who moves the VMs: `enter` raises a marker of the
controller "local" and waits until no VM runs. Under the name `esxcli` the same is called
`esxcli system maintenanceMode get|set -e true|false`.

`act` does with a VM what a controller that was overtaken must not do: it remembers the epoch of
the last act on each VM, and refuses a lower one. `fence` does no more than that.

`vm-state` copies what a VM that is off keeps here beside its definition: its UEFI variables
(`nvram/FILE`) and the state of its TPM (`tpm/KIND/FILE`). `write` fills a file under another name,
piece by piece; `keep` makes it durable and gives it its name, if it has the checksum that it should
have. A different file that bears that name already is kept beside it. Nothing of it is done while
a process of the VM is here.

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

Exit status: 0 done, 1 failed, 2 usage, 3 refused (stale epoch, a marker of another controller,
a host that is not empty). Errors are one JSON document on standard error; `maintenance` and
`esxcli` speak to people.

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
    import argparse
    from collections.abc import Callable
    from typing import IO, Any

VERSION = 3
ROOT = os.environ.get("FURLOUGH_HOST_ROOT", "")
STATE_DIR = ROOT + "/var/lib/furlough-host"
PROGRAM_PATH = ROOT + "/usr/local/sbin/furlough-host"
ESXCLI_PATH = ROOT + "/usr/local/sbin/esxcli"
HOOK_PATH = ROOT + "/etc/libvirt/hooks/qemu.d/50-furlough"
# Before libvirt 6.5 there is one hook only; a foreign one is kept beside it and called by ours.
OLD_HOOK_PATH = ROOT + "/etc/libvirt/hooks/qemu"
FOREIGN_HOOK_PATH = ROOT + "/etc/libvirt/hooks/qemu.before-furlough"
SETTINGS_PATH = ROOT + "/etc/furlough-host.json"
VIRSH = ROOT + "/usr/bin/virsh"
PROC = ROOT + "/proc"
SYS = ROOT + "/sys"
HOOKS_DIR = ROOT + "/etc/libvirt/hooks/"
REFUSED_OPERATIONS = ("prepare", "migrate", "restore")
STARTING_OPERATIONS = (*REFUSED_OPERATIONS, "start", "started")
LARGEST_XML = 4 << 20
LONGEST_REQUEST = 1 << 20

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
TOKEN = re.compile(r"[0-9a-f]{8,64}")
ADDRESS = re.compile(r"[A-Za-z0-9:][A-Za-z0-9.:-]{0,252}")
PORT = re.compile(
    r"[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"
)
DIRECTORY = re.compile(r"(?:/(?!\.\.?(?:/|$))[A-Za-z0-9._ -]+)+")
ACTS = {
    "resume": ("resume",),
    "power-off": ("destroy",),
    "undefine": ("undefine", "--keep-nvram"),
    "fence": (),
}
NVRAM_DIR = ROOT + "/var/lib/libvirt/qemu/nvram"
TPM_DIR = ROOT + "/var/lib/libvirt/swtpm"
TPM_KINDS = ("tpm1.2", "tpm2")
STATE_PART = re.compile(
    r"nvram/[A-Za-z0-9][A-Za-z0-9._ -]{0,199}|tpm/tpm(?:1\.2|2)/[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
)
NVRAM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,199}")
PIECE = re.compile(r"[A-Za-z0-9_-]*")
CHECKSUM = re.compile(r"[0-9a-f]{64}")
LARGEST_STATE = 64 << 20
LARGEST_PIECE = 384 << 10
MOST_ACTS = 10000
ACT_WITHIN_S = 50  # libvirt itself gives up a process that will not die after 40 s.
HOOK_WITHIN_S = 10  # libvirt sets no limit: a hook that hangs would hang the start for ever.
LOCAL = "local"  # The controller in the marker of a person at the host.
PROVER = "furlough-host"  # The controller in the marker of a trial of the hook.
PLAIN_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
}
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
        refusal = why_refused(sys.stdin.buffer)
    except Exception as error:  # noqa: BLE001  # whatever it is, libvirt needs an answer
        # The marker is there and unreadable: somebody wanted this host empty.
        refusal = "the marker cannot be read: %s" % error
    if refusal:
        print("furlough: refused, %s" % " ".join(refusal.split()), file=sys.stderr)
    return 1 if refusal else 0


def why_refused(xml: IO[bytes]) -> str:
    """Why the VM of this XML may not come to be here; empty if it may. TimeoutError instead of
    hanging where the marker or the XML cannot be had."""
    import signal

    def give_up(*_: object) -> None:
        raise TimeoutError("no answer within %d s" % HOOK_WITHIN_S)

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(HOOK_WITHIN_S)
    try:
        marker = read_marker()
        if marker is None or is_admitted(marker, uuid_of(xml.read(LARGEST_XML))):
            return ""
    finally:
        signal.alarm(0)
    if marker.get("only"):
        return "this VM is a trial of the hook: %s" % marker["only"]
    return "host is kept empty by operation %s since %s" % (
        marker["operation"],
        marker.get("raised_at"),
    )


def chained_hook(arguments: list[str]) -> int:
    """Our hook in the place of a foreign one: ours first, and if it lets the VM pass, the one that
    was there before, with the same words and the same input."""
    import io
    import subprocess

    given = sys.stdin.buffer.read(LARGEST_XML)
    sys.stdin = io.TextIOWrapper(io.BytesIO(given))
    if hook(arguments) != 0:
        return 1
    if not os.access(FOREIGN_HOOK_PATH, os.X_OK):
        return 0
    return subprocess.run([FOREIGN_HOOK_PATH, *arguments], input=given, check=False).returncode


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
            "raised_at": utc(now),
        }
        write_durably(os.path.join(state_dir, "marker.json"), json.dumps(marker, indent=1))
    return marker


def lower_marker(request: dict[str, Any], state_dir: str = STATE_DIR) -> dict[str, bool]:
    """Take the marker away; no marker is fine. Refuses a lower epoch and a foreign marker."""
    os.makedirs(state_dir, mode=0o755, exist_ok=True)
    with Lock(state_dir):
        known = check_owner(request, state_dir)
        remember_epoch(request["epoch"], state_dir)
        if known is None:
            return {"lowered": False}
        remove_durably(os.path.join(state_dir, "marker.json"))
    return {"lowered": True}


def check_owner(request: dict[str, Any], state_dir: str) -> dict[str, Any] | None:
    """A stale controller and a foreign one may not touch the marker; the one that is there."""
    highest = read_epoch(state_dir)
    if request["epoch"] < highest:
        raise Refusal(
            "stale_epoch", "epoch %d is below %d, seen before" % (request["epoch"], highest)
        )
    marker = read_marker(state_dir)
    if marker is None or marker["controller"] == request["controller"]:
        return marker
    if marker["controller"] == PROVER:
        return None  # A trial of the hook stands in nobody's way.
    raise Refusal("foreign_marker", words_about(marker))


def words_about(marker: dict[str, Any]) -> str:
    """Whose marker this is and how it ends, for whoever may not touch it."""
    if marker["controller"] == LOCAL:
        return (
            "a person at the host keeps it empty since %s; they end it there with: "
            "furlough-host maintenance exit" % marker.get("raised_at")
        )
    return (
        "controller %s keeps the host empty since %s, by operation %s; exit maintenance there, or, "
        "if that controller is gone for good: rm %s"
        % (
            marker["controller"],
            marker.get("raised_at"),
            marker["operation"],
            os.path.join(STATE_DIR, "marker.json"),
        )
    )


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


def remove_durably(path: str) -> None:
    """Take a file away, for good; it need not be there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    sync_directory(os.path.dirname(path))


def utc(instant: float | None = None) -> str:
    """An instant, or now, as people and programs read it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(instant))


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
    os.makedirs(state_dir, mode=0o755, exist_ok=True)
    with Lock(state_dir):
        fence(vm, epoch, state_dir)
    if ACTS[what]:
        ask_virsh(*ACTS[what], "--domain", vm, virsh=virsh)
    return {"done": what}


def ask_virsh(*words: str, text_in: bytes = b"", virsh: str = VIRSH) -> str:
    """What virsh prints. OSError, with its own words, where it fails or gives no answer."""
    import subprocess

    try:
        ran = subprocess.run(
            [virsh, "--quiet", "--connect", "qemu:///system", *words],
            input=text_in,
            capture_output=True,
            timeout=ACT_WITHIN_S,
            env=PLAIN_ENVIRONMENT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise OSError("virsh gave no answer within %d s" % ACT_WITHIN_S) from error
    if ran.returncode != 0:
        said = ran.stderr.decode("utf-8", "replace").replace("error: ", "").split()
        raise OSError(" ".join(said)[:500] or "virsh failed without a word")
    return ran.stdout.decode("utf-8", "replace")


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
    """One writer of the state directory at a time; with another name, one trial at a time."""

    def __init__(self, state_dir: str, name: str = "lock", patient: bool = True) -> None:
        self.path = os.path.join(state_dir, name)
        self.is_patient = patient

    def __enter__(self) -> None:
        import fcntl

        self.file = open(self.path, "w", encoding="ascii")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | (0 if self.is_patient else fcntl.LOCK_NB))
        except BlockingIOError as error:
            self.file.close()
            raise Refusal("busy", "somebody else does this now; try again in a minute") from error

    def __exit__(self, *_: object) -> None:
        self.file.close()


# --- the state of a VM that is off -----------------------------------------------------------


def vm_state(request: dict[str, Any]) -> dict[str, Any]:
    """One act about what a VM keeps here beside its definition."""
    vm, act = request["vm"], request["act"]
    if any(one["uuid"] == vm for one in processes()["processes"]):
        raise Refusal("vm_active", "a process of VM %s is here" % vm)
    if act == "list":
        return {"parts": list_state(vm, request["nvram"])}
    if request["part"] is None:
        raise ValueError("%s is about one part" % act)
    if act == "read":
        return read_piece(vm, request["part"], request["offset"])
    if act == "write":
        return write_piece(vm, request["part"], request["offset"], request["data"])
    os.makedirs(STATE_DIR, mode=0o755, exist_ok=True)
    with Lock(STATE_DIR):
        fence(vm, request["epoch"], STATE_DIR)
    return keep_state(vm, request["part"], request["sha256"])


def list_state(vm: str, nvram: str | None) -> list[dict[str, Any]]:
    """The parts that are here, with size and checksum."""
    parts = [] if nvram is None else ["nvram/" + nvram]
    for kind in TPM_KINDS:
        try:
            directory = state_directory(vm, ["tpm", kind], create=False)
        except FileNotFoundError:
            continue
        try:
            names = sorted(os.listdir(directory))
        finally:
            os.close(directory)
        parts += ["tpm/%s/%s" % (kind, name) for name in names]
    found = []
    for part in parts:
        is_ours = part.endswith(".furlough-part") or ".before-" in part
        if STATE_PART.fullmatch(part) and not (is_ours and part.startswith("tpm/")):
            described = describe_state(vm, part)
            if described is not None:
                found.append({"part": part, **described})
    return found


def describe_state(vm: str, part: str, suffix: str = "") -> dict[str, Any] | None:
    """Size and checksum of a part; None where it is not here."""
    import hashlib

    try:
        content = read_state(vm, part, suffix)
    except FileNotFoundError:
        return None
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def read_state(vm: str, part: str, suffix: str = "") -> bytes:
    """All of a part. Firmware and TPMs keep little: what is larger is something else."""
    descriptor = open_state(vm, part, os.O_RDONLY, suffix)
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(LARGEST_STATE + 1)
    if len(content) > LARGEST_STATE:
        raise ValueError("%s is larger than %d MiB" % (part, LARGEST_STATE >> 20))
    return content


def open_state(vm: str, part: str, flags: int, suffix: str = "") -> int:
    """A plain file of the VM's state, opened without following any link."""
    *places, name = part.split("/")
    directory = state_directory(vm, places, create=bool(flags & os.O_CREAT))
    try:
        descriptor = os.open(name + suffix, flags | os.O_NOFOLLOW, 0o600, dir_fd=directory)
    finally:
        os.close(directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("%s is no file" % part)
    return descriptor


def state_directory(vm: str, places: list[str], create: bool) -> int:
    """The directory of a part, reached step by step; None of the steps may be a link."""
    if places[0] == "nvram":
        if create:
            os.makedirs(NVRAM_DIR, mode=0o755, exist_ok=True)
        return os.open(NVRAM_DIR, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    if create:
        os.makedirs(TPM_DIR, mode=0o711, exist_ok=True)
    directory = os.open(TPM_DIR, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    for name in (vm, *places[1:]):
        try:
            if create and name not in os.listdir(directory):
                os.mkdir(name, 0o711 if name == vm else 0o700, dir_fd=directory)
            deeper = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
        finally:
            os.close(directory)
        directory = deeper
    return directory


def read_piece(vm: str, part: str, offset: int) -> dict[str, Any]:
    """A piece of a part, from this byte on; an empty one at its end."""
    import base64

    content = read_state(vm, part)[offset : offset + LARGEST_PIECE]
    return {"data": base64.urlsafe_b64encode(content).decode("ascii").rstrip("=")}


def write_piece(vm: str, part: str, offset: int, data: str) -> dict[str, Any]:
    """A piece of a part, into a file that does not bear its name yet; the first one begins it."""
    import base64

    content = base64.urlsafe_b64decode(data + "=" * (-len(data) % 4))
    if offset + len(content) > LARGEST_STATE:
        raise ValueError("%s is larger than %d MiB" % (part, LARGEST_STATE >> 20))
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if offset == 0 else 0)
    descriptor = open_state(vm, part, flags, ".furlough-part")
    with os.fdopen(descriptor, "r+b" if offset else "wb") as file:
        file.seek(offset)
        file.write(content)
    return {"written": len(content)}


def keep_state(vm: str, part: str, checksum: str) -> dict[str, Any]:
    """Give what was written its name, if it is what it should be. Twice is harmless."""
    written = describe_state(vm, part, ".furlough-part")
    known = describe_state(vm, part)
    if written is None and known is not None and known["sha256"] == checksum:
        return {"kept": part}
    if written is None or written["sha256"] != checksum:
        raise ValueError("what was written of %s is not what it should be" % part)
    *places, name = part.split("/")
    directory = state_directory(vm, places, create=False)
    try:
        descriptor = os.open(name + ".furlough-part", os.O_RDONLY | os.O_NOFOLLOW, dir_fd=directory)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if known is not None and known["sha256"] != checksum:
            aside = "%s.before-%s" % (name, known["sha256"][:8])
            os.replace(name, aside, src_dir_fd=directory, dst_dir_fd=directory)
        os.replace(name + ".furlough-part", name, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)
    finally:
        os.close(directory)
    return {"kept": part}


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


# --- the proof ------------------------------------------------------------------------------

TRIAL_VM = """<domain type='{kind}'>
 <name>furlough-probe-{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>16</memory>
 <vcpu>1</vcpu><os><type>hvm</type></os>
 <devices><controller type='usb' model='none'/><memballoon model='none'/></devices>
</domain>
"""
RELOADS_S = (0.5, 1.0, 2.0)  # How long to wait for a daemon that reloads, before each new trial.
IGNORED = "its hook is ignored by libvirt's daemon: a VM that it refuses has started"
KVM_API_VERSION = 0xAE00


def prove(state_dir: str = STATE_DIR) -> dict[str, str]:
    """Try whether the hook refuses whom it has to, and nobody else; note what came of it. What an
    earlier, broken trial has left is cleared away first."""
    os.makedirs(state_dir, mode=0o755, exist_ok=True)
    with Lock(state_dir, "trial.lock", patient=False):
        left = clear_trial(state_dir)  # Asks virsh, which wakes a daemon that is started by need.
        noted = circumstances()
        why = left or hook_trouble()
        try:
            why = why or try_hook(state_dir, noted["daemon"])
        finally:
            left = clear_trial(state_dir)
        noted.update(why=why or left, tried_at=utc())
        write_durably(os.path.join(state_dir, "proof.json"), json.dumps(noted, indent=1))
    return {"proof": proof_trouble(state_dir)}


def try_hook(state_dir: str, daemon: dict[str, int] | None) -> str:
    """The trials themselves: why the hook cannot be relied on, empty if it can."""
    import uuid

    vms = [str(uuid.uuid4()), str(uuid.uuid4())]
    write_durably(os.path.join(state_dir, "trial.json"), json.dumps(vms))
    why = try_start(state_dir, vms[0])
    for pause_s in RELOADS_S:
        if why != IGNORED or daemon is None:
            break
        # Whether there is a hook at all, the daemon asks itself only when it starts or reloads.
        reload_daemon(daemon)
        time.sleep(pause_s)
        why = try_start(state_dir, vms[0])
    if why:
        return why
    if not lower_trial(state_dir):
        return ""  # An operation keeps the host empty: nothing may start here.
    try:
        start_trial(vms[1])
    except OSError as error:
        if "furlough: refused" in str(error):
            marker = read_marker(state_dir)
            return "" if marker else "its hook refuses VMs that no marker forbids"
        return "a VM that nothing forbids did not start, so nothing is proven: %s" % error
    return ""


def try_start(state_dir: str, vm: str) -> str:
    """Why the hook does not refuse this VM; empty if it does."""
    raise_trial(state_dir, vm)
    try:
        start_trial(vm)
    except OSError as error:
        if "furlough: refused" in str(error):
            return ""
        return "its hook could not be tried, a trial VM failed otherwise: %s" % error
    return IGNORED


def start_trial(vm: str) -> None:
    """Start a trial VM and end it at once. OSError where it does not start."""
    kind = "kvm" if has_kvm() else "qemu"
    xml = TRIAL_VM.format(kind=kind, name=vm[:8], uuid=vm)
    ask_virsh("create", "/dev/stdin", "--paused", text_in=xml.encode("ascii"))
    ask_virsh("destroy", "--domain", vm)


def has_kvm() -> bool:
    """Whether this machine's /dev/kvm is there and answers."""
    import fcntl

    try:
        with open(ROOT + "/dev/kvm", "rb") as device:
            return bool(fcntl.ioctl(device, KVM_API_VERSION) > 0)
    except OSError:
        return False


def raise_trial(state_dir: str, vm: str) -> None:
    """Forbid this VM alone, unless somebody keeps the whole host empty anyhow."""
    with Lock(state_dir):
        if operation_marker(state_dir) is None:
            marker = {
                "format": 1,
                "operation": "trial",
                "epoch": read_epoch(state_dir),
                "controller": PROVER,
                "admit": [],
                "only": vm,
                "raised_at": utc(),
            }
            write_durably(os.path.join(state_dir, "marker.json"), json.dumps(marker, indent=1))


def lower_trial(state_dir: str) -> bool:
    """Take the marker of a trial away, and no other; whether it was there."""
    with Lock(state_dir):
        marker = read_marker(state_dir)
        if marker is None or marker["controller"] != PROVER:
            return False
        remove_durably(os.path.join(state_dir, "marker.json"))
    return True


def operation_marker(state_dir: str = STATE_DIR) -> dict[str, Any] | None:
    """The marker that keeps the host empty; one of a trial does not."""
    marker = read_marker(state_dir)
    return None if marker is None or marker["controller"] == PROVER else marker


def clear_trial(state_dir: str) -> str:
    """End everything of a trial: its marker first, then its VMs. What could not be ended, in words;
    it is left to the next call."""
    lower_trial(state_dir)
    path = os.path.join(state_dir, "trial.json")
    try:
        vms = {vm for vm in json.loads(read_text(path) or "[]") if UUID.fullmatch(vm)}
    except (ValueError, TypeError):
        vms = set()
    try:
        for vm in vms & listed_vms():
            ask_virsh("destroy", "--domain", vm)
        left = vms and vms & listed_vms()
    except OSError as error:
        return "libvirt's daemon does not answer: %s" % error
    if left:
        return "a trial VM is still there: %s" % ", ".join(sorted(left))
    remove_durably(path)
    return ""


def listed_vms() -> set[str]:
    """The UUIDs of all VMs that libvirt knows here."""
    return set(ask_virsh("list", "--all", "--uuid").split())


def circumstances() -> dict[str, Any]:
    """What a proof holds for: this boot, this run of the daemon, this hook, this program."""
    return {
        "boot_id": read_boot_id(),
        "daemon": daemon_of(),
        "hook": digest_of(hook_path()),
        "program": digest_of(PROGRAM_PATH),
    }


def proof_trouble(state_dir: str = STATE_DIR) -> str:
    """Why the hook cannot be relied on now; empty if it was seen to refuse, as things are."""
    missing = hook_trouble()
    if missing:
        return missing
    try:
        noted = json.loads(read_text(os.path.join(state_dir, "proof.json")) or "{}")
        why, now = str(noted.get("why", "its hook was never tried")), circumstances()
        changed = [name for name in now if noted.get(name) != now[name]]
    except (ValueError, AttributeError):
        return "the note about its last trial is damaged"
    if "why" not in noted:
        return why
    if now["daemon"] is None:
        return "libvirt's daemon does not run"
    if {"boot_id", "daemon"} & set(changed):
        return "its hook was not tried since libvirt's daemon started"
    return "its hook was changed since it was tried" if changed else why


def hook_trouble() -> str:
    """Whether a hook of ours is there at all."""
    return "" if os.access(hook_path(), os.X_OK) else "its hook is not installed"


def hook_path() -> str:
    """Where our hook is, or would be."""
    return OLD_HOOK_PATH if is_ours(OLD_HOOK_PATH) else HOOK_PATH


def is_ours(path: str) -> bool:
    """Whether a file is a copy of this program, of whatever version."""
    try:
        with open(path, "rb") as file:
            return b'\n"""furlough-host: ' in file.read(200)
    except OSError:
        return False


def digest_of(path: str) -> str:
    """SHA-256 of a file, empty where it cannot be read."""
    import hashlib

    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return ""


def read_boot_id() -> str:
    """Another one after every boot."""
    with open(PROC + "/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def daemon_of(proc: str = PROC) -> dict[str, int] | None:
    """The daemon that starts VMs: its pid and the clock tick it started at. Of several (children
    of its own, for a moment) the oldest; those in containers are not ours."""
    found = []
    for pid in sorted(int(name) for name in os.listdir(proc) if name.isdigit()):
        words = command_of(proc, pid)
        is_daemon = bool(words) and os.path.basename(words[0]) in ("libvirtd", "virtqemud")
        if is_daemon and namespace_of(proc, str(pid)) == namespace_of(proc, "self"):
            started = start_of(proc, pid)
            if started is not None:
                found.append((started, pid))
    return {"pid": min(found)[1], "started": min(found)[0]} if found else None


def namespace_of(proc: str, pid: str) -> str:
    """The PID namespace of a process, empty where it is not told."""
    try:
        return os.readlink(os.path.join(proc, pid, "ns", "pid"))
    except OSError:
        return ""


def start_of(proc: str, pid: int) -> int | None:
    """The clock tick at which a process started; with its pid it names the process for good."""
    try:
        with open(os.path.join(proc, str(pid), "stat"), encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def reload_daemon(daemon: dict[str, int]) -> None:
    """Have it look for hooks again; only this very process is signalled."""
    import signal

    if start_of("/proc", daemon["pid"]) == daemon["started"]:
        os.kill(daemon["pid"], signal.SIGHUP)


# --- probing --------------------------------------------------------------------------------

CONNECTIONS, CONNECT_WITHIN_S = 3, 2.0
ARRAY = re.compile(r"(\w+) : ")
REPAIR = re.compile(r"\b(recovery|resync|reshape|check|repair)\s*=\s*(\S+)")
SETTING = re.compile(r"""\s*(\w+)\s*=\s*["']?([^"'#]*?)["']?\s*(?:#.*)?""")
GUEST_SCRIPTS = ("/usr/lib/libvirt/libvirt-guests.sh", "/usr/libexec/libvirt-guests.sh")
GUEST_SETTINGS = ("/etc/default/libvirt-guests", "/etc/sysconfig/libvirt-guests")
DAEMON_SETTINGS = ("/etc/libvirt/libvirtd.conf", "/etc/libvirt/virtproxyd.conf")
TCP_PORT = "16509"
ROUTE_UP, ROUTE_REJECTS = 0x1, 0x200


def probe(peers: list[list[str]]) -> dict[str, Any]:
    """What may go wrong later, looked at and not touched. A part that fails is in `troubles`."""
    reached = reach_all(peers)
    towards = next((one["address"] for one in reached.values() if one["address"]), None)
    parts: dict[str, Callable[[], Any]] = {
        "repairs": repairs,
        "link": lambda: link_towards(towards),
        "open_ports": open_ports,
        "guests_at_boot": guests_at_boot,
    }
    found: dict[str, Any] = {"peers": reached, "troubles": []}
    for name, look in parts.items():
        try:
            found[name] = look()
        except (OSError, ValueError, IndexError) as error:
            found[name] = None
            found["troubles"].append("%s: %s" % (name.replace("_", " "), error))
    return found


def repairs() -> list[str]:
    """Arrays that are rebuilt, synchronised or checked just now, or wait for it, in words."""
    found, array = [], ""
    for line in (read_text(PROC + "/mdstat") or "").splitlines():
        begins = ARRAY.match(line)
        array = begins.group(1) if begins else array
        repair = REPAIR.search(line)
        if repair and array:
            found.append("%s: %s %s" % (array, repair.group(1), repair.group(2).lower()))
    return found


def reach_all(peers: list[list[str]]) -> dict[str, dict[str, Any]]:
    """How each peer is reached; all of them are tried at once."""
    import threading

    found: dict[str, dict[str, Any]] = {}

    def reach_one(name: str, address: str, port: int) -> None:
        found[name] = reach(address, port)

    threads = [
        threading.Thread(target=reach_one, args=(name, address, int(port)), daemon=True)
        for name, address, port in peers
    ]
    for thread in threads:
        thread.start()
    # A resolver may take longer than any limit of ours; it is left behind.
    ends = time.monotonic() + CONNECTIONS * CONNECT_WITHIN_S + 1
    for thread in threads:
        thread.join(max(0.0, ends - time.monotonic()))
    slow = {"because": "its name was not resolved in time", "is_refused": False}
    nothing = {"address": None, "latency_ms": None}
    return {name: found.get(name, {**slow, **nothing}) for name, _address, _port in peers}


def reach(address: str, port: int) -> dict[str, Any]:
    """The best of a few connections: its latency, or why there is none. A peer that answers and
    refuses (nobody listens there) was reached all the same, which `is_refused` says."""
    import socket

    told: dict[str, Any] = {"because": "", "is_refused": False, "address": None, "latency_ms": None}
    try:
        family, kind, _number, _name, place = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM
        )[0]
    except OSError as error:
        return {**told, "because": "%s is not known: %s" % (address, error.strerror or error)}
    told["address"] = place[0]
    best: float | None = None
    for _ in range(CONNECTIONS):
        began = time.monotonic()
        try:
            with socket.socket(family, kind) as attempt:
                attempt.settimeout(CONNECT_WITHIN_S)
                attempt.connect(place)
        except ConnectionRefusedError:
            told["is_refused"] = True
            told["because"] = "nobody listens at %s port %d" % (address, port)
        except OSError as error:
            told["because"] = "%s port %d: %s" % (address, port, error.strerror or error)
            break
        took_ms = round((time.monotonic() - began) * 1000, 3)
        best = took_ms if best is None else min(best, took_ms)
    return {**told, "latency_ms": best}


def link_towards(address: str | None) -> dict[str, Any] | None:
    """The interface that carries what goes to an address (None: to anywhere), with its speed and
    whether a second cable stands in for the first; None where no route says."""
    import socket

    if address is not None and ":" in address:
        interface = route_ipv6(int.from_bytes(socket.inet_pton(socket.AF_INET6, address), "big"))
    else:
        packed = socket.inet_pton(socket.AF_INET, address or "0.0.0.0")  # noqa: S104 - a route
        interface = route_ipv4(int.from_bytes(packed, "big"))
    if interface is None:
        return None
    speed_mbit_s, is_redundant = carriers(interface)
    return {"interface": interface, "speed_mbit_s": speed_mbit_s, "is_redundant": is_redundant}


def route_ipv4(wanted: int) -> str | None:
    """The interface of the most specific route, from the kernel's table."""
    best = None
    for line in (read_text(PROC + "/net/route") or "").splitlines()[1:]:
        words = line.split()
        target, mask = (int.from_bytes(bytes.fromhex(words[n])[::-1], "big") for n in (1, 7))
        flags = int(words[3], 16)
        is_used = flags & ROUTE_UP and not flags & ROUTE_REJECTS
        if is_used and wanted & mask == target:
            best = max(best or (-1, 0, ""), (mask, -int(words[6]), words[0]))
    return best[2] if best else None


def route_ipv6(wanted: int) -> str | None:
    """The same for the newer addresses."""
    best = None
    for line in (read_text(PROC + "/net/ipv6_route") or "").splitlines():
        words = line.split()
        length, flags = int(words[1], 16), int(words[8], 16)
        is_used = flags & ROUTE_UP and not flags & ROUTE_REJECTS and words[9] != "lo"
        if is_used and wanted >> (128 - length) == int(words[0], 16) >> (128 - length):
            best = max(best or (-1, 0, ""), (length, -int(words[5], 16), words[9]))
    return best[2] if best else None


def carriers(interface: str, depth: int = 8) -> tuple[int | None, bool | None]:
    """Speed in Mbit/s and redundancy of an interface, found in what lies below it: a bridge, a
    VLAN, a bond. VMs' own interfaces in a bridge carry nothing of the host's."""
    directory = os.path.join(SYS, "class/net", interface)
    names = os.listdir(directory)
    speed_mbit_s = read_speed(os.path.join(directory, "speed"))
    below = [
        name[len("lower_") :]
        for name in names
        if name.startswith("lower_")
        and not os.path.exists(os.path.join(SYS, "class/net", name[len("lower_") :], "tun_flags"))
    ]
    if "bonding" in names:
        return speed_mbit_s, sum(is_up(name) for name in below) > 1
    if not below or depth == 0:
        return speed_mbit_s, False if "device" in names else None
    found = [carriers(name, depth - 1) for name in below]
    if len(found) > 1:
        return speed_mbit_s, None  # Several ports of a bridge: who stands in for whom is unknown.
    # What a bridge says of itself is the speed of its fastest VM.
    return found[0][0] or speed_mbit_s, found[0][1]


def read_speed(path: str) -> int | None:
    """Mbit/s, or None: many an interface does not say, or says -1."""
    try:
        speed = int(read_text(path) or 0)
    except (OSError, ValueError):
        return None
    return speed if speed > 0 else None


def is_up(interface: str) -> bool:
    """Whether a cable is in it."""
    return (read_text(os.path.join(SYS, "class/net", interface, "operstate")) or "").strip() == "up"


def open_ports() -> list[str]:
    """Daemons that let in whoever reaches them, in words."""
    found = []
    for path in DAEMON_SETTINGS:
        settings = read_settings(ROOT + path)
        port = settings.get("tcp_port", TCP_PORT)
        listens = settings.get("listen_tcp") == "1" or is_listened_at(port)
        if settings.get("auth_tcp") == "none" and listens:
            found.append('TCP port %s lets in anybody: auth_tcp = "none" in %s' % (port, path))
        if settings.get("tls_no_verify_certificate") == "1":
            found.append("TLS takes any certificate: tls_no_verify_certificate = 1 in %s" % path)
    settings = read_settings(ROOT + QEMU_SETTINGS)
    for name in ("migrate_tls_x509_verify", "default_tls_x509_verify"):
        if name in settings:
            if settings[name] == "0":
                found.append(
                    "TLS takes migrations from anybody: %s = 0 in %s" % (name, QEMU_SETTINGS)
                )
            break
    return found


# --- certificates for migrations ------------------------------------------------------------

QEMU_SETTINGS = "/etc/libvirt/qemu.conf"
TLS_DIRECTORY = "/etc/pki/qemu"
TLS_FILES = (
    "ca-cert.pem",
    "server-cert.pem",
    "server-key.pem",
    "client-cert.pem",
    "client-key.pem",
)
PEM = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def migration_tls() -> dict[str, Any]:
    """Whether this host could encrypt migrations. `trouble`: why not, in words; empty if it can.
    `authorities`: fingerprints of those whose certificates it believes. Keys stay here."""
    settings = read_settings(ROOT + QEMU_SETTINGS)
    directory = tls_directory(settings)
    paths = [os.path.join(ROOT + directory, name) for name in TLS_FILES]
    missing = [path for path in paths if not os.path.exists(path)]
    if missing:
        names = ", ".join(os.path.basename(path) for path in missing)
        return {"trouble": "%s has no %s" % (directory, names), "authorities": []}
    has_password = any(
        settings.get("%s_tls_x509_secret_uuid" % kind) for kind in ("migrate", "default")
    )
    try:
        authorities = fingerprints(paths[0])
        # With a password only libvirt can open the keys; what they are worth shows when used.
        trouble = "" if has_password else handshake_trouble(*paths)
    except (OSError, ValueError) as error:
        return {"trouble": "%s cannot be read: %s" % (directory, error), "authorities": []}
    if trouble:
        trouble = "the certificates in %s do not work: %s" % (directory, trouble)
    return {"trouble": trouble, "authorities": authorities}


def tls_directory(settings: dict[str, str]) -> str:
    """Where libvirt takes the certificates for migrations from."""
    for name in ("migrate_tls_x509_cert_dir", "default_tls_x509_cert_dir"):
        if settings.get(name):
            return settings[name]
    return TLS_DIRECTORY


def fingerprints(path: str) -> list[str]:
    """SHA-256 of every certificate in a file."""
    import hashlib
    import ssl

    with open(path, encoding="ascii") as file:
        found = PEM.findall(file.read())
    return [hashlib.sha256(ssl.PEM_cert_to_DER_cert(one)).hexdigest() for one in found]


def handshake_trouble(
    authority: str, server_cert: str, server_key: str, client_cert: str, client_key: str
) -> str:
    """Why this host's two certificates do not take each other, as QEMU would have them do: in
    memory, one end against the other. Empty if they do. It finds a chain that is broken, a key
    that is another certificate's, and a date that is over."""
    import ssl

    ends = []
    for is_server, cert, key in ((True, server_cert, server_key), (False, client_cert, client_key)):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(authority)
            context.load_cert_chain(cert, key, password=no_password)
        except ssl.SSLError as error:
            return "%s: %s" % (os.path.basename(cert), error.reason or error)
        ends.append(context)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    pair = [
        ends[0].wrap_bio(incoming, outgoing, server_side=True),
        ends[1].wrap_bio(outgoing, incoming),
    ]
    return agree(pair)


def agree(pair: list[Any]) -> str:
    """Let two ends of TLS greet each other; why one does not take the other, empty if both do."""
    import ssl

    left = [pair[1], pair[0]]
    for _turn in range(8):
        for end in list(left):
            try:
                end.do_handshake()
                left.remove(end)
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error.verify_message
            except ssl.SSLError as error:
                return str(error.reason or error)
    return "they never agree" if left else ""


def no_password() -> str:
    """Asked for a password: there is nobody to ask."""
    raise ValueError("a key has a password, and qemu.conf names no secret for it")


def read_settings(path: str) -> dict[str, str]:
    """The lines NAME = VALUE of a file; none where there is no such file."""
    lines = (read_text(path) or "").splitlines()
    matched = (SETTING.fullmatch(line) for line in lines)
    return {found.group(1): found.group(2) for found in matched if found}


def is_listened_at(port: str) -> bool:
    """Whether anybody listens at a TCP port of this host, by the kernel's table."""
    if not port.isdigit():
        return False
    ending, listening = ":%04X" % int(port), "0A"
    for name in ("/net/tcp", "/net/tcp6"):
        for line in (read_text(PROC + name) or "").splitlines()[1:]:
            words = line.split()
            if words[1].endswith(ending) and words[3] == listening:
                return True
    return False


def guests_at_boot() -> list[str]:
    """Settings of the libvirt-guests service that start VMs at boot or save them at shutdown; none
    where the service is not there or switched off."""
    import glob

    wanted = (
        "/etc/systemd/system/*.wants/libvirt-guests.service",
        "/etc/rc[2-5].d/S*libvirt-guests",
    )
    if not any(glob.glob(ROOT + pattern) for pattern in wanted):
        return []
    # What it does untold; distributions have changed that in the script itself.
    settings = {"ON_BOOT": "start", "ON_SHUTDOWN": "suspend"}
    for path in (*GUEST_SCRIPTS, *GUEST_SETTINGS):
        settings.update(read_settings(ROOT + path))
    harmless = {"ON_BOOT": "ignore", "ON_SHUTDOWN": "shutdown"}
    return [
        "%s=%s" % (name, settings[name]) for name in harmless if settings[name] != harmless[name]
    ]


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
        elif (vm := vm_that_a_hook_is_asked_about(words)) is not None:
            provisioning.append({"pid": pid, "kind": "start", "what": vm[:200]})
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


def vm_that_a_hook_is_asked_about(words: list[str]) -> str | None:
    """The name of a VM whose start waits for a hook: it has no process yet, and libvirt calls it
    shut off. The hook may be a program or a script, whose interpreter then comes first."""
    for place, word in enumerate(words[:4]):
        if word.startswith(HOOKS_DIR) and words[place + 2 : place + 3]:
            return words[place + 1] if words[place + 2] in STARTING_OPERATIONS else None
    return None


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
    """The host as this program sees it: marker, epoch, hook, clock, boot. `proof`: why the hook
    cannot be relied on, empty if it can. The marker of a trial keeps nobody away: not told."""
    import socket

    return {
        "program": VERSION,
        "hostname": os.uname().nodename,
        "boot_id": read_boot_id(),
        "clock_s": round(time.time(), 6),
        "epoch": read_epoch(state_dir),
        "marker": operation_marker(state_dir),
        "interfaces": [name for _index, name in socket.if_nameindex()],
        "hook_installed": not hook_trouble(),
        "proof": proof_trouble(state_dir),
        "migration_tls": migration_tls(),
    }


# --- the power of the machine ---------------------------------------------------------------

POWER_COMMANDS = {
    "reboot": ["/usr/bin/systemctl", "reboot"],
    "power_off": ["/usr/bin/systemctl", "poweroff"],
}
POWER_DELAY_S = 1.0  # The answer goes out first.


def machine_power(what: str, request: dict[str, Any], state_dir: str = STATE_DIR) -> dict[str, Any]:
    """Reboot the machine or switch it off, after the answer. Refuses unless this controller keeps
    it empty, and it is."""
    command = power_command(what)
    os.makedirs(state_dir, mode=0o755, exist_ok=True)
    with Lock(state_dir):
        marker = check_owner(request, state_dir)
        if marker is None or marker.get("only"):
            raise Refusal("not_guarded", "no marker keeps this host empty: enter maintenance first")
        found = processes()
        left = ["VM %s (pid %d)" % (one["name"], one["pid"]) for one in found["processes"]]
        left += ["%s %s" % (one["kind"], one["what"]) for one in found["provisioning"]]
        if left:
            raise Refusal("not_empty", "the host is not empty: %s" % "; ".join(left)[:500])
        remember_epoch(request["epoch"], state_dir)
    run_later(command)
    return {"done": what, "command": command, "boot_id": read_boot_id()}


def power_command(what: str) -> list[str]:
    """What to run: the site's own command, where its settings name one. ValueError where they make
    no sense, OSError where the command is not there."""
    key = what.replace("-", "_")
    text = read_text(SETTINGS_PATH)
    chosen: Any = {}
    if text is not None:
        told = os.lstat(SETTINGS_PATH)
        if told.st_uid != os.geteuid() or told.st_mode & 0o022 or not stat.S_ISREG(told.st_mode):
            raise ValueError("%s must be a file that only root may write" % SETTINGS_PATH)
        chosen = json.loads(text)
        if not isinstance(chosen, dict) or set(chosen) - set(POWER_COMMANDS):
            raise ValueError("%s: only reboot and power_off may stand there" % SETTINGS_PATH)
    command = chosen.get(key, POWER_COMMANDS[key])
    is_list = isinstance(command, list) and all(isinstance(word, str) for word in command)
    if not is_list or not command or not command[0].startswith("/"):
        raise ValueError("%s: %s is not a list of words with a path first" % (SETTINGS_PATH, key))
    if not os.access(command[0], os.X_OK):
        raise FileNotFoundError("%s cannot be run" % command[0])
    return list(command)


def run_later(command: list[str]) -> None:
    """Run a command as nobody's child, when whoever asked has been answered."""
    if os.fork():
        return
    try:
        os.setsid()
        if os.fork() == 0:
            nothing = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(nothing, descriptor)
            time.sleep(POWER_DELAY_S)
            os.execve(command[0], command, PLAIN_ENVIRONMENT)  # noqa: S606 - words, no shell
    finally:
        os._exit(0)


# --- installation ---------------------------------------------------------------------------

ESXCLI_PLACES = ("/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
DAEMON_PROGRAMS = ("/usr/sbin/virtqemud", "/usr/sbin/libvirtd")
FIRST_WITH_SEVERAL_HOOKS = (6, 5)


def install(source: bytes) -> dict[str, list[str]]:
    """Put program, hook and the name esxcli in their places; twice is harmless. Says in words what
    it has changed. OSError where this machine is not one for it."""
    if not os.path.isdir(ROOT + "/etc/libvirt"):
        raise OSError("libvirt is not installed here: there is no /etc/libvirt")
    os.makedirs(STATE_DIR, mode=0o755, exist_ok=True)
    changed = []
    with Lock(STATE_DIR):
        if put_program(PROGRAM_PATH, source):
            changed.append("program %s" % PROGRAM_PATH)
        if install_hook(source):
            changed.append("hook %s" % hook_path())
        others = [ROOT + place + "/esxcli" for place in ESXCLI_PLACES]
        if not any(os.path.lexists(path) for path in (ESXCLI_PATH, *others)):
            os.symlink("furlough-host", ESXCLI_PATH)
            changed.append("name %s" % ESXCLI_PATH)
    return {"changed": changed}


def install_hook(source: bytes) -> bool:
    """Put the hook where this libvirt looks; one that others have put there stays in use. Whether
    anything changed."""
    if has_several_hooks():
        return put_program(HOOK_PATH, source)
    if os.path.lexists(OLD_HOOK_PATH) and not is_ours(OLD_HOOK_PATH):
        # Both names are there for a moment, so that there is never none.
        os.link(OLD_HOOK_PATH, FOREIGN_HOOK_PATH, follow_symlinks=False)
    return put_program(OLD_HOOK_PATH, source)


def has_several_hooks() -> bool:
    """Whether libvirt here runs a directory of hooks, as it does from 6.5 on. Where no daemon says
    which version it is, the proof will tell."""
    import subprocess

    for path in DAEMON_PROGRAMS:
        if os.access(ROOT + path, os.X_OK):
            ran = subprocess.run(
                [ROOT + path, "--version"], capture_output=True, timeout=20, check=False,
                env=PLAIN_ENVIRONMENT, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            found = re.search(rb"(\d+)\.(\d+)\.\d+", ran.stdout)
            if found:
                return (int(found.group(1)), int(found.group(2))) >= FIRST_WITH_SEVERAL_HOOKS
    return True


def put_program(path: str, source: bytes) -> bool:
    """Write a program, all or nothing, with its right to be run; whether it was another one."""
    try:
        with open(path, "rb") as file:
            told = os.fstat(file.fileno())
            if file.read() == source and stat.S_IMODE(told.st_mode) == 0o755:
                return False
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    new = path + ".new"  # Should libvirt find it under this name, it is the same hook.
    with open(new, "wb") as file:
        file.write(source)
        file.flush()
        os.fchmod(file.fileno(), 0o755)
        os.fsync(file.fileno())
    os.rename(new, path)
    sync_directory(os.path.dirname(path))
    return True


def uninstall() -> dict[str, list[str]]:
    """Take away what `install` has put here, and give back what was there before. Refuses while
    somebody keeps the host empty. The highest epoch stays: it outlives an installation."""
    changed = []
    os.makedirs(STATE_DIR, mode=0o755, exist_ok=True)
    with Lock(STATE_DIR):
        marker = read_marker()
        if marker is not None:
            raise Refusal("marker_in_use", words_about(marker))
        if os.path.lexists(FOREIGN_HOOK_PATH) and is_ours(OLD_HOOK_PATH):
            os.rename(FOREIGN_HOOK_PATH, OLD_HOOK_PATH)
            changed.append("hook %s is as it was" % OLD_HOOK_PATH)
        for path in (HOOK_PATH, OLD_HOOK_PATH, ESXCLI_PATH, PROGRAM_PATH):
            if is_ours(path):
                remove_durably(path)
                changed.append("%s is gone" % path)
        remove_durably(os.path.join(STATE_DIR, "proof.json"))
    daemon = daemon_of()
    if daemon is not None:
        reload_daemon(daemon)
    return {"changed": changed}


def own_source() -> bytes:
    """The text of this very program."""
    with open(os.path.abspath(__file__), "rb") as file:
        return file.read()


# --- a person at the host -------------------------------------------------------------------

POLL_S = 1.0
CTRL_C = 130


def maintenance(words: list[str], tell: IO[str]) -> int:
    """`maintenance get|enter|exit`: what a person says at the host. Prints for people."""
    import argparse

    parser = argparse.ArgumentParser(prog="furlough-host maintenance")
    acts = parser.add_subparsers(dest="act", required=True)
    acts.add_parser("get", help="say whether this host is in maintenance, and by whom")
    entering = acts.add_parser("enter", help="let nothing start here, and wait until nothing runs")
    entering.add_argument("--timeout", type=float, default=0, metavar="S", help="0: wait for ever")
    acts.add_parser("exit", help="let VMs start here again")
    request = parser.parse_args(words)
    if request.act == "enter":
        return told(lambda: enter_locally(request.timeout, tell))
    if request.act == "exit":
        return told(lambda: exit_locally(tell))
    return told(lambda: print_standing(tell))


def esxcli(words: list[str]) -> int:
    """`system maintenanceMode get|set`, as a script for ESXi says it and reads the answer."""
    import argparse

    parser = argparse.ArgumentParser(prog="esxcli", description="Furlough's answer to ESXi's.")
    system = parser.add_subparsers(dest="namespace", required=True).add_parser("system")
    mode = system.add_subparsers(dest="object", required=True).add_parser("maintenanceMode")
    acts = mode.add_subparsers(dest="act", required=True)
    acts.add_parser("get", help="Enabled or Disabled")
    setting = acts.add_parser("set", help="enter or exit maintenance mode")
    setting.add_argument("-e", "--enable", choices=("true", "false"), required=True)
    setting.add_argument("-t", "--timeout", type=float, default=0, metavar="S")
    request = parser.parse_args(words)
    if request.act == "get":
        return told(print_mode)
    if request.enable == "true":
        return told(lambda: enter_locally(request.timeout, sys.stderr))
    return told(lambda: exit_locally(sys.stderr))


def told(act: Callable[[], int]) -> int:
    """The exit status of an act; what went wrong is said in words."""
    try:
        return act()
    except Refusal as error:
        print("Refused: %s." % error, file=sys.stderr)
        return 3
    except (OSError, ValueError) as error:
        print("Failed: %s." % error, file=sys.stderr)
        return 1


def print_mode() -> int:
    """Enabled: the host is kept empty, and is empty."""
    is_empty = operation_marker() is not None and not still_there()
    print("Enabled" if is_empty else "Disabled")
    return 0


def print_standing(tell: IO[str]) -> int:
    """Who keeps this host empty since when, and who still runs."""
    marker, left = operation_marker(), still_there()
    if marker is None:
        print("available: VMs may start here", file=tell)
        return 0
    by = (
        "a person at the host"
        if marker["controller"] == LOCAL
        else ("operation %s of controller %s" % (marker["operation"], marker["controller"]))
    )
    print("%s: by %s, since %s" % ("entering" if left else "maintenance", by,
                                   marker.get("raised_at")), file=tell)  # fmt: skip
    for one in left:
        print("  still here: %s" % one, file=tell)
    return 0


def enter_locally(timeout_s: float, tell: IO[str]) -> int:
    """Raise a marker of our own and wait until nothing runs: the VMs are moved by whoever asked.
    On a timeout and on Ctrl-C the marker stays."""
    epoch = read_epoch()
    raise_marker({"operation": LOCAL, "controller": LOCAL, "epoch": epoch})
    print("From now on no VM starts here.", file=tell)
    warn_unproven(tell)
    stays = "No VM starts here until: furlough-host maintenance exit"
    try:
        is_empty = wait_until_empty(timeout_s, tell)
    except KeyboardInterrupt:
        print("Interrupted. %s" % stays, file=tell)
        return CTRL_C
    if not is_empty:
        print("Not empty after %g s. %s" % (timeout_s, stays), file=tell)
        return 1
    print("In maintenance.", file=tell)
    return 0


def warn_unproven(tell: IO[str]) -> None:
    """Say so where the marker may keep nobody away."""
    try:
        trouble = proof_trouble() and prove()["proof"]
    except (Refusal, OSError, ValueError) as error:
        trouble = str(error)
    if trouble:
        print("Warning: VMs might start all the same: %s" % trouble, file=tell)


def wait_until_empty(timeout_s: float, tell: IO[str]) -> bool:
    """Wait until nothing was there twice in a row; tell who is, whenever that changes. A start that
    passed the hook before the marker shows up the second time."""
    ends = time.monotonic() + timeout_s if timeout_s > 0 else None
    said: list[str] = []
    empty_looks = 0
    while empty_looks < 2:
        left = still_there()
        empty_looks = 0 if left else empty_looks + 1
        if left != said:
            for one in left:
                print("Waiting for you to move or stop: %s" % one, file=tell)
            said = left
        tell.flush()
        if ends is not None and time.monotonic() >= ends and empty_looks < 2:
            return False
        time.sleep(POLL_S)
    return True


def still_there() -> list[str]:
    """What makes the host not empty, in words."""
    found = processes()
    return [
        *("VM %s (pid %d)" % (one["name"], one["pid"]) for one in found["processes"]),
        *("%s: %s" % (one["kind"], one["what"]) for one in found["provisioning"]),
    ]


def exit_locally(tell: IO[str]) -> int:
    """Take our own marker away; another controller's is not ours to take."""
    request = {"operation": LOCAL, "controller": LOCAL, "epoch": read_epoch()}
    was_there = lower_marker(request)["lowered"]
    words = "VMs may start here again." if was_there else "This host was not in maintenance."
    print(words, file=tell)
    return 0


# --- the command line -----------------------------------------------------------------------


def main(arguments: list[str]) -> int:
    """Run one verb and print its answer."""
    name = os.path.basename(arguments[0])
    if name == "esxcli":
        return esxcli(arguments[1:])
    if name not in ("furlough-host", "furlough_host.py"):
        is_chained = os.path.lexists(FOREIGN_HOOK_PATH) and name == os.path.basename(OLD_HOOK_PATH)
        return chained_hook(arguments[1:]) if is_chained else hook(arguments[1:])
    if arguments[1:] == ["session"]:
        return session(sys.stdin.buffer, sys.stdout)
    if arguments[1:2] == ["maintenance"]:
        return maintenance(arguments[2:], sys.stdout)
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
    request = vars(parser().parse_args(words))
    verb = request.pop("verb")
    verbs: dict[str, Callable[[], dict[str, Any]]] = {
        "status": status,
        "processes": processes,
        "prove": prove,
        "probe": lambda: probe(request["peer"]),
        "raise": lambda: raise_marker(request),
        "lower": lambda: lower_marker(request),
        "act": lambda: act(**request),
        "vm-state": lambda: vm_state(request),
        "storage": lambda: storage(**request),
        "reboot": lambda: machine_power(verb, request),
        "power-off": lambda: machine_power(verb, request),
        "install": lambda: install(own_source()),
        "uninstall": uninstall,
    }
    if verb not in verbs:
        raise ValueError("a %s cannot be asked for within a session" % verb)
    return verbs[verb]()


def parser() -> argparse.ArgumentParser:
    """The words that are understood."""
    import argparse

    top = argparse.ArgumentParser(prog="furlough-host", description="Keeps a host empty.")
    verbs = top.add_subparsers(dest="verb", required=True)
    verbs.add_parser("status", help="marker, epoch, hook, clock")
    verbs.add_parser("processes", help="VM processes and provisioning under way")
    verbs.add_parser("prove", help="try whether the hook refuses whom it has to")
    command = verbs.add_parser("probe", help="look for what may go wrong later")
    command.add_argument(
        "--peer", type=peer_part(), nargs=3, action="append", default=[],
        metavar=("NAME", "ADDRESS", "PORT"),
    )  # fmt: skip
    verbs.add_parser("install", help="put this program, its hook and esxcli in their places")
    verbs.add_parser("uninstall", help="take them away, and give back what was there")
    verbs.add_parser("session", help="answer requests on standard input, line by line")
    verbs.add_parser("maintenance", help="for a person at the host: get, enter, exit")
    for verb, text in (
        ("raise", "keep this host empty"),
        ("lower", "let VMs start again"),
        ("reboot", "reboot this machine, if it is kept empty"),
        ("power-off", "switch this machine off, if it is kept empty"),
    ):
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
    command = verbs.add_parser("vm-state", help="what a VM that is off keeps here")
    command.add_argument("act", choices=("list", "read", "write", "keep"))
    command.add_argument("--vm", type=matching(UUID), required=True)
    command.add_argument("--nvram", type=matching(NVRAM_NAME))
    command.add_argument("--part", type=matching(STATE_PART))
    command.add_argument("--offset", type=whole_number, default=0)
    command.add_argument("--data", type=matching(PIECE), default="")
    command.add_argument("--sha256", type=matching(CHECKSUM))
    command.add_argument("--epoch", type=int, default=0)
    command = verbs.add_parser("storage", help="one act of a storage proof")
    command.add_argument("act", choices=STORAGE_ACTS)
    command.add_argument("--path", type=matching(DIRECTORY), required=True)
    command.add_argument("--token", type=matching(TOKEN), required=True)
    return top


def peer_part() -> Callable[[str], str]:
    """An argument type for three words in turn: a name, an address, a port."""
    patterns = [NAME, ADDRESS, PORT]
    given = []

    def check(text: str) -> str:
        given.append(text)
        return matching(patterns[(len(given) - 1) % 3])(text)

    return check


def whole_number(text: str) -> int:
    """An argument type: a number that is not negative."""
    if not text.isdigit():
        raise ValueError(text)
    return int(text)


def matching(pattern: re.Pattern[str]) -> Callable[[str], str]:
    """An argument type: text that fits the pattern from end to end."""

    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(text)
        return text

    return check


if __name__ == "__main__":
    sys.exit(main(sys.argv))
