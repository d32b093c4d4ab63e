"""From a dataset to a prompt file: which prompts are kept, and why the others are not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tlpo_ray.config.run import DataConfig
from tlpo_ray.data.prompts import UNREADABLE, Reject, each_prompt, too_long
from tlpo_ray.data.readers import SUFFIXES
from tlpo_ray.flow.records import Prompt

EXAMPLES = 3
"""Dropped prompts kept as examples, by reason."""
NO_ANSWER = "has no answer"
Spans = list[tuple[int, int]]
"""Code points [start, end) of a prompt's text."""


def _nowhere(prompt: Prompt) -> Spans:
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One reason to drop prompts."""

    reject: Reject
    spans: Callable[[Prompt], Spans] = _nowhere
    """What in a rejected prompt is the reason; asked for examples only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A dropped prompt.

    Example: ``Example(id="alpaca-7", text="일본어로 번역하세요.", spans=((0, 3),))``
    """

    id: str
    text: str
    spans: tuple[tuple[int, int], ...]

    @property
    def found(self) -> list[str]:
        """The words that are the reason."""
        return [self.text[start:end] for start, end in self.spans]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The prompts that are kept, and an account of the others: `read == len(prompts) + sum(dropped.values())`."""

    prompts: tuple[Prompt, ...]
    """In the source's order: `prompts[i].index == i`."""
    answers: tuple[str, ...]
    """The answers that stand beside them; empty where none were asked for."""
    read: int
    dropped: Mapping[str, int]
    """By the first reason that applies."""
    examples: Mapping[str, tuple[Example, ...]]
    """The first of each reason; of records that cannot be read, where they are and nothing else."""


def prepare(data: DataConfig, rules: Sequence[Rule], answer_field: str | None = None) -> Prepared:
    """Every record of the source, kept unless one of the rules speaks against it.

    Args:
        data: source and fields. Its filters, its order and its limit are those of a run: they are not used here.
        rules: asked in this order.
        answer_field: field of the answer; prompts without one are dropped.

    Raises:
        PromptFileError: the source cannot be read; or, without `data.skip_bad`, a record in it.
    """
    prompts: list[Prompt] = []
    answers: list[str] = []
    dropped: Counter[str] = Counter()
    examples: dict[str, list[Example]] = {}
    for record, prompt in each_prompt(data):
        answer = record.fields.get(answer_field) if answer_field and record.fields else None
        if prompt is None:
            reason, example = UNREADABLE, Example(id=record.place, text="", spans=())
        elif (broken := _broken(prompt, rules)) is not None:
            reason, rule = broken
            spans = rule.spans(prompt) if len(examples.get(reason, ())) < EXAMPLES else []
            example = Example(id=prompt.id, text=prompt.text, spans=tuple(spans))
        elif answer_field and not (isinstance(answer, str) and answer.strip()):
            reason, example = NO_ANSWER, Example(id=prompt.id, text=prompt.text, spans=())
        else:
            prompts.append(Prompt(index=len(prompts), id=prompt.id, language=prompt.language, text=prompt.text))
            answers += [answer] if isinstance(answer, str) else []
            continue
        dropped[reason] += 1
        if dropped[reason] <= EXAMPLES:
            examples.setdefault(reason, []).append(example)
    return Prepared(
        prompts=tuple(prompts),
        answers=tuple(answers),
        read=len(prompts) + dropped.total(),
        dropped=dict(dropped),
        examples={reason: tuple(found) for reason, found in examples.items()},
    )


def _broken(prompt: Prompt, rules: Sequence[Rule]) -> tuple[str, Rule] | None:
    """The first rule that rejects the prompt, with its reason."""
    for rule in rules:
        reason = rule.reject(prompt)
        if reason is not None:
            return reason, rule
    return None


def in_language(language: str) -> Rule:
    """Only prompts of one language."""
    return Rule(reject=lambda prompt: None if prompt.language == language else "is in another language")


def not_longer_than(max_characters: int) -> Rule:
    """Only prompts of at most so many characters."""
    return Rule(reject=lambda prompt: too_long(max_characters) if len(prompt.text) > max_characters else None)


def no_second_time() -> Rule:
    """Every text once, white space aside; of use for one source only, and as the last rule."""
    seen: set[str] = set()

    def reject(prompt: Prompt) -> str | None:
        text = " ".join(prompt.text.split())
        if text in seen:
            return "is there already"
        seen.add(text)
        return None

    return Rule(reject=reject)


def file_of(source: str, language: str) -> str:
    """The file of a folder that is named after the language (`ko.json.gz`, as Bactrian-X's); else the source itself."""
    if not source or not Path(source).is_dir():
        return source
    names = {f"{language}{suffix}" for suffix in SUFFIXES}
    found = [file for file in Path(source).rglob("*") if file.name in names]
    return str(found[0]) if len(found) == 1 else source
