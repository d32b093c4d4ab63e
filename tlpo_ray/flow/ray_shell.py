"""The exchange as a Ray actor: its process, and the driver's handle that starts it again when it is lost."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tlpo_ray.cluster.waiting import LOST, wait_for
from tlpo_ray.errors import DeadlineError, TlpoError, first_line
from tlpo_ray.flow.exchange import Exchange, Snapshot, Status
from tlpo_ray.flow.records import Prompt, decode_results, encode_prompts

logger = logging.getLogger(__name__)

EXCHANGE_DEADLINE_S = 60.0
"""An exchange call is a few dictionary operations; a minute without an answer means its process is lost."""


class ExchangeProcess(Exchange):
    """The exchange behind Ray's wire: lots come and go as bytes, which nobody between it and the actors opens."""

    def lease_batches(self, holders: Sequence[str], num_actors: int) -> list[bytes]:
        """`lease` for several holders; nothing for who gets none."""
        lots = [self.lease(holder, num_actors) for holder in holders]
        return [encode_prompts(lot) if lot else b"" for lot in lots]

    def submit_batch(self, holder: str, lot: tuple[bytes, bytes], learner_version: int) -> None:
        """`deliver` what `encode_results` and `encode` have made.

        Raises:
            RecordError: they have not; nothing was entered.
        """
        results, groups = lot
        self.submit(holder, decode_results(results), groups, learner_version)


ExchangeActor = ray.remote(ExchangeProcess)


class RemoteExchange:
    """The exchange in a process of its own.

    When that process dies, another begins from the last snapshot: what was leased or had come in since is rolled out
    again, and what comes in late counts for prompts only that the same rollout actor has been given again.

    Args:
        max_restarts: how often that may happen.
        begin: a snapshot to begin with.
        settings: the other arguments of `Exchange`.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        skipped: Mapping[str, int],
        *,
        max_restarts: int = 0,
        begin: Snapshot | None = None,
        **settings: Any,
    ) -> None:
        # On this machine: the prompts may lie in a file of it.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = {"num_cpus": 0, "max_concurrency": 1, "scheduling_strategy": here}

        def start(name: str) -> Any:
            return ExchangeActor.options(name=name, **options).remote(prompts, skipped, **settings)

        self._start = start
        self._max_restarts = max_restarts
        self.restarts = 0
        self._last = begin
        self._begin()

    def lease_batches(self, holders: Sequence[str], num_actors: int) -> list[bytes]:
        lots: list[bytes] = self._call("lease_batches", holders, num_actors)
        return lots

    def submit_batch(self, holder: str, lot: Any, learner_version: int) -> None:
        """`lot` may be a reference, which is passed on as it is."""
        self._call("submit_batch", holder, lot, learner_version)

    def release(self, holder: str) -> int:
        returned: int = self._call("release", holder)
        return returned

    def take(self, learner_version: int) -> bytes | None:
        payload: bytes | None
        payload, self._last = self._call("take_with_snapshot", learner_version)
        return payload

    def mark_learned(self, learner_version: int) -> Snapshot:
        found: Snapshot = self._call("mark_learned", learner_version)
        self._last = found
        return found

    def status(self) -> Status:
        status: Status = self._call("status")
        return status

    def _begin(self) -> None:
        """Start a process, where the last one was when it was last asked."""
        self._actor = self._start(name=f"tlpo-exchange-{self.restarts}")
        if self._last is not None:
            self._ask("restore", self._last)

    def _call(self, method: str, *arguments: Any) -> Any:
        lost = False
        while True:
            try:
                if lost:
                    self._begin()
                return self._ask(method, *arguments)
            except (*LOST, DeadlineError) as error:
                if self.restarts >= self._max_restarts:
                    raise TlpoError(
                        f"the exchange was lost while it was to {method.replace('_', ' ')} ({first_line(error)}), and "
                        f"all {self._max_restarts} restarts (flow.max_restarts) are used up"
                    ) from error
                self.restarts += 1
                logger.warning("the exchange is started again, from its last snapshot: %s", first_line(error))
                ray.kill(self._actor, no_restart=True)
                lost = True

    def _ask(self, method: str, *arguments: Any) -> Any:
        ref = getattr(self._actor, method).remote(*arguments)
        return wait_for(ref, EXCHANGE_DEADLINE_S, who="the driver", what=f"the exchange to {method.replace('_', ' ')}")
