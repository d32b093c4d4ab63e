"""Requests as vLLM takes them, and candidate sets from what it returns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from actors.requests import CandidateSet, DecodingRule

LEAST_BIAS = -100.0
"""Smallest bias of a logit that vLLM takes: the token is then never sampled."""


def sampling_params(
    max_tokens: int,
    temperature: float = 0.0,
    seed: int | None = None,
    *,
    logprobs: int | None = None,
    forced: int | None = None,
    eos_ids: Iterable[int] = (),
    rule: DecodingRule | None = None,
    banned_ids: Iterable[int] = (),
) -> Any:
    """Return vLLM's `SamplingParams`.

    Args:
        max_tokens: Maximum number of tokens to generate.
        temperature: Sampling temperature; 0 is greedy.
        seed: Seed of the request's own generator; None for none.
        logprobs: Number of most probable tokens whose log-probabilities are returned; None for none.
        forced: The only token that may be generated; None for all.
        eos_ids: End-of-text tokens.
        rule: Change of the logits before each token.
        banned_ids: Tokens that are not generated.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    extra_args = None
    if rule is not None:
        from actors.decoding.vllm_processor import arguments_for

        extra_args = arguments_for(rule)
    return SamplingParams(
        extra_args=extra_args,
        logit_bias=dict.fromkeys(banned_ids, LEAST_BIAS) or None,
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        logprobs=logprobs,
        allowed_token_ids=None if forced is None else [forced],
        stop_token_ids=sorted(eos_ids),  # not left to vLLM, so that both engines end at the same tokens
        detokenize=False,
        skip_clone=True,  # no two requests share their parameters; a deep copy costs more than a token
        output_kind=RequestOutputKind.DELTA,
    )


def most_probable(row: dict[int, Any], n: int, include: int | None = None) -> CandidateSet:
    """Return the n most probable tokens of vLLM's log-probabilities, which may hold the sampled token as an extra.

    A token to `include` takes the last place if it is not among them.
    """
    best = sorted(row.items(), key=lambda entry: (-entry[1].logprob, entry[0]))[:n]
    if include is not None and all(token != include for token, _ in best):
        best[-1] = (include, row[include])
    return CandidateSet(
        token_ids=np.array([token for token, _ in best], np.int32),
        logp=np.array([value.logprob for _, value in best], np.float32),
    )
