"""The whole loop, assembled twice: in this process, and on the real Ray, vLLM and DeepSpeed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file

from tests.tiny import TEXT
from tlpo_ray.assembly import assembled
from tlpo_ray.commands.train import checked_prompts, result_of
from tlpo_ray.config.load import load_config
from tlpo_ray.config.run import RunConfig
from tlpo_ray.flow.records import from_batch
from tlpo_ray.run_folder import RunFolder
from tlpo_ray.train import Progress, TrainSummary, train

pytestmark = pytest.mark.ray

PROMPTS = 40
SAME = 1e-5
"""Largest difference of a parameter between two runs that made the same updates, float32."""

Setting = dict[str, object]
LOCAL: Setting = {"stack": "local", "rollout.engine": "transformers", "learner.engine": "torch"}


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "prompts.jsonl"
    languages = ("ko", "ko", "ja", "zh", "ar")
    rows = [
        {"id": f"p{i}", "language": languages[i % 5], "prompt": f"{TEXT[i % 5][: 8 + i % 9]}{i}"}
        for i in range(PROMPTS)
    ]
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


def run_config(model: Path, prompts: Path, folder: Path, **settings: object) -> RunConfig:
    """A small run on the quickstart's stack: 2 rollout actors, 2 learner ranks, ZeRO-1."""
    return load_config(
        "quickstart",
        [
            f"model.path={model}",
            f"data.prompts={prompts}",
            f"folder={folder}",
            "rollout.max_new_tokens=12",
            "rollout.lot=8",
            "learner.lr=1e-4",
            "learner.lr_min=1e-5",
            *(f"{key}={value}" for key, value in settings.items()),
        ],
    )


def run(config: RunConfig, listener: Callable[[Progress], None] = lambda progress: None) -> TrainSummary:
    prompts = checked_prompts(config.data, config.detector, config.seed)
    with assembled(config, prompts) as parts, RunFolder(config) as folder:
        summary = train(config, parts, folder, listener)
        parts.learner.export(folder.path / "model")
        folder.write_result(result_of(config, summary, {}))
    return summary


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model" / "model.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    found, expected = weights(one), weights(other)
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=SAME, rtol=0, err_msg=name)


@pytest.fixture(scope="module")
def local(tiny_model: Path, prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainSummary]:
    folder = tmp_path_factory.mktemp("runs") / "local"
    return folder, run(run_config(tiny_model, prompts, folder, **LOCAL))


@pytest.fixture(scope="module")
def distributed(tiny_model: Path, prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainSummary]:
    folder = tmp_path_factory.mktemp("runs") / "distributed"
    return folder, run(run_config(tiny_model, prompts, folder))


def test_both_assemblies_make_the_same_updates(
    local: tuple[Path, TrainSummary], distributed: tuple[Path, TrainSummary], tiny_model: Path
) -> None:
    (local_folder, local_summary), (folder, summary) = local, distributed
    assert summary.updates == local_summary.updates >= 3
    assert summary.accounting == local_summary.accounting
    assert_same_weights(folder, local_folder)
    start = load_file(tiny_model / "model.safetensors")
    assert max(np.abs(weights(folder)[name] - start[name]).max() for name in start) > 30 * SAME, "nothing was learned"


def test_every_actor_had_the_learners_weights_after_every_sync(distributed: tuple[Path, TrainSummary]) -> None:
    folder, summary = distributed
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, summary.updates + 1))
    assert 0 < summary.canary <= 1e-4
    assert all(line["version_lag"] == 0 for line in lines)


def test_every_prompt_is_accounted_for(distributed: tuple[Path, TrainSummary]) -> None:
    folder, summary = distributed
    counted = json.loads((folder / "result.json").read_text())["prompts"]
    outcomes = [counted[name] for name in ("clean", "confused", "uninformative", "stale")]
    assert sum(outcomes) + sum(counted["skipped"].values()) == counted["total"] == PROMPTS
    assert counted["confused"] >= 8 * (summary.updates - 1)


def test_experiences_open_with_a_parquet_reader(distributed: tuple[Path, TrainSummary]) -> None:
    folder, summary = distributed
    table = pq.read_table(sorted((folder / "experiences").glob("*.parquet")))
    groups = from_batch(table)
    assert len(groups) == summary.accounting.confused
    assert len({group.prompt_index for group in groups}) == len(groups), "a prompt was learned from twice"
    assert all(len(group.candidate_ids) == 16 and group.informative for group in groups)


def test_a_killed_rollout_actor_changes_nothing_but_time(
    local: tuple[Path, TrainSummary], tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    killer, killed = kill_at("ray::RolloutProcess", version=2)
    local_folder, local_summary = local
    # Weights as differences: the actor that comes anew has missed some.
    summary = run(run_config(tiny_model, prompts, tmp_path / "run", **{"flow.delta_refresh": 100}), killer)
    assert killed
    assert summary.restarts >= 1
    assert summary.accounting == local_summary.accounting
    assert_same_weights(tmp_path / "run", local_folder)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    whole = (tiny_model / "model.safetensors").stat().st_size
    assert all(0 < line["sync_bytes"] < whole for line in lines)


def test_broadcast_weights_make_the_same_updates_also_after_an_actor_was_killed(
    local: tuple[Path, TrainSummary], tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    killer, killed = kill_at("ray::RolloutProcess", version=2)
    config = run_config(tiny_model, prompts, tmp_path / "run", **{"flow.weight_transfer": "gloo"})
    summary = run(config, killer)
    assert killed
    assert summary.restarts >= 1
    assert 0 < summary.canary <= 1e-4
    assert summary.accounting == local[1].accounting
    assert_same_weights(tmp_path / "run", local[0])


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs: learner and vLLM do not share one in NCCL")
@pytest.mark.parametrize("transfer", ["object_store", "nccl"])
def test_the_same_code_on_gpus(transfer: str, tiny_model: Path, prompts: Path, tmp_path: Path) -> None:
    settings = {
        "cluster.gpus_per_rollout_actor": 1,
        "cluster.gpus_per_learner_rank": 1,
        "rollout.actors": 1,
        "learner.ranks": 1,
        "model.dtype": "bfloat16",
        "flow.canary_tolerance": 0.1,
        "flow.weight_transfer": transfer,
    }
    summary = run(run_config(tiny_model, prompts, tmp_path / "run", **settings))
    assert summary.updates >= 3
    assert summary.accounting.complete


def test_a_killed_learner_rank_ends_the_run_and_says_so(tiny_model: Path, prompts: Path, tmp_path: Path) -> None:
    killer, _ = kill_at("ray::LearnerProcess", version=1)
    with pytest.raises(Exception, match=r"a learner rank (died|failed) during an update"), leaves_no_process("ray::"):
        run(run_config(tiny_model, prompts, tmp_path / "run"), killer)


def test_rollouts_may_run_ahead_of_the_learner(tiny_model: Path, prompts: Path, tmp_path: Path) -> None:
    config = run_config(tiny_model, prompts, tmp_path / "run", **{"flow.max_staleness": 2, "learner.zero_stage": 3})
    summary = run(config)
    assert summary.accounting.complete
    assert summary.accounting.total == PROMPTS
    assert 0 < summary.canary <= 1e-4
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert max(line["version_lag"] for line in lines) <= 2
    assert max(line["version_lag"] for line in lines) > 0, "nothing ran ahead"


def test_an_adapter_is_learned_and_loaded_by_vllm(tiny_model: Path, prompts: Path, tmp_path: Path) -> None:
    """The canary holds after every sync: vLLM answers with the learner's adapter."""
    settings = {"learner.lora": "{rank: 4}", "learner.lr": 1e-2, "learner.zero_stage": 2}
    summary = run(run_config(tiny_model, prompts, tmp_path / "run", **settings))
    assert summary.updates >= 3
    assert 0 < summary.canary <= 1e-4
    start = load_file(tiny_model / "model.safetensors")
    moved = {name for name, value in weights(tmp_path / "run").items() if np.abs(value - start[name]).max() > 1e-4}
    assert moved and all("proj" in name for name in moved)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(line["sync_bytes"] < (tiny_model / "model.safetensors").stat().st_size / 4 for line in lines)


def kill_at(title: str, version: int) -> tuple[Callable[[Progress], None], list[int]]:
    """A listener that kills one process with that title once a policy version is reached, and whom it has killed."""
    killed: list[int] = []

    def listener(progress: Progress) -> None:
        if progress.version == version and not killed:
            killed.append(process_ids(title)[0])
            os.kill(killed[0], signal.SIGKILL)

    return listener, killed


def process_ids(title: str) -> list[int]:
    """Processes whose command line begins with `title`, oldest first."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if command.startswith(title):
                found.append(int(entry.name))
    return sorted(found)


@contextmanager
def leaves_no_process(title: str) -> Iterator[None]:
    before = set(process_ids(title))
    try:
        yield
    finally:
        assert not set(process_ids(title)) - before
