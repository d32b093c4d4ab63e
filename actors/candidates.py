"""Stage 3: the candidate set at each confusion point, from the untempered distribution."""

from __future__ import annotations

from actors.engine import CandidateSet
from actors.rollout import Rollout, answer_seed
from actors.tasks import Ask, Candidates, Draw, Task
from tlpo_ray.config.run import RolloutConfig


def context_of(rollout: Rollout) -> tuple[int, ...]:
    """Prompt and y_<c of a rollout with a confusion point."""
    assert rollout.point is not None
    return rollout.prompt_ids + rollout.token_ids[: rollout.point.token]


def candidate_set(rollout: Rollout, version: int, config: RolloutConfig, run_seed: int) -> Task[CandidateSet]:
    """T and π_old(t_i | x, y_<c): the N most probable tokens, or N drawn without replacement.

    Args:
        version: policy version of the engine.
    """
    context, n = context_of(rollout), config.num_candidates
    if config.selection == "ranked":
        ask: Ask = Candidates(context=context, n=n)
    else:
        ask = Draw(context=context, n=n, seed=answer_seed(run_seed, rollout.prompt.index, version, n))
    chosen: CandidateSet = yield ask
    return chosen
