"""Hosts are probed when they are to be checked. Numbers are those of the fault catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from furlough.core.enrolment import Enrolment
from furlough.core.findings import Finding
from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Cluster, Vm
from furlough.core.policy import EnterOptions
from furlough.core.probe import Probe
from furlough.core.states import Power
from furlough.core.vm_policy import OnMaintenance
from furlough.engine.probing import Probing
from furlough.errors import FurloughError, Refused, Unreachable
from furlough.planning.assessment import Report
from furlough.scenario.stage import Stage, vm_id
from tests.core.builders import a_host, a_probe, a_vm, an_inventory
from tests.engine.stories import H1, H2, H3, story


async def _report(stage: Stage, host: HostName = H1) -> Report:
    (report,) = await stage.service.check([host], EnterOptions())
    return report


def _of(report: Report, code: str) -> list[Finding]:
    return [one for one in report.findings if one.code == code]


@dataclass
class _Asked:
    """A hypervisor of which only what probing asks is there; it notes who asks whom."""

    failure: FurloughError | None = None
    unwilling: FurloughError | None = None
    reached: dict[HostName, list[HostName]] = field(default_factory=dict)
    judged: dict[HostName, list[VmId]] = field(default_factory=dict)

    async def probe(self, host: HostName, peers: Sequence[HostName]) -> Probe:
        self.reached[host] = list(peers)
        if self.failure is not None and host == H2:
            raise self.failure
        return a_probe()

    async def misfits(self, host: HostName, vms: Sequence[Vm]) -> Mapping[VmId, str]:
        self.judged[host] = [vm.id for vm in vms]
        if self.unwilling is not None:
            raise self.unwilling
        return {vms[0].id: "no avx512f"}


class _Site:
    """The site's own commands."""

    async def ask(self, vms: Sequence[Vm]) -> Sequence[tuple[str, str, str]]:
        return [("vm.no_backup", f"{vm.name} ({vm.id})", f"VM {vm.name}: none.") for vm in vms]


def _probing(stage: Stage, asked: _Asked, site: _Site | None = None) -> Probing:
    return Probing(asked, stage.clock, site)  # type: ignore[arg-type]


@story()
async def test_a_source_tries_all_targets_and_every_target_the_source(stage: Stage) -> None:
    asked = _Asked()
    inventory = an_inventory([a_vm(1), a_vm(2, host=H2)])
    await _probing(stage, asked).survey(inventory, [H1])
    assert asked.reached == {H1: [H2, H3], H2: [H1], H3: [H1]}
    assert asked.judged == {H2: [a_vm(1).id], H3: [a_vm(1).id]}


@story()
async def test_hosts_that_are_silent_or_without_furlough_host_are_not_probed(stage: Stage) -> None:
    asked = _Asked()
    hosts = [a_host(H1), a_host(H2, silent_because="off"), a_host(H3, has_guard=False)]
    await _probing(stage, asked).survey(an_inventory([a_vm(1)], hosts=hosts), [H1])
    assert asked.reached == {H1: [H3]}
    assert list(asked.judged) == [H3], "its hypervisor answers"


@story()
async def test_a_probe_that_fails_is_told_and_stops_no_other(stage: Stage) -> None:
    asked = _Asked(
        failure=Unreachable("x", "No answer in time."), unwilling=Refused("y", "Not supported.")
    )
    probing = _probing(stage, asked)
    await probing.survey(an_inventory([a_vm(1)]), [H1])
    first, second = probing.probe_of(H1), probing.probe_of(H2)
    assert first is not None
    assert first.troubles == ()
    assert second is not None
    assert second.troubles == (
        "No answer in time.",
        "its hypervisor was not asked: Not supported.",
    )
    assert probing.misfits() == {}


@story()
async def test_what_hypervisors_have_against_vms_holds_for_ten_minutes(stage: Stage) -> None:
    probing = _probing(stage, _Asked())
    await probing.survey(an_inventory([a_vm(1)]), [H1])
    assert probing.misfits() == {(H2, vm_id(1)): "no avx512f", (H3, vm_id(1)): "no avx512f"}
    await stage.clock.sleep(599)
    assert len(probing.misfits()) == 2
    await stage.clock.sleep(2)
    assert probing.misfits() == {}


@story()
async def test_the_sites_commands_are_asked_about_the_vms_that_leave(stage: Stage) -> None:
    inventory = an_inventory([a_vm(1), a_vm(2, host=H2)])
    found = await _probing(stage, _Asked(), _Site()).survey(inventory, [H1])
    assert [subject for _code, subject, _message in found] == [f"vm1 ({a_vm(1).id})"]
    assert await _probing(stage, _Asked()).survey(inventory, [H1]) == []


@story()
async def test_f065_a_target_whose_hypervisor_refuses_the_vm_is_not_chosen(stage: Stage) -> None:
    vm = stage.add_vm(1, 1)
    stage.cluster.hosts[H2].refusals[vm] = "its CPU lacks avx512f"
    await stage.start_controller()
    (one,) = (await _report(stage)).dispositions
    assert one.target == H3
    for name in (H3, *[name for name in stage.cluster.hosts if name not in (H1, H2, H3)]):
        stage.cluster.hosts[name].refusals[vm] = "its CPU lacks avx512f"
    (found,) = _of(await _report(stage), "vm.cpu")
    assert "its hypervisor says: its CPU lacks avx512f" in found.message


@story()
async def test_a_check_tells_what_the_probe_of_the_host_has_found(stage: Stage) -> None:
    stage.add_vm(1, 1)
    machine = stage.cluster.hosts[H1]
    machine.surroundings = replace(machine.surroundings, repairs=("md0 is rebuilding",))
    await stage.start_controller()
    (found,) = _of(await _report(stage), "cluster.storage_repair")
    assert "md0 is rebuilding" in found.message


@story()
async def test_what_a_cluster_says_of_its_vms_holds_for_those_that_say_nothing(
    stage: Stage,
) -> None:
    stage.add_vm(1, 1)
    await stage.start_controller()
    await stage.clock.sleep(1)
    assert (await stage.service.inventory()).vm(vm_id(1)).policy.on_maintenance == "live"
    (cluster,) = (await stage.service.enrolment()).clusters
    changed = Cluster(
        name=cluster.name, policy=cluster.policy, vm_defaults=(("on_maintenance", "leave"),)
    )
    await stage.service.enrolling.apply(Enrolment(clusters=[changed]))
    policy = (await stage.service.inventory()).vm(vm_id(1)).policy
    assert policy.on_maintenance is OnMaintenance.LEAVE
    assert [one.subject for one in _of(await _report(stage), "vm.leave")] == [f"vm1 ({vm_id(1)})"]


@story()
async def test_words_that_make_no_sense_are_told_and_the_rest_counts(stage: Stage) -> None:
    vm = stage.add_vm(1, 1)
    copy = stage.cluster.hosts[H1].copies[vm]
    copy.own_policy = (("ha", "true"), ("on_maintenance", "dance"))
    await stage.start_controller()
    await stage.clock.sleep(1)
    seen = (await stage.service.inventory()).vm(vm)
    assert (seen.policy.ha, seen.policy.on_maintenance) == (True, OnMaintenance.LIVE)
    (found,) = _of(await _report(stage), "vm.policy")
    assert "on_maintenance cannot be 'dance'" in found.message


@story()
async def test_before_an_exit_only_the_home_is_asked_whether_it_would_take_its_vms_back(
    stage: Stage,
) -> None:
    """And only home and the hosts where they are are probed, in a cluster of four."""
    asked = _Asked()
    hosts = [a_host(HostName(f"h{number}")) for number in range(1, 5)]
    vms = [a_vm(1, host=H2), a_vm(2, host=H3), a_vm(3, host=H3, power=Power.SHUT_OFF)]
    inventory = an_inventory([*vms, a_vm(9, host=H3)], hosts=hosts)
    probing = _probing(stage, asked)
    await probing.survey_return(inventory, [H1], vms)
    assert asked.judged == {H1: [vm_id(1), vm_id(2)]}
    assert asked.reached == {H1: [H2, H3], H2: [H1], H3: [H1]}
    assert probing.misfits() == {(H1, vm_id(1)): "no avx512f"}


@story()
async def test_a_home_that_cannot_be_asked_is_told_and_stops_nothing(stage: Stage) -> None:
    asked = _Asked(unwilling=Unreachable("host.silent", "no answer"))
    inventory = an_inventory([a_vm(1, host=H2)], hosts=[a_host(H1), a_host(H2)])
    probing = _probing(stage, asked)
    await probing.survey_return(inventory, [H1], inventory.vms)
    probe = probing.probe_of(H1)
    assert probe is not None
    assert "its hypervisor was not asked: no answer" in probe.troubles
