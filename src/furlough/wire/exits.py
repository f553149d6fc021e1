"""What an exit would do, who is on record to come home, and what a client may say of both."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from pydantic import Field

from furlough.core.findings import Finding, Verdict
from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Inventory
from furlough.core.plan import Method, Plan
from furlough.core.policy import ExitOptions, RestoreMode
from furlough.core.states import HostMode, Power
from furlough.planning.homecoming import Return, Way
from furlough.planning.record import Away
from furlough.wire.plans import FindingView, PlanView, plan_view
from furlough.wire.shapes import Body, Name, Text, View, VmName


class ExitBody(Body):
    """Options of exiting maintenance. The lists, of VMs by name or UUID, go with `restore`
    selected and with nothing else: who is powered on, and who is brought home live or cold."""

    restore: RestoreMode = RestoreMode.RECORDED
    power_on: list[VmName] = Field(default_factory=list, max_length=10_000)
    live_migrate_back: list[VmName] = Field(default_factory=list, max_length=10_000)
    cold_migrate_back: list[VmName] = Field(default_factory=list, max_length=10_000)
    timeout_s: float = 0
    reason: Text = ""
    ticket: Text = ""

    def to_core(self) -> ExitOptions:
        """The options, with the VMs as the client named them: the service finds out which."""
        rest = self.model_dump(include={"restore", "timeout_s", "reason", "ticket"})
        return ExitOptions(
            **rest,
            power_on=tuple(VmId(name) for name in self.power_on),
            live_migrate_back=tuple(VmId(name) for name in self.live_migrate_back),
            cold_migrate_back=tuple(VmId(name) for name in self.cold_migrate_back),
        )


class ExitCheckBody(Body):
    """A precheck of exiting these hosts together."""

    hosts: list[Name] = Field(min_length=1, max_length=10_000)
    options: ExitBody = Field(default_factory=ExitBody)


class ReturnView(View):
    """What an exit would do about one VM of the record. `was`: what its evacuation did with it;
    `target`: where it will run, null where it stays; `by_way_of`: a third host where it waits until
    its home has room; `change`: what others have done about it since, empty if nothing; `stays`:
    what follows where it stays."""

    uuid: str
    name: str
    ha: bool
    power: Power | None
    home: str
    now_on: str | None
    was: Literal["moved", "moved_cold", "shut_down", "suspended"]
    action: Literal["live", "cold", "start", "stays", "at_home"]
    target: str | None
    by_way_of: str | None
    changed: bool
    change: str
    reason: str
    stays: Literal["hindered", "postponed", "let_go"] | None


class ExitCheckView(View):
    """The precheck of an exit: every VM of the record in the list of how it comes back, whether or
    not it does this time."""

    hosts: list[str]
    verdict: Literal["ok", "warnings", "blocked"]
    findings: list[FindingView]
    power_on: list[ReturnView]
    live_migrate_back: list[ReturnView]
    cold_migrate_back: list[ReturnView]
    plan: PlanView


class PutBackView(View):
    """What a cancel that puts back would do: about every VM that has left, and by which plan."""

    operation: str
    vms: list[ReturnView]
    plan: PlanView


class AwayView(View):
    """A VM on record: what its evacuation did with it, and where it is now."""

    uuid: str
    name: str
    home: str
    left_on: str
    was: Literal["moved", "moved_cold", "shut_down", "suspended"]
    operation: str
    since: datetime
    now_on: str | None
    power: Power | None


class RecordView(View):
    """Who is on record to come home to a host; open while there is anybody."""

    host: str
    mode: HostMode
    is_open: bool
    vms: list[AwayView]


def exit_check_view(
    hosts: Iterable[HostName],
    verdict: Verdict,
    findings: Iterable[Finding],
    returns: Iterable[Return],
    plan: Plan,
    inventory: Inventory,
) -> ExitCheckView:
    """The precheck of an exit for the wire."""
    lists: dict[str, list[ReturnView]] = {way.value: [] for way in Way}
    for one in _once(returns):
        lists[one.way.value].append(return_view(one, inventory))
    return ExitCheckView(
        hosts=list(hosts),
        verdict=verdict.value,
        findings=[FindingView.model_validate(one, from_attributes=True) for one in findings],
        plan=plan_view(plan),
        power_on=lists[Way.POWER_ON],
        live_migrate_back=lists[Way.LIVE_MIGRATE_BACK],
        cold_migrate_back=lists[Way.COLD_MIGRATE_BACK],
    )


def _once(returns: Iterable[Return]) -> Iterable[Return]:
    """Each VM once: what is done about it, where two hosts have something to say of it."""
    found: dict[VmId, Return] = {}
    for one in returns:
        if one.comes or one.away.vm not in found:
            found[one.away.vm] = one
    return found.values()


def return_view(one: Return, inventory: Inventory) -> ReturnView:
    """One VM of an exit's precheck."""
    vm = inventory.vm(one.away.vm) if inventory.copies_of(one.away.vm) else None
    return ReturnView(
        uuid=one.away.vm,
        name=one.away.name,
        ha=vm.policy.ha if vm else False,
        power=vm.power if vm else None,
        home=one.away.home,
        now_on=one.now_on,
        was=_what_was_done(one.away),
        action=one.homecoming.value,
        target=one.away.awaits if one.comes else None,
        by_way_of=one.by_way_of,
        changed=bool(one.changed),
        change=one.changed,
        reason=one.reason,
        stays=one.stays.value if one.stays else None,
    )


def record_view(
    host: HostName, mode: HostMode, away: Iterable[Away], inventory: Inventory
) -> RecordView:
    """The record of a host for the wire."""
    vms = [_away_view(one, inventory) for one in away]
    return RecordView(host=host, mode=mode, is_open=bool(vms), vms=vms)


def _away_view(one: Away, inventory: Inventory) -> AwayView:
    vm = inventory.vm(one.vm) if inventory.copies_of(one.vm) else None
    return AwayView(
        uuid=one.vm,
        name=one.name,
        home=one.home,
        left_on=one.left_on,
        was=_what_was_done(one),
        operation=one.operation,
        since=one.since,
        now_on=vm.host if vm else None,
        power=vm.power if vm else None,
    )


def _what_was_done(away: Away) -> Literal["moved", "moved_cold", "shut_down", "suspended"]:
    if away.was_stopped:
        return "suspended" if away.method is Method.SUSPEND else "shut_down"
    return "moved_cold" if away.method is Method.COLD else "moved"
