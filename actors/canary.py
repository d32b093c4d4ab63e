"""The canary on the actor's side: log-probabilities of the engine, compared with those of the learner."""

from __future__ import annotations

from dataclasses import dataclass

from actors.requests import CandidateSet, TopKRequest
from tlpo_ray.flow.weights import Canary, check_canary

CANARY_TOP_K = 16
"""Number of tokens to compare: twice as many as the learner sends, so that a near-tie at the edge does not fail."""


def canary_request(canary: Canary) -> TopKRequest:
    """Return the request for the log-probabilities that are compared with the canary's."""
    return TopKRequest(context_ids=canary.context_ids, n=CANARY_TOP_K)


def canary_difference(canary: Canary, candidates: CandidateSet, tolerance: float) -> float:
    """Return the largest |Δ log-probability| between engine and learner over the canary's tokens, in nats.

    Raises:
        WeightSyncError: It exceeds `tolerance` (`flow.canary_tolerance`).
    """
    return check_canary(canary, candidates.token_ids.tolist(), candidates.logp.tolist(), tolerance)


@dataclass(slots=True, kw_only=True)
class CanaryCheck:
    """A canary while it is generated beside the batches that are under way."""

    canary: Canary | None
    """None in a run without prompts, which has no canary: the check is done at once."""
    tolerance: float
    """Largest accepted |Δ log-probability| in nats (`flow.canary_tolerance`)."""
    candidates: CandidateSet | None = None
    """The engine's answer."""

    @property
    def done(self) -> bool:
        """Whether the engine has answered.

        Raises:
            WeightSyncError: A log-probability differs from the learner's by more than `tolerance`.
        """
        if self.canary is None:
            return True
        if self.candidates is not None:
            canary_difference(self.canary, self.candidates, self.tolerance)
        return self.candidates is not None

    def receive(self, candidates: CandidateSet) -> None:
        """Store the engine's answer."""
        self.candidates = candidates
