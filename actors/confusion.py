"""Stage 2: from the first confused character to the confusion point, a position in the sampled tokens (Eq. 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import detectors
from actors.token_bytes import GrowingText, TokenBytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusionPoint:
    """Position at which an answer first leaves its language.

    Example: in "일본의 통화는 єна", token 9 is the first that contributes a byte to "є".
    """

    token: int
    """c: index into the sampled token ids of the first token with a byte of the first confused character."""
    last_token: int
    """Index of the token that completes this character: the confusion cannot be noticed before it."""
    finding: detectors.Finding
    """First error that the detector found in `response`."""
    response: str
    """The answer as the detector saw it."""


class StreamingDetector:
    """Runs a detector over one answer while it is sampled, until its first confusion is certain.

    An exception of the detector stops the answer and is kept in `error`. It must not leave `stop_condition`: the engine
    that calls it serves other answers as well.
    """

    def __init__(self, token_bytes: TokenBytes, detector: detectors.Detector) -> None:
        self.error: Exception | None = None
        """Exception that the detector raised."""
        self._text = GrowingText(token_bytes)
        self._stream = detectors.Stream(detector)

    def stop_condition(self, token_ids: Sequence[int]) -> bool:
        """Feed the tokens by which the answer has grown; return True once nothing can move or remove the confusion."""
        try:
            return self._stream.feed(self._text.push(token_ids)) is not None
        except Exception as error:
            self.error = error
            return True


def confusion_point(
    token_ids: Sequence[int], token_bytes: TokenBytes, detector: detectors.Detector
) -> ConfusionPoint | None:
    """Return the confusion point of a sampled answer (Eq. 1), or None if the answer is clean.

    It is located by byte offsets of the sampled tokens. Encoding the text again could give other tokens, and searching
    for the confused word could find another occurrence.

    Args:
        token_ids: The answer, without its end-of-text token.
        token_bytes: Bytes of the tokenizer's tokens.
        detector: Detector of the prompt's language.

    Raises:
        Exception: Whatever the detector raises.
    """
    response = token_bytes.text(token_ids)
    finding = detector.find(response)
    if finding is None:
        return None
    token, last_token = token_bytes.tokens_of_character(token_ids, response, finding.start)
    return ConfusionPoint(token=token, last_token=last_token, finding=finding, response=response)
