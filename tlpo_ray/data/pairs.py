"""From a model's own sampled answers to what sequence-level methods train on: preference pairs, clean answers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tlpo_ray.flow.records import Prompt

IsClean = Callable[[Prompt, str], bool]
"""Whether an answer to a prompt has no confusion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two answers to one prompt.

    Example: ``Pair(id="ko-7", language="ko", prompt="일본의 통화는?", chosen="엔화입니다.", rejected="єна입니다.")``
    """

    id: str
    language: str
    prompt: str
    chosen: str
    """A clean answer."""
    rejected: str
    """A confused one; empty in a set of clean answers alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeAnswers:
    """Of sampled answers those that can be learned from.

    Example: ``WholeAnswers(texts={0: ["엔입니다.", "єна입니다."]}, cut_off=0, blank=0)``
    """

    texts: Mapping[int, Sequence[str]]
    """By the prompt's index."""
    cut_off: int
    """Answers left out because they ran out of room: learned as whole ones, they would teach to end there."""
    blank: int
    """Answers left out because they say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSet:
    """Pairs, and the prompts that gave none."""

    pairs: tuple[Pair, ...]
    all_clean: int
    """Prompts whose answers were all clean."""
    all_confused: int
    """Prompts whose answers were all confused."""
    unanswered: int
    """Prompts without an answer: they left no room for one."""


def whole_answers(answers: Iterable[tuple[int, str, bool]]) -> WholeAnswers:
    """Sort out what cannot be learned from; of each answer the prompt's index, the text, and whether the model ended
    it."""
    texts: dict[int, list[str]] = {}
    cut_off = blank = 0
    for index, text, finished in answers:
        if not finished:
            cut_off += 1
        elif not text.strip():
            blank += 1
        else:
            texts.setdefault(index, []).append(text)
    return WholeAnswers(texts=texts, cut_off=cut_off, blank=blank)


def preference_pairs(
    prompts: Sequence[Prompt], answers: Mapping[int, Sequence[str]], is_clean: IsClean, seed: int
) -> PairSet:
    """One pair a prompt: a random clean answer over a random confused one; prompts without either give none.

    Args:
        answers: sampled answers by the prompt's index.
        is_clean: the judge.
        seed: a prompt's pair depends on it, on the prompt's index and on its answers alone.
    """
    return _chosen(prompts, answers, is_clean, seed, paired=True)


def clean_answers(
    prompts: Sequence[Prompt], answers: Mapping[int, Sequence[str]], is_clean: IsClean, seed: int
) -> PairSet:
    """One random clean answer a prompt, as pairs without a rejected one; prompts without a clean answer give none."""
    return _chosen(prompts, answers, is_clean, seed, paired=False)


def _chosen(
    prompts: Sequence[Prompt], answers: Mapping[int, Sequence[str]], is_clean: IsClean, seed: int, *, paired: bool
) -> PairSet:
    pairs: list[Pair] = []
    all_clean = all_confused = unanswered = 0
    for prompt in prompts:
        given = answers.get(prompt.index, ())
        clean = [answer for answer in given if is_clean(prompt, answer)]
        confused = [answer for answer in given if answer not in clean]
        if not given:
            unanswered += 1
        elif not clean:
            all_confused += 1
        elif paired and not confused:
            all_clean += 1
        else:
            draw = random.Random(f"tlpo pairs {seed} {prompt.index}")
            chosen, rejected = draw.choice(clean), draw.choice(confused) if paired else ""
            pairs.append(
                Pair(id=prompt.id, language=prompt.language, prompt=prompt.text, chosen=chosen, rejected=rejected)
            )
    return PairSet(pairs=tuple(pairs), all_clean=all_clean, all_confused=all_confused, unanswered=unanswered)
