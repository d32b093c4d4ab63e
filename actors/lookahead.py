"""Stage 4: where each candidate leads, and its reward."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import detectors
from actors.candidates import context_of
from actors.engine import CandidateSet
from actors.rollout import Rollout
from actors.tasks import Extend, Task
from actors.token_bytes import TokenBytes
from tlpo_ray.flow.records import Float32, readable

CLEAN_REWARD, CONFUSED_REWARD = 1.0, -1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewarded:
    """Rewards of one candidate set, and the texts that they were given for."""

    rewards: Float32
    """[N] +1 or -1."""
    lookaheads: tuple[str, ...]
    """[N] text of each candidate with its continuation."""


def rewarded_candidates(
    rollout: Rollout, chosen: CandidateSet, detector: detectors.Detector, token_bytes: TokenBytes, k: int
) -> Task[Rewarded]:
    """R(t_i) for all candidates: -1 if a confused character appears in t_i and its k greedy tokens.

    Continuations share their prefix in the engine's cache. None is asked for where the candidate ends the answer or is
    already confused by itself: more text cannot change its reward.
    """
    judge, token_ids = Judge(rollout, token_bytes, detector), chosen.token_ids.tolist()
    open_ids = [token_id for token_id in token_ids if token_bytes[token_id] and not judge.certain([token_id])]
    context = context_of(rollout)
    found: Sequence[Sequence[int]] = yield Extend(contexts=[(*context, token_id) for token_id in open_ids], k=k)
    tails = dict(zip(open_ids, found, strict=True))
    return judge.rewards([[token_id, *tails.get(token_id, ())] for token_id in token_ids])


class Judge:
    """Judges continuations at one confusion point in their left context.

    The context matters: an URL, a unit after a number or a capitalised word may begin before the confusion point.
    """

    def __init__(self, rollout: Rollout, token_bytes: TokenBytes, detector: detectors.Detector) -> None:
        assert rollout.point is not None
        self._token_bytes = token_bytes
        left = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
        self._stream = detectors.Stream(
            detector, prefix=left.decode(token_bytes.join(rollout.token_ids[: rollout.point.token]))
        )
        # A character that is still open at c belongs to the continuation.
        self._open: bytes = left.getstate()[0]

    def certain(self, token_ids: Sequence[int]) -> bool:
        """Whether the continuation is confused whatever follows."""
        return self._stream.copy().feed(self._text(token_ids)) is not None

    def rewards(self, continuations: Sequence[Sequence[int]]) -> Rewarded:
        """Reward and text of each continuation."""
        texts = [self._text(token_ids) for token_ids in continuations]
        confused = [self._is_confused(text) for text in texts]
        rewards = np.where(confused, CONFUSED_REWARD, CLEAN_REWARD).astype(np.float32)
        return Rewarded(rewards=rewards, lookaheads=tuple(map(readable, texts)))

    def _is_confused(self, text: str) -> bool:
        whole = self._stream.copy()
        whole.feed(text)
        return whole.close() is not None

    def _text(self, token_ids: Sequence[int]) -> str:
        # An unfinished last character decodes to lone surrogates, which are no evidence for any detector.
        return (self._open + self._token_bytes.join(token_ids)).decode("utf-8", errors="surrogateescape")
