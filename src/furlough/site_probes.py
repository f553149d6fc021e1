"""The site's own probe commands: whether storage is under repair, whether a VM has a backup.

    storage   no arguments                exit 0: fine, 1: under repair, the first line says what
    backup    the VM's UUID and its name  exit 0: fine, 1: none that is recent

Anything else that a command does is no verdict, which is told. Commands are run as they are
written in the settings, without a shell, by the user that runs the daemon.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from furlough.core.inventory import Vm
from furlough.prechecks.cases import subject_of

_WITHIN_S = 20.0
_AT_ONCE = 4
_LONGEST_LINE = 300
_MOST_READ = 1 << 16

Words = tuple[str, str, str]


@dataclass(frozen=True, kw_only=True)
class _Verdict:
    """How a command ended: its exit status, its first line, or why there is neither."""

    status: int | None
    line: str


class Commands:
    """Runs these commands, each a list of words; an empty one is none."""

    def __init__(
        self, storage: Sequence[str], backup: Sequence[str], within_s: float = _WITHIN_S
    ) -> None:
        self._storage = tuple(storage)
        self._backup = tuple(backup)
        self._within_s = within_s

    async def ask(self, vms: Sequence[Vm]) -> Sequence[Words]:
        """Findings (code, subject, message) about the site's storage and about these VMs."""
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def in_turn(vm: Vm) -> list[Words]:
            async with at_once:
                return await self._ask_backup(vm)

        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(self._ask_storage())] if self._storage else []
            if self._backup:
                asked += [tasks.create_task(in_turn(vm)) for vm in vms]
        return [found for task in asked for found in task.result()]

    async def _ask_storage(self) -> list[Words]:
        verdict = await _run(self._storage, self._within_s)
        if verdict.status == 0:
            return []
        if verdict.status == 1:
            what = verdict.line or "the site's storage probe says so"
            return [("cluster.storage_repair", "site", f"Storage repair at the site: {what}.")]
        return [_failed(self._storage, "site", "the site", verdict)]

    async def _ask_backup(self, vm: Vm) -> list[Words]:
        verdict = await _run((*self._backup, vm.id, vm.name), self._within_s)
        if verdict.status == 0:
            return []
        if verdict.status == 1:
            more = f": {verdict.line}" if verdict.line else ""
            return [("vm.no_backup", subject_of(vm), f"VM {vm.name} has no recent backup{more}.")]
        return [_failed(self._backup, subject_of(vm), vm.name, verdict)]


def _failed(command: Sequence[str], subject: str, name: str, verdict: _Verdict) -> Words:
    how = verdict.line if verdict.status is None else f"it ended with status {verdict.status}"
    if verdict.status is not None and verdict.line:
        how = f"{how}: {verdict.line}"
    return ("probe.failed", subject, f"Probe {command[0]} gave no verdict about {name}: {how}.")


async def _run(command: Sequence[str], within_s: float) -> _Verdict:
    """Run a command to its end, or to the deadline, after which it is killed."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return _Verdict(status=None, line=f"it cannot be run: {error}")
    try:
        async with asyncio.timeout(within_s):
            first = await _read(process.stdout)
            status = await process.wait()
    except TimeoutError:
        return _Verdict(status=None, line=f"it gave no answer within {within_s:g} s")
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    lines = first.decode(errors="replace").splitlines()
    line = "".join(one for one in (lines or [""])[0] if one.isprintable())
    return _Verdict(status=status, line=line[:_LONGEST_LINE].strip().rstrip("."))


async def _read(stream: asyncio.StreamReader | None) -> bytes:
    """The beginning of what it says; the rest is read too, so that it does not wait for us."""
    first = b""
    while stream is not None and (chunk := await stream.read(_MOST_READ)):
        first = (first + chunk)[:_MOST_READ]
    return first
