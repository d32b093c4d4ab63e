"""What MkDocs calls when it builds the manual (`hooks` in mkdocs.yml).

`reference/` is written from the code each time: settings and presets, metrics, commands. `project/` are documents of
the repository that stand outside `docs/`. Links between all of them, and to files that are no page, are put right.
"""

from __future__ import annotations

import ast
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
"""Documents of the repository, and the pages that they become."""
STANDS_FOR = PROJECT | {
    "README.md": "index.md",
    "tlpo_ray/config/run.py": "reference/configuration.md",
    "tlpo_ray/flow/metrics.py": "reference/metrics.md",
    "tlpo_ray/cli/__init__.py": "reference/commands.md",
}
"""Files of the repository, and the pages that say what is in them."""
FENCED = re.compile(r"(^[ \t]*```[^\n]*\n.*?^[ \t]*```[ \t]*$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[([^\[\]]+)\]\(([^()\s]+)\)")
GROUP = re.compile(r"    # (.+)")
ENTRY = re.compile(r'    "(\w+)":')


def on_startup(command: str, dirty: bool) -> None:
    """Keep the theme's search from telling how it loads the words of Chinese."""
    logging.getLogger("jieba").addFilter(lambda record: record.levelno >= logging.WARNING)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that no file in `docs/` holds."""
    for uri, written in REFERENCE.items():
        files.append(File.generated(config, uri, content=written()))
    for name, uri in PROJECT.items():
        files.append(File.generated(config, uri, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links out of `docs/` to the page that stands for a file, to the repository, or nowhere."""
    here = page.file.src_uri
    source = next((name for name, uri in PROJECT.items() if uri == here), f"docs/{here}")
    pages = {f"docs/{uri}": uri for uri in files.src_uris} | STANDS_FOR

    def led(link: re.Match[str]) -> str:
        text, (target, hash_, anchor) = link[1], link[2].partition("#")
        if not target or ":" in target:
            return link[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if path in pages:
            return f"[{text}]({posixpath.relpath(pages[path], posixpath.dirname(here) or '.')}{hash_}{anchor})"
        if config.repo_url:
            return f"[{text}]({config.repo_url.rstrip('/')}/blob/main/{path})"
        return f"`{path}`" if path.endswith(text.strip("`/")) else f"{text} (`{path}`)"

    parts = FENCED.split(markdown)
    return "".join(part if number % 2 else LINK.sub(led, part) for number, part in enumerate(parts))


# Settings.


def configuration() -> str:
    """Every setting of a run, and the presets."""
    parts = [
        "# Configuration",
        "Every setting of a run is a key of one YAML file, or `key=value` on the command line, which counts more. "
        "`tlpo config PRESET` prints all of them as they would be used; a misspelt key is refused with the nearest "
        f"right one. `{EXTENDS}: PRESET` in a file, or `{EXTENDS}:` and a path relative to it, lays the file over "
        "another.",
        "`none` is `null` in YAML, lists are `[a, b]`, keys and values `{a: 1}`.",
    ]
    for prefix, section in sections(RunConfig):
        name = prefix.rstrip(".")
        parts += [f"## {name or 'The run'} {{ #{name or 'run'} }}", cell(inspect.getdoc(section) or "")]
        rows = [_setting(prefix, key, section) for key, field in section.model_fields.items() if not _plain(field)]
        parts.append(table(("key", "type", "default", "meaning"), rows))
    parts += [
        "## Presets",
        "What each sets over what it builds on; all else is as above. Presets whose names begin with `_` are only "
        "built upon. Names and folders of runs, which are those of their presets, are left out.",
        table(("preset", "builds on", "for", "sets"), map(_preset, sorted(PRESETS.glob("*.yaml"), key=_by_base))),
    ]
    return "\n\n".join(parts) + "\n"


def sections(root: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """A model and all models inside it, each with the beginning of its keys, e.g. `learner.lora.`."""
    yield prefix, root
    for name, field in root.model_fields.items():
        if (inner := _model(field.annotation)) is not None:
            yield from sections(inner, f"{prefix}{name}.")


def _model(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, or may hold."""
    options = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return next((one for one in options if isinstance(one, type) and issubclass(one, BaseModel)), None)


def _plain(field: FieldInfo) -> bool:
    """Whether a field is a section and nothing else, so that its keys say all."""
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _setting(prefix: str, key: str, section: type[BaseModel]) -> tuple[str, str, str, str]:
    field, name = section.model_fields[key], f"{prefix}{key}"
    return (
        f"`{name}`{{ #{name} }}",
        kind(field.annotation, field.metadata),
        "**required**" if field.is_required() else shown(field.get_default(call_default_factory=True)),
        cell(meanings(section).get(key, "")),
    )


def meanings(section: type[BaseModel]) -> dict[str, str]:
    """The docstrings under a model's fields."""
    (found,) = ast.parse(textwrap.dedent(inspect.getsource(section))).body
    assert isinstance(found, ast.ClassDef)
    docs: dict[str, str] = {}
    for field, below in zip(found.body, found.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            docs[field.target.id] = inspect.cleandoc(str(ast.literal_eval(below.value)))
    return docs


def kind(annotation: Any, limits: Sequence[Any] = ()) -> str:
    """What a field may hold, in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        annotation, *more = inner
        return kind(
            annotation, [one for info in more for one in (info.metadata if isinstance(info, FieldInfo) else [info])]
        )
    if origin is Literal:
        return _either([f"`{value}`" for value in inner])
    if origin in (Union, UnionType):
        return _either([kind(one, limits) for one in inner if one is not NoneType] + ["none"] * (NoneType in inner))
    if origin is tuple:
        return f"list of {kind(inner[0])}s" if inner[-1] is Ellipsis else f"list of {len(inner)}: {kind(inner[0])}"
    if origin is dict:
        return "keys and values"
    if _model(annotation) is not None:
        return "keys and values"
    words = {bool: "`true` or `false`", int: "whole number", float: "number", str: "text", Path: "path"}
    return words[annotation] + _range(limits)


def _either(options: Sequence[str]) -> str:
    return options[0] if len(options) == 1 else f"{', '.join(options[:-1])} or {options[-1]}"


def _range(limits: Iterable[Any]) -> str:
    """The limits of a number, e.g. ` above 0, at most 64`."""
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    found = [
        f"{word} {getattr(limit, name):g}"
        for limit in limits
        for name, word in words.items()
        if isinstance(getattr(limit, name, None), int | float)
    ]
    return f" {', '.join(found)}" if found else ""


def shown(value: Any) -> str:
    """A default as one would write it into YAML."""
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
    """Presets in families: what is built upon before what builds on it."""
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
    """Nested settings as `key=value`."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value).lower() if isinstance(value, bool) else str(value)


# Metrics.


def figures() -> str:
    """Every metric by the question that it answers."""
    parts = [
        "# Metrics",
        "Every figure of a run. *Kept* ones are written with each update, under their name, into `metrics.jsonl` "
        "(with `step`, the policy version, and `time`) and TensorBoard; the others are only shown while the run goes "
        'on. Both are in Ray\'s metrics, and so at its Prometheus endpoints, as `ray_tlpo_NAME{run="…"}`; a figure '
        "with a *label* has several values, told apart by it. [Watching a run](../tutorial-one-node.md#watch) shows "
        "where to look.",
    ]
    for heading, names in _groups():
        parts += [f"## {heading}"] if heading else []
        rows = [_figure(name) for name in names]
        parts.append(table(("name", "unit", "label", "kept", "meaning"), rows))
    return "\n\n".join(parts) + "\n"


def _groups() -> list[tuple[str, list[str]]]:
    """Names of metrics under the comments that head them in the source."""
    groups: list[tuple[str, list[str]]] = [("", [])]
    for line in inspect.getsource(metrics).splitlines():
        if heading := GROUP.fullmatch(line):
            groups.append((heading[1], []))
        elif (entry := ENTRY.match(line)) and entry[1] in metrics.METRICS:
            groups[-1][1].append(entry[1])
    missing = metrics.METRICS.keys() - {name for _, names in groups for name in names}
    return [(heading, names) for heading, names in [*groups, ("Others", sorted(missing))] if names]


def _figure(name: str) -> tuple[str, str, str, str, str]:
    one = metrics.METRICS[name]
    label = f"`{one.label}`" if one.label else ""
    return (f"`{name}`{{ #{name} }}", cell(one.unit), label, "yes" if one.kept else "", cell(one.help))


# Commands.

EXIT_CODES = (
    ("0", "it is done"),
    ("1", "the run failed; of `tlpo doctor`, something is broken; of `tlpo detect --fail-above`, too much is confused"),
    ("2", "what was asked for cannot be done: one line says why"),
    ("3", "`tlpo submit` and `tlpo logs` have lost the way to a job, which may well go on"),
    ("130", "Ctrl-C"),
    ("128 + n", "the run was stopped by signal n, and can go on"),
)


def commands() -> str:
    """Every command with its arguments and options."""
    parts = [
        "# Commands",
        "`tlpo COMMAND --help` says the same on the terminal.",
        table(("exit code", "when"), EXIT_CODES),
    ]
    for name, command in walk():
        parts += [f"## {name}", _paragraphs(command.help or ""), f"```text\n{_usage(name, command)}\n```"]
        for heading, rows in _parameters(command):
            parts += [f"**{heading}**", table(("name", "type", "default", "meaning"), rows)]
    return "\n\n".join(parts) + "\n"


def walk(command: Any = None, name: str = "tlpo") -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its whole name."""
    command = command or typer.main.get_command(app)
    below = getattr(command, "commands", None)
    if below is None:
        yield name, command
        return
    for word, one in below.items():
        yield from walk(one, f"{name} {word}")


def _paragraphs(text: str) -> str:
    """A docstring; lines that belong together stand together."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


def _usage(name: str, command: Any) -> str:
    words = [name]
    for one in command.params:
        if one.param_type_name == "argument":
            word = _argument(one)
            words.append(word if one.required or word.startswith("[") else f"[{word}]")
        elif one.required:
            words.append(f"{one.opts[0]} {_value(one).upper().replace(' ', '_') or 'VALUE'}")
    return " ".join([*words, "[OPTIONS]"])


def _argument(one: Any) -> str:
    word = str(one.metavar or one.name.upper())
    return f"{word}..." if one.nargs == -1 and not word.endswith("...") else word


def _parameters(command: Any) -> Iterator[tuple[str, list[tuple[str, str, str, str]]]]:
    """Arguments and options in the groups that --help shows."""
    groups: dict[str, list[tuple[str, str, str, str]]] = {}
    for one in command.params:
        is_argument = one.param_type_name == "argument"
        name = f"`{_argument(one)}`" if is_argument else ", ".join(f"`{option}`" for option in one.opts)
        left_out = one.default is None or getattr(one, "is_flag", False)
        default = "**required**" if one.required else "" if left_out else f"`{one.default}`"
        heading = one.rich_help_panel or ("Arguments" if is_argument else "Options")
        groups.setdefault(heading, []).append((name, "" if is_argument else _value(one), default, cell(one.help or "")))
    yield from groups.items()


def _value(one: Any) -> str:
    """What an option takes."""
    if one.is_flag:
        return "flag"
    limits = [f"at least {one.min:g}"] if one.min is not None else []
    limits += [f"at most {one.max:g}"] if one.max is not None else []
    found = one.type_descriptor.annotation
    inner = get_args(found)[0] if get_origin(found) is list else found
    words = {int: "whole number", float: "number", str: "text"}
    word = one.metavar or ("path" if issubclass(inner, PurePath) else words[inner])
    return ", ".join([f"{word}", *limits]) + (", repeatable" if one.multiple else "")


# Markdown.


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are Markdown already. Columns in which nothing stands are left out."""
    rows = list(rows)
    used = [at for at in range(len(headings)) if any(row[at] for row in rows)]
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line[at] for at in used)} |" for line in lines)


def cell(text: str) -> str:
    """Text for a cell: in one line, with nothing that Markdown would take for a table or a tag outside of code."""
    spans = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(
        span if number % 2 else span.replace("|", "\\|").replace("<", "&lt;") for number, span in enumerate(spans)
    )


REFERENCE: dict[str, Callable[[], str]] = {
    "reference/configuration.md": configuration,
    "reference/commands.md": commands,
    "reference/metrics.md": figures,
}
"""Pages that are written from the code."""
