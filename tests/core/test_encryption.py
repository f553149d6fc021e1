"""How memory passes between two hosts: what is wanted of both, and what both have."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from furlough.core.encryption import ABLE, End, MigrationTls, TlsMeans, wire_between

REQUIRED, WHEN_POSSIBLE, OFF = (
    MigrationTls.REQUIRED,
    MigrationTls.WHEN_POSSIBLE,
    MigrationTls.OFF,
)
UNABLE = TlsMeans(trouble="/etc/pki/qemu has no ca-cert.pem.")
ONE, OTHER = (
    End(name=name, wish=WHEN_POSSIBLE, means=TlsMeans(authorities=frozenset({"a"})))
    for name in ("h1", "h2")
)


@pytest.mark.parametrize(
    ("one", "other", "is_encrypted"),
    [
        (WHEN_POSSIBLE, WHEN_POSSIBLE, True),
        (REQUIRED, WHEN_POSSIBLE, True),
        (REQUIRED, REQUIRED, True),
        (OFF, WHEN_POSSIBLE, False),
        (OFF, OFF, False),
    ],
)
def test_two_hosts_that_can_do_as_is_wanted_and_there_is_nothing_to_say(
    one: MigrationTls, other: MigrationTls, is_encrypted: bool
) -> None:
    for first, second in ((one, other), (other, one)):
        wire = wire_between(replace(ONE, wish=first), replace(OTHER, wish=second))
        assert (wire.is_encrypted, wire.is_allowed, wire.because) == (is_encrypted, True, "")


def test_where_one_cannot_memory_passes_in_clear_and_it_is_said_why() -> None:
    wire = wire_between(ONE, replace(OTHER, means=UNABLE))
    assert (wire.is_encrypted, wire.is_allowed) == (False, True)
    assert wire.because == "h2: /etc/pki/qemu has no ca-cert.pem"


def test_what_one_requires_binds_the_other() -> None:
    wire = wire_between(replace(ONE, wish=REQUIRED), replace(OTHER, wish=OFF))
    assert (wire.is_encrypted, wire.is_allowed) == (False, False)
    assert wire.because == "h2 has encryption switched off (migration_tls = off)"


def test_hosts_that_trust_nobody_in_common_would_not_take_each_others_certificates() -> None:
    stranger = replace(OTHER, means=TlsMeans(authorities=frozenset({"b"})))
    assert wire_between(ONE, stranger).because == "h1 and h2 trust no authority in common"
    both = replace(OTHER, means=TlsMeans(authorities=frozenset({"a", "b"})))
    assert wire_between(ONE, both).is_encrypted
    assert wire_between(ONE, replace(OTHER, means=ABLE)).is_encrypted, "unknown is no obstacle"


def test_what_is_required_never_passes_in_clear() -> None:
    means = (ABLE, UNABLE, TlsMeans(authorities=frozenset({"b"})))
    for one, other, first, second in product(MigrationTls, MigrationTls, means, means):
        wire = wire_between(
            replace(ONE, wish=one, means=first), replace(OTHER, wish=other, means=second)
        )
        if REQUIRED in (one, other):
            assert wire.is_encrypted == wire.is_allowed
            assert bool(wire.because) != wire.is_allowed
        else:
            assert wire.is_allowed
