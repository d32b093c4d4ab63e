"""Confusion points of a run: where answers became confused, and what the trained policy finds probable there now."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from tlpo_ray.errors import UserError, first_line
from tlpo_ray.flow.records import UNDECIDED_REWARD, CandidateGroup
from tlpo_ray.report.excerpt import Parts, marked_parts, trim_partial

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NewLogp = Mapping[int, Sequence[float]]
"""Number of a group → natural-log probabilities of the trained policy at its candidates, [N]."""
MOST_PROBABLE = 3
"""Texts of the trained policy shown per confusion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """First confused characters that several answers in one language share.

    Example: ``Confusion(language="ko", word="є", kind="Cyrillic", times=31, mass_before=0.41, mass_after=0.02,
    now=["엔화입니다."])``
    """

    language: str
    """Language of the prompts."""
    word: str
    """The confused characters, as far as the answer had come when it was stopped."""
    kind: str
    """What the detector calls it, e.g. the script."""
    times: int
    """Number of confusion points."""
    mass_before: float
    """Probability of the candidates that lead to confusion when sampled, mean over the points."""
    mass_after: float | None
    """The same under the trained policy, mean over the probed points; None if none was probed."""
    now: list[str] | None
    """Most probable continuations under the trained policy; None if no point was probed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A candidate token with its lookahead, and its probability before and after training."""

    lookahead: str
    clean: bool | None
    """Whether it stays in the language; None if that is undecided."""
    before: float
    after: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusionPoint:
    """A confusion point to read: the prompt, the answer up to there, and the candidates."""

    language: str
    prompt: str
    parts: Parts
    mass_before: float
    """Probability of the candidates that lead to confusion, when sampled."""
    mass_after: float | None
    """The same under the trained policy; None if the point was not probed."""
    candidates: list[Candidate]


class TokenTexts:
    """Texts of token ids, if the run's tokenizer exists.

    Args:
        file: `tokenizer.json` of the trained model.

    Raises:
        UserError: The file is damaged.
    """

    def __init__(self, file: Path) -> None:
        self._tokenizer: Tokenizer | None = None
        if file.is_file():
            from tokenizers import Tokenizer

            try:
                self._tokenizer = Tokenizer.from_file(str(file))
            except Exception as error:  # the library raises nothing more precise
                raise UserError(f"{file} is not a tokenizer: {first_line(error)}") from error

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of token ids without special tokens; empty without a tokenizer."""
        return str(self._tokenizer.decode(list(ids))) if self._tokenizer is not None else ""


def confusions(groups: Sequence[CandidateGroup], new_logp: NewLogp) -> list[Confusion]:
    """Return the first confused characters by language, the most frequent first."""
    numbers_by_word: dict[tuple[str, str], list[int]] = {}
    for number, group in enumerate(groups):
        word = trim_partial(group.response[group.span_start : group.span_end])
        numbers_by_word.setdefault((group.language, word), []).append(number)
    by_frequency = sorted(numbers_by_word.items(), key=lambda item: (-len(item[1]), item[0]))
    return [_confusion(language, word, numbers, groups, new_logp) for (language, word), numbers in by_frequency]


def _confusion(
    language: str, word: str, numbers: Sequence[int], groups: Sequence[CandidateGroup], new_logp: NewLogp
) -> Confusion:
    probed = [number for number in numbers if number in new_logp]
    now = Counter(trim_partial(groups[n].lookaheads[int(np.argmax(new_logp[n]))]).strip() for n in probed)
    return Confusion(
        language=language,
        word=word,
        kind=groups[numbers[0]].span_kind,
        times=len(numbers),
        mass_before=float(np.mean([confusing_mass(groups[n], groups[n].old_logp) for n in numbers])),
        mass_after=float(np.mean([confusing_mass(groups[n], new_logp[n]) for n in probed])) if probed else None,
        now=[text for text, _ in now.most_common(MOST_PROBABLE)] if probed else None,
    )


def confusing_mass(group: CandidateGroup, logp: ArrayLike) -> float:
    """Return the probability of the candidates that lead to confusion.

    Args:
        group: The candidate group.
        logp: Natural-log probabilities of all its candidates, [N].
    """
    return float(np.exp(np.asarray(logp, np.float64))[group.rewards < 0].sum())


def confusion_point(group: CandidateGroup, new_logp: Sequence[float] | None, prompt: str) -> ConfusionPoint:
    """Return a confusion point to read.

    Args:
        group: The candidate group.
        new_logp: Natural-log probabilities of the trained policy at its candidates, [N]; None if not probed.
        prompt: Text of the prompt.
    """
    candidates = zip(group.lookaheads, group.rewards, group.old_logp, strict=True)
    return ConfusionPoint(
        language=group.language,
        prompt=prompt,
        # An answer may be stopped in the middle of a character.
        parts=marked_parts(group.response.rstrip("\ufffd"), [(group.span_start, group.span_end)]),
        mass_before=confusing_mass(group, group.old_logp),
        mass_after=confusing_mass(group, new_logp) if new_logp is not None else None,
        candidates=[
            Candidate(
                lookahead=trim_partial(text),
                clean=None if reward == UNDECIDED_REWARD else bool(reward > 0),
                before=math.exp(logp),
                after=math.exp(new_logp[number]) if new_logp is not None else None,
            )
            for number, (text, reward, logp) in enumerate(candidates)
        ],
    )
