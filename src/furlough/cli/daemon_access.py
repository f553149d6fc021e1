"""The way from a command to the daemon and back."""

from __future__ import annotations

from furlough.cli import following, output
from furlough.client import Client
from furlough.context import load_context
from furlough.wire.operations import OperationView


def connect() -> Client:
    """A client of the daemon that the environment or the context file names."""
    return Client(load_context())


def see_through(client: Client, operation: OperationView, *, wait: bool, json: bool) -> int:
    """Follow an operation where that was asked for, print it, and return the exit code."""
    if wait:
        if not json:
            output.say(f"{operation.id}: {operation.kind} {', '.join(operation.hosts)}")
        operation = following.follow(client, operation.id, is_quiet=json)
        # Once more: where every VM is now that it is over.
        operation = client.operation(operation.id)
    if json:
        output.print_json(operation)
    elif wait:
        following.print_end(operation)
    else:
        output.say(
            f"{operation.id} accepted: {operation.kind} {', '.join(operation.hosts)}. "
            f"Follow it: furlough operation watch {operation.id}"
        )
    return following.exit_code_of(operation) if wait else output.DONE
