"""Yield-aware prompts: ask more often what confuses the policy, and everything now and then.

Late in a run nearly every answer is clean, and a clean answer teaches nothing. With a focus, a prompt is asked with a
probability in proportion to how often its like was confused lately: its language, and, where prompts return, itself.
The prompts that are learned from are then no fair sample of the file any more; the floor bounds by how much.
"""

from __future__ import annotations

import hashlib

from tlpo_ray.flow.records import Prompt

EXCLUDED = "left out: its like is rarely confused (data.curriculum.min_probability)"
MEMORY = 0.3
"""Weight of a prompt's last answer in its own rate."""
LANGUAGE_MEMORY = 0.005
"""Of an answer in its language's rate: the last few hundred count."""


class Curriculum:
    """Which prompts to ask. What is observed counts from the next `fold` on, so the order of results changes nothing.

    Args:
        floor: least probability to ask a prompt, above 0.
        seed: of the run.
    """

    def __init__(self, floor: float, seed: int) -> None:
        self._floor = floor
        self._seed = seed
        self._languages: dict[str, float] = {}
        self._prompts: dict[bytes, float] = {}
        """Confusion rate of those that were asked, by a hash of their text."""
        self._observed: list[tuple[Prompt, bool]] = []

    def wants(self, prompt: Prompt) -> bool:
        """Whether to ask it; the same answer whenever it is asked between two folds."""
        digest = hashlib.blake2b(f"{self._seed},{prompt.index}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64 < self.chance(prompt)

    def chance(self, prompt: Prompt) -> float:
        """Probability to ask it: its rate over that of the language that is confused most, at least the floor."""
        most = max(self._languages.values(), default=0.0)
        own = self._prompts.get(_key(prompt), self._languages.get(prompt.language, 1.0))
        return 1.0 if most <= 0 else max(self._floor, min(1.0, own / most))

    def observe(self, prompt: Prompt, confused: bool) -> None:
        """Note how an answer turned out."""
        self._observed.append((prompt, confused))

    def fold(self) -> None:
        """Let what was observed count, in the order of the prompts."""
        for prompt, confused in sorted(self._observed, key=lambda one: one[0].index):
            language = self._languages.get(prompt.language, 1.0)
            key, found = _key(prompt), float(confused)
            own = self._prompts.get(key, language)
            self._prompts[key] = own + MEMORY * (found - own)
            self._languages[prompt.language] = language + LANGUAGE_MEMORY * (found - language)
        self._observed.clear()

    def snapshot(self) -> dict[str, float]:
        """Rates of the languages; those of single prompts are too many to keep, they begin anew from these."""
        return dict(self._languages)

    def restore(self, snapshot: dict[str, float]) -> None:
        """Begin with these rates of languages."""
        self._languages = dict(snapshot)


def _key(prompt: Prompt) -> bytes:
    return hashlib.blake2b(f"{prompt.language}\n{prompt.text}".encode(), digest_size=8).digest()
