"""The way from a command to the daemon and back."""

from __future__ import annotations

from collections.abc import Callable

from furlough.cli import following, output
from furlough.client import Client
from furlough.context import load_context
from furlough.wire.operations import OperationView


def connect() -> Client:
    """A client of the daemon that the environment or the context file names."""
    return Client(load_context())


def see_through(client: Client, ask: Callable[[], OperationView], *, wait: bool, json: bool) -> int:
    """Ask for an operation, follow it where that was asked for, print it, and return the exit
    code. Whoever stops watching is told that it goes on."""
    which: str | None = None
    try:
        operation = ask()
        which = operation.id
        if wait:
            operation = _follow(client, operation, json=json)
    except KeyboardInterrupt:
        _say_what_goes_on(which, is_watching=wait)
        return output.INTERRUPTED
    if json:
        output.print_json(operation)
    elif wait:
        following.print_end(operation)
    else:
        is_new = operation.state in ("queued", "running")
        how = "accepted" if is_new else f"is {operation.state.value}"
        output.say(
            f"{operation.id} {how}: {_what(operation)}. "
            f"Follow it: furlough operation watch {operation.id}"
        )
    return following.exit_code_of(operation) if wait else output.DONE


def _follow(client: Client, operation: OperationView, *, json: bool) -> OperationView:
    if not json:
        output.say(f"{operation.id}: {_what(operation)}")
    following.follow(client, operation.id, is_quiet=json)
    # Once more: where every VM is now that it is over.
    return client.operation(operation.id)


def _say_what_goes_on(which: str | None, *, is_watching: bool) -> None:
    if which is None:
        output.warn(
            "furlough: interrupted before the daemon answered; it may have accepted the request.",
            "  -> Look: furlough operation list --active",
        )
    elif is_watching:
        output.warn(
            f"furlough: stopped watching {which}; it goes on.",
            f"  -> Watch it again: furlough operation watch {which}",
            f"  -> Stop it: furlough operation cancel {which}",
        )


def _what(operation: OperationView) -> str:
    return f"{operation.kind.replace('_', ' ')} {', '.join(operation.hosts)}"
