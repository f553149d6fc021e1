"""Connections, threads and listings, tried on the hypervisor that libvirt brings along for tests:
it lives in our own process and needs no daemon."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any, TypeVar

import pytest

from furlough.core.ids import HostName
from furlough.core.looks import Job, Presence
from furlough.core.states import Power
from furlough.drivers.libvirt.workers import Workers
from furlough.errors import Refused, Unreachable
from furlough.sim.clock import VirtualClock
from tests.drivers.binding import needing_libvirt

libvirt = needing_libvirt("libvirt")
connection = needing_libvirt("furlough.drivers.libvirt.connection")
looking = needing_libvirt("furlough.drivers.libvirt.looking")
inventory = needing_libvirt("furlough.drivers.libvirt.inventory")

T = TypeVar("T")
H1 = HostName("h1")
URI = "test:///default"
NOBODY = "00000000-0000-4000-8000-000000000000"


def with_link(story: Callable[[Any], Awaitable[T]], uri: str = URI) -> T:
    """Tell a story about a link to one host."""

    async def tell() -> T:
        link = connection.HostLink(H1, uri, lambda *_: None, lambda *_: None)
        try:
            return await story(link)
        finally:
            link.close()

    return asyncio.run(tell())


def test_a_call_runs_on_an_open_connection_and_brings_what_it_returns() -> None:
    async def story(link: Any) -> None:
        assert await link.control(lambda handle: handle.getType(), what="its kind") == "TEST"
        assert await link.long_call(lambda handle: handle.isAlive(), what="whether it lives") == 1

    with_link(story)


def test_the_same_connection_serves_the_next_call() -> None:
    async def story(link: Any) -> None:
        first = await link.control(lambda handle: handle, what="the handle")
        assert await link.control(lambda handle: handle, what="the handle") is first

    with_link(story)


def test_a_refusal_is_ours_and_says_what_was_tried() -> None:
    async def story(link: Any) -> None:
        with pytest.raises(Refused) as refusal:
            await link.control(lambda handle: handle.lookupByUUIDString(NOBODY), what="a look")
        assert refusal.value.code == "vm.changed"
        assert refusal.value.message.startswith("a look: ")

    with_link(story)


def test_a_host_that_cannot_be_connected_to_is_unreachable() -> None:
    async def story(link: Any) -> None:
        for call in (link.control, link.long_call):
            with pytest.raises(Unreachable) as silence:
                await call(lambda handle: handle.getType(), what="its kind")
            assert silence.value.code == "hypervisor.lost"

    with_link(story, "qemu+unix:///system?socket=/nonexistent/libvirt-sock")


def test_a_call_that_never_ends_is_in_doubt_and_the_next_one_is_served() -> None:
    forever = threading.Event()

    async def story(link: Any) -> None:
        hanging = [
            asyncio.create_task(
                link.control(lambda _handle: forever.wait(), what="a look", within_s=0.05)
            )
            for _ in range(6)
        ]
        results = await asyncio.gather(*hanging, return_exceptions=True)
        assert {type(result) for result in results} == {Unreachable}
        assert await link.control(lambda handle: handle.getType(), what="its kind") == "TEST"

    try:
        with_link(story)
    finally:
        forever.set()


def test_migrations_leave_the_control_connection_free() -> None:
    over, begun = threading.Event(), threading.Semaphore(0)

    def migrate(_handle: Any) -> bool:
        begun.release()
        return over.wait()

    async def story(link: Any) -> None:
        calls = [asyncio.create_task(link.long_call(migrate, what="a move")) for _ in range(12)]
        for _ in calls:
            assert await asyncio.to_thread(begun.acquire, timeout=30)
        assert await link.control(lambda handle: handle.getType(), what="its kind") == "TEST"
        over.set()
        assert await asyncio.gather(*calls) == [True] * 12

    with_link(story)


def test_events_tell_when_something_happens_to_a_vm() -> None:
    told: list[tuple[str, int, int]] = []
    heard = threading.Event()

    def note(vm: str, event: int, detail: int) -> None:
        told.append((vm, event, detail))
        heard.set()

    async def story() -> None:
        link = connection.HostLink(H1, URI, note, lambda *_: None)
        name = await link.control(lambda handle: handle.listAllDomains(0)[0].UUIDString(), what="")
        await link.control(lambda handle: handle.lookupByUUIDString(name).suspend(), what="")
        assert await asyncio.to_thread(heard.wait, 30)
        await link.control(lambda handle: handle.lookupByUUIDString(name).resume(), what="")
        link.close()
        assert told[0][:2] == (name, libvirt.VIR_DOMAIN_EVENT_SUSPENDED)

    asyncio.run(story())


# --- threads --------------------------------------------------------------------------------------


def test_calls_run_side_by_side_and_no_more_of_them_than_there_are_threads() -> None:
    running, most, lock, go = 0, 0, threading.Lock(), threading.Event()
    arrived = threading.Semaphore(0)

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        arrived.release()
        go.wait()
        with lock:
            running -= 1

    async def story() -> None:
        workers = Workers("test", 3)
        calls = [asyncio.create_task(workers.call(work)) for _ in range(8)]
        for _ in range(3):
            assert await asyncio.to_thread(arrived.acquire, timeout=30)
        go.set()
        await asyncio.gather(*calls)
        workers.close()

    asyncio.run(story())
    assert most == 3


def test_what_goes_wrong_in_a_thread_is_raised_where_it_was_called() -> None:
    async def story() -> None:
        workers = Workers("test", 1)
        with pytest.raises(ZeroDivisionError):
            await workers.call(lambda: 1 // 0)
        assert await workers.call(lambda: 7) == 7
        workers.close()

    asyncio.run(story())


def test_a_call_given_up_before_a_thread_was_free_is_never_made() -> None:
    go, made = threading.Event(), []

    async def story() -> None:
        workers = Workers("test", 1)
        first = asyncio.create_task(workers.call(go.wait))
        second = asyncio.create_task(workers.call(lambda: made.append("second")))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second])
        go.set()
        await first
        await workers.call(lambda: made.append("third"))
        workers.close()

    asyncio.run(story())
    assert made == ["third"]


# --- listings -------------------------------------------------------------------------------------

DEFINED = """\
<domain type='test'><name>cold</name><uuid>1dd053d9-f70c-4de7-a86f-ae90dd6b28a1</uuid>
<memory unit='MiB'>256</memory><vcpu>2</vcpu><os><type>hvm</type></os></domain>"""


def test_a_listing_has_running_vms_and_those_that_are_off() -> None:
    handle = libvirt.open(URI)
    cold = handle.defineXML(DEFINED)
    try:
        found = {vm.name: vm for vm in inventory.read_vms(handle, H1, ())}
        assert found["test"].power is Power.RUNNING
        assert found["cold"].power is Power.SHUT_OFF
        assert (found["cold"].vcpus, found["cold"].memory_mib) == (2, 256)
        assert found["cold"].memory_used_mib is None
        active, under_way = inventory.read_active(handle, H1, ())
        assert [vm.name for vm in active] == ["test"]
        assert under_way == ()
    finally:
        cold.undefine()
        handle.close()


def test_a_look_tells_running_from_paused_from_off_from_unknown() -> None:
    handle = libvirt.open(URI)
    clock = VirtualClock()
    domain = handle.lookupByName("test")

    async def look(vm: str) -> Any:
        return looking.look(handle, H1, vm, clock)

    def seen(vm: str) -> tuple[Presence, bool, bool]:
        found = asyncio.run(look(vm))
        assert found.job is Job.NONE
        return found.presence, found.has_process, found.is_persistent

    try:
        uuid = domain.UUIDString()
        assert seen(uuid) == (Presence.RUNNING, True, True)
        domain.suspend()
        assert seen(uuid) == (Presence.PAUSED, True, True)
        domain.destroy()
        assert seen(uuid) == (Presence.SHUT_OFF, False, True)
        assert seen(NOBODY) == (Presence.ABSENT, False, False)
    finally:
        handle.close()


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_a_port_where_nobody_listens_is_told_at_once(transport: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    async def story(link: Any) -> None:
        with pytest.raises(Unreachable, match=f"127.0.0.1 port {port}: Connection refused"):
            await link.control(lambda handle: handle, what="the handle")

    with_link(story, f"qemu+{transport}://127.0.0.1:{port}/system")


def test_a_host_that_is_gone_is_tried_for_a_moment_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """libvirt's own attempt would go on for as long as the kernel tries, two minutes."""
    monkeypatch.setattr(connection, "_REACHING_S", 0.05)  # Nobody wants to wait the real one out.
    with ExitStack() as stack:
        # Nobody is taken in, so its queue is full after one; then it is as silent as a dead host.
        gone = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        where = gone.getsockname()
        stack.enter_context(socket.create_connection(where))

        async def story(link: Any) -> None:
            for _ in range(2):
                with pytest.raises(Unreachable, match="no answer within"):
                    await link.control(lambda handle: handle, what="the handle")

        with_link(story, f"qemu+tcp://127.0.0.1:{where[1]}/system")


def test_a_host_that_never_lets_us_in_holds_up_nothing_but_calls_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """F040: the attempt to connect hangs. Whoever gives up must not wait for it on the event loop,
    and must not start another one that would hang as well."""
    attempts, let_in = [], threading.Event()
    real_open = libvirt.open

    def hang(uri: str) -> Any:
        attempts.append(uri)
        let_in.wait()
        return real_open(uri)

    # A real `open` cannot be made to hang here; and nobody wants to wait its real deadline out.
    monkeypatch.setattr(libvirt, "open", hang)
    monkeypatch.setattr(connection, "_OPENING_S", 0.05)

    async def story(link: Any) -> None:
        for _ in range(3):
            with pytest.raises(Unreachable):
                await link.control(lambda handle: handle, what="the handle", within_s=0.2)
        assert len(attempts) == 1
        let_in.set()
        assert await link.control(lambda handle: handle.getType(), what="its kind") == "TEST"

    try:
        with_link(story)
    finally:
        let_in.set()
