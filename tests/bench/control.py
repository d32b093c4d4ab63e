"""The control plane alone: driver, exchange and fleet with *simulated* engines and a *simulated* learner.

Everything else is real: Ray on several nodes, the exchange's process, leases, Arrow, weight announcements, run folder.
A simulated rollout actor sleeps as long as an engine would work; many share a process.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import ray

from actors.member import Member
from actors.process import RolloutSpec
from actors.progress import RolloutProgress
from actors.ray_shell import RolloutFleet
from learner.checkpoint_writer import SavedCheckpoint
from learner.report import StepReport, UpdateReport
from tests.bench.compare import Figure
from tests.tiny import random_groups
from tlpo_ray.cluster.actors import ActorPool
from tlpo_ray.cluster.hangs import ProcessInfo
from tlpo_ray.cluster.placement import PlacementPool
from tlpo_ray.cluster.restarts import RestartBudget
from tlpo_ray.config.load import load_config
from tlpo_ray.config.run import RunConfig
from tlpo_ray.errors import StoppedError
from tlpo_ray.flow.ray_shell import RemoteExchange
from tlpo_ray.flow.records import (
    CandidateGroup,
    Outcome,
    Prompt,
    PromptResult,
    RolloutStats,
    decode_prompts,
    encode,
    encode_results,
)
from tlpo_ray.flow.weights import WeightUpdate
from tlpo_ray.progress import TrainingProgress
from tlpo_ray.run.components import Components
from tlpo_ray.run.control import read_status, scale
from tlpo_ray.run.folder import RunFolder
from tlpo_ray.run.loop import Listener, TrainSummary, train

NODES, TOGETHER = 4, 16
"""Ray nodes on this machine, and simulated actors that share a process."""
BATCH, BATCH_S = 64, 8.0
"""Prompts per batch, and how long an engine works on one, in seconds."""
YIELD = 0.25
"""Candidate groups per prompt."""
GROUPS, UPDATE_S, STALENESS = 512, 2.2, 8
"""Groups per update (a little more than the largest fleet can fill), its seconds, and the allowed staleness."""
SECONDS = 20.0
"""Seconds that a run of the largest fleet should take."""
SIZES, SHORT_BATCH_S, REST_S, WINDOW_S = (1, 3, 12, 1), 2.0, 6.0, 10.0
"""Sizes of a fleet that grows and shrinks; seconds per batch; seconds before and during each measurement."""
AT_ONCE = 2
"""Batches per actor at a time."""


@ray.remote(num_cpus=0)
def _slept(seconds: float) -> None:
    time.sleep(seconds)


class Host:
    """Many simulated rollout actors in one process."""

    def __init__(self, groups: list[CandidateGroup], batch_s: float) -> None:
        self._groups, self._batch_s = groups, batch_s
        self._version = 0

    async def setup(self) -> None: ...

    async def load(self, update: WeightUpdate) -> float:
        self._version = update.version
        return 0.0

    async def check_canary(self) -> None: ...

    async def progress(self) -> RolloutProgress:
        return RolloutProgress(work_age_s=0.0, engine_age_s=0.0)

    async def process_info(self) -> ProcessInfo:
        return ProcessInfo(node_id="", pid=0)

    async def run_batch(self, encoded: bytes) -> tuple[RolloutStats, tuple[bytes, bytes]]:
        await asyncio.sleep(self._batch_s)
        prompts = decode_prompts(encoded)
        confused = [prompt.index for prompt in prompts if prompt.index % round(1 / YIELD) == 0]
        results = tuple(
            PromptResult(
                prompt_index=prompt.index,
                outcome=Outcome.CONFUSED if prompt.index % round(1 / YIELD) == 0 else Outcome.CLEAN,
            )
            for prompt in prompts
        )
        groups = [
            replace(self._groups[index % len(self._groups)], prompt_index=index, sampling_version=self._version)
            for index in confused
        ]
        counts = RolloutStats(
            sampled=len(prompts), clean=len(prompts) - len(confused), tokens_generated=0, tokens_discarded=0,
            tokens_clean=0, by_language={},
        )  # fmt: skip
        return counts, (encode_results(results), encode(groups))


class SimulatedPool(ActorPool):
    """Simulated rollout actors, several of which share a process and end together.

    Args:
        groups: Candidate groups that the actors return.
        batch_s: Time an actor takes for a batch, in seconds.
        together: Number of actors that share a process.
    """

    def __init__(self, groups: list[CandidateGroup], batch_s: float = BATCH_S, together: int = TOGETHER) -> None:
        options = {"num_cpus": 1, "max_concurrency": 4 * together, "scheduling_strategy": "SPREAD"}
        super().__init__(Host, {}, options, PlacementPool())
        self._simulated, self._hosts = (groups, batch_s), list[Any]()
        self._together = together

    def reserve(self, keys: Sequence[Hashable]) -> None: ...

    def has_room(self, key: Hashable) -> bool:
        return True

    def start(self, key: Hashable, name: str, *args: Any) -> Any:
        assert isinstance(key, Member)
        if key.number // self._together >= len(self._hosts):
            self._hosts.append(self._actor_class.options(**self._options).remote(*self._simulated))
        self._handles[key] = handle = self._hosts[key.number // self._together]
        self._processes[key] = handle.process_info.remote()
        return handle


class SimulatedLearner:
    """A learner that only takes the time of one."""

    slow: ClassVar[dict[str, str]] = {}
    is_draining = False

    def __init__(self) -> None:
        self.version = 0
        self.restart_budget = RestartBudget(0)
        self.busy = 0.0
        self._began, self._ends = 0.0, 0.0

    @property
    def pending(self) -> list[Any]:
        """A reference that resolves when the update is done."""
        return [self._done]

    @property
    def idle(self) -> float:
        """Share of the time since the first update began in which no update ran."""
        return 1 - self.busy / (self._ends - self._began)

    def begin_update(self, payload: bytes, progress: float) -> None:
        self._began = self._began or time.monotonic()
        self._ends = time.monotonic() + UPDATE_S
        self._done = _slept.remote(UPDATE_S)

    def poll_update(self, timeout_s: float) -> UpdateReport | None:
        time.sleep(min(timeout_s, max(0.0, self._ends - time.monotonic())))
        if time.monotonic() < self._ends:
            return None
        self.version += 1
        self.busy += UPDATE_S
        step = StepReport(loss=0, surrogate=0, kl=0, clip_fraction=0, ratio_deviation=0, grad_norm=0)
        return UpdateReport(
            version=self.version, groups=GROUPS, lr=0, steps=(step,), eos_mass=0, reward_mass=0, policy_lag=0,
            old_logprob_shift=0, seconds=UPDATE_S,
        )  # fmt: skip

    def export_weights(self, canary_context: Sequence[int]) -> WeightUpdate:
        return WeightUpdate(version=self.version, canary=None)

    def begin_save(self, folder: Path, keep_last: int) -> None: ...

    def poll_save(self, *, wait: bool = False) -> SavedCheckpoint | None:
        return None

    def restore(self, folder: Path, until: int) -> int:
        return 0

    def restart(self) -> None: ...

    def poll_ready(self, timeout_s: float) -> bool:
        return True

    def export(self, folder: Path) -> None: ...


def queue(model: Path, count: int = 16_384, lease_size: int = 256) -> Iterator[Figure]:
    """Measure groups per second through the exchange's process."""
    with _cluster():
        groups = random_groups(model, 16)
        prompts = [Prompt(index=number, id="", language="ko", text="") for number in range(count)]
        exchange = RemoteExchange(
            prompts, {}, groups_per_update=GROUPS, lease_size=lease_size, capacity=count, max_staleness=1_000
        )
        results = [PromptResult(prompt_index=number, outcome=Outcome.CONFUSED) for number in range(count)]
        payloads = [
            ray.put(
                (
                    encode_results(results[start : start + lease_size]),
                    encode(
                        [replace(groups[n % len(groups)], prompt_index=n) for n in range(start, start + lease_size)]
                    ),
                )
            )
            for start in range(0, count, lease_size)
        ]
        began = time.monotonic()
        for number, payload in enumerate(payloads):
            exchange.lease_batches(["a"], 1)
            exchange.submit_batch("a", payload, 0)
            if (number + 1) * lease_size % GROUPS == 0:
                exchange.take(0)
                exchange.mark_learned(0)
        seconds = time.monotonic() - began
    yield Figure(
        what=f"queue in a process of its own, {count:,} groups in batches of {lease_size}",
        value=f"{count / seconds:,.0f} groups per second, in and out",
    )


def fleets(model: Path) -> Iterator[Figure]:
    """Measure fleets of 1 to 256 simulated rollout actors."""
    with _cluster():
        groups = random_groups(model, 16)
        for actors in (1, 16, 64, 256):
            yield _fleet(actors, groups, model.parent / f"fleet-{actors}")


class Scaling:
    """A listener that requests one fleet size after the other and measures prompts per second at each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rates: list[float] = []
        self._window: tuple[float, int] | None = None
        self._unchanged_since = time.monotonic()
        self._requests: list[threading.Thread] = []

    def __call__(self, progress: TrainingProgress) -> None:
        settled, now = progress.settled, time.monotonic()
        if self._window is None:
            states = read_status(self.folder).get("actors", {})
            working = states.get("healthy", 0) + states.get("stale", 0)
            if not working == sum(states.values()) == SIZES[len(self.rates)]:
                self._unchanged_since = now
            elif now - self._unchanged_since >= REST_S:
                self._window = (now, settled)
        elif now - self._window[0] >= WINDOW_S:
            self.rates.append((settled - self._window[1]) / (now - self._window[0]))
            self._window, self._unchanged_since = None, now
            if len(self.rates) == len(SIZES):
                raise StoppedError("measured", 0)
            self._requests.append(threading.Thread(target=scale, args=(self.folder, SIZES[len(self.rates)])))
            self._requests[-1].start()


def scaled(model: Path) -> Iterator[Figure]:
    """Measure prompts per second while `tlpo scale` grows and shrinks the fleet."""
    with _cluster():
        groups, folder = random_groups(model, 16), model.parent / "scaled"
        count = int(sum(SIZES) * AT_ONCE * BATCH / SHORT_BATCH_S * 3 * (REST_S + WINDOW_S))
        scaling = Scaling(folder)
        with _run(folder, SIZES[0], groups, count, batch_s=SHORT_BATCH_S, together=1) as start, suppress(StoppedError):
            start(scaling)
    whole = ", ".join(f"{size}: {rate:.0f}" for size, rate in zip(SIZES, scaling.rates, strict=True))
    each = AT_ONCE * BATCH / SHORT_BATCH_S
    shares = ", ".join(f"{rate / (size * each):.2f}" for size, rate in zip(SIZES, scaling.rates, strict=True))
    yield Figure(
        what=f"prompts per second while the number of simulated actors goes {' -> '.join(map(str, SIZES))}",
        value=f"{whole}; shares of the {each:.0f} that each actor could do: {shares}",
    )


@contextmanager
def _cluster() -> Iterator[None]:
    """Start several Ray nodes on this machine."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 16})
    for _ in range(NODES - 1):
        cluster.add_node(num_cpus=16)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
    try:
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()


def _fleet(actors: int, groups: list[CandidateGroup], folder: Path) -> Figure:
    wanted = actors * BATCH / BATCH_S * SECONDS
    count = int(min(wanted, GROUPS / YIELD / UPDATE_S * SECONDS)) // BATCH * BATCH
    with _run(folder, actors, groups, max(BATCH, count)) as start:
        began, cpu = time.monotonic(), time.process_time()
        summary, learner = start(lambda progress: None)
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    learned = summary.accounting.confused
    most = GROUPS / UPDATE_S
    offered = min(most, actors * BATCH / BATCH_S * YIELD)
    return Figure(
        what=f"{actors} simulated rollout actors",
        value=(
            f"{learned / seconds:,.0f} groups learned per second of {offered:,.0f} possible; driver "
            f"{1e3 * cpu / max(1, learned):.2f} ms of CPU per group; learner idle {learner.idle:.0%}; "
            f"{summary.accounting.stale} groups too old"
        ),
    )


@contextmanager
def _run(
    folder: Path, actors: int, groups: list[CandidateGroup], count: int, **simulated: Any
) -> Iterator[Callable[[Listener], tuple[TrainSummary, SimulatedLearner]]]:
    """Start everything of a run; yields the function that trains."""
    config = _config(folder, actors)
    prompts = [Prompt(index=number, id="", language="ko", text="question") for number in range(count)]
    settings = {"groups_per_update": GROUPS, "lease_size": BATCH, "capacity": 16_384, "max_staleness": STALENESS}
    spec = RolloutSpec(
        model=config.model, rollout=config.rollout, detector=config.detector, seed=0, canary_tolerance=1.0,
        weight_transfer="object_store", lora=None, sync_deadline_s=60,
    )  # fmt: skip
    exchange = RemoteExchange(prompts, {}, **settings)
    pool = SimulatedPool(groups, **simulated)
    fleet = RolloutFleet(spec, actors, config.flow, config.cluster, exchange, pool=pool)
    learner = SimulatedLearner()
    fleet.sync_weights(learner.export_weights(()))
    fleet.wait_until_synced()
    components = Components(exchange=exchange, fleet=fleet, learner=learner, canary_context=())
    try:
        with RunFolder(config) as run:
            yield lambda listener: (train(config, components, run, listener), learner)
    finally:
        fleet.close()


def _config(folder: Path, actors: int) -> RunConfig:
    settings = [
        f"folder={folder}",
        f"rollout.num_actors={actors}",
        "flow.max_staleness=16",
        "checkpoint.every_updates=9999",
    ]
    return load_config("quickstart", ["model.path=.", *settings])
