"""Marco-Bench-MIF: prompts with instructions that can be checked. Instruction following is scored by lm-eval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tlpo_ray.evaluation.suites.suite import Fields, Item, Place, Suite

RESPONSE_LANGUAGE = "language:response_language"
SAME = {"zh-cn": "zh", "zh-hans": "zh"}
MISLABELLED = {"ko": {67}}
"""Rows, from 0, whose label is wrong (Appendix E)."""


def response_language(fields: Fields) -> str | None:
    """The language that the prompt asks for explicitly; None when it names none."""
    ids, arguments = fields.get("instruction_id_list"), fields.get("kwargs")
    if not isinstance(ids, list) or not isinstance(arguments, list) or RESPONSE_LANGUAGE not in ids:
        return None
    asked = arguments[ids.index(RESPONSE_LANGUAGE)]
    language = asked.get("language") if isinstance(asked, Mapping) else None
    return SAME.get(str(language).lower(), str(language).lower()) if language else None


def scored(doc: Fields, results: Sequence[str]) -> dict[str, float]:
    """Whether an answer follows all of its prompt's instructions, by lm-eval's own checks of IFEval."""
    from lm_eval.tasks.ifeval import utils

    return {"prompt_level_strict_acc": float(utils.process_results(doc, results)["prompt_level_strict_acc"])}


def _item(fields: Fields, language: str, record: str) -> Item | str:
    asked = response_language(fields)
    if asked is not None and asked != language:
        return "asks for another language"
    row = int(record.rpartition(":")[2]) - 1
    if row in MISLABELLED.get(language, ()):
        return "label error"
    return Item(
        suite="mif", task="mif", source="mif", id=str(fields.get("key", record)), language=language,
        prompt=str(fields["prompt"]),
    )  # fmt: skip


SUITE = Suite(
    name="mif",
    about="instructions that can be checked, in the language",
    languages=("ar", "de", "en", "es", "fr", "id", "it", "ja", "ko", "pt", "ru", "th", "tr", "uk", "vi", "zh"),
    temperature=0.0,
    max_new_tokens=1280,
    place=lambda language: Place(hub="AIDC-AI/Marco-Bench-MIF", file=f"{language}.jsonl", split="train"),
    item=_item,
    needs=("prompt",),
)
