"""Which processes belong to a lab, and ending them without ever hitting a stranger.

A process belongs to a lab because the lab's mark is in its environment, or because it lives
in the PID namespace of one of its hosts. Both are read from the process itself, so nothing
recorded can be out of date. A signal goes through a pidfd taken before the last look, so a
recycled pid is never hit.
"""

import contextlib
import os
import select
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from furlough.lab.command import MARK

PROC = Path("/proc")


@dataclass(frozen=True, kw_only=True)
class Process:
    """One process: its pid and the clock tick it started at, which no other one shares."""

    pid: int
    started: int

    @staticmethod
    def of(pid: int) -> "Process | None":
        """The process that has this pid now; None for no process and for a zombie."""
        try:
            fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else Process(pid=pid, started=int(fields[19]))

    @property
    def name(self) -> str:
        """Its short name, empty if it is gone."""
        try:
            return (PROC / str(self.pid) / "comm").read_text().strip()
        except OSError:
            return ""

    @property
    def is_stopped(self) -> bool:
        """Frozen by SIGSTOP."""
        try:
            stat = (PROC / str(self.pid) / "stat").read_text()
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] == "T"

    @property
    def cpu_seconds(self) -> float:
        """Processor time used so far."""
        try:
            fields = (PROC / str(self.pid) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def marked(mark: str) -> list[Process]:
    """All processes, ourselves excepted, that carry this lab's mark."""
    return [process for process in everything() if carries(process.pid, mark)]


def in_namespace_of(first: Process) -> list[Process]:
    """All processes of the PID namespace whose first process this is, itself included."""
    place = pid_namespace(first.pid)
    return [process for process in everything() if place and pid_namespace(process.pid) == place]


def everything() -> Iterator[Process]:
    """Every process of the machine but this one."""
    for entry in PROC.iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            process = Process.of(int(entry.name))
            if process is not None:
                yield process


def carries(pid: int, mark: str) -> bool:
    """Whether a process was started with this lab's mark."""
    try:
        words = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return f"{MARK}={mark}".encode() in words


def pid_namespace(pid: int) -> str:
    """The PID namespace of a process, as the kernel names it; empty if it is gone."""
    try:
        return str((PROC / str(pid) / "ns" / "pid").readlink())
    except OSError:
        return ""


def send(process: Process, number: signal.Signals) -> None:
    """Signal this very process; one that is gone needs no signal."""
    with held(process) as descriptor:
        if descriptor is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, number)


def end(processes: Iterable[Process], number: signal.Signals, *, timeout_s: float) -> bool:
    """Signal these processes and wait for their end; False if one outlives the timeout."""
    with contextlib.ExitStack() as stack:
        descriptors = [stack.enter_context(held(process)) for process in processes]
        alive = [descriptor for descriptor in descriptors if descriptor is not None]
        for descriptor in alive:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, number)
        return all(has_ended(descriptor, timeout_s) for descriptor in alive)


def has_ended(descriptor: int, timeout_s: float) -> bool:
    """Wait until the process behind a pidfd has ended."""
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return bool(waiting.poll(timeout_s * 1000))


@contextlib.contextmanager
def held(process: Process) -> Iterator[int | None]:
    """A pidfd of this very process, or None if it is gone."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        yield None
        return
    try:
        # The pid may have been given to another process before we took hold of it.
        yield descriptor if Process.of(process.pid) == process else None
    finally:
        os.close(descriptor)


def kill_all(find: Callable[[], list[Process]], *, timeout_s: float = 10) -> bool:
    """Kill what `find` finds, and what those started meanwhile; False if one does not die."""
    for _ in range(5):
        found = find()
        if not found:
            return True
        if not end(found, signal.SIGKILL, timeout_s=timeout_s):
            return False
    return not find()
