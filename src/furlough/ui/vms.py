"""VMs: search over all of them, one page at a time; and the policy that travels with each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest

from starlette.responses import Response

from furlough.core.inventory import Inventory, Vm
from furlough.core.states import Power
from furlough.core.vm_policy import (
    NAMES,
    IfIgnored,
    OnMaintenance,
    PostCopy,
    allowed,
    word_of,
)
from furlough.ui.visit import PER_PAGE, Asked, Listing, Routes, go_to

_WORDS: Mapping[str, tuple[str, ...]] = {
    "on_maintenance": tuple(OnMaintenance),
    "if_ignored": tuple(IfIgnored),
    "post_copy": tuple(PostCopy),
    "ha": ("true", "false"),
    "needs_agent": ("true", "false"),
}
_TITLES: Mapping[str, str] = {
    "on_maintenance": "What is done when its host enters maintenance",
    "shut_down_grace_s": "How long its guest may take to shut down, in seconds",
    "if_ignored": "When the guest ignores the request to shut down",
    "availability_priority": "Priority (0 to 100): who matters more starts first and stops last",
    "ha": "Must find room after the loss of one more host",
    "downtime_budget_ms": "Longest pause it bears, in milliseconds",
    "post_copy": "Post-copy, when memory does not converge",
    "affinity_group": "Stays together with (group)",
    "anti_affinity_group": "Stays apart from (group)",
    "host_affinity": "Hosts that it may use",
    "needs_agent": "Is moved only while its guest agent answers",
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting of a policy: what the VM says itself (None: nothing), what holds, what it may
    be."""

    name: str
    title: str
    own: str | None
    holds: str
    help: str
    words: tuple[str, ...]


def matching(inventory: Inventory, part: str, host: str, power: str) -> list[Vm]:
    """The VMs whose name or UUID has this part, on this host, in this state."""
    part = part.casefold()
    return [
        vm
        for vm in inventory.vms
        if (not part or part in vm.name.casefold() or part in vm.id)
        and host in ("", vm.host)
        and power in ("", vm.power.value)
    ]


def by_name(every: Sequence[Vm], page: int) -> Listing:
    """A page of these VMs by their names. Only as many are put in order as it takes."""
    pages = max(1, -(-len(every) // PER_PAGE))
    page = min(page, pages)
    first = nsmallest(page * PER_PAGE, every, key=lambda vm: (vm.name, vm.id, vm.host))
    return Listing(items=first[(page - 1) * PER_PAGE :], page=page, pages=pages, total=len(every))


async def show_list(asked: Asked) -> Response:
    """The VMs that were searched for."""
    inventory = await asked.service.inventory()
    part, host, power = asked.said("q"), asked.said("host"), asked.said("power")
    away = {one.vm: one.home for one in await asked.service.away()}
    return asked.render(
        "vms",
        listing=by_name(matching(inventory, part, host, power), asked.page()),
        away=away,
        q=part,
        host=host,
        power_chosen=power,
        powers=[one.value for one in Power],
    )


async def show(asked: Asked) -> Response:
    """One VM."""
    inventory, which = await asked.service.inventory(), asked.vm
    vm = inventory.vm(which)
    home = {one.vm: one.home for one in await asked.service.away()}
    return asked.render(
        "vm",
        vm=vm,
        copies=inventory.copies_of(which),
        host=inventory.host(vm.host),
        home=home.get(which),
        settings=settings_of(vm),
        is_saved=asked.said("saved") == "yes",
    )


def settings_of(vm: Vm) -> list[Setting]:
    """Every setting of its policy."""
    own = dict(vm.own_policy)
    return [
        Setting(
            name=name,
            title=_TITLES[name],
            own=own.get(name),
            holds=word_of(getattr(vm.policy, name)),
            help=allowed(name),
            words=tuple(str(word) for word in _WORDS.get(name, ())),
        )
        for name in NAMES
    ]


async def set_policy(asked: Asked) -> Response:
    """Change what travels with it. A blank field takes the VM's own word away, so that the default
    holds again."""
    wanted: dict[str, str | None] = {}
    inventory = await asked.service.inventory()
    own = dict(inventory.vm(asked.vm).own_policy)
    for name in NAMES:
        if name not in asked.fields:
            continue
        word = asked.said(name) or None
        if word != own.get(name):
            wanted[name] = word
    if wanted:
        await asked.service.upkeep.set_policy(asked.vm, wanted, asked.principal.name)
    return go_to(f"/vms/{asked.vm}?saved=yes")


ROUTES: Routes = {
    ("GET", "/vms"): show_list,
    ("GET", "/vms/{vm}"): show,
    ("POST", "/vms/{vm}/policy"): set_policy,
}
