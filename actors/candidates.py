"""Stage 3: the candidate set at each confusion point, from the untempered distribution."""

from __future__ import annotations

from collections.abc import Sequence

from actors.engine import CandidateSet, TokenEngine
from actors.rollout import Rollout, answer_seed
from tlpo_ray.config.run import RolloutConfig


def context_of(rollout: Rollout) -> tuple[int, ...]:
    """Prompt and y_<c of a rollout with a confusion point."""
    assert rollout.point is not None
    return rollout.prompt_ids + rollout.token_ids[: rollout.point.token]


def candidate_sets(
    engine: TokenEngine, confused: Sequence[Rollout], config: RolloutConfig, run_seed: int
) -> list[CandidateSet]:
    """T and π_old(t_i | x, y_<c) for each rollout: the N most probable tokens, or N drawn without replacement."""
    contexts = [context_of(rollout) for rollout in confused]
    if config.selection == "ranked":
        return engine.candidates(contexts, config.candidates)
    seeds = [answer_seed(run_seed, rollout.prompt.index, engine.version, config.candidates) for rollout in confused]
    return engine.draw(contexts, config.candidates, seeds)
