"""Rollout actors that join and leave while a run goes on, on several Ray nodes, some of which die."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from tests.small_run import run, run_config
from tlpo_ray.flow.errors import UserError
from tlpo_ray.outside import read_status, scale
from tlpo_ray.train import Progress, TrainSummary

pytestmark = pytest.mark.ray

Undisturbed = tuple[Path, TrainSummary]
STORE = 200 << 20
MANY = 14
"""Copies of the prompts of a run that is long enough for actors to come and go."""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head with room for the learner only."""
    found = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "object_store_memory": STORE, "resources": {"learn": 1}},
    )
    try:
        yield found
    finally:
        ray.shutdown()
        found.shutdown()


def add_node(cluster: Cluster, cpus: int = 2) -> Any:
    return cluster.add_node(num_cpus=cpus, object_store_memory=STORE, resources={"roll": 1})


def on(cluster: Cluster, **settings: object) -> dict[str, object]:
    return {
        "cluster.address": cluster.address,
        "cluster.rollout_resource": "roll",
        "cluster.learner_resource": "learn",
        **settings,
    }


def nodes_of(name: str) -> set[str]:
    """Nodes on which live actors whose name begins so are."""
    from ray._private.state import actors  # the public list needs a dashboard

    alive = [actor for actor in actors().values() if actor["State"] == "ALIVE"]
    return {actor["Address"]["NodeID"] for actor in alive if str(actor["Name"]).startswith(name)}


def at(version: int, act: Callable[[], None]) -> Callable[[Progress], None]:
    """A listener that does something once when a policy version is reached."""
    done: list[bool] = []

    def listener(progress: Progress) -> None:
        if progress.version >= version and not done:
            done.append(True)
            act()

    return listener


def many_prompts(prompts: Path, folder: Path) -> Path:
    file = folder / "many.jsonl"
    file.write_text(prompts.read_text() * MANY)
    return file


def test_a_node_full_of_rollout_actors_dies_and_the_run_goes_on(
    cluster: Cluster, tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    """Actors are where their resource is, ranks where theirs is; who was on the node comes back on a new one."""
    dying, staying = add_node(cluster), add_node(cluster)
    seen: dict[str, set[str]] = {}

    def look_and_kill() -> None:
        seen.update(rollout=nodes_of("tlpo-rollout"), learner=nodes_of("tlpo-learner"))
        cluster.remove_node(dying, allow_graceful=False)
        seen["new"] = {add_node(cluster).node_id}

    folder = tmp_path / "run"
    config = run_config(tiny_model, many_prompts(prompts, tmp_path), folder, **on(cluster, **{"rollout.actors": 3}))
    summary = run(config, at(1, look_and_kill))
    assert seen["rollout"] == {dying.node_id, staying.node_id}
    assert seen["learner"] == {cluster.head_node.node_id}
    assert summary.restarts >= 1  # more, if one was started on the dying node before that was known to be dead
    assert summary.learner_restarts == summary.exchange_restarts == 0
    assert summary.accounting.complete and summary.accounting.total == 40 * MANY


def test_one_actor_becomes_three_and_one_again_and_the_learner_does_not_notice(
    cluster: Cluster, tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    """The third has to wait for a node to come."""
    add_node(cluster)
    folder = tmp_path / "run"
    most: list[int] = []
    asked: list[threading.Thread] = []
    at_one, at_three = Once(), Once()

    def ask(actors: int) -> None:
        asked.append(threading.Thread(target=scale, args=(folder, actors)))
        asked[-1].start()

    def listener(progress: Progress) -> None:
        states = read_status(folder).get("actors", {})
        most.append(states.get("healthy", 0) + states.get("stale", 0))
        if progress.version >= 1 and at_one():
            ask(3)
        if states.get("pending") and at_three():
            add_node(cluster)
        if most[-1] == 3 and len(asked) == 1:
            ask(1)

    many = many_prompts(prompts, tmp_path)
    config = run_config(tiny_model, many, folder, **on(cluster, **{"rollout.actors": 1, "rollout.lot": 2}))
    summary = run(config, listener)
    for thread in asked:
        thread.join(timeout=60)
    assert len(asked) == 2, "the fleet never had three actors"
    assert max(most) == 3
    assert summary.accounting.complete and summary.accounting.total == 40 * MANY
    assert summary.restarts == summary.learner_restarts == 0
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["rollout_actors"] == 1


class Once:
    """True the first time."""

    def __init__(self) -> None:
        self._asked = False

    def __call__(self) -> bool:
        self._asked, before = True, self._asked
        return not before


def test_what_cannot_be_scaled_is_one_line(local: Undisturbed, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run"):
        scale(tmp_path, 2)
    with pytest.raises(UserError, match=r"is complete, see result\.json"):
        scale(local[0], 2)
