"""The manual can be built, its links work, and the commands, settings, metrics and messages in it exist."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import pytest
import typer
from pydantic import BaseModel

from tests import tutorial
from tlpo_ray.cli import app
from tlpo_ray.config.baseline import BaselineConfig, SmoothieRunConfig
from tlpo_ray.config.run import RunConfig
from tlpo_ray.experiment.plan import Plan
from tlpo_ray.flow.metrics import METRICS

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "deploy" / "README.md", *sorted(ROOT.glob("docs/*.md"))]
SOURCES = ("tlpo_ray", "actors", "learner", "detectors", "requirements")
CONFIGURED: dict[str, tuple[type[BaseModel], ...]] = {
    "baseline": (BaselineConfig, SmoothieRunConfig),
    "experiment": (Plan,),
}
"""Command → configurations that its settings may belong to; `RunConfig` for all other commands."""
STARTS_COMMAND = {"--", ";", "&&", "||", "|", "do", "exec"}
"""Words after which a command begins."""
ENDS_COMMAND = STARTS_COMMAND | {"&", ">", ">>", "2>", "2>&1", "<", ")"}
"""Words that end a command."""
CODE = re.compile(r"(`+)(.+?)\1")
HEREDOC = re.compile(r"<<'(\w+)'\n.*?\n\1$", re.MULTILINE | re.DOTALL)
SETTING = re.compile(r"([a-z_]+(?:\.[a-z_]+)*)=.*", re.DOTALL)
TOP_LEVEL_SETTINGS = ("name", "folder", "seed", "stack", "trackers")
"""Settings outside of all sections."""
MIN_CHARACTERS = 10
"""Shortest entry for a message, without blanks and `…`: a shorter one would match too many messages."""


@pytest.fixture(scope="module")
def build() -> ModuleType:
    """Return the module that generates the reference pages."""
    spec = importlib.util.spec_from_file_location("manual_build", ROOT / "docs" / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def keys(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Yield dotted keys of a configuration, and whether a key holds keys of the user's own, as `detector.settings`."""
    for name, field in section.model_fields.items():
        yield f"{prefix}{name}", getattr(field.annotation, "__origin__", None) is dict
        for inner in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from keys(inner, f"{prefix}{name}.")


def is_key(key: str, section: type[BaseModel]) -> bool:
    return any(key == known or (free and key.startswith(f"{known}.")) for known, free in keys(section))


def commands(group: Any = None, name: str = "tlpo") -> Iterator[str]:
    """Yield the full names of all commands that are not groups."""
    group = group or cast(Any, typer.main.get_command(app))
    for word, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{name} {word}")
        else:
            yield f"{name} {word}"


def command_lines(document: Path) -> Iterator[tuple[list[str], bool]]:
    """Yield the words after `tlpo` of every command in a document, and whether the command is complete.

    Commands in code blocks are complete; those within a sentence may leave arguments out.
    """
    text = document.read_text(encoding="utf-8")
    for language, block in tutorial.FENCED.findall(text):
        if language == "bash":
            for line in HEREDOC.sub("", block).replace("\\\n", " ").splitlines():
                words = shlex.split(line.replace("$(", " ; "), comments=True)
                starts = [
                    index
                    for index, word in enumerate(words)
                    if word == "tlpo" and (index == 0 or words[index - 1] in STARTS_COMMAND)
                ]
                yield from ((_first_command(words[start + 1 :]), True) for start in starts)
    for _, code in CODE.findall(tutorial.FENCED.sub("", text)):
        if code.startswith("tlpo ") or " -- tlpo " in code:
            yield _first_command(shlex.split(code)[shlex.split(code).index("tlpo") + 1 :]), False


def _first_command(words: Sequence[str]) -> list[str]:
    end = next((index for index, word in enumerate(words) if word in ENDS_COMMAND), len(words))
    return ["1" if word == "N" else word.rstrip(")") for word in words[:end] if word != "--help"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_line_can_be_typed(document: Path) -> None:
    for words, complete in command_lines(document):
        command, name, rest = cast(Any, typer.main.get_command(app)), "tlpo", words
        while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
            assert rest[0] in command.commands, f"{name} has no command {rest[0]}"
            command, name, rest = command.commands[rest[0]], f"{name} {rest[0]}", rest[1:]
        if hasattr(command, "commands"):
            options = {option for parameter in command.params for option in parameter.opts}
            assert set(rest) <= options and (rest or not complete), f"tlpo {shlex.join(words)}"
            continue
        try:
            arguments = command.make_context(name, list(rest)).params
        except Exception as error:  # typer does not export the classes of its errors
            incomplete = type(error).__name__ == "MissingParameter" or "requires an argument" in str(error)
            assert incomplete and not complete, f"tlpo {shlex.join(words)}: {error}"
            continue
        settings = [*(arguments.get("overrides") or ()), str(arguments.get("config") or "")]
        for setting in filter(None, map(SETTING.fullmatch, settings)):
            known = CONFIGURED.get(words[0], (RunConfig,))
            assert any(is_key(setting[1], root) for root in known), f"{setting[0]} in tlpo {shlex.join(words)}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_setting_in_a_sentence_exists(document: Path) -> None:
    sections = "smoothie|" + "|".join(
        name for name, field in RunConfig.model_fields.items() if isinstance(field.annotation, type)
    )
    dotted = re.compile(rf"((?:{sections})\.[a-z_][a-z_.]*[a-z])(?:=.*)?")
    text = tutorial.FENCED.sub("", document.read_text(encoding="utf-8"))
    named = [match[1] for _, code in CODE.findall(text) for word in code.split() if (match := dotted.fullmatch(word))]
    roots = (RunConfig, BaselineConfig, SmoothieRunConfig, Plan)
    assert [key for key in named if not any(is_key(key, root) for root in roots)] == []


def strings(tree: ast.AST) -> Iterator[str]:
    """Yield the strings of a module, with `…` in the place of values that are formatted into them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"%[sd]", "…", node.value)


def listed_messages(page: str) -> Iterator[str]:
    """Yield the messages that a page explains: the code spans at the start of a list item, up to a colon."""
    for item in re.findall(r"^\* (?=`)(.+?)(?=^\* |^$|\Z)", page, re.MULTILINE | re.DOTALL):
        text, end = " ".join(item.split()), 0
        while span := re.compile(r"(`+)(.+?)\1[, ]*").match(text, end):
            yield span[2]
            end = span.end()
        assert text.startswith(": ", end), f"no explanation: {text}"


def test_every_listed_message_is_in_the_source() -> None:
    files = [file for folder in SOURCES for file in ROOT.joinpath(folder).rglob("*.py")]
    in_source = {text for file in files for text in strings(ast.parse(file.read_text(encoding="utf-8")))}
    in_source |= set(re.findall(r'"(make: [^"]+)"', ROOT.joinpath("Makefile").read_text(encoding="utf-8")))
    listed = list(listed_messages(ROOT.joinpath("docs", "troubleshooting.md").read_text(encoding="utf-8")))
    assert len(listed) > 80
    too_short = [text for text in listed if len(text.replace("…", "").replace(" ", "")) < MIN_CHARACTERS]
    assert set(too_short) - in_source == set()
    beginnings = {message: re.compile(re.escape(message).replace("…", ".+")) for message in listed}
    assert [message for message, pattern in beginnings.items() if not any(map(pattern.match, in_source))] == []


def test_the_reference_has_every_setting(build: ModuleType) -> None:
    page = build.configuration_page()
    settings = [key for key, _ in keys(RunConfig) if key not in RunConfig.model_fields or key in TOP_LEVEL_SETTINGS]
    assert [key for key in settings if f"| `{key}`{{" not in page] == []


def test_every_setting_has_a_docstring(build: ModuleType) -> None:
    documented = {f"{prefix}{key}" for prefix, model in build.sections(RunConfig) for key in build.field_docs(model)}
    settings = {key for key, _ in keys(RunConfig) if key not in RunConfig.model_fields or key in TOP_LEVEL_SETTINGS}
    assert sorted(settings - documented) == []


def test_the_reference_has_every_metric_and_command(build: ModuleType) -> None:
    metrics, page = build.metrics_page(), build.commands_page()
    assert [name for name in METRICS if f"| `{name}`{{" not in metrics] == []
    for name in commands():
        assert f"\n## {name}\n" in page


def test_links_lead_to_pages_or_name_the_file(build: ModuleType) -> None:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import File, Files

    config = MkDocsConfig()
    config.load_dict({"site_name": "x", "docs_dir": str(ROOT / "docs"), "site_dir": str(ROOT / "build" / "docs")})
    config.validate()
    config.plugins._current_plugin = "hook"
    files = build.on_files(Files([File.generated(config, "data.md", content="")]), config)

    def rewritten(markdown: str, uri: str) -> str:
        page = type("Page", (), {"file": files.get_file_from_path(uri)})()
        return str(build.on_page_markdown(markdown, page=page, config=config, files=files))

    assert rewritten("[r](../RESULTS.md#a)", "data.md") == "[r](project/results.md#a)"
    assert rewritten("[d](docs/data.md) [p](PAPER.md)", "project/results.md") == "[d](../data.md) [p](paper.md)"
    assert rewritten("[the table](../tlpo_ray/data/prepare.py)", "data.md") == "the table (`tlpo_ray/data/prepare.py`)"
    assert rewritten("[Dockerfile](docker/Dockerfile)", "project/cluster.md") == "`deploy/docker/Dockerfile`"
    unchanged = "[x](https://example.org/a) [y](#here)\n\n```text\n[z](../RESULTS.md)\n```\n"
    assert rewritten(unchanged, "data.md") == unchanged
    config.repo_url = "https://example.org/repository/"
    assert rewritten("[t](../Makefile)", "data.md") == "[t](https://example.org/repository/blob/main/Makefile)"


class Html(HTMLParser):
    """Links, loaded files and anchors of a page."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.anchors.update(filter(None, (attributes.get("id"), attributes.get("name"))))
        if tag == "a" and attributes.get("href"):
            self.links.append(str(attributes["href"]))
        elif tag in ("link", "script", "img", "iframe", "source"):
            self.loads += filter(None, (attributes.get("src"), attributes.get("href")))


@pytest.mark.slow
def test_the_manual_is_built_without_broken_links(tmp_path: Path) -> None:
    site = tmp_path / "site"
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert process.returncode == 0, process.stderr
    assert "WARNING" not in process.stderr
    pages = {file: Html(file) for file in site.rglob("*.html") if file.name != "404.html"}
    for file, page in pages.items():
        assert [address for address in page.loads if urlsplit(address).scheme] == [], file
        for address in [*page.links, *page.loads]:
            parts = urlsplit(address)
            if parts.scheme:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            assert target.exists(), f"{address} in {file}"
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].anchors, f"{address} in {file}"
    assert {f"{key}" for key, _ in keys(RunConfig) if "." in key} - {"learner.lora"} <= pages[
        site / "reference" / "configuration.html"
    ].anchors
    assert METRICS.keys() <= pages[site / "reference" / "metrics.html"].anchors
    assert {name.replace(" ", "-") for name in commands()} <= pages[site / "reference" / "commands.html"].anchors


def test_output_that_differs_from_a_tutorial_is_found() -> None:
    page = "```bash\ntlpo one\n```\n\n```text\nwrote … of 7\n…\nmodel  a/b\n```\nand\n```bash\ntlpo two\n```\n"
    one, two = tutorial.blocks(page)
    assert (one.commands, two.commands, two.shown) == ("tlpo one\n", "tlpo two\n", ())
    output = ["hello", "wrote 5 of 7", "more", "model  a/b  ", "bye"]
    assert tutorial.missing(one.shown, output) is None
    assert tutorial.missing(one.shown, [line for line in output if "model" not in line]) == "model  a/b"
    assert tutorial.missing(one.shown, ["model  a/b", "wrote 5 of 7", "more"]) == "model  a/b", "the order matters"
    assert tutorial.missing(("wrote 6 of 7",), output) == "wrote 6 of 7"
