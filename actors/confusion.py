"""Stage 2: from the first confused character to the confusion point, a position in the sampled tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import detectors
from actors.token_bytes import AnswerText, TokenBytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusionPoint:
    """Where an answer first leaves its language.

    Example: in "일본의 통화는 єна", token 9 is the first that contributes a byte to "є".
    """

    token: int
    """c: index into the sampled token ids of the first token with a byte of the first confused character."""
    found: detectors.Confusion
    response: str
    """The answer as it was judged."""


class ConfusionWatch:
    """Watches one answer grow and says when its first confusion is certain."""

    def __init__(self, token_bytes: TokenBytes, profile: detectors.Profile) -> None:
        self._answer = AnswerText(token_bytes)
        self._profile = profile

    def push(self, token_ids: Sequence[int]) -> bool:
        """True once no continuation can move or remove the first confusion."""
        piece = self._answer.push(token_ids)
        return bool(piece) and detectors.find(self._answer.text, self._profile, final=False) is not None


def confusion_point(
    token_ids: Sequence[int], token_bytes: TokenBytes, profile: detectors.Profile
) -> ConfusionPoint | None:
    """The confusion point of a sampled answer; None if it is clean.

    Found from byte offsets of the tokens as they were sampled: nothing is encoded again and no word searched for.
    """
    response = token_bytes.text(token_ids)
    found = detectors.find(response, profile)
    if found is None:
        return None
    token = token_bytes.token_of_character(token_ids, response, found.index)
    return ConfusionPoint(token=token, found=found, response=response)
