"""From a YAML file or preset and `key=value` settings to one `RunConfig`, and back."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from tlpo_ray.config.renamed import with_current_names
from tlpo_ray.config.run import RunConfig, Section
from tlpo_ray.config.yaml_text import dump_document, parse_document, parse_value, where_and_what
from tlpo_ray.errors import ConfigError

PRESETS = Path(__file__).with_name("presets")
YAML_SUFFIXES = (".yaml", ".yml")
EXTENDS = "extends"
"""Key of a YAML file that names the preset or file (relative to it) under which its own keys are laid."""
SHOWN_ERRORS = 3
SHOWN_CHARACTERS = 60
CLOSE = 0.6
"""Similarity from which a known name is suggested for an unknown one (difflib's ratio)."""

Root = TypeVar("Root", bound=Section)
Settings = dict[str, Any]
"""Nested by section: `{"learner": {"lr": 1e-6}}`."""


def load_config(name: str, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration of a run.

    Args:
        name: a YAML file or a preset.
        overrides: `learner.lr=1e-6`, laid over it in their order; lists and mappings as YAML or JSON.

    Raises:
        ConfigError: one line that says which key, what was found and what is allowed.
    """
    return build_config(RunConfig, read_settings(name), overrides, source=name)


def read_settings(name: str, folder: Path = PRESETS) -> Settings:
    """What a YAML file or a preset in `folder` says, with all that it extends; nothing is checked yet.

    Raises:
        ConfigError: there is no such file, or it is not YAML.
    """
    return _read(_find(name, Path(), folder), (), folder)


def build_config(root: type[Root], settings: Settings, overrides: Sequence[str] = (), *, source: str) -> Root:
    """The configuration that nested settings and the overrides laid over them make.

    Args:
        root: what is configured.
        source: where the settings come from, for errors.

    Raises:
        ConfigError: as `load_config`.
    """
    for override in overrides:
        settings = _merge(settings, _parse_override(override))
    # So that what is missing is named `model.path`, not `model`.
    required: Settings = {
        key: {}
        for key, field in root.model_fields.items()
        if field.is_required() and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    try:
        return root.model_validate(required | settings)
    except ValidationError as error:
        raise _refusal(f"{source}: {_in_one_line(error, root)}") from error


def sets(overrides: Sequence[str], key: str) -> bool:
    """Whether settings name a key, `rollout.num_actors` say.

    Raises:
        ConfigError: they are no settings.
    """
    found: Any = {}
    for override in overrides:
        found = _merge(found, _parse_override(override))
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return False
        found = found[part]
    return True


def dump_config(config: Section) -> str:
    """YAML with every key in its declared order; `load_config` reads it back equal."""
    return dump_document(config.model_dump(mode="json"))


def presets(folder: Path = PRESETS) -> list[str]:
    """Names of the presets, sorted; those that only others extend (`_name`) are left out."""
    return sorted(file.stem for file in folder.glob("*.yaml") if not file.stem.startswith("_"))


def _find(name: str, folder: Path, presets_in: Path) -> Path:
    """The file of a path (relative to `folder`) or of a preset."""
    path = folder / name
    if path.is_file():
        return path
    if name.endswith(YAML_SUFFIXES) or "/" in name:
        raise _refusal(f"{path}: no such file; give a YAML file or a preset (`tlpo config` lists them)")
    preset = presets_in / f"{name}.yaml"
    if not preset.is_file():
        known = presets(presets_in)
        there_are = "`tlpo config` lists the presets" if presets_in == PRESETS else f"there are {', '.join(known)}"
        raise _refusal(f"{name}: no preset and no file of that name; {_suggestion(name, known)}{there_are}")
    return preset


def _read(file: Path, below: tuple[Path, ...], presets_in: Path) -> Settings:
    """The settings of a file over those it extends; `below` are the files that led here."""
    if file.resolve() in below:
        raise _refusal(f"{file}: `{EXTENDS}` leads back to this file")
    try:
        document = parse_document(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise _refusal(f"{file} {where_and_what(error)}") from error
    except UnicodeDecodeError as error:
        raise _refusal(f"{file}: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise _refusal(f"{file}: {error.strerror}") from error
    if not isinstance(document, dict | None):
        raise _refusal(f"{file}: expected `key: value` lines, found {_shown(document)}")
    settings = document or {}
    base = settings.pop(EXTENDS, None)
    if base is not None and not isinstance(base, str):
        raise _refusal(f"{file}: `{EXTENDS}` expected one preset or file, found {_shown(base)}")
    merged = _read(_find(base, file.parent, presets_in), (*below, file.resolve()), presets_in) if base else {}
    own: Settings = {}
    for key, value in settings.items():
        own = _merge(own, _nested(str(key), value))
    return _merge(merged, with_current_names(own))


def _parse_override(override: str) -> Settings:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise _refusal(f"{override}: expected key=value, e.g. learner.lr=1e-6")
    try:
        return with_current_names(_nested(key.strip(), parse_value(text)))
    except yaml.YAMLError as error:
        raise _refusal(f"{override}: the value is not YAML ({where_and_what(error)}); quote it") from error


def _nested(key: str, value: Any) -> Settings:
    """`a.b` and 1 as `{"a": {"b": 1}}`."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> Settings:
    """Mappings are merged key by key; of anything else the upper one stays."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _refusal(message: str) -> ConfigError:
    """One line, whatever keys and values hold."""
    return ConfigError("".join(char if char.isprintable() else "�" for char in message))


def _in_one_line(error: ValidationError, root: type[BaseModel]) -> str:
    said = [_said(root, part["type"], part["loc"], part.get("input"), part["msg"]) for part in error.errors()]
    more = len(said) - SHOWN_ERRORS
    return "; ".join(said[:SHOWN_ERRORS]) + (f"; and {more} more" if more > 0 else "")


def _said(root: type[BaseModel], kind: str, location: Iterable[int | str], value: Any, message: str) -> str:
    """One of pydantic's errors in words of ours."""
    key = ".".join(str(part) for part in location)
    match kind:
        case "extra_forbidden":
            return f"unknown key {key}" + f"; {_suggestion(key, _keys(root))}".rstrip("; ")
        case "missing":
            return f"{key} is missing: set it in the file or with {key}=…"
        case "value_error":
            return message.removeprefix("Value error, ")
        case "string_type" if isinstance(value, int | float):
            return f"{key} is {_shown(value)}: expected text; quote it"
        case "tuple_type":
            return f"{key} is {_shown(value)}: expected a list such as [a, b]"
        case "model_type" | "dict_type":
            return f"{key} is {_shown(value)}: expected keys and values"
        case _:
            return f"{key} is {_shown(value)}: {message.replace('Input should be', 'expected', 1)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def _keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every dotted key of a section and of those inside it."""
    for name, field in section.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, f"{prefix}{name}.")


def _suggestion(unknown: str, known: Iterable[str]) -> str:
    """`did you mean learner.lr? `, or nothing. The last part counts alone too: `rollout.lr` finds learner.lr."""

    def closeness(name: str) -> tuple[float, float]:
        whole, last = _ratio(unknown, name), _ratio(unknown.rpartition(".")[2], name.rpartition(".")[2])
        return max(whole, last), whole

    best = max(known, key=closeness, default="")
    return f"did you mean {best}? " if best and closeness(best)[0] >= CLOSE else ""


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()
