"""How libvirt is asked for a migration: the flags of 2.3, and what it says while it lasts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from furlough.core.ids import HostName, OperationId, VmId
from furlough.core.plan import Handover
from furlough.errors import Refused
from furlough.ports import MigrationOrder, MigrationReport, Progress
from tests.drivers.binding import needing_libvirt

libvirt = needing_libvirt("libvirt")
migration = needing_libvirt("furlough.drivers.libvirt.migration")

ORDER = MigrationOrder(
    vm=VmId("6695eb01-f6a4-8304-79aa-97f2502e193f"),
    source=HostName("h1"),
    target=HostName("h2"),
    handover=Handover.NORMAL,
    carries_definition=True,
    waives_storage_check=False,
    operation=OperationId("op-1"),
    epoch=1,
)
ALWAYS = {"LIVE", "PEER2PEER", "ABORT_ON_ERROR", "AUTO_CONVERGE"}
DEFINITION = {"PERSIST_DEST", "UNDEFINE_SOURCE"}


def names_of(flags: int) -> set[str]:
    """The names of the flags that are set."""
    known = {
        name.removeprefix("VIR_MIGRATE_"): getattr(libvirt, name)
        for name in dir(libvirt)
        if name.startswith("VIR_MIGRATE_") and isinstance(getattr(libvirt, name), int)
    }
    return {name for name, bit in known.items() if flags & bit}


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (ORDER, ALWAYS | DEFINITION),
        (replace(ORDER, carries_definition=False), ALWAYS),
        (replace(ORDER, handover=Handover.HELD), ALWAYS | DEFINITION | {"PAUSED"}),
        (
            replace(ORDER, handover=Handover.HELD, carries_definition=False),
            ALWAYS | {"PAUSED"},
        ),
        # That policy allows it is not yet a reason: libvirt is asked without it first.
        (replace(ORDER, waives_storage_check=True), ALWAYS | DEFINITION),
    ],
)
def test_the_flags_say_what_was_ordered_and_no_more(
    order: MigrationOrder, expected: set[str]
) -> None:
    assert names_of(migration.flags_of(order)) == expected


@pytest.mark.parametrize("handover", list(Handover))
@pytest.mark.parametrize("carries", [True, False])
def test_no_order_ever_asks_for_what_is_dangerous(handover: Handover, carries: bool) -> None:
    order = replace(ORDER, handover=handover, carries_definition=carries)
    named = names_of(migration.flags_of(order))
    assert not named & {"TUNNELLED", "OFFLINE", "UNSAFE", "NON_SHARED_DISK", "NON_SHARED_INC"}
    assert not named & {"POSTCOPY", "ZEROCOPY"}
    # Both or neither: a definition on two hosts can be started twice.
    assert ("PERSIST_DEST" in named) == ("UNDEFINE_SOURCE" in named) == carries


@dataclass
class Asked:
    """libvirt, as far as a migration asks it: says no to the first calls, and remembers all."""

    refusals: list[int] = field(default_factory=list)
    calls: list[tuple[str, dict[str, Any], int]] = field(default_factory=list)
    looked_up: list[str] = field(default_factory=list)

    def lookupByUUIDString(self, uuid: str) -> Asked:  # noqa: N802
        self.looked_up.append(uuid)
        return self

    def migrateToURI3(self, uri: str, parameters: dict[str, Any], flags: int) -> None:  # noqa: N802
        self.calls.append((uri, parameters, flags))
        if self.refusals:
            error = libvirt.libvirtError("refused")
            error.err = (self.refusals.pop(0), 10, "unsafe", 2, None, None, None, -1, -1)
            raise error


TO = ("qemu+tls://h2/system", "tcp://192.168.7.2", "h2.example.org")


def test_the_vm_is_named_by_its_uuid_and_the_memory_is_told_where_to_go() -> None:
    asked = Asked()
    assert migration.migrate(asked, ORDER, *TO) == ()
    assert asked.looked_up == [ORDER.vm]
    parameters = {"migrate_uri": TO[1], "bandwidth": 8796093022207}
    assert asked.calls == [(TO[0], parameters, migration.flags_of(ORDER))]


def test_no_limit_is_always_said_and_a_limit_as_it_was_ordered() -> None:
    """What somebody has set for the VM before would hold otherwise."""
    assert migration.parameters_of(ORDER, TO[1])["bandwidth"] == 8796093022207
    assert migration.parameters_of(replace(ORDER, speed_mib_s=1), TO[1])["bandwidth"] == 1


def test_several_connections_are_told_by_flag_and_number() -> None:
    order = replace(ORDER, connections=4)
    assert "PARALLEL" in names_of(migration.flags_of(order))
    assert migration.parameters_of(order, TO[1])["parallel.connections"] == 4
    assert "parallel.connections" not in migration.parameters_of(ORDER, TO[1])


def test_post_copy_is_prepared_and_resumed_only_where_that_was_ordered() -> None:
    may = replace(ORDER, may_post_copy=True)
    assert names_of(migration.flags_of(may) ^ migration.flags_of(ORDER)) == {"POSTCOPY"}
    again = replace(may, resumes_post_copy=True)
    assert names_of(migration.flags_of(again) ^ migration.flags_of(may)) == {"POSTCOPY_RESUME"}


@dataclass
class Copying:
    """A VM, as far as the speed of its migration is concerned."""

    stats: dict[str, Any]
    speeds: list[int] = field(default_factory=list)

    def jobStats(self) -> dict[str, Any]:  # noqa: N802
        return self.stats

    def migrateSetMaxSpeed(self, mib_s: int) -> None:  # noqa: N802
        self.speeds.append(mib_s)


def test_a_speed_is_set_once_memory_is_copied_and_refused_before() -> None:
    """Earlier, libvirt would set what the migration began with after us."""
    out = libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT
    begun = Copying({"operation": out})
    with pytest.raises(Refused):
        migration.set_speed(begun, 5)
    assert begun.speeds == []
    copying = Copying({"operation": out, libvirt.VIR_DOMAIN_JOB_MEMORY_TOTAL: 2**27})
    migration.set_speed(copying, 5)
    migration.set_speed(copying, 0)
    assert copying.speeds == [5, 8796093022207]


def test_an_encrypted_migration_names_whom_its_target_has_to_be() -> None:
    asked = Asked()
    order = replace(ORDER, is_encrypted=True)
    migration.migrate(asked, order, *TO)
    ((_uri, parameters, flags),) = asked.calls
    assert parameters == {
        "migrate_uri": TO[1],
        "bandwidth": 8796093022207,
        "tls.destination": "h2.example.org",
    }
    assert names_of(flags) == ALWAYS | DEFINITION | {"TLS"}


def test_what_was_to_be_encrypted_is_never_tried_in_clear() -> None:
    asked = Asked(refusals=[libvirt.VIR_ERR_MIGRATE_UNSAFE])
    order = replace(ORDER, is_encrypted=True, waives_storage_check=True)
    migration.migrate(asked, order, *TO)
    assert ["TLS" in names_of(flags) for _uri, _parameters, flags in asked.calls] == [True, True]


def test_the_advice_about_certificates_goes_with_failures_of_encrypted_migrations_alone() -> None:
    certificates = needing_libvirt("furlough.drivers.libvirt.certificates")
    failed = Refused("hypervisor.failed", "migration: the stream broke.")
    encrypted = replace(ORDER, is_encrypted=True)
    advised = certificates.advised(failed, encrypted, "h2.example.org")
    assert advised.message.startswith("migration: the stream broke. (The migration was encrypted")
    assert "h2.example.org (furlough host set h2 --tls-name)" in advised.remedy
    assert certificates.advised(failed, ORDER, "h2") is failed
    busy = Refused("hypervisor.busy", "migration: another job.")
    assert certificates.advised(busy, encrypted, "h2") is busy


def test_libvirts_storage_check_is_waived_only_after_it_has_said_no_and_that_is_noted() -> None:
    asked = Asked(refusals=[libvirt.VIR_ERR_MIGRATE_UNSAFE])
    notes = migration.migrate(asked, replace(ORDER, waives_storage_check=True), *TO)
    assert ["UNSAFE" in names_of(flags) for _uri, _parameters, flags in asked.calls] == [
        False,
        True,
    ]
    assert names_of(asked.calls[0][2] ^ asked.calls[1][2]) == {"UNSAFE"}
    assert "proven by us" in notes[0]


@pytest.mark.parametrize(
    ("waives", "number"),
    [
        (False, libvirt.VIR_ERR_MIGRATE_UNSAFE),
        (True, libvirt.VIR_ERR_OPERATION_FAILED),
        (True, libvirt.VIR_ERR_RPC),
    ],
)
def test_no_other_refusal_is_tried_again(waives: bool, number: int) -> None:
    asked = Asked(refusals=[number])
    with pytest.raises(libvirt.libvirtError):
        migration.migrate(asked, replace(ORDER, waives_storage_check=waives), *TO)
    assert len(asked.calls) == 1


# --- what libvirt says ----------------------------------------------------------------------------

OUT = {
    "type": libvirt.VIR_DOMAIN_JOB_UNBOUNDED,
    "operation": libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT,
    "memory_total": 1024 << 20,
    "memory_processed": 1500 << 20,
    "memory_remaining": 300 << 20,
    "memory_bps": 115 << 20,
    "memory_iteration": 4,
}


def test_progress_is_told_in_mib_and_may_exceed_the_total() -> None:
    assert migration.progress_of(OUT) == Progress(
        total_mib=1024, sent_mib=1500, remaining_mib=300, rate_mib_s=115.0, rounds=4
    )


@pytest.mark.parametrize(
    "stats",
    [
        {},
        {"type": libvirt.VIR_DOMAIN_JOB_NONE},
        {**OUT, "operation": libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN},
        {**OUT, "operation": libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP},
        # While it is being prepared: all is nought, or nothing is told yet.
        {key: value for key, value in OUT.items() if not key.startswith("memory")},
        {**OUT, "memory_total": 0, "memory_processed": 0, "memory_remaining": 0},
    ],
)
def test_where_no_memory_leaves_there_is_no_progress(stats: dict[str, Any]) -> None:
    assert migration.progress_of(stats) is None


def test_before_the_first_round_ends_there_is_progress_of_nothing() -> None:
    early = {key: OUT[key] for key in ("type", "operation", "memory_total")}
    assert migration.progress_of(early) == Progress(
        total_mib=1024, sent_mib=0, remaining_mib=0, rate_mib_s=0.0, rounds=0
    )


def test_a_report_says_what_was_measured_and_what_was_not() -> None:
    stats = {"memory_processed": 130 << 20, "downtime": 84}
    assert migration.report_of(stats, 7.5, ("a note",)) == MigrationReport(
        sent_mib=130, downtime_ms=84, stopped_at=7.5, notes=("a note",)
    )
    assert migration.report_of({"memory_processed": 0}, None, ()).downtime_ms is None
    assert migration.report_of(None, 7.5, ()) == MigrationReport(stopped_at=7.5)
