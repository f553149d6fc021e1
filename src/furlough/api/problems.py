"""Our errors, and the framework's, as problem documents (RFC 9457) with their status codes.

400 not JSON   401 who are you   403 you may not   404 no such thing   405 not with this method
409 conflict   412 changed meanwhile
413 too large     422 no sense
429 too often  500 our bug      503 no answer
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from furlough.core.plan import Plan
from furlough.errors import (
    Bug,
    Conflict,
    FurloughError,
    Invalid,
    NotAllowed,
    NotFound,
    Refused,
    Throttled,
    Unreachable,
)
from furlough.wire.plans import FindingView, plan_view
from furlough.wire.problem import Problem

log = structlog.get_logger()

_MOST_TOLD = 5
_LONGEST_TOLD = 300

_STATUS: dict[type[FurloughError], tuple[HTTPStatus, str]] = {
    Invalid: (HTTPStatus.UNPROCESSABLE_ENTITY, "invalid"),
    NotFound: (HTTPStatus.NOT_FOUND, "not_found"),
    NotAllowed: (HTTPStatus.FORBIDDEN, "not_allowed"),
    Throttled: (HTTPStatus.TOO_MANY_REQUESTS, "throttled"),
    Refused: (HTTPStatus.CONFLICT, "refused"),
    Conflict: (HTTPStatus.CONFLICT, "conflict"),
    Unreachable: (HTTPStatus.SERVICE_UNAVAILABLE, "unreachable"),
    Bug: (HTTPStatus.INTERNAL_SERVER_ERROR, "bug"),
}
# What to do where whoever raised the error did not say it better.
_REMEDIES = {
    "invalid": "Correct that and ask again; nothing was changed.",
    "not_found": "Look at what there is, and ask again.",
    "not_allowed": "Ask whoever runs this daemon.",
    "throttled": "Wait a little, then ask again.",
    "refused": "Look at the present state, then decide anew; nothing was changed.",
    "conflict": "Wait for what is under way, or cancel it: furlough operation list --active.",
    "unreachable": "Look whether it has happened before asking again.",
    "bug": "Please report it with the daemon's log.",
}

# What the framework refuses by itself: kind, what it means here, what to do.
_FRAMEWORK: dict[int, tuple[str, str, str]] = {
    400: ("invalid", "The body could not be read.", "Send one JSON value in UTF-8."),
    404: (
        "not_found",
        "There is nothing at this address.",
        "The addresses are listed in /api/v1/openapi.json.",
    ),
    405: (
        "invalid",
        "This address does not know this method.",
        "The header Allow names those it knows.",
    ),
    413: ("invalid", "The body is too large.", "Send fewer things at a time."),
}

# What every route may answer, for the schema.
_PROBLEM = "application/problem+json"
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem} for status in (400, 401, 403, 404, 409, 412, 413, 422, 429, 503)
}


def name_media_type(responses: dict[str, dict[str, Any]]) -> None:
    """In the responses of one route of a schema: problems are what `RESPONSES` lists, and are
    sent as problem+json."""
    for status in RESPONSES:
        content = responses[str(status)]["content"]
        responses[str(status)]["content"] = {_PROBLEM: next(iter(content.values()))}


def install(app: FastAPI) -> None:
    """From now on every error of this application is a problem document."""
    app.add_exception_handler(FurloughError, _ours)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(Exception, _bug)


def _ours(_request: Request, error: Exception) -> Response:
    if not isinstance(error, FurloughError):
        raise error
    return answer(error)


def answer(error: FurloughError) -> Response:
    """One of our errors as a problem document."""
    status, kind = _status_of(error)
    findings = error.facts.get("findings")
    operation = error.facts.get("operation")
    plan = error.facts.get("plan")
    problem = Problem(
        type=f"urn:furlough:problem:{error.code}",
        title=kind.replace("_", " "),
        status=status,
        detail=error.message,
        kind=kind,
        code=error.code,
        remedy=error.remedy or _REMEDIES[kind],
        operation=str(operation) if operation else None,
        findings=[FindingView.model_validate(one, from_attributes=True) for one in findings]
        if isinstance(findings, Sequence)
        else None,
        plan=plan_view(plan) if isinstance(plan, Plan) else None,
    )
    wait_s = error.facts.get("retry_after_s")
    headers = {"Retry-After": str(math.ceil(wait_s))} if isinstance(wait_s, float) else None
    return _answer(problem, headers)


def _status_of(error: FurloughError) -> tuple[HTTPStatus, str]:
    if error.code.startswith("caller."):
        return HTTPStatus.UNAUTHORIZED, "not_allowed"
    if error.code == "etag.mismatch":
        return HTTPStatus.PRECONDITION_FAILED, "conflict"
    for kind in type(error).__mro__:
        if kind in _STATUS:
            return _STATUS[kind]
    return HTTPStatus.INTERNAL_SERVER_ERROR, "bug"


def _malformed(_request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    found = list(error.errors())
    not_json = [one for one in found if one["type"] == "json_invalid"]
    if not_json:
        return _answer(_invalid(HTTPStatus.BAD_REQUEST, _why_no_json(not_json[0]), []))
    errors = [{"path": _path(one["loc"]), "message": _plain(one["msg"])} for one in found]
    detail = "; ".join(f"{one['path']}: {one['message']}" for one in errors[:_MOST_TOLD])
    if len(errors) > _MOST_TOLD:
        detail += f"; and {len(errors) - _MOST_TOLD} more"
    return _answer(_invalid(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors))


def _invalid(status: HTTPStatus, detail: str, errors: list[dict[str, Any]]) -> Problem:
    return Problem(
        type="urn:furlough:problem:request.malformed",
        title="invalid",
        status=status,
        detail=f"{detail or 'The request is malformed'}.",
        kind="invalid",
        code="request.malformed",
        remedy=_REMEDIES["invalid"],
        errors=errors or None,
    )


def _why_no_json(error: dict[str, Any]) -> str:
    why = _plain(str(error.get("ctx", {}).get("error", "")))
    place = error["loc"][-1]
    at = f" (at character {place})" if isinstance(place, int) and place > 0 else ""
    return f"The body is not the JSON that is read here: {why}{at}"


def _path(parts: Sequence[object]) -> str:
    """Where in the request: `options.timeout_s`; of a query or a header, with that word."""
    words = [str(part) for part in parts]
    if words and words[0] == "body":
        words = words[1:] or ["the body"]
    return _plain(".".join(words))


def _plain(text: str) -> str:
    """What can be written as UTF-8, in one modest line."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _LONGEST_TOLD else f"{text[:_LONGEST_TOLD]}..."


def _framework(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return answer_framework(error)


def answer_framework(error: HTTPException) -> Response:
    """What the framework refuses, as a problem document."""
    status = HTTPStatus(error.status_code)
    kind, detail, remedy = _FRAMEWORK.get(
        status.value, ("invalid", f"{status.phrase}.", "Correct the request.")
    )
    return _answer(
        Problem(
            type=f"urn:furlough:problem:http.{status.value}",
            title=status.phrase,
            status=status,
            detail=detail,
            kind=kind,
            code=f"http.{status.value}",
            remedy=remedy,
        ),
        dict(error.headers or {}),
    )


def _bug(request: Request, error: Exception) -> Response:
    log.error("bug in a request", path=request.url.path, exc_info=error)
    return _answer(
        Problem(
            type="urn:furlough:problem:bug",
            title="bug",
            status=HTTPStatus.INTERNAL_SERVER_ERROR,
            detail="A bug of ours; it is in the daemon's log.",
            kind="bug",
            code="bug",
            remedy=_REMEDIES["bug"],
        )
    )


def _answer(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    extra = dict(headers or {})
    if problem.status == HTTPStatus.UNAUTHORIZED:
        extra["WWW-Authenticate"] = "Bearer"
    if problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        extra.setdefault("Retry-After", "5")
    # In ASCII: what a client sent us may be quoted, and need not be writable in UTF-8.
    text = json.dumps(problem.model_dump(mode="json", exclude_none=True))
    return Response(text, status_code=problem.status, media_type=_PROBLEM, headers=extra)
