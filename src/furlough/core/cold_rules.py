"""What comes next in a cold move: a function of what both hosts say, and of what was done so far.

A cold move puts the definition of a VM that is off on another host. The definition is never absent
on both hosts, and nothing is removed anywhere before the other host was seen to have it:

    forth    stop ──► copy, define ──► undefine the source ──► start ──► moved
    back     (define the source) ──► remove the target's ──► start ──► at home

    source      target     forth                                   back (given up)
    running     absent     stop it; or others have started it      at home
    running     off        remove the target's, if it is ours      remove the target's
    off         absent     copy state and definition               start it at home
    off         off        undefine the source, if that is ours    remove the target's
    off         active     undefine the source                     undefine the source
    absent      off        start it there, if it has to run        define it at home
    absent      active     moved                                   moved
    absent      absent     gone                                    gone
    active      active     TWO COPIES: ask
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from furlough.core.looks import Job, Look, Presence, Why
from furlough.core.operation import Act


class Next(StrEnum):
    """What comes next. The first ones end the move, or wait; the others are effects."""

    WAIT = "wait"
    ASK = "ask"
    MOVED = "moved"
    AT_HOME = "at_home"
    CHANGED = "changed"
    GONE = "gone"
    REFUSED = "refused"
    STOP = "stop"
    COPY = "copy"
    UNDEFINE_SOURCE = "undefine_source"
    START_TARGET = "start_target"
    DEFINE_SOURCE = "define_source"
    REMOVE_TARGET = "remove_target"
    START_SOURCE = "start_source"


@dataclass(frozen=True, kw_only=True)
class ColdTrail:
    """What the journal knows of the move. `has_to_run`: the VM ran before, so it runs in the end;
    `was_stopped`: some attempt of this step has asked for its end; `is_unwanted`: the operation
    is being cancelled. `acts`: those of the present attempt."""

    has_to_run: bool
    was_stopped: bool
    is_unwanted: bool
    acts: frozenset[Act]

    @property
    def is_defined_by_us(self) -> bool:
        """Whether what the target has of it may be ours."""
        return Act.DEFINE_TARGET in self.acts

    @property
    def goes_back(self) -> bool:
        return Act.GIVE_UP in self.acts


@dataclass(frozen=True, kw_only=True)
class ColdRuling:
    """What comes next and why; `code` where somebody has to know."""

    next: Next
    meaning: str
    code: str = ""


def cold_rule(source: Look, target: Look, trail: ColdTrail) -> ColdRuling:
    """The ruling for one pair of looks, taken at about the same time."""
    unsettled = _unsettled(source) or _unsettled(target)
    if unsettled is not None:
        return unsettled
    if source.is_here and target.is_here:
        return _say(
            Next.ASK, f"it is active on {source.host} and on {target.host}", "vm.two_copies"
        )
    rules = _BACK if trail.goes_back else _FORTH
    return rules[_state(source), _state(target)](source, target, trail)


def _unsettled(look: Look) -> ColdRuling | None:
    """Why nothing can be said yet about this host."""
    if look.presence is Presence.SILENT:
        return _say(Next.WAIT, f"{look.host} does not answer", "host.silent")
    if look.job is not Job.NONE:
        return _say(Next.WAIT, f"another job has it on {look.host}", "vm.busy")
    if look.has_process and look.presence in (Presence.ABSENT, Presence.SHUT_OFF):
        return _say(Next.WAIT, f"a process of it is left on {look.host}", "host.not_empty")
    return None


class _State(StrEnum):
    ACTIVE = "active"
    OFF = "off"
    ABSENT = "absent"


def _state(look: Look) -> _State:
    if look.is_here:
        return _State.ACTIVE
    return _State.OFF if look.presence is Presence.SHUT_OFF else _State.ABSENT


def _say(which: Next, meaning: str, code: str = "") -> ColdRuling:
    return ColdRuling(next=which, meaning=meaning, code=code)


# --- forth ---------------------------------------------------------------------------------------


def _active_at_home(source: Look, _target: Look, trail: ColdTrail) -> ColdRuling:
    if trail.has_to_run and Act.COPY_STATE not in trail.acts:
        return _say(Next.STOP, "it runs, and has to be off to be moved")
    return _say(Next.CHANGED, f"somebody started it on {source.host}")


def _active_and_defined(source: Look, target: Look, trail: ColdTrail) -> ColdRuling:
    if trail.is_defined_by_us:
        return _say(
            Next.REMOVE_TARGET,
            f"it is active on {source.host}, and what {target.host} has of it is ours",
        )
    return _say(Next.REFUSED, f"something of it is on {target.host}", "target.refused")


def _off_at_home(source: Look, _target: Look, trail: ColdTrail) -> ColdRuling:
    if trail.has_to_run and not trail.was_stopped:
        return _say(Next.CHANGED, "it was off when its turn came")
    if trail.has_to_run and source.why in (Why.CRASHED, Why.FAILED):
        return _say(Next.CHANGED, "it died instead of shutting down")
    if source.has_managed_save:
        return _say(
            Next.REFUSED,
            f"its memory was saved on {source.host} and would be lost",
            "vm.managed_save",
        )
    if trail.is_unwanted:
        return _say(Next.REFUSED, "the operation is being cancelled", "cancelled")
    return _say(Next.COPY, f"it is off on {source.host}")


def _defined_on_both(_source: Look, target: Look, trail: ColdTrail) -> ColdRuling:
    if trail.is_defined_by_us:
        return _say(Next.UNDEFINE_SOURCE, f"its definition was seen on {target.host}")
    return _say(Next.REFUSED, f"something of it is on {target.host}", "target.refused")


def _active_on_target(_source: Look, target: Look, trail: ColdTrail) -> ColdRuling:
    if trail.is_defined_by_us:
        return _say(Next.UNDEFINE_SOURCE, f"it was seen active on {target.host}")
    return _say(Next.CHANGED, f"somebody started it on {target.host}")


def _only_on_target(source: Look, target: Look, trail: ColdTrail) -> ColdRuling:
    if not trail.is_defined_by_us:
        return _say(Next.GONE, f"{source.host} does not know it any more")
    if not trail.has_to_run:
        return _say(Next.MOVED, f"{target.host} has it, {source.host} is rid of it")
    if Act.START_TARGET in trail.acts and target.why in (Why.SHUTDOWN, Why.DESTROYED):
        return _say(Next.CHANGED, f"it was started on {target.host} and stopped there since")
    return _say(Next.START_TARGET, f"only {target.host} has it, where it is off")


def _runs_on_target(source: Look, target: Look, trail: ColdTrail) -> ColdRuling:
    if trail.is_defined_by_us:
        return _say(Next.MOVED, f"it is active on {target.host}, {source.host} is rid of it")
    return _say(Next.GONE, f"{source.host} does not know it any more")


def _nowhere(source: Look, target: Look, _trail: ColdTrail) -> ColdRuling:
    return _say(Next.GONE, f"neither {source.host} nor {target.host} knows it")


# --- back ----------------------------------------------------------------------------------------


def _home_again(source: Look, _target: Look, _trail: ColdTrail) -> ColdRuling:
    return _say(Next.AT_HOME, f"it is active on {source.host}")


def _home_and_defined(source: Look, target: Look, trail: ColdTrail) -> ColdRuling:
    if trail.is_defined_by_us:
        return _say(Next.REMOVE_TARGET, f"it was seen on {source.host}")
    if source.is_here:
        return _say(Next.AT_HOME, f"it is active on {source.host}")
    return _say(
        Next.ASK, f"both {source.host} and {target.host} have it, and we made neither", "vm.changed"
    )


def _off_again(source: Look, _target: Look, trail: ColdTrail) -> ColdRuling:
    if trail.has_to_run:
        return _say(Next.START_SOURCE, f"it is back on {source.host}, and ran before")
    return _say(Next.AT_HOME, f"it is off on {source.host}, as before")


def _to_bring_home(_source: Look, target: Look, _trail: ColdTrail) -> ColdRuling:
    return _say(Next.DEFINE_SOURCE, f"only {target.host} has it, where it cannot stay")


_FORTH = {
    (_State.ACTIVE, _State.ABSENT): _active_at_home,
    (_State.ACTIVE, _State.OFF): _active_and_defined,
    (_State.OFF, _State.ABSENT): _off_at_home,
    (_State.OFF, _State.OFF): _defined_on_both,
    (_State.OFF, _State.ACTIVE): _active_on_target,
    (_State.ABSENT, _State.OFF): _only_on_target,
    (_State.ABSENT, _State.ACTIVE): _runs_on_target,
    (_State.ABSENT, _State.ABSENT): _nowhere,
}
_BACK = {
    **_FORTH,
    (_State.ACTIVE, _State.ABSENT): _home_again,
    (_State.ACTIVE, _State.OFF): _home_and_defined,
    (_State.OFF, _State.ABSENT): _off_again,
    (_State.OFF, _State.OFF): _home_and_defined,
    (_State.ABSENT, _State.OFF): _to_bring_home,
}
