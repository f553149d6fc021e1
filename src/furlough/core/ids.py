"""Names of things: how each is parsed and printed.

Hosts and clusters go by the name they were enrolled under, VMs by their UUID (two VMs may
share a name, and users choose it), operations by a number, steps by their operation and a
number in it. Each is a `str` at run time; the types keep them apart for the reader.
"""

from __future__ import annotations

import re
import uuid
from typing import NewType

from furlough.errors import Invalid

ClusterName = NewType("ClusterName", str)
HostName = NewType("HostName", str)
VmId = NewType("VmId", str)
OperationId = NewType("OperationId", str)
StepId = NewType("StepId", str)

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_OPERATION = re.compile(r"op-[1-9][0-9]{0,17}")


def parse_cluster_name(text: str) -> ClusterName:
    """A cluster's name: letters, digits, `.`, `_`, `-`; at most 63. Raises `Invalid`."""
    return ClusterName(_parse_name(text, "cluster"))


def parse_host_name(text: str) -> HostName:
    """A host's name, of the same alphabet; it may stand in command lines. Raises `Invalid`."""
    return HostName(_parse_name(text, "host"))


def _parse_name(text: str, kind: str) -> str:
    if not _NAME.fullmatch(text):
        raise Invalid(
            "name.malformed",
            f"{text!r} cannot name a {kind}.",
            remedy="Use up to 63 letters, digits, dots, dashes and underscores, "
            "a letter or digit at both ends.",
        )
    return text


def parse_user_name(text: str) -> str:
    """A user's name, of the same alphabet. Raises `Invalid`."""
    return _parse_name(text, "user")


def parse_vm_id(text: str) -> VmId:
    """A VM's UUID in any usual spelling, kept in lower case with dashes. Raises `Invalid`."""
    try:
        return VmId(str(uuid.UUID(text)))
    except ValueError as error:
        raise Invalid(
            "vm.malformed", f"{text!r} is not a VM's UUID.", remedy="Look it up: furlough vm list."
        ) from error


def parse_operation_id(text: str) -> OperationId:
    """An operation's id as printed, for instance `op-17`. Raises `Invalid`."""
    if not _OPERATION.fullmatch(text):
        raise Invalid(
            "operation.malformed",
            f"{text!r} is not an operation's id.",
            remedy="They look like op-17: furlough operation list.",
        )
    return OperationId(text)


def operation_id(number: int) -> OperationId:
    """The id of the operation with this number."""
    return OperationId(f"op-{number}")


def operation_number(operation: OperationId) -> int:
    """The number an operation's id was made from."""
    return int(operation.removeprefix("op-"))


def step_id(operation: OperationId, number: int) -> StepId:
    """The id of an operation's step, for instance `op-17.3`."""
    return StepId(f"{operation}.{number}")
