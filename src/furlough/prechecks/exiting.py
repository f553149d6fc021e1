"""What stands against an exit, or against bringing VMs home to a host in service; and which VMs an
operator has selected, among those of the record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from furlough.core.admission import Standing
from furlough.core.findings import Finding, finding
from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Inventory
from furlough.core.plan import WhyStays
from furlough.core.policy import ExitOptions, RestoreMode
from furlough.core.states import HostMode
from furlough.errors import Conflict, Invalid, Refused
from furlough.planning.homecoming import Return, Way, named_in, way_of
from furlough.planning.record import Away, record_of
from furlough.prechecks.cases import because

_FLAGS: Mapping[Way, str] = {
    Way.POWER_ON: "--power-on",
    Way.LIVE_MIGRATE_BACK: "--live-migrate-back",
    Way.COLD_MIGRATE_BACK: "--cold-migrate-back",
}


def check_exit_mode(
    hosts: Sequence[HostName], standings: Mapping[HostName, Standing], record: Sequence[Away]
) -> bool:
    """Whether these hosts are in service, so that only VMs of the record are brought home; else
    all of them are in maintenance. `Conflict` where one is neither, or where they differ;
    `Refused` where one is in service and nothing is on record."""
    modes = {host: standings[host].mode for host in hosts}
    for host, mode in modes.items():
        if mode not in (HostMode.MAINTENANCE, HostMode.AVAILABLE):
            raise Conflict(
                "host.mode",
                f"Host {host} is {mode.value}: there is no maintenance to exit.",
                remedy=f"See what it waits for: furlough host show {host}.",
            )
    in_service = [host for host, mode in modes.items() if mode is HostMode.AVAILABLE]
    if in_service and len(in_service) < len(hosts):
        raise Conflict(
            "host.mode",
            f"{', '.join(in_service)} is in service already, the other hosts are in maintenance.",
            remedy="Exit those in maintenance first, then bring home who is left, together: "
            f"furlough exit {' '.join(hosts)}.",
        )
    for host in in_service:
        if not record_of(record, host):
            raise Conflict(
                "host.mode",
                f"Host {host} is in service, and nobody is on record who is to come home.",
                remedy="See: furlough host list.",
            )
    return bool(in_service)


def selected(
    options: ExitOptions, hosts: Sequence[HostName], record: Sequence[Away]
) -> ExitOptions:
    """The options with every VM by its UUID, once. `Invalid` where VMs are listed though not the
    lists decide, or one comes home another way; `Refused` where one is not on record."""
    listed = [text for way in Way for text in named_in(options, way)]
    if options.restore is not RestoreMode.SELECTED:
        if listed:
            raise Invalid(
                "restore.lists",
                f"VMs are listed, and restore is {options.restore.value}: who comes home?",
                remedy="Say restore selected, or leave the lists out.",
            )
        return options
    mine = [one for host in hosts for one in record_of(record, host)]
    found = {
        way: tuple(dict.fromkeys(_named(text, way, hosts, mine) for text in named_in(options, way)))
        for way in Way
    }
    return replace(
        options,
        power_on=found[Way.POWER_ON],
        live_migrate_back=found[Way.LIVE_MIGRATE_BACK],
        cold_migrate_back=found[Way.COLD_MIGRATE_BACK],
    )


def _named(text: str, way: Way, hosts: Sequence[HostName], mine: Sequence[Away]) -> VmId:
    """The VM of the record that goes by this name or UUID, if it comes home this way."""
    found = [one for one in mine if one.vm == text.lower()] or [
        one for one in mine if one.name == text
    ]
    if not found:
        raise Refused(
            "restore.not_recorded",
            f"VM {text[:255]!r} is to be brought back, and is not on the record of "
            f"{', '.join(hosts)}.",
            remedy=f"See who is: furlough exit {' '.join(hosts)} --check. To move another VM: "
            "furlough vm migrate.",
        )
    if len(found) > 1:
        which = ", ".join(one.vm for one in found)
        raise Invalid(
            "vm.ambiguous",
            f"Several VMs of the record are named {text[:255]!r}: {which}.",
            remedy="Give the UUID.",
        )
    (away,) = found
    if way_of(away) is not way:
        raise Invalid(
            "restore.other_way",
            f"VM {away.name} does not come back by {_FLAGS[way]}.",
            remedy=f"Name it with {_FLAGS[way_of(away)]}: it comes back as it went.",
        )
    return away.vm


def exit_findings(
    host: HostName, inventory: Inventory, returns: Sequence[Return]
) -> tuple[Finding, ...]:
    """What stands against the exit of a host, and what will not be as it was after it."""
    return tuple(_findings(host, inventory, returns))


def _findings(host: HostName, inventory: Inventory, returns: Sequence[Return]) -> Iterator[Finding]:
    found = inventory.host(host)
    if not found.is_connected:
        words = f"Host {host} does not answer{because(found)}: nobody can come home."
        yield finding("host.silent", host, words)
    for one in returns:
        subject = f"{one.away.name} ({one.away.vm})"
        if one.stays is WhyStays.HINDERED:
            yield finding("restore.hindered", subject, f"VM {one.away.name} stays: {one.reason}.")
        elif one.changed:
            yield finding(
                "restore.changed", subject, f"VM {one.away.name} has changed: {one.changed}."
            )
