"""Plans of live hosts, judged by the checker that shares no code with the planner."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest

from furlough.core.capacity import NOTHING, limit_of, load_of
from furlough.core.findings import Finding
from furlough.core.ids import HostName
from furlough.core.inventory import Host, Inventory, Vm
from furlough.core.link_speed import LinkSpeed
from furlough.core.plan import Plan
from furlough.core.policy import EnterOptions, Limits, Order, Reserve
from furlough.core.states import Power
from furlough.core.vm_policy import OnMaintenance, VmPolicy
from furlough.planning.assessment import Assessment
from furlough.planning.checking import Move, Terms, violations
from furlough.planning.inventory_export import write
from furlough.planning.inventory_file import read
from furlough.planning.planner import plan_enter
from furlough.prechecks.assessing import assess
from tests.core.builders import H1, a_cluster, a_host, a_vm, an_inventory

SEEDS = 120


def _some_cluster(random: Random) -> Inventory:
    """Up to seven hosts of two kinds, more or less full, with groups, wishes and a reserve."""
    hosts = [
        replace(
            a_host(
                HostName(f"h{n}"),
                memory_mib=random.choice([32_768, 65_536]),
                networks=random.choice([["lan"], ["lan", "dmz"]]),
                link_mbit_s=random.choice([1_000, 10_000]),
            )
        )
        for n in range(1, random.randint(3, 8))
    ]
    cluster = a_cluster(reserve=random.choice([Reserve.NONE, Reserve.N_PLUS_1]))
    limits = Limits(per_source=random.randint(1, 3), per_target=random.randint(1, 3), per_cluster=4)
    cluster = replace(cluster, policy=replace(cluster.policy, limits=limits))
    vms: list[Vm] = []
    for host in hosts:
        share = random.uniform(0.2, 0.9)
        vms += _crew(random, host, share, first=len(vms) + 1)
    return an_inventory(vms, hosts=hosts, clusters=[cluster])


def _crew(random: Random, host: Host, share: float, *, first: int) -> list[Vm]:
    """VMs that fill this share of a host, and keep the rules they have among each other."""
    room = limit_of(host, a_cluster().policy)
    taken = NOTHING
    found: list[Vm] = []
    apart: set[str] = set()
    while True:
        memory_mib = random.choice([1024, 2048, 4096, 8192])
        group = random.choice(["", "", "", "a", "b", "c"])
        vm = a_vm(
            first + len(found),
            host=host.name,
            memory_mib=memory_mib,
            vcpus=random.randint(1, 4),
            networks=["lan"],
            dirty_mib_s=random.choice([None, 0.0, 20.0, 90.0]),
            power=random.choice([Power.RUNNING, Power.RUNNING, Power.RUNNING, Power.SHUT_OFF]),
            policy=VmPolicy(
                ha=random.random() < 0.2,
                availability_priority=random.randint(0, 100),
                anti_affinity_group="" if group in apart else group,
                affinity_group=random.choice(["", "", "", f"{host.name}-pair"]),
                on_maintenance=random.choice(
                    [OnMaintenance.LIVE, OnMaintenance.LIVE, OnMaintenance.SHUT_DOWN]
                ),
            ),
        )
        more = taken + load_of(vm)
        if more.memory_mib > share * room.memory_mib or not more.fits_in(room):
            return found
        apart.add(group)
        taken = more
        found.append(vm)


def _broken(inventory: Inventory, plan: Plan, assessment: Assessment) -> list[str]:
    """What the checker has against a plan."""
    moves = [
        Move(
            vm=step.vm or "",
            source=step.source or "",
            target=step.targets[0],
            start_s=step.start_s,
            end_s=round(step.start_s + step.duration_s, 2),
        )
        for step in plan.migrations
    ]
    stopped = {one.vm for one in assessment.dispositions if one.is_power_change}
    codes = {one.code for report in assessment.reports for one in report.findings}
    limits = inventory.clusters[0].policy.limits
    terms = Terms(
        leaving=frozenset(plan.hosts),
        staying=frozenset(one.vm for one in plan.unplaced),
        per_source=limits.per_source,
        per_target=limits.per_target,
        per_cluster=limits.per_cluster,
        keeps_reserve="cluster.no_reserve" not in codes,
    )
    # Who is stopped is off afterwards, and holds no group together or apart.
    vms = [replace(vm, power=Power.SHUT_OFF) if vm.id in stopped else vm for vm in inventory.vms]
    return violations(read(write(replace(inventory, vms=vms))), moves, terms)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_live_plan_breaks_no_limit_no_rule_and_no_reserve_at_any_instant(seed: int) -> None:
    random = Random(seed)
    inventory = _some_cluster(random)
    leaving = [host.name for host in inventory.hosts[: random.randint(1, 2)]]
    assessment = assess(inventory, leaving, EnterOptions())
    order = random.choice([Order.SCHEDULE, Order.MEMORY])
    plan = plan_enter(inventory, leaving, assessment, order)
    assert _broken(inventory, plan, assessment) == []
    others = {step.vm for step in plan.migrations if step.source not in leaving}
    assert others == set(assessment.placement.makers), "only who has to leave or makes room moves"
    told = [one.subject for one in _findings(assessment) if one.code == "vm.makes_room"]
    assert len(told) >= len(others), "and whoever makes room is told"
    assert all(any(f"({vm})" in subject for subject in told) for vm in others)


def _crumbled_cluster(random: Random) -> Inventory:
    """One or two large VMs on h1; each other host has small ones, and less room than those take."""
    large_mib, small_mib = 6144, 1024
    hosts = [a_host(HostName(f"h{n}"), memory_mib=16_384) for n in range(1, random.randint(5, 8))]
    limits = Limits(per_source=random.randint(1, 3), per_target=random.randint(1, 3), per_cluster=4)
    cluster = a_cluster()
    cluster = replace(cluster, policy=replace(cluster.policy, limits=limits))
    vms = [a_vm(n, memory_mib=large_mib) for n in range(1, random.randint(2, 3))]
    for host in hosts[1:]:
        room_mib = limit_of(host, cluster.policy).memory_mib - random.randint(3000, large_mib - 1)
        vms += [
            a_vm(
                len(vms) + 1 + n,
                host=host.name,
                memory_mib=small_mib,
                policy=VmPolicy(anti_affinity_group=random.choice(["", "", "", f"g{n}"])),
            )
            for n in range(room_mib // small_mib + 1)
        ]
    return an_inventory(vms, hosts=hosts, clusters=[cluster])


def test_in_crumbled_clusters_others_make_room_and_nothing_is_broken() -> None:
    made, seeds = 0, 60
    for seed in range(seeds):
        inventory = _crumbled_cluster(Random(f"crumbled/{seed}"))
        assessment = assess(inventory, [H1], EnterOptions())
        plan = plan_enter(inventory, [H1], assessment, Order.SCHEDULE)
        assert _broken(inventory, plan, assessment) == [], seed
        assert _is_in_order(plan)
        made += bool(assessment.placement.makers)
    assert made > seeds / 2


def _is_in_order(plan: Plan) -> bool:
    """Whether nobody starts for a place before it is free."""
    ends = {step.number: step.start_s + step.duration_s for step in plan.migrations}
    return all(
        step.start_s >= round(ends[one] - 0.01, 2) for step in plan.migrations for one in step.after
    )


def _findings(assessment: Assessment) -> Iterator[Finding]:
    return (one for report in assessment.reports for one in report.findings)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_was_measured_meanwhile_changes_no_decision(seed: int) -> None:
    """Else a plan that was approved by its hash would not be made again a second later."""
    random = Random(seed)
    inventory = _some_cluster(random)
    leaving = [host.name for host in inventory.hosts[: random.randint(1, 2)]]
    later = replace(
        inventory,
        vms=[
            replace(
                vm,
                memory_used_mib=random.randint(1, vm.memory_mib),
                dirty_mib_s=random.choice([None, 0.0, random.uniform(0, 500)]),
                working_set_mib=random.choice([None, random.randint(1, vm.memory_mib)]),
            )
            for vm in inventory.vms
        ],
        link_speeds={
            (one.name, other.name): LinkSpeed(
                source=one.name, target=other.name, mib_s=random.uniform(10, 1000), alone_s=9.0,
                migrations=3, at=inventory.taken_at,
            )
            for one in inventory.hosts for other in inventory.hosts if one is not other
        },
    )  # fmt: skip
    now, then = (
        plan_enter(one, leaving, assess(one, leaving, EnterOptions())) for one in (inventory, later)
    )
    assert now.hash == then.hash


def test_these_clusters_are_worth_a_plan() -> None:
    """Otherwise the story above could not fail."""
    moved = left = groups = 0
    for seed in range(SEEDS):
        inventory = _some_cluster(Random(seed))
        assessment = assess(inventory, [inventory.hosts[0].name], EnterOptions())
        moved += len(assessment.placement.targets)
        left += bool(assessment.placement.refusals)
        groups += any(vm.policy.anti_affinity_group for vm in inventory.vms)
    assert moved > 4 * SEEDS
    assert left > SEEDS // 20
    assert groups > SEEDS // 2
