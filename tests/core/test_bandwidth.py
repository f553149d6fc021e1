"""Who has the links: nobody gets more than there is, the first one gets all it can use."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from furlough.core.bandwidth import (
    NO_LIMIT,
    STREAM_MIB_S,
    TRICKLE_MIB_S,
    Flow,
    connections,
    is_near_its_end,
    outlook,
    speeds,
    stream_mib_s,
)
from furlough.core.ids import HostName, VmId
from furlough.core.timing import SET_UP_S
from tests.core.builders import H1, H2, H3, repeatable

LINKS = {H1: 100.0, H2: 100.0, H3: 100.0}
WIDE = {H1: 2800.0, H2: 2800.0, H3: 2800.0}


def flow(number: int, source: HostName = H1, target: HostName = H2, **traits: object) -> Flow:
    """The n-th migration."""
    return Flow(vm=VmId(f"vm{number}"), source=source, target=target, **traits)  # type: ignore[arg-type]


def told(flows: list[Flow], links: dict[HostName, float]) -> list[int]:
    """What each may send, in their order."""
    found = speeds(flows, links)
    return [found[one.vm] for one in flows]


def test_the_first_has_no_limit_and_the_next_a_trickle() -> None:
    assert told([flow(1), flow(2), flow(3, target=H3)], LINKS) == [
        NO_LIMIT,
        TRICKLE_MIB_S,
        TRICKLE_MIB_S,
    ]


def test_who_shares_no_link_with_anybody_has_no_limit() -> None:
    assert told([flow(1), flow(2, source=H2, target=H3)], LINKS) == [NO_LIMIT, NO_LIMIT]


def test_two_that_go_to_the_same_host_share_its_link() -> None:
    assert told([flow(1), flow(2, source=H3)], LINKS) == [NO_LIMIT, TRICKLE_MIB_S]


def test_the_next_one_is_let_go_when_the_cpus_of_the_first_have_stopped() -> None:
    assert told([flow(1, is_past=True), flow(2), flow(3)], LINKS) == [
        NO_LIMIT,
        NO_LIMIT,
        TRICKLE_MIB_S,
    ]


def test_as_many_lead_as_fill_a_wide_link_and_the_next_gets_what_is_left() -> None:
    assert told([flow(n) for n in range(1, 5)], WIDE) == [
        NO_LIMIT,
        NO_LIMIT,
        int(2800 - 2 * STREAM_MIB_S),
        TRICKLE_MIB_S,
    ]


def has_use(one: Flow, flows: list[Flow], links: dict[HostName, float] = LINKS) -> bool:
    """Whether one more would copy beside these when its turn comes."""
    return outlook(flows, links, SET_UP_S).has_use_for(one)


def test_one_more_is_of_use_until_links_are_full() -> None:
    for links, most in ((LINKS, 1), (WIDE, 3)):
        flows: list[Flow] = []
        while has_use(flow(len(flows)), flows, links):
            flows.append(flow(len(flows)))
        assert len(flows) == most
        over = [replace(one, is_past=True) for one in flows]
        assert has_use(flow(9), over, links)


def test_the_next_one_is_of_use_when_its_turn_is_near() -> None:
    assert not has_use(flow(2), [flow(1, left_mib=500.0)])
    assert has_use(flow(2), [flow(1, left_mib=100.0)])


def test_behind_one_that_is_nearly_through_one_is_set_up_or_several_that_are_small() -> None:
    nearly = flow(1, left_mib=50.0)
    assert not has_use(flow(3), [nearly, flow(2, left_mib=500.0)])
    assert has_use(flow(3), [nearly, flow(2, left_mib=30.0)])
    assert not has_use(flow(9), [nearly, *(flow(n, left_mib=30.0) for n in range(2, 6))])


def test_a_target_that_gets_enough_from_others_has_no_use_for_one_more() -> None:
    others = [flow(1, source=H3), flow(2, source=H3)]
    assert not has_use(flow(3), others)
    assert has_use(flow(3, target=H3), others)


def test_who_is_slowed_down_at_its_target_is_told_from_who_shares_its_own_link() -> None:
    half = replace(flow(1, source=H3), stream_mib_s=50.0)
    assert outlook([half], LINKS, SET_UP_S).is_held_up(flow(2))
    assert not outlook([half], LINKS, SET_UP_S).is_held_up(flow(2, target=H3))
    own = replace(flow(1, target=H3), stream_mib_s=50.0)
    assert not outlook([own], LINKS, SET_UP_S).is_held_up(flow(2))


def test_links_that_nobody_knows_are_free() -> None:
    stranger = flow(1, target=HostName("h9"))
    assert has_use(stranger, [flow(2)])
    assert not outlook([flow(2)], LINKS, SET_UP_S).is_held_up(stranger)


def test_near_its_end_is_who_may_be_through_by_the_time_the_next_one_is_set_up() -> None:
    assert is_near_its_end(flow(1, left_mib=100.0), LINKS, SET_UP_S)
    assert not is_near_its_end(flow(1, left_mib=200.0), LINKS, SET_UP_S)
    assert is_near_its_end(flow(1, left_mib=200.0), LINKS, 2.0), "where it takes long to set up"
    assert not is_near_its_end(flow(1), LINKS, 60.0), "nobody knows how much is left"


def test_several_connections_only_over_links_that_are_wider_than_one_stream() -> None:
    assert connections(32768, 2800, 2800, may_post_copy=False) == 3
    assert connections(32768, 11200, 11200, may_post_copy=False) == 8
    assert connections(32768, 1120, 2800, may_post_copy=False) == 2
    assert connections(512, 2800, 2800, may_post_copy=False) == 0, "through within a second"
    assert connections(32768, 112, 2800, may_post_copy=False) == 0
    assert connections(32768, 2800, 2800, may_post_copy=True) == 0


def test_what_a_migration_moves_grows_with_its_connections_up_to_a_bound() -> None:
    assert [stream_mib_s(one) for one in (0, 2, 8)] == [1100, 2200, 3000]


_HOSTS = st.sampled_from([H1, H2, H3])


@repeatable
@given(st.lists(st.tuples(_HOSTS, _HOSTS, st.floats(10, 5000), st.booleans()), max_size=8))
def test_everybody_gets_something_and_one_at_least_has_no_limit(
    ends: list[tuple[HostName, HostName, float, bool]],
) -> None:
    flows = [
        flow(number, source, target, stream_mib_s=stream, is_past=past)
        for number, (source, target, stream, past) in enumerate(ends)
    ]
    found = told(flows, WIDE)
    assert all(one == NO_LIMIT or one >= TRICKLE_MIB_S for one in found)
    assert not flows or NO_LIMIT in found


@repeatable
@given(st.lists(st.tuples(_HOSTS, _HOSTS, st.floats(0, 5000), st.booleans()), max_size=8))
def test_the_outlook_never_promises_more_than_links_carry(
    ends: list[tuple[HostName, HostName, float, bool]],
) -> None:
    flows = [
        flow(number, source, target, left_mib=left, is_past=past)
        for number, (source, target, left, past) in enumerate(ends)
    ]
    soon = outlook(flows, WIDE, SET_UP_S)
    for free in (soon.free_out, soon.free_into):
        assert all(-1e-6 <= free[host] <= WIDE[host] for host in WIDE)
