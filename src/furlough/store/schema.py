"""The schema's version: brought up to date at start, refused when it is newer than we are."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from furlough.errors import Refused
from furlough.store import settings, tables

# The newest revision below migrations/versions; a test compares.
HEAD = "0001"
# Any number that no other program uses for a lock of its own in the same database.
_LOCK = 7_168_703_011


def bring_up_to_date(engine: Engine) -> None:
    """Create or migrate the schema. Alembic is loaded only when there is something to do."""
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            # Replicas that start together wait for one another; SQLite's write lock does the same.
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        version = _version(connection)
        if version != HEAD:
            _migrate(connection, version)
        settings.prepare(connection)


def create_at_once(engine: Engine) -> None:
    """The newest schema without its history: for databases that live in memory."""
    with engine.begin() as connection:
        tables.metadata.create_all(connection)
        settings.prepare(connection)


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return version


def _migrate(connection: Connection, version: str | None) -> None:
    from alembic import command  # noqa: PLC0415  # 100 ms and 10 MiB that most starts do not need
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    known = {revision.revision for revision in ScriptDirectory.from_config(config).walk_revisions()}
    if version is not None and version not in known:
        raise Refused(
            "store.newer_schema",
            f"The database has schema {version}, which this version does not know.",
            remedy="Start the newer version again, or restore a backup made before its upgrade.",
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
