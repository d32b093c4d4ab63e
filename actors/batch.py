"""A batch of leased prompts while it is rolled out, and the report that it becomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from actors.rollout import Rollout
from tlpo_ray.flow.records import CandidateGroup, Outcome, PromptResult, RolloutReport, RolloutStats


@dataclass(slots=True, kw_only=True, eq=False)
class RolloutBatch:
    """Prompts that were leased together, while they are rolled out."""

    size: int
    """Number of prompts."""
    skipped: list[PromptResult]
    """Results of prompts that are not rolled out, and of failed rollouts."""
    finished: list[tuple[Rollout, CandidateGroup | None]] = field(default_factory=list)
    """Rollouts in the order in which they finished; confused ones with their candidate group."""
    tokens: int = 0
    """Tokens sampled so far."""
    error: Exception | None = None
    """Error that fails the complete batch, e.g. of a detector that raises for every prompt; other batches continue."""

    @property
    def done(self) -> bool:
        """Whether every prompt has its outcome.

        Raises:
            Exception: The batch has failed.
        """
        if self.error is not None:
            raise self.error
        return self.num_done == self.size

    @property
    def num_done(self) -> int:
        """Number of prompts that have their outcome."""
        return len(self.finished) + len(self.skipped)

    def report(self, kv_cache_usage: float) -> RolloutReport:
        """Return results, candidate groups and counts of a batch that is done, in the run's order of prompts.

        Args:
            kv_cache_usage: Largest share of the engine's KV cache in use while the batch was rolled out, 0 to 1.
        """
        finished = sorted(self.finished, key=lambda entry: entry[0].prompt.index)
        whole = [rollout for rollout, _ in finished if rollout.whole]
        results = (*self.skipped, *(_result(rollout, group) for rollout, group in finished))
        return RolloutReport(
            results=results,
            groups=tuple(group for _, group in finished if group is not None and group.informative),
            stats=RolloutStats(
                sampled=len(whole),
                clean=sum(rollout.point is None for rollout in whole),
                tokens_generated=sum(len(rollout.token_ids) for rollout, _ in finished),
                tokens_discarded=sum(
                    len(rollout.token_ids) - rollout.point.last_token - 1 for rollout, _ in finished if rollout.point
                ),
                tokens_clean=sum(len(rollout.token_ids) for rollout in whole if rollout.point is None),
                by_language=_by_language(whole),
                confused_in=dict(
                    Counter(point.part for rollout, _ in finished if (point := rollout.point) and point.part)
                ),
                kv_cache_usage=kv_cache_usage,
            ),
        )


def _result(rollout: Rollout, group: CandidateGroup | None) -> PromptResult:
    outcome = Outcome.TRUNCATED if rollout.truncated else Outcome.CLEAN
    if group is not None:
        outcome = Outcome.CONFUSED if group.informative else Outcome.UNINFORMATIVE
    return PromptResult(prompt_index=rollout.prompt.index, outcome=outcome)


def _by_language(rollouts: Iterable[Rollout]) -> dict[str, tuple[int, int]]:
    """Return (answers, answers without confusion) by language."""
    counts: dict[str, tuple[int, int]] = {}
    for rollout in rollouts:
        sampled, clean = counts.get(rollout.prompt.language, (0, 0))
        counts[rollout.prompt.language] = (sampled + 1, clean + (rollout.point is None))
    return counts
