"""The tables. Rows of `event` are the journal and are never changed; all others are its fold,
written in the same transaction, so that they can be asked and locked.

Instants that only people read are ISO text; leases are seconds on the database's clock
(PostgreSQL) or on this machine's monotonic one (SQLite, which has no other process).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only in a column of exactly this type.
_Number = BigInteger().with_variant(Integer(), "sqlite")

setting = Table(
    "setting",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("value", Text, nullable=False),
)

cluster = Table(
    "cluster",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("body", Text, nullable=False),
)

datastore = Table(
    "datastore",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("cluster", String(63), ForeignKey("cluster.name"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("body", Text, nullable=False),
)

host = Table(
    "host",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("cluster", String(63), ForeignKey("cluster.name"), nullable=False, index=True),
    Column("position", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("mode", String(15), nullable=False),
    # The operation that owns the host; a host has one column, so it has at most one owner.
    Column("operation", _Number, ForeignKey("operation.number")),
)

operation = Table(
    "operation",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("kind", String(31), nullable=False),
    Column("state", String(15), nullable=False),
    Column("is_final", Boolean, nullable=False, index=True),
    Column("owner", String(127)),
    Column("lease_until_s", Float, nullable=False),
    Column("epoch", _Number, nullable=False),
    Column("events", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("roster", Text, nullable=False),
)

operation_host = Table(
    "operation_host",
    metadata,
    Column("operation", _Number, ForeignKey("operation.number"), primary_key=True),
    Column("host", String(63), primary_key=True, index=True),
)

step = Table(
    "step",
    metadata,
    Column("operation", _Number, ForeignKey("operation.number"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("method", String(31), nullable=False),
    Column("state", String(15), nullable=False),
    Column("source", String(63)),
    Column("target", String(63)),
    Column("body", Text, nullable=False),
    Index("ix_step_state_method", "state", "method"),
)

vm_owner = Table(
    "vm_owner",
    metadata,
    Column("vm", String(36), primary_key=True),
    Column("operation", _Number, ForeignKey("operation.number"), nullable=False, index=True),
)

reservation = Table(
    "reservation",
    metadata,
    Column("operation", _Number, ForeignKey("operation.number"), primary_key=True),
    Column("vm", String(36), primary_key=True),
    Column("host", String(63), nullable=False, index=True),
    Column("memory_mib", BigInteger, nullable=False),
    Column("vcpus", Integer, nullable=False),
)

away = Table(
    "away",
    metadata,
    Column("vm", String(36), primary_key=True),
    Column("home", String(63), nullable=False, index=True),
    Column("body", Text, nullable=False),
)

# Media that remedies took out of drives, until they are back or not ours to put back any more.
remedied = Table(
    "remedied",
    metadata,
    Column("vm", String(36), primary_key=True),
    Column("drive", String(63), primary_key=True),
    Column("home", String(63), nullable=False, index=True),
    Column("body", Text, nullable=False),
)

event = Table(
    "event",
    metadata,
    Column("sequence", _Number, primary_key=True, autoincrement=True),
    Column("operation", _Number, ForeignKey("operation.number"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("at", String(32), nullable=False),
    Column("kind", String(31), nullable=False),
    Column("body", Text, nullable=False),
    UniqueConstraint("operation", "number"),
)

# What was seen on a host outside of any operation; like the journal, rows are never changed.
host_note = Table(
    "host_note",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("host", String(63), nullable=False),
    Column("at", String(32), nullable=False),
    Column("level", String(15), nullable=False),
    Column("code", String(63), nullable=False),
    Column("what", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("is_over", Boolean, nullable=False),
    Index("ix_host_note_host_code", "host", "code"),
)

# What migrations have shown the links between hosts to carry.
link_speed = Table(
    "link_speed",
    metadata,
    Column("source", String(63), primary_key=True),
    Column("target", String(63), primary_key=True),
    Column("mib_s", Float, nullable=False),
    Column("alone_s", Float, nullable=False),
    Column("migrations", Integer, nullable=False),
    Column("at", String(32), nullable=False),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("principal", String(127), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("content", String(64), nullable=False),
    Column("operation", _Number, ForeignKey("operation.number"), nullable=False),
)
