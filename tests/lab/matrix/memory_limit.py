"""Letting one process run out of memory: a cgroup of its own with next to none left."""

from __future__ import annotations

from pathlib import Path

from furlough.lab.processes import Process

ROOT = Path("/sys/fs/cgroup")
LEFT_BYTES = 256 * 1024


def starve(process: Process) -> None:
    """Whatever this process takes from now on is too much, and the kernel kills it for that. What
    it has already is counted where it was. Needs the right to make cgroups."""
    place, limit = _home()
    group = place / f"furlough-starved-{process.pid}"
    group.mkdir()
    (group / limit).write_text(str(LEFT_BYTES))
    (group / "cgroup.procs").write_text(str(process.pid))


def bury() -> None:
    """Remove the cgroups of those that have died."""
    place, _ = _home()
    for group in place.glob("furlough-starved-*"):
        if not (group / "cgroup.procs").read_text().strip():
            group.rmdir()


def _home() -> tuple[Path, str]:
    """Where cgroups that limit memory can be made, and what the limit is called there."""
    if (ROOT / "memory").is_dir():
        return ROOT / "memory", "memory.limit_in_bytes"
    if "memory" in (ROOT / "cgroup.subtree_control").read_text():
        return ROOT, "memory.max"
    raise AssertionError("no cgroup here can limit memory: the controller is not enabled")
