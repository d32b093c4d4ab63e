"""GSM8K-cross: an English problem, with an instruction in the target language to explain and answer in it."""

from __future__ import annotations

from tlpo_ray.data.tables import Record
from tlpo_ray.evaluation.suites.numbers import last_number
from tlpo_ray.evaluation.suites.suite import DataLocation, Fields, Item, Suite

INSTRUCTIONS = {
    "ko": "다음 문제를 풀고 풀이 과정을 한국어로 설명하세요.\n문제: {{question}}\n"
    '마지막 문장은 반드시 "최종 답은 [답]입니다."로 쓰되, [답] 자리에 문제의 답을 넣으세요.',
    "zh": "请解答下面的问题，并用中文说明解题过程。\n问题：{{question}}\n"
    "最后一句必须写成“最终答案是[答案]。”，其中[答案]换成本题的答案。",
    "ja": "次の問題を解き、考え方を日本語で説明してください。\n問題: {{question}}\n"
    "最後の文は必ず「最終的な答えは[答え]です。」とし、[答え]にはこの問題の答えを入れてください。",
    "ar": "حل المسألة التالية واشرح خطوات الحل باللغة العربية.\nالمسألة: {{question}}\n"
    'يجب أن تكون الجملة الأخيرة: "الجواب النهائي هو [الجواب]." مع وضع جواب المسألة مكان [الجواب].',
}
"""Instruction by language, in our own wording of the paper's task. `{{question}}` is the English problem."""
_PROBLEMS = "en"
"""Language of the problems, and of the solutions with the right numbers."""


def correct(answer: str, reference: str, language: str) -> bool:
    """Return whether the last number of an answer is the right one, as its language writes numbers."""
    number = last_number(answer, language)
    return number is not None and number == last_number(reference, _PROBLEMS)


def prompt(question: str, language: str) -> str:
    """Return the prompt for a problem in a language."""
    return INSTRUCTIONS[language].replace("{{question}}", question)


def reference(fields: Fields) -> str:
    """Return the number after `####` at the end of a worked solution."""
    return str(fields.get("answer", "")).rpartition("####")[2].strip()


def _item(fields: Fields, language: str, record: Record) -> Item | str:
    right = reference(fields)
    if last_number(right, _PROBLEMS) is None:
        return "answer is no number"  # a key of result.json, kept for those who read it
    return Item(
        suite="gsm8k-cross", task="gsm8k-cross", source="gsm8k", id=record.name,
        language=language, prompt=prompt(str(fields["question"]), language), reference=right,
    )  # fmt: skip


SUITE = Suite(
    name="gsm8k-cross",
    languages=tuple(INSTRUCTIONS),
    temperature=0.0,
    max_new_tokens=512,
    location=lambda language: DataLocation(hub="madrylab/gsm8k-platinum", subset="main"),
    item=_item,
    required_fields=("question", "answer"),
    prompt=lambda fields, language: prompt(str(fields["question"]), language),
    reference=reference,
    correct=correct,
)
