"""libvirt's errors: the class of each decides what is done next, and a wrong one costs a VM."""

from __future__ import annotations

import pytest

from furlough.core.retry import REFUSALS
from furlough.errors import Refused, Unreachable
from tests.drivers.binding import needing_libvirt

libvirt = needing_libvirt("libvirt")
errors = needing_libvirt("furlough.drivers.libvirt.errors")


def failure(number: int, text: str | None = "the reason") -> object:
    """An error as libvirt's binding raises it: code, domain, message, level and the rest."""
    error = libvirt.libvirtError("the call failed")
    error.err = (number, 10, text, 2, None, None, None, -1, -1)
    return error


def code_of(name: str) -> int:
    return int(getattr(libvirt, f"VIR_ERR_{name}"))


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("RPC", 39),
        ("SYSTEM_ERROR", 38),
        ("NO_CONNECT", 5),
        ("GNUTLS_ERROR", 40),
        ("SSH", 85),
        ("LIBSSH", 98),
        ("INVALID_CONN", 6),
    ],
)
def test_of_a_lost_connection_the_outcome_is_unknown(name: str, number: int) -> None:
    assert code_of(name) == number
    found = errors.ours(failure(number), what="migration of vm1")
    assert type(found) is Unreachable
    assert found.code == "hypervisor.lost"


@pytest.mark.parametrize(
    "text",
    [
        "client socket is closed",
        "End of file while reading data: Input/output error",
        "internal error: client socket is closed",
    ],
)
def test_two_texts_alone_tell_a_lost_connection_from_a_failure(text: str) -> None:
    assert type(errors.ours(failure(1, text), what="it")) is Unreachable
    assert type(errors.ours(failure(9, text), what="it")) is Refused


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("OPERATION_TIMEOUT", "hypervisor.busy"),
        ("RESOURCE_BUSY", "hypervisor.busy"),
        ("BLOCK_COPY_ACTIVE", "hypervisor.busy"),
        ("OPERATION_ABORTED", "hypervisor.aborted"),
        ("CPU_INCOMPATIBLE", "target.refused"),
        ("HOOK_SCRIPT_FAILED", "target.refused"),
        ("DOM_EXIST", "target.refused"),
        ("NO_NETWORK", "target.refused"),
        ("NO_STORAGE_POOL", "target.refused"),
        ("CONFIG_UNSUPPORTED", "target.refused"),
        ("MIGRATE_UNSAFE", "vm.immovable"),
        ("OPERATION_UNSUPPORTED", "vm.immovable"),
        ("NO_SUPPORT", "vm.immovable"),
        ("ARGUMENT_UNSUPPORTED", "vm.immovable"),
        ("ACCESS_DENIED", "hypervisor.denied"),
        ("AUTH_FAILED", "hypervisor.denied"),
        ("AUTH_CANCELLED", "hypervisor.denied"),
        ("AUTH_UNAVAILABLE", "hypervisor.denied"),
        ("OPERATION_DENIED", "hypervisor.denied"),
        ("NO_DOMAIN", "vm.changed"),
        ("OPERATION_FAILED", "hypervisor.failed"),
        ("OPERATION_INVALID", "hypervisor.failed"),
        ("INTERNAL_ERROR", "hypervisor.failed"),
        ("MIGRATE_PERSIST_FAILED", "hypervisor.failed"),
        ("MIGRATE_FINISH_OK", "hypervisor.failed"),
        ("AGENT_UNRESPONSIVE", "hypervisor.failed"),
    ],
)
def test_the_number_decides_the_class(name: str, code: str) -> None:
    found = errors.ours(failure(code_of(name)), what="migration of vm1 from h1 to h2")
    assert type(found) is Refused
    assert found.code == code
    assert found.code in REFUSALS
    assert found.message == "migration of vm1 from h1 to h2: the reason."


@pytest.mark.parametrize("number", [0, 999, -1])
def test_an_error_of_a_later_libvirt_is_a_failure_that_says_so_itself(number: int) -> None:
    found = errors.ours(failure(number, "something new"), what="start of vm1")
    assert (type(found), found.code) == (Refused, "hypervisor.failed")
    assert "something new" in found.message


def test_no_text_is_no_reason_and_no_crash() -> None:
    assert "no reason given" in errors.ours(failure(9, None), what="it").message
    bare = libvirt.libvirtError("never reached libvirt")
    assert type(errors.ours(bare, what="it")) is Refused


def test_a_text_never_decides_about_a_class() -> None:
    """A VM may be called `client socket is closed`."""
    named = failure(42, "no domain with matching name 'client socket is closed'")
    assert errors.ours(named, what="it").code == "vm.changed"


def test_only_no_domain_means_absent() -> None:
    assert errors.is_absent(failure(42))
    assert not errors.is_absent(failure(9))
    assert not errors.is_absent(failure(38))


@pytest.mark.parametrize(
    "words",
    [
        "failed to connect to the hypervisor Failed to connect socket to '/run/libvirt/x'",
        "End of file while reading data: Input/output error",
        "virsh gave no answer within 50 s",
    ],
)
def test_furlough_host_that_has_lost_the_daemon_leaves_us_in_doubt(words: str) -> None:
    assert type(errors.of_program(words, what="resume of vm1")) is Unreachable


def test_furlough_host_that_was_told_no_passes_it_on() -> None:
    found = errors.of_program('Failed to get "write" lock', what="resume of vm1")
    assert (type(found), found.code) == (Refused, "hypervisor.failed")
    assert found.message == 'resume of vm1: Failed to get "write" lock.'
