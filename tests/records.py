"""A synthetic candidate group."""

from __future__ import annotations

import numpy as np

from tlpo_ray.flow.records import CandidateGroup


def make_group(index: int, version: int = 0) -> CandidateGroup:
    """Return a group of four candidates after five tokens; its texts hold lone surrogates."""
    return CandidateGroup(
        prompt_index=index,
        prompt_id=f"p{index}",
        language="ko",
        context_ids=np.arange(5, dtype=np.int32),
        prompt_length=3,
        candidate_ids=np.arange(4, dtype=np.int32),
        old_logp=np.log(np.array([0.4, 0.3, 0.2, 0.1], np.float32)),
        rewards=np.array([1, 1, -1, 1], np.float32),
        sampling_version=version,
        detector_version="1",
        response="가\udce4나",
        span_start=0,
        span_end=1,
        span_kind="Cyrillic",
        lookaheads=("a", "b\udce4", "c", ""),
    )
