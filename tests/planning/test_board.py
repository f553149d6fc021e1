"""Stories of the board: what becomes of an inventory when it is turned into columns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from furlough.core.affinity import Rule, RuleKind
from furlough.core.capacity import Reservation
from furlough.core.ids import HostName
from furlough.core.policy import Reserve
from furlough.core.states import HostMode, Power, Reachability
from furlough.core.vm_policy import OnMaintenance, VmPolicy
from furlough.errors import NotFound
from furlough.planning.board import CODE_OF, ELSEWHERE, FREE, Board
from furlough.planning.causes import Cause
from furlough.planning.live_board import board_of_live
from tests.core import builders
from tests.core.builders import C1, C2, H1, H2, H3, OPERATION
from tests.planning.boards import GIB, a_board, at, host, vm


def against(board: Board, name: str, on: str) -> Cause | None:
    """What stands against a VM on a host; None if nothing does."""
    code = int(board.row(at(board, name))[board.places([on])[0]])
    assert code != ELSEWHERE
    return None if code == FREE else next(cause for cause, one in CODE_OF.items() if one == code)


def test_limits_follow_reserve_ceiling_and_overcommit() -> None:
    hosts = [host("h1", gib=100, reserved_memory_mib=20 * GIB, cpus=10)]

    board = a_board(hosts, [], memory_ceiling=0.9, vcpu_overcommit=3.0)

    assert board.hosts.memory_mib.tolist() == [int(80 * GIB * 0.9)]
    assert board.hosts.vcpus.tolist() == [30]


def test_a_reserve_larger_than_the_memory_leaves_nothing() -> None:
    board = a_board([host("h1", gib=4, reserved_memory_mib=8 * GIB)], [])

    assert board.hosts.memory_mib.tolist() == [0]


@pytest.mark.parametrize(
    ("special", "cause"),
    [
        ({"cpu_models": ["Haswell"]}, Cause.CPU),
        ({"networks": ["dmz"]}, Cause.NETWORK),
        ({"datastores": []}, Cause.DISK),
        ({"mode": "cordoned"}, Cause.MODE),
        ({"mode": "maintenance"}, Cause.MODE),
    ],
)
def test_a_host_that_lacks_something_says_what(special: dict[str, Any], cause: Cause) -> None:
    board = a_board([host("h1"), host("h2", **special), host("h3")], [vm("a", "h1")])

    assert against(board, "a", "h2") is cause
    assert against(board, "a", "h3") is None


def test_devices_and_host_affinity_pin_a_vm() -> None:
    hosts = [host("h1", devices=["gpu"]), host("h2", devices=["gpu"]), host("h3")]
    vms = [vm("a", "h1", devices=["gpu"]), vm("b", "h1", host_affinity=["h1", "h3"])]

    board = a_board(hosts, vms)

    assert [against(board, "a", name) for name in ("h2", "h3")] == [None, Cause.DEVICE]
    assert [against(board, "b", name) for name in ("h2", "h3")] == [Cause.RULE, None]


def test_host_passthrough_needs_an_equal_list_of_cpu_models() -> None:
    hosts = [
        host("h1", cpu_models=["A", "B"]),
        host("h2", cpu_models=["B", "A"]),
        host("h3", cpu_models=["A", "B", "C"]),
    ]

    board = a_board(hosts, [vm("a", "h1", cpu_model="host-passthrough")])

    assert against(board, "a", "h2") is None
    assert against(board, "a", "h3") is Cause.CPU


def test_a_local_disk_fits_on_no_other_host() -> None:
    disks = [{"datastore": "san", "shared": False}]

    board = a_board([host("h1"), host("h2")], [vm("a", "h1", disks=disks)])

    assert against(board, "a", "h2") is Cause.DISK


def test_another_cluster_is_no_obstacle_but_out_of_the_question() -> None:
    board = a_board([host("h1"), host("h2", cluster="c2")], [vm("a", "h1")])

    assert board.row(0).tolist() == [FREE, ELSEWHERE]


def test_equal_vms_share_one_row() -> None:
    board = a_board([host("h1"), host("h2")], [vm("a", "h1"), vm("b", "h2"), vm("c", "h1")])

    assert board.row(0) is board.row(2)
    assert len(set(board.vms.kinds.tolist())) == 1


def test_groups_are_of_one_cluster_and_of_vms_that_are_on() -> None:
    vms = [
        vm("a", "h1", anti_affinity_groups=["web"], affinity_groups=["alone"]),
        vm("b", "h1", anti_affinity_groups=["web"]),
        vm("c", "h1", anti_affinity_groups=["web"], power="shut_off"),
        vm("d", "h9", anti_affinity_groups=["web"]),
    ]

    board = a_board([host("h1"), host("h9", cluster="c2")], vms)

    assert [(group.name, group.members) for group in board.groups] == [
        ("anti-affinity group web", (0, 1))
    ]


def test_who_is_off_asleep_or_to_be_left_does_not_move() -> None:
    vms = [
        vm("a", "h1"),
        vm("b", "h1", power="shut_off"),
        vm("c", "h1", power="suspended"),
        vm("d", "h1", on_maintenance="leave"),
        vm("e", "h1", power="paused"),
    ]

    board = a_board([host("h1")], vms)

    assert board.vms.may_move.tolist() == [True, False, False, False, True]
    assert board.vms.is_on.tolist() == [True, False, True, True, True]


def test_an_unknown_host_is_named() -> None:
    board = a_board([host("h1")], [])

    with pytest.raises(NotFound, match="'h7'"):
        board.places(["h1", "h7"])


# --- live facts ----------------------------------------------------------------------------------


def test_live_facts_give_the_same_columns_as_a_file() -> None:
    vms = [
        builders.a_vm(
            1, host=H1, memory_mib=2048, policy=VmPolicy(ha=True, availability_priority=70)
        ),
        builders.a_vm(2, host=H2, power=Power.SHUT_OFF),
    ]
    inventory = builders.an_inventory(vms)

    board = board_of_live(inventory, C1)

    assert board.hosts.names == (H1, H2, H3)
    assert board.vms.memory_mib[0] == 2048
    assert board.vms.is_on.tolist() == [True, False]
    assert board.vms.may_move.tolist() == [True, False]
    assert (board.vms.ha.tolist(), board.vms.priority.tolist()) == ([True, False], [70, 50])
    assert board.row(0).tolist() == [FREE, FREE, FREE]


def test_live_rows_say_what_prechecks_would_say() -> None:
    hosts = [
        builders.a_host(H1),
        builders.a_host(H2, cpu_models=frozenset({"Haswell"})),
        replace(builders.a_host(H3), reachability=Reachability.SILENT),
    ]
    board = board_of_live(builders.an_inventory([builders.a_vm(1, host=H1)], hosts=hosts), C1)

    assert against(board, board.vms.names[0], H2) is Cause.CPU
    assert against(board, board.vms.names[0], H3) is Cause.SILENT
    assert board.hosts.is_open.tolist() == [True, True, False]


def test_after_a_failure_only_what_lies_in_the_machines_counts() -> None:
    hosts = [
        builders.a_host(H1),
        builders.a_host(H2),
        replace(builders.a_host(H3), mode=HostMode.CORDONED),
    ]
    # A twin of the name keeps it from moving to h2 now; if h1 is lost it may start there.
    vms = [
        builders.a_vm(1, host=H1),
        replace(builders.a_vm(2, host=H2), name=builders.a_vm(1, host=H1).name),
    ]

    board = board_of_live(builders.an_inventory(vms, hosts=hosts), C1)

    assert board.row(0)[1] == CODE_OF[Cause.DUPLICATE]
    assert board.failover_row(0).tolist() == [FREE, FREE, FREE]
    assert board.hosts.is_open.tolist() == [True, True, False]


def test_live_vms_of_one_kind_are_of_one_class_unless_a_host_said_something() -> None:
    vms = [builders.a_vm(1, host=H1), builders.a_vm(2, host=H2), builders.a_vm(3, host=H1)]
    inventory = replace(builders.an_inventory(vms), misfits={(H2, vms[2].id): "no avx"})

    board = board_of_live(inventory, C1)

    assert board.vms.classes.tolist() == [0, 0, 1]
    assert board.row(2)[1] == CODE_OF[Cause.CPU]


def test_places_held_by_others_are_taken() -> None:
    held = Reservation(
        operation=OPERATION, vm=builders.vm_id(9), host=H2, load=builders.load(4096, 2)
    )

    board = board_of_live(builders.an_inventory([builders.a_vm(1, host=H1)]), C1, [held])

    assert board.hosts.held_memory_mib.tolist() == [0, 4096, 0]
    assert board.hosts.held_vcpus.tolist() == [0, 2, 0]


def test_rules_of_a_cluster_become_rows_and_groups() -> None:
    vms = [builders.a_vm(number, host=H1) for number in (1, 2)]
    both = tuple(one.id for one in vms)
    rules = (
        Rule(name="licence", kind=RuleKind.HOST_AFFINITY, vms=both[:1], hosts=(H3,)),
        Rule(name="ssd", kind=RuleKind.HOST_AFFINITY, vms=both[:1], hosts=(H2,), is_hard=False),
        Rule(name="pair", kind=RuleKind.ANTI_AFFINITY, vms=both),
    )
    cluster = replace(builders.a_cluster(reserve=Reserve.N_PLUS_1), rules=rules)

    board = board_of_live(replace(builders.an_inventory(vms), clusters=[cluster]), C1)

    assert against(board, board.vms.names[0], H2) is Cause.RULE
    assert against(board, board.vms.names[0], H3) is None
    assert [(one.name, one.is_hard, one.members) for one in board.groups] == [
        ("rule pair", True, (0, 1)),
        ("rule ssd", False, (0,)),
    ]
    assert board.groups[1].hosts == {1}
    assert board.keeps_reserve.tolist() == [True]


def test_live_vms_that_are_busy_tied_or_to_be_left_do_not_move() -> None:
    policy = VmPolicy(on_maintenance=OnMaintenance.LEAVE)
    vms = [
        replace(builders.a_vm(1, host=H1), busy_with="a backup"),
        replace(builders.a_vm(2, host=H1), devices=("pci-0",)),
        builders.a_vm(3, host=H1, policy=policy),
        replace(builders.a_vm(4, host=H1), memory_used_mib=100),
    ]

    board = board_of_live(builders.an_inventory(vms), C1)

    assert board.vms.may_move.tolist() == [False, False, False, True]
    assert board.vms.sends_mib[3] == vms[3].memory_mib, "what was measured decides nothing"
    assert np.all(board.vms.sends_mib[:3] == board.vms.memory_mib[:3])


def test_a_live_board_knows_the_hosts_and_vms_of_its_cluster_alone() -> None:
    hosts = [builders.a_host(H1), builders.a_host(HostName("x1"), cluster=C2)]
    inventory = replace(
        builders.an_inventory([builders.a_vm(1, host=H1)], hosts=hosts),
        clusters=[builders.a_cluster(C1), builders.a_cluster(C2)],
    )

    assert board_of_live(inventory, C1).hosts.names == (H1,)
    assert board_of_live(inventory, C2).vms.uuids == []
