"""Diagrams and tables of the states, from the transition tables of the core."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from functools import partial
from typing import TypeVar

from furlough.core.plan import Handover, Method, OperationKind
from furlough.core.states import (
    HOST_MODES,
    OPERATION_STATES,
    STEP_STATES,
    Guard,
    HostMode,
    OperationState,
    Power,
    Reachability,
    StepState,
)
from scripts.reference.tables import code, merged

S = TypeVar("S", bound=StrEnum)


def _diagram(transitions: Mapping[S, Iterable[S]], first: S, _old: str) -> str:
    """A state diagram; states that nothing follows lead to its end."""
    lines = ["stateDiagram-v2", f"    [*] --> {first.value}"]
    for state, followers in transitions.items():
        ordered = _in_order(state, followers)
        lines += [f"    {state.value} --> {follower}" for follower in ordered or ["[*]"]]
    return "```mermaid\n" + "\n".join(lines) + "\n```"


def _in_order(state: S, followers: Iterable[S]) -> list[str]:
    """Sets have no order; the enumeration has."""
    wanted = set(followers)
    return [one.value for one in type(state) if one in wanted]


def _meanings(transitions: Mapping[S, Iterable[S]], old: str) -> str:
    rows = [
        (code(state.value), ", ".join(code(one) for one in _in_order(state, followers)) or "final")
        for state, followers in transitions.items()
    ]
    return merged(old, ("state", "then", "meaning"), rows, by_hand=1)


def _words(kind: type[StrEnum], old: str) -> str:
    return merged(old, ("word", "meaning"), [(code(one.value),) for one in kind], by_hand=1)


BLOCKS: Mapping[str, Callable[[str], str]] = {
    "host diagram": partial(_diagram, HOST_MODES, HostMode.AVAILABLE),
    "host modes": partial(_meanings, HOST_MODES),
    "operation diagram": partial(_diagram, OPERATION_STATES, OperationState.QUEUED),
    "operation states": partial(_meanings, OPERATION_STATES),
    "step diagram": partial(_diagram, STEP_STATES, StepState.PENDING),
    "step states": partial(_meanings, STEP_STATES),
    "reachability": partial(_words, Reachability),
    "guard": partial(_words, Guard),
    "power": partial(_words, Power),
    "operation kinds": partial(_words, OperationKind),
    "methods": partial(_words, Method),
    "handover": partial(_words, Handover),
}
