"""Core values to the JSON text of a column, and back. Nothing outside the store reads it."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Generic, TypeVar

from pydantic import Field, TypeAdapter

from furlough.core.enrolment import EnrolledDatastore, EnrolledHost
from furlough.core.inventory import Cluster
from furlough.core.journal import Event
from furlough.core.operation import Operation, RosterEntry, Step
from furlough.core.plan import Plan
from furlough.core.restore import Away

T = TypeVar("T")


class Codec(Generic[T]):
    """One type's way into a text column and out of it."""

    def __init__(self, adapter: TypeAdapter[T]) -> None:
        self._adapter = adapter

    def text(self, value: T) -> str:
        return self._adapter.dump_json(value).decode()

    def value(self, text: str) -> T:
        return self._adapter.validate_json(text)


EVENT: Codec[Event] = Codec(TypeAdapter(Annotated[Event, Field(discriminator="kind")]))
STEP = Codec(TypeAdapter(Step))
PLAN = Codec(TypeAdapter(Plan))
ROSTER = Codec(TypeAdapter(tuple[RosterEntry, ...]))
AWAY = Codec(TypeAdapter(Away))
CLUSTER = Codec(TypeAdapter(Cluster))
DATASTORE = Codec(TypeAdapter(EnrolledDatastore))
HOST = Codec(TypeAdapter(EnrolledHost))
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
