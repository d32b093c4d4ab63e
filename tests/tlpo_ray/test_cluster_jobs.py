"""Runs as jobs of a real Ray cluster with dashboard and token: submit, status, scale, stop, resume, and metrics."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from tests.clusters import BIN, PATIENCE_S, free_port, head, wait_until
from tests.small_run import OURS, PROMPTS, process_ids, run_config
from tlpo_ray.config.load import dump_config
from tlpo_ray.flow.metrics import METRICS
from tlpo_ray.quickstart.toy_cache import cached_toy_model
from tlpo_ray.quickstart.world import toy_world
from tlpo_ray.run.control import read_status

pytestmark = pytest.mark.ray

MONITORING = Path(__file__).parents[2] / "deploy" / "monitoring"
ROUNDS = 160
"""Rounds of questions: far more than are asked before the run is stopped."""
GPU_METRICS = ("ray_node_gpus_utilization", "ray_node_gram_used")
GRPO_METRICS = ("reward", "length")
"""Metrics of GRPO, which does not run on Ray."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecuredCluster:
    """A cluster with a token for every connection."""

    dashboard: str
    environment: dict[str, str]
    temporary: Path

    def tlpo(self, *arguments: str, **changes: str) -> subprocess.Popen[str]:
        """Start a command that knows only the dashboard's address and the token."""
        return subprocess.Popen(
            [str(BIN / "tlpo"), *arguments, "--address", self.dashboard],
            env=self.environment | changes,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, code: int = 0, **changes: str) -> tuple[str, str]:
        """Run a command that must end with `code`; return its output and errors."""
        process = self.tlpo(*arguments, **changes)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == code, f"{out[-1500:]}\n{err[-1500:]}"
        return out, err


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredCluster]:
    dashboard, log = free_port(), tmp_path_factory.mktemp("cluster") / "ray.log"
    without_ray = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = without_ray | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    arguments = (
        "--num-cpus=4",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={dashboard}",
        "--object-store-memory=300000000",
    )
    with head(environment, *arguments, log=log, port=free_port()) as temporary:
        secured = SecuredCluster(
            dashboard=f"http://127.0.0.1:{dashboard}", environment=environment, temporary=temporary
        )
        wait_until(lambda: answers(secured), "the dashboard to answer")
        yield secured


def test_a_quickstart_is_submitted_watched_scaled_stopped_and_resumed(cluster: SecuredCluster, tmp_path: Path) -> None:
    cached_toy_model(0, lambda share, loss: None)
    prompts, folder = tmp_path / "prompts.jsonl", tmp_path / "run"
    toy_world().write_prompts(prompts, ROUNDS, 0)
    settings = [f"folder={folder}", f"data.prompts={prompts}", "flow.max_staleness=1"]
    others = set(process_ids(OURS))
    submitted = cluster.tlpo("submit", "quickstart", *settings)
    assert submitted.stdout is not None
    (job,) = re.findall(r"^job (tlpo-quickstart-\w+), run folder", submitted.stdout.readline())
    wait_until(lambda: read_status(folder).get("policy_version", 0) >= 1 or submitted.poll() is not None, "an update")
    assert submitted.poll() is None, submitted.stdout.read()[-3000:]

    out, _ = cluster.run("status", job)
    assert re.search(rf"^run +{folder} has been running for ", out), out
    assert re.search(r"^rollouts +2 healthy|^rollouts .*stale", out, re.MULTILINE), out
    out, _ = cluster.run("scale", job, "--rollout-actors", "4")
    assert out.startswith("4 rollout actors requested; now ")
    wait_until(lambda: working_actors(folder) == 4, "four rollout actors")
    assert_every_metric_is_exported(cluster)
    cluster.run("scale", str(folder), "--rollout-actors", "2")
    wait_until(lambda: working_actors(folder) == 2, "two rollout actors")
    learned = read_status(folder)["policy_version"]
    assert_ctrl_c_leaves_the_job_running(cluster, job)

    processes = set(process_ids(OURS)) - others
    assert processes
    out, _ = cluster.run("stop", job)
    assert out == f"job {job} has ended; resume with: tlpo submit --resume {folder} --address {cluster.dashboard}\n"
    out, err = submitted.communicate(timeout=PATIENCE_S)
    assert submitted.returncode == 143, err
    assert re.search(r"^TLPO [\d,]+ of 40,960 prompts · confusion now ", out, re.MULTILINE), out
    assert f"nothing is lost, resume with: tlpo train --resume {folder}" in out
    wait_until(lambda: not processes & set(process_ids(OURS)), "the run's processes to end")
    assert not (folder / "result.json").exists()
    assert read_status(folder)["learner_restarts"] == read_status(folder)["actor_restarts"] == 0

    out, _ = cluster.run("submit", "--resume", str(folder))
    assert f"resuming {folder} after update" in out
    result = json.loads((folder / "result.json").read_text())
    assert result["prompts"]["balanced"] and result["updates"] >= learned
    assert result["rpr_after"] > result["rpr_before"]
    out, _ = cluster.run("status", str(folder))
    assert out.splitlines()[0] == f"run       {folder} is complete"


def assert_ctrl_c_leaves_the_job_running(cluster: SecuredCluster, job: str) -> None:
    follower = cluster.tlpo("logs", job)
    assert follower.stdout is not None
    follower.stdout.readline()
    follower.send_signal(signal.SIGINT)
    _, err = follower.communicate(timeout=PATIENCE_S)
    assert follower.returncode == 128 + signal.SIGINT
    commands = [f"tlpo {name} {job} --address {cluster.dashboard}" for name in ("logs", "stop")]
    assert err == f"tlpo: stopped by SIGINT; job {job} continues, {commands[0]} follows it, {commands[1]} stops it\n"
    out, _ = cluster.run("status", job)
    assert " has been running for " in out


def test_a_failing_run_passes_on_its_exit_code_and_message(
    cluster: SecuredCluster, tiny_model: Path, tmp_path: Path
) -> None:
    prompts, file = tmp_path / "prompts.jsonl", tmp_path / "run.yaml"
    prompts.write_text('{"prompt": "수도는?", "language": "xx"}\n')
    file.write_text(dump_config(run_config(tiny_model, prompts, tmp_path / "run")))
    out, _ = cluster.run("submit", str(file), code=2)
    assert re.search(r"^tlpo: .*xx", out, re.MULTILINE), out
    assert re.search(r"^job tlpo-\S+ has ended, exit code 2$", out, re.MULTILINE)


def test_a_lost_connection_loses_neither_output_nor_exit_code(
    cluster: SecuredCluster, tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    """The connection to the dashboard is closed while a detached run continues, and opened again later."""
    file, folder = tmp_path / "run.yaml", tmp_path / "run"
    file.write_text(dump_config(run_config(tiny_model, prompts, folder)))
    proxy = Proxy(int(cluster.dashboard.rpartition(":")[2]))
    remote = replace(cluster, dashboard=f"http://127.0.0.1:{proxy.port}")
    out, _ = remote.run("submit", str(file), "--detach")
    (job,) = re.findall(r"^job (tlpo-\w+-\w+), run folder", out)
    following = remote.tlpo("logs", job)
    wait_until(lambda: "policy_version" in read_status(folder), "the run to roll out")
    proxy.close()
    _, err = remote.run("status", job, code=2)
    assert "no Ray dashboard answers" in err
    assert following.poll() is None
    proxy.open()
    out, err = following.communicate(timeout=PATIENCE_S)
    assert following.returncode == 0, err
    assert out.count(f"✓ {PROMPTS} prompts") == out.count(f"result:  {folder / 'result.json'}") == 1
    assert out.endswith(f"job {job} has ended, exit code 0\n")


@pytest.mark.parametrize("wrong", [{"RAY_AUTH_TOKEN": "wrong" * 13}, {"RAY_AUTH_MODE": "disabled"}])
def test_a_command_without_the_token_is_refused_in_one_line(cluster: SecuredCluster, wrong: dict[str, str]) -> None:
    _, err = cluster.run("status", "/somewhere", code=2, **wrong)
    assert err.count("\n") == 1 and "does not accept this command's token: set RAY_AUTH_MODE=token" in err
    assert cluster.environment["RAY_AUTH_TOKEN"] not in err


def test_a_missing_job_run_or_dashboard_is_one_line(cluster: SecuredCluster) -> None:
    for arguments, message in (
        (("stop", "missing"), "job missing does not exist on this cluster"),
        (("status", "/nowhere"), "/nowhere does not hold a run"),
        (("submit", "quickstart"), "is relative: a job needs a run folder that all nodes see"),
    ):
        _, err = cluster.run(*arguments, code=2)
        assert err.startswith("tlpo: ") and message in err and err.count("\n") == 1
    _, err = replace(cluster, dashboard="http://127.0.0.1:9").run("status", "/x", code=2)
    assert "no Ray dashboard answers" in err


def assert_every_metric_is_exported(cluster: SecuredCluster) -> None:
    """Check that Ray exports every metric, and that every query of the Grafana dashboard returns something."""
    expected = {f"ray_tlpo_{name}" for name in METRICS if name not in GRPO_METRICS}
    # These are set at the end of a run, and when a prompt is skipped.
    expected -= {"ray_tlpo_seconds_export", "ray_tlpo_prompts_skipped"}

    def missing() -> set[str]:
        try:
            exported = scrape(cluster)
        except ConnectionError:  # a node's metrics endpoint starts later than its actors
            return expected
        return expected - set(re.findall(r"^(ray_tlpo_\w+){", exported, re.MULTILINE))

    wait_until(lambda: not missing(), f"metrics: {missing()}")
    if shutil.which("prometheus") is None:
        return
    with Prometheus(cluster) as evaluate:
        for panel in json.loads((MONITORING / "grafana-dashboard.json").read_text())["panels"]:
            for target in panel.get("targets", ()):
                query = target["expr"].replace("$run", ".+")
                if any(name in query for name in (*GPU_METRICS, "prompts_skipped")):
                    continue
                wait_until(lambda query=query: bool(evaluate(query)), f"{panel['title']}: {query}")
        for rule in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]:
            evaluate(rule["expr"])  # an error would raise


class Proxy:
    """Forwards a port of this machine; it can be closed together with all its connections."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.port = free_port()
        self.open()

    def open(self) -> None:
        self._server = socket.create_server(("127.0.0.1", self.port))
        self._connections: list[socket.socket] = []
        Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for connection in (self._server, *self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, target = self._server.accept()[0], socket.create_connection(("127.0.0.1", self._target))
                self._connections += [client, target]
                for source, sink in ((client, target), (target, client)):
                    Thread(target=_forward, args=(source, sink), daemon=True).start()


def _forward(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


class Prometheus:
    """A real Prometheus that scrapes the cluster as configured in deploy/monitoring; yields a function for queries."""

    def __init__(self, cluster: SecuredCluster) -> None:
        self._folder = cluster.temporary / "prometheus"
        self._port = free_port()
        config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        targets = cluster.temporary / "prom_metrics_service_discovery.json"
        config["scrape_configs"][0]["file_sd_configs"] = [{"files": [str(targets)]}]
        self._folder.mkdir()
        shutil.copy(MONITORING / "alerts.yml", self._folder)
        (self._folder / "prometheus.yml").write_text(yaml.safe_dump(config))

    def __enter__(self) -> Callable[[str], list[Any]]:
        self._process = subprocess.Popen(
            ["prometheus", "--config.file=prometheus.yml", f"--web.listen-address=127.0.0.1:{self._port}"],
            cwd=self._folder,
            stderr=subprocess.DEVNULL,
        )
        return self._query

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()

    def _query(self, query: str) -> list[Any]:
        address = f"http://127.0.0.1:{self._port}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        try:
            result: list[Any] = json.loads(fetch(address))["data"]["result"]
        except ConnectionError:
            return []
        return result


def scrape(cluster: SecuredCluster) -> str:
    """Return the metrics that the cluster's nodes export to Prometheus."""
    nodes = json.loads((cluster.temporary / "prom_metrics_service_discovery.json").read_text())
    return "".join(fetch(f"http://{target}/metrics") for target in nodes[0]["targets"])


def fetch(address: str, **headers: str) -> str:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=10) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.SERVICE_UNAVAILABLE:
            raise ConnectionError(f"{address} is starting") from error
        raise AssertionError(f"{address}: {error.code} {error.read().decode()[:500]}") from error
    except OSError as error:
        raise ConnectionError(str(error)) from error


def answers(cluster: SecuredCluster) -> bool:
    token = cluster.environment["RAY_AUTH_TOKEN"]
    try:
        return bool(fetch(f"{cluster.dashboard}/api/version", Authorization=f"Bearer {token}"))
    except (ConnectionError, AssertionError):
        return False


def working_actors(folder: Path) -> int:
    """Return the number of rollout actors that roll out or load weights."""
    actors = read_status(folder)["actors"]
    return int(actors.get("healthy", 0) + actors.get("stale", 0))
