"""What forms and addresses say: fields read within limits, and options of ours made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar
from urllib.parse import parse_qs, parse_qsl, urlencode

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from furlough.errors import Invalid

LARGEST_FORM = 1 << 20
_MOST_FIELDS = 20_000
_FORM = "application/x-www-form-urlencoded"

Fields = Mapping[str, Sequence[str]]
ModelT = TypeVar("ModelT", bound=BaseModel)


async def read_form(request: Request) -> Fields:
    """The fields of a posted form. Raises `Invalid` where it is none, or too large."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _FORM:
        raise Invalid(
            "form.malformed", "The request carries no form.", remedy="Use the form of the page."
        )
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_FORM:
            raise Invalid(
                "form.too_large",
                f"The form is larger than {LARGEST_FORM >> 20} MiB.",
                remedy="Choose fewer VMs at a time.",
            )
    return _parsed(body.decode("utf-8", "replace"))


def read_query(request: Request) -> Fields:
    """The fields of an address."""
    return _parsed(request.url.query)


def _parsed(text: str) -> Fields:
    try:
        return parse_qs(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise Invalid(
            "form.malformed", "The form has too many fields.", remedy="Choose fewer VMs at a time."
        ) from error


def first(fields: Fields, name: str, default: str = "") -> str:
    """The first value of a field."""
    return next(iter(fields.get(name, ())), default).strip()


def model_of(model: type[ModelT], fields: Fields) -> ModelT:
    """These fields as a body of the API, checked as the API checks it. Blank fields count as not
    said, and so do those that the body does not have."""
    said: dict[str, object] = {}
    for name, known in model.model_fields.items():
        values = [value.strip() for value in fields.get(name, ()) if value.strip()]
        if not values:
            continue
        is_list = str(known.annotation).startswith(("list", "typing.List"))
        said[name] = values if is_list else values[0]
    try:
        return model.model_validate(said)
    except ValidationError as error:
        wrong = error.errors()[0]
        raise Invalid(
            "form.value",
            f"{'.'.join(str(part) for part in wrong['loc'])}: {wrong['msg']}.",
            remedy="Correct that and try again; nothing was changed.",
        ) from error


def pairs(fields: Fields, names: Iterable[str]) -> list[tuple[str, str]]:
    """The values of these fields that are not blank, to be carried along in a form."""
    return [(name, value) for name in names for value in fields.get(name, ()) if value.strip()]


def fingerprint(fields: Fields) -> str:
    """Two forms that ask for the same have the same."""
    said = sorted((name, list(values)) for name, values in fields.items() if name != "csrf_token")
    return hashlib.sha256(repr(said).encode()).hexdigest()


def with_page(query: str, page: int) -> str:
    """The same address query, on another page of a listing."""
    kept = [(name, value) for name, value in parse_qsl(query) if name != "page"]
    return urlencode([*kept, ("page", str(page))])
