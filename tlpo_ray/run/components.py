"""The three parts that Algorithm 1 is a loop over, as the loop sees them: exchange, rollout fleet, learner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tlpo_ray.flow.exchange import Snapshot, Status
from tlpo_ray.flow.metrics import Values
from tlpo_ray.flow.records import Prompt, RolloutStats
from tlpo_ray.flow.weights import WeightUpdate


class Board(Protocol):
    """Where a run's figures can be looked at while it goes on."""

    def show(self, values: Values) -> None:
        """From now on these are the figures (`flow.metrics.METRICS`); those left out stay what they were."""


class NoBoard:
    """For a run in one process: nobody looks."""

    def show(self, values: Values) -> None: ...


class Exchange(Protocol):
    """The learner's side of ledger and queue (`flow.exchange.Exchange`); the fleet's is what the fleet needs of it."""

    @property
    def restarts(self) -> int: ...
    def take(self, learner_version: int) -> bytes | None: ...
    def mark_learned(self, learner_version: int) -> Snapshot: ...
    def status(self) -> Status: ...


class Fleet(Protocol):
    """The rollout actors."""

    canary: float

    @property
    def weights_lost(self) -> bool:
        """Whether the published weights are gone and must be published again."""

    @property
    def restarts(self) -> int: ...
    @property
    def size(self) -> int:
        """Rollout actors that are there."""

    @property
    def sync_s(self) -> float:
        """Seconds in which the slowest rollout actor loaded the published weights."""

    @property
    def busy(self) -> float:
        """Share of the rollout actors' time that they had work."""

    @property
    def states(self) -> dict[str, int]:
        """Rollout actors by what they are at."""

    def resize(self, size: int) -> None: ...
    def sleep(self) -> None:
        """Give the GPUs' memory back until weights are next published; lots that are under way end first."""

    def publish(self, update: WeightUpdate) -> None: ...
    def advance(self, exchange: Any, timeout_s: float, wake: Sequence[Any] = ()) -> list[RolloutStats]: ...
    def answers(
        self, prompts: Sequence[Prompt], samples: int, temperature: float, max_new_tokens: int, seed: int
    ) -> list[Any]: ...


class Learner(Protocol):
    """The learner group. What it does raises LearnerLostError when a rank is gone."""

    @property
    def version(self) -> int: ...
    @property
    def unfinished(self) -> Sequence[Any]:
        """What ends a fleet's wait, because the update has ended."""

    def begin_update(self, payload: bytes, progress: float) -> None: ...
    def poll_update(self, timeout_s: float) -> Any: ...
    def publish(self, canary_context: Sequence[int]) -> WeightUpdate: ...
    def save(self, folder: Path, state: dict[str, Any], keep_last: int) -> int:
        """Write a checkpoint below `folder`; policy version of the oldest that is kept."""

    def restore(self, folder: Path, until: int) -> int:
        """Load the newest whole checkpoint of at most version `until`; its version, 0 if there is none."""

    def restart(self) -> None:
        """Start all ranks again, with the weights that the run began with."""

    def export(self, folder: Path) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """One assembly of a run: everything has started, and the fleet holds the learner's weights."""

    exchange: Exchange
    fleet: Fleet
    learner: Learner
    canary_context: tuple[int, ...]
    """Token ids that learner and actors compare log-probabilities after."""
    board: Board = field(default_factory=NoBoard)
