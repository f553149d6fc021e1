"""furlough-host, from our side: one session per host, one line per request, a deadline each.

A session saves the start of a process for every look, which would lengthen the pause of every
held handover. It runs behind ssh, in a lab host's namespaces or on this very machine. Requests are
vectors of words, never a shell's; every word is of a fixed alphabet, and the program checks it
again. What ssh runs over there is one of two fixed lines without any data in them.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from furlough.core.encryption import TlsMeans
from furlough.core.enrolment import EnrolledHost, Program, check_host
from furlough.core.ids import HostName, OperationId, VmId, parse_operation_id, parse_vm_id
from furlough.drivers.libvirt import errors
from furlough.errors import Invalid, Refused, Unreachable
from furlough.ports import Marker

PATH = "/usr/local/sbin/furlough-host"
LABS = Path("/run/furlough-lab")
_SESSION = (PATH, "session")
_SSH = (
    "ssh", "-T", "-a", "-x",
    "-o", "BatchMode=yes",
    "-o", "ConnectTimeout=10",
    "-o", "ServerAliveInterval=5",
    "-o", "ServerAliveCountMax=3",
    "-o", "StrictHostKeyChecking=yes",
    "-o", "ClearAllForwardings=yes",
    "-o", "PermitLocalCommand=no",
    "-o", "LogLevel=ERROR",
)  # fmt: skip
_WITHIN_S = 15.0
_ACT_WITHIN_S = 60.0
# Each of up to five trials waits for a VM to start; one that hangs is given up after 50 s.
_PROVE_WITHIN_S = 180.0
_PROBE_WITHIN_S = 30.0
_END_WITHIN_S = 5.0
_FAILED, _REFUSED = 1, 3
_LONGEST_LINE = 8 << 20
_SAFE = re.compile(r"[A-Za-z0-9._:/ =-]+")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the process list of a host shows: (pid, UUID, name) per VM process, and what is being
    provisioned, in words."""

    machines: tuple[tuple[int, str | None, str], ...]
    provisioning: tuple[str, ...]


class _Failed(Unreachable):
    """It could not do what it was asked; `words` are its own."""

    def __init__(self, words: str, message: str) -> None:
        super().__init__("guard.missing", message)
        self.words = words


class HostProgram:
    """furlough-host on one host. `ssh_config`: a file that ssh reads instead of the user's own."""

    def __init__(self, host: EnrolledHost, ssh_config: Path | None = None) -> None:
        self._host = host
        self._ssh_config = ssh_config
        self._session: asyncio.subprocess.Process | None = None
        # Given up and perhaps not gone yet.
        self._leaving: list[asyncio.subprocess.Process] = []
        self._turn = asyncio.Lock()

    @property
    def is_enrolled(self) -> bool:
        return self._host.program is not Program.NONE

    @property
    def name(self) -> HostName:
        return self._host.name

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

    async def act(self, what: str, vm: VmId, epoch: int) -> None:
        """Resume, power off or undefine a VM there, unless this epoch was overtaken. Use a
        `HostProgram` of its own for it: a power-off may take long, and looks must not wait."""
        words = ("act", what, "--vm", vm, "--epoch", str(epoch))
        try:
            await self._run(*words, within_s=_ACT_WITHIN_S)
        except _Failed as error:
            raise errors.of_program(error.words, what=f"{what} of VM {vm}") from error

    async def vm_state(self, act: str, vm: VmId, *words: str) -> Mapping[str, Any]:
        """One act about what a VM that is off keeps there beside its definition."""
        try:
            found: Mapping[str, Any] = await self._run(
                "vm-state", act, "--vm", vm, *words, within_s=_ACT_WITHIN_S
            )
        except _Failed as error:
            raise errors.of_program(error.words, what=f"state of VM {vm}") from error
        return found

    async def on_storage(self, act: str, path: str, token: str) -> Mapping[str, bool]:
        """One act of a storage proof in a directory."""
        found: Mapping[str, bool] = await self._run(
            "storage", act, "--path", path, "--token", token
        )
        return found

    async def prove(self) -> str:
        """Have it try its hook; why the hook cannot be relied on, empty if it can."""
        return str((await self._run("prove", within_s=_PROVE_WITHIN_S))["proof"])

    async def probe(self, peers: Sequence[tuple[str, str, int]]) -> Mapping[str, Any]:
        """What it finds out about its host, and how that reaches these peers: (name, address,
        port) each."""
        words = [word for name, address, port in peers for word in (name, address, str(port))]
        asked = [
            word
            for place in range(0, len(words), 3)
            for word in ("--peer", *words[place : place + 3])
        ]
        found: Mapping[str, Any] = await self._run("probe", *asked, within_s=_PROBE_WITHIN_S)
        return found

    async def switch_power(self, what: str, marker: Marker) -> None:
        """`reboot` or `power-off` the machine, if this marker's controller keeps it empty."""
        await self._run(what, *_owner(marker))

    async def _run(self, *words: str, within_s: float = _WITHIN_S) -> Any:
        """Ask for one verb. `Unreachable` where nobody answers, `Refused` where it refuses."""
        for word in words:
            if not _SAFE.fullmatch(word):
                raise Invalid("program.argument", f"{word!r} is no argument for furlough-host.")
        async with self._turn:
            try:
                async with asyncio.timeout(within_s):
                    result = await self._ask(words)
            except TimeoutError as error:
                self.close()
                raise self._silence(f"no answer within {within_s:.0f} s") from error
            except (OSError, ValueError) as error:
                self.close()
                raise self._silence(f"its session broke ({error})") from error
            except asyncio.CancelledError:
                self.close()  # Else the next question would read the answer to this one.
                raise
        if "answer" in result:
            return result["answer"]
        words_of_it = f"furlough-host on {self._host.name}: {result.get('message')}."
        if result.get("status") == _REFUSED:
            raise Refused("guard.refused", words_of_it)
        if result.get("status") == _FAILED:
            raise _Failed(str(result.get("message")), words_of_it)
        raise Unreachable("guard.missing", words_of_it)

    async def _ask(self, words: Sequence[str]) -> dict[str, Any]:
        """One line there, one line back, in a session that is opened when it is needed."""
        if self._session is None or self._session.returncode is not None:
            self._session = await self._open()
        wanted, given = self._session.stdin, self._session.stdout
        if wanted is None or given is None:
            raise ConnectionError("no pipes")
        wanted.write(json.dumps(list(words)).encode() + b"\n")
        await wanted.drain()
        line = await given.readline()
        result = json.loads(line) if line else None
        if not isinstance(result, dict):
            raise ConnectionError("it ended")
        return result

    async def _open(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self.way(*_SESSION),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=_LONGEST_LINE,
        )

    def close(self) -> None:
        """Give the session up; the next request opens a new one. What can be killed may be only the
        way to it; the program itself ends with its input."""
        session, self._session = self._session, None
        if session is not None and session.stdin is not None:
            session.stdin.close()
            with suppress(ProcessLookupError):
                session.kill()
            self._leaving = [one for one in self._leaving if one.returncode is None] + [session]

    async def end(self) -> None:
        """End the session and wait until nothing of it, or of one given up before, is left; a
        request under way fails."""
        self.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_END_WITHIN_S), self._turn:
                for session in self._leaving:
                    await session.communicate()

    def way(self, *command: str) -> Sequence[str]:
        """The command line that runs this fixed command on the host."""
        if self._host.program is Program.LOCAL:
            return command
        if self._host.program is Program.SSH:
            host = check_host(self._host)
            config = () if self._ssh_config is None else ("-F", str(self._ssh_config))
            # ssh hands the words to a shell over there: they are ours, and none needs quoting.
            return (*_SSH, *config, "-l", host.user, "--", host.address, " ".join(command))
        if self._host.program is Program.NAMESPACE:
            lab, name = self._host.namespace.split("/")
            try:
                pid = int((LABS / lab / name / "init.pid").read_text(encoding="ascii"))
            except (OSError, ValueError) as error:
                raise self._silence("its namespaces are gone") from error
            return ("nsenter", "--target", str(pid), "--all", "--", *command)
        raise self._silence("no way to it is enrolled")

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
        raised_at=str(found.get("raised_at") or ""),
    )


def tls_means_of(status: Mapping[str, Any] | None) -> TlsMeans:
    """What a status says of the certificates for migrations. What is unknown counts as missing."""
    if status is None:
        return TlsMeans(trouble="furlough-host does not answer, so its certificates are unknown")
    found = status.get("migration_tls")
    if found is None:
        return TlsMeans(trouble="its furlough-host is too old to look at certificates")
    return TlsMeans(
        trouble=str(found["trouble"]), authorities=frozenset(map(str, found["authorities"]))
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
