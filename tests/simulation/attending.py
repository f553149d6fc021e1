"""The people of a seeded run: they ask until there is an answer, and answer what waits for them.

Most of what an operation waits for, somebody decides sooner or later: approves, moves VMs by hand,
says go on, or cancels in the end. What only a look at the machines could decide is left waiting.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random

from furlough.core.ids import HostName, OperationId
from furlough.core.operation import Operation
from furlough.core.policy import ActionOptions, CancelMode
from furlough.core.states import OperationState
from furlough.errors import FurloughError, Stale, Unreachable
from furlough.scenario.stage import Stage
from furlough.service import Approval, Request
from tests.simulation.asking import FOR_A_PERSON

_ASK_WITHIN_S, _ASKS = 30.0, 20
# What may be over soon: a host that was silent when it was asked.
_AGAIN = frozenset({"host.silent", "cluster.host_silent"})
_ROUND_S = 7.0
# What somebody here decides; of everything else for a person only that it is told is asked.
_DECIDED = frozenset(
    {"awaiting_approval", "awaiting_empty", "vm.cannot_leave", "vm.leave", "vm.no_target"}
)
_MOST_ANSWERS = 4


class Attendant:
    """People who ask and answer."""

    def __init__(self, stage: Stage, random: Random) -> None:
        self._stage = stage
        self._random = random
        self._answers: Counter[OperationId] = Counter()

    def awaits(self, operation: Operation) -> bool:
        """Whether it still has to end: it does not wait for a person, or one is there for it."""
        asks = operation.waiting_for is not None and operation.code in FOR_A_PERSON
        return not asks or operation.code in _DECIDED

    async def asked(self, ask: Callable[[], Awaitable[Operation]]) -> OperationId | None:
        """Ask as a client does: again, with the same key, until there is an answer."""
        stage = self._stage
        for _ in range(_ASKS):
            try:
                async with asyncio.timeout(_ASK_WITHIN_S):
                    return (await ask()).id
            except (TimeoutError, Unreachable, Stale):
                await stage.clock.sleep(2)
            except FurloughError as error:
                if not _AGAIN & _codes(error) or "cluster.host_away" in _codes(error):
                    return None
                await stage.clock.sleep(5)
            if stage.process.died.is_set():
                await stage.revive()
        return None

    async def attend(self) -> None:
        """Go round for ever, and answer who waits."""
        while True:
            await self._stage.clock.sleep(_ROUND_S)
            for operation in list(self._stage.invariants.operations.values()):
                if not operation.is_final:
                    await self._decide(operation)

    async def _decide(self, operation: Operation) -> None:
        which, random = operation.id, self._random
        is_paused = operation.state is OperationState.PAUSED
        if not is_paused and (operation.waiting_for is None or operation.code not in _DECIDED):
            return
        self._answers[which] += 1
        if self._answers[which] > _MOST_ANSWERS:
            mode = random.choice(list(CancelMode))
            await self.asked(lambda: self._stage.service.cancel(which, mode, "client"))
        elif is_paused:
            await self.asked(lambda: self._stage.service.resume(which, "client"))
        elif operation.code == "awaiting_approval":
            await self.asked(lambda: self._stage.service.approve(which, Approval(), "client"))
        elif operation.code == "awaiting_empty":
            for host in operation.hosts:
                await self._empty(host)
        elif random.random() < 0.5:
            await self.asked(lambda: self._stage.service.resume(which, "client"))

    async def _empty(self, host: HostName) -> None:
        """Move by hand who runs there."""
        machine = self._stage.cluster.hosts[host]
        for vm in sorted(one for one, copy in machine.copies.items() if copy.has_process):
            await self.asked(
                lambda vm=vm: self._stage.service.migrate(  # type: ignore[misc]
                    vm, ActionOptions(timeout_s=600), Request(by="client")
                )
            )


def _codes(error: FurloughError) -> set[str]:
    """Its code, and those of the findings that it tells."""
    findings = error.facts.get("findings", ())
    told = findings if isinstance(findings, list | tuple) else ()
    return {error.code, *(finding.code for finding in told)}
