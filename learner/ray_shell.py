"""The learner group in Ray: one process per rank around a `LearnerWorker`, started, driven and ended together."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError

from learner.checkpoint import newest
from learner.checkpoint_writer import SavedCheckpoint
from learner.engine import checkpoint_layout
from learner.ray_ranks import RankPlacement
from learner.report import UpdateReport, merge_reports
from learner.watch import GroupWatch
from tlpo_ray.cluster.actors import finished_calls
from tlpo_ray.cluster.hangs import dump_stacks, stacks_if_late
from tlpo_ray.cluster.nodes import draining_nodes
from tlpo_ray.cluster.placement import RESERVE_WAIT_S
from tlpo_ray.cluster.restarts import RestartBudget
from tlpo_ray.cluster.waiting import wait_for
from tlpo_ray.config.cluster import ClusterConfig
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import FlowConfig, LearnerConfig
from tlpo_ray.errors import DeadlineError, LearnerLostError, TlpoError, first_line
from tlpo_ray.flow.weights import Rendezvous, WeightUpdate
from tlpo_ray.stopping import interruptible

logger = logging.getLogger(__name__)

POLL_S = 1.0
"""Timeout of a wait for the ranks in seconds, after which their progress is looked at."""
COLLECTIVE_DEADLINE_S = 24 * 3600.0
"""How long a rank waits for another in a collective, in seconds. Hangs are found much sooner, by the driver: it watches
the progress of all ranks, while a rank does not see whether another hangs or is slow, e.g. writes a checkpoint."""


class LearnerGroup:
    """All learner ranks of a run, driven as one. `start` starts them.

    A rank that dies, hangs or fails takes the group down: the others wait for it in a collective, and weights and
    optimizer state may be sharded over all of them. Methods raise LearnerLostError then; `restart` and `restore` bring
    the group back.

    Args:
        model: What to train.
        config: Hyper-parameters and number of ranks.
        flow: Deadlines, and how weights travel.
        cluster: What each rank requests from the cluster.
        seed: Seed of the run.
        run_folder: The run's folder, for what ranks print and for stacks of those that hang; None keeps neither.
    """

    def __init__(
        self,
        model: ModelConfig,
        config: LearnerConfig,
        flow: FlowConfig,
        cluster: ClusterConfig,
        seed: int,
        run_folder: str | None = None,
    ) -> None:
        self._model, self._config, self._seed = model, config, seed
        self._flow = flow
        self._cluster = cluster
        self._run_folder = run_folder
        self.restart_budget = RestartBudget(flow.max_restarts)
        """Restarts that the run's loop has decided on; the one that may happen before the loop is not counted."""
        self.incarnation = 0
        """Number of times the group has been restarted."""
        self.version = 0
        """Policy version of the weights."""
        self._placement = RankPlacement(config.num_ranks, cluster)
        self._ranks: list[Any] = []
        """Handles of the ranks; empty while the cluster has no room for them."""
        self._locations: list[Any] = []
        """References to each rank's `ProcessInfo`."""
        self._starting: list[Any] = []
        self._started = 0.0
        """Time at which the ranks, or room for them, were requested, of this process's clock."""
        self._updating: list[Any] = []
        """References to the reports of the update that is running."""
        self._is_draining = False
        self._watch: GroupWatch | None = None
        """Watches that update."""

    def start(self) -> None:
        """Start all ranks; they load the model and join their process group while the caller continues.

        A cluster that has no room for them yet gets it during `poll_ready`.
        """
        # Not in __init__: a caller may create the group first and still let the rollout fleet reserve GPUs before it.
        self.version, self._started = 0, time.monotonic()
        self._ranks, self._locations, self._starting = [], [], []
        self._updating, self._watch = [], None
        self._start_ranks(RESERVE_WAIT_S)

    def ready(self) -> None:
        """Wait until every rank has loaded the model and joined the process group; see `poll_ready`."""
        while not self.poll_ready(POLL_S):
            pass

    def poll_ready(self, timeout_s: float) -> bool:
        """Return whether every rank has loaded the model and joined the process group, within `timeout_s` seconds.

        Raises:
            DeadlineError: One has not since `flow.start_deadline_s`, or there is no room for them for so long.
            UserError: The model cannot be loaded, or is too large for a rank.
            LearnerLostError: A rank died.
        """
        what, limit_s, late = "room for all ranks", self._flow.start_deadline_s, True
        if self._ranks or self._start_ranks(timeout_s):
            what = "all ranks to load the model"
            with interruptible():
                ended, late = ray.wait(self._starting, num_returns=len(self._starting), timeout=timeout_s)
            self._wait(ended, limit_s, what)
        if late and time.monotonic() - self._started > limit_s:
            with stacks_if_late(self._locations):
                raise DeadlineError(f"the driver waited {limit_s:g} s for the learner group: {what}")
        return not late

    def restart(self) -> None:
        """End all ranks and start them again, with the weights that the run began with; `poll_ready` follows them.

        They leave nodes that are about to be lost.
        """
        # The others of a lost rank may hang in a collective; a process group cannot be repaired from within either.
        for rank in self._ranks:
            ray.kill(rank, no_restart=True)
        if self.is_draining:
            self._placement.release()
            self._is_draining = False
        self.incarnation += 1
        self.start()

    def begin_update(self, payload: bytes, progress: float) -> None:
        """Start an update on all ranks and return.

        Args:
            payload: Groups to learn from, as an Arrow stream.
            progress: Share of the run's prompts that have their outcome, of those not skipped at load, 0 to 1; drives
                the learning rate.
        """
        shared = ray.put(payload)  # once, not once per rank
        self._updating = [rank.update.remote(shared, progress) for rank in self._ranks]
        self._watch = self._begin_watch("an update", "update_deadline_s")

    def poll_update(self, timeout_s: float) -> UpdateReport | None:
        """Return the update's report once all ranks are done; None if they are not within `timeout_s` seconds.

        Raises:
            NonFiniteError: The loss or the gradient is NaN or infinite.
            LearnerLostError: A rank died, or no rank has finished a micro-batch for `flow.update_deadline_s`.
        """
        assert self._watch is not None, "begin_update comes first"
        reports = self._poll(self._updating, self._watch, timeout_s)
        if reports is None:
            return None
        report = merge_reports(reports)
        self._updating, self._watch = [], None
        self.version = report.version
        return report

    @property
    def is_draining(self) -> bool:
        """Whether a node of a rank is about to be lost, or was announced to be."""
        if nodes := draining_nodes():
            with suppress(GetTimeoutError, RayError):  # a rank is starting, or dead
                on = {process.node_id for process in ray.get(self._locations, timeout=0)}
                self._is_draining = self._is_draining or not on.isdisjoint(nodes)
        return self._is_draining

    @property
    def slow(self) -> dict[str, str]:
        """What an update that takes longer than its deadline is at, and what to do, by "learner"; empty otherwise."""
        slow = None if self._watch is None else self._watch.slow
        return {} if slow is None else {"learner": slow}

    @property
    def pending(self) -> list[Any]:
        """References to what the group is at, an update or its start: ranks that are not done, or all if they are."""
        calls = self._updating or self._starting
        return calls and (ray.wait(calls, num_returns=len(calls), timeout=0)[1] or calls)

    @property
    def learning(self) -> bool:
        """Whether an update is running."""
        return bool(self._updating)

    def export_weights(self, canary_context: Sequence[int]) -> WeightUpdate:
        """Return the current policy version for the rollout actors, by reference or announced for a broadcast.

        Args:
            canary_context: Token ids after which log-probabilities are compared; empty for no canary.

        Raises:
            NonFiniteError: A weight is NaN or infinite.
            LearnerLostError: A rank died or is late.
        """
        method = "export_weights" if self._flow.weight_transfer == "object_store" else "announce_weights"
        update: WeightUpdate = self._call_all(method, canary_context, what="the export of weights")[0]
        return update

    def open_broadcast(self, num_receivers: int) -> tuple[Rendezvous, list[Any]]:
        """Open a broadcast group; returns its address, and references that resolve once all members have joined.

        Args:
            num_receivers: Processes of all inference engines together.

        Raises:
            LearnerLostError: Rank 0 died or is late.
        """
        backend = self._flow.weight_transfer
        assert backend != "object_store"
        deadline_s = self._flow.sync_deadline_s
        asked = [self._ranks[0].address.remote()]
        address, port = self._complete(asked, "an address for broadcasts", "sync_deadline_s")[0]
        rendezvous = Rendezvous(
            backend=backend, address=address, port=port, size=num_receivers + 1, deadline_s=deadline_s
        )
        return rendezvous, [rank.open_broadcast.remote(rendezvous) for rank in self._ranks]

    def broadcast(self) -> list[Any]:
        """Start sending the weights to all receivers that joined; returns references that resolve when it is done."""
        return [rank.broadcast.remote() for rank in self._ranks]

    def begin_save(self, root: Path, keep_last: int) -> None:
        """Begin a checkpoint below `root`; returns when the ranks may continue to learn, while rank 0 writes it.

        Args:
            root: Folder of all checkpoints of the run, on storage that all ranks share.
            keep_last: Number of checkpoints to keep, this one included.

        Raises:
            ResourceError: The folder cannot be written.
            LearnerLostError: A rank died or is late.
        """
        self._call_all("begin_save", root, keep_last, what="a checkpoint", setting="checkpoint_deadline_s")

    def poll_save(self, *, wait: bool = False) -> SavedCheckpoint | None:
        """Return the checkpoint that has become complete since the last call; None if there is none.

        Args:
            wait: Whether to wait for one that is being written.

        Raises:
            ResourceError: It cannot be written.
            LearnerLostError: Rank 0 died or is late.
        """
        asked = [self._ranks[0].poll_save.remote(wait=wait)]
        saved: SavedCheckpoint | None = self._complete(asked, "a checkpoint", "checkpoint_deadline_s")[0]
        return saved

    def restore(self, root: Path, until: int) -> int:
        """Load the newest intact checkpoint of at most version `until` below `root`, if there is one.

        The driver chooses it for all ranks.

        Returns:
            Policy version of the weights: the checkpoint's, or the current version, unchanged, if there is none.

        Raises:
            UserError: The checkpoint was written with other learner settings.
            LearnerLostError: A rank died or is late.
        """
        folder = newest(root, checkpoint_layout(self._config), until)
        return self.version if folder is None else self.load(folder)

    def load(self, folder: Path) -> int:
        """Load a checkpoint folder and return its policy version.

        Raises:
            UserError: The folder does not hold a checkpoint, or one written with other learner settings.
            LearnerLostError: A rank died or is late.
        """
        versions = self._call_all("load", folder, what="a checkpoint to load", setting="checkpoint_deadline_s")
        self.version = versions[0]
        return self.version

    def export(self, folder: Path) -> None:
        """Write the policy as a Hugging Face model folder.

        Raises:
            ResourceError: The folder cannot be written.
            LearnerLostError: A rank died or is late.
        """
        self._call_all("export", folder, what="the model export", setting="checkpoint_deadline_s")

    def close(self) -> None:
        """End all ranks at once and release their resources."""
        for rank in self._ranks:
            ray.kill(rank, no_restart=True)
        self._placement.release()

    def _start_ranks(self, timeout_s: float) -> bool:
        """Start a process per rank and let it set up, if there is room within `timeout_s` seconds; return whether."""
        if not self._placement.is_ready(timeout_s):
            return False
        config, flow = self._config, self._flow
        self._ranks = self._placement.create_ranks(self.incarnation)
        self._locations = [
            handle.register.remote(self._run_folder, f"learner-{rank}.{self.incarnation}")
            for rank, handle in enumerate(self._ranks)
        ]
        self._started = time.monotonic()
        address = self._ranks[0].address.remote()  # passed on as a reference: nobody waits here for a process to start
        self._starting = [
            handle.setup.remote(
                self._model, config, flow, self._seed, rank, address, COLLECTIVE_DEADLINE_S,
                colocated=self._cluster.colocated,
            )
            for rank, handle in enumerate(self._ranks)
        ]  # fmt: skip
        return True

    def _call_all(self, method: str, *arguments: Any, what: str, setting: str = "update_deadline_s") -> list[Any]:
        """Call a method on all ranks and return their values; `setting` is the limit without progress."""
        return self._complete([getattr(rank, method).remote(*arguments) for rank in self._ranks], what, setting)

    def _complete(self, refs: Sequence[Any], what: str, setting: str) -> list[Any]:
        """Return the values of calls of ranks, which have as long as they make progress."""
        watch = self._begin_watch(what, setting)
        while (values := self._poll(refs, watch, POLL_S)) is None:
            pass
        return values

    def _begin_watch(self, what: str, setting: str) -> GroupWatch:
        return GroupWatch(self._ranks, what, f"flow.{setting}", getattr(self._flow, setting))

    def _poll(self, refs: Sequence[Any], watch: GroupWatch, timeout_s: float) -> list[Any] | None:
        """Return the values of calls of ranks; None if not all have ended within `timeout_s` seconds.

        Raises:
            LearnerLostError: A rank died or failed, or none of them makes progress any more.
        """
        until, done = time.monotonic() + timeout_s, set[Any]()
        while pending := [ref for ref in refs if ref not in done]:
            ended = finished_calls(pending, (), max(0.0, until - time.monotonic()))
            # Raises if one of them has failed: Ray reports a dead process at once, while the ranks that wait for it in
            # a collective would not return before the collective's deadline.
            self._results(ended, watch)
            done.update(ended)
            if len(ended) < len(pending) and time.monotonic() >= until:
                self._check_progress(watch)
                return None
        return self._results(refs, watch)

    def _results(self, refs: Sequence[Any], watch: GroupWatch) -> list[Any]:
        """Return the values of calls that have ended.

        Raises:
            LearnerLostError: A rank died or failed.
        """
        try:
            values: list[Any] = self._wait(refs, watch.limit_s, watch.what)
        except DeadlineError as error:  # the node that holds a value does not send it
            raise LearnerLostError(str(error)) from error
        return values

    def _check_progress(self, watch: GroupWatch) -> None:
        """Give up an operation that makes no progress; log once that one is slow.

        Raises:
            LearnerLostError: It makes none.
        """
        if watch.is_silent():
            dump_stacks(self._locations)
            silent = ", ".join(f"learner-{rank}.{self.incarnation}" for rank in watch.unanswering())
            why = (
                f"{silent} did not answer when asked for it"
                if silent
                else f"if it was only slow, raise {watch.setting}"
            )
            raise LearnerLostError(
                f"the driver waited {watch.limit_s:g} s for progress of the learner group: {watch.what}; {why}"
            )
        if not watch.is_reported and (slow := watch.slow) is not None:
            watch.is_reported = True
            logger.warning("the learner group %s", slow)

    def _wait(self, refs: Any, deadline_s: float, what: str) -> Any:
        """Return the values of references; when they are late, all ranks dump their stacks."""
        try:
            with stacks_if_late(self._locations):
                return wait_for(refs, deadline_s, who="the driver", what=f"the learner group: {what}")
        except TlpoError:
            raise
        except Exception as error:  # its process died, a collective lost another rank, memory ran out, …
            raise LearnerLostError(f"a learner rank failed during {what}: {first_line(error)}") from error
