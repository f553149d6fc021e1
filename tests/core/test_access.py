"""Who may do what where: roles, scopes, tokens; nothing is allowed that nobody granted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from furlough.core.access import (
    EVERYTHING,
    RESERVED,
    ROLES,
    SYSTEM,
    ApiToken,
    Grant,
    Place,
    Principal,
    PrincipalKind,
    Privilege,
    Right,
    Role,
    Scope,
    ScopeKind,
    Session,
    User,
    cut_down,
    parse_privileges,
    parse_scope,
    rights_of,
)
from furlough.errors import Invalid

T0 = datetime(2026, 1, 1, tzinfo=UTC)
H1 = Place(cluster="a", host="h1")
H2 = Place(cluster="a", host="h2")
H3 = Place(cluster="b", host="h3")
WHOLE_A = Place(cluster="a")
NOWHERE = Place()
BUILT_IN = {name: Role(name=name, privileges=found) for name, found in ROLES.items()}


def somebody(*grants: Grant, is_enabled: bool = True) -> Principal:
    user = User(name="u", created_at=T0, is_enabled=is_enabled)
    rights = rights_of(user, grants, BUILT_IN)
    return Principal(name="u", kind=PrincipalKind.SESSION, rights=rights)


def token(**more: object) -> ApiToken:
    known: dict[str, object] = {
        "id": "token-1",
        "owner": "u",
        "label": "",
        "privileges": frozenset(Privilege),
        "scope": EVERYTHING,
        "created_at": T0,
        **more,
    }
    return ApiToken(**known)  # type: ignore[arg-type]


def granted(role: str, scope: str = "all") -> Grant:
    return Grant(user="u", role=role, scope=parse_scope(scope))


@pytest.mark.parametrize("text", ["all", "cluster:a", "host:h1"])
def test_a_scope_is_printed_as_it_is_written(text: str) -> None:
    assert str(parse_scope(text)) == text


@pytest.mark.parametrize(
    "text", ["", "All", "all:", "all:x", "cluster:", "host:", "rack:7", "host:-x", "cluster:a b"]
)
def test_what_is_no_scope_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_scope(text)


@pytest.mark.parametrize(
    ("scope", "places"),
    [
        ("all", {H1, H2, H3, WHOLE_A, NOWHERE}),
        ("cluster:a", {H1, H2, WHOLE_A}),
        ("host:h1", {H1}),
        ("host:h9", set()),
    ],
)
def test_a_scope_covers_what_lies_in_it(scope: str, places: set[Place]) -> None:
    found = {one for one in (H1, H2, H3, WHOLE_A, NOWHERE) if parse_scope(scope).covers(one)}
    assert found == places


def test_a_scope_without_a_name_covers_nothing() -> None:
    assert not Scope(kind=ScopeKind.HOST).covers(WHOLE_A)
    assert not Scope(kind=ScopeKind.CLUSTER).covers(NOWHERE)


def test_each_role_may_what_the_one_below_may_and_more() -> None:
    assert ROLES["viewer"] < ROLES["operator"] < ROLES["admin"] == frozenset(Privilege)
    assert Privilege.OVERRIDE not in ROLES["operator"]


def test_a_grant_allows_its_role_in_its_scope_and_nothing_else() -> None:
    one = somebody(granted("operator", "cluster:a"), granted("viewer", "host:h3"))
    assert one.may(Privilege.MAINTAIN, H1)
    assert one.may(Privilege.CORDON, WHOLE_A)
    assert one.may(Privilege.VIEW, H3)
    assert not one.may(Privilege.MAINTAIN, H3)
    assert not one.may(Privilege.VIEW, NOWHERE)
    assert not one.may(Privilege.MANAGE_HOSTS, H1)


def test_whoever_was_granted_nothing_may_nothing() -> None:
    assert not any(somebody().may(one, place) for one in Privilege for place in (H1, NOWHERE))


def test_whoever_is_switched_off_may_nothing() -> None:
    assert not somebody(granted("admin"), is_enabled=False).may(Privilege.VIEW, H1)


def test_a_role_that_is_gone_and_a_grant_of_somebody_else_allow_nothing() -> None:
    other = Grant(user="other", role="admin")
    assert somebody(granted("gone"), other).rights == ()


def test_the_daemon_itself_may_everything_and_its_name_is_nobody_elses() -> None:
    assert all(SYSTEM.may(one, NOWHERE) for one in Privilege)
    assert {SYSTEM.name, "local"} == set(RESERVED)


def test_a_token_may_what_its_owner_may_within_its_limits() -> None:
    owner = (Right(privileges=ROLES["operator"], scopes=(parse_scope("cluster:a"),)),)
    limited = token(
        privileges=frozenset({Privilege.VIEW, Privilege.OVERRIDE}), scope=parse_scope("host:h1")
    )
    one = Principal(name="u", kind=PrincipalKind.TOKEN, rights=cut_down(owner, limited))
    assert one.may(Privilege.VIEW, H1)
    assert not one.may(Privilege.VIEW, H2)  # beyond the token
    assert not one.may(Privilege.CORDON, H1)  # the owner may, the token not
    assert not one.may(Privilege.OVERRIDE, H1)  # the token may, the owner not
    assert not one.may(Privilege.VIEW, Place(cluster="b", host="h1"))  # beyond the owner


def test_a_token_is_over_at_its_time_or_when_it_is_revoked() -> None:
    assert token().is_valid(T0 + timedelta(days=9999))
    ends = token(expires_at=T0 + timedelta(hours=1))
    assert ends.is_valid(T0 + timedelta(minutes=59))
    assert not ends.is_valid(T0 + timedelta(hours=1))
    assert not token(revoked_at=T0).is_valid(T0)


def test_a_session_is_over_when_it_is_idle_and_when_it_is_old() -> None:
    def session(seen_s: float) -> Session:
        seen = T0 + timedelta(seconds=seen_s)
        return Session(id="s", user="u", address="", created_at=T0, seen_at=seen)

    assert session(0).is_valid(T0 + timedelta(seconds=59), 60, 100)
    assert not session(0).is_valid(T0 + timedelta(seconds=60), 60, 100)
    assert session(90).is_valid(T0 + timedelta(seconds=99), 60, 100)
    assert not session(90).is_valid(T0 + timedelta(seconds=100), 60, 100)


def test_privileges_are_named_and_no_other_words_are() -> None:
    assert parse_privileges(["view", "power"]) == {Privilege.VIEW, Privilege.POWER}
    with pytest.raises(Invalid, match="'root'"):
        parse_privileges(["view", "root"])


def test_only_the_roles_of_the_program_are_built_in() -> None:
    assert Role(name="viewer", privileges=frozenset()).is_built_in
    assert not Role(name="planner", privileges=frozenset()).is_built_in


def test_neither_a_password_nor_rights_are_printed() -> None:
    assert "secret" not in repr(User(name="u", created_at=T0, password="secret"))
    assert "rights" not in repr(SYSTEM)
