"""The rows of the matrix: what is broken, and how it is mended.

What lasts stays broken until the product has said that it waits for it, or has ended the operation
all the same, for at most `TOLD_WITHIN_S`; a stream that is silent, until the attempt has been given
up.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from furlough.lab.host import Host
from furlough.lab.patience import wait_until
from furlough.lab.processes import end
from tests.lab.matrix import gates, links, memory_limit
from tests.lab.matrix.phases import CONFIRM, EARLY, FINISH, LATE, PREPARE, SWITCHOVER, Phase, Scene

TOLD_WITHIN_S = 20.0
# A link may carry nothing for 30 s (`engine.work.Pace`); then somebody has to notice.
GIVEN_UP_WITHIN_S = 60.0
Deed = Callable[[Scene], None]


def nothing(scene: Scene) -> None:
    """There is nothing to be done."""


@dataclass(frozen=True, kw_only=True)
class Victim:
    """One row. `absent`: phases in which it cannot be hit, with the reason. `costs_it`: phases in
    which the VM itself may die of it, because the only whole copy does. `is_unfelt`: the migration
    goes on without it, and comes to its end at the first attempt. `is_missed`: as long as it lasts,
    the operation has to say that it waits for it. `gives_up`: it lasts until the attempt is given
    up for the reason with this code, which has to come."""

    name: str
    strike: Deed
    mend: Deed = nothing
    lasts: bool = False
    absent: Mapping[Phase, str] = field(default_factory=dict)
    costs_it: frozenset[Phase] = frozenset()
    is_unfelt: bool = False
    is_missed: bool = False
    gives_up: str = ""
    # After the phase was let go: whether it was hit at all, for what cannot be seen at once.
    has_hit: Callable[[Scene], bool] = lambda scene: True


# --- deeds -------------------------------------------------------------------------------------


def kill_us(scene: Scene) -> None:
    scene.stage.fleet.lab.controller.kill()


def start_us(scene: Scene) -> None:
    scene.stage.fleet.lab.controller.start()


def kill_source_daemon(scene: Scene) -> None:
    scene.stage.source.kill_daemon()


def start_source_daemon(scene: Scene) -> None:
    scene.stage.source.start_daemon()


def kill_target_daemon(scene: Scene) -> None:
    scene.target.kill_daemon()


def start_target_daemon(scene: Scene) -> None:
    scene.target.start_daemon()


def kill_source_emulator(scene: Scene) -> None:
    kill_emulator(scene, scene.stage.source)


def kill_target_emulator(scene: Scene) -> None:
    kill_emulator(scene, scene.target)


def kill_emulator(scene: Scene, host: Host) -> None:
    """The VM's one process on that host."""
    (emulator,) = scene.stage.emulators(host)
    assert end([emulator], signal.SIGKILL, timeout_s=10)


def cut_stream(scene: Scene) -> None:
    links.cut_stream(scene.stage.source, scene.target)


def silence_stream(scene: Scene) -> None:
    links.silence_stream(scene.stage.source, scene.target)


def silence_daemons(scene: Scene) -> None:
    links.silence_daemons(scene.stage.source, scene.target)


def silence_source(scene: Scene) -> None:
    links.silence_controller(scene.stage.source)


def silence_target(scene: Scene) -> None:
    links.silence_controller(scene.target)


def heal(scene: Scene) -> None:
    for host in (scene.stage.source, scene.target):
        links.healed(host)


def lose_answer(scene: Scene) -> None:
    gates.messages_to(scene.target).lose()


def has_lost_answer(scene: Scene) -> bool:
    gate = gates.messages_to(scene.target)
    wait_until(lambda: gate.has_lost, "the answer to be lost", timeout_s=5)
    return gate.has_lost


def open_gates(scene: Scene) -> None:
    gates.messages_to(scene.target).open()


def starve_target(scene: Scene) -> None:
    (emulator,) = scene.stage.emulators(scene.target)
    memory_limit.starve(emulator)


def has_starved(scene: Scene) -> bool:
    """The kernel has killed it: nothing else ends it within moments."""
    wait_until(
        lambda: not scene.stage.emulators(scene.target), "the kernel to kill it", timeout_s=20
    )
    memory_limit.bury()
    return True


# --- rows --------------------------------------------------------------------------------------

_NO_STREAM_YET = {PREPARE: "there is no stream yet"}
_STREAM_IS_OVER = dict.fromkeys((FINISH, CONFIRM), "the stream is over")
_ASKS_NOTHING = dict.fromkeys(
    (EARLY, LATE, SWITCHOVER), "nothing is being asked that could be answered"
)
_TAKES_NOTHING = dict.fromkeys(
    (LATE, SWITCHOVER, FINISH, CONFIRM), "it has all its memory by then and takes no more"
)

US = Victim(name="our process, killed", strike=kill_us, mend=start_us, is_unfelt=True)
SOURCE_DAEMON = Victim(
    name="source's daemon, killed",
    strike=kill_source_daemon,
    mend=start_source_daemon,
    lasts=True,
    is_missed=True,
)
TARGET_DAEMON = Victim(
    name="target's daemon, killed",
    strike=kill_target_daemon,
    mend=start_target_daemon,
    lasts=True,
    is_missed=True,
)
SOURCE_EMULATOR = Victim(
    name="source's QEMU, killed",
    strike=kill_source_emulator,
    absent={CONFIRM: "it has just been ended"},
    costs_it=frozenset({PREPARE, EARLY, LATE, SWITCHOVER}),
)
TARGET_EMULATOR = Victim(
    name="target's QEMU, killed",
    strike=kill_target_emulator,
    costs_it=frozenset({FINISH, CONFIRM}),
)
STREAM_CUT = Victim(
    name="memory stream, reset", strike=cut_stream, absent={**_NO_STREAM_YET, **_STREAM_IS_OVER}
)
STREAM_SILENT = Victim(
    name="memory stream, silent", strike=silence_stream, mend=heal, lasts=True,
    absent=_STREAM_IS_OVER, gives_up="migration.stalled",
)  # fmt: skip
DAEMONS_APART = Victim(
    name="link between the daemons, silent", strike=silence_daemons, mend=heal, lasts=True
)
SOURCE_APART = Victim(
    name="link from us to the source, silent", strike=silence_source, mend=heal, lasts=True
)
TARGET_APART = Victim(
    name="link from us to the target, silent", strike=silence_target, mend=heal, lasts=True
)
ANSWER_LOST = Victim(
    name="the target's answer, lost",
    strike=lose_answer,
    mend=open_gates,
    absent={**_ASKS_NOTHING, CONFIRM: "the source is alone with itself"},
    has_hit=has_lost_answer,
)
TARGET_STARVED = Victim(
    name="target's QEMU, out of memory",
    strike=starve_target,
    absent=_TAKES_NOTHING,
    has_hit=has_starved,
)
VICTIMS = (
    US, SOURCE_DAEMON, TARGET_DAEMON, SOURCE_EMULATOR, TARGET_EMULATOR, STREAM_CUT, STREAM_SILENT,
    DAEMONS_APART, SOURCE_APART, TARGET_APART, ANSWER_LOST, TARGET_STARVED,
)  # fmt: skip
