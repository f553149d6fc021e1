"""Settings of the daemon: one dataclass, one loader.

    [server]       listen, data_dir, database, certificate, key
    [engine]       settle_window_s, observe_every_s
    [maintenance]  timeout_s, scope, automation, on_failure, storage, order
    [probes]       storage, backup

The tables `[[cluster]]`, `[[datastore]]` and `[[host]]` of the same file are enrolment: what they
hold is checked where the API checks it.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from furlough.core.policy import Automation, OnFailure, Order, Scope, StorageMode
from furlough.errors import Invalid, NotFound


def default_data_dir() -> Path:
    """/var/lib/furlough for root, else the user's state directory."""
    if os.geteuid() == 0:
        return Path("/var/lib/furlough")
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "furlough"


_LONGEST_S = 366 * 24 * 3600.0
ENROLMENT_TABLES = ("cluster", "datastore", "host")


@dataclass(frozen=True, kw_only=True)
class Server:
    """Where the daemon listens and what it keeps.

    listen: address and port, for instance 127.0.0.1:8642; port 0 for any. Beyond loopback only
    HTTPS is spoken.
    data_dir: database, token, certificate and lock; made at the first start.
    database: postgresql+psycopg://USER@HOST/NAME; empty: SQLite in `data_dir`.
    certificate, key: files for HTTPS, then also on loopback; empty: beyond loopback, ones that are
    made at the first start.
    """

    listen: str = "127.0.0.1:8642"
    data_dir: Path = field(default_factory=default_data_dir)
    database: str = ""
    certificate: str = ""
    key: str = ""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How long to wait and how often to look, in seconds.

    settle_window_s: how long an answer about a migration in doubt must stay the same before it
    counts: the hosts' migration keepalive time (qemu.conf, 30 s) and 5 s.
    observe_every_s: between two looks at every host.
    """

    settle_window_s: float = 35.0
    observe_every_s: float = 5.0


@dataclass(frozen=True, kw_only=True)
class Maintenance:
    """Defaults of entering maintenance, where neither the request nor the cluster says anything.
    timeout_s: 0 or less for none."""

    timeout_s: float = 0.0
    scope: Scope = Scope.RUNNING
    automation: Automation = Automation.AUTOMATIC
    on_failure: OnFailure = OnFailure.STOP
    storage: StorageMode = StorageMode.KEEP_ACCESSIBLE
    order: Order = Order.SCHEDULE


@dataclass(frozen=True, kw_only=True)
class Probes:
    """Commands of the site that are asked before a host is entered, each a list of words that is
    run without a shell; empty: none.

    storage: exit status 1 says that storage is under repair, its first line what.
    backup: gets the UUID and the name of a VM; exit status 1 says that it has no recent backup.
    """

    storage: tuple[str, ...] = ()
    backup: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything, with its defaults. `enrolment`: the raw tables that enrol things."""

    server: Server = field(default_factory=Server)
    engine: Engine = field(default_factory=Engine)
    maintenance: Maintenance = field(default_factory=Maintenance)
    probes: Probes = field(default_factory=Probes)
    enrolment: dict[str, Any] = field(default_factory=dict)


def load(path: Path | None) -> Settings:
    """The settings of a file; the defaults without one. `Invalid` names the place of a mistake."""
    return Settings() if path is None else settings_of(read_toml(path), path)


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file, whatever they mean."""
    try:
        return tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError as error:
        raise NotFound(
            "config.missing",
            f"There is no file {path}.",
            remedy="Name one that is there; relative names start at the present directory.",
        ) from error
    except OSError as error:
        raise Invalid(
            "config.unreadable",
            f"{path} cannot be read: {error.strerror}.",
            remedy="Look at what it is and who may read it.",
        ) from error
    except (ValueError, RecursionError) as error:
        # Not only TOMLDecodeError: bytes that are no text, numbers and nesting without end.
        raise Invalid(
            "config.syntax", f"{path} is not TOML: {error}.", remedy="Correct it there."
        ) from error


def settings_of(tables: dict[str, Any], path: Path) -> Settings:
    """Settings from the tables of a file."""
    sections = {"server": Server, "engine": Engine, "maintenance": Maintenance, "probes": Probes}
    unknown = set(tables) - set(sections) - set(ENROLMENT_TABLES)
    if unknown:
        raise Invalid(
            "config.unknown",
            f"{path}: there is no table [{min(unknown)}].",
            remedy=f"Known are {', '.join([*sections, *ENROLMENT_TABLES])}.",
        )
    found = {
        name: _section(kind, tables.get(name, {}), f"{path}: [{name}]")
        for name, kind in sections.items()
    }
    enrolment = {name: tables[name] for name in ENROLMENT_TABLES if name in tables}
    settings = Settings(**found, enrolment=enrolment)
    _check_ranges(settings, path)
    return settings


def _section(kind: type[Any], table: Any, where: str) -> Any:
    """One dataclass from one table, with types checked."""
    if not isinstance(table, dict):
        raise Invalid(
            "config.type", f"{where} is not a table.", remedy="Write its settings below it."
        )
    known = {one.name: one for one in fields(kind)}
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in known:
            raise Invalid(
                "config.unknown",
                f"{where} has no setting {name!r}.",
                remedy=f"Known are {', '.join(known)}.",
            )
        values[name] = _checked(value, str(known[name].type), f"{where} {name}")
    return kind(**values)


_WORDS = "tuple[str, ...]"
_CHOICES: dict[str, type[StrEnum]] = {
    one.__name__: one for one in (Scope, Automation, OnFailure, StorageMode, Order)
}
_KINDS = {
    **{name: f"one of {', '.join(one)}" for name, one in _CHOICES.items()},
    "float": "a number of seconds",
    "str": "text",
    "Path": "a path",
    _WORDS: "a command: a list of words, the first one an absolute path",
}


def _checked(value: Any, wanted: str, where: str) -> Any:
    """A value of the type that a setting has."""
    if wanted == "float" and isinstance(value, int | float) and not isinstance(value, bool):
        # Beyond that it is no length of time; nan and inf are not either.
        if abs(value) <= _LONGEST_S:
            return float(value)
    elif wanted in _CHOICES and isinstance(value, str) and value in set(_CHOICES[wanted]):
        return _CHOICES[wanted](value)
    elif wanted in ("str", "Path") and isinstance(value, str) and value.isprintable():
        return value if wanted == "str" else Path(value)
    elif wanted == _WORDS and _is_command(value):
        return tuple(value)
    raise Invalid(
        "config.type",
        f"{where} is {str(value)[:80]!r}, which is not {_KINDS[wanted]}.",
        remedy="See the settings in the reference.",
    )


def _is_command(value: Any) -> bool:
    """A program by its absolute path, and its arguments; or nothing."""
    words = value if isinstance(value, list) else [""]
    return all(isinstance(word, str) and word.isprintable() for word in words) and (
        not words or words[0].startswith("/")
    )


def _check_ranges(settings: Settings, path: Path) -> None:
    engine = settings.engine
    for name, value, least in (
        ("settle_window_s", engine.settle_window_s, 0.0),
        ("observe_every_s", engine.observe_every_s, 0.1),
    ):
        if value < least:
            raise Invalid(
                "config.range",
                f"{path}: [engine] {name} is {value:g}; the least is {least:g}.",
                remedy="The default is good for most.",
            )
    if bool(settings.server.certificate) is not bool(settings.server.key):
        raise Invalid(
            "config.certificate",
            f"{path}: [server] certificate and key belong together, and one is missing.",
            remedy="Name both files, or neither.",
        )
    database = settings.server.database
    if database and not database.startswith("postgresql+psycopg://"):
        raise Invalid(
            "config.database",
            f"{path}: [server] database is no address of a PostgreSQL database.",
            remedy="Write postgresql+psycopg://USER@HOST/NAME, or nothing for SQLite.",
        )


def with_server(settings: Settings, **changes: Any) -> Settings:
    """The same with some settings of the server changed; None leaves one as it is."""
    wanted = {name: value for name, value in changes.items() if value is not None}
    return replace(settings, server=replace(settings.server, **wanted))


def split_listen(listen: str) -> tuple[str, int]:
    """Address and port to listen on. Raises `Invalid`: names other than localhost are none, since
    what they stand for is decided elsewhere."""
    address, _, port = listen.rpartition(":")
    address = address.strip("[]") or "127.0.0.1"
    is_port = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535
    if not is_port or not _is_address(address):
        raise Invalid(
            "listen.malformed",
            f"{listen[:100]!r} is no address to listen on.",
            remedy="Give ADDRESS:PORT, for instance 127.0.0.1:8642, or 0.0.0.0:8642 for all "
            "addresses of this machine.",
        )
    return address, int(port)


def is_loopback(address: str) -> bool:
    """Whether nobody but this machine reaches an address of `split_listen`."""
    return address == "localhost" or ipaddress.ip_address(address).is_loopback


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return text == "localhost"
    return True
