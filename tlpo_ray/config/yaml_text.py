"""YAML as users expect it: `5e-7` is a number, `no` is Norwegian, and a key that is given twice is an error."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

_DIGITS = "0123456789"
_FLOAT = r"[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)\Z"
# The scalars of YAML 1.2's JSON schema. PyYAML implements YAML 1.1, where 5e-7 is text and `no` is false.
_SCALARS: tuple[tuple[str, str, list[str]], ...] = (
    ("null", r"(?:~|null|)\Z", ["~", "n", ""]),
    ("bool", r"(?:true|True|false|False)\Z", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,4000})\Z", list(f"-+{_DIGITS}")),  # Python refuses more digits
    ("float", _FLOAT, list(f"-+.{_DIGITS}")),
    ("merge", r"<<\Z", ["<"]),
)  # fmt: skip
_WIDTH = 1 << 30
"""Line width at which PyYAML folds; never reached, because a folded string is not always read back equal."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars above, which refuses a key that is given twice."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own name)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, which quotes text that either version of YAML would read as something else."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # PyYAML writes some control characters as they are and reads them as line breaks; double quotes escape them.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _represent_text)

for _tag, _pattern, _first in _SCALARS:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


def parse_document(text: str) -> Any:
    """Return the value of a YAML document.

    Raises:
        yaml.YAMLError: The text is not YAML; `yaml_problem` describes why.
    """
    try:
        return yaml.load(text, _Loader)
    except (ValueError, AttributeError, RecursionError) as error:  # PyYAML on `!!int x`, `!!timestamp x`, `[[[[…`
        raise yaml.YAMLError(f"a value is not what its tag says, or nested too deeply ({error})") from error


def parse_value(text: str) -> Any:
    """Return the value of a setting from the command line: a plain scalar, or a quoted text, list or mapping.

    Only text that begins with a bracket or a quote is parsed as YAML, so that `Answer: in Korean # please` stays one
    text.

    Raises:
        yaml.YAMLError: A list, mapping or quoted text is not closed.
    """
    if text.lstrip().startswith(("[", "{", '"', "'")):
        return parse_document(text)
    loader = _Loader("")
    tag = loader.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    return loader.construct_object(yaml.ScalarNode(tag, text))


def dump_document(value: Any) -> str:
    """Return a value as YAML, with keys in their order; `parse_document` reads it back equal."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH)


def yaml_problem(error: yaml.YAMLError) -> str:
    """Return a syntax error in one line, e.g. `line 3: mapping values are not allowed here`."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return " ".join(str(error).split())
