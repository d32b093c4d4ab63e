"""Stage 4: the lookahead of each candidate, and its reward (Eq. 3)."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import detectors
from actors.candidates import context_of
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
    rollout: Rollout,
    candidates: CandidateSet,
    detector: detectors.Detector,
    token_bytes: TokenBytes,
    lookahead_tokens: int,
) -> RolloutCoroutine[CandidateScores]:
    """Return R(t_i) of all candidates (Eq. 3): -1 if t_i or its k greedy tokens contain a confused character.

    No lookahead is requested for a candidate that ends the answer or is already confused by itself, because further
    text cannot change its reward.

    Args:
        rollout: Rollout with a confusion point.
        candidates: Candidate set at that point.
        detector: Detector of the prompt's language.
        token_bytes: Bytes of the tokenizer's tokens.
        lookahead_tokens: k, most greedy tokens after each candidate.
    """
    scorer, token_ids = CandidateScorer(rollout, token_bytes, detector), candidates.token_ids.tolist()
    open_ids = [token_id for token_id in token_ids if token_bytes[token_id] and not scorer.is_certain([token_id])]
    context = context_of(rollout)
    continuations: list[list[int]] = yield GreedyRequest(
        contexts=[(*context, token_id) for token_id in open_ids], max_new_tokens=lookahead_tokens
    )
    tails = dict(zip(open_ids, continuations, strict=True))
    return scorer.scores([[token_id, *tails.get(token_id, ())] for token_id in token_ids])


class CandidateScorer:
    """Judges continuations at one confusion point in their left context.

    The context matters, because a URL, a number with its unit or a capitalised word may begin before the confusion
    point.

    Args:
        rollout: Rollout with a confusion point.
        token_bytes: Bytes of the tokenizer's tokens.
        detector: Detector of the prompt's language.
    """

    def __init__(self, rollout: Rollout, token_bytes: TokenBytes, detector: detectors.Detector) -> None:
        assert rollout.point is not None
        self._token_bytes = token_bytes
        left = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
        self._stream = detectors.Stream(
            detector, prefix=left.decode(token_bytes.join(rollout.token_ids[: rollout.point.token]))
        )
        # A character whose bytes began before c is completed by the continuation, and is judged as part of it.
        self._open: bytes = left.getstate()[0]

    def is_certain(self, token_ids: Sequence[int]) -> bool:
        """Return whether the continuation is confused whatever follows."""
        return self._stream.copy().feed(self._text(token_ids)) is not None

    def scores(self, continuations: Sequence[Sequence[int]]) -> CandidateScores:
        """Return reward and text of each continuation."""
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
        # An unfinished last character decodes to lone surrogates, which no detector takes for evidence.
        return (self._open + self._token_bytes.join(token_ids)).decode("utf-8", errors="surrogateescape")
