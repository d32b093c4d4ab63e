"""The exchange as a Ray actor: its process, and the driver's handle, which restarts it when it is lost."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tlpo_ray.cluster.restarts import RestartBudget
from tlpo_ray.cluster.waiting import LOST, wait_for
from tlpo_ray.errors import DeadlineError, TlpoError, first_line
from tlpo_ray.flow.exchange import Exchange, ExchangeSettings, Snapshot, Status
from tlpo_ray.flow.records import Prompt, decode_results, encode_prompts

logger = logging.getLogger(__name__)

EXCHANGE_DEADLINE_S = 60.0
"""Deadline of an exchange call, in seconds: it takes a few dictionary operations, so a minute of silence is a loss."""


class ExchangeProcess(Exchange):
    """The exchange as a Ray actor: prompts and results travel as bytes, which only the rollout actors decode."""

    def lease_batches(self, holders: Sequence[str], num_actors: int) -> list[bytes]:
        """Call `lease` for each holder; returns one encoded batch per holder, b"" where it is empty."""
        batches = [self.lease(holder, num_actors) for holder in holders]
        return [encode_prompts(batch) if batch else b"" for batch in batches]

    def submit_batch(self, holder: str, encoded: tuple[bytes, bytes], learner_version: int) -> None:
        """Call `submit` with results (`encode_results`) and candidate groups (`encode`), both encoded.

        Callers pass a reference to the two, which Ray resolves on the way.

        Raises:
            RecordError: They cannot be decoded, or contradict each other; nothing was entered.
        """
        results, groups = encoded
        self.submit(holder, decode_results(results), groups, learner_version)


ExchangeActor = ray.remote(ExchangeProcess)


class RemoteExchange:
    """Handle of an exchange that runs in a process of its own.

    When that process dies, another one starts from the last snapshot. Prompts that were leased, and results that were
    submitted, since that snapshot are rolled out again. A late result of an old lease is only accepted if the same
    holder has leased that prompt again.

    Args:
        prompts: All prompts of the run, in the run's order.
        skipped: Number of prompts that never entered the run, by reason.
        max_restarts: Maximum number of restarts of the process in a run.
        begin: Snapshot to start from; None starts at the beginning.
        settings: The other arguments of `Exchange`.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        skipped: Mapping[str, int],
        *,
        max_restarts: int = 0,
        begin: Snapshot | None = None,
        **settings: Unpack[ExchangeSettings],
    ) -> None:
        # On this node: the prompts may be read from a file that no other node has.
        this_node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = {"num_cpus": 0, "max_concurrency": 1, "scheduling_strategy": this_node}

        def spawn(name: str) -> Any:
            return ExchangeActor.options(name=name, **options).remote(prompts, skipped, **settings)

        self._spawn = spawn
        self._restarts = RestartBudget(max_restarts)
        self._snapshot = begin
        """Latest state of the exchange, from which a restarted process continues."""
        self._start()

    @property
    def num_restarts(self) -> int:
        """Number of times the process has been restarted."""
        return self._restarts.spent

    def lease_batches(self, holders: Sequence[str], num_actors: int) -> list[bytes]:
        """Lease one batch of prompts per holder.

        Args:
            holders: Holders that will roll them out.
            num_actors: Actors expected to lease in this window.

        Returns:
            One encoded batch per holder. Empty if no prompts may be leased now (window exhausted, queue full, or none
            left).
        """
        batches: list[bytes] = self._call("lease_batches", holders, num_actors)
        return batches

    def submit_batch(self, holder: str, results_ref: Any, learner_version: int) -> None:
        """Submit a finished batch.

        Args:
            holder: Holder that leased the prompts.
            results_ref: Ray reference to (results, groups), both encoded. It is forwarded unresolved, so that the
                bytes do not pass through this process.
            learner_version: Policy version that the fleet was given last, not counting an update under way.

        Raises:
            RecordError: They cannot be decoded, or contradict each other; nothing was entered.
        """
        self._call("submit_batch", holder, results_ref, learner_version)

    def release(self, holder: str, halve: bool = False) -> int:
        """Release the holder's leases so that the prompts can be leased again; returns how many were released.

        Args:
            holder: Holder that leased them.
            halve: Whether its batches may have been too large: each prompt's next batch is at most half as large.
        """
        released: int = self._call("release", holder, halve)
        return released

    def take(self, learner_version: int) -> bytes | None:
        """Return the next update's groups as an Arrow stream, or None if there are not enough.

        Args:
            learner_version: Policy version before the update.
        """
        payload: bytes | None
        # With a snapshot: a process that dies during the update must remember which groups the learner has taken.
        payload, self._snapshot = self._call("take_with_snapshot", learner_version)
        return payload

    def mark_learned(self, learner_version: int) -> Snapshot:
        """Record that the groups returned by the last `take` have been trained on, and return the state after that.

        Args:
            learner_version: Policy version that the update made.
        """
        snapshot: Snapshot = self._call("mark_learned", learner_version)
        self._snapshot = snapshot
        return snapshot

    def status(self) -> Status:
        """Return the state of ledger and queue in numbers."""
        status: Status = self._call("status")
        return status

    def _start(self) -> None:
        """Start a process in the state of the last snapshot."""
        # The number in the name distinguishes the processes in Ray's dashboard and logs.
        self._actor = self._spawn(name=f"tlpo-exchange-{self.num_restarts}")
        # Not waited for here, so that engines load meanwhile. An actor serves calls in order: the next one is served by
        # a restored exchange, and waits for this reference first, so that its error is not lost.
        self._restoring = None if self._snapshot is None else self._actor.restore.remote(self._snapshot)

    def _call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the exchange; if its process is lost, restart it and call again.

        Raises:
            TlpoError: No restart is left.
        """
        lost = False
        while True:
            try:
                if lost:
                    self._start()
                return self._call_once(method, *arguments)
            except (*LOST, DeadlineError) as error:
                if self._restarts.exhausted:
                    raise TlpoError(
                        f"the exchange was lost in a call of {method} ({first_line(error)}), and {self._restarts}"
                    ) from error
                self._restarts.spend()
                logger.warning(
                    "restarting the exchange from its last snapshot: %s", first_line(error), extra={"error": error}
                )
                ray.kill(self._actor, no_restart=True)
                lost = True

    def _call_once(self, method: str, *arguments: Any) -> Any:
        if self._restoring is not None:
            wait_for(self._restoring, EXCHANGE_DEADLINE_S, who="the driver", what="the exchange to restore")
            self._restoring = None
        ref = getattr(self._actor, method).remote(*arguments)
        return wait_for(ref, EXCHANGE_DEADLINE_S, who="the driver", what=f"the exchange to {method.replace('_', ' ')}")
