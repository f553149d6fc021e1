"""How a story about the Hypervisor port becomes a test on both grounds, and what stories check."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from furlough.core.looks import Job, Look, Presence
from furlough.errors import Refused
from tests.conformance.hypervisors import (
    H1,
    H2,
    Ground,
    Story,
    Teller,
)


def story(told: Story) -> Callable[[Teller], None]:
    """Turn a story into a test."""

    def test(tell: Teller) -> None:
        tell(told)

    test.__name__, test.__doc__ = told.__name__, told.__doc__
    return test


@contextmanager
def refusal(*codes: str) -> Iterator[None]:
    """The hypervisor says no, and that is the class of it, or one of them."""
    with pytest.raises(Refused) as told:
        yield
    assert told.value.code in codes, f"{told.value.code}: {told.value.message}"


# libvirt says of one and the same end now "canceled by client", now "Unable to write to socket".
ENDED = ("hypervisor.aborted", "hypervisor.failed")


async def check_at_home(ground: Ground, presence: Presence = Presence.RUNNING) -> None:
    """The VM is on H1 as before, and nothing of it is on H2."""
    check_here(await ground.look(H1), presence)
    check_nothing(await ground.look(H2))


async def check_moved(ground: Ground, presence: Presence = Presence.RUNNING) -> None:
    """The VM is on H2 and nothing of it is on H1."""
    check_here(await ground.look(H2), presence)
    check_nothing(await ground.look(H1))


def check_here(look: Look, presence: Presence) -> None:
    """So it is there, defined, and nothing is done to it."""
    assert (look.presence, look.job, look.is_persistent) == (presence, Job.NONE, True), str(look)


def check_nothing(look: Look) -> None:
    """Neither definition nor process."""
    assert (look.presence, look.has_process) == (Presence.ABSENT, False), str(look)
