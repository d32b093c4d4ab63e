"""The command line as users see it: bad input gives one clear line and an exit code, and help is immediate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.shared import DATA
from tlpo_ray.cluster import connect as cluster
from tlpo_ray.config.cluster import ClusterConfig
from tlpo_ray.errors import ResourceError

TLPO = Path(sys.executable).with_name("tlpo")
USER_ERROR = 2
MIF = DATA / "mif" / "ko.jsonl"


def tlpo(arguments: Sequence[str | Path], cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "100", "NO_COLOR": "1"}
    return subprocess.run(
        [TLPO, *map(str, arguments)], cwd=cwd, input=stdin, env=environment, capture_output=True, text=True, timeout=240
    )


def refused(arguments: Sequence[str | Path], cwd: Path) -> str:
    """Run a command that is refused, check that it leaves no files behind, and return its one line of output."""
    before = sorted(cwd.rglob("*"))
    done = tlpo(arguments, cwd)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == USER_ERROR, done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("tlpo: ")
    assert sorted(cwd.rglob("*")) == before
    return lines[0]


@pytest.fixture
def config(tiny_model: Path, tmp_path: Path) -> Path:
    """Return the configuration file of a small local run."""
    (tmp_path / "prompts.jsonl").write_text(
        "".join(
            json.dumps({"prompt": text, "language": "ko"}, ensure_ascii=False) + "\n"
            for text in ("일본의 통화는?", "태국의 통화는?", "수도는 어디입니까?")
        ),
        encoding="utf-8",
    )
    file = tmp_path / "run.yaml"
    file.write_text(
        f"stack: local\nfolder: run\nmodel: {{path: {tiny_model}, dtype: float32, max_context: 64}}\n"
        "data: {prompts: prompts.jsonl}\n"
        "rollout: {engine: transformers, max_new_tokens: 8}\nlearner: {engine: torch}\n"
    )
    return file


def test_a_missing_model_is_refused(config: Path, tmp_path: Path) -> None:
    assert "model './nowhere'" in refused(["train", config, "model.path=./nowhere"], tmp_path)


def test_an_unknown_language_is_refused(config: Path, tmp_path: Path) -> None:
    line = refused(["train", config, "data.language=kr", "data.language_field=none"], tmp_path)
    assert "kr" in line
    assert "ko" in line


def test_a_misspelt_key_is_refused_with_the_nearest_one(config: Path, tmp_path: Path) -> None:
    assert "learner.lr_min" in refused(["train", config, "learner.lrmin=1e-6"], tmp_path)


def test_a_malformed_line_is_refused_with_its_file_and_number(config: Path, tmp_path: Path) -> None:
    with (tmp_path / "prompts.jsonl").open("a") as file:
        file.write('{"prompt": "broken\n')
    line = refused(["train", config], tmp_path)
    assert "prompts.jsonl" in line
    assert "line 4" in line


@pytest.mark.ray
def test_a_request_for_more_gpus_than_the_cluster_has_is_refused(config: Path, tmp_path: Path) -> None:
    settings = ["stack=distributed", "learner.engine=deepspeed", "rollout.num_actors=6", "learner.num_ranks=2"]
    line = refused(["train", config, *settings], tmp_path)
    assert "needs 8 GPUs (rollout 6 + learner 2), the cluster has 0" in line


def test_a_cluster_that_does_not_answer_is_refused(config: Path, tmp_path: Path) -> None:
    distributed = ["stack=distributed", "learner.engine=deepspeed", "learner.num_ranks=1"]
    line = refused(["train", config, *distributed, "cluster.address=127.0.0.1:9"], tmp_path)
    assert "no Ray cluster answers at 127.0.0.1:9" in line


def test_a_port_where_something_other_than_ray_listens_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself would retry for minutes, e.g. on the port of a dashboard."""
    monkeypatch.setattr(cluster, "CONNECT_TIMEOUT_S", 1.0)
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_address[1]}"
        try:
            with (
                pytest.raises(
                    ResourceError, match=rf"at {address} \(the port is open, but what listens there is not a Ray"
                ),
                cluster.connect(ClusterConfig(address=address), {}),
            ):
                pass
        finally:
            server.shutdown()


def test_a_cluster_that_cannot_be_started_here_is_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("long" * 25)))  # too long for the sockets in it
    with (
        pytest.raises(ResourceError, match=r"^Ray does not start on this machine \(.*107 bytes.*\): see its logs"),
        cluster.connect(ClusterConfig(), {}),
    ):
        pass


def test_a_missing_prompt_file_a_bad_setting_and_a_used_folder_are_refused(config: Path, tmp_path: Path) -> None:
    assert "nothing.jsonl" in refused(["train", config, "data.prompts=nothing.jsonl"], tmp_path)
    assert "english" in refused(["train", config, "detector.english=strict"], tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("name: first\n")
    assert "already holds a run" in refused(["train", config], tmp_path)
    assert "is not a folder that you may write" in refused(["train", config, "folder=prompts.jsonl/run"], tmp_path)


@pytest.mark.slow
def test_commands_without_a_run_are_refused(tmp_path: Path) -> None:
    assert "needs a YAML file or a preset, or --resume RUN" in refused(["train"], tmp_path)
    assert "does not hold a run to resume" in refused(["train", "--resume", tmp_path], tmp_path)
    assert "does not hold a run" in refused(["scale", tmp_path, "--rollout-actors", "2"], tmp_path)


def test_a_longer_context_than_the_model_supports_is_refused(config: Path, tmp_path: Path) -> None:
    assert "is more than" in refused(["train", config, "model.max_context=1000000"], tmp_path)


def test_a_local_run_counts_unreadable_lines_and_long_prompts(config: Path, tmp_path: Path) -> None:
    with (tmp_path / "prompts.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"prompt": "broken\n')
        file.write(json.dumps({"prompt": "통화 " * 60, "language": "ko"}) + "\n")
    done = tlpo(["train", config, "--skip-bad"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    prompts = result["prompts"]
    assert prompts["skipped"] == {"cannot be read": 1, "longer than the context": 1}
    assert prompts["total"] == 5
    assert sum(prompts[name] for name in ("clean", "confused", "uninformative", "stale")) == 3
    assert "3 confused" in done.stdout or prompts["confused"] != 3
    for name in ("config.yaml", "metrics.jsonl", "model/model.safetensors", "model/tokenizer.json"):
        assert (tmp_path / "run" / name).exists(), name
    assert list((tmp_path / "run" / "tensorboard").iterdir())


@pytest.mark.slow
@pytest.mark.skipif(not MIF.is_file(), reason="shared data are not beside the checkout")
def test_a_run_accounts_for_all_real_prompts(tiny_model: Path, tmp_path: Path) -> None:
    local = ["stack=local", "rollout.engine=transformers", "learner.engine=torch"]
    sizes = ["model.max_context=160", "rollout.max_new_tokens=8", "learner.groups_per_update=64"]
    data = [f"model.path={tiny_model}", f"data.prompts={MIF}", "data.language=ko", "folder=run"]
    done = tlpo(["train", "quickstart", *local, *sizes, *data], tmp_path)
    assert done.returncode == 0, done.stderr
    prompts = json.loads((tmp_path / "run" / "result.json").read_text())["prompts"]
    settled = sum(prompts[name] for name in ("clean", "confused", "uninformative", "stale"))
    assert settled + sum(prompts["skipped"].values()) == prompts["total"]
    assert prompts["total"] == len(MIF.read_text(encoding="utf-8").splitlines())
    assert settled > 100
    assert prompts["skipped"]["longer than the context"] > 0


def test_options_of_a_new_run_are_refused_for_a_resumed_one(tmp_path: Path) -> None:
    for command in ("train --skip-bad", "quickstart --fresh", "quickstart --seed 1", "quickstart --stack local"):
        done = tlpo([*command.split(), "--resume", "run"], tmp_path)
        assert (done.returncode, done.stdout) == (2, ""), command
        assert "for a new" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_run_that_is_not_a_quickstart_is_not_resumed_as_one(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("extends: quickstart\nmodel.path: a\ndata.prompts: b\n")
    done = tlpo(["quickstart", "--resume", "run"], tmp_path)
    assert done.returncode == 2
    assert done.stderr == "tlpo: the run in run is not a quickstart: resume it with tlpo train --resume run\n"


def test_a_quickstart_reports_a_folder_that_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = tlpo(["quickstart", "--stack", "local", "folder=file/run"], tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("tlpo: cannot write the run folder file/run: ")


def test_detect_marks_confusion_in_lines_of_text(tmp_path: Path) -> None:
    done = tlpo(["detect", "--language", "ko"], tmp_path, "통화는 엔입니다\n통화는 єна입니다\n")
    assert done.returncode == 0, done.stderr
    assert "stdin:2:5 통화는 ⟦єна⟧입니다" in done.stdout
    assert "1 of 2 lines" in done.stdout


def test_presets_are_listed_and_shown(tmp_path: Path) -> None:
    listed = tlpo(["config"], tmp_path).stdout.split()
    assert "quickstart" in listed
    assert "qwen3-8b-ko" in listed
    shown = tlpo(["config", "qwen3-8b-ko", "learner.lr=1e-6"], tmp_path)
    assert shown.returncode == 0
    assert "lr: 1.0e-06" in shown.stdout or "lr: 1e-06" in shown.stdout


def test_help_does_not_import_heavy_libraries(tmp_path: Path) -> None:
    """`tlpo --help` would be slow if it imported torch, ray or transformers."""
    code = (
        "import sys; sys.argv = ['tlpo', '--help']\n"
        "from tlpo_ray.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'ray', 'vllm', 'transformers', 'numpy', 'pydantic'} & sys.modules.keys()\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "quickstart" in done.stdout
