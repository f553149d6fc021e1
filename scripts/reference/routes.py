"""Routes and shapes of the API, from its OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from furlough.openapi import schema
from scripts.reference.shapes import Schema, default_of, name_of, range_of, resolved, type_of
from scripts.reference.tables import code, merged, plain, table

_PREFIX = "/api/v1"


@cache
def document() -> Schema:
    """The OpenAPI document as the code has it."""
    return schema()


def routes() -> Iterator[tuple[str, str, Schema]]:
    """Method, path and definition of every route."""
    for path, methods in document()["paths"].items():
        for method, route in methods.items():
            yield method.upper(), path, route


def _overview(_old: str) -> str:
    rows = [
        (f"{code(f'{method} {path}')}", plain(_first(route)), " or ".join(_statuses(route)))
        for method, path, route in routes()
    ]
    return table(("route", "what it does", "answers"), rows)


def _first(route: Schema) -> str:
    return str(route.get("description", "")).split("\n\n", maxsplit=1)[0]


def _statuses(route: Schema) -> list[str]:
    return [str(status) for status in route["responses"] if status.startswith("2")]


def _details(_old: str) -> str:
    return "\n\n".join(_detail(method, path, route) for method, path, route in routes())


def _detail(method: str, path: str, route: Schema) -> str:
    parts = [f"### {method} {path.removeprefix(_PREFIX)}", " ".join(_first(route).split())]
    parameters = [
        (code(one["name"]), one["in"], _type(one["schema"]), _need(one), range_of(one["schema"]))
        for one in route.get("parameters", [])
    ]
    parts.append(table(("parameter", "in", "type", "default", "range"), parameters))
    body = route.get("requestBody")
    if body:
        parts.append(f"Body: {_type(_content(body))}.")
    parts.append(_answer(route))
    if "security" not in route:
        parts.append("Needs no token.")
    return "\n\n".join(part.strip("\n") for part in parts if part)


def _need(parameter: Schema) -> str:
    needed = [parameter["name"]] if parameter.get("required") else []
    return default_of(parameter["name"], parameter["schema"], needed)


def _type(one: Schema) -> str:
    return type_of(one, document())


def _content(part: Schema) -> Schema:
    found: Schema = part["content"]["application/json"]["schema"]
    return found


def _answer(route: Schema) -> str:
    status = " or ".join(_statuses(route))
    response = route["responses"][_statuses(route)[0]]
    content: dict[str, Any] = response.get("content", {})
    if "application/json" in content:
        return f"Answers {status} with {_type(_content(response))}."
    if "text/event-stream" in content:
        return f"Answers {status} with server-sent events, see above."
    return f"Answers {status} without content."


def _shapes(old: str) -> str:
    """Every shape with its fields; what a field means is written by hand and kept."""
    written = {
        found["name"]: found["text"]
        for found in re.finditer(
            r"^### (?P<name>\w+)\n(?P<text>.*?)(?=^### |\Z)", old, re.DOTALL | re.MULTILINE
        )
    }
    parts, asked = [], _asked()
    for name, one in sorted(document()["components"]["schemas"].items()):
        if "properties" in one:
            words = " ".join(str(one.get("description", "")).split())
            fields = _fields(one, written.get(name, ""), is_asked=name in asked)
            parts.append(f"### {name}\n\n{words}\n\n{fields}")
    return "\n".join(parts)


def _fields(shape: Schema, old: str, *, is_asked: bool) -> str:
    required = shape.get("required", [])
    if is_asked:
        rows = [
            (code(name), _type(one), default_of(name, one, required), range_of(one))
            for name, one in shape["properties"].items()
        ]
        header = ("field", "type", "default", "range", "meaning")
        return merged(old, header, rows, by_hand=1)
    answered = [(code(name), _type(one)) for name, one in shape["properties"].items()]
    return merged(old, ("field", "type", "meaning"), answered, by_hand=1)


def _asked() -> set[str]:
    """The shapes that a client sends, with those inside them."""
    found: set[str] = set()
    waiting = [_content(route["requestBody"]) for _, _, route in routes() if "requestBody" in route]
    while waiting:
        one = waiting.pop()
        name = name_of(one)
        if name and name not in found:
            found.add(name)
            waiting += resolved(one, document()).get("properties", {}).values()
        waiting += [inner for key in ("anyOf", "oneOf") for inner in one.get(key, ())]
        waiting += [one["items"]] if "items" in one else []
    return found


BLOCKS: Mapping[str, Callable[[str], str]] = {
    "overview": _overview,
    "routes": _details,
    "shapes": _shapes,
}
