"""Prechecks of the VMs on a host that is to be entered: what they do now, what ties them to it,
where they could go, what their policies say.

A VM whose policy says `leave` is not touched, so only that is said of it. What keeps a VM from
moving live is a blocker, unless its policy or the operator has something else done with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from furlough.core.affinity import RuleKind
from furlough.core.findings import Finding, Severity, finding
from furlough.core.inventory import Agent, Host, Inventory, Vm
from furlough.core.plan import Handover, Method
from furlough.core.states import Power
from furlough.core.vm_policy import OnMaintenance
from furlough.planning.candidates import arriving
from furlough.planning.causes import Cause
from furlough.planning.compatibility import Obstacle
from furlough.planning.handover import handover_of, unproven
from furlough.prechecks.cases import Case, reasons, subject_of

# When every target is refused for one and the same cause, the finding says which.
_CODE_OF_CAUSE = {
    Cause.CPU: "vm.cpu",
    Cause.MACHINE: "vm.machine",
    Cause.DISK: "vm.disk",
    Cause.NETWORK: "vm.network",
    Cause.HUGE_PAGES: "vm.huge_pages",
    Cause.NUMA: "vm.numa",
    Cause.DUPLICATE: "vm.duplicate",
    Cause.RULE: "vm.rule",
    Cause.ROOM: "vm.no_room",
}
_INSTEAD = {
    Method.SHUT_DOWN: "it will be shut down",
    Method.SUSPEND: "it will be suspended",
    Method.COLD: "it will be moved cold",
}
# Distributions keep firmware below it, the same on every host of one kind.
_MOST_HELPERS = 4
_DISTRIBUTION = "/usr/share/"


# --- what it does now -------------------------------------------------------------------------


def _check_paused(case: Case) -> Iterator[Finding]:
    for vm in case.live_movers:
        if vm.power is Power.PAUSED:
            yield _of(vm, "vm.paused", "is paused; it will move and stay paused")


def _check_busy(case: Case) -> Iterator[Finding]:
    for vm in case.touched:
        if vm.busy_with:
            yield _of(vm, "vm.busy", f"is busy: {vm.busy_with} is under way")


def _check_arriving(case: Case) -> Iterator[Finding]:
    for vm in arriving(case.inventory, case.host.name):
        yield _of(
            vm,
            "vm.arriving",
            f"is being migrated to {case.host.name}; it is sent on once it is there",
        )


def _check_two_copies(case: Case) -> Iterator[Finding]:
    for vm in case.movers:
        active = [copy.host for copy in case.inventory.running_copies_of(vm.id)]
        if len(active) > 1:
            yield _of(vm, "vm.two_copies", f"is active on {' and '.join(sorted(active))} at once")


def _check_agents(case: Case) -> Iterator[Finding]:
    is_strict = "vm.agent" in case.options.strict
    for vm in case.live_movers:
        if (vm.policy.needs_agent or is_strict) and vm.agent is not Agent.CONNECTED:
            what = "does not answer" if vm.agent is Agent.SILENT else "has no channel"
            yield _of(vm, "vm.agent", f"must not move without its guest agent, which {what}")


def _check_definitions_elsewhere(case: Case) -> Iterator[Finding]:
    targets = {host.name for host in case.targets}
    for vm in case.live_movers:
        for copy in case.inventory.copies_of(vm.id):
            if copy.host in targets and not copy.is_active:
                yield _of(
                    vm, "vm.definition_elsewhere", f"is defined on {copy.host} too, shut off there"
                )


# --- what ties it to its host -----------------------------------------------------------------


def _check_ties(case: Case) -> Iterator[Finding]:
    for vm in case.touched:
        for tie in case.ties[vm.id]:
            yield _obstructed(case, vm, tie.code, tie.words)


def _check_baggage(case: Case) -> Iterator[Finding]:
    """What travels with it, or does not quite."""
    for vm in case.live_movers:
        for path in _uncertain_boot_files(vm, case):
            yield _of(vm, "vm.boot_file", f"boots from {path}, which its target may lack")
        if vm.checkpoints:
            yield _of(vm, "vm.checkpoint", f"would lose {vm.checkpoints} checkpoint(s)")
        if vm.has_cpu_pins:
            yield _of(vm, "vm.cpu_pins", "has CPUs pinned to processors of its host")
        if vm.has_tpm:
            yield _of(vm, "vm.tpm", "has a TPM, which travels with it")
        if vm.has_nvram:
            yield _of(vm, "vm.nvram", "has UEFI variables, which travel with it")


def _uncertain_boot_files(vm: Vm, case: Case) -> Iterator[str]:
    ranked = case.placement.targets.get(vm.id)
    target = case.inventory.host(ranked[0]) if ranked else None
    for path in vm.boot_files:
        if not (path.startswith(_DISTRIBUTION) or _reaches(target, path, case.inventory)):
            yield path


def _reaches(host: Host | None, path: str, inventory: Inventory) -> bool:
    """Whether a path lies in a directory that a host mounts as a datastore."""
    stores = [inventory.datastore(name).path for name in (host.datastores if host else ())]
    return any(path.startswith(f"{store.rstrip('/')}/") for store in stores if store)


def _check_handover(case: Case) -> Iterator[Finding]:
    for vm in case.live_movers:
        if handover_of(vm, case.inventory) is Handover.HELD:
            yield _of(
                vm, "vm.held_handover", f"goes by held handover: {unproven(vm, case.inventory)}"
            )


# --- where it could go ------------------------------------------------------------------------


def _check_targets(case: Case) -> Iterator[Finding]:
    for vm in case.touched:
        against = case.refusals.get(vm.id)
        if against is not None:
            code = _code_for(against.values())
            found = _obstructed(case, vm, code, f"fits on no host: {reasons(against)}")
            advice = _making_room(case) if vm.id in case.placement.helped else ""
            yield replace(found, remedy=f"{found.remedy}{advice}")
    yield from _makers(case)
    for rule, vms in case.placement.broken.items():
        for vm in case.live_movers:
            if vm.id in vms:
                target = case.placement.targets[vm.id][0]
                yield _of(vm, "vm.rule_gave", f"goes to {target}, where {rule} is not held")


def _makers(case: Case) -> Iterator[Finding]:
    """Those of hosts that stay who move first, since somebody of this host goes where they are."""
    targets = case.placement.targets
    for which, (target, *_) in case.placement.makers.items():
        vm = case.inventory.vm(which)
        comers = [one.name for one in case.live_movers if targets[one.id][:1] == (vm.host,)]
        if comers:
            words = f"goes from {vm.host} to {target}, and stays there, to make room for"
            yield _of(vm, "vm.makes_room", f"{words} {', '.join(sorted(comers))}")


def _check_crossing(case: Case) -> Iterator[Finding]:
    """Who leaves its cluster, where to, and why it cannot stay."""
    resting = [one.vm for one in case.resting.values() if one.targets]
    for vm in (*case.touched, *resting):
        targets = case.placement.targets.get(vm.id, ())
        there = [case.inventory.host(name).cluster for name in targets[:1]]
        if there and there[0] != case.host.cluster:
            against = case.placement.crossing.get(vm.id)
            why = reasons(against) if against is not None else "none could start it"
            yield _of(
                vm,
                "vm.crosses",
                f"moves to {targets[0]} of cluster {there[0]}, since no host of cluster "
                f"{case.host.cluster} takes it: {why}",
            )


def _making_room(case: Case) -> str:
    """Which VMs of hosts that stay would have to move for more to fit, where the plan does not move
    them."""
    moves = [
        f"furlough vm migrate {vm} --to {host} ({case.inventory.vm(vm).name})"
        for vm, host in case.placement.helpers.items()
        if case.inventory.host(host).cluster == case.host.cluster
    ]
    if not moves or len(moves) > _MOST_HELPERS:
        return ""
    return f" Others could make room; then check again: {'; '.join(moves)}."


def _code_for(against: Iterable[Sequence[Obstacle]]) -> str:
    """The code of the one cause that all hosts share, or the general one."""
    shared: set[Cause] | None = None
    for found in against:
        causes = {obstacle.cause for obstacle in found}
        shared = causes if shared is None else shared & causes
    for cause, code in _CODE_OF_CAUSE.items():
        if shared and cause in shared:
            return code
    return "vm.no_target"


# --- what its policy and its group say --------------------------------------------------------


def _check_policies(case: Case) -> Iterator[Finding]:
    for vm in case.movers:
        for trouble in vm.policy_troubles:
            yield _of(vm, "vm.policy", f"has a policy that makes no sense: {trouble.rstrip('.')}")


def _check_wishes(case: Case) -> Iterator[Finding]:
    for vm in case.movers:
        method, is_named = case.method_of(vm), vm.id in case.options.shut_down
        if method is Method.LEAVE:
            yield _of(vm, "vm.leave", "is not to be touched, so the host cannot become empty")
        elif vm.policy.on_maintenance is OnMaintenance.ASK and not is_named:
            yield _of(vm, "vm.ask", "is not to be touched before somebody has decided")
        if method is Method.COLD:
            target = case.placement.targets[vm.id][0]
            yield _of(vm, "vm.cold", f"will be shut down, moved to {target}, and started there")
        if method in _INSTEAD and vm.policy.ha:
            yield _of(vm, "vm.ha_shut_down", f"is marked ha, and {_INSTEAD[method]}")


def _check_resting(case: Case) -> Iterator[Finding]:
    """Those that are off and stay all the same, where all have to leave."""
    for one in case.resting.values():
        if one.stays_because:
            where = f"is powered off and stays on {case.host.name}"
            yield _of(one.vm, "vm.off_stays", f"{where}: {one.stays_because}")


def _check_groups(case: Case) -> Iterator[Finding]:
    for vm in case.touched:
        for bond in case.bonds.of(vm.id, RuleKind.AFFINITY):
            mates = [case.inventory.vm(one) for one in sorted(bond.members - {vm.id})]
            if not mates:
                continue
            names = ", ".join(f"{mate.name} on {mate.host}" for mate in mates)
            yield _of(vm, "vm.group", f"belongs to {bond.name} with {names}")
            if case.method_of(vm) is Method.LIVE:
                yield from _of_busy_mates(vm, bond.name, mates)
                if bond.is_hard:
                    yield from _of_left_mates(case, vm, bond.name, mates)


def _of_busy_mates(vm: Vm, group: str, mates: Iterable[Vm]) -> Iterator[Finding]:
    for mate in mates:
        if mate.busy_with or mate.is_arriving:
            what = mate.busy_with or "a migration"
            yield _of(
                vm, "vm.group_busy", f"belongs to {group}: {what} is under way in {mate.name}"
            )


def _of_left_mates(case: Case, vm: Vm, group: str, mates: Iterable[Vm]) -> Iterator[Finding]:
    for mate in mates:
        if mate.host == vm.host and case.method_of(mate) is Method.LEAVE:
            yield _of(vm, "vm.group_split", f"belongs to {group}, and {mate.name} stays behind")


# --- words ------------------------------------------------------------------------------------


def _of(vm: Vm, code: str, words: str) -> Finding:
    return finding(code, subject_of(vm), f"VM {vm.name} {words}.")


def _obstructed(case: Case, vm: Vm, code: str, words: str) -> Finding:
    """A finding that keeps a VM from moving live, with what is done instead."""
    choice = case.choices[vm.id]
    instead = _INSTEAD.get(choice.method) if choice.method else None
    if instead is not None:
        message = f"VM {vm.name} {words}; {instead}."
        return finding(code, subject_of(vm), message, severity=Severity.INFO)
    if choice.trouble:
        return _of(vm, code, f"{words}; nor can its policy be followed: {choice.trouble}")
    return _of(vm, code, words)


VM_PRECHECKS: tuple[Callable[[Case], Iterable[Finding]], ...] = (
    _check_ties,
    _check_paused,
    _check_busy,
    _check_arriving,
    _check_two_copies,
    _check_agents,
    _check_targets,
    _check_crossing,
    _check_definitions_elsewhere,
    _check_baggage,
    _check_handover,
    _check_policies,
    _check_wishes,
    _check_resting,
    _check_groups,
)
