"""The birth of a host: new namespaces, its own view of the file system, `tini` as PID 1.

A program of its own, because a process with threads must not fork and unshare:

    python3 -IS birth.py SPECIFICATION.json

prints the PID, as the root namespace counts, of the host's first process and leaves it
running. Standard library only. `Specification` in namespaces.py says what it reads:

    hostname   name in the UTS namespace
    fresh      mount points that get an empty tmpfs, in this order
    regrown    directories that get a tmpfs into which everything there is bound again,
               so that mount points may be added without touching the real directory
    binds      pairs (what, where); a missing `where` is created if it lies in one of the above
    links      pairs (what, where): symbolic links
"""

import ctypes
import json
import os
import socket
import stat
import sys
from pathlib import Path
from typing import Any

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 0x80000
MNT_DETACH = 2

LIBC = ctypes.CDLL(None, use_errno=True)


def main() -> int:
    """Be born: the parent prints the child's pid once the child has become `tini`."""
    specification = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    flags = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET
    checked(LIBC.unshare(flags), "unshare")
    ours, theirs = os.pipe()  # closed by exec: end of file means born
    pid = os.fork()
    if pid == 0:
        live(specification, theirs)
    os.close(theirs)
    with os.fdopen(ours, encoding="utf-8") as complaint:
        text = complaint.read()
    if text:
        os.waitpid(pid, 0)
        sys.stderr.write(text + "\n")
        return 1
    sys.stdout.write(f"{pid}\n")
    return 0


def live(specification: dict[str, Any], complaint: int) -> None:
    """Become PID 1 of the new host; on failure tell the parent why and end."""
    try:
        os.setsid()
        socket.sethostname(specification["hostname"])
        furnish(specification)
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        os.chdir("/")
        os.execv("/usr/bin/tini", ["tini", "--", "sleep", "infinity"])  # noqa: S606
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent must hear of it
        os.write(complaint, (str(error) or repr(error)).encode())
    finally:
        os._exit(1)


def furnish(specification: dict[str, Any]) -> None:
    """Give the new mount namespace its own /proc, /sys and private copies."""
    # Nothing of ours gets out. What the machine unmounts goes here too, or we would keep it busy.
    mount("none", "/", None, MS_REC | MS_SLAVE)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    # The old sysfs shows the interfaces of the old network namespace, and hides cgroups.
    checked(LIBC.umount2(b"/sys", MNT_DETACH), "umount /sys")
    mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    # Taken hold of before a tmpfs hides the place where they are.
    sources = [(grasp(what), where) for what, where in specification["binds"]]
    for place in specification["regrown"]:
        regrow(place)
    for place in specification["fresh"]:
        Path(place).mkdir(exist_ok=True)
        mount("tmpfs", place, "tmpfs", MS_NOSUID | MS_NODEV)
    for descriptor, where in sources:
        bind(descriptor, where)
    for what, where in specification["links"]:
        Path(where).symlink_to(what)


def regrow(place: str) -> None:
    """Put a tmpfs over a directory and bind every entry of it back into that."""
    entries = [(grasp(str(path)), path) for path in Path(place).iterdir()]
    mount("tmpfs", place, "tmpfs", MS_NOSUID | MS_NODEV)
    Path(place).chmod(0o755)  # A tmpfs is open to everybody.
    for descriptor, path in entries:
        if stat.S_ISLNK(os.fstat(descriptor).st_mode):
            path.symlink_to(os.readlink("", dir_fd=descriptor))
            os.close(descriptor)
        else:
            bind(descriptor, str(path))


def grasp(path: str) -> int:
    """A descriptor of a file or directory that stays good when the path is covered."""
    return os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)


def bind(descriptor: int, where: str) -> None:
    """Bind what a descriptor holds to a place, which is made if it is missing."""
    if not os.path.lexists(where):
        Path(where).parent.mkdir(parents=True, exist_ok=True)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            Path(where).mkdir()
        else:
            os.close(os.open(where, os.O_CREAT | os.O_WRONLY, 0o600))
    mount(f"/proc/self/fd/{descriptor}", where, None, MS_BIND | MS_REC)
    os.close(descriptor)


def mount(what: str, where: str, kind: str | None, flags: int) -> None:
    """mount(2)."""
    filesystem = kind.encode() if kind else None
    result = LIBC.mount(os.fsencode(what), os.fsencode(where), filesystem, flags, None)
    checked(result, f"mount {where}")


def checked(result: int, what: str) -> None:
    """Turn the -1 of a system call into an exception."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    sys.exit(main())
