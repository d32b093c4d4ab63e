"""Marco-Bench-MIF: prompts with verifiable instructions, checked as lm-eval's IFEval checks them."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping

import detectors
from tlpo_ray.data.tables import Record
from tlpo_ray.evaluation.suites.suite import DataLocation, Fields, Item, Suite

RESPONSE_LANGUAGE = "language:response_language"
SAME = {"cmn": "zh", "iw": "he", "in": "id", "nb": "no", "nn": "no", "fil": "tl"}
"""Other codes of a language, and the one of langdetect and ours."""
LOCALIZED = ("ar", "es", "zh")
"""Languages with a localized edition besides the translated one; the paper uses the localized one."""
MISLABELLED = {"ko": {67}}
"""Rows with a wrong label (Appendix E), counted from 0, by language."""


def response_language(fields: Fields) -> str | None:
    """Return the language that the prompt explicitly asks for; None if it names none."""
    ids, arguments = fields.get("instruction_id_list"), fields.get("kwargs")
    if not isinstance(ids, list) or not isinstance(arguments, list) or RESPONSE_LANGUAGE not in ids:
        return None
    return _language(arguments[ids.index(RESPONSE_LANGUAGE)])


def _language(arguments: object) -> str | None:
    """Return the language in the arguments of an instruction, whichever script or region its tag names."""
    language = arguments.get("language") if isinstance(arguments, Mapping) else None
    return _base(str(language)) if language else None


def _base(tag: str) -> str:
    base = tag.lower().replace("_", "-").partition("-")[0]
    return SAME.get(base, base)


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


def correct(answer: str, reference: str, language: str) -> bool:
    """Return whether an answer strictly follows all instructions of its prompt; `missing()` must be empty.

    Answers in another language than `language`, that of the suite, are right where the prompt asks for that language.
    """
    from lm_eval.tasks.ifeval.utils import process_results

    given = json.loads(reference)
    instructions = list(zip(given["instruction_id_list"], given["kwargs"], strict=True))
    # IFEval's table of languages lacks several that the data set asks for, Chinese among them.
    languages = [_language(arguments) for name, arguments in instructions if name == RESPONSE_LANGUAGE]
    if not all(asked is None or _is_in(answer, asked) for asked in languages):
        return False
    others = [instruction for instruction in instructions if instruction[0] != RESPONSE_LANGUAGE]
    names, arguments = [name for name, _ in others], [each for _, each in others]
    checked = process_results({"key": 0, "prompt": "", "instruction_id_list": names, "kwargs": arguments}, [answer])
    return bool(checked["prompt_level_strict_acc"])


def _is_in(answer: str, language: str) -> bool:
    """Return whether an answer is in a language: langdetect decides, as in IFEval, and else our detector.

    Simplified and Traditional Chinese are one language. A text without letters is in every language, an empty one in
    none.

    Raises:
        UnknownLanguageError: Neither knows the language.
    """
    import langdetect  # type: ignore[import-untyped]

    langdetect.DetectorFactory.seed = 0  # it samples at random, but an answer must get the same score every time
    if not answer.strip():
        return False
    try:
        found = langdetect.detect(answer)
    except langdetect.LangDetectException:
        return True
    if language in map(_base, langdetect.detector_factory._factory.get_lang_list()):
        return _base(found) == language
    return detectors.count(answer, detectors.language(language, "confusion")).status == "pass"


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
