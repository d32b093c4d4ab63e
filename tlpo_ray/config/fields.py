"""Base class and field types that the configurations of runs, baselines and experiments share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from detectors import code_or_name
from tlpo_ray.config.plugins import ADVANTAGES, ROLLOUT_ENGINES, TRAINERS, check_plugin


class Section(BaseModel):
    """A frozen section of a configuration, which refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)
    renamed_keys: ClassVar[Mapping[str, str]] = {}
    """Keys of earlier releases, each with its name now; only of a complete configuration."""


RESUMABLE = "resumable"
"""Key in a field's `json_schema_extra` that marks a setting which may change when a run is resumed."""
Resumable = Field(json_schema_extra={RESUMABLE: True})
"""Mark of a setting that says how a run is carried out, not what its result is: it may change when a run is resumed."""

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
LanguageName = Annotated[str, AfterValidator(code_or_name)]
"""A language by its code, or by another name that is taken for the code: `ko-KR`, `Korean`."""
Seconds = Annotated[float, Field(gt=0)]


def _installed(group: str) -> Callable[[str], str]:
    """Return a validator for the name of a plugin of `group`."""

    def check(name: str) -> str:
        try:
            return check_plugin(group, name)
        except ValueError as error:
            raise PydanticCustomError("plugin", "{reason}", {"reason": str(error)}) from error

    return check


RolloutEngine = Annotated[str, AfterValidator(_installed(ROLLOUT_ENGINES))]
Trainer = Annotated[str, AfterValidator(_installed(TRAINERS))]
AdvantageForm = Annotated[str, AfterValidator(_installed(ADVANTAGES))]
