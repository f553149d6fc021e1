"""Preparing a host: furlough-host, its hook and the name esxcli put in their places there.

One fixed command runs on the host, over whatever way is enrolled; the program comes on its standard
input. Doing it again changes only what is not as it should be.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress

import structlog

from furlough.drivers.libvirt.installing import PYTHON, script
from furlough.drivers.libvirt.program import HostProgram
from furlough.errors import Refused, Unreachable

log = structlog.get_logger()

_WITHIN_S = 60.0
# What ssh itself ends with when it does not get through.
_SSH_FAILED = 255


async def prepare(program: HostProgram) -> Sequence[str]:
    """Install on the host of this program; what was changed, in words. `Refused` where the host
    will not have it, `Unreachable` where nobody answers there."""
    process = await asyncio.create_subprocess_exec(
        *program.way(*PYTHON),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_WITHIN_S):
            output, complaint = await process.communicate(script().encode("ascii"))
    except TimeoutError as error:
        raise Unreachable(
            "guard.missing", f"{program.name} did not install furlough-host in {_WITHIN_S:.0f} s."
        ) from error
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    said = " ".join(complaint.decode("utf-8", "replace").split())[-500:]
    if process.returncode == _SSH_FAILED:
        raise Unreachable("guard.missing", f"{program.name} cannot be reached by ssh: {said}.")
    changed = _changed(output)
    if process.returncode != 0 or changed is None:
        raise _refusal(program, said)
    log.info("host prepared", host=program.name, changed=changed)
    return changed


def _changed(output: bytes) -> list[str] | None:
    """What the script says it has done; None where something else answered."""
    try:
        return [str(one) for one in json.loads(output)["changed"]]
    except (ValueError, KeyError, TypeError):
        return None


def _refusal(program: HostProgram, said: str) -> Refused:
    reason = said or "the login runs something else than what it is told"
    return Refused(
        "host.not_prepared",
        f"furlough-host could not be installed on {program.name}: {reason}.",
        remedy="Prepare it with a login that may run /usr/bin/python3 as root, or by hand: copy "
        "furlough_host.py there and run `python3 -IS furlough_host.py install`.",
    )
