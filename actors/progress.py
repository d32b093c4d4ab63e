"""What a rollout actor reports of its work when it is asked, also in the middle of a batch."""

from __future__ import annotations

from dataclasses import dataclass

from actors.batch import RolloutBatch
from actors.engine import ObservableEngine, TokenEngine
from tlpo_ray.cluster.progress import WorkClock


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutProgress:
    """Progress of a rollout actor; ages are counted from the moment of its answer."""

    work_age_s: float
    """Seconds since it last sampled a token, finished a request, or received a bucket of weights. The canary does not
    count: an engine may answer it although it has lost the requests of a batch."""
    engine_age_s: float
    """Seconds since its engine last advanced, also within a step and for the canary."""
    prompts: int = 0
    """Prompts of the batch that it has worked on longest; 0 if it has none."""
    prompts_done: int = 0
    """Prompts among them that have their outcome."""
    tokens: int = 0
    """Tokens sampled for that batch so far."""


def rollout_progress(clock: WorkClock, engine: TokenEngine, batch: RolloutBatch | None) -> RolloutProgress:
    """Return the current progress; may be called by another thread than that of the work.

    Args:
        clock: Noted with every piece of work.
        engine: Engine that works.
        batch: Batch that has been worked on longest; None if there is none.
    """
    work_age_s = clock.age_s
    engine_age_s = engine.step_clock.age_s if isinstance(engine, ObservableEngine) else work_age_s
    if batch is None:
        return RolloutProgress(work_age_s=work_age_s, engine_age_s=engine_age_s)
    return RolloutProgress(
        work_age_s=work_age_s,
        engine_age_s=engine_age_s,
        prompts=batch.size,
        prompts_done=batch.num_done,
        tokens=batch.tokens,
    )
