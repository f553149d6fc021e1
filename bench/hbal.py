"""A peer: `hbal` of Debian's ganeti-htools, on the same cluster as we.

The cluster is written in the form of its text backend: hosts become nodes whose memory is what our
limits leave to VMs, so that both planners have the same room; VMs become instances without disks,
and anti-affinity becomes exclusion tags.
"""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from furlough.core.affinity import RuleKind
from furlough.planning.board import Board, IntArray

_GROUP = "fake-uuid-01"
_DISK_MIB = 1_000_000
# As `hspace --save` writes them for a cluster without limits on single instances.
_POLICY = "{owner}|1048576,1,1048576,16,8,12|0,1,0,0,1,1;1048576,128,1048576,16,8,1024|ext|4.0|64.0"
# Ganeti counts vCPUs against the processors times this.
_OVERCOMMIT = 4


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What hbal did: where each VM is at the end, its own score, and the CPU seconds it took."""

    seats: IntArray
    score: float
    cpu_s: float


def is_installed() -> bool:
    return shutil.which("hbal") is not None


def evacuate(board: Board, leaving: Collection[int], timeout_s: float = 600) -> Answer:
    """Have hbal move everybody off these hosts."""
    return _run(board, board.vms.hosts, leaving, ["--evac-mode"], timeout_s)


def score(board: Board, seats: IntArray, leaving: Collection[int]) -> float:
    """What hbal thinks of a placement, once these hosts are offline; the less the better."""
    return _run(board, seats, leaving, ["-l", "0"], 600).score


def _run(
    board: Board, seats: IntArray, leaving: Collection[int], more: Sequence[str], timeout_s: float
) -> Answer:
    with TemporaryDirectory() as folder:
        source, saved = Path(folder, "cluster"), Path(folder, "after")
        source.write_text(_text(board, seats), encoding="utf-8")
        offline = [word for host in leaving for word in ("-O", board.hosts.names[host])]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            ["hbal", "-t", source, "--ignore-dynu", "-v", *offline, *more, "-S", saved],  # noqa: S607
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode not in (0, 1):
            raise RuntimeError(f"hbal failed: {done.stderr or done.stdout}")
        kept = next(Path(folder).glob("after.balanced"), None)
        placed = seats if kept is None else _seats(board, kept.read_text(encoding="utf-8"))
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Answer(seats=placed, score=_score(done.stdout), cpu_s=cpu_s)


def _score(output: str) -> float:
    """The last score it names: that of the end."""
    found = re.findall(r"score(?: is now|:| improved from [\d.]+ to)? ?([\d.]+)", output)
    if not found:
        raise RuntimeError(f"hbal named no score: {output[-300:]}")
    return float(found[-1].rstrip("."))


def _text(board: Board, seats: IntArray) -> str:
    hosts, vms = board.hosts, board.vms
    count = len(hosts.names)
    taken = np.bincount(seats[vms.is_on], weights=vms.memory_mib[vms.is_on], minlength=count)
    tags: dict[int, list[str]] = {}
    for number, group in enumerate(board.groups):
        if group.kind is RuleKind.ANTI_AFFINITY:
            for vm in group.members:
                tags.setdefault(vm, []).append(f"apart:{number}")
    nodes = [
        f"{name}|{hosts.memory_mib[at]}|0|{hosts.memory_mib[at] - int(taken[at])}|{_DISK_MIB}|"
        f"{_DISK_MIB}|{max(1, hosts.vcpus[at] // _OVERCOMMIT)}|{'M' if at == 0 else 'N'}|{_GROUP}|"
        f"1||N|0|1|1.0"
        for at, name in enumerate(hosts.names)
    ]
    instances = [
        f"{vms.names[vm]}|{vms.memory_mib[vm]}|0|{vms.vcpus[vm]}|running|Y|"
        f"{hosts.names[seats[vm]]}||ext|{','.join(tags.get(vm, ()))}|1|0|N"
        for vm in np.flatnonzero(vms.is_on).tolist()
    ]
    policies = [_POLICY.format(owner=owner) for owner in ("", "group-01")]
    sections = [
        [f"group-01|{_GROUP}|preferred||"], nodes, instances, ["htools:iextags:apart"], policies
    ]  # fmt: skip
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _seats(board: Board, text: str) -> IntArray:
    places = {name: at for at, name in enumerate(board.hosts.names)}
    found = {}
    for line in text.split("\n\n")[2].splitlines():
        words = line.split("|")
        found[words[0]] = places[words[6]]
    return np.array(
        [
            found.get(name, int(at))
            for name, at in zip(board.vms.names, board.vms.hosts, strict=True)
        ]
    )
