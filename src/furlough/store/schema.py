"""The schema's version: brought up to date at start, refused when it is newer than we are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text

from furlough.errors import Refused
from furlough.store import settings
from furlough.store.tables import metadata

if TYPE_CHECKING:
    from alembic.config import Config

# The newest revision below migrations/versions; a test compares.
HEAD = "0005"
# Any number that no other program uses for a lock of its own in the same database.
_LOCK = 7_168_703_011


def bring_up_to_date(engine: Engine) -> None:
    """Create or migrate the schema. Alembic is loaded only to migrate: it costs a tenth of the
    memory that a daemon may have."""
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            # Replicas that start together wait for one another; SQLite's write lock does the same.
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        version = _version(connection)
        if version is None:
            _create(connection)
        elif version != HEAD:
            _migrate(connection, version)
        settings.prepare(connection)


def create_at_once(engine: Engine) -> None:
    """The newest schema without its history: for databases that live in memory."""
    with engine.begin() as connection:
        metadata.create_all(connection)
        settings.prepare(connection)


def _create(connection: Connection) -> None:
    """The newest schema, marked as Alembic marks it; a test compares it with the migrated one."""
    metadata.create_all(connection)
    connection.execute(
        text(
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
            "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
    )
    connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return version


def _migrate(connection: Connection, version: str) -> None:
    from alembic.script import ScriptDirectory  # noqa: PLC0415  # see `bring_up_to_date`

    script = ScriptDirectory.from_config(_alembic(connection))
    if version not in {revision.revision for revision in script.walk_revisions()}:
        raise Refused(
            "store.newer_schema",
            f"The database has schema {version}, which this version does not know.",
            remedy="Start the newer version again, or restore a backup made before its upgrade.",
        )
    upgrade(connection)


def upgrade(connection: Connection) -> None:
    """Run every migration that this database has not seen; an empty one has seen none."""
    from alembic import command  # noqa: PLC0415  # see `bring_up_to_date`

    command.upgrade(_alembic(connection), "head")


def _alembic(connection: Connection) -> Config:
    from alembic.config import Config  # noqa: PLC0415  # see `bring_up_to_date`

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    return config
