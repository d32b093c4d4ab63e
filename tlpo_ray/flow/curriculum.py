"""Curriculum: roll out prompts in proportion to how often prompts like them were confused lately.

Late in a run nearly every answer is clean, and nothing can be learned from a clean answer. With a curriculum, a prompt
is rolled out with a probability proportional to the recent confusion rate of its language and, where prompts repeat,
of the prompt itself. The prompts that are learned from are then not a fair sample of the prompt file any more; the
minimum probability bounds the bias.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from tlpo_ray.flow.draws import uniform
from tlpo_ray.flow.records import Prompt

EXCLUDED = "excluded: prompts like it are rarely confused (data.curriculum.min_probability)"
"""Reason with which excluded prompts are counted as skipped."""
PROMPT_WEIGHT = 0.3
"""Weight of the latest answer in the moving average of its prompt's confusion rate."""
LANGUAGE_WEIGHT = 0.005
"""Weight of an answer in the moving average of its language's confusion rate: the last few hundred answers count."""


class Curriculum:
    """Selects the prompts to roll out.

    Observations count from the next `fold` on, in the order of the prompts, so the order in which results are submitted
    changes nothing.

    Args:
        min_probability: Minimum probability with which a prompt is selected, above 0 and at most 1.
        seed: Seed of the run.
    """

    def __init__(self, min_probability: float, seed: int) -> None:
        self._min_probability = min_probability
        self._seed = seed
        self._languages: dict[str, float] = {}
        """Confusion rate per language, 0 to 1."""
        self._prompts: dict[bytes, float] = {}
        """Confusion rate per prompt that was rolled out, by a hash of language and text."""
        self._observed: list[tuple[Prompt, bool]] = []

    def selects(self, prompt: Prompt) -> bool:
        """Return whether to roll out a prompt; between two folds the result is always the same."""
        return uniform(self._seed, prompt.index) < self.probability(prompt)

    def probability(self, prompt: Prompt) -> float:
        """Return the probability that a prompt is selected.

        It is the confusion rate of the prompt, or of its language if the prompt is new, relative to that of the
        language that is confused most, and at least the minimum probability.
        """
        highest = max(self._languages.values(), default=0.0)
        rate = self._prompts.get(_key(prompt), self._languages.get(prompt.language, 1.0))
        return 1.0 if highest <= 0 else max(self._min_probability, min(1.0, rate / highest))

    def observe(self, prompt: Prompt, confused: bool) -> None:
        """Add the outcome of an answer."""
        self._observed.append((prompt, confused))

    def fold(self) -> None:
        """Update the confusion rates with everything observed since the last call, in the order of the prompts."""
        for prompt, confused in sorted(self._observed, key=lambda observation: observation[0].index):
            key, outcome = _key(prompt), float(confused)
            language_rate = self._languages.get(prompt.language, 1.0)
            rate = self._prompts.get(key, language_rate)
            self._prompts[key] = rate + PROMPT_WEIGHT * (outcome - rate)
            self._languages[prompt.language] = language_rate + LANGUAGE_WEIGHT * (outcome - language_rate)
        self._observed.clear()

    def snapshot(self) -> dict[str, float]:
        """Return the confusion rate per language.

        The rates of single prompts are too many to keep; after `restore` they start from their language's rate.
        """
        return dict(self._languages)

    def restore(self, snapshot: Mapping[str, float]) -> None:
        """Start with these confusion rates per language."""
        self._languages = dict(snapshot)


def _key(prompt: Prompt) -> bytes:
    return hashlib.blake2b(f"{prompt.language}\n{prompt.key}".encode(), digest_size=8).digest()
