"""What a client may ask for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from furlough.core.ids import parse_host_name
from furlough.core.policy import (
    ActionOptions,
    CancelMode,
    EnterOptions,
    ExitOptions,
    RestoreMode,
)
from furlough.wire.shapes import Body, Name, Text, TimeoutS


class EnterBody(Body):
    """Options of entering maintenance. A timeout of 0 or less means none; null, the default."""

    timeout_s: float | None = None
    target_hosts: list[Name] = Field(default_factory=list, max_length=10_000)
    reason: Text = ""
    ticket: Text = ""
    purpose: Text = ""

    def to_core(self) -> EnterOptions:
        rest = self.model_dump(exclude={"target_hosts", "plan_hash"})
        targets = tuple(parse_host_name(name) for name in self.target_hosts)
        return EnterOptions(**rest, target_hosts=targets)


class ExitBody(Body):
    """Options of exiting maintenance."""

    restore: RestoreMode = RestoreMode.RECORDED
    timeout_s: float = 0
    reason: Text = ""
    ticket: Text = ""

    def to_core(self) -> ExitOptions:
        return ExitOptions(**self.model_dump(exclude={"plan_hash"}))


class ActionBody(Body):
    """Options of a request about one host or one VM."""

    target: Name | None = None
    grace_s: float = Field(default=120, gt=0, le=86_400)
    timeout_s: TimeoutS = 0
    reason: Text = ""

    def to_core(self) -> ActionOptions:
        rest = self.model_dump(exclude={"target"})
        target = None if self.target is None else parse_host_name(self.target)
        return ActionOptions(**rest, target=target)


class CancelBody(Body):
    """How to cancel."""

    mode: CancelMode = CancelMode.STOP


HostNames = Annotated[list[Name], Field(min_length=1, max_length=10_000)]


class CheckBody(Body):
    """A precheck of entering these hosts together."""

    hosts: HostNames
    options: EnterBody = Field(default_factory=EnterBody)


class EnterRequest(EnterBody):
    """Enter one host; `plan_hash`: by this plan and no other."""

    plan_hash: str | None = Field(default=None, max_length=64)


class ExitRequest(ExitBody):
    """Exit one host; `plan_hash`: by this plan and no other."""

    plan_hash: str | None = Field(default=None, max_length=64)


class EnterOperation(Body):
    """Enter these hosts together."""

    kind: Literal["enter"]
    hosts: HostNames
    options: EnterBody = Field(default_factory=EnterBody)
    plan_hash: str | None = Field(default=None, max_length=64)


class ExitOperation(Body):
    """Exit these hosts together."""

    kind: Literal["exit"]
    hosts: HostNames
    options: ExitBody = Field(default_factory=ExitBody)
    plan_hash: str | None = Field(default=None, max_length=64)


class HostOperation(Body):
    """Cordon or uncordon one host."""

    kind: Literal["cordon", "uncordon"]
    hosts: Annotated[list[Name], Field(min_length=1, max_length=1)]
    options: ActionBody = Field(default_factory=ActionBody)


OperationBody = Annotated[
    EnterOperation | ExitOperation | HostOperation, Field(discriminator="kind")
]
