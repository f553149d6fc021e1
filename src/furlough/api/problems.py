"""Our errors, and the framework's, as problem documents (RFC 9457) with their status codes.

400 not JSON           401 who are you      403 you may not     404 no such thing
409 stands against it  413 too large        422 makes no sense  503 no answer   500 our bug
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from furlough.errors import (
    Bug,
    Conflict,
    FurloughError,
    Invalid,
    NotAllowed,
    NotFound,
    Refused,
    Unreachable,
)
from furlough.wire.plans import FindingView
from furlough.wire.problem import Problem

log = structlog.get_logger()

_STATUS: dict[type[FurloughError], tuple[HTTPStatus, str]] = {
    Invalid: (HTTPStatus.UNPROCESSABLE_ENTITY, "invalid"),
    NotFound: (HTTPStatus.NOT_FOUND, "not_found"),
    NotAllowed: (HTTPStatus.FORBIDDEN, "not_allowed"),
    Refused: (HTTPStatus.CONFLICT, "refused"),
    Conflict: (HTTPStatus.CONFLICT, "conflict"),
    Unreachable: (HTTPStatus.SERVICE_UNAVAILABLE, "unreachable"),
    Bug: (HTTPStatus.INTERNAL_SERVER_ERROR, "bug"),
}
_KIND_OF_STATUS = {400: "invalid", 401: "not_allowed", 404: "not_found", 405: "invalid"}

# What every route may answer, for the schema.
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "content": {"application/problem+json": {}}}
    for status in (400, 401, 404, 409, 413, 422, 503)
}


def install(app: FastAPI) -> None:
    """From now on every error of this application is a problem document."""
    app.add_exception_handler(FurloughError, _ours)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(Exception, _bug)


def _ours(_request: Request, error: Exception) -> Response:
    if not isinstance(error, FurloughError):
        raise error
    status, kind = _status_of(error)
    findings = error.facts.get("findings")
    operation = error.facts.get("operation")
    problem = Problem(
        type=f"urn:furlough:problem:{error.code}",
        title=kind.replace("_", " "),
        status=status,
        detail=error.message,
        kind=kind,
        code=error.code,
        remedy=error.remedy,
        operation=str(operation) if operation else None,
        findings=[FindingView.model_validate(one, from_attributes=True) for one in findings]
        if isinstance(findings, Sequence)
        else None,
    )
    return _answer(problem)


def _status_of(error: FurloughError) -> tuple[HTTPStatus, str]:
    if error.code.startswith("caller."):
        return HTTPStatus.UNAUTHORIZED, "not_allowed"
    for kind in type(error).__mro__:
        if kind in _STATUS:
            return _STATUS[kind]
    return HTTPStatus.INTERNAL_SERVER_ERROR, "bug"


def _malformed(_request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    not_json = any(one["type"] == "json_invalid" for one in error.errors())
    status = HTTPStatus.BAD_REQUEST if not_json else HTTPStatus.UNPROCESSABLE_ENTITY
    errors = [
        {"path": "/".join(str(part) for part in one["loc"]), "message": one["msg"]}
        for one in error.errors()
    ]
    first = errors[0] if errors else {"path": "", "message": "malformed"}
    return _answer(
        Problem(
            type="urn:furlough:problem:request.malformed",
            title="invalid",
            status=status,
            detail=f"{first['path']}: {first['message']}.",
            kind="invalid",
            code="request.malformed",
            remedy="Correct the request; `errors` names every place.",
            errors=errors,
        )
    )


def _framework(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    status = HTTPStatus(error.status_code)
    return _answer(
        Problem(
            type=f"urn:furlough:problem:http.{status.value}",
            title=status.phrase,
            status=status,
            detail=f"{status.phrase}.",
            kind=_KIND_OF_STATUS.get(status.value, "invalid"),
            code=f"http.{status.value}",
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
            remedy="Please report it with the log.",
        )
    )


def _answer(problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    extra = dict(headers or {})
    if problem.status == HTTPStatus.UNAUTHORIZED:
        extra["WWW-Authenticate"] = "Bearer"
    if problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        extra["Retry-After"] = "5"
    return JSONResponse(
        problem.model_dump(mode="json", exclude_none=True),
        status_code=problem.status,
        media_type="application/problem+json",
        headers=extra,
    )
