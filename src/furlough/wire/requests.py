"""What a client may ask for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from furlough.core.doors import MAY_BE_LEFT_OPEN
from furlough.core.ids import VmId, parse_host_name
from furlough.core.policy import (
    ActionOptions,
    Automation,
    CancelMode,
    EnterOptions,
    OnFailure,
    Order,
    Scope,
    StorageMode,
)
from furlough.wire.exits import ExitBody
from furlough.wire.shapes import Body, Name, PolicyValue, Text, TimeoutS, VmName, policy_word

Code = Annotated[str, Field(min_length=1, max_length=64)]


class EnterBody(Body):
    """Options of entering maintenance. null: the default of the cluster, or else of the daemon.
    A timeout of 0 or less means none. `wait`: false only with `automation` off; `within_cluster`:
    nobody moves to another cluster, whatever the cluster allows."""

    timeout_s: float | None = None
    scope: Scope | None = None
    automation: Automation | None = None
    on_failure: OnFailure | None = None
    storage: StorageMode | None = None
    wait: bool = True
    within_cluster: bool = False
    target_hosts: list[Name] = Field(default_factory=list, max_length=10_000)
    shut_down: list[VmName] = Field(default_factory=list, max_length=10_000)
    override: list[Code] = Field(default_factory=list, max_length=100)
    strict: list[Code] = Field(default_factory=list, max_length=100)
    order: Order | None = None
    reason: Text = ""
    ticket: Text = ""
    purpose: Text = ""

    def to_core(self) -> EnterOptions:
        """The options, with the VMs as the client named them: the service finds out which."""
        plain = {"reason", "ticket", "purpose", "wait", "within_cluster"}
        words = self.model_dump(include={*plain, *MAY_BE_LEFT_OPEN})
        return EnterOptions(
            **{name: word for name, word in words.items() if word is not None},
            left_open=tuple(name for name in MAY_BE_LEFT_OPEN if words[name] is None),
            target_hosts=tuple(parse_host_name(name) for name in self.target_hosts),
            shut_down=tuple(VmId(name) for name in self.shut_down),
            override=tuple(dict.fromkeys(self.override)),
            strict=tuple(dict.fromkeys(self.strict)),
        )


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


class PolicyBody(Body):
    """Settings that travel with a VM, by name; those that are not named stay. null: the default
    holds again."""

    policy: Annotated[dict[str, PolicyValue | None], Field(min_length=1, max_length=64)]

    def to_core(self) -> dict[str, str | None]:
        """Each setting as a word."""
        return {
            name: None if value is None else policy_word(value)
            for name, value in self.policy.items()
        }


class CancelBody(Body):
    """How to cancel. `plan_hash`: with mode `put_back`, by this plan and no other."""

    mode: CancelMode = CancelMode.STOP
    plan_hash: str | None = Field(default=None, max_length=64)


class ApproveBody(Body):
    """What is approved: the plan of this hash (null: the present one), all of its steps that wait
    or those with these ids."""

    plan_hash: str | None = Field(default=None, max_length=64)
    steps: list[Annotated[str, Field(min_length=1, max_length=64)]] = Field(
        default_factory=list, max_length=10_000
    )


HostNames = Annotated[list[Name], Field(min_length=1, max_length=10_000)]


class CheckBody(Body):
    """A precheck of entering these hosts together."""

    hosts: HostNames
    options: EnterBody = Field(default_factory=EnterBody)


class PlanBody(CheckBody):
    """A plan of entering these hosts together; `restore`: and of the way back."""

    restore: bool = False


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
    """Cordon or uncordon one host, or reboot it or switch it off in maintenance."""

    kind: Literal["cordon", "uncordon", "reboot_host", "power_off_host"]
    hosts: Annotated[list[Name], Field(min_length=1, max_length=1)]
    options: ActionBody = Field(default_factory=ActionBody)


OperationBody = Annotated[
    EnterOperation | ExitOperation | HostOperation, Field(discriminator="kind")
]
