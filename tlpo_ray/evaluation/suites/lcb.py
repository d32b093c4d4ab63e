"""The Language Confusion Benchmark (LCB): prompts from five sources, written in the target language or in English."""

from __future__ import annotations

from pathlib import Path

from tlpo_ray.data.tables import Record
from tlpo_ray.evaluation.suites.suite import DataLocation, Fields, Item, Suite

TASKS = ("monolingual", "crosslingual")
LANGUAGES = ("ar", "de", "en", "es", "fr", "hi", "id", "it", "ja", "ko", "pt", "ru", "tr", "vi", "zh")


def _suite(task: str) -> Suite:
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
        languages=LANGUAGES,
        temperature=0.0,
        max_new_tokens=1024,
        location=lambda language: DataLocation(hub="", subset=task),
        item=item,
        required_fields=("prompt", "language"),
        hint="the benchmark is published on GitHub (for-ai/language-confusion): give the folder of its test sets",
    )


def _task_of(record: Record) -> str | None:
    """Return the task of a record: the benchmark's CSV files do not name it, the folders that they are in do."""
    return next((part for part in Path(record.source).parts if part in TASKS), None)


MONOLINGUAL = _suite("monolingual")
"""Questions in the target language."""
CROSSLINGUAL = _suite("crosslingual")
"""Questions in English that are to be answered in the target language."""
