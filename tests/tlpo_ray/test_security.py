"""Access needs a token, and nothing is ever unpickled."""

from __future__ import annotations

import json
import os
import pickle
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest

from actors.chat import check_model
from tests.small_run import run_config
from tlpo_ray.cluster.connect import connect, open_dashboard_warning
from tlpo_ray.config.cluster import ClusterConfig
from tlpo_ray.config.load import dump_config
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.errors import ModelError, RecordError
from tlpo_ray.flow.records import decode, decode_prompts, decode_results

TLPO = str(Path(sys.executable).with_name("tlpo"))


class Trap:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (os.environ["TLPO_TRAP"],)


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[bytes]:
    marker = tmp_path / "unpickled"
    monkeypatch.setenv("TLPO_TRAP", str(marker))
    yield pickle.dumps(Trap())
    assert not marker.exists(), "a pickle was loaded"


@pytest.mark.parametrize("read", [decode, decode_prompts, decode_results])
def test_a_pickle_in_place_of_a_record_is_refused(read: object, trap: bytes) -> None:
    assert callable(read)
    with pytest.raises(RecordError):
        read(trap)


def test_pickled_weights_are_refused_before_anything_starts(tiny_model: Path, trap: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    for file in tiny_model.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    (folder / "pytorch_model.bin").write_bytes(trap)
    with pytest.raises(ModelError, match=r"weights in \.bin files, .* set model.allow_pickle=true"):
        check_model(ModelConfig(path=str(folder), max_context=64))
    check_model(ModelConfig(path=str(folder), max_context=64, allow_pickle=True))


def test_our_code_never_unpickles(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    for package in ("actors", "detectors", "learner", "tlpo_ray"):
        for file in (root / package).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            assert "pickle.load" not in text and "torch.load(" not in text, file


def test_a_foreign_tokenizer_and_a_too_long_context_are_one_line(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model.max_context 999,999 is more than .* can take"):
        check_model(ModelConfig(path=str(tiny_model), max_context=999_999))
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"vocab_size": 10}))
    with pytest.raises(ModelError, match=r"its tokenizer has [\d,]+ tokens and its weights 10: they belong"):
        check_model(ModelConfig(path=str(other), max_context=64))


@contextmanager
def dashboard(status: int) -> Iterator[str]:
    """Run a web server that answers every request with `status`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *arguments: object) -> None: ...

    server = HTTPServer(("0.0.0.0", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"0.0.0.0:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_dashboard_without_a_token_causes_a_warning() -> None:
    with dashboard(200) as url:
        assert "requires no token" in (open_dashboard_warning(url) or "")
        assert open_dashboard_warning(url.replace("0.0.0.0", "127.0.0.1")) is None, "only this machine reaches loopback"
    with dashboard(401) as url:
        assert open_dashboard_warning(url) is None
    assert open_dashboard_warning("") is None


@pytest.mark.ray
def test_a_cluster_started_here_is_on_loopback_only() -> None:
    with connect(ClusterConfig(object_store_mib=100, dashboard=True), {}):
        processes = psutil.Process().children(recursive=True)
        connections = [connection for process in processes for connection in process.net_connections()]
    addresses = {connection.laddr.ip for connection in connections if connection.status == "LISTEN"}
    assert len(processes) >= 3
    assert addresses <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"} and addresses


CLUSTER_WITH_TOKEN = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": 100 << 20})
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@pytest.mark.ray
def test_a_wrong_or_missing_token_is_refused_in_one_line(tiny_model: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "수도는?", "language": "ko"}\n')
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    token = secrets.token_hex(32)
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER_WITH_TOKEN],
        env=environment | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as cluster:
        assert cluster.stdin is not None and cluster.stdout is not None
        address = next(line.strip() for line in cluster.stdout if line[:1].isdigit())
        file = tmp_path / "run.yaml"
        file.write_text(dump_config(run_config(tiny_model, prompts, tmp_path / "run", **{"cluster.address": address})))
        attempts = [
            subprocess.Popen([TLPO, "train", str(file)], env=environment | wrong, stderr=subprocess.PIPE, text=True)
            for wrong in ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "wrong"}, {"RAY_AUTH_MODE": "disabled"})
        ]
        for attempt in attempts:
            _, err = attempt.communicate(timeout=120)
            assert attempt.returncode == 2, err[-2000:]
            assert "refuses this process" in err.splitlines()[-1]
            assert token not in err
        assert not (tmp_path / "run").exists()
        cluster.stdin.close()
