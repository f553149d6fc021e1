"""A whole daemon for tests: the real app on a real socket, over a simulated cluster whose time is
as fast as nobody is waiting for an answer.

The daemon lives in a thread with an event loop of its own. While its loop has something to do, its
time stands still; while it waits, a millisecond counts as many. So a busy machine cannot make a
lease or a deadline expire, and an evacuation takes a fraction of a second.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from random import Random
from typing import Any, TypeVar

import httpx2
import structlog
import uvicorn

from furlough.api.app import create_app
from furlough.client import Client
from furlough.context import Context
from furlough.core.ids import HostName
from furlough.daemon import Controller, compose, server_config
from furlough.sim.clock import VirtualClock
from furlough.sim.cluster import SimCluster
from furlough.sim.faults import Faults
from furlough.sim.fleet import make_fleet
from furlough.sim.hypervisor import SimHypervisor
from furlough.store.sql import SqlStore
from furlough.ui.site import pages_over

T = TypeVar("T")

TOKEN = "furlough_a-token-for-tests"
SPEED = 100.0
"""Seconds of the daemon that pass while its loop waits for one second."""

_QUANTUM_S = 0.002
_START_WITHIN_S = 30.0
# Nothing that is sent over a link like this arrives during a test.
_CRAWL = 1e-7


class _PacedSelector(selectors.DefaultSelector):
    """Waits for sockets for a short while, then moves its loop's time forward by a longer one."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        waited_s = min(timeout / SPEED, _QUANTUM_S)
        ready = super().select(waited_s)
        if not ready:
            self.now_s += waited_s * SPEED
        return ready


class _PacedLoop(asyncio.SelectorEventLoop):
    """An event loop on the time of its selector."""

    def __init__(self) -> None:
        self._paced = _PacedSelector()
        super().__init__(self._paced)

    def time(self) -> float:
        return self._paced.now_s

    def skip(self, seconds: float) -> None:
        self._paced.now_s += seconds


class Running:
    """A daemon with four hosts (h1 to h4) and 24 VMs; use `with running() as daemon`."""

    def __init__(self) -> None:
        self.cluster: SimCluster
        self.controller: Controller
        self.faults = Faults(random=Random(0))
        self.context = Context(url="", token=TOKEN)
        self._loop = _PacedLoop()
        self._server: uvicorn.Server
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._live, name="daemon", daemon=True)

    # --- for stories -------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where the API is, without its prefix."""
        return self.context.url

    def client(self) -> Client:
        """Our own client of it."""
        return Client(self.context)

    def http(self, token: str | None = TOKEN) -> httpx2.Client:
        """Any HTTP client of it, below /api/v1; with no token, it says nothing of one."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx2.Client(
            base_url=f"{self.url}/api/v1",
            headers=headers,
            timeout=30,
            trust_env=False,
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),  # no TLS here, so nobody to trust
        )

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine where the daemon lives, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def do(self, act: Callable[[], T]) -> T:
        """Call a function where the daemon lives."""

        async def called() -> T:
            return act()

        return self.run(called())

    def skip(self, seconds: float) -> None:
        """So long later: nobody has waited for it, and whatever was to happen then does now."""
        self.do(lambda: self._loop.skip(seconds))

    @property
    def now_s(self) -> float:
        """The daemon's time, from an arbitrary start."""
        return self._loop.time()

    def hold(self, host: str) -> None:
        """From now on no migration from or to this host gets anywhere."""
        self.do(lambda: self.cluster.slow_down(HostName(host), factor=_CRAWL))

    def let_go(self, host: str) -> None:
        """Migrations from and to this host are as fast as they were at first."""
        self.do(lambda: self.cluster.slow_down(HostName(host), factor=1.0))

    # --- its life ------------------------------------------------------------------------------

    def start(self) -> None:
        """Returns once it listens and has seen its hosts."""
        self._thread.start()
        if not self._ready.wait(_START_WITHIN_S):
            raise RuntimeError("the daemon did not start")
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Ends it as a signal would."""
        self._loop.call_soon_threadsafe(setattr, self._server, "should_exit", True)
        self._thread.join(_START_WITHIN_S)
        if self._thread.is_alive():
            raise RuntimeError("the daemon does not stop")
        if self._failure is not None:
            raise self._failure

    def _live(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except BaseException as failure:  # noqa: BLE001  # told by start() or stop()
            self._failure = failure
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
        clock = VirtualClock()
        self.cluster, enrolment = make_fleet(clock)
        store = SqlStore("sqlite://", clock)
        await store.open()
        await store.enrol(enrolment)
        self.controller = await compose(SimHypervisor(self.cluster, self.faults), store, clock)
        await self.controller.work.observer.refresh()
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        self.context = Context(url=f"http://127.0.0.1:{port}", token=TOKEN)
        self._server = uvicorn.Server(
            server_config(
                create_app(
                    self.controller.service, TOKEN, front=pages_over(self.controller.service)
                ),
                lifespan="off",
                timeout_keep_alive=1_000_000,
            )
        )
        driving = asyncio.create_task(self.controller.run())
        # As the daemon does: an API without its engine would only pretend.
        driving.add_done_callback(lambda _: setattr(self._server, "should_exit", True))
        self._ready.set()
        try:
            await self._server.serve(sockets=[listener])
        finally:
            driving.cancel()
            with suppress(asyncio.CancelledError):
                await driving
            await self.cluster.stop_background()
            await store.close()


@contextmanager
def running() -> Iterator[Running]:
    """A daemon from its start to its end."""
    daemon = Running()
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()


def end(client: Client, which: str) -> str:
    """How an operation ends."""
    return str([event.content for event in client.events(which)][-1]["state"])


def bring_home(client: Client, host: str) -> None:
    """The host is in service, and nobody is on record to come home to it."""
    if client.host(host).mode == "maintenance" or client.record(host).vms:
        end(client, client.ask("exit", [host], {}).id)
    if client.record(host).vms:
        end(client, client.close_record(host, {}).id)
