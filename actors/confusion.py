"""Stage 2: from the first confused character to the confusion point, a position in the sampled tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import detectors
from actors.token_bytes import GrowingText, TokenBytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusionPoint:
    """Where an answer first leaves its language.

    Example: in "일본의 통화는 єна", token 9 is the first that contributes a byte to "є".
    """

    token: int
    """c: index into the sampled token ids of the first token with a byte of the first confused character."""
    last_token: int
    """Index of the token that completes this character: nobody can know of the confusion before it."""
    found: detectors.Confusion
    response: str
    """The answer as it was judged."""


class ConfusionWatch:
    """Watches one answer grow and says when its first confusion is certain.

    A detector that raises ends the answer: the engine that asks serves others too.
    """

    def __init__(self, token_bytes: TokenBytes, detector: detectors.Detector) -> None:
        self.error: Exception | None = None
        self._text = GrowingText(token_bytes)
        self._stream = detectors.Stream(detector)

    def push(self, token_ids: Sequence[int]) -> bool:
        """True once no continuation can move or remove the first confusion."""
        try:
            return self._stream.feed(self._text.push(token_ids)) is not None
        except Exception as error:
            self.error = error
            return True


def confusion_point(
    token_ids: Sequence[int], token_bytes: TokenBytes, detector: detectors.Detector
) -> ConfusionPoint | None:
    """The confusion point of a sampled answer; None if it is clean.

    Found from byte offsets of the tokens as they were sampled: nothing is encoded again and no word searched for.
    """
    response = token_bytes.text(token_ids)
    found = detector.find(response)
    if found is None:
        return None
    token, last_token = token_bytes.tokens_of_character(token_ids, response, found.index)
    return ConfusionPoint(token=token, last_token=last_token, found=found, response=response)
