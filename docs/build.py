"""Hooks that MkDocs calls when it builds the manual (`hooks` in mkdocs.yml).

The pages in `reference/` are generated from the code: settings and presets, metrics, commands. Those in `project/` are
documents of the repository outside `docs/`. Links between all of them, and to files that are not pages, are rewritten.
"""

from __future__ import annotations

import ast
import datetime
import inspect
import logging
import posixpath
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tlpo_ray.cli import app
from tlpo_ray.config.load import EXTENDS, PRESETS
from tlpo_ray.config.run import RunConfig
from tlpo_ray.config.yaml_text import parse_document
from tlpo_ray.flow import metrics

ROOT = Path(__file__).resolve().parent.parent
PROJECT = {
    "RESULTS.md": "project/results.md",
    "PAPER.md": "project/paper.md",
    "ARCHITECTURE.md": "project/architecture.md",
    "BENCHMARKS.md": "project/benchmarks.md",
    "deploy/README.md": "project/cluster.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
}
"""Document of the repository → page of the manual."""
PAGE_OF = PROJECT | {
    "README.md": "index.md",
    "tlpo_ray/config/run.py": "reference/configuration.md",
    "tlpo_ray/flow/metrics.py": "reference/metrics.md",
    "tlpo_ray/cli/__init__.py": "reference/commands.md",
}
"""File of the repository → page that documents it."""
FENCED = re.compile(r"(^[ \t]*```[^\n]*\n.*?^[ \t]*```[ \t]*$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[([^\[\]]+)\]\(([^()\s]+)\)")
GROUP = re.compile(r"    # (.+)")
ENTRY = re.compile(r'    "(\w+)":')


def on_startup(command: str, dirty: bool) -> None:
    """Silence jieba, which logs the loading of its Chinese dictionary when the search index is built."""
    logging.getLogger("jieba").addFilter(lambda record: record.levelno >= logging.WARNING)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not files in `docs/`."""
    for uri, generate in REFERENCE.items():
        files.append(File.generated(config, uri, content=generate()))
    for name, uri in PROJECT.items():
        files.append(File.generated(config, uri, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite links that leave `docs/`: to the page about the file, else to the repository, else to plain text."""
    page_uri = page.file.src_uri
    source = next((name for name, uri in PROJECT.items() if uri == page_uri), f"docs/{page_uri}")
    pages = {f"docs/{uri}": uri for uri in files.src_uris} | PAGE_OF

    def rewrite(link: re.Match[str]) -> str:
        text, (target, hash_, anchor) = link[1], link[2].partition("#")
        if not target or ":" in target:
            return link[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if path in pages:
            return f"[{text}]({posixpath.relpath(pages[path], posixpath.dirname(page_uri) or '.')}{hash_}{anchor})"
        if config.repo_url:
            return f"[{text}]({config.repo_url.rstrip('/')}/blob/main/{path})"
        return f"`{path}`" if path.endswith(text.strip("`/")) else f"{text} (`{path}`)"

    parts = FENCED.split(markdown)
    return "".join(part if number % 2 else LINK.sub(rewrite, part) for number, part in enumerate(parts))


# Settings.


def configuration_page() -> str:
    """Return the page with every setting of a run, and the presets."""
    parts = [
        "# Configuration",
        "Every setting of a run is a key of one YAML file, or `key=value` on the command line, which has precedence. "
        "`tlpo config PRESET` prints the complete configuration; a misspelt key is refused with the closest valid one. "
        f"`{EXTENDS}: PRESET` in a file, or `{EXTENDS}:` with a path relative to it, extends another file.",
        "`none` is `null` in YAML, lists are `[a, b]`, keys and values `{a: 1}`.",
    ]
    for prefix, section in sections(RunConfig):
        name = prefix.rstrip(".")
        parts += [f"## {name or 'The run'} {{ #{name or 'run'} }}", cell(inspect.getdoc(section) or "")]
        rows = [_setting(prefix, key, section) for key, field in section.model_fields.items() if not _is_section(field)]
        parts.append(table(("key", "type", "default", "meaning"), rows))
    parts += [
        "## Presets",
        "The settings of each preset on top of the one that it builds on; all others have their defaults. Presets with "
        "a leading `_` are only built upon. Name and folder of a run, which are those of its preset, are omitted.",
        table(("preset", "builds on", "for", "sets"), map(_preset, sorted(PRESETS.glob("*.yaml"), key=_by_base))),
    ]
    return "\n\n".join(parts) + "\n"


def sections(root: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield a model and all models inside it, each with the prefix of its keys, e.g. `learner.lora.`."""
    yield prefix, root
    for name, field in root.model_fields.items():
        if (inner := _model(field.annotation)) is not None:
            yield from sections(inner, f"{prefix}{name}.")


def _model(annotation: Any) -> type[BaseModel] | None:
    """Return the model among the types of a field, if there is one."""
    options = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return next((option for option in options if isinstance(option, type) and issubclass(option, BaseModel)), None)


def _is_section(field: FieldInfo) -> bool:
    """Return whether a field is always a section, so that the keys of the section document it."""
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _setting(prefix: str, key: str, section: type[BaseModel]) -> tuple[str, str, str, str]:
    field, name = section.model_fields[key], f"{prefix}{key}"
    return (
        f"`{name}`{{ #{name} }}",
        type_in_words(field.annotation, field.metadata),
        "**required**" if field.is_required() else default_text(field.get_default(call_default_factory=True)),
        cell(field_docs(section).get(key, "")),
    )


def field_docs(section: type[BaseModel]) -> dict[str, str]:
    """Return the docstrings below a model's fields, by field."""
    (class_def,) = ast.parse(textwrap.dedent(inspect.getsource(section))).body
    assert isinstance(class_def, ast.ClassDef)
    docs: dict[str, str] = {}
    for field, below in zip(class_def.body, class_def.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            docs[field.target.id] = inspect.cleandoc(str(ast.literal_eval(below.value)))
    return docs


def type_in_words(annotation: Any, limits: Sequence[Any] = ()) -> str:
    """Return what a field may hold, in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        annotation, *infos = inner
        metadata = [item for info in infos for item in (info.metadata if isinstance(info, FieldInfo) else [info])]
        return type_in_words(annotation, metadata)
    if origin is Literal:
        return _either([f"`{value}`" for value in inner])
    if origin in (Union, UnionType):
        options = [type_in_words(option, limits) for option in inner if option is not NoneType]
        return _either(options + ["none"] * (NoneType in inner))
    if origin is tuple:
        item = type_in_words(inner[0])
        return f"list of {item}s" if inner[-1] is Ellipsis else f"list of {len(inner)}: {item}"
    if origin is dict:
        return "keys and values"
    if _model(annotation) is not None:
        return "keys and values"
    words = {
        bool: "`true` or `false`", int: "whole number", float: "number", str: "text", Path: "path",
        datetime.date: "date (YYYY-MM-DD)",
    }  # fmt: skip
    return words[annotation] + _range(limits)


def _either(options: Sequence[str]) -> str:
    return options[0] if len(options) == 1 else f"{', '.join(options[:-1])} or {options[-1]}"


def _range(limits: Iterable[Any]) -> str:
    """Return the limits of a number, e.g. ` above 0, at most 64`."""
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    texts = [
        f"{word} {getattr(limit, name):g}"
        for limit in limits
        for name, word in words.items()
        if isinstance(getattr(limit, name, None), int | float)
    ]
    return f" {', '.join(texts)}" if texts else ""


def default_text(value: Any) -> str:
    """Return a default as it is written in YAML."""
    match value:
        case None:
            return "none"
        case bool():
            return f"`{str(value).lower()}`"
        case tuple():
            return f"`[{', '.join(map(str, value))}]`"
        case "":
            return "empty"
        case _:
            return f"`{value}`"


def _by_base(file: Path) -> tuple[str, bool, str]:
    """Return a sort key that keeps families of presets together, base presets first."""
    name = file.stem.removeprefix("_")
    known = [other.stem.removeprefix("_") for other in PRESETS.glob("*.yaml")]
    family = min((other for other in known if f"{name}-".startswith(f"{other}-")), key=len, default=name)
    return (family, not file.stem.startswith("_"), name)


def _preset(file: Path) -> tuple[str, str, str, str]:
    lines = file.read_text(encoding="utf-8").splitlines()
    comment = " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))
    document = parse_document("\n".join(lines))
    base = document.pop(EXTENDS, None)
    sets = [f"`{key}={text}`" for key, text in flat(document) if key not in ("name", "folder")]
    return (f"`{file.stem}`", f"`{base}`" if base else "", cell(comment), "<br>".join(sets))


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested settings as pairs of dotted key and value."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value).lower() if isinstance(value, bool) else str(value)


# Metrics.


def metrics_page() -> str:
    """Return the page with every metric, by the question that it answers."""
    parts = [
        "# Metrics",
        "Every metric of a run. *Kept* metrics are written with each update, under their name, into `metrics.jsonl` "
        "(with `step`, the policy version, and `time`) and TensorBoard; the others are only shown while the run is "
        'running. Both are Ray metrics, for Prometheus `ray_tlpo_NAME{run="…"}`; a metric with a *label* has one value '
        "per value of the label. [Watching a run](../tutorial-one-node.md#watch) shows where to find them.",
    ]
    for heading, names in _groups():
        parts += [f"## {heading}"] if heading else []
        rows = [_metric(name) for name in names]
        parts.append(table(("name", "unit", "label", "kept", "meaning"), rows))
    return "\n\n".join(parts) + "\n"


def _groups() -> list[tuple[str, list[str]]]:
    """Return the names of the metrics, grouped by the comments above them in the source."""
    groups: list[tuple[str, list[str]]] = [("", [])]
    for line in inspect.getsource(metrics).splitlines():
        if heading := GROUP.fullmatch(line):
            groups.append((heading[1], []))
        elif (entry := ENTRY.match(line)) and entry[1] in metrics.METRICS:
            groups[-1][1].append(entry[1])
    missing = metrics.METRICS.keys() - {name for _, names in groups for name in names}
    return [(heading, names) for heading, names in [*groups, ("Others", sorted(missing))] if names]


def _metric(name: str) -> tuple[str, str, str, str, str]:
    metric = metrics.METRICS[name]
    label = f"`{metric.label}`" if metric.label else ""
    return (f"`{name}`{{ #{name} }}", cell(metric.unit), label, "yes" if metric.kept else "", cell(metric.help))


# Commands.

EXIT_CODES = (
    ("0", "success"),
    (
        "1",
        "the run failed; `tlpo doctor`: a check failed, or the backend is to blame; `tlpo detect --fail-above`: too "
        "much confusion",
    ),
    ("2", "the request cannot be met: one line says why"),
    ("3", "`tlpo submit` and `tlpo logs` have lost the connection to a job, which is probably still running"),
    ("128 + n", "stopped by signal n, e.g. 130 by Ctrl-C, 143 by SIGTERM: one line says how to continue"),
)


def commands_page() -> str:
    """Return the page with every command, its arguments and options."""
    parts = [
        "# Commands",
        "`tlpo COMMAND --help` shows the same on the terminal.",
        table(("exit code", "when"), EXIT_CODES),
    ]
    for name, command in walk():
        parts += [f"## {name}", _paragraphs(command.help or ""), f"```text\n{_usage(name, command)}\n```"]
        for heading, rows in _parameters(command):
            parts += [f"**{heading}**", table(("name", "type", "default", "meaning"), rows)]
    return "\n\n".join(parts) + "\n"


def walk(command: Any = None, name: str = "tlpo") -> Iterator[tuple[str, Any]]:
    """Yield the full name of every command that is not a group, and the command."""
    command = command or typer.main.get_command(app)
    subcommands = getattr(command, "commands", None)
    if subcommands is None:
        yield name, command
        return
    for word, subcommand in subcommands.items():
        yield from walk(subcommand, f"{name} {word}")


def _paragraphs(text: str) -> str:
    """Return a docstring with one line per paragraph."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


def _usage(name: str, command: Any) -> str:
    words = [name]
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            word = _argument(parameter)
            words.append(word if parameter.required or word.startswith("[") else f"[{word}]")
        elif parameter.required:
            words.append(f"{parameter.opts[0]} {_value(parameter).upper().replace(' ', '_') or 'VALUE'}")
    return " ".join([*words, "[OPTIONS]"])


def _argument(parameter: Any) -> str:
    word = str(parameter.metavar or parameter.name.upper())
    return f"{word}..." if parameter.nargs == -1 and not word.endswith("...") else word


def _parameters(command: Any) -> Iterator[tuple[str, list[tuple[str, str, str, str]]]]:
    """Yield arguments and options in the groups that --help shows, each group with its heading."""
    groups: dict[str, list[tuple[str, str, str, str]]] = {}
    for parameter in command.params:
        is_argument = parameter.param_type_name == "argument"
        options = ", ".join(f"`{option}`" for option in parameter.opts)
        has_default = parameter.default is not None and not getattr(parameter, "is_flag", False)
        default = "**required**" if parameter.required else f"`{parameter.default}`" if has_default else ""
        heading = parameter.rich_help_panel or ("Arguments" if is_argument else "Options")
        name, value = (f"`{_argument(parameter)}`", "") if is_argument else (options, _value(parameter))
        groups.setdefault(heading, []).append((name, value, default, cell(parameter.help or "")))
    yield from groups.items()


def _value(option: Any) -> str:
    """Return the kind of value that an option takes."""
    if option.is_flag:
        return "flag"
    limits = [f"at least {option.min:g}"] if option.min is not None else []
    limits += [f"at most {option.max:g}"] if option.max is not None else []
    annotation = option.type_descriptor.annotation
    inner = get_args(annotation)[0] if get_origin(annotation) is list else annotation
    words = {int: "whole number", float: "number", str: "text"}
    word = option.metavar or ("path" if issubclass(inner, PurePath) else words[inner])
    return ", ".join([f"{word}", *limits]) + (", repeatable" if option.multiple else "")


# Markdown.


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are already Markdown; empty columns are left out."""
    rows = list(rows)
    columns = [column for column in range(len(headings)) if any(row[column] for row in rows)]
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line[column] for column in columns)} |" for line in lines)


def cell(text: str) -> str:
    """Return text for a cell: one line, with table and tag characters escaped outside of code."""
    spans = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(
        span if number % 2 else span.replace("|", "\\|").replace("<", "&lt;") for number, span in enumerate(spans)
    )


REFERENCE: dict[str, Callable[[], str]] = {
    "reference/configuration.md": configuration_page,
    "reference/commands.md": commands_page,
    "reference/metrics.md": metrics_page,
}
"""Page → function that generates it from the code."""
