"""What the recipe's fields may hold, and how strict its sections are."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Plugin = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
Annotators = Annotated[str, StringConstraints(pattern=r"^(?:people|endpoint|stand_in|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$")]
RewardName = Annotated[str, StringConstraints(pattern=r"^(?:[A-Za-z_][\w.]*:[A-Za-z_]\w*|https?://\S+|.*[/\\].*)$")]
Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0.0, le=1.0)]
StopStrings = tuple[Annotated[str, StringConstraints(min_length=1)], ...]


class Section(BaseModel):
    """Strict and frozen: an unknown key or a wrong type is an error, a recipe never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
