"""The composition root: the one place that knows every adapter and puts the pieces together."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from pydantic import ValidationError
from starlette.types import ASGIApp

from furlough.api.app import create_app
from furlough.clock import RealClock
from furlough.config import Settings, is_loopback, split_listen
from furlough.context import Context, forget_context, save_context
from furlough.core.access import EVERYTHING
from furlough.core.enrolment import Enrolment
from furlough.core.policy import EnterDefaults
from furlough.engine.observer import Observer
from furlough.engine.settling import Settler
from furlough.engine.supervisor import Supervisor
from furlough.engine.traffic import Traffic
from furlough.engine.work import Pace, Work
from furlough.errors import Conflict, Invalid
from furlough.notify import Bus
from furlough.ports import Clock, Hypervisor, SiteProbes, Store
from furlough.service import Service
from furlough.sim.fleet import make_fleet
from furlough.sim.hypervisor import SimHypervisor
from furlough.site_probes import Commands
from furlough.store.database import sqlite_url
from furlough.store.sql import SqlStore
from furlough.tls import Identity, given_identity, own_identity, server_context
from furlough.ui.site import pages_over
from furlough.wire.enrolment import EnrolmentBody

_STOP_WITHIN_S = 30
_FIRST_LOOK_S = 5


@dataclass(frozen=True, kw_only=True)
class Controller:
    """One running Furlough without its listeners: what API, facades and pages stand on."""

    work: Work
    service: Service
    supervisor: Supervisor

    async def run(self) -> None:
        """Observe and drive operations until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.work.observer.run())
            tasks.create_task(self.supervisor.run())


async def compose(
    hypervisor: Hypervisor,
    store: Store,
    clock: Clock,
    *,
    pace: Pace | None = None,
    settle_window_s: float = 35.0,
    observe_every_s: float = 5.0,
    defaults: EnterDefaults | None = None,
    is_alone: bool = True,
    site: SiteProbes | None = None,
) -> Controller:
    """A controller over these adapters; the store is open. `is_alone`: no other process can use
    it, so whatever was claimed before was claimed by the dead."""
    observer = Observer(hypervisor, store, clock, observe_every_s, site)
    work = Work(
        hypervisor=hypervisor,
        store=store,
        clock=clock,
        notifier=Bus(),
        observer=observer,
        settler=Settler(hypervisor, clock, settle_window_s),
        controller=await store.controller_id(),
        traffic=Traffic(hypervisor, clock),
        pace=pace or Pace(),
    )
    # A name of this very start: a restarted process is not the one that died.
    supervisor = Supervisor(work, owner=f"controller:{secrets.token_hex(8)}")
    if is_alone:
        await store.void_leases()
    await hypervisor.enrol(await store.enrolment())
    service = Service(work, supervisor, defaults=defaults)
    return Controller(work=work, service=service, supervisor=supervisor)


# --- the daemon ----------------------------------------------------------------------------------


def serve(settings: Settings, *, simulate: bool, announce: Callable[[str], None]) -> None:
    """Run the daemon until it is told to stop. `announce` is given lines for a person."""
    configure_logging()
    address = split_listen(settings.server.listen)
    with data_directory(settings.server.data_dir) as directory:
        asyncio.run(_serve(settings, directory, address, simulate=simulate, announce=announce))
    # Calls to hosts may still hang in their threads; migrations go on without us.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


async def _serve(
    settings: Settings,
    directory: Path,
    address: tuple[str, int],
    *,
    simulate: bool,
    announce: Callable[[str], None],
) -> None:
    token = _token(directory)
    listener = _listen(address)
    identity = _identity(settings, directory, address[0])
    context = _context(listener, token, identity)
    async with _adapters(settings, directory, simulate=simulate) as (hypervisor, store):
        controller = await compose(
            hypervisor,
            store,
            RealClock(),
            settle_window_s=settings.engine.settle_window_s,
            observe_every_s=settings.engine.observe_every_s,
            defaults=EnterDefaults(**asdict(settings.maintenance)),
            is_alone=simulate or not settings.server.database,
            site=Commands(settings.probes.storage, settings.probes.backup),
        )
        if settings.enrolment:
            await controller.service.enrolling.apply(enrolment_of(settings.enrolment))
        app = create_app(controller.service, token, front=pages_over(controller.service))
        server = _Server(server_config(app, **_https(identity)))
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, server.stop)
        running = asyncio.create_task(controller.run())
        running.add_done_callback(lambda _: server.stop())
        await _first_look(controller)
        _save(context, announce)
        announce(f"Furlough serves {context.url}; stop it with Ctrl-C.")
        await _first_admin(controller.service, context.url, announce)
        try:
            await server.serve(sockets=[listener])
        finally:
            forget_context(context)
            await _stop(running)


def _identity(settings: Settings, directory: Path, address: str) -> Identity | None:
    """The certificate for HTTPS; None where plain HTTP is spoken, which is on loopback alone."""
    if settings.server.certificate:
        return given_identity(settings.server.certificate, settings.server.key)
    return None if is_loopback(address) else own_identity(directory, address)


def _context(listener: socket.socket, token: str, identity: Identity | None) -> Context:
    """How the commands of this machine find us: on loopback where we listen everywhere."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # not to bind to
    scheme = "http" if identity is None else "https"
    is_own = identity is not None and identity.is_own
    return Context(
        url=f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}",
        token=token,
        certificate=str(identity.certificate.resolve()) if identity and is_own else "",
    )


def _https(identity: Identity | None) -> dict[str, Any]:
    """What the server is told of a certificate."""
    if identity is None:
        return {}
    return {"ssl_context_factory": lambda *_: server_context(identity)}


def server_config(app: ASGIApp, **more: Any) -> uvicorn.Config:
    """How the application is served. Client addresses are those of connections: what a request
    says of where it comes from (X-Forwarded-For) is not believed."""
    usual: dict[str, Any] = {
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "timeout_graceful_shutdown": 5,
    }
    return uvicorn.Config(app, **{**usual, **more})


async def _first_admin(service: Service, url: str, announce: Callable[[str], None]) -> None:
    """Where nobody can sign in yet: make the administrator whom the environment gives a password,
    or show a secret that makes one."""
    secret = await service.desk.first_secret()
    if secret is None:
        return
    password = os.environ.get("FURLOUGH_ADMIN_PASSWORD")
    if password:
        await service.accounts.add("admin", password, [("admin", EVERYTHING)])
        announce("User admin was made, with the password of FURLOUGH_ADMIN_PASSWORD.")
        return
    announce("Nobody can sign in yet. Within an hour, this secret makes the first administrator:")
    announce(f"  {secret}")
    announce(f"  The page {url}/first-admin asks for it, and so does: furlough user first NAME")


def _save(context: Context, announce: Callable[[str], None]) -> None:
    """For the commands of this user; hosts are served without it as well."""
    try:
        save_context(context)
    except Invalid as error:
        announce(f"No context was written, so commands have to be told: {error}")


class _Server(uvicorn.Server):
    """Leaves signals to us: uvicorn's own way ends the process before we have tidied up."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        """Answer what is being asked, then end."""
        self.should_exit = True


async def _first_look(controller: Controller) -> None:
    """Answer the first request with facts; but a silent host does not hold up the start."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_FIRST_LOOK_S):
            await controller.work.observer.refresh()
            await controller.work.observer.prove_storage()


async def _stop(running: asyncio.Task[None]) -> None:
    """Stop taking work, give operations back; running migrations are left alone."""
    running.cancel()
    with suppress(asyncio.CancelledError, TimeoutError):
        async with asyncio.timeout(_STOP_WITHIN_S):
            await running


@asynccontextmanager
async def _adapters(
    settings: Settings, directory: Path, *, simulate: bool
) -> AsyncIterator[tuple[Hypervisor, Store]]:
    """The hypervisor and the store that the settings ask for, open."""
    clock = RealClock()
    if simulate:
        # A simulated cluster does not outlive us, so what we decide about it does not either.
        cluster, enrolment = make_fleet(clock)
        store = SqlStore("sqlite://", clock)
        await store.open()
        await store.enrol(enrolment)
        hypervisor: Hypervisor = SimHypervisor(cluster)
    else:
        from furlough.drivers.libvirt.hypervisor import LibvirtHypervisor  # noqa: PLC0415

        store = SqlStore(settings.server.database or sqlite_url(directory), clock)
        await store.open()
        hypervisor = LibvirtHypervisor(clock)
    try:
        yield hypervisor, store
    finally:
        await hypervisor.close()
        await store.close()


def enrolment_of(tables: dict[str, object]) -> Enrolment:
    """The enrolment tables of a file, checked as the API would check them."""
    try:
        return EnrolmentBody.model_validate(tables).to_core()
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        raise Invalid("enrolment.malformed", f"{path}: {first['msg']}.") from error


@contextmanager
def data_directory(path: Path) -> Iterator[Path]:
    """The data directory, made if need be, locked for this process alone."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (path / "lock").open("a+", encoding="ascii")
    except OSError as error:
        raise Invalid(
            "data_dir.unusable",
            f"{path} cannot be used as data directory: {error.strerror}.",
            remedy="Choose another with --data-dir.",
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            raise Conflict(
                "data_dir.in_use",
                f"Another furlough (process {lock.read().strip() or '?'}) uses {path}.",
                remedy="Stop it, or choose another directory with --data-dir.",
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield path


def _token(directory: Path) -> str:
    """The local token: made at the first start, readable by its owner alone."""
    path = directory / "token"
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"furlough_{secrets.token_urlsafe(32)}")
    return path.read_text(encoding="ascii").strip()


def _listen(address: tuple[str, int]) -> socket.socket:
    """A listening socket; port 0 takes any."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise Conflict(
            "listen.in_use",
            f"{address[0]}:{address[1]} cannot be listened on: {error.strerror}.",
            remedy="Choose another address with --listen.",
        ) from error
    listener.set_inheritable(False)
    return listener


class _StandardError:
    """Where log lines go. A full disk or a closed terminal stops the lines and nothing else."""

    def msg(self, line: str) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()

    log = debug = info = warning = error = critical = fatal = exception = msg


def configure_logging() -> None:
    """One line per event on standard error; colours on a terminal."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: _StandardError(),
        cache_logger_on_first_use=True,
    )
