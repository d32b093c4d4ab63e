"""Read a configuration from a YAML file or preset and `key=value` overrides, and write it back as YAML."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from tlpo_ray.config.fields import Section
from tlpo_ray.config.renamed import RUN_KEYS, with_current_names
from tlpo_ray.config.run import RunConfig
from tlpo_ray.config.yaml_text import dump_document, parse_document, parse_value, yaml_problem
from tlpo_ray.errors import ConfigError

PRESETS = Path(__file__).with_name("presets")
"""Folder of the presets of runs."""
YAML_SUFFIXES = (".yaml", ".yml")
EXTENDS = "extends"
"""Key of a YAML file that names its base: a preset, or a file relative to it. The file's own keys override the base."""
MAX_ERRORS = 3
"""Most errors that one message describes; it counts the others."""
MAX_VALUE_LENGTH = 60
"""Characters of a value that a message shows."""
MIN_SIMILARITY = 0.6
"""Similarity (difflib's ratio) from which a known key is suggested for an unknown one."""

Root = TypeVar("Root", bound=Section)
Settings = dict[str, Any]
"""Settings nested by section, e.g. `{"learner": {"lr": 1e-6}}`; not validated."""


def load_config(name: str, overrides: Sequence[str] = ()) -> RunConfig:
    """Return the configuration of a run.

    Args:
        name: A YAML file or a preset.
        overrides: `key=value` settings that override it, in their order, e.g. `learner.lr=1e-6`; lists and mappings
            are given as YAML or JSON.

    Raises:
        ConfigError: The configuration is wrong; one line names the key, the value and what is allowed.
    """
    return build_config(RunConfig, read_settings(name), overrides, source=name)


def read_settings(name: str, folder: Path = PRESETS, renamed: Mapping[str, str] = RUN_KEYS) -> Settings:
    """Return the settings of a YAML file or preset, merged with all that it extends; nothing is validated yet.

    Args:
        name: A YAML file, or a preset in `folder`.
        folder: Folder of the presets.
        renamed: Keys of earlier releases, each with its name now.

    Raises:
        ConfigError: The file or preset does not exist, or is not YAML.
    """
    return _read(_find(name, Path(), folder), (), folder, renamed)


def build_config(root: type[Root], settings: Settings, overrides: Sequence[str] = (), *, source: str) -> Root:
    """Return the configuration that settings and overrides of them give.

    Args:
        root: Class of the configuration.
        settings: Settings nested by section.
        overrides: `key=value` settings that override them, in their order.
        source: Where the settings come from, for messages.

    Raises:
        ConfigError: The configuration is wrong; one line names the key, the value and what is allowed.
    """
    for override in overrides:
        settings = _merge(settings, _parse_override(override, root.renamed_keys))
    # With empty required sections, a message names the missing key `model.path` instead of `model`.
    required: Settings = {
        key: {}
        for key, field in root.model_fields.items()
        if field.is_required() and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    try:
        return root.model_validate(required | settings)
    except ValidationError as error:
        raise _config_error(f"{source}: {_summary(error, root)}") from error


def is_overridden(overrides: Sequence[str], key: str) -> bool:
    """Return whether overrides set a key, e.g. `rollout.num_actors`.

    Raises:
        ConfigError: An override is not of the form `key=value`.
    """
    value: Any = {}
    for override in overrides:
        value = _merge(value, _parse_override(override, RUN_KEYS))
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True


def dump_config(config: Section) -> str:
    """Return a configuration as YAML with every key in its declared order; `load_config` reads it back equal."""
    return dump_document(config.model_dump(mode="json"))


def presets(folder: Path = PRESETS) -> list[str]:
    """Return the names of the presets, sorted, without those that exist only to be extended (`_name`)."""
    return sorted(file.stem for file in folder.glob("*.yaml") if not file.stem.startswith("_"))


def _find(name: str, folder: Path, presets_in: Path) -> Path:
    """Return the file of a path, relative to `folder`, or of a preset."""
    path = folder / name
    if path.is_file():
        return path
    if name.endswith(YAML_SUFFIXES) or "/" in name:
        raise _config_error(f"{path}: no such file; give a YAML file or a preset (`tlpo config` lists them)")
    preset = presets_in / f"{name}.yaml"
    if not preset.is_file():
        known = presets(presets_in)
        available = "`tlpo config` lists the presets" if presets_in == PRESETS else f"available are {', '.join(known)}"
        raise _config_error(f"{name}: no preset or file of that name; {_suggestion(name, known)}{available}")
    return preset


def _read(file: Path, extending: tuple[Path, ...], presets_in: Path, renamed: Mapping[str, str]) -> Settings:
    """Return the settings of a file merged over those that it extends.

    Args:
        file: The file.
        extending: Files that extend it, directly or not, to find circles.
        presets_in: Folder of the presets.
        renamed: Keys of earlier releases, each with its name now.
    """
    if file.resolve() in extending:
        raise _config_error(f"{file}: `{EXTENDS}` leads back to this file")
    try:
        document = parse_document(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise _config_error(f"{file} {yaml_problem(error)}") from error
    except UnicodeDecodeError as error:
        raise _config_error(f"{file}: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise _config_error(f"{file}: {error.strerror}") from error
    if not isinstance(document, dict | None):
        raise _config_error(f"{file}: expected `key: value` lines, found {_shown(document)}")
    settings = document or {}
    base = settings.pop(EXTENDS, None)
    if base is not None and not isinstance(base, str):
        raise _config_error(f"{file}: `{EXTENDS}` expected one preset or file, found {_shown(base)}")
    merged: Settings = {}
    if base:
        merged = _read(_find(base, file.parent, presets_in), (*extending, file.resolve()), presets_in, renamed)
    own: Settings = {}
    for key, value in settings.items():
        own = _merge(own, _nested(str(key), value))
    return _merge(merged, with_current_names(own, renamed))


def _parse_override(override: str, renamed: Mapping[str, str]) -> Settings:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise _config_error(f"{override}: expected key=value, e.g. learner.lr=1e-6")
    try:
        return with_current_names(_nested(key.strip(), parse_value(text)), renamed)
    except yaml.YAMLError as error:
        raise _config_error(f"{override}: the value is not YAML ({yaml_problem(error)}); quote it") from error


def _nested(key: str, value: Any) -> Settings:
    """Return a dotted key and its value as nested settings: `a.b` and 1 as `{"a": {"b": 1}}`."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


def _merge(base: Mapping[str, Any], overriding: Mapping[str, Any]) -> Settings:
    """Return two settings merged: mappings key by key, anything else as in `overriding`."""
    merged = dict(base)
    for key, value in overriding.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _config_error(message: str) -> ConfigError:
    """Return an error with a message of one line, whatever keys and values contain."""
    return ConfigError("".join(char if char.isprintable() else "�" for char in message))


def _summary(error: ValidationError, root: type[BaseModel]) -> str:
    """Return pydantic's errors in one line."""
    messages = [_describe(root, part["type"], part["loc"], part.get("input"), part["msg"]) for part in error.errors()]
    more = len(messages) - MAX_ERRORS
    return "; ".join(messages[:MAX_ERRORS]) + (f"; and {more} more" if more > 0 else "")


def _describe(root: type[BaseModel], kind: str, location: Iterable[int | str], value: Any, message: str) -> str:
    """Return one of pydantic's errors in the words of this project's messages."""
    key = ".".join(str(part) for part in location)
    match kind:
        case "extra_forbidden":
            return f"unknown key {key}" + f"; {_suggestion(key, _keys(root))}".rstrip("; ")
        case "missing":
            return f"{key} is missing: set it in the file or with {key}=…"
        case "value_error":
            return message.removeprefix("Value error, ")
        case "string_type" if isinstance(value, int | float | Mapping | list):  # {prompt} is a mapping in YAML
            return f"{key} is {_shown(value)}: expected text; quote it"
        case "tuple_type":
            return f"{key} is {_shown(value)}: expected a list such as [a, b]"
        case "model_type" | "dict_type":
            return f"{key} is {_shown(value)}: expected keys and values"
        case _:
            return f"{key} is {_shown(value)}: {message.replace('Input should be', 'expected', 1)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MAX_VALUE_LENGTH else f"{text[:MAX_VALUE_LENGTH]}…"


def _keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of a section and of all sections inside it."""
    for name, field in section.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, f"{prefix}{name}.")


def _suggestion(unknown: str, known: Iterable[str]) -> str:
    """Return `did you mean learner.lr? ` with the most similar known key, or nothing if none is similar enough.

    The last part of a key is also compared alone, so that `rollout.lr` finds learner.lr.
    """

    def similarity(name: str) -> tuple[float, float]:
        full, last_part = _ratio(unknown, name), _ratio(unknown.rpartition(".")[2], name.rpartition(".")[2])
        return max(full, last_part), full

    best = max(known, key=similarity, default="")
    return f"did you mean {best}? " if best and similarity(best)[0] >= MIN_SIMILARITY else ""


def _ratio(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a, b).ratio()
