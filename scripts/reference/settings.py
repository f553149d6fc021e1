"""Settings, environment variables and enrolment tables, from their definitions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import partial
from typing import Any, get_type_hints

from pydantic import BaseModel

from furlough.config import Settings
from furlough.core.policy import Automation, OnFailure, Order, Scope, StorageMode
from furlough.wire.enrolment import (
    ClusterBody,
    DatastoreBody,
    HostBody,
    LimitsBody,
    MaintenanceBody,
    RuleBody,
)
from scripts.reference.shapes import Schema, default_of, name_of, range_of, type_of
from scripts.reference.sources import constants
from scripts.reference.tables import code, merged

_TABLES = (LimitsBody.__name__, MaintenanceBody.__name__, RuleBody.__name__)
_VARIABLE = re.compile(r"(FURLOUGH|XDG)_[A-Z_]+")
_TYPES = {
    "float": "number",
    "str": "text",
    "Path": "path",
    "int": "integer",
    "bool": "boolean",
    "tuple[str, ...]": "list of text",
    **{one.__name__: "text" for one in (Scope, Automation, OnFailure, StorageMode, Order)},
}


def setting_fields() -> Iterator[tuple[str, Field[Any]]]:
    """Every setting of `furlough.toml`, as `[table] name`."""
    hints = get_type_hints(Settings)
    for section in fields(Settings):
        kind = hints[section.name]
        if is_dataclass(kind):
            for one in fields(kind):
                yield f"[{section.name}] {one.name}", one


def variables() -> set[str]:
    """Every environment variable that the code names."""
    return {text for text, _ in constants() if _VARIABLE.fullmatch(text)}


def _settings(old: str) -> str:
    rows = [
        (code(name), _TYPES.get(str(one.type), str(one.type)), _default(one))
        for name, one in setting_fields()
    ]
    header = ("setting", "type", "default", "range", "command line", "meaning")
    return merged(old, header, rows, by_hand=3)


def _default(one: Field[Any]) -> str:
    if one.default is MISSING:
        return "see below"  # Made when it is asked for: it depends on the machine.
    return "empty" if one.default in ("", ()) else code(str(one.default))


def _variables(old: str) -> str:
    rows = [(code(name),) for name in sorted(variables())]
    return merged(old, ("variable", "meaning"), rows, by_hand=1)


def _enrolment(shape: type[BaseModel], old: str) -> str:
    schema = shape.model_json_schema()
    required = schema.get("required", [])
    rows = [
        (
            code(name),
            _type(one, schema),
            default_of(name, one, required),
            range_of(one),
        )
        for name, one in schema["properties"].items()
    ]
    return merged(old, ("key", "type", "default", "range", "meaning"), rows, by_hand=1)


def _type(one: Schema, schema: Schema) -> str:
    """What a key is: a table of its own where the page has one for it."""
    if name_of(one) in _TABLES:
        return "table"
    return "tables" if name_of(one.get("items", {})) in _TABLES else type_of(one, schema)


BLOCKS: Mapping[str, Callable[[str], str]] = {
    "settings": _settings,
    "environment": _variables,
    "cluster": partial(_enrolment, ClusterBody),
    "limits": partial(_enrolment, LimitsBody),
    "cluster maintenance": partial(_enrolment, MaintenanceBody),
    "rule": partial(_enrolment, RuleBody),
    "datastore": partial(_enrolment, DatastoreBody),
    "host": partial(_enrolment, HostBody),
}
