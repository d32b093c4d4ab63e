"""The exchange as a Ray actor, and the one way this project waits for another process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tlpo_ray.flow.errors import DeadlineError, TlpoError
from tlpo_ray.flow.exchange import Exchange, Status
from tlpo_ray.flow.focus import Focus
from tlpo_ray.flow.records import Prompt, PromptResult

ExchangeActor = ray.remote(Exchange)

EXCHANGE_DEADLINE_S = 60.0
"""An exchange call is a few dictionary operations; a minute without an answer means its process is lost."""


def wait_for(ref: Any, deadline_s: float, *, who: str, what: str) -> Any:
    """The value of a reference (or a list of them), within a deadline.

    Raises:
        DeadlineError: says who waited for what.
        Exception: whatever the remote call raised, as it was raised there.
    """
    try:
        return ray.get(ref, timeout=deadline_s)
    except GetTimeoutError as error:
        raise DeadlineError(f"{who} waited {deadline_s:g} s for {what}") from error
    except RayTaskError as error:
        raise error.cause from error


class LazyBuckets(Sequence[Any]):
    """References resolved one at a time, so that whoever loads a model from them never holds it twice."""

    def __init__(self, refs: Sequence[Any], deadline_s: float) -> None:
        self._refs = refs
        self._deadline_s = deadline_s

    def __len__(self) -> int:
        return len(self._refs)

    def __getitem__(self, index: Any) -> Any:
        return wait_for(self._refs[index], self._deadline_s, who="a rollout actor", what="a bucket of weights")


class RemoteExchange:
    """The exchange in a process of its own, with the methods of `Exchange`."""

    def __init__(
        self,
        prompts: Sequence[Prompt],
        skipped: Mapping[str, int],
        *,
        groups_per_update: int,
        lot: int,
        capacity: int,
        max_staleness: int,
        focus: Focus | None = None,
    ) -> None:
        # On this machine: the prompts may lie in a file of it.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = {"num_cpus": 0, "name": "tlpo-exchange", "max_concurrency": 1, "scheduling_strategy": here}
        self._actor = ExchangeActor.options(**options).remote(
            prompts,
            skipped,
            groups_per_update=groups_per_update,
            lot=lot,
            capacity=capacity,
            max_staleness=max_staleness,
            focus=focus,
        )

    def lease(self, holder: str, sharers: int) -> list[Prompt]:
        prompts: list[Prompt] = self._call("lease", holder, sharers)
        return prompts

    def lease_each(self, holders: Sequence[str], sharers: int) -> list[list[Prompt]]:
        lots: list[list[Prompt]] = self._call("lease_each", holders, sharers)
        return lots

    def deliver(
        self, holder: str, results: Sequence[PromptResult], payload: Any, learner_version: int
    ) -> tuple[PromptResult, ...]:
        """`payload` may be a reference, which is passed on as it is."""
        accepted: tuple[PromptResult, ...] = self._call("deliver", holder, results, payload, learner_version)
        return accepted

    def give_back(self, holder: str) -> int:
        returned: int = self._call("give_back", holder)
        return returned

    def take(self, learner_version: int) -> bytes:
        payload: bytes = self._call("take", learner_version)
        return payload

    def learned(self, learner_version: int) -> None:
        self._call("learned", learner_version)

    def status(self) -> Status:
        status: Status = self._call("status")
        return status

    def _call(self, method: str, *arguments: Any) -> Any:
        ref = getattr(self._actor, method).remote(*arguments)
        what = f"the exchange to {method.replace('_', ' ')}"
        try:
            return wait_for(ref, EXCHANGE_DEADLINE_S, who="the driver", what=what)
        except RayActorError as error:
            raise TlpoError(f"the driver waited for {what}, but its process died") from error
