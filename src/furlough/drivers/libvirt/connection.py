"""Connections to one host's daemon: one for control, others for calls that block for long.

One connection serves five requests at a time and a migrate call holds one until it ends, so
queries and aborts have a connection of their own. A call that does not answer within its deadline
is in doubt; its connection is dropped, and the next call opens a new one.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import TypeVar
from urllib.parse import urlsplit

import libvirt

from furlough.drivers.libvirt import errors
from furlough.drivers.libvirt.workers import Workers
from furlough.errors import Unreachable

T = TypeVar("T")

_KEEPALIVE_S, _KEEPALIVE_COUNT = 5, 3
CONTROL_S = 15.0
# How long a call waits for another one that is just connecting.
_OPENING_S = 5.0
# How long a daemon's port may take to let us in. libvirt itself would wait for a host that is
# gone as long as the kernel tries, two minutes, and not see meanwhile that it is back.
_REACHING_S = 5.0
_PORTS = {"tcp": 16509, "tls": 16514}
_CONTROL_THREADS = 4
_CALLS_PER_CONNECTION = 4
_MOST_LONG_CALLS = 64

DomainEvent = Callable[[str, int, int], None]
JobEvent = Callable[[str, dict[str, object]], None]


@cache
def start_event_loop() -> None:
    """libvirt's own event loop, in a thread for the life of the process: keepalive and events
    need it, and it must run before the first connection is opened."""
    libvirt.virEventRegisterDefaultImpl()
    # Without a handler libvirt prints every error on standard error.
    libvirt.registerErrorHandler(lambda _context, _error: None, None)

    def run() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=run, name="libvirt-events", daemon=True).start()


class Connection:
    """One connection, opened when first used and again after it was lost."""

    def __init__(
        self, uri: str, on_open: Callable[[libvirt.virConnect], list[int]] | None = None
    ) -> None:
        self._uri = uri
        self._on_open = on_open
        self._lock = threading.Lock()
        self._handle: libvirt.virConnect | None = None
        self._callbacks: list[int] = []
        self.calls = 0
        self.is_opening = False

    def use(self, work: Callable[[libvirt.virConnect], T]) -> T:
        """Run `work` on the open connection; a lost one is dropped for the next call."""
        handle = self._open()
        try:
            return work(handle)
        except libvirt.libvirtError as error:
            if errors.is_lost(error):
                self.drop(handle)
            raise

    def _open(self) -> libvirt.virConnect:
        if not self._lock.acquire(timeout=_OPENING_S):
            raise Unreachable("hypervisor.lost", "An attempt to connect still hangs.")
        try:
            if self._handle is not None and not self._handle.isAlive():
                self._let_go()
            if self._handle is None:
                self.is_opening = True
                _reach(self._uri)
                handle = libvirt.open(self._uri)
                _keep_alive(handle)
                self._callbacks = [] if self._on_open is None else self._on_open(handle)
                self._handle = handle
            return self._handle
        finally:
            self.is_opening = False
            self._lock.release()

    def drop(self, handle: libvirt.virConnect | None = None) -> None:
        """Forget the connection. It closes when the last call on it has ended. Never waits: while
        somebody tries to connect, a thread of its own does."""
        if self._lock.acquire(blocking=False):
            try:
                self._forget(handle)
            finally:
                self._lock.release()
        else:
            threading.Thread(target=self._forget_later, args=(handle,), daemon=True).start()

    def _forget_later(self, handle: libvirt.virConnect | None) -> None:
        with self._lock:
            self._forget(handle)

    def _forget(self, handle: libvirt.virConnect | None) -> None:
        if self._handle is not None and (handle is None or self._handle is handle):
            self._let_go()

    def _let_go(self) -> None:
        """In a thread of its own: a host that does not answer keeps whoever closes waiting."""
        gone, self._handle = [self._handle], None
        threading.Thread(target=_close, args=(gone, self._callbacks), daemon=True).start()


def _reach(uri: str) -> None:
    """`Unreachable` unless the daemon's port lets us in. Only where libvirt itself would connect
    there: ssh may have a way of its own."""
    parts = urlsplit(uri)
    port = _PORTS.get(parts.scheme.partition("+")[2])
    if port is None or not parts.hostname:
        return
    where = (parts.hostname, parts.port or port)
    try:
        socket.create_connection(where, _REACHING_S).close()
    except OSError as error:
        why = error.strerror or f"no answer within {_REACHING_S:.0f} s"
        raise Unreachable(
            "hypervisor.lost", f"No connection to {where[0]} port {where[1]}: {why}."
        ) from error


def _close(gone: list[libvirt.virConnect], callbacks: list[int]) -> None:
    """Callbacks hold their connection; without them it closes when its last call has ended."""
    handle = gone.pop()
    for callback in callbacks:
        with suppress(libvirt.libvirtError):
            handle.domainEventDeregisterAny(callback)


def _keep_alive(handle: libvirt.virConnect) -> None:
    """Notice a peer that is gone; a driver that lives in our own process has no peer."""
    try:
        handle.setKeepAlive(_KEEPALIVE_S, _KEEPALIVE_COUNT)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise


class HostLink:
    """All connections and threads for one host."""

    def __init__(self, name: str, uri: str, on_domain: DomainEvent, on_job: JobEvent) -> None:
        start_event_loop()
        self._name = name
        self._uri = uri
        self._on_domain = on_domain
        self._on_job = on_job
        self._control = self._new_control()
        self._long: list[Connection] = []
        self._long_workers = Workers(f"{name}-long", _MOST_LONG_CALLS)

    def _new_control(self) -> tuple[Connection, Workers]:
        return (
            Connection(self._uri, self._listen),
            Workers(f"{self._name}-control", _CONTROL_THREADS),
        )

    async def control(
        self, work: Callable[[libvirt.virConnect], T], *, what: str, within_s: float = CONTROL_S
    ) -> T:
        """A short call. `what` says what is tried, for the error. Raises `Refused` and
        `Unreachable`; also `Unreachable` when it did not end in time."""
        connection, workers = self._control
        try:
            async with asyncio.timeout(within_s):
                return await workers.call(lambda: connection.use(work))
        except TimeoutError as error:
            # The thread may hang for ever on it: leave both behind. But not while it is still
            # connecting: another attempt would hang as well, and so on.
            if self._control == (connection, workers) and not connection.is_opening:
                connection.drop()
                workers.close()
                self._control = self._new_control()
            raise Unreachable(
                "hypervisor.lost", f"{what}: no answer within {within_s:.0f} s."
            ) from error
        except libvirt.libvirtError as error:
            raise errors.ours(error, what=what) from error

    async def long_call(self, work: Callable[[libvirt.virConnect], T], *, what: str) -> T:
        """A call that may take hours. The keepalive ends it when the host is gone."""
        connection = self._free_long_connection()
        connection.calls += 1
        try:
            return await self._long_workers.call(lambda: connection.use(work))
        except libvirt.libvirtError as error:
            raise errors.ours(error, what=what) from error
        finally:
            connection.calls -= 1

    def _free_long_connection(self) -> Connection:
        for connection in self._long:
            if connection.calls < _CALLS_PER_CONNECTION:
                return connection
        self._long.append(Connection(self._uri))
        return self._long[-1]

    def close(self) -> None:
        """Let go. Calls that hang are left to their threads."""
        connection, workers = self._control
        connection.drop()
        workers.close()
        self._long_workers.close()
        for one in self._long:
            one.drop()

    def _listen(self, handle: libvirt.virConnect) -> list[int]:
        """Events are hints: they say when to look, and when CPUs stopped. Returns the numbers of
        the callbacks."""

        def lifecycle(
            _connection: object, domain: libvirt.virDomain, event: int, detail: int, _opaque: object
        ) -> None:
            self._on_domain(domain.UUIDString(), event, detail)

        def completed(
            _connection: object,
            domain: libvirt.virDomain,
            stats: dict[str, object],
            _opaque: object,
        ) -> None:
            self._on_job(domain.UUIDString(), stats)

        events = {
            libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE: lifecycle,
            libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED: completed,
        }
        return [
            handle.domainEventRegisterAny(None, event, callback, None)
            for event, callback in events.items()
        ]
