"""Stage 4: the lookahead of each candidate, and its reward (Eq. 3)."""

from __future__ import annotations

import codecs
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

import detectors
from actors.confusion import cut_at_stop_string
from actors.coroutine import RolloutCoroutine
from actors.requests import CandidateSet, GreedyRequest, StopCondition
from actors.rollout import Rollout
from actors.token_bytes import TokenBytes
from detectors.detector import without_unfinished
from tlpo_ray.config.run import RolloutConfig
from tlpo_ray.flow.records import CLEAN_REWARD, CONFUSED_REWARD, UNDECIDED_REWARD, Float32, readable


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateScores:
    """Rewards of one candidate set, and the texts that were judged."""

    rewards: Float32
    """[N] +1, -1 or, for a candidate that is undecided, 0."""
    lookaheads: tuple[str, ...]
    """[N] text of each candidate with its continuation."""


def score_candidates(
    candidates: CandidateSet, context: Sequence[int], scorer: CandidateScorer, config: RolloutConfig
) -> RolloutCoroutine[CandidateScores]:
    """Return R(t_i) of all candidates (Eq. 3): -1 if t_i or its k greedy tokens contain a confused character.

    No lookahead is requested for a candidate whose reward further text cannot change: one that ends the answer, or is
    confused by itself. All others are continued, also those without text of their own: by k tokens or, where words
    decide the language and `rollout.lookahead` is auto, until the language is certain. What is still uncertain after
    `rollout.lookahead_limit` tokens gets reward 0; the lookahead of the token that was sampled is then the answer.

    Args:
        candidates: Candidate set at a confusion point.
        context: Prompt and answer before that point.
        scorer: Scorer of that point.
        config: Rollout settings.
    """
    token_ids = candidates.token_ids.tolist()
    weighs = config.lookahead == "auto" and scorer.weigh()
    # The sampled token has a continuation already. A word of both languages may lead either way: it led there.
    tails = {scorer.sampled[0]: scorer.sampled[1:]} if weighs else {}
    open_ids = [token_id for token_id in token_ids if token_id not in tails and not scorer.is_decided(token_id)]
    request = GreedyRequest(
        contexts=[(*context, token_id) for token_id in open_ids],
        max_new_tokens=config.lookahead_limit if weighs else config.lookahead_tokens,
        stop_conditions=[scorer.stop_condition(token_id) for token_id in open_ids] if weighs else (),
    )
    continuations: list[list[int]] = yield request
    tails |= dict(zip(open_ids, continuations, strict=True))
    full = config.lookahead_limit if weighs else None
    return scorer.scores([[token_id, *tails.get(token_id, ())] for token_id in token_ids], full)


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
        self.sampled = [token for token in rollout.token_ids[rollout.point.token :] if token not in eos_ids]
        """Tokens of the answer from the confusion point on."""
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
        self._stream.feed("")  # reads the left context, once for all candidates

    def weigh(self) -> bool:
        """Weigh the words of the continuations; return False if this language is not decided by words."""
        return self._stream.weigh()

    def is_decided(self, token_id: int) -> bool:
        """Return whether a candidate's reward is certain without a lookahead."""
        if token_id in self._eos_ids:
            return True
        text = self._decode([token_id])
        return self._cut(text) != text or self._stream.copy().feed(text) is not None

    def stop_condition(self, token_id: int) -> StopCondition:
        """Return the stop condition of a candidate's continuation: its language is certain."""
        read, token_ids = "", [token_id]
        stream = self._stream.copy()

        def stop(new_ids: Sequence[int]) -> bool:
            nonlocal read
            token_ids.extend(new_ids)
            text = self._text(token_ids)
            complete = without_unfinished(text)
            stream.feed(complete[len(read) :])
            read = complete
            return stream.is_decided

        return stop

    def scores(self, continuations: Sequence[Sequence[int]], full: int | None = None) -> CandidateScores:
        """Return reward and text of each continuation.

        Args:
            continuations: Tokens, each beginning with a candidate.
            full: Number of tokens after the candidate that leave a continuation undecided unless it is certain; None
                if what is not confused counts as clean.
        """
        texts = [self._text(token_ids) for token_ids in continuations]
        rewards = [
            self._reward(text, ended=full is None or len(token_ids) <= full)
            for text, token_ids in zip(texts, continuations, strict=True)
        ]
        return CandidateScores(rewards=np.asarray(rewards, np.float32), lookaheads=tuple(map(readable, texts)))

    def _reward(self, text: str, *, ended: bool) -> float:
        # A copy that has read the left context: it would cost N times as much to read it again for each candidate.
        stream = self._stream.copy()
        stream.feed(text)
        decided = ended or stream.is_decided
        if stream.close() is not None:
            return CONFUSED_REWARD
        return CLEAN_REWARD if decided else UNDECIDED_REWARD

    def _text(self, token_ids: Sequence[int]) -> str:
        """Return the text of the answer from the confusion point on, if it continues with these tokens."""
        return "" if token_ids[0] in self._eos_ids else self._cut(self._decode(token_ids))

    def _cut(self, text: str) -> str:
        # The stop string may begin in the left context: then nothing of this text belongs to the answer.
        return cut_at_stop_string(self._before + text, self._stop_strings)[len(self._before) :]

    def _decode(self, token_ids: Sequence[int]) -> str:
        # An unfinished last character decodes to lone surrogates, which no detector takes for evidence.
        return (self._open + self._token_bytes.join(token_ids)).decode("utf-8", errors="surrogateescape")
