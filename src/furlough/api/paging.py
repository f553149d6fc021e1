"""Pages of lists, and the version of what can be changed.

A page says where the next one begins in the header `Link`, rel="next". The cursor in it is the last
thing that was given, so pages stay in step while things come and go in between. Whoever gives it
to somebody else gives away nothing: what they may not see, they are not shown.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

from fastapi import Header, Query, Request, Response

from furlough.errors import Invalid, Stale

T = TypeVar("T")
MOST = 1000

PageLimit = Annotated[
    int | None, Query(ge=1, le=MOST, description="So many at most; without it, all of them")
]
Cursor = Annotated[
    str | None, Query(max_length=400, description="Where to go on, from the header Link")
]
IfMatch = Annotated[
    str | None,
    Header(max_length=100, description="Only if it still is what this ETag was given for"),
]


def page_of(
    items: Iterable[T],
    key: Callable[[T], str],
    limit: int | None,
    cursor: str | None,
    request: Request,
    response: Response,
) -> list[T]:
    """One page of these, in the order of their keys; all as they are where no page was asked
    for."""
    if limit is None and cursor is None:
        return list(items)
    after = "" if cursor is None else key_of(cursor)
    left = sorted((one for one in items if key(one) > after), key=key)
    found = left[: limit or MOST]
    if len(left) > len(found):
        link_next(request, response, key(found[-1]))
    return found


def link_next(request: Request, response: Response, key: str) -> None:
    """Say where the next page begins."""
    cursor = base64.urlsafe_b64encode(key.encode()).decode()
    kept = [(name, one) for name, one in request.query_params.multi_items() if name != "cursor"]
    where = f"{request.url.path}?{urlencode([*kept, ('cursor', cursor)])}"
    response.headers["Link"] = f'<{where}>; rel="next"'


def key_of(cursor: str) -> str:
    """The key that a cursor was made of. Raises `Invalid`."""
    try:
        return base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True).decode()
    except ValueError as error:
        raise Invalid(
            "cursor.malformed",
            "This is no cursor of ours.",
            remedy="Take it from the header Link, or leave it out to begin at the beginning.",
        ) from error


def etag_of(body: Mapping[str, Any]) -> str:
    """The version of what can be changed about a thing."""
    text = json.dumps(body, sort_keys=True, default=str)
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def check_match(wanted: str | None, body: Mapping[str, Any]) -> None:
    """`Stale` where the thing is no longer what the caller has seen."""
    if wanted is None or wanted.strip() == "*":
        return
    if etag_of(body) not in [one.strip() for one in wanted.split(",")]:
        raise Stale(
            "etag.mismatch",
            "It has been changed since it was read.",
            remedy="Read it again, and decide again.",
        )
