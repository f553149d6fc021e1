"""Encrypting the memory of VMs on its way: what the operator wants, what a host has for it, and
what follows for two hosts. Certificates are looked at on the hosts; here is only what they said.

    MigrationTls of both ─┐
    TlsMeans of both ─────┴─► Wire: encrypted, in clear and why, or not at all and why
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class MigrationTls(StrEnum):
    """Whether migrations out of and into a host are encrypted: always or they do not happen;
    wherever both hosts can; never."""

    REQUIRED = "required"
    WHEN_POSSIBLE = "when_possible"
    OFF = "off"


@dataclass(frozen=True, kw_only=True)
class TlsMeans:
    """What a host has for encrypting migrations. `trouble`: why it cannot, in words; empty if it
    can. `authorities`: fingerprints of those whose certificates it believes; none: unknown."""

    trouble: str = ""
    authorities: frozenset[str] = frozenset()


ABLE = TlsMeans()


@dataclass(frozen=True, kw_only=True)
class End:
    """One of the two hosts of a migration: its name, what is wanted of it and what it has."""

    name: str
    wish: MigrationTls
    means: TlsMeans


@dataclass(frozen=True, kw_only=True)
class Wire:
    """How memory passes between two hosts. `because`: why it is not encrypted; empty if it is or
    if nobody wants it to be. `is_allowed`: false where it has to be encrypted and cannot."""

    is_encrypted: bool
    is_allowed: bool = True
    because: str = ""


_CLEAR = Wire(is_encrypted=False)
_ENCRYPTED = Wire(is_encrypted=True)


def wire_between(one: End, other: End) -> Wire:
    """How migrations pass between these two, either way. What one requires binds both."""
    ends = (one, other)
    is_required = any(end.wish is MigrationTls.REQUIRED for end in ends)
    if not is_required and any(end.wish is MigrationTls.OFF for end in ends):
        return _CLEAR
    because = _hindrance(ends)
    if not because:
        return _ENCRYPTED
    return Wire(is_encrypted=False, is_allowed=not is_required, because=because)


def _hindrance(ends: Sequence[End]) -> str:
    for end in ends:
        if end.wish is MigrationTls.OFF:
            return f"{end.name} has encryption switched off (migration_tls = off)"
        if end.means.trouble:
            return f"{end.name}: {end.means.trouble.rstrip('.')}"
    one, other = (end.means.authorities for end in ends)
    if one and other and not one & other:
        return f"{ends[0].name} and {ends[1].name} trust no authority in common"
    return ""
