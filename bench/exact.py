"""A peer: CP-SAT of OR-tools, on models that share nothing with our planner but the board.

`least_tension` bounds from below what any placement of the VMs that leave can reach; `least_extra`
tells whether hosts can be emptied at all, and how many others have to move for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from furlough.core.affinity import RuleKind
from furlough.planning.board import FREE, Board

_GIB = 1024
_SCALE = 10**12


@dataclass(frozen=True, kw_only=True)
class Exact:
    """`can`: whether a placement exists, None if that was not settled in time; `value`: the bound
    or the number of others that have to move."""

    can: bool | None
    value: float


def is_installed() -> bool:
    return find_spec("ortools") is not None


def least_tension(board: Board, leaving: Sequence[int], limit_s: float = 10.0) -> float:
    """A lower bound on the sum over the hosts that stay and over memory and vCPUs of weight ·
    used² / size, where only the VMs of the hosts that leave move. Memory counts in whole GiB,
    weights are rounded down: the bound is below the truth, never above."""
    from ortools.sat.python import cp_model  # noqa: PLC0415

    model = cp_model.CpModel()
    targets = _targets(board, leaving)
    movers = _movers(board, leaving)
    places = {
        vm: {host: model.new_bool_var("") for host in targets if board.row(vm)[host] == FREE}
        for vm in movers
    }
    for vm in movers:
        model.add_exactly_one(places[vm].values())
    _keep_apart(model, board, places)
    terms = []
    for limits, column, weight, unit in (
        (board.hosts.memory_mib, board.vms.memory_mib, 1.0, _GIB),
        (board.hosts.vcpus, board.vms.vcpus, 0.5, 1),
    ):
        total = float(limits[targets].sum())
        for host in targets:
            base = int(column[(board.vms.hosts == host) & board.vms.is_on].sum()) // unit
            here = [int(column[vm]) // unit * places[vm][host] for vm in movers
                    if host in places[vm]]  # fmt: skip
            used = model.new_int_var(base, int(limits[host]) // unit, "")
            model.add(used == base + sum(here))
            square = model.new_int_var(0, (int(limits[host]) // unit) ** 2, "")
            model.add_multiplication_equality(square, [used, used])
            terms.append(int(weight * unit * unit / limits[host] / total * _SCALE) * square)
    model.minimize(sum(terms))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 2
    # Counted by the solver, not by a clock: on a busy machine it gives up no sooner.
    solver.parameters.max_deterministic_time = limit_s
    solver.solve(model)
    return float(solver.best_objective_bound) / _SCALE


def least_extra(board: Board, leaving: Sequence[int], limit_s: float = 30.0) -> Exact:
    """Whether these hosts can be emptied if any VM may move, and how many others have to, as far as
    that is proved: what was merely found in time would flatter whoever is compared with it."""
    from ortools.sat.python import cp_model  # noqa: PLC0415

    model = cp_model.CpModel()
    targets = _targets(board, leaving)
    movers = set(_movers(board, leaving))
    vms: list[int] = np.flatnonzero(board.vms.is_on).tolist()
    places = {
        vm: {host: model.new_bool_var("") for host in targets if board.row(vm)[host] == FREE}
        for vm in vms
    }
    for vm in vms:
        model.add_exactly_one(places[vm].values())
    for limits, column in (
        (board.hosts.memory_mib, board.vms.memory_mib),
        (board.hosts.vcpus, board.vms.vcpus),
    ):
        for host in targets:
            here = [int(column[vm]) * places[vm][host] for vm in vms if host in places[vm]]
            model.add(sum(here) <= int(limits[host]))
    _keep_apart(model, board, places)
    homes = board.vms.hosts.tolist()
    stays = [places[vm][homes[vm]] for vm in vms if vm not in movers and homes[vm] in places[vm]]
    model.minimize(len(vms) - len(movers) - sum(stays))
    for vm in vms:
        for host, place in places[vm].items():
            model.add_hint(place, host == homes[vm])
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 2
    # Counted by the solver, not by a clock: on a busy machine it gives up no sooner.
    solver.parameters.max_deterministic_time = limit_s
    status = solver.solve(model)
    if status == cp_model.INFEASIBLE:
        return Exact(can=False, value=0.0)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return Exact(can=None, value=0.0)
    return Exact(can=True, value=float(np.ceil(solver.best_objective_bound - 1e-6)))


def _targets(board: Board, leaving: Sequence[int]) -> list[int]:
    return [at for at in np.flatnonzero(board.hosts.is_open).tolist() if at not in set(leaving)]


def _movers(board: Board, leaving: Sequence[int]) -> list[int]:
    on_them = np.isin(board.vms.hosts, list(leaving)) & board.vms.is_on
    return [int(vm) for vm in np.flatnonzero(on_them)]


def _keep_apart(model, board: Board, places) -> None:  # type: ignore[no-untyped-def]
    """Hard anti-affinity; who is not searched keeps its host from its mates."""
    for group in board.groups:
        if group.kind is not RuleKind.ANTI_AFFINITY:
            continue
        for host in {host for vm in group.members for host in places.get(vm, {})}:
            fixed = [vm for vm in group.members if vm not in places]
            is_taken = any(int(board.vms.hosts[vm]) == host for vm in fixed)
            here = [places[vm][host] for vm in group.members if host in places.get(vm, {})]
            model.add(sum(here) <= int(not is_taken))
