"""What a JSON schema says of a shape, in the words of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.reference.tables import code

Schema = Mapping[str, Any]

_WORDS = {
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
    "object": "object",
    "null": "null",
}


def resolved(schema: Schema, document: Schema) -> Schema:
    """The schema itself, where it is a reference into its document."""
    while "$ref" in schema:
        found: Any = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def name_of(schema: Schema) -> str:
    """The name of the shape that a schema refers to; empty where it is none."""
    return str(schema["$ref"]).rsplit("/", 1)[-1] if "$ref" in schema else ""


def type_of(schema: Schema, document: Schema) -> str:
    """What a value of this schema is, in words, with the words it may be."""
    choices = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if choices:
        return " or ".join(dict.fromkeys(type_of(one, document) for one in choices))
    target = resolved(schema, document)
    if "enum" in target:
        return ", ".join(code(str(word)) for word in target["enum"])
    if "const" in target:
        return code(str(target["const"]))
    if name_of(schema):
        return f"[{name_of(schema)}](#{name_of(schema).lower()})"
    return _simple(target, document)


def _simple(schema: Schema, document: Schema) -> str:
    kind = str(schema.get("type", "anything"))
    if kind == "array":
        return f"list of {type_of(schema['items'], document)}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"map to {type_of(schema['additionalProperties'], document)}"
    if schema.get("format") == "date-time":
        return "instant"
    return _WORDS.get(kind, kind)


def default_of(name: str, schema: Schema, required: Sequence[str]) -> str:
    """What holds where a key is not given."""
    if name in required:
        return "required"
    value = schema.get("default")
    if value is None:
        return "null" if "default" in schema else _empty(schema)
    if isinstance(value, bool):
        return code(str(value).lower())
    return "empty" if value in ("", [], {}) else code(str(value))


def _empty(schema: Schema) -> str:
    if {"type": "null"} in schema.get("anyOf", ()):
        return "null"
    return "its defaults" if name_of(schema) else "empty"


def range_of(schema: Schema) -> str:
    """The limits of a value, in words."""
    parts = []
    for key, words in (
        ("minimum", "at least {}"),
        ("exclusiveMinimum", "above {}"),
        ("maximum", "at most {}"),
        ("exclusiveMaximum", "below {}"),
        ("minLength", "at least {} characters"),
        ("maxLength", "at most {} characters"),
        ("minItems", "at least {}"),
        ("maxItems", "at most {} items"),
    ):
        if key in schema:
            parts.append(words.format(f"{schema[key]:,}".removesuffix(".0").replace(",", " ")))
    return ", ".join(parts) or "-"
