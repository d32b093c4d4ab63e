"""The manual can be built, leads nowhere wrong, and names only what there is: commands, settings, metrics, messages."""

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
from tlpo_ray.config.baseline import BaselineConfig
from tlpo_ray.config.run import RunConfig
from tlpo_ray.experiment.plan import Plan
from tlpo_ray.flow.metrics import METRICS

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "deploy" / "README.md", *sorted(ROOT.glob("docs/*.md"))]
SOURCES = ("tlpo_ray", "actors", "learner", "detectors")
CONFIGURED: dict[str, type[BaseModel]] = {"baseline": BaselineConfig, "experiment": Plan}
"""Whose settings a command takes; a run's, if it is not named here."""
BEFORE = {"--", ";", "&&", "||", "|", "do", "exec"}
"""Words behind which a command begins."""
BEHIND = BEFORE | {"&", ">", ">>", "2>", "2>&1", "<", ")"}
"""Words at which a command has ended."""
CODE = re.compile(r"(`+)(.+?)\1")
HEREDOC = re.compile(r"<<'(\w+)'\n.*?\n\1$", re.MULTILINE | re.DOTALL)
SETTING = re.compile(r"([a-z_]+(?:\.[a-z_]+)*)=.*", re.DOTALL)
OF_THE_RUN = ("name", "folder", "seed", "stack", "trackers")
"""Settings outside of all sections."""
FEWEST = 10
"""Letters of a message that its entry must have: fewer say nothing."""


@pytest.fixture(scope="module")
def build() -> ModuleType:
    """The generator of the reference pages."""
    spec = importlib.util.spec_from_file_location("manual_build", ROOT / "docs" / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def keys(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Dotted keys of a configuration, and whether a key holds keys of the user's own, as `detector.settings`."""
    for name, one in section.model_fields.items():
        yield f"{prefix}{name}", getattr(one.annotation, "__origin__", None) is dict
        for inner in (one.annotation, *getattr(one.annotation, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from keys(inner, f"{prefix}{name}.")


def is_key(key: str, section: type[BaseModel]) -> bool:
    return any(key == known or (free and key.startswith(f"{known}.")) for known, free in keys(section))


def commands(group: Any = None, name: str = "tlpo") -> Iterator[str]:
    """Whole names of all commands that do something."""
    group = group or cast(Any, typer.main.get_command(app))
    for word, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from commands(one, f"{name} {word}")
        else:
            yield f"{name} {word}"


def typed(document: Path) -> Iterator[tuple[list[str], bool]]:
    """Words behind `tlpo` of all commands in a document; False: of a sentence, where something may be left out."""
    text = document.read_text(encoding="utf-8")
    for language, block in tutorial.FENCED.findall(text):
        if language == "bash":
            for line in HEREDOC.sub("", block).replace("\\\n", " ").splitlines():
                words = shlex.split(line.replace("$(", " ; "), comments=True)
                starts = [
                    at for at, word in enumerate(words) if word == "tlpo" and (at == 0 or words[at - 1] in BEFORE)
                ]
                yield from ((_own(words[at + 1 :]), True) for at in starts)
    for _, code in CODE.findall(tutorial.FENCED.sub("", text)):
        if code.startswith("tlpo ") or " -- tlpo " in code:
            yield _own(shlex.split(code)[shlex.split(code).index("tlpo") + 1 :]), False


def _own(words: Sequence[str]) -> list[str]:
    end = next((at for at, word in enumerate(words) if word in BEHIND), len(words))
    return ["1" if word == "N" else word.rstrip(")") for word in words[:end] if word != "--help"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_line_can_be_typed(document: Path) -> None:
    for words, whole in typed(document):
        command, name, rest = cast(Any, typer.main.get_command(app)), "tlpo", words
        while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
            assert rest[0] in command.commands, f"{name} has no command {rest[0]}"
            command, name, rest = command.commands[rest[0]], f"{name} {rest[0]}", rest[1:]
        if hasattr(command, "commands"):
            options = {option for one in command.params for option in one.opts}
            assert set(rest) <= options and (rest or not whole), f"tlpo {shlex.join(words)}"
            continue
        try:
            given = command.make_context(name, list(rest)).params
        except Exception as error:  # typer keeps the classes of its errors to itself
            left_out = type(error).__name__ == "MissingParameter" or "requires an argument" in str(error)
            assert left_out and not whole, f"tlpo {shlex.join(words)}: {error}"
            continue
        settings = [*(given.get("overrides") or ()), str(given.get("config") or "")]
        for setting in filter(None, map(SETTING.fullmatch, settings)):
            assert is_key(setting[1], CONFIGURED.get(words[0], RunConfig)), f"{setting[0]} in tlpo {shlex.join(words)}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_setting_in_a_sentence_is_one(document: Path) -> None:
    sections = "|".join(name for name, one in RunConfig.model_fields.items() if isinstance(one.annotation, type))
    dotted = re.compile(rf"((?:{sections})\.[a-z_][a-z_.]*[a-z])(?:=.*)?")
    text = tutorial.FENCED.sub("", document.read_text(encoding="utf-8"))
    named = [match[1] for _, code in CODE.findall(text) for word in code.split() if (match := dotted.fullmatch(word))]
    roots = (RunConfig, BaselineConfig, Plan)
    assert [key for key in named if not any(is_key(key, root) for root in roots)] == []


def strings(tree: ast.AST) -> Iterator[str]:
    """Texts of a module; what is put into them when it runs is `…`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(one.value) if isinstance(one, ast.Constant) else "…" for one in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"%[sd]", "…", node.value)


def test_every_message_is_one_of_ours() -> None:
    files = [file for folder in SOURCES for file in ROOT.joinpath(folder).rglob("*.py")]
    said = {text for file in files for text in strings(ast.parse(file.read_text(encoding="utf-8")))}
    said |= set(re.findall(r'"(make: [^"]+)"', ROOT.joinpath("Makefile").read_text(encoding="utf-8")))
    document = ROOT.joinpath("docs", "troubleshooting.md").read_text(encoding="utf-8")
    tables = re.findall(r"^\| message \|.*?\n\|.*?\n((?:\|.*\n)+)", document, re.MULTILINE)
    entries = [code for table in tables for row in table.splitlines() for _, code in CODE.findall(row.split(" | ")[0])]
    assert len(entries) > 80
    assert [one for one in entries if len(one.replace("…", "").replace(" ", "")) < FEWEST and one not in said] == []
    begins = {entry: re.compile(re.escape(entry).replace("…", ".+")) for entry in entries}
    assert [entry for entry, pattern in begins.items() if not any(map(pattern.match, said))] == []


def test_the_reference_has_every_setting(build: ModuleType) -> None:
    page = build.configuration()
    wanted = [key for key, _ in keys(RunConfig) if key not in RunConfig.model_fields or key in OF_THE_RUN]
    assert [key for key in wanted if f"| `{key}`{{" not in page] == []


def test_every_setting_says_what_it_does(build: ModuleType) -> None:
    said = {f"{prefix}{key}" for prefix, section in build.sections(RunConfig) for key in build.meanings(section)}
    settings = {key for key, _ in keys(RunConfig) if key not in RunConfig.model_fields or key in OF_THE_RUN}
    assert sorted(settings - said) == []


def test_the_reference_has_every_metric_and_command(build: ModuleType) -> None:
    metrics, page = build.figures(), build.commands()
    assert [name for name in METRICS if f"| `{name}`{{" not in metrics] == []
    for name in commands():
        assert f"\n## {name}\n" in page


def test_links_lead_to_pages_or_say_where(build: ModuleType) -> None:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import File, Files

    config = MkDocsConfig()
    config.load_dict({"site_name": "x", "docs_dir": str(ROOT / "docs"), "site_dir": str(ROOT / "build" / "docs")})
    config.validate()
    config.plugins._current_plugin = "hook"
    files = build.on_files(Files([File.generated(config, "data.md", content="")]), config)

    def led(markdown: str, uri: str) -> str:
        page = type("Page", (), {"file": files.get_file_from_path(uri)})()
        return str(build.on_page_markdown(markdown, page=page, config=config, files=files))

    assert led("[r](../RESULTS.md#a)", "data.md") == "[r](project/results.md#a)"
    assert led("[d](docs/data.md) [p](PAPER.md)", "project/results.md") == "[d](../data.md) [p](paper.md)"
    assert led("[the table](../tlpo_ray/data/prepare.py)", "data.md") == "the table (`tlpo_ray/data/prepare.py`)"
    assert led("[Dockerfile](docker/Dockerfile)", "project/cluster.md") == "`deploy/docker/Dockerfile`"
    kept = "[x](https://example.org/a) [y](#here)\n\n```text\n[z](../RESULTS.md)\n```\n"
    assert led(kept, "data.md") == kept
    config.repo_url = "https://example.org/repository/"
    assert led("[t](../Makefile)", "data.md") == "[t](https://example.org/repository/blob/main/Makefile)"


class Html(HTMLParser):
    """What a page links to, what it loads, and the places in it."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.places: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.places.update(filter(None, (found.get("id"), found.get("name"))))
        if tag == "a" and found.get("href"):
            self.links.append(str(found["href"]))
        elif tag in ("link", "script", "img", "iframe", "source"):
            self.loads += filter(None, (found.get("src"), found.get("href")))


@pytest.mark.slow
def test_the_manual_is_built_and_leads_nowhere_wrong(build: ModuleType, tmp_path: Path) -> None:
    site = tmp_path / "site"
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
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
                assert unquote(parts.fragment) in pages[target].places, f"{address} in {file}"
    assert {f"{key}" for key, _ in keys(RunConfig) if "." in key} - {"learner.lora"} <= pages[
        site / "reference" / "configuration.html"
    ].places
    assert METRICS.keys() <= pages[site / "reference" / "metrics.html"].places
    assert {name.replace(" ", "-") for name in commands()} <= pages[site / "reference" / "commands.html"].places


def test_a_tutorial_that_shows_something_else_is_found() -> None:
    page = "```bash\ntlpo one\n```\n\n```text\nwrote … of 7\n…\nmodel  a/b\n```\nand\n```bash\ntlpo two\n```\n"
    one, two = tutorial.blocks(page)
    assert (one.commands, two.commands, two.shown) == ("tlpo one\n", "tlpo two\n", ())
    came = ["hello", "wrote 5 of 7", "more", "model  a/b  ", "bye"]
    assert tutorial.missing(one.shown, came) is None
    assert tutorial.missing(one.shown, [line for line in came if "model" not in line]) == "model  a/b"
    assert tutorial.missing(one.shown, ["model  a/b", "wrote 5 of 7", "more"]) == "model  a/b", "the order counts"
    assert tutorial.missing(("wrote 6 of 7",), came) == "wrote 6 of 7"
