"""Training examples for sequence-level methods from a model's sampled answers: preference pairs and clean answers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from tlpo_ray.flow.conversation import Conversation
from tlpo_ray.flow.records import Prompt

IsClean = Callable[[Prompt, str], bool]
"""Returns whether an answer to a prompt contains no confusion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two answers to one prompt.

    Example: ``Pair(id="ko-7", language="ko", prompt="일본의 통화는?", chosen="엔화입니다.", rejected="єна입니다.")``
    """

    id: str
    """The prompt's id."""
    language: str
    prompt: str | Conversation
    chosen: str
    """A clean answer."""
    rejected: str
    """A confused answer; empty in a set of clean answers only."""

    def to_row(self) -> dict[str, object]:
        """Return the pair as a line of a file: in TRL's conversational form if its prompt is a conversation."""
        if isinstance(self.prompt, str):
            return asdict(self)
        tools = {"tools": list(self.prompt.tools)} if self.prompt.tools else {}
        chosen, rejected = ([{"role": "assistant", "content": text}] for text in (self.chosen, self.rejected))
        return {
            "id": self.id, "language": self.language, "prompt": self.prompt.turns, **tools, "chosen": chosen,
            "rejected": rejected,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class UsableAnswers:
    """Sampled answers that a model can be trained on, and how many others were left out.

    Example: ``UsableAnswers(texts={0: ["엔입니다.", "єна입니다."]}, cut_off=0, blank=0)``
    """

    texts: Mapping[int, Sequence[str]]
    """Answers by the index of their prompt."""
    cut_off: int
    """Number of answers left out because they reached the length limit: trained on, they would teach the model to
    break off."""
    blank: int
    """Number of answers left out because they are empty or white space."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSet:
    """Pairs, and the numbers of prompts without one: they add up to the number of prompts."""

    pairs: tuple[Pair, ...]
    all_clean: int
    """Number of prompts with clean answers only."""
    all_confused: int
    """Number of prompts with confused answers only."""
    unanswered: int
    """Number of prompts without a usable answer, e.g. those that fill the model's context."""


def usable_answers(answers: Iterable[tuple[int, str, bool]]) -> UsableAnswers:
    """Leave out the answers that must not be trained on.

    Args:
        answers: (index of the prompt, text, whether the model ended the answer itself) of every answer.
    """
    texts: dict[int, list[str]] = {}
    cut_off = blank = 0
    for index, text, finished in answers:
        if not finished:
            cut_off += 1
        elif not text.strip():
            blank += 1
        else:
            texts.setdefault(index, []).append(text)
    return UsableAnswers(texts=texts, cut_off=cut_off, blank=blank)


def preference_pairs(
    prompts: Sequence[Prompt], answers: Mapping[int, Sequence[str]], is_clean: IsClean, seed: int
) -> PairSet:
    """Draw one pair per prompt: a random clean answer as chosen, a random confused one as rejected.

    Prompts without a clean or without a confused answer give no pair.

    Args:
        prompts: the prompts that were answered.
        answers: sampled answers by the index of their prompt.
        is_clean: returns whether an answer is clean.
        seed: seed of the draw; a prompt's pair depends only on it, on the prompt's index and on its answers.
    """
    return _draw(prompts, answers, is_clean, seed, paired=True)


def clean_answers(
    prompts: Sequence[Prompt], answers: Mapping[int, Sequence[str]], is_clean: IsClean, seed: int
) -> PairSet:
    """Draw one random clean answer per prompt, as a pair with an empty `rejected`.

    Prompts without a clean answer give none. The arguments are those of `preference_pairs`.
    """
    return _draw(prompts, answers, is_clean, seed, paired=False)


def _draw(
    prompts: Sequence[Prompt], answers: Mapping[int, Sequence[str]], is_clean: IsClean, seed: int, *, paired: bool
) -> PairSet:
    pairs: list[Pair] = []
    all_clean = all_confused = unanswered = 0
    for prompt in prompts:
        prompt_answers = answers.get(prompt.index, ())
        clean = [answer for answer in prompt_answers if is_clean(prompt, answer)]
        confused = [answer for answer in prompt_answers if answer not in clean]
        if not prompt_answers:
            unanswered += 1
        elif not clean:
            all_confused += 1
        elif paired and not confused:
            all_clean += 1
        else:
            # A generator per prompt, so that a prompt's pair does not depend on the prompts before it.
            rng = random.Random(f"tlpo pairs {seed} {prompt.index}")
            chosen, rejected = rng.choice(clean), rng.choice(confused) if paired else ""
            pairs.append(
                Pair(id=prompt.id, language=prompt.language, prompt=prompt.content, chosen=chosen, rejected=rejected)
            )
    return PairSet(pairs=tuple(pairs), all_clean=all_clean, all_confused=all_confused, unanswered=unanswered)
