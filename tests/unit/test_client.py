"""The client: whatever answers, or does not, becomes one of our errors."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from furlough.client import Client
from furlough.context import Context
from furlough.errors import Bug, FurloughError, Invalid, NotAllowed, NotFound, Unreachable

EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def answer(status: str, body: bytes, content_type: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}"
    return f"{head}\r\nConnection: close\r\n\r\n".encode() + body


@contextmanager
def answering(*answers: bytes) -> Iterator[tuple[Client, list[bytes]]]:
    """A client of something that gives these answers, one per connection; and what it was asked.
    An empty answer: the connection breaks instead."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)

        def serve() -> None:
            for one in answers:
                connection, _ = listener.accept()
                with connection:
                    asked.append(connection.recv(65_536))
                    connection.sendall(one)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with Client(Context(url=url, token="furlough_t")) as client:
            yield client, asked
        thread.join(30)
        assert not thread.is_alive()


def error_of(*answers: bytes) -> FurloughError:
    """What listing hosts raises where these are the answers."""
    with answering(*answers) as (client, _), pytest.raises(FurloughError) as caught:
        client.hosts()
    assert caught.value.message
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize(
    ("kind", "raised"),
    [("not_found", NotFound), ("not_allowed", NotAllowed), ("invalid", Invalid), ("bug", Bug)],
)
def test_a_problem_comes_back_as_the_error_it_was(kind: str, raised: type[FurloughError]) -> None:
    body = b'{"kind": "%s", "code": "a.b", "detail": "So.", "remedy": "Do.", "operation": "op-7"}'
    error = error_of(answer("404 Not Found", body % kind.encode()))
    assert type(error) is raised
    assert (error.code, error.message, error.remedy) == ("a.b", "So.", "Do.")
    assert error.facts == {"operation": "op-7"}


@pytest.mark.parametrize(
    "strange",
    [
        answer("200 OK", b"<html>Welcome</html>", "text/html"),
        answer("404 Not Found", b"<html>nginx</html>", "text/html"),
        answer("502 Bad Gateway", b"", "text/html"),
        answer("500 Internal Server Error", b"[]"),
        answer("400 Bad Request", b'{"kind": "surprise", "code": "x", "detail": "y"}'),
        answer("307 Temporary Redirect", b""),
    ],
)
def test_what_is_no_daemon_of_ours_is_told_as_such(strange: bytes) -> None:
    error = error_of(strange)
    assert isinstance(error, Unreachable)
    assert error.code == "daemon.foreign"
    assert "FURLOUGH_URL" in error.remedy


@pytest.mark.parametrize("body", [b"null", b"{}", b"[1]", b'[{"name": "h1"}]', b'"h1"'])
def test_an_answer_of_another_shape_is_told_as_such(body: bytes) -> None:
    error = error_of(answer("200 OK", body))
    assert (type(error), error.code) == (Bug, "daemon.answer")
    assert "furlough version" in error.remedy


def test_an_empty_answer_where_there_should_be_one_is_told_as_well() -> None:
    assert error_of(EMPTY).code == "daemon.answer"


def test_nobody_there_means_nothing_was_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with (
        Client(Context(url=f"http://127.0.0.1:{port}", token="t")) as client,
        pytest.raises(Unreachable) as caught,
    ):
        client.ask("enter", ["h1"], {})
    assert caught.value.code == "daemon.unreachable"
    assert "Nothing was asked" in caught.value.message


def test_a_broken_connection_says_that_nobody_knows() -> None:
    error = error_of(b"")
    assert error.code == "daemon.lost"
    assert "not known" in error.message
    assert "furlough operation list" in error.remedy


OPERATION = b"""{"id": "op-1", "kind": "enter", "hosts": ["h1"], "state": "queued", "code": null,
 "message": "", "waiting_for": null, "requested_by": "me", "plan_hash": "", "progress_percent": 0,
 "eta_s": null, "bytes_done": 0, "bytes_total": 0, "created_at": "2026-11-22T10:00:00Z",
 "started_at": null, "finished_at": null, "deadline": null, "steps": [], "vms": []}"""


def keys(asked: list[bytes]) -> set[bytes]:
    """The idempotency keys of requests."""
    return {
        line.partition(b": ")[2]
        for request in asked
        for line in request.split(b"\r\n")
        if line.lower().startswith(b"idempotency-key")
    }


def test_a_request_whose_answer_was_lost_is_repeated_under_the_same_key() -> None:
    with answering(b"", answer("202 Accepted", OPERATION)) as (client, asked):
        assert client.ask("enter", ["h1"], {}).id == "op-1"
    assert len(asked) == 2
    assert len(keys(asked)) == 1


def test_two_requests_have_two_keys() -> None:
    accepted = answer("202 Accepted", OPERATION)
    with answering(accepted, accepted) as (client, asked):
        client.ask("enter", ["h1"], {})
        client.ask("enter", ["h1"], {})
    assert len(keys(asked)) == 2


def test_it_is_repeated_once_and_not_for_ever() -> None:
    with answering(b"", b"") as (client, asked), pytest.raises(Unreachable) as caught:
        client.ask("enter", ["h1"], {})
    assert (caught.value.code, len(asked)) == ("daemon.lost", 2)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a?b", "a#b", "%2e", "h1\n", "é", "\udcff"])
def test_names_that_could_change_the_address_are_not_sent(name: str) -> None:
    with Client(Context(url="http://127.0.0.1:1", token="t")) as client:
        for ask in (
            client.host,
            client.cluster,
            client.operation,
            client.journal,
            client.resume,
            lambda name: client.remove("hosts", name),
            lambda name: client.change("hosts", name, {}),
            client.record,
            lambda name: client.close_record(name, {}),
            lambda name: client.cancel(name, "stop"),
            lambda name: list(client.events(name)),
            lambda name: client.act_on_vm("start", name, {}),
        ):
            with pytest.raises(Invalid):
                ask(name)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\udcff", {1, 2}, b"x"])
def test_what_json_cannot_say_is_not_sent(value: object) -> None:
    with (
        Client(Context(url="http://127.0.0.1:1", token="t")) as client,
        pytest.raises(Invalid) as caught,
    ):
        client.add("clusters", {"name": value})
    assert caught.value.code == "request.unsendable"


def test_events_are_read_and_what_is_none_is_passed_over() -> None:
    stream = (
        b": still here\n\n"
        b'id: 7\nevent: entry\ndata: {"a":\ndata: 1}\n\n'
        b"id: x\nevent: entry\ndata: {}\n\n"
        b"event: entry\ndata: {broken\n\n"
        b"retry: 5\n\n"
        b'event: operation\ndata: {"b": 2}\n\n'
    )
    with answering(answer("200 OK", stream, "text/event-stream")) as (client, asked):
        events = [(one.name, one.content, one.id) for one in client.events("op-1", after=6)]
    assert events == [("entry", {"a": 1}, 7), ("operation", {"b": 2}, None)]
    assert b"last-event-id: 6" in asked[0].lower()


def test_a_stream_that_breaks_is_an_error_and_no_end() -> None:
    cut = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with answering(cut) as (client, _), pytest.raises(Unreachable) as caught:
        list(client.events("op-1"))
    assert caught.value.code == "daemon.lost"


def test_the_token_is_sent_and_no_proxy_of_the_environment_sees_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    with answering(answer("200 OK", b"[]")) as (client, asked):
        assert client.hosts() == []
    assert b"authorization: bearer furlough_t" in asked[0].lower()
