"""Settling a migration in doubt: what two looks mean, and what may be done about it.

An error says nothing about where a VM runs; only looks do. The table is the one of libvirt's own
recovery rules, measured. A destructive act needs positive evidence about the other copy, and an
answer counts only when it has been stable for long enough: the hypervisor may still change its
mind (the source restarts its CPUs up to one keepalive time after the target has started).

    source            target            meaning
    running, job      any               going on                       -> follow
    running           absent            it never left                  -> at home
    running           paused            it never ran there             -> remove the target's copy
    running           running           TWO COPIES                     -> suspend the source, ask
    absent, shut off  running           it has moved                   -> moved
    absent, migrated  paused            complete, CPUs never started   -> resume the target
    stopped           paused            it ran on at home and stopped  -> ask
    paused            running           stale copy, held by a lock     -> power off the source
    paused            running, postcopy the target still needs it      -> wait
    postcopy failed   postcopy failed   the link between them broke    -> go on, or ask
    paused            absent            the target never got it        -> resume the source
    paused            shut off          it may have run there          -> ask
    paused            paused            ran nowhere since              -> remove that, or ask
    absent            absent            gone                           -> search all hosts
    silent            any               unknown                        -> wait
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from furlough.core.looks import Job, Look, Presence, Why
from furlough.core.operation import Act
from furlough.core.plan import Handover


class Call(StrEnum):
    """What we know of the call that started the migration."""

    DONE = "done"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Trail:
    """What the journal knows of the attempt that is being settled."""

    call: Call
    handover: Handover
    was_paused: bool = False
    acts: frozenset[Act] = frozenset()

    @property
    def never_ran_on_target(self) -> bool:
        """Whether the target's copy cannot have run: it was to arrive paused, and we have not
        resumed it."""
        paused = self.handover is Handover.HELD or self.was_paused
        return paused and Act.RESUME_TARGET not in self.acts


class Conclusion(StrEnum):
    """What a pair of looks means."""

    FOLLOW = "follow"
    WAIT = "wait"
    MOVED = "moved"
    AT_HOME = "at_home"
    ACT = "act"
    ASK = "ask"
    STOPPED_BY_GUEST = "stopped_by_guest"
    STOPPED_BY_OTHERS = "stopped_by_others"
    DIED = "died"
    GONE = "gone"


class Patience(StrEnum):
    """How long a pair of looks must have stayed the same before it counts."""

    NONE = "none"
    TWICE = "twice"
    WINDOW = "window"


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """What is so, what to do about it, and how sure one has to be first."""

    conclusion: Conclusion
    meaning: str
    patience: Patience = Patience.NONE
    act: Act | None = None
    code: str = ""


def rule(source: Look, target: Look, trail: Trail) -> Ruling:
    """The ruling for one pair of looks, taken at about the same time."""
    is_broken = Why.POSTCOPY_FAILED in (source.why, target.why)
    if source.job is Job.OUTGOING and not is_broken:
        return Ruling(conclusion=Conclusion.FOLLOW, meaning="the migration is going on")
    for look in (source, target):
        if look.presence is Presence.SILENT:
            return Ruling(
                conclusion=Conclusion.WAIT,
                meaning=f"{look.host} does not answer; the outcome is unknown",
                code="host.silent",
            )
    if is_broken:
        return _broken_post_copy(source, target, trail)
    return _BY_SOURCE[source.presence](source, target, trail)


def _broken_post_copy(source: Look, target: Look, trail: Trail) -> Ruling:
    """Neither side has all of it. Where both still have their part, it can go on once the link
    is back; whoever else began it has to say so."""
    meaning = "the link broke in post-copy; each side has a part of the VM, destroy neither"
    if not (source.is_here and target.is_here):
        gone = target.host if source.is_here else source.host
        meaning = f"{gone} has lost its part of the VM in post-copy; what is left cannot run on"
    elif Act.START_POST_COPY in trail.acts:
        return Ruling(
            conclusion=Conclusion.ACT,
            act=Act.RECOVER_POST_COPY,
            patience=Patience.TWICE,
            meaning=meaning,
            code="migration.postcopy_failed",
        )
    return _ask("migration.postcopy_failed", meaning)


def _source_running(source: Look, target: Look, trail: Trail) -> Ruling:
    if target.presence is Presence.RUNNING:
        return Ruling(
            conclusion=Conclusion.ACT,
            act=Act.SUSPEND_SOURCE,
            patience=Patience.TWICE,
            meaning="two copies run; the source's started last",
            code="vm.two_copies",
        )
    if target.job is Job.INCOMING:
        return _wait("the target still waits for data")
    if target.presence is Presence.PAUSED:
        return _stray_copy(trail)
    return _at_home(source, target, trail)


def _source_paused(source: Look, target: Look, trail: Trail) -> Ruling:
    if Act.SUSPEND_SOURCE in trail.acts:
        return _ask("vm.two_copies", "two copies ran; we suspended the source's, which is stale")
    if target.job is Job.INCOMING:
        return _wait("the target still waits for data")
    if Why.POSTCOPY in (source.why, target.why):
        return _wait("the target still takes memory from the source")
    is_ours = Act.PAUSE_SOURCE in trail.acts and not trail.was_paused
    if source.why not in (Why.MIGRATION, Why.API_ERROR) and not is_ours:
        return _paused_by_others(source, target, trail)
    if Act.START_POST_COPY in trail.acts:
        return _ask(
            "migration.postcopy_failed",
            "it went over to post-copy, and whether the target has all of it cannot be seen",
        )
    if target.presence is Presence.RUNNING:
        return Ruling(
            conclusion=Conclusion.ACT,
            act=Act.POWER_OFF_SOURCE,
            patience=Patience.WINDOW,
            meaning="the target runs it; the source holds a stale copy",
        )
    if target.presence is Presence.PAUSED:
        return _both_paused(trail)
    return _only_source_paused(source, target, trail)


def _only_source_paused(source: Look, target: Look, trail: Trail) -> Ruling:
    """The switchover stopped it, and nothing of it is active on the target."""
    if target.has_process:
        return _wait("a process of it is left on the target")
    if trail.was_paused:
        return _at_home(source, target, trail)
    if target.presence is Presence.SHUT_OFF and _may_have_run(target, trail):
        return _ask(
            "migration.stale_source",
            "it is off on the target, where it may have run; the source's paused copy is then "
            "older than its disks",
        )
    return Ruling(
        conclusion=Conclusion.ACT,
        act=Act.RESUME_SOURCE,
        patience=Patience.WINDOW,
        meaning="the target never got it; it stands still on the source",
    )


def _may_have_run(target: Look, trail: Trail) -> bool:
    """Whether a copy that is off on the target may have run there: a definition is left only by
    a migration that came to its end, and a guest that shut itself down certainly ran."""
    return target.why is Why.SHUTDOWN or not trail.never_ran_on_target


def _both_paused(trail: Trail) -> Ruling:
    """It has run nowhere since the switchover. If the target's copy never ran, the source's is
    as complete as it was: back to it, which needs no guess about what the target received."""
    if trail.never_ran_on_target:
        return Ruling(
            conclusion=Conclusion.ACT,
            act=Act.REMOVE_TARGET,
            patience=Patience.WINDOW,
            meaning="both hosts hold it paused; the target's copy never ran",
        )
    return _ask(
        "migration.both_paused",
        "both hosts hold it paused, and which copy is complete cannot be seen",
    )


def _paused_by_others(source: Look, target: Look, trail: Trail) -> Ruling:
    """It was paused on the source before, or somebody paused it: that is not ours to undo."""
    if target.presence is Presence.PAUSED and trail.was_paused:
        return _stray_copy(trail)
    if target.presence in (Presence.RUNNING, Presence.PAUSED):
        return _ask(
            "migration.stray_copy",
            "it is paused on the source by somebody, and a copy of it is on the target",
        )
    return _at_home(source, target, trail)


def _source_gone(source: Look, target: Look, trail: Trail) -> Ruling:
    if source.has_process:
        return _wait("a process of it is left on the source")
    if target.presence is Presence.RUNNING:
        return Ruling(conclusion=Conclusion.MOVED, meaning="the target runs it, the source is rid")
    if target.job is Job.INCOMING or (target.has_process and target.presence is Presence.ABSENT):
        return _wait("the target is not ready yet")
    if target.presence is Presence.PAUSED:
        return _held_on_target(source, target, trail)
    return _nowhere(source, trail)


def _held_on_target(source: Look, target: Look, trail: Trail) -> Ruling:
    """The target waits, the source is off or rid of it. Only "migrated" says that it did not run
    on there: after a restart of the source's host or daemon nobody knows why it is off."""
    went_away = source.presence is Presence.ABSENT or source.why is Why.MIGRATED
    is_ours = Act.POWER_OFF_SOURCE in trail.acts
    is_told = trail.call is Call.DONE and source.why is Why.UNKNOWN
    if went_away or is_ours or is_told:
        return _complete_on_target(target, trail)
    why = _STOPPED.get(source.why)
    return _ask(
        "migration.stale_target",
        f"{why[1] if why else 'it is off on the source'}, where it may have run on; the target's "
        "paused copy is then older than its disks",
    )


def _complete_on_target(target: Look, trail: Trail) -> Ruling:
    if trail.was_paused:
        return Ruling(conclusion=Conclusion.MOVED, meaning="it is on the target, paused as before")
    if target.why is Why.IO_ERROR:
        return Ruling(
            conclusion=Conclusion.MOVED,
            meaning="it is on the target, stopped by an I/O error there",
            code="vm.io_error",
        )
    return Ruling(
        conclusion=Conclusion.ACT,
        act=Act.RESUME_TARGET,
        meaning="it is complete on the target and waits for its CPUs",
    )


def _nowhere(source: Look, trail: Trail) -> Ruling:
    """Active on neither host: it stopped, or it went elsewhere."""
    patience = Patience.TWICE if trail.call is Call.DONE else Patience.WINDOW
    if source.presence is Presence.SHUT_OFF:
        found = _STOPPED.get(source.why)
        if found is not None:
            conclusion, meaning = found
            return Ruling(conclusion=conclusion, meaning=meaning, patience=patience)
    return Ruling(conclusion=Conclusion.GONE, meaning="neither host runs it", patience=patience)


_STOPPED = {
    Why.SHUTDOWN: (Conclusion.STOPPED_BY_GUEST, "its guest shut it down"),
    Why.DESTROYED: (Conclusion.STOPPED_BY_OTHERS, "somebody powered it off"),
    Why.SAVED: (Conclusion.STOPPED_BY_OTHERS, "somebody suspended it to disk"),
    Why.CRASHED: (Conclusion.DIED, "it crashed on the source"),
    Why.FAILED: (Conclusion.DIED, "its process died on the source"),
}


def _stray_copy(trail: Trail) -> Ruling:
    """The source has it, and the target holds a paused copy without a job."""
    if trail.never_ran_on_target:
        return Ruling(
            conclusion=Conclusion.ACT,
            act=Act.REMOVE_TARGET,
            patience=Patience.WINDOW,
            meaning="the source has it; the target's copy never ran",
        )
    return _ask(
        "migration.stray_copy",
        "the source has it, and whether the target's paused copy ever ran cannot be seen",
    )


def _at_home(source: Look, target: Look, trail: Trail) -> Ruling:
    if Act.REMOVE_TARGET in trail.acts and target.is_persistent:
        return Ruling(
            conclusion=Conclusion.ACT,
            act=Act.REMOVE_TARGET,
            meaning="the definition of the copy that we removed is left on the target",
        )
    if target.presence is Presence.ABSENT and target.has_process:
        meaning = "it stayed on the source; a dead process of it is left on the target"
    else:
        meaning = f"it stayed on the source, {source.presence.value}"
    # A refusal is the hypervisor's own word that nothing goes on; a lost call may yet begin.
    patience = Patience.WINDOW if trail.call is Call.UNKNOWN else Patience.TWICE
    return Ruling(conclusion=Conclusion.AT_HOME, meaning=meaning, patience=patience)


def _wait(meaning: str) -> Ruling:
    return Ruling(conclusion=Conclusion.WAIT, meaning=meaning)


def _ask(code: str, meaning: str) -> Ruling:
    return Ruling(conclusion=Conclusion.ASK, code=code, meaning=meaning, patience=Patience.WINDOW)


_BY_SOURCE = {
    Presence.RUNNING: _source_running,
    Presence.PAUSED: _source_paused,
    Presence.ABSENT: _source_gone,
    Presence.SHUT_OFF: _source_gone,
}
