"""MMMLU: multiple choice in the target language, with an English instruction to think before answering."""

from __future__ import annotations

import re
import unicodedata

from tlpo_ray.data.tables import Record
from tlpo_ray.evaluation.suites.suite import DataLocation, Fields, Item, Suite

SUBSETS = {
    "ar": "AR_XY", "bn": "BN_BD", "de": "DE_DE", "es": "ES_LA", "fr": "FR_FR", "hi": "HI_IN", "id": "ID_ID",
    "it": "IT_IT", "ja": "JA_JP", "ko": "KO_KR", "pt": "PT_BR", "sw": "SW_KE", "zh": "ZH_CN",
}  # fmt: skip
"""Configuration of openai/MMMLU by language."""
INSTRUCTION = (
    "Think through the following multiple choice question step by step, then end your response with a line of the "
    "form 'Answer: X', where X is one of the letters A, B, C and D."
)
ANSWER_WORDS = (
    "Answer", "Antwort", "Respuesta", "Réponse", "Risposta", "Resposta", "Jawaban", "Jibu", "답변", "정답", "답",
    "答案", "答え", "回答", "解答", "答", "الإجابة", "الجواب", "إجابة", "उत्तर", "উত্তর",
)  # fmt: skip
LETTERS = {"أ": "A", "ا": "A", "ب": "B", "ج": "C", "د": "D"}
"""Letters of the choices in Arabic tests, and the Latin letter for each."""
_WORD = "|".join(sorted(ANSWER_WORDS, key=len, reverse=True))
_MARKUP = re.compile(r"[*_`$\\{}()\[\]]|boxed|text|mathrm|mathbf")
_ANSWER = re.compile(rf"(?i:{_WORD})[^\n:]{{0,24}}:\s*([A-D](?![A-Za-z])|[{''.join(LETTERS)}](?!\w))")


def letter(answer: str) -> str | None:
    """Return the choice that an answer names last; None if it names none."""
    plain = _MARKUP.sub("", unicodedata.normalize("NFKC", answer))
    named = _ANSWER.findall(plain)
    return LETTERS.get(named[-1], named[-1]) if named else None


def correct(answer: str, reference: str, language: str) -> bool:
    """Return whether an answer, in whatever language, names the right choice."""
    return letter(answer) == reference


def prompt(fields: Fields) -> str:
    """Return the prompt: instruction, question and choices."""
    choices = "\n".join(f"{name}) {fields[name]}" for name in "ABCD")
    return f"{INSTRUCTION}\n\n{fields['Question']}\n\n{choices}"


def reference(fields: Fields) -> str:
    """Return the letter of the right choice."""
    return str(fields.get("Answer", ""))


def _item(fields: Fields, language: str, record: Record) -> Item:
    return Item(
        suite="mmmlu", task="mmmlu", source="mmmlu", id=record.name, language=language, prompt=prompt(fields),
        reference=reference(fields),
    )  # fmt: skip


SUITE = Suite(
    name="mmmlu",
    languages=tuple(SUBSETS),
    temperature=0.5,
    max_new_tokens=1024,
    location=lambda language: DataLocation(hub="openai/MMMLU", subset=SUBSETS[language]),
    item=_item,
    required_fields=("Question", "A", "B", "C", "D", "Answer"),
    prompt=lambda fields, language: prompt(fields),
    reference=reference,
    correct=correct,
)
