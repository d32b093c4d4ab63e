"""Retries: an answer is cut back at its confusion point, and sampled on without the token that was there.

TLPO does the same to the weights: it makes that token less probable at that place. Retries do it to one answer, so
their pass rate is what training can reach at best, and they are paid for with every answer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import detectors
from actors.confusion import StreamingDetector, confusion_point
from actors.coroutine import RolloutCoroutine
from actors.requests import SampleRequest
from actors.rollout import derive_seed
from actors.token_bytes import TokenBytes
from tlpo_ray.cluster.progress import WorkClock

MAX_AT_ONE_PLACE = 16
"""Tokens taken back at one place before the token in front of it is taken back, too."""
MAX_WORK = 8
"""Most tokens that are sampled for an answer, as a multiple of its maximum length: one stubborn answer must not keep a
batch waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetriedAnswer:
    """An answer, and what it has cost."""

    token_ids: list[int]
    tokens_sampled: int
    """All tokens that were sampled for it, those that were thrown away included."""
    retries: int
    """Number of tokens that were taken back."""


def sample_with_retries(
    request: SampleRequest,
    detector: detectors.Detector,
    token_bytes: TokenBytes,
    stop_strings: Sequence[str],
    max_retries: int,
    clock: WorkClock,
) -> RolloutCoroutine[RetriedAnswer]:
    """Sample one answer; at each confusion point, take the confused token back and sample another one in its place.

    The first attempt is the answer that the request gets without retries.

    Args:
        request: Request for the answer, whose own stop condition is not used.
        detector: Detector of the answer's language.
        token_bytes: Bytes of the tokenizer's tokens.
        stop_strings: Texts that end the answer.
        max_retries: Most tokens to take back; then, or after `MAX_WORK`, the answer stays as it is.
        clock: Noted whenever the answer grows.

    Raises:
        Exception: Whatever the detector raises.
    """
    kept: list[int] = []
    banned: defaultdict[int, set[int]] = defaultdict(set)
    """Tokens taken back at each place of the answer."""
    tokens_sampled = retries = 0
    ended = False
    while True:
        if banned[len(kept)] and not ended:
            first: list[int] = yield _continued(request, kept, retries, 1, frozenset(banned[len(kept)]))
            tokens_sampled += 1
            kept += first
            ended = not first or len(kept) == request.max_new_tokens
        if not ended:
            streaming = StreamingDetector(token_bytes, detector, stop_strings)
            streaming.stop_condition(kept)
            rest = _continued(request, kept, retries, request.max_new_tokens - len(kept))
            more: list[int] = yield replace(rest, stop_condition=partial(_note_tokens, clock, streaming))
            tokens_sampled += len(more)
            kept += more
        point = confusion_point(kept, token_bytes, detector, stop_strings)
        if point is None or retries == max_retries or tokens_sampled >= MAX_WORK * request.max_new_tokens:
            return RetriedAnswer(token_ids=kept, tokens_sampled=tokens_sampled, retries=retries)
        place = point.token
        banned[place].add(kept[place])
        # A place at which everything leads out of the language: what comes before it has to change.
        while len(banned[place]) > MAX_AT_ONE_PLACE and place > 0:
            place -= 1
            banned[place].add(kept[place])
        for later in [later for later in banned if later > place]:
            del banned[later]
        kept, ended = kept[:place], False
        retries += 1


def _continued(
    request: SampleRequest, kept: list[int], retries: int, max_new_tokens: int, banned: frozenset[int] = frozenset()
) -> SampleRequest:
    """Return the request for what follows a part of an answer."""
    seed = request.seed if retries == 0 or request.seed is None else derive_seed(request.seed, retries, len(banned))
    return replace(
        request,
        prompt_ids=(*request.prompt_ids, *kept),
        max_new_tokens=max_new_tokens,
        seed=seed,
        banned_ids=banned,
        stop_condition=None,
    )


def _note_tokens(clock: WorkClock, streaming: StreamingDetector, new_ids: Sequence[int]) -> bool:
    clock.note()
    return streaming.stop_condition(new_ids)
