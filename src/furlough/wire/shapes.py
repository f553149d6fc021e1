"""What all JSON shapes have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from furlough.core.vm_policy import word_of

Name = Annotated[str, Field(min_length=1, max_length=63)]
# A name that is part of an address, and of nothing that could be a path or an option.
AddressableName = Annotated[
    str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")
]
Text = Annotated[str, Field(max_length=1000)]
# A VM by its name, which may be long and strange, or by its UUID.
VmName = Annotated[str, Field(min_length=1, max_length=1024)]
PathText = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00-\x1f\x7f]*$")]
# Seconds, at most a leap year; 0 or less: no timeout.
TimeoutS = Annotated[float, Field(le=31_622_400)]

# A setting of a VM's policy, as people and TOML write it.
PolicyValue = (
    bool
    | Annotated[int, Field(ge=0, le=10**9)]
    | Annotated[str, Field(max_length=16_384)]
    | Annotated[list[Name], Field(max_length=256)]
)


def policy_word(value: PolicyValue) -> str:
    """A setting as a VM or a cluster carries it."""
    return ",".join(value) if isinstance(value, list) else word_of(value)


class Body(BaseModel):
    """What a client sends: unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class View(BaseModel):
    """What a client gets."""

    model_config = ConfigDict(from_attributes=True)
