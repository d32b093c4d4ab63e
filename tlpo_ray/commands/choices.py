"""Values of options that several commands share: one of a few words, or `key=value`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args

import yaml

from detectors import English
from tlpo_ray.config.yaml_text import parse_value, yaml_problem
from tlpo_ray.errors import UserError

Choice = TypeVar("Choice", bound=str)


def choose(option: str, value: str, choices: tuple[Choice, ...]) -> Choice:
    """Return the choice that equals an option's value.

    Raises:
        UserError: The value is not one of the choices.
    """
    for choice in choices:
        if choice == value:
            return choice
    raise UserError(f"{option} {value}: expected {', '.join(choices[:-1])} or {choices[-1]}")


def english_setting(value: str) -> English:
    """Return the value of `--english`.

    Raises:
        UserError: It is neither of the two settings.
    """
    setting: English = choose("--english", value, get_args(English))
    return setting


def segments_setting(given: Sequence[str] | None) -> Mapping[str, str] | None:
    """Return the parts of an answer and how each is judged, as `--segment part=language` names them.

    Raises:
        UserError: One of them is not `part=language`.
    """
    segments: dict[str, str] = {}
    for setting in given or ():
        part, equals, value = setting.partition("=")
        if not equals or not part.strip() or not value.strip():
            raise UserError(f"--segment {setting}: expected part=language, e.g. thoughts=en or tool_calls=exempt")
        segments[part.strip()] = value.strip()
    return segments or None


def detector_settings(given: Sequence[str]) -> dict[str, Any]:
    """Return the detector settings of `--set key=value`, with values as in a configuration file.

    Raises:
        UserError: One of them is not `key=value`, or its value is not YAML.
    """
    settings: dict[str, Any] = {}
    for setting in given:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {setting}: expected key=value, e.g. hanja_in_brackets=exempt")
        try:
            settings[key.strip()] = parse_value(text)
        except yaml.YAMLError as error:
            raise UserError(f"--set {setting}: the value is not YAML ({yaml_problem(error)}); quote it") from error
    return settings
