"""The Language Confusion Benchmark: prompts of five sources, asked in the language or in English."""

from __future__ import annotations

from pathlib import Path

from tlpo_ray.data.readers import Record
from tlpo_ray.evaluation.suites.suite import Fields, Item, Place, Suite

TASKS = ("monolingual", "crosslingual")

LANGUAGES = ("ar", "de", "en", "es", "fr", "hi", "id", "it", "ja", "ko", "pt", "ru", "tr", "vi", "zh")


def _suite(task: str, about: str) -> Suite:
    name = f"lcb-{task}"

    def item(fields: Fields, language: str, record: Record) -> Item | None:
        if fields.get("language") != language or (fields.get("task") or _task_of(record) or task) != task:
            return None
        source = str(fields.get("source", "lcb"))
        return Item(
            suite=name, task=source, source="lcb", id=str(fields.get("id", record.name)), language=language,
            prompt=str(fields["prompt"]),
        )  # fmt: skip

    return Suite(
        name=name,
        about=about,
        languages=LANGUAGES,
        temperature=0.0,
        max_new_tokens=1024,
        place=lambda language: Place(hub="", subset=task),
        item=item,
        needs=("prompt", "language"),
        hint="the benchmark is published on GitHub (for-ai/language-confusion): give the folder of its test sets",
    )


def _task_of(record: Record) -> str | None:
    """The benchmark's CSV files do not say their task; the folders that they lie in do."""
    return next((part for part in Path(record.source).parts if part in TASKS), None)


MONOLINGUAL = _suite("monolingual", "asked and to be answered in one language")
CROSSLINGUAL = _suite("crosslingual", "asked in English, to be answered in the language")
