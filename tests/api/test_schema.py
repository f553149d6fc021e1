"""The published schema is what the app is, and the app keeps to it whatever it is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis import GenerationMode
from schemathesis.checks import CheckFunction
from schemathesis.checks import not_a_server_error as no_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from furlough.core.ids import HostName
from furlough.openapi import schema
from furlough.sim.clock import VirtualClock
from furlough.sim.fleet import make_fleet
from tests.api.running import TOKEN, Running, running

CHECKED_IN = Path(__file__).parents[2] / "openapi" / "v1.json"
SCHEMA: dict[str, Any] = schema()
OPERATIONS = [(method, path) for path, known in SCHEMA["paths"].items() for method in known]
CHECKS: list[CheckFunction] = [
    no_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# An endless answer, which has stories of its own.
ENDLESS = ("get", "/api/v1/events")
# It takes nothing, not even a token: there is no wrong way to ask it.
SIMPLEST = ("get", "/api/v1/health")
# Whoever asks these has not shown yet who they are.
OPEN = [SIMPLEST, ("post", "/api/v1/session"), ("post", "/api/v1/first-admin")]
EXAMPLES = 5
# One of each kind of thing that is in the simulated cluster.
_VM = next(iter(make_fleet(VirtualClock())[0].hosts[HostName("h1")].copies))
KNOWN = {"host": "h1", "name": "sim", "operation": "op-1", "uuid": _VM}


@pytest.fixture(scope="module")
def victim() -> Iterator[Running]:
    """A daemon of its own: much is changed here."""
    with running() as daemon:
        yield daemon


def test_the_schema_that_is_checked_in_is_the_one_the_app_has() -> None:
    known = json.loads(CHECKED_IN.read_text(encoding="utf-8"))
    assert known == schema(), "after a change of routes or shapes: make openapi"


def test_every_route_says_how_its_problems_look() -> None:
    for method, path in OPERATIONS:
        responses = SCHEMA["paths"][path][method]["responses"]
        for status in ("400", "401", "403", "404", "409", "412", "413", "422", "429", "503"):
            assert list(responses[status]["content"]) == ["application/problem+json"], path


def test_every_route_is_described_in_words() -> None:
    for method, path in OPERATIONS:
        assert SCHEMA["paths"][path][method].get("description", "").endswith("."), path


@pytest.mark.parametrize(("method", "path"), [one for one in OPERATIONS if one not in OPEN])
def test_whatever_is_asked_without_a_token_is_answered_with_one_refusal(
    victim: Running, method: str, path: str
) -> None:
    described = schemathesis.openapi.from_dict(SCHEMA)
    described.config.update(base_url=victim.url)
    answers = set()

    @hypothesis.settings(
        max_examples=2,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=described[path][method.upper()].as_strategy())
    def ask(case: schemathesis.Case[Any]) -> None:
        answer = case.call_and_validate(checks=CHECKS, headers={"Authorization": "Bearer wrong"})
        answers.add((answer.status_code, answer.content))

    ask()
    ((status, content),) = answers
    assert status == 401
    assert b"caller.unknown" in content


@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [
        (*one, mode)
        for one in OPERATIONS
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
        if one != ENDLESS and (one, mode) != (SIMPLEST, GenerationMode.NEGATIVE)
    ],
)
def test_no_request_that_the_schema_can_think_of_breaks_the_app(
    victim: Running, method: str, path: str, mode: GenerationMode
) -> None:
    """Every other request is about things that are there."""
    described = schemathesis.openapi.from_dict(SCHEMA)
    described.config.update(base_url=victim.url)
    statuses: list[int] = []

    @hypothesis.settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=described[path][method.upper()].as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case[Any]) -> None:
        if len(statuses) % 2 and method != "delete":
            parts = case.path_parameters
            parts.update({name: KNOWN[name] for name in parts})
        answer = case.call_and_validate(checks=CHECKS, headers={"Authorization": f"Bearer {TOKEN}"})
        statuses.append(answer.status_code)

    ask()
    assert statuses
