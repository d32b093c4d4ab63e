"""The complete loop in its two assemblies: in this process, and on the real Ray, vLLM and DeepSpeed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file

from actors.completions import Completion
from tests.small_run import PROMPTS, SAME, assert_same_weights, kill_at, run, run_config, weights
from tlpo_ray.data.load import load_prompts
from tlpo_ray.flow.records import from_batch
from tlpo_ray.run.build import build_components
from tlpo_ray.run.components import Fleet
from tlpo_ray.run.loop import TrainSummary

pytestmark = pytest.mark.ray


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
    assert 0 < summary.incidents.canary <= 1e-4
    assert all(line["policy_lag"] == 0 for line in lines)


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


def test_broadcast_weights_lead_to_the_same_updates_even_after_an_actor_was_killed(
    local: tuple[Path, TrainSummary], tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    killer, killed = kill_at("ray::RolloutProcess", version=2)
    config = run_config(tiny_model, prompts, tmp_path / "run", **{"flow.weight_transfer": "gloo"})
    summary = run(config, killer)
    assert killed
    assert summary.incidents.actor_restarts >= 1
    assert 0 < summary.incidents.canary <= 1e-4
    assert summary.accounting == local[1].accounting
    assert_same_weights(tmp_path / "run", local[0])


def test_a_colocated_run_takes_turns_and_makes_the_same_updates(
    local: tuple[Path, TrainSummary], tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    """Without a GPU here: each update waits until the engine sleeps, each load wakes it."""
    settings = {"cluster.colocated": True, "rollout.num_actors": 1, "learner.num_ranks": 1}
    run(run_config(tiny_model, prompts, tmp_path / "run", **settings))
    assert_same_weights(tmp_path / "run", local[0])


ON_GPU = {
    "rollout.num_actors": 1,
    "rollout.enforce_eager": True,
    "learner.num_ranks": 1,
    "model.dtype": "bfloat16",
    "flow.canary_tolerance": 0.1,
}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("colocated", [False, True])
def test_one_gpu_is_enough(colocated: bool, tiny_model: Path, prompts: Path, tmp_path: Path) -> None:
    """Sharing the GPU side by side, or in turns."""
    settings = {"cluster.gpus_per_rollout_actor": 0.5, "cluster.gpus_per_learner_rank": 0.5}
    summary = run(
        run_config(tiny_model, prompts, tmp_path / "run", **ON_GPU, **settings, **{"cluster.colocated": colocated})
    )
    assert summary.updates >= 3
    assert 0 < summary.incidents.canary <= 0.1
    assert summary.accounting.complete and summary.incidents.actor_restarts == 0


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs: learner and vLLM do not share one in NCCL")
@pytest.mark.parametrize("transfer", ["object_store", "nccl"])
def test_the_same_code_runs_on_gpus(transfer: str, tiny_model: Path, prompts: Path, tmp_path: Path) -> None:
    settings = {"cluster.gpus_per_rollout_actor": 1, "cluster.gpus_per_learner_rank": 1}
    summary = run(
        run_config(tiny_model, prompts, tmp_path / "run", **ON_GPU, **settings, **{"flow.weight_transfer": transfer})
    )
    assert summary.updates >= 3
    assert summary.accounting.complete


def test_the_fleet_answers_before_the_learner_has_started_as_it_does_with_the_learners_weights(
    tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    config = run_config(tiny_model, prompts, tmp_path / "run")
    asked = load_prompts(config.data, config.detector, config.seed)
    early: list[list[Completion]] = []

    def examine(fleet: Fleet) -> None:
        assert fleet.canary == 0, "no weights were synced yet"
        early.append(fleet.generate(asked.prompts, 2, 1.0, 8, 0))

    with build_components(config, asked, examine=examine) as components:
        assert 0 < components.fleet.canary <= 1e-4
        assert early == [components.fleet.generate(asked.prompts, 2, 1.0, 8, 0)]
    assert len(early[0]) == 2 * PROMPTS


def test_rollouts_may_run_ahead_of_the_learner(tiny_model: Path, prompts: Path, tmp_path: Path) -> None:
    config = run_config(tiny_model, prompts, tmp_path / "run", **{"flow.max_staleness": 2, "learner.zero_stage": 3})
    summary = run(config)
    assert summary.accounting.complete
    assert summary.accounting.total == PROMPTS
    assert 0 < summary.incidents.canary <= 1e-4
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert max(line["policy_lag"] for line in lines) <= 2
    assert max(line["policy_lag"] for line in lines) > 0, "nothing ran ahead"


def test_an_adapter_is_learned_and_loaded_by_vllm(tiny_model: Path, prompts: Path, tmp_path: Path) -> None:
    """The canary matches after every sync: vLLM answers with the learner's adapter."""
    settings = {"learner.lora": "{rank: 4}", "learner.lr": 1e-2, "learner.zero_stage": 2}
    summary = run(run_config(tiny_model, prompts, tmp_path / "run", **settings))
    assert summary.updates >= 3
    assert 0 < summary.incidents.canary <= 1e-4
    start = load_file(tiny_model / "model.safetensors")
    moved = {name for name, value in weights(tmp_path / "run").items() if np.abs(value - start[name]).max() > 1e-4}
    assert moved and all("proj" in name for name in moved)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(line["sync_bytes"] < (tiny_model / "model.safetensors").stat().st_size / 4 for line in lines)
