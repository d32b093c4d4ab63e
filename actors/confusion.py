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
    part: str = ""
    """Part of the answer that the confusion is in; empty without `detector.segments`."""


class AnswerText:
    """The text of an answer that grows token by token, up to its first stop string.

    Text that may turn out to be the beginning of a stop string is held back until that is decided.

    Args:
        token_bytes: Bytes of the tokenizer's tokens.
        stop_strings: Texts that end the answer (`model.stop_strings`).
    """

    def __init__(self, token_bytes: TokenBytes, stop_strings: Sequence[str]) -> None:
        self.is_complete = False
        """Whether a stop string was found."""
        self._text = GrowingText(token_bytes)
        self._stop_strings = stop_strings
        self._held = ""

    def push(self, token_ids: Sequence[int]) -> str:
        """Return the text of the answer that these further tokens make certain."""
        if self.is_complete:
            return ""
        text = self._held + self._text.push(token_ids)
        end = 0
        # The first place at which a stop string is, or may be. If the latter, later ones do not count yet.
        while end < len(text) and not self._may_stop(text, end):
            end += 1
        self.is_complete = any(text.startswith(string, end) for string in self._stop_strings)
        self._held = text[end:]
        return text[:end]

    def stop_condition(self, token_ids: Sequence[int]) -> bool:
        """Feed the tokens by which the answer has grown; return True once it has a stop string."""
        self.push(token_ids)
        return self.is_complete

    def _may_stop(self, text: str, start: int) -> bool:
        return any(text.startswith(string, start) or string.startswith(text[start:]) for string in self._stop_strings)


class StreamingDetector:
    """Runs a detector over one answer while it is sampled, until its first confusion is certain or a stop string found.

    An exception of the detector stops the answer and is kept in `error`. It must not leave `stop_condition`: the engine
    that calls it serves other answers as well.
    """

    def __init__(self, token_bytes: TokenBytes, detector: detectors.Detector, stop_strings: Sequence[str] = ()) -> None:
        self.error: Exception | None = None
        """Exception that the detector raised."""
        self._text = AnswerText(token_bytes, stop_strings)
        self._stream = detectors.Stream(detector)

    def stop_condition(self, token_ids: Sequence[int]) -> bool:
        """Feed the tokens by which the answer has grown; return True once nothing can change what is found in it."""
        try:
            return self._stream.feed(self._text.push(token_ids)) is not None or self._text.is_complete
        except Exception as error:
            self.error = error
            return True


def confusion_point(
    token_ids: Sequence[int],
    token_bytes: TokenBytes,
    detector: detectors.Detector,
    stop_strings: Sequence[str] = (),
) -> ConfusionPoint | None:
    """Return the confusion point of a sampled answer (Eq. 1), or None if the answer is clean.

    It is located by byte offsets of the sampled tokens. Encoding the text again could give other tokens, and searching
    for the confused word could find another occurrence.

    Args:
        token_ids: All sampled tokens, without the end-of-text token.
        token_bytes: Bytes of the tokenizer's tokens.
        detector: Detector of the prompt's language.
        stop_strings: Texts that end the answer; what was sampled from the first of them on does not belong to it.

    Raises:
        Exception: Whatever the detector raises.
    """
    response = cut_at_stop_string(token_bytes.text(token_ids), stop_strings)
    finding = detector.find(response)
    if finding is None:
        return None
    token, last_token = token_bytes.tokens_of_character(token_ids, response, finding.start)
    part = detector.part_at(response, finding.start) if isinstance(detector, detectors.SegmentedDetector) else ""
    return ConfusionPoint(token=token, last_token=last_token, finding=finding, response=response, part=part)


def cut_at_stop_string(text: str, stop_strings: Sequence[str]) -> str:
    """Return the text before the first stop string in it (`model.stop_strings`); the complete text without one."""
    starts = [start for string in stop_strings if (start := text.find(string)) >= 0]
    return text[: min(starts)] if starts else text


def answer_ids(token_ids: Sequence[int], token_bytes: TokenBytes, stop_strings: Sequence[str]) -> Sequence[int]:
    """Return the tokens of an answer up to its first stop string: those with at least one byte before it.

    The last one may also hold the beginning of the stop string, so that the answer's text is not the text of its tokens
    but that of `cut_at_stop_string`.

    Args:
        token_ids: All sampled tokens, without the end-of-text token.
        token_bytes: Bytes of the tokenizer's tokens.
        stop_strings: Texts that end the answer.
    """
    text = token_bytes.text(token_ids)
    length = len(cut_at_stop_string(text, stop_strings))
    if length == len(text):
        return token_ids
    return token_ids[: 1 + token_bytes.tokens_of_character(token_ids, text, length - 1)[1]] if length else []
