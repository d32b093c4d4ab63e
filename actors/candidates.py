"""Stage 3: the candidate set at each confusion point, from the untempered distribution (Eq. 2)."""

from __future__ import annotations

from actors.coroutine import RolloutCoroutine
from actors.requests import CandidateSet, EngineRequest, MultinomialRequest, TopKRequest
from actors.rollout import Rollout, derive_seed
from tlpo_ray.config.run import RolloutConfig


def context_of(rollout: Rollout) -> tuple[int, ...]:
    """Return the prompt and y_<c, the answer before the confusion point, of a rollout that has one."""
    assert rollout.point is not None
    return rollout.prompt_ids + rollout.token_ids[: rollout.point.token]


def candidate_set(
    rollout: Rollout, version: int, config: RolloutConfig, run_seed: int
) -> RolloutCoroutine[CandidateSet]:
    """Return T and π_old(t_i | x, y_<c), as `config.selection` says.

    With `ranked_with_sampled` a group can teach something about a confused token that was sampled from the tail of the
    distribution: without it, N candidates that are all clean carry no signal.

    Args:
        rollout: Rollout with a confusion point.
        version: Policy version of the engine.
        config: Selection and N.
        run_seed: Seed of the run; seeds a draw together with prompt and policy version.
    """
    context, n = context_of(rollout), config.num_candidates
    request: EngineRequest[CandidateSet]
    if config.selection == "ranked":
        request = TopKRequest(context_ids=context, n=n)
    elif config.selection == "ranked_with_sampled":
        assert rollout.point is not None
        request = TopKRequest(context_ids=context, n=n, include=rollout.token_ids[rollout.point.token])
    else:
        # N is a part of the seed: it keeps the draw apart from the sampling of the answer.
        seed = derive_seed(run_seed, rollout.prompt.index, version, n)
        request = MultinomialRequest(context_ids=context, n=n, seed=seed)
    candidates: CandidateSet = yield request
    return candidates
