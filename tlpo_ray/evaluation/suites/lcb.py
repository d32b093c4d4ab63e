"""The Language Confusion Benchmark: prompts of five sources, asked in the language or in English."""

from __future__ import annotations

from tlpo_ray.evaluation.suites.suite import Fields, Item, Place, Suite

LANGUAGES = ("ar", "de", "en", "es", "fr", "hi", "id", "it", "ja", "ko", "pt", "ru", "tr", "vi", "zh")


def _suite(task: str, about: str) -> Suite:
    name = f"lcb-{task}"

    def item(fields: Fields, language: str, record: str) -> Item | None:
        if fields.get("language") != language or fields.get("task", task) != task:
            return None
        source = str(fields.get("source", "lcb"))
        return Item(
            suite=name, task=source, source="lcb", id=str(fields.get("id", record)), language=language,
            prompt=str(fields["prompt"]),
        )  # fmt: skip

    return Suite(
        name=name,
        about=about,
        languages=LANGUAGES,
        temperature=0.0,
        max_new_tokens=1024,
        place=lambda language: Place(hub=""),
        item=item,
        needs=("prompt", "language"),
        hint="the benchmark is published on GitHub (for-ai/language-confusion): give the folder of its test sets",
    )


MONOLINGUAL = _suite("monolingual", "asked and to be answered in one language")
CROSSLINGUAL = _suite("crosslingual", "asked in English, to be answered in the language")
