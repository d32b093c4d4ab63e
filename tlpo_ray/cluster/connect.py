"""The Ray cluster of a run: join or start one, check that it is large enough, leave it clean."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

import grpc
import ray
from ray._private import ray_constants
from ray._private import utils as ray_utils

from tlpo_ray.cluster.placement import Selector, bundle, describe, matches
from tlpo_ray.config.cluster import ClusterConfig
from tlpo_ray.config.run import MIB, RunConfig
from tlpo_ray.errors import ResourceError, first_line
from tlpo_ray.stopping import check_stop, deferred, is_ending

logger = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
DASHBOARD_TIMEOUT_S = 2.0
"""Longest wait for an answer of a dashboard, in seconds."""
CONNECT_TIMEOUT_S = 10.0
"""Longest wait for an answer of a cluster's port, in seconds."""
LOCAL_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # keeps Ray from warning about processes without GPUs
    "RAY_task_events_max_num_task_in_gcs": "10000",  # as many as the dashboard shows, a tenth of the default
}
"""Environment variables of a cluster that is started here, unless the user has set them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Amount of one resource that a run needs.

    Example: 6 rollout actors with 1 GPU each and 2 learner ranks with 1 GPU each need 8 GPUs.
    """

    rollout: float
    """Amount for all rollout actors together."""
    learner: float
    """Amount for all learner ranks together."""
    num_actors: int = 1
    """Number of rollout actors that share `rollout`."""

    @property
    def total(self) -> float:
        """Amount for the complete run."""
        return self.rollout + self.learner


def resource_demands(config: RunConfig) -> dict[str, Demand]:
    """Return the CPUs and GPUs that a run needs, by Ray's resource names."""
    cluster, rollout, ranks = config.cluster, config.rollout, config.learner.num_ranks
    return {
        "GPU": Demand(
            rollout=rollout.num_actors * cluster.gpus_per_rollout_actor * rollout.tensor_parallel,
            learner=ranks * cluster.gpus_per_learner_rank,
            num_actors=rollout.num_actors,
        ),
        "CPU": Demand(
            rollout=rollout.num_actors * cluster.cpus_per_rollout_actor,
            learner=ranks * cluster.cpus_per_learner_rank,
            num_actors=rollout.num_actors,
        ),
    }


def check_total(demands: Mapping[str, Demand], available: Mapping[str, float]) -> None:
    """Check that a cluster has what a run needs in total, before anything starts.

    Args:
        demands: What the run needs, by Ray's resource names.
        available: What the cluster has, by Ray's resource names.

    Raises:
        ResourceError: Something is short; the message names everything that is, and the settings to lower.
    """
    short = [
        f"{demand.total:g} {resource}s (rollout {demand.rollout:g} + learner {demand.learner:g}), the cluster has "
        f"{available.get(resource, 0.0):g}"
        for resource, demand in demands.items()
        if demand.total > available.get(resource, 0.0)
    ]
    if short:
        most = min(_most_actors(demand, available.get(resource, 0.0)) for resource, demand in demands.items())
        fits = f" (rollout.num_actors={most} fits)" if most else ""
        raise ResourceError(
            f"the run needs {'; and '.join(short)}: lower rollout.num_actors{fits}, learner.num_ranks or the cluster.* "
            f"shares of an actor or rank, or add nodes (cluster.autoscales=true waits for them)"
        )


def _most_actors(demand: Demand, available: float) -> int:
    """Return how many rollout actors the available amount is enough for, with all learner ranks."""
    per_actor = demand.rollout / demand.num_actors
    return max(0, int((available - demand.learner) / per_actor)) if per_actor else demand.num_actors


def check_placement(config: RunConfig, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Check that every rollout actor and every learner rank fits on a node.

    A cluster may have enough in total and still not on single nodes, or not on nodes of the right kind.

    Args:
        config: The run's configuration.
        nodes: The nodes, as `ray.nodes` describes them: `Resources` and `Labels` by their names.

    Raises:
        ResourceError: Some rollout actors or learner ranks do not fit anywhere.
    """
    cluster, rollout = config.cluster, config.rollout
    gpus = cluster.gpus_per_rollout_actor * rollout.tensor_parallel
    actor = bundle(cluster.cpus_per_rollout_actor, gpus, cluster.rollout_resource)
    rank = bundle(cluster.cpus_per_learner_rank, cluster.gpus_per_learner_rank, cluster.learner_resource)
    able = _able_nodes(nodes, "rollout actors", "rollout", cluster.rollout_resource, cluster.rollout_labels)
    _check_room(able, "rollout actors", "rollout.num_actors", rollout.num_actors, actor)
    able = _able_nodes(nodes, "learner ranks", "learner", cluster.learner_resource, cluster.learner_labels)
    _check_room(able, "learner ranks", "learner.num_ranks", config.learner.num_ranks, rank)


def _able_nodes(
    nodes: Sequence[Mapping[str, Any]], role: str, section: str, resource: str | None, selectors: Sequence[Selector]
) -> list[Mapping[str, float]]:
    """Return the resources of the nodes that a role may run on, with their custom resource or labels."""
    having = [node for node in nodes if resource is None or node["Resources"].get(resource)]
    if not having:
        raise ResourceError(
            f"no node has the resource {resource}, which {role} request: start such nodes with ray start "
            f"--resources, or leave out cluster.{section}_resource"
        )
    labelled = [node for node in having if not selectors or any(matches(node["Labels"], one) for one in selectors)]
    if not labelled:
        raise ResourceError(
            f"no node has the labels {' or '.join(map(describe, selectors))}, which {role} request: start such nodes "
            f"with ray start --labels, or leave out cluster.{section}_labels"
        )
    return [node["Resources"] for node in labelled]


def _check_room(
    nodes: Sequence[Mapping[str, float]], role: str, setting: str, count: int, needed: Mapping[str, float]
) -> None:
    """Check that processes of a role, each of which needs all its resources on one node, fit on nodes."""
    room = sum(min(_count_fitting(name, amount, node) for name, amount in needed.items()) for node in nodes)
    if room < count:
        each = " and ".join(f"{needed[name]:g} {name}s" for name in ("CPU", "GPU") if name in needed)
        custom = "".join(f" with the resource {name}" for name in needed if name not in ("CPU", "GPU"))
        raise ResourceError(
            f"the nodes{custom} have room for {room} of {count} {role}, each with {each} on one node: add nodes, or "
            f"set {setting}={room}"
        )


def _count_fitting(name: str, amount: float, node: Mapping[str, float]) -> int:
    """Return how many processes that need this amount fit on a node; a fractional GPU cannot span devices."""
    available = node.get(name, 0.0)
    return int(available) * int(1 / amount) if name == "GPU" and amount < 1 else int(available / amount)


def cluster_cpus() -> float:
    """Return the number of CPUs of the cluster that this process is connected to."""
    return float(ray.cluster_resources().get("CPU", 0.0))


@contextmanager
def connect_for(config: RunConfig) -> Iterator[None]:
    """Connect to the Ray cluster of a run, and check that all its actors and ranks fit.

    Raises:
        ResourceError: The cluster does not exist, or is too small and does not grow.
    """
    with connect(config.cluster, resource_demands(config)):
        if not config.cluster.autoscales:
            check_placement(config, [node for node in ray.nodes() if node["Alive"]])
        yield


@contextmanager
def connect(cluster: ClusterConfig, demands: Mapping[str, Demand]) -> Iterator[None]:
    """Connect to a Ray cluster for the duration of a block.

    It is the cluster at `cluster.address`, that of the Ray job which this process belongs to, or one that is started
    here and ends with the block. Inside the block signals are `deferred`: an exception that a handler raises in the
    middle of Ray's own code may surface as another one, be swallowed, or leave Ray unable to end.

    Args:
        cluster: Says which cluster.
        demands: What the cluster must have in total, by Ray's resource names.

    Raises:
        ResourceError: No cluster answers at that address, or it is too small and does not grow.
    """
    address = cluster.address or os.environ.get("RAY_ADDRESS")  # Ray sets the variable in jobs
    if address:
        _check_answers(address)
    with deferred():
        try:
            if address:
                _join(address)
            else:
                _start_local(cluster)
            check_stop()
            if not cluster.autoscales:
                check_total(demands, ray.cluster_resources())
            yield
        finally:
            if not is_ending():  # else Ray ends with this process; it may be gone already, and would not answer
                ray.shutdown()


def _check_answers(address: str) -> None:
    """Refuse the address of a cluster that does not answer.

    Raises:
        ResourceError: It does not.
    """
    try:
        _check_reachable(address)
    except OSError as error:
        raise ResourceError(
            f"no Ray cluster answers at {address} ({first_line(error)}): start it or unset cluster.address, RAY_ADDRESS"
        ) from error


def _join(address: str) -> None:
    """Connect to a running cluster, and warn if its dashboard is open to everyone."""
    try:
        with _keep_signal_handlers():
            context = ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        if address == "auto":
            raise ResourceError("no Ray cluster runs on this machine: start it, or set RAY_ADDRESS") from error
        raise ResourceError(
            f"the Ray cluster at {address} refuses this process: check that it runs this version of Ray "
            f"({ray.__version__}) and that the token is right (RAY_AUTH_MODE=token, RAY_AUTH_TOKEN_PATH or "
            f"RAY_AUTH_TOKEN)"
        ) from error
    warning = open_dashboard_warning(context.dashboard_url or "")
    if warning is not None:
        logger.warning(warning)


def open_dashboard_warning(url: str) -> str | None:
    """Return a warning if a dashboard, and with it the port for jobs, is open to everyone; None if it is not.

    Args:
        url: Host and port of the dashboard; empty if the cluster has none.
    """
    host = url.rpartition(":")[0]
    if not url or host in LOOPBACK:
        return None
    try:
        with urllib.request.urlopen(f"http://{url}/api/version", timeout=DASHBOARD_TIMEOUT_S):
            pass
    except (OSError, HTTPException):  # refused without a token, or not reachable from here
        return None
    return (
        f"access to {url} is enough to run code on this cluster: its dashboard requires no token; start Ray with "
        f"RAY_AUTH_MODE=token (deploy/README.md)"
    )


def _check_reachable(address: str) -> None:
    """Check that a Ray head listens at an address.

    `ray.init` itself would retry for minutes where nothing listens, or where something other than a cluster does.

    Raises:
        OSError: Nothing listens there, or what listens does not speak gRPC as a cluster does.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:  # "auto", ray://…
        return
    socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
    if os.environ.get("RAY_USE_TLS", "0") == "0":
        with grpc.insecure_channel(address) as channel:
            try:
                grpc.channel_ready_future(channel).result(timeout=CONNECT_TIMEOUT_S)
            except grpc.FutureTimeoutError as error:
                raise OSError("the port is open, but what listens there is not a Ray head") from error


def _start_local(cluster: ClusterConfig) -> None:
    """Start a cluster on this machine that only this process and its children can use.

    Raises:
        ResourceError: It does not start.
    """
    for name, value in LOCAL_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if not os.environ.keys() & {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}:
        # Without a token of the run's own, Ray would write a token file into the home folder. Ray turns its token mode
        # on by itself; RAY_AUTH_MODE would be set too late here, because Ray reads it when it is imported.
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    store = cluster.object_store_mib
    try:
        with _keep_signal_handlers(), _bind_to_loopback():
            ray.init(
                address="local",
                include_dashboard=cluster.dashboard,
                dashboard_host="127.0.0.1",
                object_store_memory=store * MIB if store else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except Exception as error:  # of any class, e.g. Exception itself on a machine where its first process takes 30 s
        raise ResourceError(
            f"Ray does not start on this machine ({first_line(error)}): see its logs, usually in "
            f"/tmp/ray/session_latest/logs"
        ) from error


@contextmanager
def _bind_to_loopback() -> Iterator[None]:
    """Make processes that Ray starts inside the block reachable from this machine only.

    Ray has no setting for this. On macOS it does so by default, through a private constant and the environment variable
    that its child processes read the constant from; both are set here and restored.
    """
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
        del os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR]


@contextmanager
def _keep_signal_handlers() -> Iterator[None]:
    """Keep Ray from installing handlers of SIGTERM in this process inside the block.

    Ray has no setting for this. Its handler in Python would end the process at once with an exit code of its own, while
    `ray.init` is still at work. Its handler in C++ writes a stack trace, and aborts the process three seconds later.
    """
    install, without_cpp = ray_utils.set_sigterm_handler, ray_constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER
    ray_utils.set_sigterm_handler = lambda handler: None
    ray_constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER = True
    try:
        yield
    finally:
        ray_utils.set_sigterm_handler = install
        ray_constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER = without_cpp
