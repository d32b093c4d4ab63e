"""What a run requests from its Ray cluster."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from tlpo_ray.config.fields import Positive, Seconds, Section

_KEY = re.compile(r"([a-zA-Z0-9]([\w.-]*[a-zA-Z0-9])?/)?[a-zA-Z0-9]([\w.-]*[a-zA-Z0-9])?")
_VALUE = re.compile(r"!?(in\([\w., -]+\)|[\w.-]+)")


def _in_a_list(selectors: Any) -> Any:
    """Accept a single selector in place of a list of them."""
    return [selectors] if isinstance(selectors, dict) else selectors


def _check_selectors(selectors: tuple[dict[str, str], ...]) -> tuple[dict[str, str], ...]:
    """Refuse what Ray would refuse when a process is placed, which is after minutes."""
    for selector in selectors:
        for key, value in selector.items():
            if not _KEY.fullmatch(key):
                raise ValueError(f"{key!r} is not a label: use letters, digits, and - _ . between them")
            if not _VALUE.fullmatch(value):
                raise ValueError(f"{value!r} selects no value of {key}: use a value, in(a, b), !a or !in(a, b)")
    return selectors


LabelSelectors = Annotated[tuple[dict[str, str], ...], BeforeValidator(_in_a_list), AfterValidator(_check_selectors)]


class ClusterConfig(Section):
    """The Ray cluster, and what each process requests from it."""

    address: str | None = None
    """Address of a running cluster; none starts one on this machine, or joins that of the Ray job."""
    cpus_per_rollout_actor: Annotated[float, Field(gt=0)] = 1
    """CPU cores that Ray reserves per rollout actor."""
    gpus_per_rollout_actor: Annotated[float, Field(ge=0)] = 1
    """GPUs per rollout actor, or per worker if `rollout.tensor_parallel` is above 1; less than 1 shares a GPU."""
    cpus_per_learner_rank: Annotated[float, Field(gt=0)] = 1
    """CPU cores that Ray reserves per learner rank."""
    gpus_per_learner_rank: Annotated[float, Field(ge=0)] = 1
    """GPUs per learner rank; less than 1 shares a GPU."""
    rollout_resource: str | None = None
    """Custom resource of the nodes for rollout actors, e.g. `rollout` (`ray start --resources='{"rollout": 1}'`); none
    lets Ray place them on any node."""
    learner_resource: str | None = None
    """Custom resource of the nodes for learner ranks; none lets Ray place them on any node."""
    rollout_labels: LabelSelectors = ()
    """Labels of the nodes for rollout actors, as Ray's label selectors, in order of preference, e.g.
    `[{ray.io/market-type: spot}, {ray.io/market-type: "!spot"}]`. The values are a value, `in(a, b)`, or either with
    `!` in front. An actor that has waited `label_wait_s` for nodes of one is requested with the next; empty lets Ray
    place it on any node."""
    learner_labels: LabelSelectors = ()
    """The same for learner ranks, which are all placed by the same selector."""
    label_wait_s: Seconds = 120
    """Time in seconds after which the next of several label selectors is tried."""
    autoscales: bool = False
    """Whether to start although the cluster is too small: its autoscaler sees what is missing, and has
    `flow.start_deadline_s` to add nodes."""
    colocated: bool = False
    """Whether a rollout actor and a learner rank take turns on one GPU: while the learner learns, the actor's engine
    has its weights in the host's memory and no KV cache. Give each half of the GPU by the two `gpus_per_…` settings."""
    object_store_mib: Positive | None = None
    """Size of the object store of a cluster that is started here, in MiB; none lets Ray choose."""
    dashboard: bool = False
    """Whether to start the Ray dashboard with a cluster that is started here (on loopback)."""
