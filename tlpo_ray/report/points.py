"""Confusion points of a run: into what answers slipped, and what the trained policy finds probable there now."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlpo_ray.errors import UserError, first_line
from tlpo_ray.flow.records import CandidateGroup
from tlpo_ray.report.excerpt import marked_parts, whole

Json = dict[str, Any]
NewLogp = Mapping[int, Sequence[float]]


class Tokens:
    """Texts of token ids, where the run's tokenizer is there.

    Raises:
        UserError: the file is damaged.
    """

    def __init__(self, file: Path) -> None:
        self._tokenizer: Any = None
        if file.is_file():
            from tokenizers import Tokenizer

            try:
                self._tokenizer = Tokenizer.from_file(str(file))
            except Exception as error:  # the library raises nothing more precise
                raise UserError(f"{file}: no tokenizer: {first_line(error)}") from error

    def text(self, ids: Sequence[int]) -> str:
        """What the ids say without special tokens; empty without a tokenizer."""
        return str(self._tokenizer.decode(list(ids))) if self._tokenizer is not None else ""


def slips(groups: Sequence[CandidateGroup], new_logp: NewLogp) -> list[Json]:
    """First confused characters by language, the most frequent first, with the mass of confusing candidates.

    `before` and `after` are means over confusion points, shares of 1; `after` and `now` are None where none was probed.
    """
    found: dict[tuple[str, str], list[int]] = {}
    for number, group in enumerate(groups):
        slipped = whole(group.response[group.span_start : group.span_end])
        found.setdefault((group.language, slipped), []).append(number)
    most = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    return [
        {
            "language": language,
            "word": word,
            "script": groups[numbers[0]].span_script,
            "times": len(numbers),
            "before": float(np.mean([confusing_mass(groups[n], groups[n].old_logp) for n in numbers])),
            **_after(groups, new_logp, numbers),
        }
        for (language, word), numbers in most
    ]


def _after(groups: Sequence[CandidateGroup], new_logp: NewLogp, numbers: Sequence[int]) -> Json:
    """Under the trained policy: the mass, and the texts that are most probable now."""
    probed = [number for number in numbers if number in new_logp]
    if not probed:
        return {"after": None, "now": None}
    mass = float(np.mean([confusing_mass(groups[n], new_logp[n]) for n in probed]))
    now = Counter(whole(groups[n].lookaheads[int(np.argmax(new_logp[n]))]).strip() for n in probed)
    return {"after": mass, "now": [text for text, _ in now.most_common(3)]}


def confusing_mass(group: CandidateGroup, logp: Any) -> float:
    """Probability of the candidates that lead to confusion, given all candidates' natural-log probabilities [N]."""
    return float(np.exp(np.asarray(logp, np.float64))[group.rewards < 0].sum())


def point(group: CandidateGroup, new_logp: Sequence[float] | None, prompt: str) -> Json:
    """A confusion point to look at: prompt, answer up to there, candidates with their probabilities."""
    return {
        "language": group.language,
        "prompt": prompt,
        # An answer is stopped in the middle of a character.
        "parts": marked_parts(group.response.rstrip("\ufffd"), [(group.span_start, group.span_end)]),
        "version": group.sampling_version,
        "before": confusing_mass(group, group.old_logp),
        "after": confusing_mass(group, new_logp) if new_logp is not None else None,
        "candidates": [
            {
                "lookahead": whole(text),
                "clean": bool(reward > 0),
                "before": math.exp(logp),
                "after": math.exp(new_logp[i]) if new_logp is not None else None,
            }
            for i, (text, reward, logp) in enumerate(zip(group.lookaheads, group.rewards, group.old_logp, strict=True))
        ],
    }
