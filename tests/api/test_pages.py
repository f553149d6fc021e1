"""Pages of lists stay in step while things come and go (F127); two editors do not undo each other
(F125)."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from furlough.client import Client
from furlough.core.enrolment import Enrolment
from furlough.errors import Stale
from tests.api.running import Running
from tests.api.test_problems import check_problem

pytestmark = pytest.mark.usefixtures("everything_as_before")


def pages(http: httpx2.Client, path: str, limit: int) -> list[list[dict[str, Any]]]:
    """Every page of a list, followed by the header Link."""
    found: list[list[dict[str, Any]]] = []
    after: str | None = f"{path}{'&' if '?' in path else '?'}limit={limit}"
    while after is not None:
        answer = http.get(after)
        assert answer.status_code == 200, answer.text
        found.append(answer.json())
        link = answer.headers.get("Link")
        after = None
        if link is not None:
            where, rel = link.split("; ")
            assert rel == 'rel="next"'
            after = where.strip("<>").removeprefix("/api/v1")
    return found


@pytest.mark.parametrize(
    ("path", "key"), [("/hosts", "name"), ("/vms", "uuid"), ("/vms?host=h2", "uuid")]
)
@pytest.mark.parametrize("limit", [1, 5, 24, 1000])
def test_the_pages_together_are_the_list(
    http: httpx2.Client, path: str, key: str, limit: int
) -> None:
    whole = http.get(path).json()
    found = pages(http, path, limit)
    assert all(len(page) == limit for page in found[:-1])
    assert 0 < len(found[-1]) <= limit
    names = [one[key] for page in found for one in page]
    assert names == sorted(one[key] for one in whole)


def test_the_pages_of_operations_are_newest_first_and_leave_none_out(
    http: httpx2.Client, client: Client
) -> None:
    for kind in ("cordon", "uncordon") * 3:
        list(client.events(client.ask(kind, ["h2"], {}).id))
    whole = http.get("/operations?limit=1000&host=h2").json()
    found = pages(http, "/operations?host=h2", 2)
    assert [one["id"] for page in found for one in page] == [one["id"] for one in whole]


def test_a_host_that_goes_between_two_pages_is_the_only_one_that_is_missing(
    http: httpx2.Client,
) -> None:
    body = {"name": "h2a", "cluster": "sim", "address": "192.0.2.77"}
    assert http.post("/hosts", json=body).status_code == 201
    first = http.get("/hosts?limit=3")
    assert [one["name"] for one in first.json()] == ["h1", "h2", "h2a"]
    assert http.delete("/hosts/h2a").status_code == 204  # the very one the cursor names
    second = http.get(first.headers["Link"].split(">")[0].strip("<").removeprefix("/api/v1"))
    assert [one["name"] for one in second.json()] == ["h3", "h4"]


@pytest.mark.parametrize("path", ["/hosts", "/vms", "/operations"])
@pytest.mark.parametrize("cursor", ["!", "aGE", "/w==", "%FF", "\u00e9"])
def test_what_is_no_cursor_is_refused(http: httpx2.Client, path: str, cursor: str) -> None:
    check_problem(http.get(path, params={"cursor": cursor}), 422, "cursor.malformed")


def test_a_page_has_a_largest_size(http: httpx2.Client) -> None:
    for path in ("/hosts", "/vms", "/operations", "/audit"):
        check_problem(http.get(path, params={"limit": 1001}), 422, "request.malformed")


# --- two editors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "change", "other"),
    [
        ("/hosts/h4", {"link_mbit_s": 9000}, {"link_mbit_s": 10_000}),
        ("/clusters/sim", {"vcpu_overcommit": 5.0}, {"vcpu_overcommit": 4.0}),
    ],
)
def test_who_decided_on_an_old_version_is_told_so(
    http: httpx2.Client, path: str, change: dict[str, Any], other: dict[str, Any]
) -> None:
    seen = http.get(path).headers["ETag"]
    assert http.get(path).headers["ETag"] == seen
    matching = {"If-Match": seen}
    assert http.patch(path, json=change, headers=matching).status_code == 200
    problem = check_problem(http.patch(path, json=other, headers=matching), 412, "etag.mismatch")
    assert problem["kind"] == "conflict"
    check_problem(http.delete(path, headers=matching), 412, "etag.mismatch")
    now = http.get(path).headers["ETag"]
    assert now != seen
    assert http.patch(path, json=other, headers={"If-Match": f'"x", {now}'}).status_code == 200
    assert http.patch(path, json={}, headers={"If-Match": "*"}).status_code == 200


def test_what_is_only_observed_does_not_change_the_version(
    http: httpx2.Client, client: Client
) -> None:
    seen = http.get("/hosts/h2").headers["ETag"]
    list(client.events(client.ask("cordon", ["h2"], {}).id))
    assert http.get("/hosts/h2").json()["mode"] == "cordoned"
    assert http.get("/hosts/h2").headers["ETag"] == seen


def test_of_many_editors_at_once_none_undoes_what_another_was_told_is_done(
    daemon: Running,
) -> None:
    """Each changes a setting of its own, without any ETag."""
    with daemon.http() as http:
        limits = http.get("/clusters/sim").json()["policy"]["limits"]

    def edit(changes: dict[str, Any]) -> int:
        with daemon.http() as mine:
            return mine.patch("/clusters/sim", json=changes).status_code

    wanted = [
        {"max_hosts_away": 2},
        {"memory_ceiling": 0.8},
        {"vcpu_overcommit": 3.0},
        {"reserve": "n+1"},
    ]
    with ThreadPoolExecutor(len(wanted)) as threads:
        statuses = list(threads.map(edit, wanted))
    with daemon.http() as http:
        policy = http.get("/clusters/sim").json()["policy"]
        back = {
            "max_hosts_away": 1,
            "memory_ceiling": 0.9,
            "vcpu_overcommit": 4.0,
            "reserve": "none",
        }
        assert http.patch("/clusters/sim", json=back).status_code == 200
    assert set(statuses) <= {200, 412}
    assert 200 in statuses
    for status, change in zip(statuses, wanted, strict=True):
        if status == 200:
            assert policy | change == policy
    assert policy["limits"] == limits


def test_the_store_itself_refuses_a_change_of_what_has_changed(daemon: Running) -> None:
    """Where two daemons share a database, nothing but the transaction can tell."""
    service = daemon.controller.service

    async def told() -> str:
        before = await service.enrolment()
        await asyncio.sleep(0)
        host = before.host(before.hosts[0].name)
        changed = replace(host, link_mbit_s=host.link_mbit_s + 1)
        await service.enrolling.apply(Enrolment(hosts=[changed]), based_on=before)
        try:
            await service.enrolling.apply(Enrolment(hosts=[host]), based_on=before)
        except Stale as error:
            await service.enrolling.apply(Enrolment(hosts=[host]))
            return error.code
        return "accepted"

    assert daemon.run(told()) == "etag.mismatch"
