"""Architectures through the whole loop: the engine rolls out, the learner learns, weights are synced, the model is
exported and read again. `docs/real-models.md` has a row for each, and says what is refused, and with which line."""

from __future__ import annotations

import gc
import json
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from actors.chat import check_model
from actors.engine import EngineOptions, run_all
from actors.requests import GreedyRequest, SampleRequest, TopKRequest
from actors.vllm_engine import VLLMEngine
from actors.worker import RolloutWorker, build_worker
from learner.batch import pack_contexts, pad_contexts
from learner.packing import pack_attention
from learner.policy import load_model, next_token_logp
from learner.weight_export import WeightExporter
from learner.worker import build_learner
from tests.architectures import MAKERS, make_model
from tests.small_run import LOCAL, run_config
from tests.tiny import random_groups
from tlpo_ray.config.model import LoraConfig, ModelConfig
from tlpo_ray.config.run import LearnerConfig, RolloutConfig, RunConfig
from tlpo_ray.data.load import load_prompts
from tlpo_ray.errors import ConfigError, ModelError, WeightSyncError
from tlpo_ray.flow.delta import WeightMirror
from tlpo_ray.flow.exchange import Exchange
from tlpo_ray.flow.lora import linear_layers
from tlpo_ray.flow.models import count_parameters, model_without_weights
from tlpo_ray.flow.records import read_experiences
from tlpo_ray.flow.weights import check_canary
from tlpo_ray.run.components import Components
from tlpo_ray.run.folder import RunFolder
from tlpo_ray.run.local import LocalFleet, LocalLearner
from tlpo_ray.run.loop import train

CANARY = (5, 17, 40, 3, 77)
N = 16
MANUAL = Path(__file__).parents[3] / "docs" / "real-models.md"


def manual_rows() -> dict[str, str]:
    """Return by the name of an architecture what the manual says of vLLM's CPU build."""
    return dict(
        re.findall(r"^\| `([^`]+)` \| [^|]* \| ((?:yes|no)[^|]*?) \|$", MANUAL.read_text(encoding="utf-8"), re.M)
    )


def manual_layers() -> dict[str, set[str]]:
    """Return by the name of an architecture the layers that an adapter may have, according to the manual."""
    layers: dict[str, set[str]] = {}
    table = MANUAL.read_text(encoding="utf-8").partition("| layers that an adapter may have |")[2].partition("\n\n")[0]
    for what, architectures in re.findall(r"^\| ([^|]*) \| ([^|]*) \|$", table, re.M):
        named = set(re.findall(r"`(\w+)`", what))
        named |= set(LoraConfig().targets) if what.startswith("the default") else set()
        layers |= dict.fromkeys(re.findall(r"`([^`]+)`", architectures), named)
    return layers


ROWS = manual_rows()
SERVED = {name for name, vllm in ROWS.items() if vllm == "yes"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the folder of a tiny model, which is made once."""
    folders: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in folders:
            folders[name] = make_model(name, tmp_path_factory.mktemp("models") / name)
        return folders[name]

    return folder


@pytest.fixture(autouse=True)
def fresh_groups() -> Iterator[None]:
    """Remove vLLM's process groups after a test: those that a dense model has made lack that of experts."""
    yield
    gc.collect()  # an engine that is collected later would take the groups of the next one with it
    if "vllm" in sys.modules:
        from vllm.distributed.parallel_state import destroy_model_parallel

        destroy_model_parallel()


def settings(folder: Path, **changes: Any) -> ModelConfig:
    return ModelConfig(path=str(folder), dtype="float32", max_context=64).model_copy(update=changes)


def worker_of(config: RunConfig, engine: str, path: Path | None = None) -> RolloutWorker:
    chosen = config.model if path is None else config.model.model_copy(update={"path": str(path)})
    return build_worker(chosen, config.rollout.model_copy(update={"engine": engine}), config.detector, config.seed)


def test_the_manual_has_a_row_for_every_architecture() -> None:
    assert ROWS.keys() == MAKERS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
def test_a_tiny_model_goes_through_the_complete_loop(name: str, model: Any, prompts: Path, tmp_path: Path) -> None:
    small = {**LOCAL, "rollout.kv_cache_mib": 64, "learner.groups_per_update": 4, "rollout.temperature": 2}
    source = model(name)
    config = run_config(source, prompts, tmp_path / "run", **small)
    check_model(config.model)
    chosen = load_prompts(config.data, config.detector, config.seed)
    engine = "vllm" if name in SERVED else "transformers"
    worker, before = worker_of(config, engine), worker_of(config, "transformers")
    learner = LocalLearner(build_learner(config.model, config.learner, seed=0), config)
    exchange = Exchange(chosen.prompts, chosen.skipped, groups_per_update=4, lease_size=8, capacity=64, max_staleness=0)
    fleet = LocalFleet(worker, exchange, config)
    fleet.sync_weights(learner.export_weights(CANARY))  # the canary compares both engines, here and after each update
    with RunFolder(config) as folder:
        components = Components(exchange=exchange, fleet=fleet, learner=learner, canary_context=CANARY)
        summary = train(config, components, folder)
    assert summary.updates >= 1 and summary.accounting.complete
    assert summary.incidents.canary < config.flow.canary_tolerance
    assert len(read_experiences(tmp_path / "run" / "experiences")) == summary.accounting.confused

    fleet.sync_weights(learner.export_weights(CANARY))
    exported = tmp_path / "run" / "model"
    again = worker_of(config, "transformers", exported)
    request = TopKRequest(context_ids=CANARY, n=N)
    (read, synced, initial) = (run_all(one.engine, [request])[0] for one in (again, worker, before))
    np.testing.assert_array_equal(read.token_ids, synced.token_ids)
    np.testing.assert_allclose(read.logp, synced.logp, atol=1e-4)
    assert not np.allclose(initial.logp, read.logp, atol=1e-4), "the model has not changed"

    old, new = load_file(source / "model.safetensors"), load_file(exported / "model.safetensors")
    assert {key: tensor.shape for key, tensor in old.items()} == {key: tensor.shape for key, tensor in new.items()}
    same = {key for key in old if torch.equal(old[key], new[key])}
    assert same >= {key for key in old if key.endswith(("layer_scalar", "e_score_correction_bias"))}
    assert same >= {key for key in old if "visual." in key or "vision_tower." in key}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SERVED))
def test_full_and_delta_syncs_reach_every_weight_of_vllm(name: str, model: Any, tmp_path: Path) -> None:
    """Updates so large that a weight that stays old shows in the canary."""
    folder = model(name)
    engine = VLLMEngine(settings(folder), RolloutConfig(kv_cache_mib=64, max_new_tokens=8), EngineOptions())
    try:
        learner = build_learner(settings(folder), LearnerConfig(engine="torch", lr=1e-2, warmup=0.0), seed=0)
        exporter, mirror, groups = (
            WeightExporter(100_000, full_sync_interval=2),
            WeightMirror(),
            random_groups(folder, 8),
        )
        for version in range(3):
            update = learner.export_weights(exporter, CANARY)
            assert update is not None and update.canary is not None
            mirror.apply(update.deltas[-1:])
            engine.load_weights([mirror.bucket()], version)
            (top,) = run_all(engine, [TopKRequest(context_ids=CANARY, n=N)])
            check_canary(update.canary, top.token_ids.tolist(), top.logp.tolist(), 1e-4)
            engine.sleep()
            engine.wake()
            learner.update(groups, 0.0)
        learner.export(tmp_path / "model")
    finally:
        engine.close()
    again = VLLMEngine(settings(tmp_path / "model"), RolloutConfig(kv_cache_mib=64, max_new_tokens=8), EngineOptions())
    update = learner.export_weights(WeightExporter(1 << 30), CANARY)
    assert update is not None and update.canary is not None
    (top,) = run_all(again, [TopKRequest(context_ids=CANARY, n=N)])
    again.close()
    check_canary(update.canary, top.token_ids.tolist(), top.logp.tolist(), 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MAKERS.keys() - SERVED))
def test_what_vllm_cannot_do_on_a_cpu_is_refused_before_the_first_prompt(name: str, model: Any) -> None:
    line = ROWS[name].removeprefix("no: ").strip("`")
    if "torchvision" in line and find_spec("torchvision"):
        pytest.skip("torchvision is installed, and the class can be imported")
    folder = model(name)
    rollout = RolloutConfig(kv_cache_mib=64, max_new_tokens=8)
    with pytest.raises((ModelError, ConfigError, WeightSyncError), match=re.escape(line)) as refused:
        engine = VLLMEngine(settings(folder), rollout, EngineOptions())
        learner = build_learner(settings(folder), LearnerConfig(engine="torch"), seed=0)
        update = learner.export_weights(WeightExporter(1 << 30), CANARY)
        assert update is not None and update.canary is not None
        engine.load_weights(update.deltas[-1].buckets, 0)
        (top,) = run_all(engine, [TopKRequest(context_ids=CANARY, n=N)])
        check_canary(update.canary, top.token_ids.tolist(), top.logp.tolist(), 1e-4)
    assert "\n" not in str(refused.value)
    assert isinstance(refused.value, WeightSyncError) or "rollout.engine=transformers" in str(refused.value)


# ------------------------------------------------------------------------------------------------- without vLLM


@pytest.mark.parametrize("name", MAKERS)
def test_the_layers_that_take_an_adapter_are_those_in_the_manual(name: str, model: Any) -> None:
    layers = linear_layers(model_without_weights(settings(model(name))))
    own = dict.fromkeys(layer.rpartition(".")[2] for layer in layers)
    assert set(own) - {"lm_head"} == manual_layers()[name]


@pytest.mark.parametrize("name", MAKERS)
def test_contexts_of_one_batch_do_not_see_each_other(name: str, model: Any) -> None:
    """Alone, padded, and packed into one row where the model takes that."""
    policy = load_model(settings(model(name)), torch.float32, trainable=False)
    contexts = [list(range(3 + i, 8 + 5 * i)) for i in range(5)]
    with torch.no_grad():
        alone = torch.cat([next_token_logp(policy, pad_contexts([context])) for context in contexts])
        padded = next_token_logp(policy, pad_contexts(contexts))
        torch.testing.assert_close(padded, alone, rtol=0, atol=1e-4)
        if pack_attention(policy):
            torch.testing.assert_close(next_token_logp(policy, pack_contexts(contexts)), alone, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", MAKERS)
def test_answers_of_different_lengths_in_one_batch_are_those_of_each_alone(name: str, model: Any) -> None:
    rollout = RolloutConfig(engine="transformers", max_new_tokens=8, concurrency=8)
    config = run_config(model(name), Path("none"), Path("none"), **LOCAL)
    engine = build_worker(settings(model(name)), rollout, config.detector, seed=0).engine
    contexts = [tuple(range(3 + i, 8 + 5 * i)) for i in range(5)]
    samples = [
        SampleRequest(prompt_ids=context, max_new_tokens=2 + 2 * i, temperature=1.0, seed=i)
        for i, context in enumerate(contexts)
    ]
    assert run_all(engine, samples) == [run_all(engine, [sample])[0] for sample in samples]
    (greedy,) = run_all(engine, [GreedyRequest(contexts=contexts, max_new_tokens=6)])
    assert greedy == [run_all(engine, [GreedyRequest(contexts=[c], max_new_tokens=6)])[0][0] for c in contexts]


@pytest.mark.parametrize("name", MAKERS)
def test_all_experts_are_counted(name: str, model: Any) -> None:
    folder = model(name)
    policy = load_model(settings(folder), torch.float32, trainable=True)
    assert count_parameters(settings(folder)) == sum(parameter.numel() for parameter in policy.parameters())
    layout = {key: tensor.numel() for key, tensor in load_file(folder / "model.safetensors").items()}
    constants = {key: count for key, count in layout.items() if key.endswith(("layer_scalar", "correction_bias"))}
    unread = {key: count for key, count in layout.items() if "visual." in key and name == "qwen3.5-images"}
    buffers = {key: count for key, count in layout.items() if key.endswith(("std_bias", "std_scale"))}
    extra = sum(sum(part.values()) for part in (constants, unread, buffers))
    assert sum(layout.values()) - extra == count_parameters(settings(folder))


@pytest.mark.parametrize("name", ["qwen3-moe", "deepseek-v3", "qwen3.5-images"])
def test_an_adapter_is_merged_into_the_files_of_the_model(name: str, model: Any, tmp_path: Path) -> None:
    folder = model(name)
    lora = LoraConfig(rank=4, targets=("o_proj",))
    config = LearnerConfig(engine="torch", lr=1e-2, warmup=0.0, lora=lora)
    learner = build_learner(settings(folder), config, seed=0)
    learner.update(random_groups(folder, 8), 0.0)
    learner.export(tmp_path / "model")
    old, new = load_file(folder / "model.safetensors"), load_file(tmp_path / "model" / "model.safetensors")
    assert old.keys() == new.keys()
    assert {key for key in old if not torch.equal(old[key], new[key])} == {key for key in old if "o_proj" in key}


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is not None, reason="vLLM has what it needs")
def test_an_adapter_of_a_mixture_of_experts_is_refused_by_vllm_without_triton(model: Any) -> None:
    lora = LoraConfig(rank=4, targets=("q_proj", "o_proj"))
    rollout = RolloutConfig(kv_cache_mib=64, max_new_tokens=8)
    with pytest.raises(
        ModelError, match=r"^vLLM cannot compute with .* in float32 on a CPU \(.*triton.*\): set another"
    ):
        VLLMEngine(settings(model("qwen3-moe")), rollout, EngineOptions(lora=lora))


def test_experts_take_no_adapter_and_the_line_says_what_does(model: Any) -> None:
    expected = (
        r"has no linear layer called gate_proj or up_proj or down_proj; it has q_proj, k_proj, v_proj, o_proj: set "
        r"learner\.lora\.targets=\[q_proj, k_proj, v_proj, o_proj\], or some of them"
    )
    with pytest.raises(ConfigError, match=expected):
        check_model(settings(model("qwen3-moe")), LoraConfig(rank=4))


def test_the_loss_that_balances_experts_is_not_added(model: Any) -> None:
    """Asked for in config.json or not, the update is the same."""
    folder, norms = model("qwen3-moe"), []
    for asked in (False, True):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"output_router_logits": asked}))
        learner = build_learner(settings(folder), LearnerConfig(engine="torch"), seed=0)
        norms.append([step.grad_norm for step in learner.update(random_groups(folder, 8), 0.0).steps])
    (folder / "config.json").write_text(json.dumps(config | {"output_router_logits": False}))
    assert norms[0] == norms[1]


@pytest.mark.parametrize("method", ["mxfp4", "fp8"])
def test_quantized_weights_are_refused_with_what_to_take(method: str, tmp_path: Path) -> None:
    folder = make_model("gpt-oss", tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": method}}))
    with pytest.raises(ModelError, match=rf"is quantized \({method}\), and only plain weights can be trained: take an"):
        check_model(settings(folder))
