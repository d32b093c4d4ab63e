"""Marco-Bench-MIF: prompts with instructions that can be checked, as lm-eval's IFEval checks them."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping

from tlpo_ray.data.readers import Record
from tlpo_ray.evaluation.suites.suite import Fields, Item, Place, Suite

RESPONSE_LANGUAGE = "language:response_language"
SAME = {"zh-cn": "zh", "zh-hans": "zh"}
LOCALIZED = ("ar", "es", "zh")
"""Languages that have a localized edition beside the translated one; the paper takes it."""
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


def reference(fields: Fields) -> str:
    """What is to be checked, as JSON; empty where a record says nothing of it."""
    ids, arguments = fields.get("instruction_id_list"), fields.get("kwargs")
    if not isinstance(ids, list) or not isinstance(arguments, list) or len(ids) != len(arguments):
        return ""
    return json.dumps({"instruction_id_list": ids, "kwargs": [_given(one) for one in arguments]}, ensure_ascii=False)


def _given(arguments: object) -> Fields:
    """In a table every row has all arguments: those that are None were not given."""
    found = arguments if isinstance(arguments, Mapping) else {}
    return {name: value for name, value in found.items() if value is not None}


def missing() -> str:
    """What IFEval's checks need and is not installed; lm-eval would download it, unasked, when they are imported."""
    for library in ("lm_eval", "langdetect", "nltk", "immutabledict"):
        if importlib.util.find_spec(library) is None:
            return f"{library} is not installed: pip install 'tlpo-ray[accuracy]'"
    import nltk  # type: ignore[import-untyped]

    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        return "NLTK's punkt_tab is not installed: python -m nltk.downloader punkt_tab"
    return ""


def correct(answer: str, reference: str) -> bool:
    """Whether an answer strictly follows all instructions of its prompt; `missing()` must be empty."""
    from langdetect import DetectorFactory  # type: ignore[import-untyped]
    from lm_eval.tasks.ifeval.utils import process_results

    DetectorFactory.seed = 0  # langdetect draws at random; the same answer shall have the same score
    checked = process_results({"key": 0, "prompt": "", **json.loads(reference)}, [answer])
    return bool(checked["prompt_level_strict_acc"])


def _item(fields: Fields, language: str, record: Record) -> Item | str:
    asked = response_language(fields)
    if asked is not None and asked != language:
        return "asks for another language"
    if record.number - 1 in MISLABELLED.get(language, ()):
        return "label error"
    return Item(
        suite="mif", task="mif", source="mif", id=str(fields.get("key", record.name)),
        language=language, prompt=str(fields["prompt"]), reference=reference(fields),
    )  # fmt: skip


def _file(language: str) -> str:
    return f"{language}_local.jsonl" if language in LOCALIZED else f"{language}.jsonl"


SUITE = Suite(
    name="mif",
    about="instructions that can be checked, in the language",
    languages=("ar", "de", "en", "es", "fr", "id", "it", "ja", "ko", "pt", "ru", "th", "tr", "uk", "vi", "zh"),
    temperature=0.0,
    max_new_tokens=1280,
    place=lambda language: Place(hub="AIDC-AI/Marco-Bench-MIF", file=_file(language), split="train"),
    item=_item,
    needs=("prompt",),
    reference=reference,
    correct=correct,
    missing=missing,
)
