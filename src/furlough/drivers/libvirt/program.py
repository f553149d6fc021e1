"""furlough-host, from our side: one call, one JSON document, a deadline.

It is run in a lab host's namespaces or on this very machine. Arguments are a vector, never a
shell's; every one is of a fixed alphabet, and the program checks them again.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from furlough.core.enrolment import EnrolledHost, Program
from furlough.core.ids import OperationId, parse_operation_id, parse_vm_id
from furlough.errors import Invalid, Refused, Unreachable
from furlough.ports import Marker

PATH = "/usr/local/sbin/furlough-host"
LABS = Path("/run/furlough-lab")
_PYTHON = ("/usr/bin/python3", "-IS", PATH)
_WITHIN_S = 15.0
_REFUSED = 3
_SAFE = re.compile(r"[A-Za-z0-9._:-]+|--[a-z-]+")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the process list of a host shows: (pid, UUID, name) per VM process, and what is being
    provisioned, in words."""

    machines: tuple[tuple[int, str | None, str], ...]
    provisioning: tuple[str, ...]


class HostProgram:
    """furlough-host on one host."""

    def __init__(self, host: EnrolledHost) -> None:
        self._host = host

    @property
    def is_enrolled(self) -> bool:
        return self._host.program is not Program.NONE

    async def status(self) -> Mapping[str, Any]:
        """Marker, epoch, hook, clock, interfaces."""
        status: Mapping[str, Any] = await self._run("status")
        return status

    async def processes(self) -> Answer:
        """VM processes and provisioning, by the process list."""
        found = await self._run("processes")
        return Answer(
            machines=tuple((one["pid"], one["uuid"], one["name"]) for one in found["processes"]),
            provisioning=tuple(f"{one['kind']}: {one['what']}" for one in found["provisioning"]),
        )

    async def raise_marker(self, marker: Marker) -> None:
        """Durable when it returns."""
        admit = [word for vm in marker.admit for word in ("--admit", vm)]
        await self._run("raise", *_owner(marker), *admit)

    async def lower_marker(self, marker: Marker) -> None:
        """Gone when it returns."""
        await self._run("lower", *_owner(marker))

    async def _run(self, *words: str) -> Any:
        """Run one verb. `Unreachable` where it does not answer, `Refused` where it refuses."""
        for word in words:
            if not _SAFE.fullmatch(word):
                raise Invalid("program.argument", f"{word!r} is no argument for furlough-host.")
        process = await asyncio.create_subprocess_exec(
            *self._way(),
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(_WITHIN_S):
                output, complaint = await process.communicate()
        except TimeoutError as error:
            process.kill()
            raise self._silence(f"no answer within {_WITHIN_S:.0f} s") from error
        if process.returncode == 0:
            return json.loads(output)
        raise self._trouble(process.returncode, complaint.decode(errors="replace").strip())

    def _way(self) -> Sequence[str]:
        """The command that runs furlough-host there."""
        if self._host.program is Program.LOCAL:
            return _PYTHON
        if self._host.program is Program.NAMESPACE:
            lab, name = self._host.namespace.split("/")
            try:
                pid = int((LABS / lab / name / "init.pid").read_text(encoding="ascii"))
            except (OSError, ValueError) as error:
                raise self._silence("its namespaces are gone") from error
            return ("nsenter", "--target", str(pid), "--all", "--", *_PYTHON)
        raise self._silence("no way to it is enrolled")

    def _trouble(self, status: int | None, complaint: str) -> Refused | Unreachable:
        try:
            message = json.loads(complaint)["message"]
        except (ValueError, KeyError, TypeError):
            message = complaint[-200:] or f"exit status {status}"
        if status == _REFUSED:
            return Refused("guard.refused", f"furlough-host on {self._host.name}: {message}.")
        return self._silence(message)

    def _silence(self, why: str) -> Unreachable:
        return Unreachable(
            "guard.missing", f"furlough-host on {self._host.name} does not answer: {why}."
        )


def marker_of(found: Mapping[str, Any] | None) -> Marker | None:
    """The marker in a status."""
    if found is None:
        return None
    return Marker(
        operation=_operation(found["operation"]),
        epoch=found["epoch"],
        controller=found["controller"],
        admit=tuple(parse_vm_id(vm) for vm in found.get("admit") or ()),
    )


def _operation(text: str) -> OperationId:
    """Whatever a marker says: it may be another controller's."""
    try:
        return parse_operation_id(text)
    except Invalid:
        return OperationId(text)


def _owner(marker: Marker) -> tuple[str, ...]:
    return (
        "--operation", marker.operation,
        "--epoch", str(marker.epoch),
        "--controller", marker.controller,
    )  # fmt: skip
