"""How memory passes between two hosts of an inventory: encrypted or in clear (see
`core.encryption`)."""

from __future__ import annotations

from furlough.core.encryption import End, MigrationTls, Wire, wire_between
from furlough.core.inventory import Host


def wire_of(source: Host, target: Host) -> Wire:
    """How a migration from one of these hosts to the other would pass, by what is known now."""
    return wire_between(_end(source), _end(target))


def _end(host: Host) -> End:
    return End(name=host.name, wish=host.migration_tls, means=host.tls)


def must_encrypt(host: Host) -> bool:
    """Whether nothing may leave or reach a host in clear."""
    return host.migration_tls is MigrationTls.REQUIRED
