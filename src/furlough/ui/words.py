"""How things are said on pages: modes and states in the operator's words, lengths, sizes, instants.

Names come from strangers. Templates escape them; here, what would not be seen or would turn a line
around is shown as `?`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from markupsafe import Markup

from furlough.core.states import HostMode, OperationState

STATUS: Mapping[HostMode, str] = {
    HostMode.AVAILABLE: "Running",
    HostMode.CORDONED: "Running, takes no new VMs",
    HostMode.ENTERING: "Migrating",
    HostMode.MAINTENANCE: "Maintenance Mode",
    HostMode.EXITING: "Leaving Maintenance",
}
KINDS: Mapping[str, str] = {
    "enter": "Enter maintenance",
    "exit": "Exit maintenance",
    "restore": "Bring VMs home",
    "close_record": "Close the record",
    "cordon": "Cordon",
    "uncordon": "Uncordon",
    "start_vm": "Start VM",
    "shut_down_vm": "Shut down VM",
    "power_off_vm": "Power off VM",
    "migrate_vm": "Migrate VM",
    "reboot_host": "Reboot host",
    "power_off_host": "Power off host",
    "remedy_vm": "Apply remedy",
}
# How a state looks: calm, at work, asks for attention, wrong.
_TONES: Mapping[str, str] = {
    HostMode.AVAILABLE: "good",
    HostMode.CORDONED: "wait",
    HostMode.ENTERING: "busy",
    HostMode.MAINTENANCE: "away",
    HostMode.EXITING: "busy",
    OperationState.QUEUED: "busy",
    OperationState.RUNNING: "busy",
    OperationState.PAUSED: "wait",
    OperationState.BLOCKED: "wait",
    OperationState.CANCELLING: "wait",
    OperationState.SUCCEEDED: "good",
    OperationState.FAILED: "bad",
    OperationState.CANCELLED: "wait",
    "pending": "quiet",
    "started": "busy",
    "skipped": "wait",
    "silent": "bad",
    "connected": "good",
    "raised": "good",
    "lowered": "quiet",
    "unproven": "wait",
    "ok": "good",
    "warnings": "wait",
    "blocked": "bad",
    "blocker": "bad",
    "warning": "wait",
    "info": "quiet",
    "error": "bad",
    "shut_off": "quiet",
    "suspended": "quiet",
    "moved": "good",
    "remedied": "good",
    "stayed": "wait",
    "stopped": "quiet",
    "died": "bad",
    "missing": "bad",
}


def tone(word: str) -> str:
    """How a state, a severity or an outcome looks: good, busy, wait, bad, away or quiet."""
    return _TONES.get(word, "quiet")


def plain(word: str) -> str:
    """A word of ours as people read it: `awaiting_approval` becomes `awaiting approval`."""
    return word.replace("_", " ")


def kind(word: str) -> str:
    """What an operation does."""
    return KINDS.get(word, plain(word))


def seen(value: object) -> object:
    """What a template prints, with characters that cannot be seen shown as `?`. What is markup of
    ours stays."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    if value.isprintable():
        return value
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in value)


def mib(amount: float) -> str:
    """An amount of MiB, in the unit that fits."""
    if amount < 1024:
        return f"{amount:.0f} MiB"
    return f"{amount / 1024:.1f} GiB" if amount < 1024**2 else f"{amount / 1024**2:.1f} TiB"


def data(amount_bytes: float) -> str:
    """An amount of bytes."""
    return mib(amount_bytes / 2**20)


def lasting(length_s: float) -> str:
    """A length of time, to the precision that matters: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if length_s < 10:
        return f"{length_s:.1f} s".replace(".0 s", " s")
    whole = round(length_s)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def between(low_s: float, high_s: float) -> str:
    """A range of lengths: 12 s to 20 s; one length where both say the same."""
    low, high = lasting(low_s), lasting(high_s)
    return low if low == high else f"{low} to {high}"


def at(instant: datetime | None) -> str:
    """An instant, in UTC to the second; nothing where there is none."""
    return "" if instant is None else f"{instant:%Y-%m-%d %H:%M:%S}"


def of_day(instant: datetime | None) -> str:
    """The time of day of an instant in UTC."""
    return "" if instant is None else f"{instant:%H:%M:%S}"


def share(part: float, whole: float) -> int:
    """A part in percent of the whole, 0 to 100."""
    return round(100 * min(1.0, max(0.0, part / whole))) if whole > 0 else 0
