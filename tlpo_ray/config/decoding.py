"""How answers are decoded: sampled from the model unchanged, or with a method against confusion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, ValidationError

from tlpo_ray.config.fields import Positive, Section
from tlpo_ray.errors import UserError

DecodingMethod = Literal["plain", "greedy", "prompt", "mask", "gate", "boost", "retry"]
RuleMethod = Literal["mask", "gate", "boost"]
"""Methods that change the logits of each token before it is sampled."""
METHODS: tuple[DecodingMethod, ...] = get_args(DecodingMethod)
RULES: tuple[RuleMethod, ...] = get_args(RuleMethod)
ABOUT: dict[DecodingMethod, str] = {
    "plain": "sampled from the model unchanged",
    "greedy": "always the most probable token",
    "prompt": "an instruction to stay in the language",
    "mask": "no token with a letter of a foreign script",
    "gate": "the same, only where such tokens are probable, and not within a foreign word",
    "boost": "tokens of the language made more probable where foreign ones are probable",
    "retry": "cut back at the first confused token, and sampled again without it",
}
"""What each method does, for tables and help."""
SETTING_OF: Mapping[str, str] = {"boost": "alpha", "gate": "top_k", "retry": "max_retries"}
"""The setting of each method that has one."""


class DecodingConfig(Section):
    """A decoding method and its settings. No method trains anything.

    Example: ``DecodingConfig.parse("boost:alpha=4")``
    """

    method: DecodingMethod = "plain"
    """Method, one of `METHODS`."""
    alpha: Annotated[float, Field(gt=0, le=1000)] = 8.0
    """`boost`: largest amount, in nats, by which the logits of the language's tokens rise."""
    top_k: Positive = 10
    """`gate`: number of most probable tokens that are looked at."""
    max_retries: Positive = 64
    """`retry`: most tokens that are taken back in one answer; the answer then stays as it is."""

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        setting = SETTING_OF.get(self.method)
        if setting is None or getattr(self, setting) == type(self).model_fields[setting].default:
            return self.method
        return f"{self.method}:{setting}={getattr(self, setting)!r}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the settings that a command line names, e.g. `mask` or `gate:top_k=20`.

        Raises:
            UserError: The method does not exist, it does not have the setting, or a value is not allowed.
        """
        method, colon, setting = text.partition(":")
        key, _, value = setting.partition("=")
        allowed = SETTING_OF.get(method)
        if colon and method in METHODS and key != allowed:
            expected = f"{method} alone" if allowed is None else f"e.g. {method}:{allowed}={getattr(cls(), allowed):g}"
            raise UserError(f"--decoding {text}: {setting!r} is not a setting of {method}; expected {expected}")
        try:
            return cls.model_validate({"method": method, **({key: value} if colon else {})}, strict=False)
        except ValidationError as error:
            first = error.errors()[0]
            what = f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}"
            if first["loc"] == ("method",):
                what = f"expected one of {', '.join(METHODS)}"
            raise UserError(f"--decoding {text}: {what}") from error


def decoding_method(text: str) -> str:
    """Return a decoding method as it was written, checked for a configuration.

    Raises:
        ValueError: `DecodingConfig.parse` does not take it.
    """
    try:
        DecodingConfig.parse(text)
    except UserError as error:
        raise ValueError(str(error)) from error
    return text
