"""The page of a host: how it stands in the operator's words, its VMs, its log, and what can be
asked of it there and then."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from furlough.core.access import Privilege
from furlough.core.ids import HostName
from furlough.core.inventory import Host
from furlough.core.operation import Operation
from furlough.core.plan import OperationKind
from furlough.core.policy import ActionOptions
from furlough.core.states import HostMode
from furlough.errors import NotFound, Refused
from furlough.ui.dashboard import host_row
from furlough.ui.visit import Asked, Routes, go_to, listed

_LOG_LINES = 60
_MOST_LOG_LINES = 2000
_POWER = {"reboot": OperationKind.REBOOT_HOST, "power-off": OperationKind.POWER_OFF_HOST}


async def show(asked: Asked) -> Response:
    """One host."""
    service, inventory = asked.service, await asked.service.inventory()
    host = inventory.host(asked.host)
    most = _MOST_LOG_LINES if asked.said("log") == "all" else _LOG_LINES
    vms = sorted(inventory.vms_on(host.name), key=lambda vm: (not vm.is_active, vm.name))
    recorded = await service.record(host.name)
    operation = None if host.operation is None else await service.operation(host.operation)
    lines = await service.host_log(host.name, most)
    return asked.render(
        "host",
        host=host,
        row=host_row(host, inventory),
        listing=listed(vms, asked.page()),
        away=recorded.away,
        away_now={
            one.vm: inventory.vm(one.vm).host
            for one in recorded.away
            if inventory.copies_of(one.vm)
        },
        lines=list(reversed(lines)),
        has_more=len(lines) >= most,
        operation=None if operation is None else await asked.view(operation),
        flight=_flight(operation),
        may=_may(asked, host),
    )


def _flight(operation: Operation | None) -> int:
    """How many steps of an operation are under way."""
    if operation is None:
        return 0
    return sum(1 for step in operation.steps if step.state.value == "started")


# What each act takes, for those that are offered in a mode. Power is offered in maintenance alone.
_OFFERED: Mapping[HostMode, Mapping[str, Privilege]] = {
    HostMode.AVAILABLE: {"enter": Privilege.CHECK, "cordon": Privilege.CORDON},
    HostMode.CORDONED: {"enter": Privilege.CHECK, "uncordon": Privilege.CORDON},
    HostMode.MAINTENANCE: {
        "exit": Privilege.CHECK,
        "reboot": Privilege.POWER,
        "power-off": Privilege.POWER,
    },
}


def _may(asked: Asked, host: Host) -> frozenset[str]:
    """What whoever asks can ask of a host as it stands."""
    if host.operation is not None:
        return frozenset()
    offered = _OFFERED.get(host.mode, {})
    return frozenset(act for act, privilege in offered.items() if asked.may(privilege, host))


async def cordon(asked: Asked) -> Response:
    """No new VMs for it."""
    options = ActionOptions(reason=asked.said("reason"))
    return _followed(await asked.service.cordon(asked.host, options, asked.named()))


async def uncordon(asked: Asked) -> Response:
    """It takes VMs again."""
    options = ActionOptions(reason=asked.said("reason"))
    return _followed(await asked.service.uncordon(asked.host, options, asked.named()))


def _followed(operation: Operation) -> Response:
    return go_to(f"/hosts/{operation.hosts[0]}")


async def ask_power(asked: Asked) -> Response:
    """Reboot or power off, to be confirmed."""
    act = _act(asked)
    host = (await asked.service.inventory()).host(asked.host)
    if host.mode is not HostMode.MAINTENANCE:
        raise _not_in_maintenance(host.name, host.mode)
    return asked.render("host-power", host=host, act=act)


async def change_power(asked: Asked) -> Response:
    """Reboot or power off, confirmed."""
    act = _act(asked)
    if asked.said("sure") != "yes":
        return await ask_power(asked)
    options = ActionOptions(reason=asked.said("reason"))
    operation = await asked.service.change_host_power(
        _POWER[act], asked.host, options, asked.named()
    )
    return go_to(f"/operations/{operation.id}")


def _act(asked: Asked) -> str:
    act = str(asked.request.path_params["act"])
    if act not in _POWER:
        raise NotFound("page.unknown", "There is no such page.", remedy="Begin at the dashboard.")
    return act


def _not_in_maintenance(host: HostName, mode: HostMode) -> Refused:
    return Refused(
        "host.not_in_maintenance",
        f"Host {host} is {mode.value}: its power is changed in maintenance alone.",
        remedy="Enter maintenance first; the button is on the host's page.",
    )


async def close_record(asked: Asked) -> Response:
    """Whoever is still to come home stays where it is."""
    options = ActionOptions(reason=asked.said("reason"))
    await asked.service.close_record(asked.host, options, asked.named())
    return go_to(f"/hosts/{asked.host}")


ROUTES: Routes = {
    ("GET", "/hosts/{host}"): show,
    ("POST", "/hosts/{host}/cordon"): cordon,
    ("POST", "/hosts/{host}/uncordon"): uncordon,
    ("POST", "/hosts/{host}/close-record"): close_record,
    ("GET", "/hosts/{host}/power/{act}"): ask_power,
    ("POST", "/hosts/{host}/power/{act}"): change_power,
}
