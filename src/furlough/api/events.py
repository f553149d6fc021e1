"""News as server-sent events: every entry of the journal, and live progress between them.

An entry carries its sequence number as the event's id; a client that comes back with
`Last-Event-ID` misses none. Progress events have no id: they are only the newest state.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractContextManager, aclosing, suppress
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import TypeAdapter
from starlette.types import Message, Receive, Scope, Send

from furlough.api.calling import TheService, view_of
from furlough.api.limits import Limiter
from furlough.api.principal import ThePrincipal, principal_again
from furlough.core.access import Principal
from furlough.core.ids import OperationId, parse_operation_id
from furlough.core.journal import Entry, Event
from furlough.service import Service
from furlough.wire.operations import EntryView

log = structlog.get_logger()

router = APIRouter()


class _Described(StreamingResponse):
    """How the schema describes the stream."""

    media_type = "text/event-stream"


class EventStream(_Described):
    """Ends where its reader takes nothing for a while: it comes back with `Last-Event-ID`."""

    def __init__(
        self,
        news: AsyncIterator[str],
        place: Callable[[], AbstractContextManager[None]],
        **more: Any,
    ) -> None:
        super().__init__(news, **more)
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._place():
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        async def prompt(message: Message) -> None:
            async with asyncio.timeout(_SLOW_READER_S):
                await send(message)

        try:
            await super().stream_response(prompt)
        except TimeoutError:
            log.info("a reader of events is too slow and is dropped")


_EVENT: TypeAdapter[Any] = TypeAdapter(Event)
_PROGRESS_EVERY_S = 0.5
_ALIVE_EVERY_S = 15.0
_PAGE = 500
_LARGEST_SEQUENCE = 2**63 - 1
_SLOW_READER_S = 60.0
_STILL_HERE = ": still here\n\n"


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


@router.get("/events", response_class=_Described)
async def stream_events(
    request: Request,
    service: TheService,
    principal: ThePrincipal,
    operation: Annotated[str | None, Query(description="Only this operation")] = None,
    last_event_id: Annotated[int | None, Header(ge=0, le=_LARGEST_SEQUENCE)] = None,
) -> StreamingResponse:
    """Server-sent events: `entry` (an event of the journal) and `operation` (its newest state,
    whenever it changes; looked at twice a second). The stream of one operation ends with it; a
    comment comes where there was nothing to say for a while. `gap`: the `Last-Event-ID` is of
    events that are not there; what follows begins at the newest one."""
    which = None if operation is None else parse_operation_id(operation)
    if which is not None:
        await service.operation(which)
    newest = await service.last_sequence()
    after = newest if last_event_id is None else min(last_event_id, newest)
    gap = ""
    if last_event_id is not None and last_event_id > newest:
        # Another database: restored, or made anew. What the client knows is not what is there.
        gap = _event("gap", json.dumps({"after": last_event_id, "newest": newest}))
    news = _all_news(service, after) if which is None else _news_of(service, which, after)
    limiter: Limiter = request.app.state.limiter
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    told = _while_known(request, principal, gap, news)
    return EventStream(told, lambda: limiter.stream(principal), headers=headers)


async def _while_known(
    request: Request, principal: Principal, gap: str, news: AsyncGenerator[str]
) -> AsyncIterator[str]:
    """The news as long as the caller is who they were, and may what they might: asked again from
    time to time, since a stream may stay open for days. Whose rights have changed comes back."""
    if gap:
        yield gap
    now_s = asyncio.get_running_loop().time
    asked_s = now_s()
    async with aclosing(news):
        async for text in news:
            if now_s() - asked_s >= _ALIVE_EVERY_S:
                asked_s = now_s()
                again = await principal_again(request)
                if again is None or again.rights != principal.rights:
                    return
            yield text


async def _all_news(service: Service, after: int) -> AsyncGenerator[str]:
    """Every entry as it is written. Ends when the client goes."""
    async with aclosing(_wake_ups(service, _ALIVE_EVERY_S)) as wake_ups:
        async for is_news in wake_ups:
            async for text, sequence in _new_entries(service, after):
                after = sequence
                yield text
            if not is_news:
                yield _STILL_HERE


async def _news_of(service: Service, which: OperationId, after: int) -> AsyncGenerator[str]:
    """The entries of one operation as they are written, its state beside them. Ends with it."""
    told, silent_s = "", 0.0
    async with aclosing(_wake_ups(service, _PROGRESS_EVERY_S)) as wake_ups:
        async for _ in wake_ups:
            # Read before its entries: if it is over, they are all there.
            operation = await service.operation(which)
            async for text, sequence in _new_entries(service, after, which):
                after = sequence
                yield text
            state = _event("operation", (await view_of(operation, service)).model_dump_json())
            silent_s += _PROGRESS_EVERY_S
            if state != told:
                told, silent_s = state, 0.0
                yield state
            elif silent_s >= _ALIVE_EVERY_S:
                silent_s = 0.0
                yield _STILL_HERE
            if operation.is_final:
                return


async def _wake_ups(service: Service, at_least_every_s: float) -> AsyncGenerator[bool]:
    """Now, and then whenever there is news (True) or nothing was for a while (False)."""
    woken = asyncio.Event()

    async def listen() -> None:
        async for _ in service.news():
            woken.set()

    listening = asyncio.create_task(listen())
    try:
        await asyncio.sleep(0)  # from here on it listens: what is read from now on misses nothing
        yield True
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(at_least_every_s):
                    await woken.wait()
            is_news = woken.is_set()
            woken.clear()
            yield is_news
    finally:
        listening.cancel()


async def _new_entries(
    service: Service, after: int, which: OperationId | None = None
) -> AsyncIterator[tuple[str, int]]:
    """Entries after a sequence number, each with its own."""
    while entries := await service.entries(after, _PAGE):
        for entry in entries:
            after = entry.sequence
            if which is None or entry.operation == which:
                text = entry_view(entry).model_dump_json()
                yield f"id: {entry.sequence}\n{_event('entry', text)}", entry.sequence


def _event(name: str, text: str) -> str:
    return f"event: {name}\ndata: {text}\n\n"
