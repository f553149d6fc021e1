"""Applying remedies: what would change is told first, and nothing is done without a yes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from furlough.cli import following, output

if TYPE_CHECKING:
    from furlough.client import Client
    from furlough.wire.remedies import AppliedView

Ask = Callable[[bool], "AppliedView"]


def apply(
    client: Client, hosts: list[str], code: str, options: Mapping[str, Any], *, is_sure: bool
) -> int:
    """Apply the remedy against findings of one code on these hosts; the exit code so far."""

    def asks(host: str) -> Ask:
        return lambda dry_run: client.apply_remedy(host, code, options, dry_run=dry_run)

    return _carry_out(client, {host: asks(host) for host in hosts}, code, is_sure=is_sure)


def undo(client: Client, hosts: list[str], *, is_sure: bool) -> int:
    """Put back what remedies have taken out on these hosts; the exit code so far."""

    def asks(host: str) -> Ask:
        return lambda dry_run: client.undo_remedies(host, dry_run=dry_run)

    return _carry_out(client, {host: asks(host) for host in hosts}, "", is_sure=is_sure)


def _carry_out(client: Client, asks: Mapping[str, Ask], code: str, *, is_sure: bool) -> int:
    """Tell what would change on every host, ask once, do it host by host."""
    wanted = {host: ask(True).changes for host, ask in asks.items()}
    for host, found in wanted.items():
        if not found:
            what = f"no finding {code} that could be mended" if code else "nothing to be put back"
            output.warn(f"{host}: {what}.")
        for one in found:
            output.warn(f"{host}: {one.what}", f"  {one.undo}")
    changing = [host for host, found in wanted.items() if found]
    if not changing:
        return output.DONE
    if not is_sure:
        answer = ask_person()
        if answer is not None:
            return answer
    return max(_do(client, host, asks[host]) for host in changing)


def ask_person() -> int | None:
    """None where a person at the terminal says yes; else the exit code."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        output.warn(
            "furlough: nothing was changed: nobody is here to say yes.",
            "  -> Say it beforehand: --yes",
        )
        return output.NEEDS_PERSON
    print("Do this? [y/N] ", end="", file=sys.stderr, flush=True)  # noqa: T201
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return None
    output.warn("furlough: nothing was changed.", "  -> Say yes to change it.")
    return output.CANCELLED


def _do(client: Client, host: str, ask: Ask) -> int:
    """Do it on one host, follow it to its end, and say how it ended."""
    applied = ask(False)
    if applied.trouble:
        output.warn(f"{host}: its guard is not proven: {applied.trouble}.")
        return output.FAILED
    if applied.operation is None:
        output.warn(f"{host}: done.")
        return output.DONE
    following.follow(client, applied.operation.id, is_quiet=True)
    operation = client.operation(applied.operation.id)
    output.warn(f"{host}: {operation.id} {operation.state.value}. {operation.message}".rstrip())
    for line in following.failures(operation):
        output.warn(line)
    return following.exit_code_of(operation)
