"""Who begins now: in the order of the plan, but first where nobody is in the way."""

from __future__ import annotations

from collections.abc import Sequence

from furlough.core.admission import Flight
from furlough.core.bandwidth import Flow, Outlook, outlook
from furlough.core.ids import ClusterName, HostName
from furlough.core.policy import Limits
from furlough.core.timing import SET_UP_S
from furlough.engine.departing import Candidate, Departures
from tests.core.builders import H1, H2, H3, a_step, planned, vm_id

CLUSTER = ClusterName("lab")
LINKS = {H1: 100.0, H2: 100.0, H3: 100.0}


def candidate(number: int, target: HostName, *, source: HostName = H1) -> Candidate:
    """The n-th step: a VM of 5 GiB on its way."""
    flow = Flow(vm=vm_id(number), source=source, target=target, left_mib=5000)
    flight = Flight(source=source, target=target, cluster=CLUSTER)
    return Candidate(step=a_step(planned(number)), flight=flight, flow=lambda: flow)


def begun(
    candidates: Sequence[Candidate], *others: Flow, limits: Limits | None = None
) -> list[int]:
    """The numbers of those that begin beside these others."""

    def looked(flows: Sequence[Flow]) -> Outlook:
        return outlook([*others, *flows], LINKS, SET_UP_S)

    departures = Departures(
        limits={CLUSTER: limits or Limits()}, outlook=looked, flying=[], begun=[]
    )
    return [step.number for step in departures.chosen(candidates)]


def test_one_begins_and_fills_the_link_and_the_rest_wait() -> None:
    assert begun([candidate(1, H2), candidate(2, H3), candidate(3, H2)]) == [1]


def test_who_is_slowed_down_at_its_target_lets_others_of_its_host_go_first() -> None:
    """Else half of the link of the host that is emptied would be left unused."""
    half = Flow(vm=vm_id(9), source=H3, target=H2, left_mib=5000, stream_mib_s=50)
    assert begun([candidate(1, H2), candidate(2, H3)], half) == [2]
    assert begun([candidate(1, H2)], half) == [1], "where nobody else can, it goes"


def test_nobody_begins_towards_a_target_whose_link_is_taken() -> None:
    whole = Flow(vm=vm_id(9), source=H3, target=H2, left_mib=5000)
    assert begun([candidate(1, H2)], whole) == []


def test_limits_hold_where_links_would_have_a_use_for_more() -> None:
    limits = Limits(per_source=1, per_target=1, per_cluster=1)
    small = [candidate(number, H2) for number in (1, 2)]
    nearly = Flow(vm=vm_id(9), source=H1, target=H2, left_mib=1)
    assert begun(small, nearly, limits=limits) == [1]
    elsewhere = [candidate(1, H2), candidate(2, H1, source=H2)]
    assert begun(elsewhere, limits=limits) == [1]
    assert begun(elsewhere) == [1, 2]


def test_what_moves_nobody_begins_whatever_the_links_do() -> None:
    whole = Flow(vm=vm_id(9), source=H1, target=H2, left_mib=5000)
    assert begun([Candidate(step=a_step(planned(1))), candidate(2, H2)], whole) == [1]
