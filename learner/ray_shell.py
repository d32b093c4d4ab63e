"""The learner group in Ray: one process a rank around a `LearnerWorker`, started, driven and ended together."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
import torch
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from learner.checkpoint import newest
from learner.engine import layout
from learner.publish import Publisher
from learner.report import UpdateReport, merged
from learner.worker import LearnerWorker, build_learner
from tlpo_ray.cluster.hangs import ProcessInfo, dump_stacks, register_process, stacks_if_late
from tlpo_ray.cluster.placement import bundle
from tlpo_ray.cluster.waiting import wait_for
from tlpo_ray.config.run import MIB, ClusterConfig, FlowConfig, LearnerConfig, ModelConfig
from tlpo_ray.errors import DeadlineError, LearnerLostError, TlpoError, first_line
from tlpo_ray.flow.records import decode
from tlpo_ray.flow.weights import Rendezvous, WeightUpdate

CPU_ENV = {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
COMMON_ENV = {"TOKENIZERS_PARALLELISM": "false", "DS_LOG_LEVEL": "error"}


class LearnerProcess:
    """One learner rank. Every method but `address` is called on all ranks at once: they hold collectives."""

    def __init__(self) -> None:
        self._worker: LearnerWorker | None = None

    def address(self) -> tuple[str, int]:
        """Where rank 0 can be reached by the others: host address and a free port."""
        host: str = ray.util.get_node_ip_address()
        with socket.socket() as free:
            free.bind(("", 0))
            return host, int(free.getsockname()[1])

    def where(self, stacks: str | None, name: str) -> ProcessInfo:
        """Where it is; from now on it can be asked where it hangs."""
        return register_process(stacks, name)

    def setup(
        self,
        model: ModelConfig,
        config: LearnerConfig,
        flow: FlowConfig,
        *,
        rank: int,
        ranks: int,
        address: str,
        port: int,
        seed: int,
        colocated: bool,
    ) -> int:
        """Load policy and reference and join the process group; the rank."""
        self._worker = build_learner(
            model, config, rank=rank, ranks=ranks, address=address, port=port, seed=seed,
            deadline_s=max(flow.update_deadline_s, flow.checkpoint_deadline_s),
        )  # fmt: skip
        self._publisher = Publisher(flow.bucket_mib * MIB, flow.full_sync_interval)
        self._colocated = colocated
        return rank

    def update(self, payload: bytes, progress: float) -> UpdateReport:
        """One update from an Arrow stream of groups; the report of this rank's shard."""
        report = self.worker.update(decode(payload), progress)
        if self._colocated and torch.cuda.is_available():
            torch.cuda.empty_cache()  # what activations took is the rollout actor's now
        return report

    def publish(self, canary_context: Sequence[int]) -> WeightUpdate | None:
        """On rank 0 the current policy version, its buckets as references into the object store."""
        return self.worker.publish(self._publisher, canary_context, put=ray.put)

    def announce(self, canary_context: Sequence[int]) -> WeightUpdate:
        """The current policy version without its weights, for `broadcast`."""
        return self.worker.announce(canary_context)

    def open_broadcast(self, rendezvous: Rendezvous) -> None:
        """Meet the receivers of broadcasts."""
        self.worker.open_broadcast(rendezvous)

    def broadcast(self) -> None:
        """Send the weights to all receivers."""
        self.worker.broadcast()

    def save(self, root: Path, state: Mapping[str, Any], keep_last: int) -> int:
        """Write a checkpoint together; policy version of the oldest that is kept."""
        return self.worker.save(root, state, keep_last)

    def load(self, folder: Path) -> dict[str, Any]:
        """Continue from a checkpoint; the state saved with it."""
        return self.worker.load(folder)

    def export(self, folder: Path) -> None:
        """Write the policy as a Hugging Face model folder (rank 0 writes)."""
        self.worker.export(folder)

    @property
    def worker(self) -> LearnerWorker:
        assert self._worker is not None, "setup comes first"
        return self._worker


LearnerRank = ray.remote(LearnerProcess)


class LearnerGroup:
    """All learner ranks of a run, as if they were one.

    Args:
        model, config: what every rank is made from.
        flow: deadlines, and the size of a bucket of weights.
        cluster: what each rank asks of the cluster.
        seed: of the run.
        stacks: folder for the stacks of ranks that hang.
    """

    def __init__(
        self,
        model: ModelConfig,
        config: LearnerConfig,
        flow: FlowConfig,
        cluster: ClusterConfig,
        seed: int,
        stacks: str | None = None,
    ) -> None:
        self._model, self._config, self._seed = model, config, seed
        self._flow = flow
        self._cluster = cluster
        self._stacks = stacks
        self.life = 0
        """How often the group has been started again."""
        self._place = _place(config.num_ranks, cluster)
        self._start()

    def _start(self) -> None:
        """A process for each rank; they load the model and meet."""
        config, flow = self._config, self._flow
        self.version = 0
        """Policy version of the weights."""
        self._updating: list[Any] = []
        self._update_deadline = 0.0
        self._ranks = _start_ranks(self._place, config.num_ranks, self._cluster, self.life)
        self._where = [
            handle.where.remote(self._stacks, f"learner-{rank}.{self.life}") for rank, handle in enumerate(self._ranks)
        ]
        address, port = self._wait(self._ranks[0].address.remote(), flow.start_deadline_s, "rank 0 to start")
        self._starting = [
            handle.setup.remote(
                self._model,
                config,
                flow,
                rank=rank,
                ranks=config.num_ranks,
                address=address,
                port=port,
                seed=self._seed,
                colocated=self._cluster.colocated,
            )
            for rank, handle in enumerate(self._ranks)
        ]

    def restart(self) -> None:
        """End all ranks and start them again, with the weights that the run began with.

        Raises:
            DeadlineError: they did not start in time.
            LearnerLostError: one was lost again.
        """
        for rank in self._ranks:
            ray.kill(rank, no_restart=True)
        self.life += 1
        self._start()
        self.ready()

    def ready(self) -> None:
        """Wait until every rank has loaded the model.

        Raises:
            DeadlineError: one did not in time.
            UserError: the model cannot be loaded, or is too large for a rank.
        """
        self._wait(self._starting, self._flow.start_deadline_s, "all ranks to load the model")

    def begin_update(self, payload: bytes, progress: float) -> None:
        """Start learning from an Arrow stream of groups.

        Args:
            progress: share of the prompts consumed, 0 to 1; drives the learning rate.
        """
        shared = ray.put(payload)
        self._updating = [rank.update.remote(shared, progress) for rank in self._ranks]
        self._update_deadline = time.monotonic() + self._flow.update_deadline_s

    def poll_update(self, timeout_s: float) -> UpdateReport | None:
        """The update's report once all ranks are done; None if that takes longer than `timeout_s`.

        Raises:
            NonFiniteError: loss or gradient is NaN or infinite.
            LearnerLostError: a rank died, or the update takes longer than `flow.update_deadline_s`.
        """
        deadline_s = self._flow.update_deadline_s
        done, missing = ray.wait(self._updating, num_returns=len(self._updating), timeout=timeout_s)
        if missing:
            # A rank that died is heard of at once; those that wait for it in a collective may say nothing for long.
            self._wait(done, deadline_s, "an update")
            if time.monotonic() < self._update_deadline:
                return None
            dump_stacks(self._where)
            raise LearnerLostError(f"the driver waited {deadline_s:g} s for the learner group: an update")
        report = merged(self._wait(self._updating, deadline_s, "an update"))
        self._updating = []
        self.version = report.version
        return report

    @property
    def unfinished(self) -> list[Any]:
        """References of the ranks that are still learning; of all, if they have just ended."""
        return ray.wait(self._updating, num_returns=len(self._updating), timeout=0)[1] or self._updating

    @property
    def learning(self) -> bool:
        """Whether an update is under way."""
        return bool(self._updating)

    def publish(self, canary_context: Sequence[int]) -> WeightUpdate:
        """The current policy version, ready for the rollout actors."""
        what = "the weights to be published"
        if self._flow.weight_transfer == "object_store":
            found = self._all("publish", canary_context, what=what)
        else:
            found = self._all("announce", canary_context, what=what)
        update: WeightUpdate = found[0]
        return update

    def open_broadcast(self, receivers: int) -> tuple[Rendezvous, list[Any]]:
        """Begin to meet the receivers of broadcasts: where, and references that are done when all have come.

        Args:
            receivers: processes of all inference engines together.
        """
        address, port = self._asked(self._ranks[0].address.remote(), self._flow.sync_deadline_s, "a place to meet")
        backend = self._flow.weight_transfer
        assert backend != "object_store"
        rendezvous = Rendezvous(
            backend=backend, address=address, port=port, size=receivers + 1, deadline_s=self._flow.sync_deadline_s
        )
        return rendezvous, [rank.open_broadcast.remote(rendezvous) for rank in self._ranks]

    def broadcast(self) -> list[Any]:
        """Begin to send the weights to all who have joined; references that are done when they are sent."""
        return [rank.broadcast.remote() for rank in self._ranks]

    def save(self, root: Path, state: Mapping[str, Any], keep_last: int) -> int:
        """Write a checkpoint below `root`, and keep the last few; policy version of the oldest of these."""
        patience_s = self._flow.checkpoint_deadline_s
        oldest: int = self._all("save", root, state, keep_last, what="a checkpoint", deadline_s=patience_s)[0]
        return oldest

    def restore(self, root: Path, until: int) -> int:
        """Load the newest whole checkpoint of at most version `until` below `root`; its version, 0 if there is none.

        Raises:
            UserError: it is one of other learner settings.
        """
        folder = newest(root, layout(self._config), until)
        if folder is not None:
            self.load(folder)
        return self.version

    def load(self, folder: Path) -> dict[str, Any]:
        """Continue from a checkpoint; the state saved with it."""
        patience_s = self._flow.checkpoint_deadline_s
        state: dict[str, Any] = self._all("load", folder, what="a checkpoint to load", deadline_s=patience_s)[0]
        self.version = int(state["version"])
        return state

    def export(self, folder: Path) -> None:
        """Write the policy as a Hugging Face model folder."""
        self._all("export", folder, what="the model export", deadline_s=self._flow.checkpoint_deadline_s)

    def close(self) -> None:
        """End all ranks at once and free their place."""
        for rank in self._ranks:
            ray.kill(rank, no_restart=True)
        remove_placement_group(self._place)

    def _all(self, method: str, *arguments: Any, what: str, deadline_s: float | None = None) -> list[Any]:
        refs = [getattr(rank, method).remote(*arguments) for rank in self._ranks]
        values: list[Any] = self._asked(refs, deadline_s or self._flow.update_deadline_s, what)
        return values

    def _asked(self, refs: Any, deadline_s: float, what: str) -> Any:
        """`_wait` for ranks that have work to do: who is late is lost."""
        try:
            return self._wait(refs, deadline_s, what)
        except DeadlineError as error:
            raise LearnerLostError(str(error)) from error

    def _wait(self, refs: Any, deadline_s: float, what: str) -> Any:
        """The values; ranks that do not answer in time write where they hang."""
        try:
            with stacks_if_late(self._where):
                return wait_for(refs, deadline_s, who="the driver", what=f"the learner group: {what}")
        except TlpoError:
            raise
        except Exception as error:  # its process died, a collective lost another rank, memory ran out, …
            raise LearnerLostError(f"a learner rank failed during {what}: {first_line(error)}") from error


def _place(ranks: int, cluster: ClusterConfig) -> PlacementGroup:
    """Room for all ranks, as close together as can be."""
    room = bundle(cluster.cpus_per_learner_rank, cluster.gpus_per_learner_rank, cluster.learner_resource)
    return placement_group([room] * ranks, strategy="PACK")


def _start_ranks(place: PlacementGroup, ranks: int, cluster: ClusterConfig, life: int) -> list[Any]:
    """A process for each rank in its place."""
    cpus, gpus = cluster.cpus_per_learner_rank, cluster.gpus_per_learner_rank
    environment = COMMON_ENV | ({} if gpus else CPU_ENV)
    return [
        LearnerRank.options(
            name=f"tlpo-learner-{rank}.{life}",
            num_cpus=cpus,
            num_gpus=gpus,
            runtime_env={"env_vars": environment},
            scheduling_strategy=PlacementGroupSchedulingStrategy(place, placement_group_bundle_index=rank),
        ).remote()
        for rank in range(ranks)
    ]
