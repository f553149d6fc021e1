"""Remedies and the preparation of hosts: what is asked, what would change, what was done."""

from __future__ import annotations

from pydantic import Field

from furlough.planning.remedies import Change, Remedy
from furlough.wire.operations import OperationView
from furlough.wire.requests import EnterBody
from furlough.wire.shapes import Body, View


class ApplyBody(Body):
    """Apply the remedy against findings of this code. `options`: those of the precheck that gave
    the findings; `dry_run`: only say what would change."""

    code: str = Field(min_length=1, max_length=64)
    options: EnterBody = Field(default_factory=EnterBody)
    dry_run: bool = False


class UndoBody(Body):
    """Put back what remedies have taken out on a host; `dry_run`: only say what would change."""

    dry_run: bool = False


class ChangeView(View):
    """One thing that changes: about a drive of a VM, or about the host itself."""

    remedy: Remedy
    host: str
    vm_uuid: str | None
    vm_name: str
    drive: str
    medium: str
    what: str
    undo: str


class AppliedView(View):
    """What changes, and the operation that does it where it takes one. `trouble`: why the guard
    of a host is not proven after its preparation; empty otherwise."""

    changes: list[ChangeView]
    operation: OperationView | None
    trouble: str


class PreparedView(View):
    """How the preparation of a host ended. `trouble`: why its guard cannot be relied on; empty
    if its hook was seen to refuse."""

    host: str
    is_proven: bool
    trouble: str
    remedy: str


def change_view(one: Change) -> ChangeView:
    return ChangeView(
        remedy=one.remedy,
        host=one.host,
        vm_uuid=one.vm,
        vm_name=one.vm_name,
        drive=one.drive,
        medium=one.medium,
        what=one.what,
        undo=one.undo,
    )
