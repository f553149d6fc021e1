"""Proofs of guards in the background: soon after they are needed, not all the time, and never in
the way of an operation."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import SimpleNamespace
from typing import cast

import pytest

from furlough.core.admission import Standing
from furlough.core.ids import HostName, OperationId
from furlough.core.states import HostMode
from furlough.engine.proving import GUARD_INTERVAL_S, GuardProofs
from furlough.errors import Unreachable
from furlough.ports import Clock, HostFacts, Hypervisor, Marker, Store
from furlough.sim.clock import VirtualClock, run_virtually

H1, H2, H3 = HostName("h1"), HostName("h2"), HostName("h3")
TROUBLE = "its hook was never tried"


def facts(host: HostName, at: datetime, **changes: object) -> HostFacts:
    """A host whose hook nobody has tried."""
    known = HostFacts(
        host=host, at=at, uuid="", cpus=1, memory_mib=1, cpu_models=frozenset(),
        networks=frozenset(), devices=frozenset(), vms=(), has_guard=True, marker=None,
        guard_trouble=TROUBLE,
    )  # fmt: skip
    return replace(known, **changes)  # type: ignore[arg-type]


@dataclass
class Stage:
    """Hosts that take two seconds for a trial, and note who was asked when."""

    clock: Clock
    hosts: dict[HostName, HostFacts]
    owners: dict[HostName, OperationId | None]
    silent: set[HostName] = field(default_factory=set)
    asked: list[tuple[HostName, float]] = field(default_factory=list)

    async def prove_guard(self, host: HostName) -> str:
        self.asked.append((host, self.clock.monotonic()))
        await self.clock.sleep(2.0)
        if host in self.silent:
            raise Unreachable("guard.missing", "nobody answers")
        self.hosts[host] = replace(self.hosts[host], guard_trouble="")
        return ""

    async def standings(self) -> Mapping[HostName, Standing]:
        return {
            host: cast("Standing", SimpleNamespace(mode=HostMode.AVAILABLE, operation=operation))
            for host, operation in self.owners.items()
        }

    def proofs(self) -> GuardProofs:
        return GuardProofs(
            cast("Hypervisor", self), cast("Store", self), self.clock, self.hosts.values
        )


def staged(hosts: Sequence[HostName] = (H1,)) -> Stage:
    clock = VirtualClock()
    return Stage(
        clock=clock,
        hosts={host: facts(host, clock.now()) for host in hosts},
        owners=dict.fromkeys(hosts),
    )


def test_every_hook_that_nobody_has_seen_refuse_is_tried_side_by_side() -> None:
    async def tell() -> None:
        stage = staged([H1, H2, H3])
        stage.hosts[H2] = replace(stage.hosts[H2], guard_trouble="")
        began = stage.clock.monotonic()
        assert await stage.proofs().attempt() == [H1, H3]
        assert stage.asked == [(H1, began), (H3, began)]
        assert stage.clock.monotonic() - began == pytest.approx(2.0)

    run_virtually(tell())


def test_a_host_that_was_proven_is_left_alone() -> None:
    async def tell() -> None:
        stage = staged()
        proofs = stage.proofs()
        assert await proofs.attempt() == [H1]
        assert await proofs.attempt() == []

    run_virtually(tell())


def test_a_trial_that_failed_is_repeated_a_minute_later() -> None:
    async def tell() -> None:
        stage = staged()
        stage.silent.add(H1)
        proofs = stage.proofs()
        began = stage.clock.monotonic()
        while len(stage.asked) < 3:
            await proofs.attempt()
            await stage.clock.sleep(5.0)
        times = [at - began for _host, at in stage.asked]
        assert times[0] == 0
        assert GUARD_INTERVAL_S <= times[1] - times[0] <= GUARD_INTERVAL_S + 7.0
        assert GUARD_INTERVAL_S <= times[2] - times[1] <= GUARD_INTERVAL_S + 7.0

    run_virtually(tell())


def test_a_host_without_furlough_host_has_nobody_to_ask() -> None:
    async def tell() -> None:
        stage = staged()
        stage.hosts[H1] = replace(stage.hosts[H1], has_guard=False)
        assert await stage.proofs().attempt() == []

    run_virtually(tell())


def test_no_vm_is_started_for_a_trial_while_an_operation_works_on_the_host() -> None:
    async def tell() -> None:
        stage = staged()
        stage.owners[H1] = OperationId("op-1")
        assert await stage.proofs().attempt() == []
        # With its marker there only the refusal is tried.
        marker = Marker(operation=OperationId("op-1"), epoch=1, controller="c")
        stage.hosts[H1] = replace(stage.hosts[H1], marker=marker)
        assert await stage.proofs().attempt() == [H1]

    run_virtually(tell())


def test_one_host_that_hangs_keeps_nobody_else_waiting() -> None:
    async def tell() -> None:
        stage = staged([H1, H2])
        stage.silent.add(H1)
        async with asyncio.timeout(10):
            assert await stage.proofs().attempt() == [H1, H2]
        assert stage.hosts[H2].guard_trouble == ""
        assert stage.hosts[H1].guard_trouble == TROUBLE

    run_virtually(tell())
