"""Stage 4: the lookahead of each candidate, and its reward (Eq. 3)."""

from __future__ import annotations

import codecs
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

import detectors
from actors.confusion import cut_at_stop_string
from actors.coroutine import RolloutCoroutine
from actors.requests import CandidateSet, GreedyRequest
from actors.rollout import Rollout
from actors.token_bytes import TokenBytes
from tlpo_ray.flow.records import CLEAN_REWARD, CONFUSED_REWARD, Float32, readable


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateScores:
    """Rewards of one candidate set, and the texts that were judged."""

    rewards: Float32
    """[N] +1 or -1."""
    lookaheads: tuple[str, ...]
    """[N] text of each candidate with its continuation."""


def score_candidates(
    candidates: CandidateSet, context: Sequence[int], scorer: CandidateScorer, lookahead_tokens: int
) -> RolloutCoroutine[CandidateScores]:
    """Return R(t_i) of all candidates (Eq. 3): -1 if t_i or its k greedy tokens contain a confused character.

    No lookahead is requested for a candidate whose reward further text cannot change: one that ends the answer, or is
    confused by itself. All others are continued, also those without text of their own.

    Args:
        candidates: Candidate set at a confusion point.
        context: Prompt and answer before that point.
        scorer: Scorer of that point.
        lookahead_tokens: k, most greedy tokens after each candidate.
    """
    token_ids = candidates.token_ids.tolist()
    open_ids = [token_id for token_id in token_ids if not scorer.is_decided(token_id)]
    continuations: list[list[int]] = yield GreedyRequest(
        contexts=[(*context, token_id) for token_id in open_ids], max_new_tokens=lookahead_tokens
    )
    tails = dict(zip(open_ids, continuations, strict=True))
    return scorer.scores([[token_id, *tails.get(token_id, ())] for token_id in token_ids])


class CandidateScorer:
    """Judges continuations at one confusion point in their left context.

    The context matters, because a URL, a number with its unit, a capitalised word or a stop string may begin before the
    confusion point.

    Args:
        rollout: Rollout with a confusion point.
        token_bytes: Bytes of the tokenizer's tokens.
        detector: Detector of the prompt's language.
        eos_ids: End-of-text tokens of the engine. No other token ends the answer, whether or not it has bytes.
        stop_strings: Texts that end the answer, which does not contain them.
    """

    def __init__(
        self,
        rollout: Rollout,
        token_bytes: TokenBytes,
        detector: detectors.Detector,
        eos_ids: Collection[int],
        stop_strings: Sequence[str] = (),
    ) -> None:
        assert rollout.point is not None
        self._token_bytes = token_bytes
        self._eos_ids = eos_ids
        self._stop_strings = stop_strings
        decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
        left = decoder.decode(token_bytes.join(rollout.token_ids[: rollout.point.token]))
        self._stream = detectors.Stream(detector, prefix=left)
        # A character whose bytes began before c is completed by the continuation, and is judged as part of it.
        self._open: bytes = decoder.getstate()[0]
        longest = max(map(len, stop_strings), default=0)
        self._before = left[-longest:] if longest else ""
        """As much of the left context as may belong to a stop string."""

    def is_decided(self, token_id: int) -> bool:
        """Return whether a candidate's reward is certain without a lookahead."""
        if token_id in self._eos_ids:
            return True
        text = self._decode([token_id])
        return self._cut(text) != text or self._stream.copy().feed(text) is not None

    def scores(self, continuations: Sequence[Sequence[int]]) -> CandidateScores:
        """Return reward and text of each continuation, which begins with a candidate."""
        texts = [self._text(token_ids) for token_ids in continuations]
        confused = [self._is_confused(text) for text in texts]
        rewards = np.where(confused, CONFUSED_REWARD, CLEAN_REWARD).astype(np.float32)
        return CandidateScores(rewards=rewards, lookaheads=tuple(map(readable, texts)))

    def _is_confused(self, text: str) -> bool:
        # A copy that has read the left context: it would cost N times as much to read it again for each candidate.
        stream = self._stream.copy()
        stream.feed(text)
        return stream.close() is not None

    def _text(self, token_ids: Sequence[int]) -> str:
        """Return the text of the answer from the confusion point on, if it continues with these tokens."""
        return "" if token_ids[0] in self._eos_ids else self._cut(self._decode(token_ids))

    def _cut(self, text: str) -> str:
        # The stop string may begin in the left context: then nothing of this text belongs to the answer.
        return cut_at_stop_string(self._before + text, self._stop_strings)[len(self._before) :]

    def _decode(self, token_ids: Sequence[int]) -> str:
        # An unfinished last character decodes to lone surrogates, which no detector takes for evidence.
        return (self._open + self._token_bytes.join(token_ids)).decode("utf-8", errors="surrogateescape")
