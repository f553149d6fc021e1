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
    is_of_use,
    speeds,
    stream_mib_s,
)
from furlough.core.ids import HostName, VmId
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


def test_one_more_is_of_use_until_links_are_full_and_one_is_set_up_meanwhile() -> None:
    flows: list[Flow] = []
    for links, most in ((LINKS, 2), (WIDE, 4)):
        flows = []
        while is_of_use(flow(len(flows)), flows, links):
            flows.append(flow(len(flows)))
        assert len(flows) == most
    over = [replace(one, is_past=True) for one in flows]
    assert is_of_use(flow(9), over, WIDE)


def test_a_target_that_gets_enough_from_others_has_no_use_for_one_more() -> None:
    others = [flow(1, source=H3), flow(2, source=H3)]
    assert not is_of_use(flow(3), others, LINKS)
    assert is_of_use(flow(3, target=H3), others, LINKS)


def test_several_connections_only_for_large_vms_over_wide_links() -> None:
    assert connections(32768, 2800, 2800, may_post_copy=False) == 3
    assert connections(32768, 11200, 11200, may_post_copy=False) == 8
    assert connections(4096, 2800, 2800, may_post_copy=False) == 0
    assert connections(32768, 1120, 2800, may_post_copy=False) == 0
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
