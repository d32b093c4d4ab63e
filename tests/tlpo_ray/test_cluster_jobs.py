"""Runs as jobs of a real Ray cluster with dashboard and token: submit, status, scale, stop, resume, and what is
measured meanwhile."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
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

from tests.clusters import BIN, PATIENCE_S, free_port, head, until
from tests.small_run import PROMPTS, run_config
from tlpo_ray.config.load import dump_config
from tlpo_ray.flow.metrics import METRICS
from tlpo_ray.quickstart.toy_cache import cached_toy_model
from tlpo_ray.quickstart.world import toy_world
from tlpo_ray.run.control import read_status

pytestmark = pytest.mark.ray

MONITORING = Path(__file__).parents[2] / "deploy" / "monitoring"
ROUNDS = 160
"""Of questions: far more than are asked before the run is stopped."""
ON_GPUS_ONLY = ("ray_node_gpus_utilization", "ray_node_gram_used")
NOT_TLPO = ("reward", "length")
"""Figures of GRPO, whose runs are not Ray's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secured:
    """A cluster whose every door asks for a token."""

    dashboard: str
    environment: dict[str, str]
    temporary: Path

    def tlpo(self, *arguments: str, **changes: str) -> subprocess.Popen[str]:
        """A command from outside: it knows the dashboard's address and the token."""
        return subprocess.Popen(
            [str(BIN / "tlpo"), *arguments, "--address", self.dashboard],
            env=self.environment | changes,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ends(self, *arguments: str, code: int = 0, **changes: str) -> tuple[str, str]:
        """Output and errors of a command that is to end so."""
        process = self.tlpo(*arguments, **changes)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == code, f"{out[-1500:]}\n{err[-1500:]}"
        return out, err


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    dashboard, log = free_port(), tmp_path_factory.mktemp("cluster") / "ray.log"
    others = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = others | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    arguments = (
        "--num-cpus=4",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={dashboard}",
        "--object-store-memory=300000000",
    )
    with head(environment, *arguments, log=log, port=free_port()) as temporary:
        found = Secured(dashboard=f"http://127.0.0.1:{dashboard}", environment=environment, temporary=temporary)
        until(lambda: answers(found), "the dashboard to answer")
        yield found


def test_a_quickstart_is_submitted_watched_scaled_stopped_and_goes_on(cluster: Secured, tmp_path: Path) -> None:
    cached_toy_model(0, lambda share, loss: None)
    prompts, folder = tmp_path / "prompts.jsonl", tmp_path / "run"
    toy_world().write_prompts(prompts, ROUNDS, 0)
    settings = [f"folder={folder}", f"data.prompts={prompts}", "flow.max_staleness=1"]
    submitted = cluster.tlpo("submit", "quickstart", *settings)
    assert submitted.stdout is not None
    (job,) = re.findall(r"^job (tlpo-quickstart-\w+), run folder", submitted.stdout.readline())
    until(lambda: read_status(folder).get("policy_version", 0) >= 1 or submitted.poll() is not None, "an update")
    assert submitted.poll() is None, submitted.stdout.read()[-3000:]

    out, _ = cluster.ends("status", job)
    assert re.search(rf"^run +{folder} has been going on for ", out), out
    assert re.search(r"^rollouts +2 healthy|^rollouts .*stale", out, re.MULTILINE), out
    out, _ = cluster.ends("scale", job, "--rollout-actors", "4")
    assert out.startswith("4 rollout actors asked for; now ")
    until(lambda: working(folder) == 4, "four rollout actors")
    everything_is_measured(cluster)
    cluster.ends("scale", str(folder), "--rollout-actors", "2")
    until(lambda: working(folder) == 2, "two rollout actors")
    learned = read_status(folder)["policy_version"]

    out, _ = cluster.ends("stop", job)
    assert out == f"job {job} has ended; go on with: tlpo submit --resume {folder} --address {cluster.dashboard}\n"
    out, err = submitted.communicate(timeout=PATIENCE_S)
    assert submitted.returncode == 143, err
    assert re.search(r"^TLPO [\d,]+ of 40,960 prompts · confusion now ", out, re.MULTILINE), out
    assert f"nothing is lost, go on with: tlpo train --resume {folder}" in out
    assert not (folder / "result.json").exists()
    assert read_status(folder)["learner_restarts"] == read_status(folder)["restarts"] == 0

    out, _ = cluster.ends("submit", "--resume", str(folder))
    assert f"going on with {folder}, after update" in out
    result = json.loads((folder / "result.json").read_text())
    assert result["prompts"]["balanced"] and result["updates"] >= learned
    assert result["rpr_after"] > result["rpr_before"]
    out, _ = cluster.ends("status", str(folder))
    assert out.splitlines()[0] == f"run       {folder} is complete"


def test_a_run_that_fails_passes_its_exit_code_and_its_line_on(
    cluster: Secured, tiny_model: Path, tmp_path: Path
) -> None:
    prompts, file = tmp_path / "prompts.jsonl", tmp_path / "run.yaml"
    prompts.write_text('{"prompt": "수도는?", "language": "xx"}\n')
    file.write_text(dump_config(run_config(tiny_model, prompts, tmp_path / "run")))
    out, _ = cluster.ends("submit", str(file), code=2)
    assert re.search(r"^tlpo: .*xx", out, re.MULTILINE), out
    assert re.search(r"^job tlpo-\S+ has ended, exit code 2$", out, re.MULTILINE)


def test_a_lost_connection_loses_neither_output_nor_exit_code(
    cluster: Secured, tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    """The way to the dashboard is closed while a run that was submitted and left goes on; then it is open again."""
    file, folder = tmp_path / "run.yaml", tmp_path / "run"
    file.write_text(dump_config(run_config(tiny_model, prompts, folder)))
    way = Way(int(cluster.dashboard.rpartition(":")[2]))
    from_afar = replace(cluster, dashboard=f"http://127.0.0.1:{way.port}")
    out, _ = from_afar.ends("submit", str(file), "--detach")
    (job,) = re.findall(r"^job (tlpo-\w+-\w+), run folder", out)
    following = from_afar.tlpo("logs", job)
    until(lambda: "policy_version" in read_status(folder), "the run to roll out")
    way.close()
    _, err = from_afar.ends("status", job, code=2)
    assert "no Ray dashboard answers" in err
    assert following.poll() is None
    way.open()
    out, err = following.communicate(timeout=PATIENCE_S)
    assert following.returncode == 0, err
    assert out.count(f"✓ {PROMPTS} prompts") == out.count(f"result:  {folder / 'result.json'}") == 1
    assert out.endswith(f"job {job} has ended, exit code 0\n")


@pytest.mark.parametrize("given", [{"RAY_AUTH_TOKEN": "wrong" * 13}, {"RAY_AUTH_MODE": "disabled"}])
def test_who_has_not_the_token_is_refused_in_one_line(cluster: Secured, given: dict[str, str]) -> None:
    _, err = cluster.ends("status", "/somewhere", code=2, **given)
    assert err.count("\n") == 1 and "does not let this command in: set RAY_AUTH_MODE=token" in err
    assert cluster.environment["RAY_AUTH_TOKEN"] not in err


def test_what_is_not_there_is_one_line(cluster: Secured) -> None:
    for arguments, told in (
        (("stop", "nobody"), "there is no job nobody on this cluster"),
        (("status", "/nowhere"), "/nowhere holds no run"),
        (("submit", "quickstart"), "is relative: a job needs a run folder that all nodes see"),
    ):
        _, err = cluster.ends(*arguments, code=2)
        assert err.startswith("tlpo: ") and told in err and err.count("\n") == 1
    _, err = replace(cluster, dashboard="http://127.0.0.1:9").ends("status", "/x", code=2)
    assert "no Ray dashboard answers" in err


def everything_is_measured(cluster: Secured) -> None:
    """Every figure is among Ray's metrics, and every query of the dashboard for Grafana finds something."""
    expected = {f"ray_tlpo_{name}" for name in METRICS if name not in NOT_TLPO}
    expected -= {"ray_tlpo_seconds_export", "ray_tlpo_prompts_skipped"}  # at the end; when one was

    def missing() -> set[str]:
        return expected - set(re.findall(r"^(ray_tlpo_\w+){", scraped(cluster), re.MULTILINE))

    until(lambda: not missing(), f"metrics: {missing()}")
    if shutil.which("prometheus") is None:
        return
    with Prometheus(cluster) as ask:
        for panel in json.loads((MONITORING / "grafana-dashboard.json").read_text())["panels"]:
            for target in panel.get("targets", ()):
                query = target["expr"].replace("$run", ".+")
                if any(name in query for name in (*ON_GPUS_ONLY, "prompts_skipped")):
                    continue
                until(lambda query=query: bool(ask(query)), f"{panel['title']}: {query}")
        for rule in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]:
            ask(rule["expr"])  # an error would raise


class Way:
    """A way to a port of this machine, which can be closed, with all who are on it."""

    def __init__(self, to: int) -> None:
        self._to = to
        self.port = free_port()
        self.open()

    def open(self) -> None:
        self._door = socket.create_server(("127.0.0.1", self.port))
        self._ends: list[socket.socket] = []
        Thread(target=self._let_in, daemon=True).start()

    def close(self) -> None:
        for end in (self._door, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _let_in(self) -> None:
        with suppress(OSError):
            while True:
                here, there = self._door.accept()[0], socket.create_connection(("127.0.0.1", self._to))
                self._ends += [here, there]
                for source, sink in ((here, there), (there, here)):
                    Thread(target=_carry, args=(source, sink), daemon=True).start()


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


class Prometheus:
    """A real Prometheus that scrapes the cluster as deploy/monitoring says, and answers queries."""

    def __init__(self, cluster: Secured) -> None:
        self._folder = cluster.temporary / "prometheus"
        self._port = free_port()
        config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        found = cluster.temporary / "prom_metrics_service_discovery.json"
        config["scrape_configs"][0]["file_sd_configs"] = [{"files": [str(found)]}]
        self._folder.mkdir()
        shutil.copy(MONITORING / "alerts.yml", self._folder)
        (self._folder / "prometheus.yml").write_text(yaml.safe_dump(config))

    def __enter__(self) -> Callable[[str], list[Any]]:
        self._process = subprocess.Popen(
            ["prometheus", "--config.file=prometheus.yml", f"--web.listen-address=127.0.0.1:{self._port}"],
            cwd=self._folder,
            stderr=subprocess.DEVNULL,
        )
        return self._ask

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()

    def _ask(self, query: str) -> list[Any]:
        address = f"http://127.0.0.1:{self._port}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        try:
            found: list[Any] = json.loads(fetched(address))["data"]["result"]
        except ConnectionError:
            return []
        return found


def scraped(cluster: Secured) -> str:
    """What the cluster's nodes tell Prometheus."""
    nodes = json.loads((cluster.temporary / "prom_metrics_service_discovery.json").read_text())
    return "".join(fetched(f"http://{target}/metrics") for target in nodes[0]["targets"])


def fetched(address: str, **headers: str) -> str:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=10) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.SERVICE_UNAVAILABLE:
            raise ConnectionError(f"{address} is starting") from error
        raise AssertionError(f"{address}: {error.code} {error.read().decode()[:500]}") from error
    except OSError as error:
        raise ConnectionError(str(error)) from error


def answers(cluster: Secured) -> bool:
    token = cluster.environment["RAY_AUTH_TOKEN"]
    try:
        return bool(fetched(f"{cluster.dashboard}/api/version", Authorization=f"Bearer {token}"))
    except (ConnectionError, AssertionError):
        return False


def working(folder: Path) -> int:
    """Rollout actors that roll out or load weights."""
    actors = read_status(folder)["actors"]
    return int(actors.get("healthy", 0) + actors.get("stale", 0))
