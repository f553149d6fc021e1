"""How JSON becomes values here: strictly. What two readers could understand differently is refused.

No key twice, no NaN or Infinity, UTF-8 and nothing else, no number or nesting without end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute


def parse(raw: bytes) -> Any:
    """The value of a JSON text. Raises `json.JSONDecodeError`, and nothing else."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise json.JSONDecodeError("It is not UTF-8", "", error.start) from error
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except json.JSONDecodeError:
        raise
    except RecursionError as error:
        raise json.JSONDecodeError("It is nested too deeply", "", 0) from error
    except ValueError as error:  # an integer of thousands of digits
        raise json.JSONDecodeError("A number is too long", "", 0) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise json.JSONDecodeError(f"The key {twice!r} stands twice in one object", "", 0)
    return found


def _refuse_constant(name: str) -> Any:
    raise json.JSONDecodeError(f"{name} is not a JSON number", "", 0)


class _StrictRequest(Request):
    async def json(self) -> Any:
        return parse(await self.body())


class StrictRoute(APIRoute):
    """A route whose JSON body is read by `parse`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        usual = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await usual(_StrictRequest(request.scope, request.receive))

        return strict
