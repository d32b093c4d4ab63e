"""Marco-Bench-MIF: prompts with verifiable instructions, checked as lm-eval's IFEval checks them."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping

from tlpo_ray.data.tables import Record
from tlpo_ray.evaluation.suites.suite import DataLocation, Fields, Item, Suite

RESPONSE_LANGUAGE = "language:response_language"
SAME = {"zh-cn": "zh", "zh-hans": "zh"}
"""Language codes of the data set and ours, where they differ."""
LOCALIZED = ("ar", "es", "zh")
"""Languages with a localized edition besides the translated one; the paper uses the localized one."""
MISLABELLED = {"ko": {67}}
"""Rows with a wrong label (Appendix E), counted from 0, by language."""


def response_language(fields: Fields) -> str | None:
    """Return the language that the prompt explicitly asks for; None if it names none."""
    ids, arguments = fields.get("instruction_id_list"), fields.get("kwargs")
    if not isinstance(ids, list) or not isinstance(arguments, list) or RESPONSE_LANGUAGE not in ids:
        return None
    asked = arguments[ids.index(RESPONSE_LANGUAGE)]
    language = asked.get("language") if isinstance(asked, Mapping) else None
    return SAME.get(str(language).lower(), str(language).lower()) if language else None


def reference(fields: Fields) -> str:
    """Return the instructions to check, as JSON; empty if the record has none."""
    ids, arguments = fields.get("instruction_id_list"), fields.get("kwargs")
    if not isinstance(ids, list) or not isinstance(arguments, list) or len(ids) != len(arguments):
        return ""
    given = [_given(instruction_arguments) for instruction_arguments in arguments]
    return json.dumps({"instruction_id_list": ids, "kwargs": given}, ensure_ascii=False)


def _given(arguments: object) -> Fields:
    """Return the arguments that were given: in a table every row has all of them, and the others are None."""
    if not isinstance(arguments, Mapping):
        return {}
    return {name: value for name, value in arguments.items() if value is not None}


def missing() -> str:
    """Return what IFEval's checks need and is not installed: importing them would download it without asking."""
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
    """Return whether an answer strictly follows all instructions of its prompt; `missing()` must be empty."""
    from langdetect import DetectorFactory  # type: ignore[import-untyped]
    from lm_eval.tasks.ifeval.utils import process_results

    DetectorFactory.seed = 0  # langdetect samples at random, but an answer must get the same score every time
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
    languages=("ar", "de", "en", "es", "fr", "id", "it", "ja", "ko", "pt", "ru", "th", "tr", "uk", "vi", "zh"),
    temperature=0.0,
    max_new_tokens=1280,
    location=lambda language: DataLocation(hub="AIDC-AI/Marco-Bench-MIF", file=_file(language), split="train"),
    item=_item,
    required_fields=("prompt",),
    reference=reference,
    correct=correct,
    missing=missing,
)
