"""The tables of users, roles, tokens and sessions, and the audit trail, whose rows are never
changed. Of tokens and sessions only hashes are kept; instants are ISO text.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Integer, String, Table, Text

from furlough.store.tables import metadata

account = Table(
    "account",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("password", Text, nullable=False),
    Column("is_enabled", Boolean, nullable=False),
    Column("created_at", String(32), nullable=False),
)

role = Table(
    "role",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("privileges", Text, nullable=False),
)

role_grant = Table(
    "role_grant",
    metadata,
    Column("account", String(63), ForeignKey("account.name"), primary_key=True),
    Column("role", String(63), primary_key=True),
    Column("scope", String(127), primary_key=True),
)

api_token = Table(
    "api_token",
    metadata,
    Column("id", String(31), primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("account", String(63), ForeignKey("account.name"), nullable=False, index=True),
    Column("label", Text, nullable=False),
    Column("privileges", Text, nullable=False),
    Column("scope", String(127), nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("expires_at", String(32)),
    Column("last_used_at", String(32)),
    Column("revoked_at", String(32)),
)

session = Table(
    "session",
    metadata,
    Column("id", String(31), primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("account", String(63), ForeignKey("account.name"), nullable=False, index=True),
    Column("address", String(63), nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("seen_at", String(32), nullable=False),
)

audit = Table(
    "audit",
    metadata,
    # Numbered by the chain, not by the database: a number that is missing is a line that is gone.
    Column(
        "number",
        BigInteger().with_variant(Integer(), "sqlite"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("at", String(32), nullable=False),
    Column("principal", String(63), nullable=False),
    Column("kind", String(15), nullable=False),
    Column("credential", String(31), nullable=False),
    Column("address", String(63), nullable=False),
    Column("request", String(63), nullable=False),
    Column("action", String(63), nullable=False),
    Column("subject", Text, nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
    Column("result", String(63), nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)
