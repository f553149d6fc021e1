"""Core values to the JSON text of a column, and back. Nothing outside the store reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Generic, TypeVar

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from furlough.core.enrolment import EnrolledDatastore, EnrolledHost
from furlough.core.inventory import Cluster
from furlough.core.journal import Event
from furlough.core.operation import Operation, RosterEntry, Step
from furlough.core.plan import Plan
from furlough.core.policy import Options
from furlough.errors import Bug
from furlough.planning.record import Away
from furlough.planning.remedies import Remedied

T = TypeVar("T")


class Codec(Generic[T]):
    """One type's way into a text column and out of it."""

    def __init__(self, adapter: TypeAdapter[T]) -> None:
        self._adapter = adapter

    def text(self, value: T) -> str:
        try:
            return self._adapter.dump_json(value).decode()
        except PydanticSerializationError:
            # Names from hosts are bytes; those that are no UTF-8 come as lone surrogates.
            return json.dumps(_readable(self._adapter.dump_python(value, mode="json")))

    def value(self, text: str) -> T:
        """The value again; `Bug` where the row is damaged, or of a newer version (F015, F029)."""
        try:
            return self._adapter.validate_json(text)
        except ValidationError as error:
            raise Bug(
                "store.damaged",
                f"A row of the database cannot be read: {error.errors()[0]['msg']}.",
                remedy="Restore the database from a backup, or report this.",
            ) from error

    def storable(self, value: T) -> tuple[T, str]:
        """The value as it will be read again, and its text: nearly always the value itself."""
        try:
            return value, self._adapter.dump_json(value).decode()
        except PydanticSerializationError:
            text = self.text(value)
            return self.value(text), text


def _readable(value: object) -> object:
    """The same with every text that is no Unicode spelt out: \\xff."""
    if isinstance(value, str):
        return value.encode(errors="surrogateescape").decode(errors="backslashreplace")
    if isinstance(value, Mapping):
        return {_readable(key): _readable(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_readable(one) for one in value]
    return value


EVENT: Codec[Event] = Codec(TypeAdapter(Annotated[Event, Field(discriminator="kind")]))
STEP = Codec(TypeAdapter(Step))
PLAN = Codec(TypeAdapter(Plan))
ROSTER = Codec(TypeAdapter(tuple[RosterEntry, ...]))
AWAY = Codec(TypeAdapter(Away))
REMEDIED = Codec(TypeAdapter(Remedied))
CLUSTER = Codec(TypeAdapter(Cluster))
DATASTORE = Codec(TypeAdapter(EnrolledDatastore))
HOST = Codec(TypeAdapter(EnrolledHost))
OPTIONS: Codec[Options] = Codec(TypeAdapter(Options))
_OPERATION = Codec(TypeAdapter(Operation))


def head_text(operation: Operation) -> str:
    """An operation without what has columns or rows of its own."""
    return _OPERATION.text(
        replace(operation, steps=(), roster=(), plan=replace(operation.plan, steps=()))
    )


def whole(head: str, plan: str, roster: str, steps: list[str]) -> Operation:
    """The operation that these columns hold together."""
    return replace(
        _OPERATION.value(head),
        plan=PLAN.value(plan),
        roster=ROSTER.value(roster),
        steps=tuple(STEP.value(text) for text in steps),
    )
