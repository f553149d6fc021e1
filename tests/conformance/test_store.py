"""What every store promises, told to all of them: SQLite in memory, in a file, and PostgreSQL.

Letters in brackets name the invariant or the fault of the catalogue that a story is about.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta, timezone
from pathlib import Path
from threading import Event as Flag
from typing import Any, TypeVar, get_args

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, create_engine, inspect, text

from furlough.core.admission import Room, Terms
from furlough.core.capacity import Load, Reservation
from furlough.core.drift import HostNote
from furlough.core.enrolment import Enrolment
from furlough.core.hostlog import Level
from furlough.core.ids import ClusterName, HostName, OperationId, operation_id
from furlough.core.inventory import Cluster
from furlough.core.journal import (
    CancelRequested,
    DeadlinePassed,
    Entry,
    Event,
    OperationBlocked,
    OperationEnded,
    OperationReleased,
    OperationUnblocked,
    PlanExtended,
    StepActed,
    StepFailed,
    StepStarted,
    StepSucceeded,
    fold,
)
from furlough.core.link_speed import LinkSpeed
from furlough.core.looks import Job, Look, Presence, Why
from furlough.core.operation import Act, Evidence, Failure, Operation, Outcome
from furlough.core.plan import Before, Handover, Method, PlannedStep, Unplaced, numbered
from furlough.core.policy import CancelMode, ClusterPolicy, EnterOptions, Limits
from furlough.core.states import HostMode, OperationState, Power, StepState
from furlough.core.steering import (
    OperationPaused,
    OperationResumed,
    StepOvertaken,
    StepsApproved,
)
from furlough.errors import (
    Conflict,
    FurloughError,
    Invalid,
    NotFound,
    Refused,
    Stale,
    Unreachable,
)
from furlough.planning.record import Away, is_closed_by
from furlough.ports import IdempotencyKey, Store
from furlough.store import schema, tables
from furlough.store.database import Database
from tests.conformance.builders import (
    FLEET,
    LONG_S,
    RACK,
    T0,
    A,
    Ask,
    B,
    C,
    D,
    Runner,
    SettableClock,
    begun,
    change,
    cordoning,
    datastore,
    entering,
    evacuated,
    exiting,
    host,
    migrating,
    move,
    opened,
    roster_entry,
    shutting_down,
    start,
    starting,
    stop,
    terms,
    told,
    uncordoning,
    vm,
)
from tests.conformance.invariants import NOTHING_YET, check, check_room, everything
from tests.conformance.postgres import Server

T = TypeVar("T")
SHED = ClusterName("shed")


async def at_once(*works: Coroutine[Any, Any, T]) -> tuple[list[T], list[FurloughError]]:
    """All of these at the same time: what those brought that ended well, and our errors."""
    ends = await asyncio.gather(*works, return_exceptions=True)
    done: list[T] = []
    errors: list[FurloughError] = []
    for end in ends:
        if isinstance(end, FurloughError):
            errors.append(end)
        elif isinstance(end, BaseException):
            raise end
        else:
            done.append(end)
    return done, errors


# --- opening -------------------------------------------------------------------------------------


@told
async def test_opening_twice_changes_nothing(store: Store) -> None:
    await begun(store, entering(A, move(1, A, B)))
    before, name = await everything(store), await store.controller_id()
    await store.open()
    assert await everything(store) == before
    assert await store.controller_id() == name


@told
async def test_opening_creates_a_store_and_the_next_process_finds_it_as_it_was(
    empty_url: str, clock: SettableClock
) -> None:
    async with opened(empty_url, clock) as store:
        assert await everything(store) == NOTHING_YET
        await store.enrol(FLEET)
        await begun(store, entering(A, move(1, A, B)))
        before, name = await everything(store), await store.controller_id()
    async with opened(empty_url, clock) as store:
        assert await everything(store) == before
        assert await store.controller_id() == name


@told
async def test_what_was_accepted_is_there_although_nobody_closed_the_store(
    empty_url: str, clock: SettableClock
) -> None:
    async with opened(empty_url, clock) as dead:
        await dead.enrol(FLEET)
        accepted = await entering(A, move(1, A, B)).accept(dead)
        async with opened(empty_url, clock) as survivor:
            assert await survivor.operation(accepted.id) == accepted


@told
async def test_two_installations_have_two_names(tmp_path: Path, clock: SettableClock) -> None:
    async with (
        opened(f"sqlite:///{tmp_path}/one.db", clock) as one,
        opened(f"sqlite:///{tmp_path}/other.db", clock) as other,
    ):
        assert await one.controller_id() != await other.controller_id()


@told
async def test_the_migrations_give_exactly_the_schema_that_a_new_store_has(
    empty_url: str, clock: SettableClock
) -> None:
    with connected(empty_url) as connection:
        schema.upgrade(connection)
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
        migrated = portrait(connection)
        found = MetaData()
        found.reflect(connection)
        found.drop_all(connection)
    async with opened(empty_url, clock):
        pass
    with connected(empty_url) as connection:
        assert portrait(connection) == migrated


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """A connection beside the store's own; what is done with it is committed."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def portrait(connection: Connection) -> dict[str, object]:
    """All that can be asked of a schema, Alembic's own table among it, and its version."""
    eye = inspect(connection)

    def by_name(found: Sequence[Any]) -> list[str]:
        return sorted(repr(sorted(one.items(), key=str)) for one in found)

    version = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return {"version": version} | {
        name: (
            by_name(eye.get_columns(name)),
            eye.get_pk_constraint(name),
            by_name(eye.get_foreign_keys(name)),
            by_name(eye.get_unique_constraints(name)),
            by_name(eye.get_indexes(name)),
        )
        for name in eye.get_table_names()
    }


def test_the_head_of_the_schema_is_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).with_name("migrations")))
    assert ScriptDirectory.from_config(config).get_heads() == [schema.HEAD]


@told
async def test_a_newer_schema_is_refused_and_left_alone(  # F026
    empty_url: str, clock: SettableClock
) -> None:
    async with opened(empty_url, clock) as store:
        await store.enrol(FLEET)
    with connected(empty_url) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        before = portrait(connection)
    with pytest.raises(Refused) as refusal:
        async with opened(empty_url, clock):
            pass
    assert refusal.value.code == "store.newer_schema"
    with connected(empty_url) as connection:
        assert portrait(connection) == before
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "9999"


OPENING = """
import asyncio, sys
from furlough.clock import RealClock
from furlough.store.sql import SqlStore

async def main():
    store = SqlStore(sys.argv[1], RealClock())
    print("ready", flush=True)
    sys.stdin.readline()
    await store.open()
    print(await store.controller_id())
    await store.close()

asyncio.run(main())
"""


@pytest.mark.postgres
@told
async def test_processes_that_start_at_the_same_time_open_one_store(server: Server) -> None:
    url = server.url(server.fresh_database())
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-c", OPENING, url)
    processes = [
        await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    ends = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    assert [errors.decode() for _, errors in ends if errors] == []
    assert len({name for name, _ in ends}) == 1


# --- enrolling -----------------------------------------------------------------------------------


@told
async def test_what_is_enrolled_is_read_back_in_its_order(bare: Store) -> None:
    await bare.enrol(FLEET)
    await bare.enrol(Enrolment(hosts=[host("0first-by-name")]))
    await bare.enrol(Enrolment(hosts=[host("c", address="198.51.100.7")]))
    enrolment = await bare.enrolment()
    assert [one.name for one in enrolment.hosts] == [A, B, C, D, "0first-by-name"]
    assert enrolment.host(C) == host("c", address="198.51.100.7")
    assert list(enrolment.clusters) == list(FLEET.clusters)
    assert list(enrolment.datastores) == list(FLEET.datastores)
    assert list(await bare.standings()) == [A, B, C, D, "0first-by-name"]
    assert {one.mode for one in (await bare.standings()).values()} == {HostMode.AVAILABLE}


WRONG_ENROLMENTS = [
    (Enrolment(hosts=[host("x", SHED)]), "cluster.unknown"),
    (Enrolment(datastores=[datastore("other", SHED)]), "cluster.unknown"),
    (Enrolment(hosts=[host("x", datastores=("images", "lost"))]), "datastore.unknown"),
    (
        Enrolment(clusters=[Cluster(name=SHED)], hosts=[host("x", SHED, datastores=("images",))]),
        "datastore.unknown",
    ),
]


@told
async def test_enrolment_is_all_or_nothing(store: Store) -> None:
    before = await everything(store)
    for wrong, code in WRONG_ENROLMENTS:
        with_good_ones = Enrolment(
            clusters=[*wrong.clusters, Cluster(name=RACK, policy=ClusterPolicy(max_hosts_away=3))],
            datastores=[datastore("more"), *wrong.datastores],
            hosts=[host("e"), host("a", address="198.51.100.1"), *wrong.hosts],
        )
        with pytest.raises(NotFound) as refusal:
            await store.enrol(with_good_ones)
        assert refusal.value.code == code
        assert await everything(store) == before


@told
async def test_a_host_enrolled_again_keeps_its_mode_its_owner_and_its_identity(
    store: Store,
) -> None:
    runner = await begun(store, entering(A))
    await store.enrol(Enrolment(hosts=[host("a", uuid="4c4c-4544")]))
    await store.enrol(Enrolment(hosts=[host("a", link_mbit_s=25_000)]))
    assert (await store.enrolment()).host(A) == host("a", link_mbit_s=25_000, uuid="4c4c-4544")
    standing = (await store.standings())[A]
    assert (standing.mode, standing.operation) == (HostMode.ENTERING, runner.operation.id)


@told
async def test_a_host_enrolled_at_another_address_is_met_anew(store: Store) -> None:
    await store.enrol(Enrolment(hosts=[host("a", uuid="4c4c-4544")]))
    await store.enrol(Enrolment(hosts=[host("a", address="198.51.100.1")]))
    assert (await store.enrolment()).host(A).uuid == ""


@told
async def test_what_is_enrolled_while_somebody_reads_is_not_forgotten(bare: Store) -> None:
    many = [Cluster(name=ClusterName(f"cluster{number}")) for number in range(800)]
    await bare.enrol(Enrolment(clusters=many))
    for number in range(6):
        added = ClusterName(f"added{number}")
        await at_once(bare.enrolment(), bare.enrol(Enrolment(clusters=[Cluster(name=added)])))
        assert (await bare.enrolment()).clusters[-1].name == added


async def _cordoned(store: Store, which: HostName = A) -> None:
    runner = await begun(store, cordoning(which))
    done = change(which, HostMode.AVAILABLE, HostMode.CORDONED)
    await runner.end(OperationState.SUCCEEDED, done)


async def _owned(store: Store) -> None:
    await begun(store, entering(A))


async def _somebodys_target(store: Store) -> None:
    await begun(store, entering(B, move(1, B, A)))


async def _somebodys_source(store: Store) -> None:
    runner = await begun(store, migrating(move(1, A, B)))
    await runner.start(1)


async def _the_scene_of_a_shut_down(store: Store) -> None:
    await begun(store, shutting_down(1, A))


async def _about_to_lose_a_vm(store: Store) -> None:
    await begun(store, migrating(move(1, A, B)))


async def _home_of_somebody_away(store: Store) -> None:
    await evacuated(store, A, move(1, A, B))
    runner = await begun(store, exiting(A, move(1, B, A)))
    await runner.carry_out(1)
    await runner.start(2)
    await runner.fail(2)
    await runner.carry_out(3)
    await runner.end(OperationState.FAILED, change(A, HostMode.EXITING, HostMode.AVAILABLE))


WORK_ON_A = {
    "it is cordoned": (_cordoned, "host.mode"),
    "an operation owns it": (_owned, "host.busy"),
    "it is the target of an evacuation": (_somebodys_target, "host.busy"),
    "a migration leaves it": (_somebodys_source, "host.busy"),
    "a VM is shut down there": (_the_scene_of_a_shut_down, "host.busy"),
    "a migration is about to leave it": (_about_to_lose_a_vm, "host.busy"),
    "an evacuated VM calls it home": (_home_of_somebody_away, "host.is_home"),
}


@pytest.mark.parametrize("why", WORK_ON_A)
@told
async def test_f092_a_host_with_work_is_neither_removed_nor_moved_to_another_cluster(
    store: Store, why: str
) -> None:
    work, code = WORK_ON_A[why]
    await work(store)
    await store.enrol(Enrolment(clusters=[Cluster(name=SHED)]))
    before = await everything(store)
    with pytest.raises(Conflict) as removal:
        await store.remove_host(A)
    with pytest.raises(Conflict) as moving:
        await store.enrol(Enrolment(hosts=[host("a", SHED)]))
    assert (removal.value.code, moving.value.code) == (code, code)
    assert removal.value.remedy
    assert await everything(store) == before


@told
async def test_a_host_is_removed_once_its_work_is_over(store: Store) -> None:
    runner = await begun(store, entering(B, move(1, B, A)))
    with pytest.raises(Conflict):
        await store.remove_host(A)
    await runner.carry_out(1, 2, 3)
    await runner.end(OperationState.SUCCEEDED, change(B, HostMode.ENTERING, HostMode.CORDONED))
    await store.remove_host(A)
    assert A not in await store.standings()
    assert [one.name for one in (await store.enrolment()).hosts] == [B, C, D]


@told
async def test_a_datastore_is_removed_when_no_host_lists_it(store: Store) -> None:
    with pytest.raises(Conflict) as refusal:
        await store.remove_datastore("images")
    assert refusal.value.code == "datastore.in_use"
    assert "a, b, c, d" in refusal.value.message
    await store.enrol(Enrolment(hosts=[host(name) for name in "abcd"]))
    await store.remove_datastore("images")
    assert list((await store.enrolment()).datastores) == []


@told
async def test_a_datastore_that_hosts_list_stays_in_their_cluster(store: Store) -> None:
    await store.enrol(Enrolment(clusters=[Cluster(name=SHED)]))
    with pytest.raises(Conflict):
        await store.enrol(Enrolment(datastores=[datastore("images", SHED)]))
    assert list((await store.enrolment()).datastores) == list(FLEET.datastores)


@told
async def test_a_cluster_is_removed_when_it_is_empty(store: Store) -> None:
    await store.enrol(Enrolment(hosts=[host(name) for name in "abcd"]))
    for name in (A, B, C, D):
        with pytest.raises(Conflict) as refusal:
            await store.remove_cluster(RACK)
        assert refusal.value.code == "cluster.not_empty"
        await store.remove_host(name)
    with pytest.raises(Conflict):
        await store.remove_cluster(RACK)
    await store.remove_datastore("images")
    await store.remove_cluster(RACK)
    enrolment = await store.enrolment()
    assert [*enrolment.clusters, *enrolment.datastores, *enrolment.hosts] == []


@told
async def test_what_is_not_enrolled_cannot_be_removed(store: Store) -> None:
    before = await everything(store)
    with pytest.raises(NotFound, match="no cluster 'shed'"):
        await store.remove_cluster(SHED)
    with pytest.raises(NotFound, match="no datastore 'lost'"):
        await store.remove_datastore("lost")
    with pytest.raises(NotFound, match="no host 'x'"):
        await store.remove_host(HostName("x"))
    assert await everything(store) == before


# --- accepting -----------------------------------------------------------------------------------


@told
async def test_accepting_an_entry_reserves_room_owns_host_and_vms_and_changes_the_mode(
    store: Store, clock: SettableClock
) -> None:
    ask = entering(A, move(1, A, B, C), move(2, A, C, memory_mib=2048))
    operation = await ask.accept(store)
    assert (operation.state, operation.created_at) == (OperationState.QUEUED, clock.now())
    assert (operation.plan, operation.roster) == (ask.event.plan, ask.event.roster)
    assert [step.state for step in operation.steps] == [StepState.PENDING] * 4
    assert await store.operation(operation.id) == operation
    assert sorted(await store.reservations(), key=repr) == [
        reservation(operation, 1, B, 1024),
        reservation(operation, 2, C, 2048),
    ]
    standings = await store.standings()
    assert (standings[A].mode, standings[A].operation) == (HostMode.ENTERING, operation.id)
    assert {standings[name].operation for name in (B, C, D)} == {None}
    with pytest.raises(Conflict, match=vm(2)):
        await migrating(move(2, A, D)).accept(store)


def reservation(operation: Operation, number: int, where: HostName, memory_mib: int) -> Reservation:
    """Room for a VM of the builders' kind."""
    load = Load(memory_mib=memory_mib, vcpus=2)
    return Reservation(operation=operation.id, vm=vm(number), host=where, load=load)


@told
async def test_an_operation_about_a_vm_owns_the_vm_and_not_its_host(store: Store) -> None:
    first = await migrating(move(1, A, B)).accept(store)
    second = await entering(A, move(2, A, B)).accept(store)
    assert (await store.standings())[A].operation == second.id
    assert [one.id for one in await store.operations(active=True)] == [second.id, first.id]


BESIDE_AN_ENTRY = [
    (entering(A, move(2, A, B)), "host.busy"),
    (cordoning(A), "host.busy"),
    (uncordoning(A), "host.busy"),
    (migrating(move(1, A, C)), "vm.owned"),
    (shutting_down(1, A), "vm.owned"),
    (starting(1, C), "vm.owned"),
    (entering(C, move(1, C, B)), "vm.owned"),
]


@told
async def test_a_second_operation_on_a_host_or_vm_is_refused_with_the_id_of_the_first(  # S4, F095
    store: Store,
) -> None:
    first = await entering(A, move(1, A, B)).accept(store)
    before = await everything(store)
    for ask, code in BESIDE_AN_ENTRY:
        with pytest.raises(Conflict) as refusal:
            await ask.accept(store)
        assert (refusal.value.code, refusal.value.facts["operation"]) == (code, first.id)
        assert await everything(store) == before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (entering(A, move(1, A, B)), entering(A, move(2, A, B))),
        (entering(A), cordoning(A)),
        (migrating(move(1, A, B)), migrating(move(1, A, C))),
        (entering(A, move(1, A, B)), shutting_down(1, A)),
    ],
    ids=["enter twice", "enter and cordon", "migrate twice", "evacuate and shut down"],
)
@told
async def test_of_operations_that_arrive_together_on_one_host_or_vm_one_is_accepted(  # S4, F095
    store: Store, second: Store, one: Ask, other: Ask
) -> None:
    accepted, refusals = await at_once(
        *(ask.accept(which) for ask in (one, other) for which in (store, second))
    )
    assert len(accepted) == 1
    assert {error.facts["operation"] for error in refusals} == {accepted[0].id}
    check(await everything(store))


@told
async def test_of_enter_and_exit_at_once_the_mode_decides(  # F096
    store: Store, second: Store
) -> None:
    await evacuated(store, A)
    accepted, refusals = await at_once(
        entering(A, mode=HostMode.CORDONED).accept(store), exiting(A).accept(second)
    )
    assert [one.kind.value for one in accepted] == ["exit"]
    assert [error.code for error in refusals] in (["host.mode"], ["host.busy"])


@told
async def test_a_host_that_is_not_in_the_mode_expected_refuses_and_leaves_nothing(
    store: Store,
) -> None:
    before = await everything(store)
    with pytest.raises(Conflict) as refusal:
        await exiting(A, move(1, B, A)).accept(store)
    assert refusal.value.code == "host.mode"
    assert await everything(store) == before


@told
async def test_no_more_hosts_of_a_cluster_are_away_than_its_policy_allows(store: Store) -> None:
    two = terms(away=2)
    await store.enrol(Enrolment(clusters=[Cluster(name=SHED)], hosts=[host("x", SHED)]))
    await entering(HostName("x"), given=two).accept(store)
    runner = await begun(store, entering(A, given=two))
    await evacuated(store, B)
    before = await everything(store)
    with pytest.raises(Conflict) as refusal:
        await entering(C, given=two).accept(store)
    assert refusal.value.code == "cluster.host_away"
    assert "a, b" in refusal.value.message
    assert await everything(store) == before
    await runner.end(OperationState.FAILED, change(A, HostMode.ENTERING, HostMode.CORDONED))
    await entering(C, given=two).accept(store)


@told
async def test_of_entries_that_arrive_together_as_many_are_accepted_as_may_be_away(
    store: Store, second: Store
) -> None:
    two = terms(away=2)
    stores = (store, second, store, second)
    accepted, refusals = await at_once(
        *(
            entering(name, given=two).accept(which)
            for name, which in zip((A, B, C, D), stores, strict=True)
        )
    )
    assert len(accepted) == 2
    assert [error.code for error in refusals] == ["cluster.host_away"] * 2


@told
async def test_two_hosts_are_never_each_others_targets(store: Store, second: Store) -> None:  # F094
    accepted, refusals = await at_once(
        entering(A, move(1, A, B)).accept(store), entering(B, move(2, B, A)).accept(second)
    )
    assert len(accepted) == 1
    assert [error.code for error in refusals] == ["target.not_available"]


@told
async def test_a_host_that_is_not_available_is_no_target(store: Store) -> None:  # S12
    await _cordoned(store)
    before = await everything(store)
    for ask in (entering(B, move(1, B, A)), migrating(move(1, B, A)), starting(1, A)):
        with pytest.raises(Refused) as refusal:
            await ask.accept(store)
        assert refusal.value.code == "target.not_available"
        assert await everything(store) == before


@told
async def test_a_host_that_was_removed_meanwhile_is_no_target(store: Store) -> None:
    ask = entering(B, move(1, B, A))
    await store.remove_host(A)
    before = await everything(store)
    with pytest.raises((Refused, NotFound)):
        await ask.accept(store)
    assert await everything(store) == before


@told
async def test_a_host_that_was_removed_meanwhile_is_not_entered(store: Store) -> None:
    await store.remove_host(A)
    before = await everything(store)
    with pytest.raises((Refused, NotFound)):
        await entering(A).accept(store)
    assert await everything(store) == before


# --- room ----------------------------------------------------------------------------------------


@told
async def test_two_operations_never_hold_more_room_than_a_target_has(store: Store) -> None:  # S11
    first = await entering(A, move(1, A, C, memory_mib=3000), given=terms(c=4000)).accept(store)
    with pytest.raises(Refused) as refusal:
        await entering(B, move(2, B, C, memory_mib=1001), given=terms(c=4000)).accept(store)
    assert refusal.value.code == "target.no_room"
    assert await store.reservations() == [reservation(first, 1, C, 3000)]
    await entering(B, move(2, B, C, memory_mib=1000), given=terms(c=4000)).accept(store)
    check_room({C: 4000}, await store.reservations())


@told
async def test_of_operations_that_arrive_together_those_get_room_for_whom_it_suffices(  # S11, F097
    store: Store, second: Store
) -> None:
    asks = [
        migrating(move(number, A, C, memory_mib=1000), given=terms(c=3500)) for number in range(8)
    ]
    accepted, refusals = await at_once(
        *(ask.accept((store, second)[number % 2]) for number, ask in enumerate(asks))
    )
    assert len(accepted) == 3
    assert {error.code for error in refusals} == {"target.no_room"}
    check_room({C: 3500}, await store.reservations())


@told
async def test_the_vms_of_one_plan_share_the_room_of_their_target(store: Store) -> None:  # S11
    moves = [move(number, A, C, memory_mib=1500) for number in range(3)]
    with pytest.raises(Refused) as refusal:
        await entering(A, *moves, given=terms(c=4000)).accept(store)
    assert refusal.value.code == "target.no_room"
    await entering(A, *moves, given=terms(c=4500)).accept(store)
    check_room({C: 4500}, await store.reservations())


@told
async def test_vcpus_are_room_too(store: Store) -> None:  # S11
    def given(vcpus: int) -> Terms:
        room = Room(free=Load(memory_mib=1 << 20, vcpus=vcpus))
        return replace(terms(), rooms={C: room})

    await migrating(move(1, A, C), given=given(5)).accept(store)
    await migrating(move(2, A, C), given=given(5)).accept(store)
    with pytest.raises(Refused, match="1 vCPUs"):
        await migrating(move(3, A, C), given=given(5)).accept(store)
    assert len(await store.reservations()) == 2


@told
async def test_a_vm_that_has_arrived_counts_once(store: Store) -> None:
    runner = await begun(store, entering(A, move(1, A, C, memory_mib=3000)))
    await runner.carry_out(1, 2)
    arrived = terms(c=(1000, {vm(1)}))
    await migrating(move(2, B, C, memory_mib=1000), given=arrived).accept(store)
    with pytest.raises(Refused):
        await migrating(move(3, B, C, memory_mib=1), given=arrived).accept(store)
    assert len(await store.reservations()) == 2


@told
async def test_a_step_starts_only_while_its_target_still_has_the_room(store: Store) -> None:  # S11
    runner = await begun(store, entering(A, move(1, A, C, D, memory_mib=3000)))
    await runner.carry_out(1)
    before = await everything(store)
    with pytest.raises(Refused) as refusal:
        await runner.start(2, given=terms(c=2999))
    assert refusal.value.code == "target.no_room"
    assert await everything(store) == before
    await begun(store, migrating(move(2, B, D, memory_mib=2000)))
    with pytest.raises(Refused):
        await runner.start(2, D, given=terms(d=4999))
    await runner.start(2, D, given=terms(d=5000))
    check_room({D: 5000}, await store.reservations())


def extension(runner: Runner, *moves: PlannedStep) -> PlanExtended:
    """VMs that appeared on the host after its plan was made."""
    steps = numbered(moves, first=len(runner.operation.steps) + 1)
    return PlanExtended(steps=steps, roster=tuple(map(roster_entry, moves)), why="they appeared")


@told
async def test_a_plan_that_grows_reserves_for_the_newcomers_and_owns_them(store: Store) -> None:
    runner = await begun(store, entering(A, move(1, A, B)))
    await runner.write(extension(runner, move(2, A, C, memory_mib=2048)))
    assert [step.number for step in runner.operation.steps] == [1, 2, 3, 4]
    held = sorted(await store.reservations(), key=repr)
    assert held[1] == reservation(runner.operation, 2, C, 2048)
    with pytest.raises(Conflict) as refusal:
        await migrating(move(2, A, B)).accept(store)
    assert refusal.value.facts["operation"] == runner.operation.id


@told
async def test_a_plan_does_not_grow_by_a_vm_of_another_operation(store: Store) -> None:  # S4
    other = await migrating(move(2, A, C)).accept(store)
    runner = await begun(store, entering(A))
    before = await everything(store)
    with pytest.raises(Conflict) as refusal:
        await runner.write(extension(runner, move(2, A, D)))
    assert refusal.value.facts["operation"] == other.id
    assert await everything(store) == before


@told
async def test_a_plan_does_not_grow_beyond_the_room_of_its_targets(store: Store) -> None:  # S11
    runner = await begun(store, entering(A))
    await begun(store, migrating(move(2, B, C, memory_mib=3000), given=terms(c=4000)))
    before = await everything(store)
    with pytest.raises(Refused) as refusal:
        await runner.write(extension(runner, move(3, A, C, memory_mib=2000)), given=terms(c=4000))
    assert refusal.value.code == "target.no_room"
    assert await everything(store) == before


# --- the same request again ----------------------------------------------------------------------

KEY = IdempotencyKey(principal="alice", key="k1", content="c" * 64)


@told
async def test_the_same_key_returns_the_operation_it_has_made(store: Store) -> None:  # F001, F002
    ask = entering(A, move(1, A, B))
    assert await store.repeat_of(KEY) is None
    first = await ask.accept(store, KEY)
    before = await everything(store)
    assert await ask.accept(store, KEY) == first
    assert await store.repeat_of(KEY) == first
    assert await everything(store) == before


@told
async def test_the_same_key_returns_its_operation_as_it_is_by_now(store: Store) -> None:
    ask = migrating(move(1, A, B))
    accepted = await ask.accept(store, KEY)
    runner = Runner(store, (await store.claim("p1", LONG_S))[0])
    await runner.carry_out(1)
    await runner.end(OperationState.SUCCEEDED)
    repeated = await ask.accept(store, KEY)
    assert (repeated.id, repeated.state) == (accepted.id, OperationState.SUCCEEDED)
    assert repeated == runner.operation


@told
async def test_the_same_key_for_another_request_is_invalid(store: Store) -> None:  # F124
    await migrating(move(1, A, B)).accept(store, KEY)
    before = await everything(store)
    other = replace(KEY, content="d" * 64)
    with pytest.raises(Invalid) as asking:
        await store.repeat_of(other)
    with pytest.raises(Invalid) as accepting:
        await migrating(move(2, A, B)).accept(store, other)
    assert asking.value.code == accepting.value.code == "idempotency.mismatch"
    assert await everything(store) == before


@told
async def test_two_callers_may_use_the_same_key(store: Store) -> None:
    mine = await migrating(move(1, A, B)).accept(store, KEY)
    other = replace(KEY, principal="bob")
    assert await store.repeat_of(other) is None
    theirs = await migrating(move(2, A, B)).accept(store, other)
    assert theirs.id != mine.id


@told
async def test_the_same_key_at_the_same_time_makes_one_operation(
    store: Store, second: Store
) -> None:
    ask = entering(A, move(1, A, B))
    stores = (store, second) * 4
    accepted, refusals = await at_once(*(ask.accept(which, KEY) for which in stores))
    assert refusals == []
    assert {one.id for one in accepted} == {accepted[0].id}
    assert len(await store.operations()) == 1


@told
async def test_a_refused_request_does_not_use_up_its_key(store: Store) -> None:  # F001
    first = await begun(store, migrating(move(1, A, B)))
    with pytest.raises(Conflict):
        await migrating(move(1, A, C)).accept(store, KEY)
    assert await store.repeat_of(KEY) is None
    await first.carry_out(1)
    await first.end(OperationState.SUCCEEDED)
    accepted = await migrating(move(1, B, C)).accept(store, KEY)
    assert await store.repeat_of(KEY) == accepted


# --- appending -----------------------------------------------------------------------------------


@told
async def test_what_was_decided_on_an_outdated_operation_is_stale(store: Store) -> None:
    runner = await begun(store, entering(A, move(1, A, B)))
    outdated = runner.operation
    await runner.write(CancelRequested(mode=CancelMode.FINISH, by="alice"))
    before = await everything(store)
    with pytest.raises(Stale):
        await store.append(outdated, [StepStarted(step=1, target=None, epoch=outdated.epoch)])
    assert await everything(store) == before


@told
async def test_of_two_appends_at_the_same_time_one_is_stale(store: Store, second: Store) -> None:
    runner = await begun(store, entering(A, move(1, A, B)))
    known = runner.operation
    words: list[Event] = [
        CancelRequested(mode=CancelMode.STOP, by="alice"),
        OperationBlocked(code="host.silent", waiting_for="host a"),
    ]
    done, refusals = await at_once(store.append(known, words[:1]), second.append(known, words[1:]))
    assert [type(error) for error in refusals] == [Stale]
    assert await store.operation(known.id) == done[0]
    check(await everything(store))


@told
async def test_a_process_whose_epoch_is_overtaken_writes_nothing(  # S5, F012
    store: Store, second: Store
) -> None:
    operation = await entering(A, move(1, A, B)).accept(store)
    frozen = Runner(store, (await store.claim("frozen", 0.0))[0])
    (taken,) = await second.claim("next", LONG_S)
    assert (taken.id, taken.owner) == (operation.id, "next")
    assert taken.epoch > frozen.operation.epoch
    before = await everything(store)
    late: list[Event] = [
        StepStarted(step=1, target=None, epoch=frozen.operation.epoch),
        OperationReleased(),
        OperationEnded(state=OperationState.FAILED),
    ]
    for event in late:
        with pytest.raises(Stale):
            await frozen.write(event)
    assert await store.renew("frozen", LONG_S) == []
    assert await everything(store) == before


@told
async def test_an_unknown_operation_is_not_found(store: Store) -> None:
    runner = await begun(store, migrating(move(1, A, B)))
    unknown = operation_id(4711)
    with pytest.raises(NotFound):
        await store.operation(unknown)
    with pytest.raises(NotFound):
        await store.append(replace(runner.operation, id=unknown), [OperationReleased()])


CANCEL = CancelRequested(mode=CancelMode.STOP, by="alice")
AFTER_THE_END: dict[str, Event] = {
    "an end": OperationEnded(state=OperationState.FAILED),
    "a cancel": CANCEL,
    "a start": StepStarted(step=1, target=B, epoch=1),
    "an outcome": StepSucceeded(step=1, outcome=Outcome.MOVED, where=B),
    "a newcomer": PlanExtended(
        steps=numbered((move(99, A, B),), first=2), roster=(roster_entry(move(99, A, B)),), why=""
    ),
    "a word": OperationUnblocked(by="alice"),
    "a mode": change(A, HostMode.AVAILABLE, HostMode.CORDONED),
}


@told
async def test_an_operation_that_is_over_takes_no_more_events(store: Store) -> None:  # S8, L6
    taken = []
    for number, (what, event) in enumerate(AFTER_THE_END.items()):
        runner = await begun(store, migrating(move(number, A, B)))
        await runner.end(OperationState.CANCELLED, CANCEL)
        before = await everything(store)
        with suppress(Conflict):
            await store.append(runner.operation, [event])
            taken.append(what)
        if what not in taken:
            assert await everything(store) == before
    assert taken == []


# --- slots and targets ---------------------------------------------------------------------------


async def flying(store: Store, *moves: PlannedStep) -> list[Runner]:
    """Each of these in flight, each by an operation of its own."""
    runners = []
    for one in moves:
        runner = await begun(store, migrating(one))
        await runner.start(1, given=terms(Limits(per_source=9, per_target=9, per_cluster=9)))
        runners.append(runner)
    return runners


SLOTS = {
    "source": (Limits(per_source=2, per_target=9), [move(1, A, B), move(2, A, C)], move(3, A, D)),
    "target": (Limits(per_source=9, per_target=2), [move(1, A, D), move(2, B, D)], move(3, C, D)),
    "cluster": (Limits(per_cluster=2), [move(1, A, B), move(2, B, C)], move(3, C, D)),
}


@pytest.mark.parametrize("bottleneck", SLOTS)
@told
async def test_migrations_of_all_operations_share_the_slots(  # F104
    store: Store, bottleneck: str
) -> None:
    limits, others, last = SLOTS[bottleneck]
    first, *_ = await flying(store, *others)
    waiting = await begun(store, migrating(last))
    before = await everything(store)
    with pytest.raises(Conflict) as refusal:
        await waiting.start(1, given=terms(limits))
    assert refusal.value.code == "slot.none"
    assert await everything(store) == before
    await first.succeed(1)
    await waiting.start(1, given=terms(limits))
    assert waiting.operation.step(1).state is StepState.STARTED


@told
async def test_a_migration_that_is_over_gives_its_slot_back(store: Store) -> None:
    one_each = terms(Limits(per_source=1, per_target=1, per_cluster=1))
    ends: list[Callable[[Runner], Coroutine[Any, Any, None]]] = [
        lambda runner: runner.succeed(1),
        lambda runner: runner.fail(1),
        lambda runner: runner.fail(1, again=True),
        lambda runner: runner.skip(1),
    ]
    (flight,) = await flying(store, move(0, A, B))
    for number, end in enumerate(ends, 1):
        waiting = await begun(store, migrating(move(number, A, B)))
        with pytest.raises(Conflict) as refusal:
            await waiting.start(1, given=one_each)
        assert refusal.value.code == "slot.none"
        await end(flight)
        await waiting.start(1, given=one_each)
        flight = waiting


@told
async def test_of_migrations_that_start_together_as_many_start_as_there_are_slots(
    store: Store, second: Store
) -> None:
    for number in range(6):
        await migrating(move(number, A, B)).accept(store)
    three = terms(Limits(per_source=3, per_target=4, per_cluster=5))
    _, refusals = await at_once(
        *(
            which.append(one, [StepStarted(step=1, target=B, epoch=one.epoch)], three)
            for one, which in zip(await store.claim("p1", LONG_S), (store, second) * 3, strict=True)
        )
    )
    assert [error.code for error in refusals] == ["slot.none"] * 3
    states = [one.step(1).state for one in await store.operations()]
    assert states.count(StepState.STARTED) == 3


@told
async def test_two_starts_in_one_append_need_two_slots(store: Store) -> None:
    runner = await begun(store, entering(A, move(1, A, B), move(2, A, C)))
    await runner.carry_out(1)
    epoch = runner.operation.epoch
    both = [StepStarted(step=2, target=B, epoch=epoch), StepStarted(step=3, target=C, epoch=epoch)]
    with pytest.raises(Conflict) as refusal:
        await runner.write(*both, given=terms(Limits(per_source=1)))
    assert refusal.value.code == "slot.none"


@told
async def test_other_clusters_do_not_use_up_the_slots_of_this_one(store: Store) -> None:
    away = [host("x", SHED), host("y", SHED)]
    await store.enrol(Enrolment(clusters=[Cluster(name=SHED)], hosts=away))
    await flying(store, move(1, HostName("x"), HostName("y")))
    here = await begun(store, migrating(move(2, A, B)))
    await here.start(1, given=terms(Limits(per_cluster=1)))
    assert here.operation.step(1).state is StepState.STARTED


@told
async def test_a_step_does_not_start_towards_a_host_that_is_leaving_service(  # S12, F093
    store: Store,
) -> None:
    runner = await begun(store, entering(A, move(1, A, B, C)))
    await runner.carry_out(1)
    await begun(store, entering(B))
    before = await everything(store)
    with pytest.raises(Refused) as refusal:
        await runner.start(2)
    assert refusal.value.code == "target.not_available"
    assert await everything(store) == before
    await runner.start(2, C)
    assert runner.operation.step(2).target == C


@told
async def test_a_host_that_is_exiting_takes_those_that_come_home_and_nobody_else(  # S12
    store: Store,
) -> None:
    await evacuated(store, A, move(1, A, B))
    runner = await begun(store, exiting(A, move(1, B, A)))
    with pytest.raises(Refused):
        await migrating(move(2, B, A)).accept(store)
    passer_by = await begun(store, migrating(move(3, B, C, A)))
    with pytest.raises(Refused):
        await passer_by.start(1, A)
    await runner.carry_out(1)
    await runner.start(2)
    assert runner.operation.step(2).state is StepState.STARTED


@told
async def test_a_host_that_was_removed_meanwhile_refuses_the_retry(store: Store) -> None:
    runner = await begun(store, entering(A, move(1, A, B, C)))
    await runner.carry_out(1)
    await runner.start(2)
    await runner.fail(2, again=True)
    await store.remove_host(C)
    with pytest.raises(Refused) as refusal:
        await runner.start(2, C)
    assert refusal.value.code == "target.not_available"


@told
async def test_the_reservation_follows_a_retry_to_its_new_target(store: Store) -> None:
    runner = await begun(store, entering(A, move(1, A, B, C)))
    await runner.carry_out(1)
    await runner.start(2)
    await runner.fail(2, again=True)
    assert await store.reservations() == [reservation(runner.operation, 1, B, 1024)]
    assert runner.operation.step(2).next_target == C
    await runner.start(2)
    assert await store.reservations() == [reservation(runner.operation, 1, C, 1024)]
    full = terms(b=1024)
    await migrating(move(2, D, B), given=full).accept(store)
    with pytest.raises(Refused):
        await migrating(move(3, D, B), given=full).accept(store)


@told
async def test_a_vm_that_goes_nowhere_any_more_holds_no_room(store: Store) -> None:
    runner = await begun(store, entering(A, *(move(number, A, B) for number in (1, 2, 3))))
    await runner.carry_out(1, 2)
    await runner.start(3)
    await runner.fail(3)
    arrived, waiting = (reservation(runner.operation, number, B, 1024) for number in (1, 3))
    assert sorted(await store.reservations(), key=lambda one: one.vm) == [arrived, waiting]
    await runner.skip(4)
    assert await store.reservations() == [arrived]


# --- ending --------------------------------------------------------------------------------------

BACK = change(A, HostMode.ENTERING, HostMode.CORDONED)


async def _succeeds(runner: Runner) -> None:
    await runner.carry_out(1, 2, 3)
    await runner.start(4)
    gone = change(A, HostMode.ENTERING, HostMode.MAINTENANCE)
    await runner.write(StepSucceeded(step=4), gone)
    await runner.end(OperationState.SUCCEEDED)


async def _fails(runner: Runner) -> None:
    await runner.carry_out(1)
    await runner.start(2)
    await runner.fail(2)
    await runner.end(OperationState.FAILED, BACK)


async def _is_cancelled(runner: Runner) -> None:
    await runner.carry_out(1, 2)
    await runner.start(3)
    await runner.write(CANCEL)
    await runner.fail(3)
    await runner.skip(4)
    await runner.end(OperationState.CANCELLED, BACK)


async def _runs_out_of_time(runner: Runner) -> None:
    await runner.write(DeadlinePassed())
    await runner.skip(1, 2, 3, 4)
    await runner.end(OperationState.FAILED, BACK)


async def _is_cancelled_while_nobody_owns_it(runner: Runner) -> None:
    await runner.write(OperationReleased())
    await runner.write(CANCEL)
    await runner.end(OperationState.CANCELLED, BACK)


ENDINGS = [
    _succeeds,
    _fails,
    _is_cancelled,
    _runs_out_of_time,
    _is_cancelled_while_nobody_owns_it,
]


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda one: one.__name__.strip("_"))
@told
async def test_an_operation_that_is_over_holds_nothing(  # L6
    store: Store, ending: Callable[[Runner], Coroutine[Any, Any, None]]
) -> None:
    runner = await begun(store, entering(A, move(1, A, B), move(2, A, C)))
    await ending(runner)
    assert (await store.operation(runner.operation.id)).is_final
    assert await store.reservations() == []
    assert {one.operation for one in (await store.standings()).values()} == {None}
    assert await store.operations(active=True) == []
    assert await store.claim("p2", LONG_S) == []
    assert await store.renew("p1", LONG_S) == []
    tight = terms(Limits(per_source=1, per_target=1, per_cluster=1), d=1024)
    for number in (1, 2):
        again = await begun(store, migrating(move(number, B, D), given=tight))
        await again.start(1, given=tight)
        await again.succeed(1)
        await again.end(OperationState.SUCCEEDED)


@told
async def test_an_operation_that_is_over_holds_no_slot(store: Store) -> None:  # L6
    (runner,) = await flying(store, move(1, A, B))
    waiting = await begun(store, migrating(move(2, A, B)))
    _, refusals = await at_once(runner.end(OperationState.FAILED))
    is_over = (await store.operation(runner.operation.id)).is_final
    assert is_over != bool(refusals)
    if is_over:
        await waiting.start(1, given=terms(Limits(per_source=1)))
        assert waiting.operation.step(1).state is StepState.STARTED


# --- who is away ---------------------------------------------------------------------------------


def away(runner: Runner, number: int, home: HostName, left_on: HostName) -> Away:
    """The record of a VM of the builders' kind, taken away by this operation."""
    plain = move(number, home)
    return Away(
        vm=vm(number),
        name=plain.vm_name,
        home=home,
        left_on=left_on,
        operation=runner.operation.id,
        since=runner.operation.created_at,
        before=plain.before,
        method=plain.method,
        load=plain.load,
    )


async def record(store: Store) -> list[Away]:
    """Everybody who is away, by VM."""
    return sorted(await store.away(), key=lambda one: one.vm)


@told
async def test_an_evacuation_records_who_has_moved_and_nobody_else(store: Store) -> None:
    moves = [move(1, A, B), move(2, A, C), move(3, A, B), move(4, A, B)]
    runner = await begun(store, entering(A, *moves))
    await runner.carry_out(1, 2, 3)
    assert await record(store) == [away(runner, 1, A, B), away(runner, 2, A, C)]
    await runner.start(4)
    await runner.fail(4)
    await runner.skip(5)
    await runner.end(OperationState.FAILED, BACK)
    assert await record(store) == [away(runner, 1, A, B), away(runner, 2, A, C)]


@told
async def test_a_vm_that_its_owner_moves_is_not_away(store: Store) -> None:
    runner = await begun(store, migrating(move(1, A, B)))
    await runner.carry_out(1)
    assert await store.away() == []


@told
async def test_a_vm_is_recorded_where_it_was_seen_to_arrive(store: Store) -> None:
    runner = await begun(store, entering(A, move(1, A, B, C)))
    await runner.carry_out(1)
    await runner.start(2)
    await runner.fail(2, again=True)
    await runner.carry_out(2)
    assert await record(store) == [away(runner, 1, A, C)]


@told
async def test_a_second_evacuation_keeps_the_first_home(  # F110
    store: Store, clock: SettableClock
) -> None:
    first = await evacuated(store, A, move(1, A, B))
    clock.advance(LONG_S)
    again = await evacuated(store, B, move(1, B, C), move(2, B, C))
    kept = replace(away(first, 1, A, C), operation=again.operation.id)
    assert await record(store) == [kept, away(again, 2, B, C)]


@told
async def test_a_vm_that_an_exit_brings_home_is_away_no_more(store: Store) -> None:
    first = await evacuated(store, A, move(1, A, B), move(2, A, B))
    runner = await begun(store, exiting(A, move(1, B, A), move(2, B, A)))
    await runner.carry_out(1, 2)
    assert await record(store) == [away(first, 2, A, B)]
    await runner.carry_out(3)
    assert await store.away() == []


@pytest.mark.parametrize("how", ["migrate", "evacuate"])
@told
async def test_a_vm_that_comes_home_by_another_way_is_away_no_more(store: Store, how: str) -> None:
    await evacuated(store, A, move(1, A, B))
    exit_ = await begun(store, exiting(A))
    await exit_.carry_out(1)
    await exit_.end(
        OperationState.CANCELLED, CANCEL, change(A, HostMode.EXITING, HostMode.CORDONED)
    )
    uncordon = await begun(store, uncordoning(A))
    done = change(A, HostMode.CORDONED, HostMode.AVAILABLE)
    await uncordon.end(OperationState.SUCCEEDED, done)
    assert [one.vm for one in await store.away()] == [vm(1)]
    if how == "migrate":
        runner = await begun(store, migrating(move(1, B, A)))
        await runner.carry_out(1)
    else:
        await evacuated(store, B, move(1, B, A))
    assert await store.away() == []


def stopped(runner: Runner, number: int, home: HostName, left_on: HostName) -> Away:
    """The record of a VM that this operation has stopped."""
    plain = stop(number, left_on)
    one = away(runner, number, home, left_on)
    return replace(one, was_stopped=True, method=plain.method, load=plain.load)


@told
async def test_an_evacuation_records_whom_it_has_stopped_and_an_exit_starts(store: Store) -> None:
    first = await evacuated(store, A, stop(1, A), move(2, A, B), stop(3, A, Method.SUSPEND))
    suspended = replace(stopped(first, 3, A, A), method=Method.SUSPEND)
    assert await record(store) == [stopped(first, 1, A, A), away(first, 2, A, B), suspended]
    runner = await begun(store, exiting(A, move(2, B, A), start(1, A), start(3, A)))
    await runner.carry_out(1, 2, 3)
    assert await record(store) == [suspended]
    await runner.start(4)
    await runner.fail(4)
    await runner.carry_out(5)
    done = change(A, HostMode.EXITING, HostMode.AVAILABLE)
    await runner.end(OperationState.FAILED, done)
    assert await record(store) == [suspended], "it could not be started, so it stays on record"


@told
async def test_a_vm_that_its_owner_stops_is_not_recorded(store: Store) -> None:
    runner = await begun(store, shutting_down(1, A))
    await runner.carry_out(1)
    assert await store.away() == []


@told
async def test_a_vm_that_its_owner_starts_again_is_off_the_record(store: Store) -> None:
    runner = await begun(store, entering(A, stop(1, A)))
    await runner.carry_out(1, 2)
    await runner.skip(3)
    await runner.end(OperationState.FAILED, BACK)
    assert await record(store) == [stopped(runner, 1, A, A)]
    await (await begun(store, uncordoning(A))).end(
        OperationState.SUCCEEDED, change(A, HostMode.CORDONED, HostMode.AVAILABLE)
    )
    started = await begun(store, starting(1, A))
    await started.carry_out(1)
    assert await store.away() == []


@told
async def test_a_vm_that_was_away_already_when_it_was_stopped_keeps_its_home(
    store: Store, clock: SettableClock
) -> None:
    first = await evacuated(store, A, move(1, A, B))
    clock.advance(LONG_S)
    second = await evacuated(store, B, stop(1, B))
    kept = replace(stopped(second, 1, A, B), since=first.operation.created_at)
    assert await record(store) == [kept]
    runner = await begun(store, exiting(B, start(1, B)))
    await runner.carry_out(1, 2)
    assert await record(store) == [replace(kept, was_stopped=False)]
    await runner.carry_out(3)
    await runner.end(OperationState.SUCCEEDED, change(B, HostMode.EXITING, HostMode.AVAILABLE))
    assert await record(store) == [replace(kept, was_stopped=False)], "it is still away from home"


@told
async def test_a_vm_that_runs_again_and_is_moved_counts_as_moved(store: Store) -> None:
    failed = await begun(store, entering(A, stop(1, A)))
    await failed.carry_out(1, 2)
    await failed.skip(3)
    await failed.end(OperationState.FAILED, BACK)
    again = await begun(store, entering(A, move(1, A, B), mode=HostMode.CORDONED))
    await again.carry_out(1, 2)
    (one,) = await store.away()
    assert (one.was_stopped, one.left_on, one.operation) == (False, B, again.operation.id)


async def _all_come(runner: Runner) -> None:
    await runner.carry_out(1, 2, 3, 4)


async def _one_cannot_come(runner: Runner) -> None:
    await runner.carry_out(1, 2)
    await runner.start(3)
    await runner.fail(3)
    await runner.carry_out(4)


async def _one_is_left_where_it_is(runner: Runner) -> None:
    await runner.carry_out(1, 2)
    await runner.skip(3)
    await runner.carry_out(4)


async def _the_guard_stays(runner: Runner) -> None:
    await runner.carry_out(1, 2, 3)
    await runner.start(4)
    await runner.fail(4)


EXITS = {
    "everybody comes": (_all_come, []),
    "one cannot come": (_one_cannot_come, [2]),
    "one is left where it is": (_one_is_left_where_it_is, [2]),
    "the guard cannot be lowered": (_the_guard_stays, [3]),
}


@pytest.mark.parametrize("story", EXITS)
@told
async def test_an_exit_that_is_over_closes_the_record_but_for_those_who_could_not_come(
    store: Store, story: str
) -> None:
    """VM 3 was not to come home: it stays on record only while the host is not back in service.
    VM 4 has another home."""
    ending, left = EXITS[story]
    await evacuated(store, A, *(move(number, A, B) for number in (1, 2, 3)))
    other = await evacuated(store, D, move(4, D, B))
    runner = await begun(store, exiting(A, move(1, B, A), move(2, B, A)))
    await ending(runner)
    before = await record(store)
    await runner.end(OperationState.FAILED, change(A, HostMode.EXITING, HostMode.CORDONED))
    after = await record(store)
    assert [one.vm for one in after] == [*map(vm, left), vm(4)]
    assert after == [one for one in before if not is_closed_by(runner.operation, one)]
    assert after[-1] == away(other, 4, D, B)


# --- maintenance ---------------------------------------------------------------------------------

EMPTY = change(B, HostMode.ENTERING, HostMode.MAINTENANCE)


@told
async def test_a_host_is_not_in_maintenance_while_somebody_is_expected_there(  # S3
    store: Store,
) -> None:
    coming = await begun(store, entering(A, move(1, A, B)))
    await coming.carry_out(1)
    await coming.start(2)
    runner = await begun(store, entering(B))
    await runner.carry_out(1)
    await runner.start(2)
    before = await everything(store)
    with pytest.raises(Conflict) as refusal:
        await runner.write(StepSucceeded(step=2), EMPTY)
    assert refusal.value.code == "host.expects_vms"
    assert await everything(store) == before
    await coming.fail(2)
    await coming.end(OperationState.FAILED, BACK)
    await runner.write(StepSucceeded(step=2), EMPTY)
    assert (await store.standings())[B].mode is HostMode.MAINTENANCE


@told
async def test_an_exit_that_is_cancelled_before_anybody_came_home_goes_back_to_maintenance(
    store: Store,
) -> None:
    first = await evacuated(store, A, move(1, A, B))
    runner = await begun(store, exiting(A, move(1, B, A)))
    await runner.carry_out(1)
    await runner.write(CANCEL)
    await runner.skip(2, 3)
    guard = PlannedStep(number=4, method=Method.RAISE_GUARD, host=A, wave=10)
    proof = PlannedStep(number=5, method=Method.CONFIRM_EMPTY, host=A, wave=11)
    await runner.write(PlanExtended(steps=(guard, proof), roster=(), why="put it right"))
    await runner.carry_out(4)
    await runner.start(5)
    back = change(A, HostMode.EXITING, HostMode.MAINTENANCE)
    await runner.write(StepSucceeded(step=5), back)
    await runner.end(OperationState.CANCELLED)
    assert (await store.standings())[A].mode is HostMode.MAINTENANCE
    assert await record(store) == [away(first, 1, A, B)]


# --- the journal ---------------------------------------------------------------------------------


def look(where: HostName, presence: Presence) -> Look:
    """An answer of a host."""
    return Look(
        host=where, at=T0, presence=presence, why=Why.MIGRATED, job=Job.INCOMING, has_process=True
    )


async def _a_long_story(store: Store) -> None:
    """Every kind of event, over several operations; promises are checked after every append."""
    runner = await begun(store, entering(A, move(1, A, B, C), move(2, A, C), move(3, A, D)))
    await runner.carry_out(1)
    await runner.start(2)
    act = StepActed(step=2, act=Act.SET_AUTOSTART, host=B, why="it had autostart")
    seen = Evidence(looks=(look(A, Presence.ABSENT), look(B, Presence.RUNNING)), meaning="moved")
    arrived = StepSucceeded(
        step=2, outcome=Outcome.MOVED, where=B, downtime_ms=84, sent_mib=1100, evidence=seen
    )
    await runner.write(act)
    await runner.write(replace(arrived, notes=("its clock jumped",)))
    await runner.write(OperationBlocked(code="host.silent", waiting_for="host c"))
    await runner.write(OperationUnblocked())
    await runner.write(OperationPaused(by="ann"))
    await runner.write(OperationResumed(by="ann"))
    await runner.write(StepsApproved(plan_hash="0" * 64, steps=(4,), by="ann"))
    await runner.write(extension(runner, move(4, A, B)))
    for _ in range(2):
        await runner.start(3)
        await runner.fail(3, again=True)
    refused = Failure(code="target.refused", message="no such CPU", remedy="Add one.")
    await runner.write(StepFailed(step=4, failure=refused, target=D, counts=False))
    gone = StepOvertaken(
        step=4, why="somebody moved it", outcome=Outcome.CHANGED_BY_OTHERS, where=D
    )
    await runner.write(replace(gone, evidence=seen))
    await runner.write(OperationReleased())
    runner = Runner(store, (await store.claim("p2", 0.0))[0])
    runner = Runner(store, (await store.claim("p3", LONG_S))[0])
    await runner.carry_out(3, 6)
    await runner.write(CANCEL)
    await runner.skip(5)
    await runner.end(OperationState.CANCELLED, BACK)
    late = await begun(store, entering(D, move(1, D, B)))
    await late.start(1)
    await late.fail(1)
    await late.write(StepOvertaken(step=1, why="moved by hand", outcome=Outcome.MOVED, where=B))
    await late.write(DeadlinePassed())
    await late.end(OperationState.FAILED, change(D, HostMode.ENTERING, HostMode.CORDONED))


@told
async def test_the_stored_operation_is_the_fold_of_its_journal_after_every_event(  # S8
    store: Store, second: Store
) -> None:
    await _a_long_story(store)
    kinds = {entry.event.kind for entry in await store.entries(0, 1000)}
    assert kinds == {kind.kind for kind in get_args(Event)}
    for operation in await second.operations():
        journal = await second.journal(operation.id)
        assert fold(journal) == operation
        assert [entry.number for entry in journal] == list(range(1, operation.events + 1))


@told
async def test_events_are_added_and_never_changed(store: Store, second: Store) -> None:  # S8
    """`Runner.write` looks at this after every append; here others write as well."""
    runner = await begun(store, entering(A, move(1, A, B)))
    await runner.carry_out(1, 2)
    before = await store.entries(0, 1000)
    await second.void_leases()
    await second.claim("p2", LONG_S)
    await migrating(move(2, A, C)).accept(second)
    after = await second.entries(0, 1000)
    assert after[: len(before)] == before
    assert len(after) == len(before) + 2


@told
async def test_events_come_in_pages_without_a_gap(store: Store) -> None:
    assert (await store.entries(0, 10), await store.last_sequence()) == ([], 0)
    await _a_long_story(store)
    with pytest.raises(Conflict):
        await entering(A, move(1, A, B), mode=HostMode.MAINTENANCE).accept(store)
    await migrating(move(9, A, B)).accept(store)
    written = [entry for one in await store.operations() for entry in await store.journal(one.id)]
    for limit in (1, 3, 1000):
        pages: list[Entry] = []
        while page := await store.entries(pages[-1].sequence if pages else 0, limit):
            assert len(page) <= limit
            pages += page
        assert [entry.sequence for entry in pages] == sorted({one.sequence for one in pages})
        assert pages == sorted(written, key=lambda entry: entry.sequence)
        assert pages[-1].sequence == await store.last_sequence()


@told
async def test_whoever_follows_the_events_while_they_are_written_misses_none(  # F129
    store: Store, second: Store
) -> None:
    writers, each = 6, 5

    async def write(which: Store, number: int) -> list[Entry]:
        operation = await migrating(move(number, A, B)).accept(which)
        for _ in range(each - 1):
            operation = await which.append(operation, [OperationUnblocked()])
        return []

    async def follow(which: Store) -> list[Entry]:
        seen: list[Entry] = []
        while len(seen) < writers * each:
            seen += await which.entries(seen[-1].sequence if seen else 0, 2)
        return seen

    *_, seen, also_seen = await asyncio.gather(
        *(write((store, second)[number % 2], number) for number in range(writers)),
        follow(store),
        follow(second),
    )
    assert seen == also_seen == await store.entries(0, 1000)


@told
async def test_a_reader_beside_a_writer_sees_whole_operations(  # S8
    store: Store, second: Store
) -> None:
    runner = await begun(store, migrating(move(1, A, B, C)))
    failure = Failure(code="hypervisor.busy", message="Another job has the VM.")
    is_over = asyncio.Event()

    async def read() -> list[Operation]:
        seen = [await second.operation(runner.operation.id)]
        while not is_over.is_set():
            seen.append(await second.operation(runner.operation.id))
        return seen

    async def write() -> None:
        operation = runner.operation
        for _ in range(60):
            started = StepStarted(step=1, target=B, epoch=operation.epoch)
            operation = await store.append(operation, [started])
            failed = StepFailed(step=1, failure=failure, not_before=T0)
            operation = await store.append(operation, [failed])
        is_over.set()

    _, *readers = await asyncio.gather(write(), read(), read())
    journal = await store.journal(runner.operation.id)
    torn = [one.events for seen in readers for one in seen if fold(journal[: one.events]) != one]
    assert torn == []


@told
async def test_events_keep_their_order_when_the_clock_is_set_back(  # F031
    store: Store, clock: SettableClock
) -> None:
    first = await migrating(move(1, A, B)).accept(store)
    clock.jump(-LONG_S)
    second = await migrating(move(2, A, B)).accept(store)
    entries = await store.entries(0, 10)
    assert [entry.operation for entry in entries] == [first.id, second.id]
    assert entries[0].at - entries[1].at == timedelta(seconds=LONG_S)
    assert [one.id for one in await store.operations()] == [second.id, first.id]


@told
async def test_operations_are_listed_newest_first_all_or_those_wanted(store: Store) -> None:
    over = await begun(store, migrating(move(1, A, B)))
    await over.carry_out(1)
    await over.end(OperationState.SUCCEEDED)
    on_a = await entering(A, move(2, A, B)).accept(store)
    on_c = await migrating(move(3, C, B)).accept(store)

    async def ids(**wanted: Any) -> list[OperationId]:
        return [one.id for one in await store.operations(**wanted)]

    assert await ids() == [on_c.id, on_a.id, over.operation.id]
    assert await ids(limit=2) == [on_c.id, on_a.id]
    assert await ids(active=True) == [on_c.id, on_a.id]
    assert await ids(host=A) == [on_a.id, over.operation.id]
    assert await ids(host=A, active=True) == [on_a.id]
    assert await ids(host=A, limit=1) == [on_a.id]
    assert await ids(host=B) == []


# --- claims --------------------------------------------------------------------------------------


@told
async def test_a_claim_takes_what_is_new_or_expired_and_nothing_else(store: Store) -> None:
    held = await begun(store, migrating(move(1, A, B)), "p1")
    expired = await migrating(move(2, A, B)).accept(store)
    assert [one.id for one in await store.claim("p2", 0.0)] == [expired.id]
    new = await migrating(move(3, A, B)).accept(store)
    over = await migrating(move(4, A, B)).accept(store)
    await store.append(over, [CANCEL, OperationEnded(state=OperationState.CANCELLED)])
    claimed = await store.claim("p3", LONG_S)
    assert [(one.id, one.owner) for one in claimed] == [(expired.id, "p3"), (new.id, "p3")]
    assert [await store.operation(one.id) for one in claimed] == claimed
    assert await store.operation(held.operation.id) == held.operation
    assert await store.claim("p4", LONG_S) == []
    check(await everything(store))


@told
async def test_an_operation_starts_at_its_first_claim(store: Store, clock: SettableClock) -> None:
    await migrating(move(1, A, B)).accept(store)
    clock.advance(60)
    (first,) = await store.claim("p1", 0.0)
    clock.advance(60)
    (second,) = await store.claim("p2", 0.0)
    assert first.state is second.state is OperationState.RUNNING
    assert first.started_at == second.started_at == T0 + timedelta(seconds=60)


@told
async def test_every_claim_has_an_epoch_higher_than_all_before(store: Store, second: Store) -> None:
    epochs: list[int] = []
    for number in range(3):
        await migrating(move(number, A, B)).accept(store)
        for which in (store, second):
            epochs += [one.epoch for one in await which.claim("p", 0.0)]
    assert len(epochs) == 2 * (1 + 2 + 3)
    assert epochs == sorted(set(epochs))


@told
async def test_of_claims_at_the_same_time_one_gets_each_operation(
    store: Store, second: Store
) -> None:
    accepted = [await migrating(move(number, A, B)).accept(store) for number in range(5)]
    claims, refusals = await at_once(
        *(which.claim(f"p{n}", LONG_S) for n, which in enumerate((store, second) * 3))
    )
    assert refusals == []
    assert sorted(one.id for claim in claims for one in claim) == [one.id for one in accepted]
    check(await everything(store))


@told
async def test_an_owner_that_died_is_a_crash_and_one_that_let_go_is_not(  # F014, F017
    store: Store,
) -> None:
    await migrating(move(1, A, B)).accept(store)
    crashes = [(await store.claim(f"p{number}", 0.0))[0].crashes for number in range(3)]
    assert crashes == [0, 1, 2]
    runner = Runner(store, (await store.operations())[0])
    await runner.write(OperationReleased())
    (claimed,) = await store.claim("p4", LONG_S)
    assert claimed.crashes == 2
    runner = Runner(store, claimed)
    await runner.start(1)
    assert runner.operation.crashes == 2
    await runner.succeed(1)
    assert runner.operation.crashes == 0


@told
async def test_what_is_released_may_be_claimed_at_once(store: Store) -> None:  # F014
    runner = await begun(store, migrating(move(1, A, B)), "p1")
    assert await store.claim("p2", LONG_S) == []
    await runner.write(OperationReleased())
    assert [one.owner for one in await store.claim("p2", LONG_S)] == ["p2"]


@told
async def test_renewing_keeps_and_returns_only_ones_own(store: Store) -> None:
    mine = [await begun(store, migrating(move(number, A, B)), "p1") for number in (1, 2)]
    theirs = await begun(store, migrating(move(3, A, B)), "p2")
    assert await store.renew("p1", LONG_S) == [one.operation.id for one in mine]
    assert await store.renew("p2", LONG_S) == [theirs.operation.id]
    assert await store.renew("p3", LONG_S) == []
    await mine[0].end(OperationState.CANCELLED, CANCEL)
    assert await store.renew("p1", 0.0) == [mine[1].operation.id]
    assert [one.id for one in await store.claim("p3", LONG_S)] == [mine[1].operation.id]
    assert await store.renew("p1", LONG_S) == []


@told
async def test_a_lease_that_has_ended_is_not_renewed(store: Store) -> None:
    await migrating(move(1, A, B)).accept(store)
    await store.claim("slow", 0.0)
    assert await store.renew("slow", LONG_S) == []


@told
async def test_voided_leases_let_a_new_process_take_everything_at_once(store: Store) -> None:
    before = [await begun(store, migrating(move(number, A, B)), "p1") for number in range(3)]
    await store.void_leases()
    assert await store.renew("p1", LONG_S) == []
    claimed = await store.claim("p2", LONG_S)
    assert [one.id for one in claimed] == [one.operation.id for one in before]
    assert {(one.owner, one.crashes) for one in claimed} == {("p2", 1)}


@told
async def test_leases_last_as_long_as_they_are_given(embedded: Store, clock: SettableClock) -> None:
    await migrating(move(1, A, B)).accept(embedded)
    await embedded.claim("p1", 15.0)
    for _ in range(3):
        clock.advance(14.9)
        assert await embedded.claim("p2", 15.0) == []
        assert len(await embedded.renew("p1", 15.0)) == 1
    clock.advance(15.0)
    assert await embedded.renew("p1", 15.0) == []
    assert [one.owner for one in await embedded.claim("p2", 15.0)] == ["p2"]


@told
async def test_a_wall_clock_that_is_set_forward_ends_no_lease(  # F030
    store: Store, clock: SettableClock
) -> None:
    held = await begun(store, migrating(move(1, A, B)), "p1")
    clock.jump(LONG_S + 1)
    assert await store.claim("p2", LONG_S) == []
    assert await store.renew("p1", LONG_S) == [held.operation.id]


@told
async def test_a_wall_clock_that_is_set_back_prolongs_no_lease(  # F031
    embedded: Store, clock: SettableClock
) -> None:
    await migrating(move(1, A, B)).accept(embedded)
    await embedded.claim("p1", 15.0)
    clock.jump(-LONG_S)
    clock.advance(15.0)
    assert [one.owner for one in await embedded.claim("p2", 15.0)] == ["p2"]


# --- nothing half done ---------------------------------------------------------------------------

ARRIVED = StepSucceeded(step=2, outcome=Outcome.MOVED, where=B)
BLOCKED = OperationBlocked(code="host.silent", waiting_for="host b")
RETREAT = change(A, HostMode.ENTERING, HostMode.CORDONED)
STRANGER = PlanExtended(
    steps=numbered((move(9, A, C),), first=5), roster=(roster_entry(move(9, A)),), why=""
)
HALF_DONE: list[tuple[list[Event], type[FurloughError], str]] = [
    ([ARRIVED, change(A, HostMode.MAINTENANCE, HostMode.EXITING)], Conflict, "host.mode"),
    ([ARRIVED, CANCEL, DeadlinePassed()], Conflict, "state.transition"),
    ([ARRIVED, StepStarted(step=3, target=D, epoch=1)], Refused, "target.not_available"),
    ([ARRIVED, STRANGER], Conflict, "vm.owned"),
    ([BLOCKED, BLOCKED, RETREAT, RETREAT], Conflict, "host.mode"),
]


@told
async def test_an_append_that_is_refused_leaves_nothing_half_written(store: Store) -> None:
    await migrating(move(9, B, C)).accept(store)
    await _cordoned(store, D)
    runner = await begun(store, entering(A, move(1, A, B), move(2, A, C, D)))
    await runner.carry_out(1)
    await runner.start(2)
    before = await everything(store)
    for events, error, code in HALF_DONE:
        with pytest.raises(error) as refusal:
            await store.append(runner.operation, events, terms())
        assert refusal.value.code == code
        assert await everything(store) == before
    await runner.write(ARRIVED)
    assert [one.vm for one in await store.away()] == [vm(1)]


@told
async def test_an_append_that_fails_by_a_bug_leaves_nothing_half_written(store: Store) -> None:
    runner = await begun(store, entering(A, move(1, A, B)))
    await runner.carry_out(1)
    await runner.start(2)
    before = await everything(store)
    with pytest.raises(LookupError):
        await store.append(runner.operation, [ARRIVED, StepStarted(step=9, target=None, epoch=1)])
    assert await everything(store) == before
    await runner.write(ARRIVED)
    assert runner.operation.step(2).outcome is Outcome.MOVED


@told
async def test_one_damaged_row_stops_one_operation_and_not_the_others(  # F029
    empty_url: str, clock: SettableClock
) -> None:
    async with opened(empty_url, clock) as store:
        await store.enrol(FLEET)
        damaged = await migrating(move(1, A, B)).accept(store)
        sound = await migrating(move(2, A, B)).accept(store)
        with connected(empty_url) as connection:
            connection.execute(text("UPDATE step SET body = '{' WHERE operation = 1"))
        claimed = await store.claim("p1", LONG_S)
        with pytest.raises(FurloughError):
            await store.operation(damaged.id)
        assert sound.id in [one.id for one in claimed]


# --- a database that does not answer -------------------------------------------------------------


async def answers(store: Store, operation: Operation) -> dict[str, str]:
    """What each call that needs the database brings, by the call's name."""
    ask = migrating(move(9, A, B))
    calls: dict[str, Coroutine[Any, Any, object]] = {
        "controller_id": store.controller_id(),
        "enrol": store.enrol(FLEET),
        "enrolment": store.enrolment(),
        "remove_cluster": store.remove_cluster(RACK),
        "remove_datastore": store.remove_datastore("images"),
        "remove_host": store.remove_host(D),
        "standings": store.standings(),
        "reservations": store.reservations(),
        "away": store.away(),
        "repeat_of": store.repeat_of(KEY),
        "accept": store.accept(ask.event, ask.modes, ask.terms, KEY),
        "append": store.append(operation, [OperationUnblocked()]),
        "claim": store.claim("p1", LONG_S),
        "renew": store.renew("p1", LONG_S),
        "void_leases": store.void_leases(),
        "operation": store.operation(operation.id),
        "operations": store.operations(),
        "journal": store.journal(operation.id),
        "entries": store.entries(0, 10),
        "last_sequence": store.last_sequence(),
    }
    ends = await asyncio.gather(*calls.values(), return_exceptions=True)
    return {name: type(end).__name__ for name, end in zip(calls, ends, strict=True)}


@pytest.mark.postgres
@told
async def test_a_server_that_dies_is_unreachable_and_all_is_well_when_it_is_back(  # F018, F019
    own_server: Server, clock: SettableClock
) -> None:
    async with opened(own_server.url(own_server.fresh_database()), clock) as store:
        await store.enrol(FLEET)
        runner = await begun(store, entering(A, move(1, A, B)))
        before = await everything(store)
        own_server.stop(signal.SIGQUIT)
        meanwhile = await answers(store, runner.operation)
        assert set(meanwhile.values()) == {"Unreachable"}, meanwhile
        own_server.start()
        assert await everything(store) == before
        await runner.carry_out(1)


@told
async def test_a_file_without_its_tables_is_unreachable(
    tmp_path: Path, clock: SettableClock
) -> None:
    url = f"sqlite:///{tmp_path / 'furlough.db'}"
    async with opened(url, clock) as store:
        await store.enrol(FLEET)
        runner = await begun(store, entering(A, move(1, A, B)))
        with connected(url) as connection:
            tables.metadata.drop_all(connection)
        found = await answers(store, runner.operation)
        assert found.pop("enrolment") in ("Enrolment", "Unreachable"), "it may know it by heart"
        assert set(found.values()) == {"Unreachable"}, found


@pytest.mark.parametrize(
    "nowhere",
    [
        "sqlite:////nonexistent/furlough.db",
        pytest.param(
            "postgresql+psycopg://postgres@/furlough?host=/nonexistent", marks=pytest.mark.postgres
        ),
    ],
    ids=["file", "postgres"],
)
@told
async def test_a_database_that_is_not_there_is_unreachable_from_the_start(
    nowhere: str, clock: SettableClock
) -> None:
    with pytest.raises(Unreachable):
        async with opened(nowhere, clock):
            pass


@pytest.mark.postgres
@told
async def test_a_replica_that_freezes_in_a_transaction_holds_nobody_up_for_long(  # F012, F027
    server: Server, template: str, clock: SettableClock
) -> None:
    url = server.url(server.fresh_database(template))
    frozen, falls_asleep, wakes_up = Database(url), Flag(), Flag()

    def freeze(connection: Connection) -> None:
        connection.execute(text("DELETE FROM setting WHERE name = 'controller'"))
        falls_asleep.set()
        wakes_up.wait()
        connection.execute(text("DELETE FROM setting"))

    async with opened(url, clock) as store:
        await store.enrol(FLEET)
        sleeper = asyncio.create_task(frozen.write(freeze))
        await asyncio.to_thread(falls_asleep.wait)
        accepted = await entering(A, move(1, A, B)).accept(store)
        wakes_up.set()
        with pytest.raises(Unreachable):
            await sleeper
        await frozen.close()
        assert await store.operation(accepted.id) == accepted
        assert await store.controller_id()


@pytest.mark.postgres
@told
async def test_a_gate_that_nobody_opens_is_unreachable_within_seconds(
    server: Server, template: str, clock: SettableClock
) -> None:
    url = server.url(server.fresh_database(template))
    async with opened(url, clock) as store:
        await store.enrol(FLEET)
        with connected(url) as connection:
            connection.execute(text("SELECT * FROM setting WHERE name = 'gate' FOR UPDATE"))
            async with asyncio.timeout(10):
                with pytest.raises(Unreachable):
                    await entering(A, move(1, A, B)).accept(store)
            assert await store.operations() == []
        accepted = await entering(A, move(1, A, B)).accept(store)
        assert await store.operations() == [accepted]


# --- values --------------------------------------------------------------------------------------

TEXTS = (
    "Größe, Straße, naïve",
    "👩‍👩‍👧‍👦🔥",
    "\u202e\u05e9\u05dc\u05d5\u05dd",
    "Z\u0351\u036b\u0343A\u0334\u0335\u031cͫ",
    '\'; DROP TABLE event; -- "%s" %(x)s :x {y} \\',
    "<script>alert(1)</script>&amp;",
    "-x --force",
    "a\x00b\x07c\x1b[31m\r\n\td\u2028e\ufeff",
    "",
    "ß😀" * 50_000,
)


@told
async def test_texts_come_back_as_they_were_written(store: Store, second: Store) -> None:  # F084
    moves = [replace(move(n, A, B), vm_name=words) for n, words in enumerate(TEXTS)]
    long = max(TEXTS, key=len)
    reasons = Unplaced(vm=vm(99), vm_name=long, reasons={B: TEXTS, C: ()})
    ask = entering(A, *moves, options=EnterOptions(reason=long))
    plan = replace(ask.event.plan, unplaced=(reasons,))
    event = replace(ask.event, requested_by=long, plan=plan)
    await replace(ask, event=event).accept(store)
    runner = Runner(store, (await store.claim("p1", LONG_S))[0])
    failures = [Failure(code="x", message=words, remedy=words) for words in TEXTS]
    for number, failure in enumerate(failures, 2):
        started = StepStarted(step=number, target=B, epoch=1)
        failed = StepFailed(step=number, failure=failure, where=A, not_before=T0)
        arrived = StepSucceeded(step=number, outcome=Outcome.MOVED, where=B, notes=TEXTS)
        waits = OperationBlocked(code="x", waiting_for=failure.message)
        await runner.write(started, failed, waits, OperationUnblocked(), started, arrived)
    await runner.write(OperationEnded(state=OperationState.FAILED, code="x", message=long))
    stored = await second.operation(runner.operation.id)
    assert stored == runner.operation
    assert (stored.plan, stored.options, stored.message) == (event.plan, event.options, long)
    assert tuple(entry.name for entry in stored.roster) == TEXTS
    assert [step.attempts[0].failure for step in stored.steps[1:-1]] == failures
    assert {one.name for one in await second.away()} == set(TEXTS)


@told
async def test_a_text_that_is_no_unicode_does_not_stop_an_operation(store: Store) -> None:  # F084
    """Names of processes are bytes: Python reads those that are not UTF-8 as lone surrogates."""
    runner = await begun(store, migrating(move(1, A, B)))
    words = b"process \xff\xfe".decode(errors="surrogateescape")
    waits = OperationBlocked(code="host.not_empty", waiting_for=words)
    blocked = await store.append(runner.operation, [waits])
    assert blocked.state is OperationState.BLOCKED
    check(await everything(store))


@told
async def test_names_and_keys_may_have_any_letters(store: Store, second: Store) -> None:
    name, key = HostName("höst-😀-'\"\\%_" + "ß" * 40), "schlüssel 🔑" + "x" * 200
    await store.enrol(Enrolment(hosts=[replace(host("e"), name=name)]))
    mine = IdempotencyKey(principal="Ünal 'o' %", key=key, content="c" * 64)
    runner = await begun(store, migrating(move(1, A, name)))
    await runner.carry_out(1)
    accepted = await entering(name, move(2, name, A)).accept(store, mine)
    assert await second.repeat_of(mine) == accepted
    assert (await second.enrolment()).hosts[-1].name == name
    assert (await second.standings())[name].operation == accepted.id
    assert [one.id for one in await second.operations(host=name)] == [accepted.id]
    assert name in {one.host for one in await second.reservations()}


@told
async def test_numbers_instants_and_choices_come_back_as_they_were_written(
    store: Store, second: Store
) -> None:
    india = timezone(timedelta(hours=5, minutes=30))
    huge = replace(
        move(1, A, B, C, memory_mib=1 << 40),
        handover=Handover.HELD,
        waives_storage_check=True,
        start_s=0.1 + 0.2,
        duration_s=1e-9,
        downtime_ms=1 << 40,
        before=Before(power=Power.PAUSED, is_persistent=False, has_autostart=True),
    )
    ask = entering(A, huge, options=EnterOptions(timeout_s=1e17 / 3, target_hosts=(B, C)))
    event = replace(ask.event, deadline=T0.astimezone(india) + timedelta(microseconds=1))
    operation = await replace(ask, event=event).accept(store)
    stored = await second.operation(operation.id)
    assert stored == operation
    assert (stored.plan, stored.options) == (event.plan, event.options)
    assert stored.plan.hash == event.plan.hash
    assert stored.deadline == event.deadline
    assert (await second.journal(operation.id))[0].event == event
    assert (await second.reservations())[0].load == huge.load


@told
async def test_policies_come_back_as_they_were_written(store: Store, second: Store) -> None:
    policy = ClusterPolicy(
        memory_ceiling=0.1 + 0.2,
        vcpu_overcommit=1 / 3,
        max_hosts_away=17,
        trusts_own_proofs=True,
        limits=Limits(per_source=3, per_target=5, per_cluster=64),
    )
    await store.enrol(Enrolment(clusters=[Cluster(name=RACK, policy=policy)]))
    assert (await second.enrolment()).cluster(RACK).policy == policy


# --- notes about hosts ---------------------------------------------------------------------------


def note(what: str, *, seconds: float = 0, which: HostName = A, **changes: Any) -> HostNote:
    """Something violates a maintenance, or does so no longer."""
    plain = HostNote(
        host=which,
        at=T0 + timedelta(seconds=seconds),
        level=Level.ERROR,
        code="maintenance.violated",
        what=what,
        message=f"there is {what}",
    )
    return replace(plain, **changes)


@told
async def test_what_is_noted_about_a_host_is_read_back_the_newest_first(
    store: Store, second: Store
) -> None:
    begun, other = note("VM web"), note("VM db", seconds=1, which=B)
    over = note("VM web", seconds=2, is_over=True, level=Level.INFO)
    await store.note_host([begun, other])
    await store.note_host([over])
    assert await second.host_notes(A, 10) == [over, begun]
    assert await second.host_notes(A, 1) == [over]
    assert await second.host_notes(C, 10) == []


@told
async def test_only_what_has_begun_and_is_not_over_is_open(store: Store, second: Store) -> None:
    lasting, again = note("VM web"), note("VM db", seconds=9)
    await store.note_host([lasting, note("VM db"), note("VM db", seconds=5, is_over=True)])
    elsewhere = note("VM web", seconds=6, which=B)
    unproven = note("no hook", seconds=9, code="guard.unproven")
    await store.note_host([elsewhere, again, unproven])
    assert await second.open_notes() == [lasting, elsewhere, again, unproven]


@told
async def test_nothing_is_noted_twice_whoever_notes_it(store: Store, second: Store) -> None:
    await store.note_host([note("VM web", is_over=True)])
    assert await store.host_notes(A, 10) == []
    await store.note_host([note("VM web")])
    again = [one.note_host([note("VM web", seconds=5)]) for one in (store, second, store, second)]
    await asyncio.gather(*again)
    assert await second.host_notes(A, 10) == [note("VM web")]
    over = note("VM web", seconds=7, is_over=True)
    await asyncio.gather(store.note_host([over]), second.note_host([over]))
    assert await store.host_notes(A, 10) == [over, note("VM web")]
    assert await second.open_notes() == []


@told
async def test_a_note_may_say_whatever_a_stranger_named_a_vm(store: Store, second: Store) -> None:
    strange = note("VM '\"; DROP TABLE host_note; -- 😀 \n" + "x" * 5000)
    await store.note_host([strange])
    assert await second.host_notes(A, 1) == [strange]


def speed(mib_s: float, *, seconds: float = 0, target: HostName = B) -> LinkSpeed:
    """What one migration from A has shown."""
    at = T0 + timedelta(seconds=seconds)
    return LinkSpeed(source=A, target=target, mib_s=mib_s, alone_s=10, migrations=1, at=at)


@told
async def test_what_links_carry_is_learned_from_one_migration_after_the_other(
    store: Store, second: Store
) -> None:
    assert await store.link_speeds() == []
    assert await store.learn_link_speed(speed(30)) == speed(30)
    known = await second.learn_link_speed(speed(48, seconds=9))
    assert known == replace(speed(40, seconds=9), alone_s=18, migrations=2)
    await store.learn_link_speed(speed(90, target=C))
    assert await second.link_speeds() == [known, speed(90, target=C)]


@told
async def test_no_migration_is_forgotten_when_many_tell_at_once(
    store: Store, second: Store
) -> None:
    tellings = [one.learn_link_speed(speed(30)) for one in (store, second) * 5]
    await asyncio.gather(*tellings)
    (known,) = await second.link_speeds()
    assert (known.mib_s, known.migrations) == (30, 10)


@told
async def test_a_host_that_is_removed_takes_along_what_was_learned_of_its_links(
    store: Store, second: Store
) -> None:
    await store.learn_link_speed(speed(30))
    await store.learn_link_speed(speed(90, target=C))
    await store.remove_host(C)
    assert await second.link_speeds() == [speed(30)]
    await store.remove_host(A)
    assert await second.link_speeds() == []


LATER_TABLES = (
    "host_note",
    "remedied",
    "link_speed",
    "session",
    "api_token",
    "role_grant",
    "account",
    "role",
    "audit",
)


@told
async def test_a_store_of_the_first_schema_is_brought_up_to_date_with_all_it_holds(
    empty_url: str, clock: SettableClock
) -> None:
    async with opened(empty_url, clock) as store:
        await store.enrol(FLEET)
        before = await everything(store)
    with connected(empty_url) as connection:
        for later in LATER_TABLES:
            tables.metadata.tables[later].drop(connection)
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    async with opened(empty_url, clock) as store:
        assert await everything(store) == before
        await store.note_host([note("VM web")])
        assert await store.open_notes() == [note("VM web")]
