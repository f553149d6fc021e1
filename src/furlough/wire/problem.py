"""Errors and health."""

from __future__ import annotations

from typing import Any, Literal

from furlough.wire.plans import FindingView, PlanView
from furlough.wire.shapes import View


class Problem(View):
    """An error, as RFC 9457 has it. `kind` says what a caller can do; `code` is stable."""

    type: str
    title: str
    status: int
    detail: str
    kind: str
    code: str
    remedy: str = ""
    operation: str | None = None
    findings: list[FindingView] | None = None
    plan: PlanView | None = None
    errors: list[dict[str, Any]] | None = None


class Health(View):
    """Whether the daemon lives, and which one it is."""

    status: Literal["ok"]
    version: str
