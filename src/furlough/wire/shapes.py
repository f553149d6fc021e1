"""What all JSON shapes have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(min_length=1, max_length=63)]
Text = Annotated[str, Field(max_length=1000)]


class Body(BaseModel):
    """What a client sends: unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class View(BaseModel):
    """What a client gets."""

    model_config = ConfigDict(from_attributes=True)
