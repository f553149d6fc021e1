"""News as server-sent events: every entry of the journal, and live progress between them.

An entry carries its sequence number as the event's id; a client that comes back with
`Last-Event-ID` misses none. Progress events have no id: they are only the newest state.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse
from pydantic import TypeAdapter

from furlough.api.calling import Caller, TheService, view_of
from furlough.core.ids import OperationId, parse_operation_id
from furlough.core.journal import Entry, Event
from furlough.service import Service
from furlough.wire.operations import EntryView

router = APIRouter()

_EVENT: TypeAdapter[Any] = TypeAdapter(Event)
_PROGRESS_EVERY_S = 0.5
_PAGE = 500


def entry_view(entry: Entry) -> EntryView:
    """An event of the journal as clients see it."""
    return EntryView(
        sequence=entry.sequence,
        operation=entry.operation,
        number=entry.number,
        at=entry.at,
        kind=entry.event.kind,
        event=_EVENT.dump_python(entry.event, mode="json"),
    )


@router.get("/events", response_class=StreamingResponse)
async def stream_events(
    service: TheService,
    _caller: Caller,
    operation: Annotated[str | None, Query(description="Only this operation")] = None,
    last_event_id: Annotated[int | None, Header(ge=0)] = None,
) -> StreamingResponse:
    """Server-sent events: `entry` (an event of the journal) and `operation` (its newest state,
    whenever it changes and at least twice a second while something is in flight)."""
    which = None if operation is None else parse_operation_id(operation)
    if which is not None:
        await service.operation(which)
    after = last_event_id if last_event_id is not None else await service.last_sequence()
    return StreamingResponse(
        _stream(service, which, after),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _stream(service: Service, which: OperationId | None, after: int) -> AsyncIterator[str]:
    """Entries as they are written; the state of one operation beside them. Ends with it."""
    news = service.news()
    waiting: asyncio.Task[None] | None = None
    try:
        while True:
            if waiting is None:
                waiting = asyncio.ensure_future(anext(news))
            async for text, sequence in _new_entries(service, which, after):
                after = sequence
                yield text
            if which is not None:
                operation = await service.operation(which)
                view = await view_of(operation, service)
                yield _event("operation", view.model_dump_json())
                if operation.is_final:
                    return
            done, _ = await asyncio.wait({waiting}, timeout=_PROGRESS_EVERY_S if which else 15.0)
            if done:
                waiting = None
            elif which is None:
                yield ": still here\n\n"
    finally:
        if waiting is not None:
            waiting.cancel()


async def _new_entries(
    service: Service, which: OperationId | None, after: int
) -> AsyncIterator[tuple[str, int]]:
    while entries := await service.entries(after, _PAGE):
        for entry in entries:
            after = entry.sequence
            if which is None or entry.operation == which:
                text = entry_view(entry).model_dump_json()
                yield f"id: {entry.sequence}\n{_event('entry', text)}", entry.sequence


def _event(name: str, text: str) -> str:
    return f"event: {name}\ndata: {text}\n\n"
