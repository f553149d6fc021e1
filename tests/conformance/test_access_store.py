"""What every store promises about users, tokens, sessions and the audit trail: SQLite in memory,
in a file, and PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from furlough.core.access import (
    EVERYTHING,
    ApiToken,
    Grant,
    Principal,
    PrincipalKind,
    Privilege,
    Role,
    Session,
    User,
    parse_scope,
)
from furlough.core.audit import BEGINNING, Checkpoint, Deed, verify
from furlough.core.enrolment import Enrolment
from furlough.errors import Conflict, NotFound, Stale
from furlough.ports import Store
from tests.conformance.builders import FLEET, T0, A, SettableClock, entering, move, told

ADMIN = Principal(name="root", kind=PrincipalKind.LOCAL, address="::1", request="r-1")
B = FLEET.hosts[1].name


def deed(action: str = "act", subject: str = "thing") -> Deed:
    return Deed(by=ADMIN, action=action, subject=subject)


def user(name: str) -> User:
    return User(name=name, created_at=T0, password="$argon2id$of-" + name)


def token(owner: str, number: int = 1, **more: Any) -> ApiToken:
    return ApiToken(
        **{
            "id": f"token-{number}",
            "owner": owner,
            "label": "a label",
            "privileges": frozenset({Privilege.VIEW, Privilege.CORDON}),
            "scope": parse_scope("host:h1"),
            "created_at": T0,
            "expires_at": T0 + timedelta(days=1),
            **more,
        }
    )


def session(owner: str, number: int = 1) -> Session:
    return Session(id=f"session-{number}", user=owner, address="::1", created_at=T0, seen_at=T0)


async def refused(kind: type[Exception], work: Coroutine[Any, Any, object]) -> None:
    with pytest.raises(kind):
        await work


@told
async def test_a_user_is_kept_with_what_was_granted(store: Store) -> None:
    access = store.access
    grants = [
        Grant(user="ann", role="operator", scope=parse_scope("cluster:a")),
        Grant(user="ann", role="viewer"),
    ]
    await access.add_user(user("ann"), grants, deed())
    await access.add_user(user("bob"), [], deed())
    known = await access.known("ann")
    assert known is not None
    assert known.user == user("ann")
    assert set(known.grants) == set(grants)
    assert [one.name for one in await access.users()] == ["ann", "bob"]
    assert set(await access.grants()) == set(grants)
    assert await access.known("nobody") is None
    await refused(Conflict, access.add_user(user("ann"), [], deed()))


@told
async def test_what_is_wrong_with_a_new_user_leaves_nothing_behind(store: Store) -> None:
    access = store.access
    wrong = [Grant(user="ann", role="viewer"), Grant(user="ann", role="no-such-role")]
    await refused(NotFound, access.add_user(user("ann"), wrong, deed()))
    assert await access.users() == []
    assert await access.audit(after=0, limit=10) == []


@told
async def test_who_is_removed_takes_everything_along(store: Store) -> None:
    access = store.access
    await access.add_user(user("ann"), [Grant(user="ann", role="viewer")], deed())
    await access.add_token(token("ann"), "d" * 64, deed())
    await access.add_session(session("ann"), "e" * 64, deed())
    await access.remove_user("ann", deed())
    assert await access.token_of("d" * 64) is None
    assert await access.session_of("e" * 64) is None
    assert await access.grants() == []
    await refused(NotFound, access.remove_user("ann", deed()))
    await refused(NotFound, access.change_user(user("ann"), deed()))
    await refused(NotFound, access.grant(Grant(user="ann", role="viewer"), deed()))


@told
async def test_roles_are_made_changed_and_removed_when_nobody_has_them(store: Store) -> None:
    access = store.access
    role = Role(name="planner", privileges=frozenset({Privilege.CHECK}))
    await access.put_role(role, deed())
    await access.put_role(replace(role, privileges=frozenset()), deed())
    assert (await access.roles())["planner"].privileges == frozenset()
    await access.add_user(user("ann"), [Grant(user="ann", role="planner")], deed())
    await refused(Conflict, access.remove_role("planner", deed()))
    await access.revoke(Grant(user="ann", role="planner"), deed())
    await access.remove_role("planner", deed())
    assert set(await access.roles()) == {"viewer", "operator", "admin"}
    await refused(NotFound, access.remove_role("planner", deed()))
    await refused(NotFound, access.revoke(Grant(user="ann", role="planner"), deed()))


@told
async def test_sessions_end_with_every_change_of_what_their_user_may(store: Store) -> None:
    access = store.access
    grant = Grant(user="ann", role="viewer")
    own = Role(name="own", privileges=frozenset({Privilege.VIEW}))
    await access.put_role(own, deed())
    await access.add_user(user("ann"), [Grant(user="ann", role="own")], deed())
    changes: list[Callable[[], Coroutine[Any, Any, None]]] = [
        lambda: access.grant(grant, deed()),
        lambda: access.revoke(grant, deed()),
        lambda: access.change_user(user("ann"), deed()),
        lambda: access.put_role(own, deed()),
        lambda: access.end_session("session-5", deed()),
    ]
    for number, change in enumerate(changes, start=1):
        digest = f"{number}" * 64
        await access.add_session(session("ann", number), digest, deed())
        found = await access.session_of(digest)
        assert found is not None
        assert found[0] == session("ann", number)
        await change()
        assert await access.session_of(digest) is None


@told
async def test_granting_twice_is_granting_once_and_ends_nothing(store: Store) -> None:
    access = store.access
    await access.add_user(user("ann"), [Grant(user="ann", role="viewer")], deed())
    await access.add_session(session("ann"), "e" * 64, deed())
    await access.grant(Grant(user="ann", role="viewer", scope=EVERYTHING), deed())
    assert len(await access.grants()) == 1
    assert await access.session_of("e" * 64) is not None


@told
async def test_a_token_is_found_by_its_hash_with_its_owner(
    store: Store, clock: SettableClock
) -> None:
    access = store.access
    await access.add_user(user("ann"), [], deed())
    await refused(NotFound, access.add_token(token("nobody"), "c" * 64, deed()))
    await access.add_token(token("ann"), "d" * 64, deed())
    found = await access.token_of("d" * 64)
    assert found is not None
    assert (found[0], found[1].user.name) == (token("ann"), "ann")
    await access.token_used("token-1")
    await access.revoke_token("token-1", deed())
    await access.revoke_token("token-1", deed())
    (kept,) = await access.tokens("ann")
    assert kept == token("ann", last_used_at=clock.now(), revoked_at=clock.now())
    assert await access.tokens("bob") == []
    await refused(NotFound, access.revoke_token("token-9", deed()))


@told
async def test_the_first_administrator_is_made_once(store: Store, clock: SettableClock) -> None:
    access = store.access
    until = clock.now() + timedelta(hours=1)
    assert await access.await_first_admin("a" * 64, until)
    assert await access.await_first_admin("b" * 64, until)
    assert not await access.add_first_admin("a" * 64, user("eve"), deed())
    ends = await asyncio.gather(
        *(access.add_first_admin("b" * 64, user(f"u{number}"), deed()) for number in range(4))
    )
    assert sorted(ends) == [False, False, False, True]
    (made,) = await access.users()
    assert await access.grants() == [Grant(user=made.name, role="admin")]
    assert not await access.await_first_admin("c" * 64, until)


@told
async def test_the_lines_of_the_trail_are_one_chain_whoever_writes(
    store: Store, second: Store
) -> None:
    await asyncio.gather(
        *(one.access.record(deed(f"act-{n}"), "x.y") for n in range(20) for one in (store, second))
    )
    lines = await store.access.audit(after=0, limit=1000)
    assert [one.number for one in lines] == list(range(1, 41))
    start = Checkpoint(number=0, hash=BEGINNING)
    assert verify(lines, start, [await second.access.checkpoint()]) == ()
    newest = await store.access.newest_audit(before=None, limit=3)
    assert [one.number for one in newest] == [40, 39, 38]
    older = await store.access.newest_audit(before=38, limit=2, principal="root")
    assert [one.number for one in older] == [37, 36]


@told
async def test_a_change_and_its_line_are_written_together_or_not_at_all(store: Store) -> None:
    host = FLEET.hosts[0]
    before = await store.enrolment()
    changed = replace(host, link_mbit_s=host.link_mbit_s + 1)
    await store.enrol(Enrolment(hosts=[changed]), deed("enrol"), before)
    with pytest.raises(Stale):
        await store.enrol(Enrolment(hosts=[host]), deed("enrol"), before)
    with pytest.raises(NotFound):
        await store.remove_cluster(type(FLEET.clusters[0].name)("nowhere"), deed("remove"))
    lines = await store.access.audit(after=0, limit=10)
    assert [one.action for one in lines] == ["enrol"]
    assert f'"link_mbit_s": {host.link_mbit_s + 1}' in lines[0].after.replace(".0", "")


@told
async def test_an_operation_has_one_line_and_a_refused_one_has_none(store: Store) -> None:
    ask = entering(A, move(1, A, B))
    await store.accept(ask.event, ask.modes, ask.terms, None, deed("enter"))
    with pytest.raises(Conflict):
        await store.accept(ask.event, ask.modes, ask.terms, None, deed("enter"))
    (line,) = await store.access.audit(after=0, limit=10)
    assert '"operation": "op-1"' in line.after
