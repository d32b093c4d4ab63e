"""The three components that Algorithm 1 is a loop over, as the loop sees them: exchange, rollout fleet, learner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tlpo_ray.cluster.restarts import RestartBudget
from tlpo_ray.flow.exchange import Snapshot, Status
from tlpo_ray.flow.metrics import Values
from tlpo_ray.flow.records import Prompt, RolloutStats
from tlpo_ray.flow.weights import WeightUpdate

if TYPE_CHECKING:
    from actors.completions import Completion
    from learner.checkpoint_writer import SavedCheckpoint
    from learner.report import UpdateReport


class Exchange(Protocol):
    """The learner's side of prompt ledger and experience queue; the fleet has its own side of the same object."""

    @property
    def num_restarts(self) -> int:
        """Number of times the exchange's process has been started again."""

    def take(self, learner_version: int) -> bytes | None:
        """Return the groups of the next update as an Arrow stream, or None if there are not enough."""

    def mark_learned(self, learner_version: int) -> Snapshot:
        """Record that the groups of the last `take` were trained on; returns the exchange's state after that."""

    def status(self) -> Status:
        """Return the state of ledger and queue in numbers."""


class Fleet(Protocol):
    """The rollout actors of a run. It leases prompts from the exchange and submits outcomes to it by itself."""

    @property
    def canary(self) -> float:
        """Largest canary difference of any weight sync so far, in nats."""

    @property
    def weights_lost(self) -> bool:
        """Whether the weights to be synced died with the process that held them and must be exported again."""

    @property
    def num_restarts(self) -> int:
        """Number of rollout actors that have been replaced."""

    @property
    def size(self) -> int:
        """Number of rollout actors, dead and leaving ones not counted."""

    @property
    def sync_s(self) -> float:
        """Seconds that the slowest rollout actor took to load the current weights."""

    @property
    def utilization(self) -> float:
        """Share of the rollout actors' time in which they had prompts to roll out."""

    @property
    def states(self) -> dict[str, int]:
        """Number of rollout actors by state."""

    @property
    def slow(self) -> dict[str, str]:
        """What rollout actors take longer for than its deadline, making progress, by their names."""

    def resize(self, size: int) -> None:
        """Set the number of rollout actors; new ones join when there is room, surplus ones leave when idle."""

    def sleep(self) -> None:
        """Finish the batches that are under way, then free GPU memory until weights are next synced."""

    def sync_weights(self, update: WeightUpdate) -> None:
        """Set the policy version to roll out with; each actor loads it when it is next free."""

    def advance(self, timeout_s: float, wake: Sequence[Any] = ()) -> RolloutStats:
        """Keep the actors busy for up to `timeout_s` seconds, or until a reference of `wake` resolves.

        Returns:
            Counts of the batches that finished meanwhile.
        """

    def generate(
        self, prompts: Sequence[Prompt], samples: int, temperature: float, max_new_tokens: int, seed: int
    ) -> list[Completion]:
        """Return `samples` complete answers per prompt, in the order of the prompts."""


class Learner(Protocol):
    """The learner group. Its methods raise LearnerLostError when a rank is lost."""

    @property
    def version(self) -> int:
        """Policy version of its weights."""

    @property
    def restart_budget(self) -> RestartBudget:
        """Restarts of the group, which the loop decides on, against `flow.max_restarts`."""

    @property
    def slow(self) -> dict[str, str]:
        """What an update that takes longer than its deadline is at, making progress; empty if there is none."""

    @property
    def pending(self) -> Sequence[Any]:
        """References that resolve when the update or start under way has ended: they wake a waiting fleet."""

    @property
    def is_draining(self) -> bool:
        """Whether a node of a rank is about to be lost, or was announced to be before it was."""

    def begin_update(self, payload: bytes, progress: float) -> None:
        """Start an update from an Arrow stream of groups; `progress` (0 to 1) sets the learning rate."""

    def poll_update(self, timeout_s: float) -> UpdateReport | None:
        """Return the update's report, or None if it has not ended within `timeout_s` seconds."""

    def export_weights(self, canary_context: Sequence[int]) -> WeightUpdate:
        """Return the current policy version, ready for the fleet to load."""

    def begin_save(self, folder: Path, keep_last: int) -> None:
        """Begin a checkpoint below `folder`; returns when the learner may continue, while it is being written."""

    def poll_save(self, *, wait: bool = False) -> SavedCheckpoint | None:
        """Return the checkpoint that has become complete since the last call, or, with `wait`, becomes so."""

    def restore(self, folder: Path, until: int) -> int:
        """Load the newest intact checkpoint of at most version `until`; returns the learner's version after that."""

    def restart(self) -> None:
        """Begin to start all ranks again, with the weights that the run began with."""

    def poll_ready(self, timeout_s: float) -> bool:
        """Return whether all ranks have started, after a wait of up to `timeout_s` seconds."""

    def export(self, folder: Path) -> None:
        """Write the policy as a Hugging Face model folder."""


def discard_metrics(values: Values) -> None:
    """Ignore metrics: a run in one process has no cluster to show them in."""


def find_nothing() -> None:
    """Explain nothing: a run in one process has no nodes that may be lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """One assembly of a run: everything has started, and the fleet holds the learner's weights."""

    exchange: Exchange
    fleet: Fleet
    learner: Learner
    canary_context: tuple[int, ...]
    """Token ids after which learner and actors compare log-probabilities."""
    on_metrics: Callable[[Values], None] = discard_metrics
    """Receives the current metrics about once per second; metrics that are left out keep their value."""
    on_failure: Callable[[], None] = find_nothing
    """Logs what may explain an error that ends the run."""
