"""libvirt's errors as ours. The number decides, never the text, but for the two texts that alone
tell a lost connection from a failure (libvirt has no number for them)."""

from __future__ import annotations

import libvirt

from furlough.errors import FurloughError, Refused, Unreachable

_LOST = {
    libvirt.VIR_ERR_RPC,
    libvirt.VIR_ERR_SYSTEM_ERROR,
    libvirt.VIR_ERR_NO_CONNECT,
    libvirt.VIR_ERR_GNUTLS_ERROR,
    libvirt.VIR_ERR_SSH,
    libvirt.VIR_ERR_LIBSSH,
    libvirt.VIR_ERR_INVALID_CONN,
}
_LOST_TEXTS = ("client socket is closed", "End of file while reading data")
# From furlough-host, which asks by virsh: the daemon cannot be reached, or has not answered.
_SILENT_TEXTS = ("failed to connect to the hypervisor", "virsh gave no answer")
_CLASSES = {
    "hypervisor.busy": (
        libvirt.VIR_ERR_OPERATION_TIMEOUT,
        libvirt.VIR_ERR_RESOURCE_BUSY,
        libvirt.VIR_ERR_BLOCK_COPY_ACTIVE,
    ),
    "hypervisor.aborted": (libvirt.VIR_ERR_OPERATION_ABORTED,),
    "target.refused": (
        libvirt.VIR_ERR_CPU_INCOMPATIBLE,
        libvirt.VIR_ERR_HOOK_SCRIPT_FAILED,
        libvirt.VIR_ERR_DOM_EXIST,
        libvirt.VIR_ERR_NO_NETWORK,
        libvirt.VIR_ERR_NO_STORAGE_POOL,
        libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
    ),
    "vm.immovable": (
        libvirt.VIR_ERR_MIGRATE_UNSAFE,
        libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
        libvirt.VIR_ERR_NO_SUPPORT,
        libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED,
    ),
    "hypervisor.denied": (
        libvirt.VIR_ERR_ACCESS_DENIED,
        libvirt.VIR_ERR_AUTH_FAILED,
        libvirt.VIR_ERR_AUTH_CANCELLED,
        libvirt.VIR_ERR_AUTH_UNAVAILABLE,
        libvirt.VIR_ERR_OPERATION_DENIED,
    ),
    "vm.changed": (libvirt.VIR_ERR_NO_DOMAIN,),
}
_CODE = {number: code for code, numbers in _CLASSES.items() for number in numbers}


def of_program(message: str, *, what: str) -> FurloughError:
    """The same for what furlough-host tells of an act that failed: words, without a number."""
    if any(one in message for one in (*_LOST_TEXTS, *_SILENT_TEXTS)):
        return Unreachable("hypervisor.lost", f"{what}: {message}.")
    return Refused("hypervisor.failed", f"{what}: {message}.")


def ours(error: libvirt.libvirtError, *, what: str) -> FurloughError:
    """`Unreachable` where the connection broke (the outcome is unknown), else `Refused` with its
    class. `what` says what was tried, on which host."""
    number = error.get_error_code()
    text = error.get_error_message() or "no reason given"
    if is_lost(error):
        return Unreachable("hypervisor.lost", f"{what}: {text}.")
    return Refused(_CODE.get(number, "hypervisor.failed"), f"{what}: {text}.")


def is_lost(error: libvirt.libvirtError) -> bool:
    """Whether this is the end of a connection rather than an answer."""
    text = error.get_error_message() or ""
    number = error.get_error_code()
    return number in _LOST or (
        number == libvirt.VIR_ERR_INTERNAL_ERROR and any(one in text for one in _LOST_TEXTS)
    )


def is_absent(error: libvirt.libvirtError) -> bool:
    """Whether the host says that it does not know the VM."""
    return bool(error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN)
