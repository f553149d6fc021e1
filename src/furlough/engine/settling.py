"""Settling: looking at both hosts until it is certain how a migration ended.

What the looks mean is decided by `core.settlement.rule`; here is only the waiting, the repeated
looking and the carrying out of the one act that a ruling may ask for. An act that fails is no
news: the next look tells.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import structlog

from furlough.core.ids import HostName, VmId
from furlough.core.looks import Look
from furlough.core.operation import Act, Evidence
from furlough.core.settlement import Conclusion, Patience, Ruling, Trail, rule
from furlough.errors import FurloughError
from furlough.ports import Clock, Hypervisor

log = structlog.get_logger()

# The first looks follow one another quickly: mostly the very first one settles it.
_PAUSES_S = (0.05, 0.1, 0.2, 0.5)
_PAUSE_S = 1.0
# How long a wait stays unmentioned, and when even a harmless one is worth a person's look.
_QUIET_S = 10.0
_LONG_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Dispute:
    """Which VM, between which hosts, under which epoch."""

    vm: VmId
    source: HostName
    target: HostName
    epoch: int


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What is certain now, with both looks; `resumed_at` (monotonic) if we started its CPUs."""

    ruling: Ruling
    source: Look
    target: Look
    resumed_at: float | None = None

    @property
    def conclusion(self) -> Conclusion:
        return self.ruling.conclusion

    @property
    def evidence(self) -> Evidence:
        return Evidence(looks=(self.source, self.target), meaning=self.ruling.meaning)


@dataclass(frozen=True, kw_only=True)
class Voice:
    """How a settling speaks: `announce` makes an act durable before it is carried out; `wait`
    says what is being waited for (code and words; without a code: for nobody any more); `recover`
    lets a post-copy go on whose link broke, and says why it does not."""

    announce: Callable[[Act, HostName, str], Awaitable[None]]
    wait: Callable[[str, str], Awaitable[None]]
    recover: Callable[[], Awaitable[str]]


class Settler:
    """Settles disputes. `window_s`: how long an answer must stay the same before it counts where
    the hypervisor may still change its mind (its keepalive time and 5 s)."""

    def __init__(self, hypervisor: Hypervisor, clock: Clock, window_s: float = 35.0) -> None:
        self._hypervisor = hypervisor
        self._clock = clock
        self._window_s = window_s

    async def settle(self, dispute: Dispute, trail: Trail, voice: Voice) -> Settled:
        """Returns when it is certain; while a person or a silent host is needed, it waits."""
        steadiness = _Steadiness(self._clock)
        resumed_at: float | None = None
        failures = 0
        while True:
            source, target = await self._look(dispute)
            steadiness.note(source, target)
            ruling = rule(source, target, trail)
            if not steadiness.satisfies(ruling, self._window_s):
                await self._clock.sleep(steadiness.pause_s)
                continue
            if ruling.act is None or failures < _TELL_AFTER:
                await voice.wait(steadiness.code_of(ruling), ruling.meaning)
            if ruling.act is not None:
                if ruling.act not in trail.acts:
                    await voice.announce(ruling.act, _host_of(ruling.act, dispute), ruling.meaning)
                    trail = replace(trail, acts=trail.acts | {ruling.act})
                steadiness.restart()
                if ruling.act is Act.RECOVER_POST_COPY:
                    # Over a link that is still silent the call may hang for minutes.
                    await voice.wait(ruling.code, ruling.meaning)
                    trouble = await voice.recover()
                else:
                    trouble = await self._carry_out(ruling.act, dispute, target)
                if not trouble:
                    failures = 0
                    if ruling.act is Act.RESUME_TARGET:
                        resumed_at = self._clock.monotonic()
                    continue
                failures += 1
                await _complain(ruling, failures, trouble, voice)
            elif ruling.conclusion not in _GOES_ON:
                return Settled(ruling=ruling, source=source, target=target, resumed_at=resumed_at)
            await self._clock.sleep(steadiness.pause_s)

    async def _look(self, dispute: Dispute) -> tuple[Look, Look]:
        source, target = await asyncio.gather(
            self._hypervisor.look(dispute.source, dispute.vm),
            self._hypervisor.look(dispute.target, dispute.vm),
        )
        return source, target

    async def _carry_out(self, act: Act, dispute: Dispute, target: Look) -> str:
        """Why the hypervisor says that it is not done, empty if it is. The next look tells all the
        same."""
        host, vm, epoch = _host_of(act, dispute), dispute.vm, dispute.epoch
        try:
            if act in (Act.RESUME_TARGET, Act.RESUME_SOURCE):
                await self._hypervisor.resume(host, vm, epoch)
            elif act is Act.SUSPEND_SOURCE:
                await self._hypervisor.suspend(host, vm)
            elif act is Act.POWER_OFF_SOURCE:
                await self._hypervisor.power_off(host, vm, epoch)
            elif act is Act.REMOVE_TARGET:
                if target.is_here:
                    await self._hypervisor.power_off(host, vm, epoch)
                if target.is_persistent:
                    await self._hypervisor.undefine(host, vm, epoch)
        except FurloughError as error:
            log.warning("act of settling failed", vm=vm, act=act.value, because=error.message)
            return error.message
        return ""


async def _complain(ruling: Ruling, failures: int, trouble: str, voice: Voice) -> None:
    """An act may fail for a moment; after some times in a row somebody has to know."""
    if ruling.act is not None and failures >= _TELL_AFTER:
        what = ruling.act.value.replace("_", " ")
        await voice.wait(ruling.code or "migration.act_failed", f"{what} fails: {trouble}")


def _host_of(act: Act, dispute: Dispute) -> HostName:
    return dispute.target if act in _ON_TARGET else dispute.source


_TELL_AFTER = 3
_WAITING = frozenset({Conclusion.WAIT, Conclusion.ASK})
_GOES_ON = _WAITING | {Conclusion.FOLLOW}
_ON_TARGET = frozenset({Act.RESUME_TARGET, Act.REMOVE_TARGET})


class _Steadiness:
    """For how long, and how often, two hosts have been saying the same."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.restart()

    def restart(self) -> None:
        """What was seen no longer counts: we have just changed it."""
        self._said: tuple[object, ...] | None = None
        self._since = self._clock.monotonic()
        self._times = 0
        self._looks = 0

    def note(self, source: Look, target: Look) -> None:
        said = (source.facts, target.facts)
        self._looks += 1
        if said != self._said:
            self._said, self._since, self._times = said, self._clock.monotonic(), 0
        self._times += 1

    def satisfies(self, ruling: Ruling, window_s: float) -> bool:
        if ruling.patience is Patience.NONE:
            return True
        if ruling.patience is Patience.TWICE:
            return self._times >= 2
        return self._times >= 2 and self._clock.monotonic() - self._since >= window_s

    def code_of(self, ruling: Ruling) -> str:
        """What a person should be told it waits for; nothing for the first moments."""
        waited_s = self._clock.monotonic() - self._since
        if ruling.conclusion not in _WAITING or waited_s < _QUIET_S:
            return ""
        return ruling.code or ("migration.unsettled" if waited_s >= _LONG_S else "")

    @property
    def pause_s(self) -> float:
        """How long to wait before the next look."""
        return _PAUSES_S[self._looks - 1] if self._looks <= len(_PAUSES_S) else _PAUSE_S
