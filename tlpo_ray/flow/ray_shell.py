"""The exchange as a Ray actor, and the one way this project waits for another process."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import (
    ActorPlacementGroupRemoved,
    ActorUnschedulableError,
    GetTimeoutError,
    LocalRayletDiedError,
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    RuntimeEnvSetupError,
    UnserializableException,
    WorkerCrashedError,
)
from ray.util.metrics import Gauge
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from tlpo_ray.flow.errors import DeadlineError, TlpoError, first_line
from tlpo_ray.flow.exchange import Exchange, Snapshot, Status
from tlpo_ray.flow.metrics import METRICS, Values
from tlpo_ray.flow.records import Prompt, decode_results, encode_prompts
from tlpo_ray.flow.stacks import ask_for_stacks, keep_stacks

logger = logging.getLogger(__name__)


class ExchangeProcess(Exchange):
    """The exchange behind Ray's wire: lots come and go as bytes, which nobody between it and the actors opens."""

    def lease_lots(self, holders: Sequence[str], sharers: int) -> list[bytes]:
        """`lease` for several holders; nothing for who gets none."""
        lots = [self.lease(holder, sharers) for holder in holders]
        return [encode_prompts(lot) if lot else b"" for lot in lots]

    def deliver_lot(self, holder: str, lot: tuple[bytes, bytes], learner_version: int) -> None:
        """`deliver` what `encode_results` and `encode` have made.

        Raises:
            RecordError: they have not; nothing was entered.
        """
        results, groups = lot
        self.deliver(holder, decode_results(results), groups, learner_version)


ExchangeActor = ray.remote(ExchangeProcess)

LOST = (
    RayActorError,
    OutOfMemoryError,  # Ray's memory monitor ends processes before the kernel does
    NodeDiedError,
    WorkerCrashedError,
    LocalRayletDiedError,
    RuntimeEnvSetupError,
    ActorUnschedulableError,
    ActorPlacementGroupRemoved,
)
"""What a call raises whose process is gone, or could not be started."""
NAMED = re.compile(r"[\w.]+: ")
"""How a line begins that tells an error: `package.Error: …`."""
STACKS_S = 5.0
"""How long stacks are waited for: whoever hangs has cost time enough."""
MOMENT_S = 2.0
"""Of all who start together, until they have their places."""
A_LITTLE = 0.001
"""Of a custom resource: it says where a process may be, not how many may."""
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
    except UnserializableException as error:
        raise RuntimeError(what_was_raised(error)) from error


def what_was_raised(error: UnserializableException) -> str:
    """The line of an error's text that says what it was: its class can be built in its own process only."""
    lines = str(error).strip().splitlines()
    return next((line for line in reversed(lines) if NAMED.match(line)), lines[-1])


def bundle(cpus: float, gpus: float, resource: str | None) -> dict[str, float]:
    """What a process asks of a node, in Ray's names.

    Args:
        resource: a custom resource that the node must have; a little of it is taken.
    """
    asked = {"CPU": cpus, "GPU": gpus, **({resource: A_LITTLE} if resource else {})}
    return {name: amount for name, amount in asked.items() if amount}


class Rooms:
    """A placement group each for processes that come and go; an autoscaler sees those without room as demand."""

    def __init__(self) -> None:
        self._groups: dict[Hashable, PlacementGroup] = {}

    def ask(self, everybody: Sequence[Hashable], room: dict[str, float]) -> None:
        """Ask for that room for each, and wait for a moment: a cluster that has it needs no longer to set it aside."""
        self._groups |= {who: placement_group([room]) for who in everybody}
        until = time.monotonic() + MOMENT_S
        for who in everybody:
            self._groups[who].wait(max(0.0, until - time.monotonic()))

    def ready(self, who: Hashable, room: dict[str, float]) -> bool:
        """Whether the cluster has set that room aside; asks for it if nobody has yet."""
        if who not in self._groups:
            self._groups[who] = placement_group([room])
        return bool(self._groups[who].wait(0))

    def place(self, who: Hashable) -> PlacementGroupSchedulingStrategy:
        """Where `who` is to be started."""
        return PlacementGroupSchedulingStrategy(self._groups[who], placement_group_bundle_index=0)

    def free(self, who: Hashable) -> None:
        """Give the room back, if there is one."""
        if who in self._groups:
            remove_placement_group(self._groups.pop(who))

    def close(self) -> None:
        """Give all back."""
        for who in tuple(self._groups):
            self.free(who)


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """Where one of a run's processes is."""

    node: str
    process: int


def whereabouts(stacks: str | None, name: str) -> Whereabouts:
    """Of this process, which from now on can be asked for its stacks (`flow.stacks`)."""
    return Whereabouts(node=ray.get_runtime_context().get_node_id(), process=keep_stacks(stacks, name))


@contextmanager
def stacks_if_late(where: Collection[Any]) -> Iterator[None]:
    """`dump_stacks` when a deadline within the block runs out."""
    try:
        yield
    except DeadlineError:
        dump_stacks(where)
        raise


def dump_stacks(where: Collection[Any]) -> None:
    """Make processes, wherever they are, write where they hang; best effort, a few seconds at most.

    Args:
        where: references of their `Whereabouts`.
    """
    found: list[Whereabouts] = []
    for ref in ray.wait(list(where), num_returns=len(where), timeout=0)[0]:
        with suppress(RayError):  # it never said where it is
            found.append(ray.get(ref))
    asked = []
    for node in {one.node for one in found}:
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        processes = [one.process for one in found if one.node == node]
        ask = ray.remote(ask_for_stacks).options(num_cpus=0, scheduling_strategy=there)
        asked.append(ask.remote(processes))
    ray.wait(asked, num_returns=len(asked), timeout=STACKS_S)


class RayBoard:
    """A run's figures among Ray's own metrics, which its Prometheus endpoints show as `ray_tlpo_NAME`.

    Args:
        run: its name, a label of every figure.
    """

    def __init__(self, run: str) -> None:
        self._run = {"run": run}
        self._gauges = {
            name: Gauge(
                f"tlpo_{name}",
                description=one.plain,
                tag_keys=("run", one.label) if one.label else ("run",),
            )
            for name, one in METRICS.items()
        }
        self._shown: dict[str, set[str]] = {}
        """Labels that a figure has had: one that is gone is 0, and would else stay what it was."""

    def show(self, values: Values) -> None:
        """From now on these are the figures."""
        for name, value in values.items():
            if isinstance(value, int | float):
                self._gauges[name].set(value, tags=self._run)
                continue
            label = METRICS[name].label
            assert label is not None, f"{name} has no label"
            shown = self._shown.setdefault(name, set())
            shown |= value.keys()
            for which in shown:
                self._gauges[name].set(value.get(which, 0.0), tags={**self._run, label: which})


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

    def lease_lots(self, holders: Sequence[str], sharers: int) -> list[bytes]:
        lots: list[bytes] = self._call("lease_lots", holders, sharers)
        return lots

    def deliver_lot(self, holder: str, lot: Any, learner_version: int) -> None:
        """`lot` may be a reference, which is passed on as it is."""
        self._call("deliver_lot", holder, lot, learner_version)

    def give_back(self, holder: str) -> int:
        returned: int = self._call("give_back", holder)
        return returned

    def take(self, learner_version: int) -> bytes | None:
        payload: bytes | None
        payload, self._last = self._call("take_and_tell", learner_version)
        return payload

    def learned(self, learner_version: int) -> Snapshot:
        found: Snapshot = self._call("learned", learner_version)
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
