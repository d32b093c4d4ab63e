"""Rollout actors that join and leave an active run, on several Ray nodes, some of which die."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from tests.clusters import BIN, wait_until
from tests.small_run import LOCAL, assert_same_weights, run, run_config
from tlpo_ray.cluster.post_mortem import post_mortem
from tlpo_ray.config.load import dump_config
from tlpo_ray.data.load import load_prompts
from tlpo_ray.errors import LearnerLostError, ResourceError, UserError
from tlpo_ray.progress import ProgressListener, TrainingProgress
from tlpo_ray.run.build import build_components
from tlpo_ray.run.control import read_status, scale
from tlpo_ray.run.folder import RunFolder
from tlpo_ray.run.loop import TrainSummary, train
from tlpo_ray.run.training import run_training

pytestmark = pytest.mark.ray

Undisturbed = tuple[Path, TrainSummary]
STORE = 200 << 20
MANY, TURN_S = 20, 1.5
"""Copies of the prompts, and how long the driver sleeps per turn until everything has happened: the run must not end
before, however long actors take to start on a slow machine."""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Start a head with room for the learner only."""
    found = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "object_store_memory": STORE, "resources": {"learn": 1}},
    )
    try:
        yield found
    finally:
        ray.shutdown()
        found.shutdown()


def add_node(cluster: Cluster, cpus: int) -> Any:
    return cluster.add_node(num_cpus=cpus, object_store_memory=STORE, resources={"roll": 1})


def on(cluster: Cluster, **settings: object) -> dict[str, object]:
    return {
        "cluster.address": cluster.address,
        "cluster.rollout_resource": "roll",
        "cluster.learner_resource": "learn",
        **settings,
    }


def nodes_of(name: str) -> set[str]:
    """Return the nodes of the live actors whose names begin with `name`."""
    from ray._private.state import actors  # the public list needs a dashboard

    alive = [actor for actor in actors().values() if actor["State"] == "ALIVE"]
    return {actor["Address"]["NodeID"] for actor in alive if str(actor["Name"]).startswith(name)}


def many_prompts(prompts: Path, folder: Path) -> Path:
    file = folder / "many.jsonl"
    file.write_text(prompts.read_text() * MANY)
    return file


class Events:
    """A listener that does one thing after the other to an active run."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        self.requests: list[threading.Thread] = []
        self.seen: dict[str, set[str]] = {}
        self.most = 0
        self._steps = iter((self.three, self.room, self.dies, self.back, self.one))
        self._next: Callable[[TrainingProgress, dict[str, int]], bool] | None = next(self._steps)

    def __call__(self, progress: TrainingProgress) -> None:
        states = read_status(self.folder).get("actors", {})
        working = states.get("healthy", 0) + states.get("stale", 0)
        self.most = max(self.most, working)
        if self._next is not None:
            time.sleep(TURN_S)
            if self._next(progress, {**states, "working": working}):
                self._next = next(self._steps, None)

    @property
    def over(self) -> bool:
        return self._next is None

    def scale(self, actors: int) -> None:
        self.requests.append(threading.Thread(target=scale, args=(self.folder, actors)))
        self.requests[-1].start()

    def three(self, progress: TrainingProgress, states: dict[str, int]) -> bool:
        if progress.version >= 1:
            self.scale(3)
        return progress.version >= 1

    def room(self, progress: TrainingProgress, states: dict[str, int]) -> bool:
        """Two actors wait for a node."""
        if states.get("pending") != 2:
            return False
        self.new = add_node(self.cluster, cpus=2)
        return True

    def dies(self, progress: TrainingProgress, states: dict[str, int]) -> bool:
        if states["working"] != 3:
            return False
        self.seen.update(rollout=nodes_of("tlpo-rollout"), learner=nodes_of("tlpo-learner"))
        self.cluster.remove_node(self.new, allow_graceful=False)
        add_node(self.cluster, cpus=2)
        return True

    def back(self, progress: TrainingProgress, states: dict[str, int]) -> bool:
        """The actors that were on it are restarted on another."""
        return states["working"] < 3

    def one(self, progress: TrainingProgress, states: dict[str, int]) -> bool:
        if states["working"] == 3:
            self.scale(1)
        return states["working"] == 3


def test_actors_join_and_leave_with_requests_and_nodes_and_the_learner_is_not_disturbed(
    cluster: Cluster, tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    """One actor becomes three, two of which wait for a node; it dies; they restart on another; one is left."""
    first, folder = add_node(cluster, cpus=1), tmp_path / "run"
    settings = {"rollout.num_actors": 1, "rollout.lease_size": 2, "cluster.cpus_per_rollout_actor": 1}
    events = Events(cluster, folder)
    summary = run(run_config(tiny_model, many_prompts(prompts, tmp_path), folder, **on(cluster, **settings)), events)
    for thread in events.requests:
        thread.join(timeout=60)
    assert events.over, "the run was over before all had happened"
    assert events.most == 3
    assert events.seen["rollout"] == {first.node_id, events.new.node_id}
    assert events.seen["learner"] == {cluster.head_node.node_id}
    assert summary.accounting.complete and summary.accounting.total == 40 * MANY
    # More, if one was started on the dying node before that was known to be dead.
    assert summary.incidents.actor_restarts >= 2
    assert summary.incidents.learner_restarts == summary.incidents.exchange_restarts == 0
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["rollout_actors"] == 1


def drain(cluster: Cluster, node: Any, seconds: int) -> subprocess.Popen[str]:
    """Announce that a node will be lost, as a spot node does that gets its notice; the command waits for its end."""
    command = [BIN / "tlpo", "drain", "--node", node.node_id, "--seconds", str(seconds)]
    return subprocess.Popen(
        command, env=os.environ | {"RAY_ADDRESS": cluster.address}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


class Notices:
    """A listener that announces the loss of a node with rollout actors, then of the learner's, and takes both away."""

    def __init__(self, cluster: Cluster, rollout: Any, learner: Any) -> None:
        self.cluster = cluster
        self.nodes = {"tlpo-rollout": rollout, "tlpo-learner": learner}
        self.left: list[str] = []
        self.said: list[str] = []
        self._notice: subprocess.Popen[str] | None = None

    def __call__(self, progress: TrainingProgress) -> None:
        time.sleep(0.3 if self.nodes else 0)
        if progress.version < 1:
            return
        for role, node in tuple(self.nodes.items()):
            if self._notice is None:
                self._notice = drain(self.cluster, node, 60)
            elif self._notice.poll() is not None and (on := nodes_of(role)) and node.node_id not in on:
                self.said.append(self._notice.communicate()[0])
                self.cluster.remove_node(node, allow_graceful=False)
                self.left.append(role)
                self._notice = None
                del self.nodes[role]
            return


def test_processes_leave_nodes_that_are_about_to_be_lost_and_nothing_is_done_twice(
    cluster: Cluster, tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    small = {"rollout.lease_size": 2, "learner.groups_per_update": 4}
    undisturbed = run(run_config(tiny_model, prompts, tmp_path / "undisturbed", **LOCAL, **small))
    doomed = [cluster.add_node(num_cpus=2, object_store_memory=STORE, resources={role: 1}) for role in ("roll", "rank")]
    placed = {"cluster.rollout_resource": "roll", "cluster.learner_resource": "rank"}
    settings = {**small, **placed, "cluster.address": cluster.address}
    config = run_config(tiny_model, prompts, tmp_path / "run", **settings)
    asked = load_prompts(config.data, config.detector, config.seed)
    notices = Notices(cluster, *doomed)
    with build_components(config, asked) as components, RunFolder(config) as folder:
        for role in ("roll", "rank"):
            cluster.add_node(num_cpus=2, object_store_memory=STORE, resources={role: 1})
        summary = train(config, components, folder, notices)
    assert notices.left == ["tlpo-rollout", "tlpo-learner"], "both had left before their nodes were lost"
    for said, node in zip(notices.said, doomed, strict=True):
        assert said == f"node {node.node_id} is drained and gets nothing new; processes of runs that have left it: 2\n"
    incidents = summary.incidents
    assert incidents.actor_restarts == incidents.learner_restarts == incidents.exchange_restarts == 0
    assert (summary.accounting, summary.updates) == (undisturbed.accounting, undisturbed.updates)
    assert summary.counters.rollouts.sampled == summary.accounting.total + summary.rerolled, "some were sampled twice"
    assert_same_weights(tmp_path / "run", tmp_path / "undisturbed")


def test_a_run_whose_drivers_node_is_drained_ends_and_says_how_to_resume_it(
    cluster: Cluster, tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    cluster.add_node(num_cpus=2, object_store_memory=STORE, resources={"roll": 1})
    folder = tmp_path / "run"
    many = many_prompts(prompts, tmp_path)
    config = run_config(tiny_model, many, folder, **on(cluster, **{"learner.groups_per_update": 4}))
    (tmp_path / "run.yaml").write_text(dump_config(config), encoding="utf-8")
    with subprocess.Popen(
        [BIN / "tlpo", "train", tmp_path / "run.yaml"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as driver:
        wait_until(lambda: read_status(folder).get("policy_version", 0) >= 1, "the first update")
        with drain(cluster, cluster.head_node, 60):
            assert driver.stderr is not None
            said = driver.stderr.read()
    assert driver.returncode == 128 + signal.SIGTERM and "tlpo train --resume" in said, said
    assert any("the node of the driver is drained" in event.text for event in post_mortem(folder).events)


def test_a_node_that_does_not_exist_is_not_drained(cluster: Cluster) -> None:
    other = "ab" * 28
    run = subprocess.run(
        [BIN / "tlpo", "drain", "--node", other], env=os.environ | {"RAY_ADDRESS": cluster.address},
        capture_output=True, text=True,
    )  # fmt: skip
    there = cluster.head_node.node_id
    message = f"tlpo: --node {other}: the cluster has no such node; its nodes are {there}\n"
    assert (run.returncode, run.stdout, run.stderr) == (2, "", message)


def test_a_run_that_ends_because_its_learners_node_was_lost_says_so(
    cluster: Cluster, tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    doomed = cluster.add_node(num_cpus=2, object_store_memory=STORE, resources={"rank": 1})
    placed = {"cluster.rollout_resource": "learn", "cluster.learner_resource": "rank"}
    settings = {"learner.groups_per_update": 4, "flow.max_restarts": 0, **placed}

    class Loss(ProgressListener):
        """Takes the node away after the first update."""

        def training(self, progress: TrainingProgress) -> None:
            if progress.version and doomed in cluster.worker_nodes:
                cluster.remove_node(doomed, allow_graceful=False)

    with pytest.raises(LearnerLostError):
        run_training(
            run_config(
                tiny_model, many_prompts(prompts, tmp_path), tmp_path / "run",
                **settings | {"cluster.address": cluster.address},
            ),
            progress=Loss(),
        )  # fmt: skip
    *_, warning, failed = post_mortem(tmp_path / "run").events
    assert re.search(rf"\({doomed.node_id[:8]}\) (does not answer: it is|was) lost", warning.text)
    assert failed.text.startswith("LearnerLostError: a learner rank failed during ")


def test_processes_run_on_nodes_with_the_labels_of_their_first_choice_that_has_room(
    cluster: Cluster, tiny_model: Path, prompts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nodes of one spot zone are full, those of another are not, and no node for learners is on spot."""
    full = cluster.add_node(num_cpus=0, object_store_memory=STORE, labels={"market": "spot", "zone": "a"})
    free = cluster.add_node(num_cpus=2, object_store_memory=STORE, labels={"market": "spot", "zone": "b"})
    seen: dict[str, set[str]] = {}

    def listener(progress: TrainingProgress) -> None:
        seen.update(rollout=nodes_of("tlpo-rollout"), learner=nodes_of("tlpo-learner"))

    settings = {
        "cluster.address": cluster.address,
        "cluster.rollout_labels": "[{market: spot, zone: a}, {market: spot}]",
        "cluster.learner_labels": "{market: '!spot'}",
        "cluster.label_wait_s": 2,
    }
    with pytest.raises(ResourceError, match="no node has the labels market=reserved, which learner ranks request"):
        run(
            run_config(
                tiny_model, prompts, tmp_path / "no", **settings | {"cluster.learner_labels": "{market: reserved}"}
            )
        )
    summary = run(run_config(tiny_model, prompts, tmp_path / "run", **settings), listener)
    assert seen == {"rollout": {free.node_id}, "learner": {cluster.head_node.node_id}}
    assert "found no room on nodes with the labels market=spot, zone=a after 2 s" in caplog.text
    assert summary.accounting.complete and full.node_id not in seen["rollout"]


def test_what_cannot_be_scaled_is_refused_in_one_line(local: Undisturbed, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not hold a run"):
        scale(tmp_path, 2)
    with pytest.raises(UserError, match=r"is complete, see result\.json"):
        scale(local[0], 2)
