"""What to do when an encrypted migration failed: libvirt tells it by words alone, and often only
that a stream broke, so the advice goes with every failure that has no class of its own."""

from __future__ import annotations

from furlough.errors import Refused
from furlough.ports import MigrationOrder


def advised(refusal: Refused, order: MigrationOrder, certified: str) -> Refused:
    """The same refusal, with what to look at if certificates are its cause."""
    if not order.is_encrypted or refusal.code != "hypervisor.failed":
        return refusal
    return Refused(
        refusal.code,
        f"{refusal.message} (The migration was encrypted; in clear it was not tried.)",
        remedy=f"If it failed for its certificates: that of {order.target} has to bear the name "
        f"{certified} (furlough host set {order.target} --tls-name), and both hosts have to trust "
        "the same authority; then move the VM again.",
    )
