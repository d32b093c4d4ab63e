"""A learner of an adapter: the frozen model is its reference, little travels, and the exported model is plain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor

from actors.chat import check_model
from actors.engine import EngineOptions, run_all
from actors.hf_engine import TransformersEngine
from actors.requests import TopKRequest
from learner.batch import make_batch, pack_contexts, pad_contexts
from learner.policy import candidate_logp, load_model
from learner.weight_export import WeightExporter
from learner.worker import LearnerWorker, build_learner
from tests.learner.learners import save
from tests.tiny import VOCABULARY, make_tokenizer, random_groups
from tlpo_ray.config.load import load_config
from tlpo_ray.config.model import LoraConfig, ModelConfig
from tlpo_ray.config.run import LearnerConfig, RolloutConfig
from tlpo_ray.errors import ConfigError, UserError
from tlpo_ray.flow.weights import WeightUpdate, check_canary

LORA = LoraConfig(rank=4, alpha=12)
CONTEXT = tuple(range(10, 22))


def model_config(folder: Path, dtype: str = "float32") -> ModelConfig:
    return ModelConfig(path=str(folder), dtype=dtype, max_context=64)


def make_learner(folder: Path, dtype: str = "float32", **changes: Any) -> LearnerWorker:
    config = LearnerConfig.model_validate({"engine": "torch", "lr": 1e-2, "warmup": 0.0, "lora": LORA} | changes)
    return build_learner(model_config(folder, dtype), config, seed=0)


def export(worker: LearnerWorker) -> WeightUpdate:
    update = worker.export_weights(WeightExporter(1 << 20), CONTEXT)
    assert update is not None
    return update


def logp_of(worker: LearnerWorker, groups: list[Any]) -> Tensor:
    with torch.no_grad():
        return candidate_logp(
            worker.engine.policy(), make_batch(groups, [1 / len(groups)] * len(groups), pack_contexts)
        )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_only_the_adapter_learns_and_the_reference_is_the_model_without_it(dtype: str, tiny_model: Path) -> None:
    worker, groups = make_learner(tiny_model, dtype), random_groups(tiny_model, 8)
    frozen = {n: t.clone() for n, t in worker.engine.tensors(include_frozen=True) if ".lora_" not in n}
    before = logp_of(worker, groups)
    for _ in range(3):
        worker.update(groups, 0.0)
    assert float((logp_of(worker, groups) - before).abs().max()) > 0.5
    reference = worker.reference_logp(make_batch(groups, [1 / 8] * 8, pack_contexts))
    assert reference is not None
    torch.testing.assert_close(reference, before, rtol=0, atol=1e-5)
    for name, tensor in worker.engine.tensors(include_frozen=True):
        assert ".lora_" in name or torch.equal(tensor, frozen[name])


def test_only_the_adapter_travels_and_an_engine_that_loads_it_is_the_policy(tiny_model: Path) -> None:
    worker, groups = make_learner(tiny_model), random_groups(tiny_model, 8)
    rollout = RolloutConfig(engine="transformers", max_new_tokens=8)
    engine = TransformersEngine(model_config(tiny_model), rollout, EngineOptions(lora=LORA))
    for version in range(3):
        if version:
            worker.update(groups, 0.0)
        update = export(worker)
        (delta,) = update.deltas
        assert delta.nbytes < (tiny_model / "model.safetensors").stat().st_size / 4
        engine.load_weights(delta.buckets, version)
        assert update.canary is not None
        (top,) = run_all(engine, [TopKRequest(context_ids=CONTEXT, n=16)])
        check_canary(update.canary, top.token_ids.tolist(), top.logp.tolist(), 1e-4)


def test_exported_model_and_adapter_both_compute_what_the_policy_computes(tiny_model: Path, tmp_path: Path) -> None:
    worker, groups = make_learner(tiny_model), random_groups(tiny_model, 8)
    for _ in range(3):
        worker.update(groups, 0.0)
    worker.export(tmp_path / "model")
    plain = load_model(model_config(tmp_path / "model"), torch.float32, trainable=False)
    start = load_model(model_config(tiny_model), torch.float32, trainable=False)
    assert dict(plain.named_parameters()).keys() == dict(start.named_parameters()).keys()
    with torch.no_grad():
        logp = candidate_logp(plain, make_batch(groups, [1 / 8] * 8, pad_contexts))
    torch.testing.assert_close(logp, logp_of(worker, groups), rtol=0, atol=1e-4)
    with_adapter = PeftModel.from_pretrained(start, tmp_path / "adapter").eval()
    with torch.no_grad():
        logp = candidate_logp(with_adapter, make_batch(groups, [1 / 8] * 8, pad_contexts))
    torch.testing.assert_close(logp, logp_of(worker, groups), rtol=0, atol=1e-4)


def test_a_checkpoint_can_be_resumed_and_belongs_to_its_adapter(tiny_model: Path, tmp_path: Path) -> None:
    worker, groups = make_learner(tiny_model), random_groups(tiny_model, 8)
    worker.update(groups, 0.0)
    save(worker, tmp_path, keep_last=1)
    worker.update(groups, 0.5)
    (folder,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    resumed = make_learner(tiny_model)
    resumed.load(folder)
    resumed.update(groups, 0.5)
    pairs = zip(worker.engine.tensors(), resumed.engine.tensors(), strict=True)
    assert all(torch.equal(expected, tensor) for (_, expected), (_, tensor) in pairs)
    with pytest.raises(UserError, match="an adapter of rank 4"):
        make_learner(tiny_model, lora=None).load(folder)


def test_an_adapter_cannot_be_broadcast() -> None:
    with pytest.raises(ConfigError, match=r"learner\.lora needs flow\.weight_transfer object_store, it is gloo"):
        load_config("quickstart", ["model.path=.", "learner.lora={rank: 4}", "flow.weight_transfer=gloo"])


# ----------------------------------------------------------------------------------------------------- names of layers


def make_other(family: str, folder: Path) -> Path:
    """Write a tiny model whose layers are not called as in most families."""
    from transformers import GPT2Config, GPT2LMHeadModel, Phi3Config, Phi3ForCausalLM

    make_tokenizer(folder)
    special: dict[str, Any] = {"vocab_size": VOCABULARY, "eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 0}
    torch.manual_seed(0)
    model = (
        GPT2LMHeadModel(GPT2Config(n_embd=64, n_layer=2, n_head=2, n_positions=512, **special))
        if family == "gpt2"
        else Phi3ForCausalLM(
            Phi3Config(
                hidden_size=128, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
                num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=False, initializer_range=0.2,
                dtype="float32", **special,
            )
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    return folder


PHI, GPT = "o_proj, qkv_proj, gate_up_proj, down_proj", "c_attn, c_proj, c_fc"


@pytest.mark.parametrize(
    ("family", "targets", "missing", "layers"),
    [
        ("phi3", None, "q_proj or k_proj or v_proj or gate_proj or up_proj", PHI),
        ("phi3", ("qkv_proj", "ffn"), "ffn", PHI),
        ("phi3", ("proj",), "proj", PHI),
        ("gpt2", None, "q_proj or k_proj or v_proj or o_proj or gate_proj or up_proj or down_proj", GPT),
        ("gpt2", ("attn",), "attn", GPT),
        ("gpt2", ("wte",), "wte", GPT),
        ("gpt2", ("lm_head",), "lm_head", GPT),  # tied to the embeddings
    ],
)
def test_layers_that_the_model_lacks_are_named(
    family: str, targets: tuple[str, ...] | None, missing: str, layers: str, tmp_path: Path
) -> None:
    model = model_config(make_other(family, tmp_path / "model"))
    lora = LoraConfig(rank=4) if targets is None else LoraConfig(rank=4, targets=targets)
    expected = f"has no linear layer called {missing}; it has {layers}: set learner.lora.targets=[{layers}], or some"
    with pytest.raises(ConfigError) as before:
        check_model(model, lora)
    assert expected in str(before.value) and "\n" not in str(before.value)
    with pytest.raises(ConfigError) as learner:
        build_learner(model, LearnerConfig(engine="torch", lora=lora), seed=0)
    with pytest.raises(ConfigError) as engine:
        TransformersEngine(model, RolloutConfig(engine="transformers", max_new_tokens=8), EngineOptions(lora=lora))
    assert str(before.value) == str(learner.value) == str(engine.value)


def test_an_adapter_has_a_layer() -> None:
    with pytest.raises(ConfigError, match=r"learner\.lora\.targets is \[\]"):
        load_config("quickstart", ["model.path=.", "learner.lora={targets: []}"])


@pytest.mark.parametrize(
    ("family", "targets"),
    [
        ("phi3", ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")),
        ("phi3", ("lm_head", "layers.0.self_attn.o_proj")),  # the head is not tied here
        ("gpt2", ("c_attn", "c_proj", "c_fc")),  # weights are stored transposed, some of them square
    ],
)
def test_adapters_of_other_layers_are_trained_loaded_and_merged(
    family: str, targets: tuple[str, ...], tmp_path: Path
) -> None:
    folder = make_other(family, tmp_path / "base")
    lora = LoraConfig(rank=4, alpha=12, targets=targets)
    check_model(model_config(folder), lora)
    worker, groups = make_learner(folder, lora=lora), random_groups(folder, 8)
    before = logp_of(worker, groups)
    for _ in range(3):
        worker.update(groups, 0.0)
    assert float((logp_of(worker, groups) - before).abs().max()) > 0.1
    worker.export(tmp_path / "model")
    plain = load_model(model_config(tmp_path / "model"), torch.float32, trainable=False)
    with torch.no_grad():
        logp = candidate_logp(plain, make_batch(groups, [1 / 8] * 8, pad_contexts))
    torch.testing.assert_close(logp, logp_of(worker, groups), rtol=0, atol=1e-4)
    update, rollout = export(worker), RolloutConfig(engine="transformers", max_new_tokens=8)
    engine = TransformersEngine(model_config(folder), rollout, EngineOptions(lora=lora))
    engine.load_weights(update.deltas[0].buckets, 1)
    assert update.canary is not None
    (top,) = run_all(engine, [TopKRequest(context_ids=CONTEXT, n=16)])
    check_canary(update.canary, top.token_ids.tolist(), top.logp.tolist(), 1e-4)


@pytest.mark.slow
def test_vllm_serves_the_layers_that_it_has_and_names_others(tmp_path: Path) -> None:
    from actors.vllm_engine import VLLMEngine

    folder = make_other("phi3", tmp_path / "base")
    lora = LoraConfig(rank=4, targets=("qkv_proj", "gate_up_proj"))
    worker, groups = make_learner(folder, lora=lora), random_groups(folder, 8)
    worker.update(groups, 0.0)
    update = export(worker)
    rollout = RolloutConfig(kv_cache_mib=64, concurrency=4, max_new_tokens=8)
    engine = VLLMEngine(model_config(folder), rollout, EngineOptions(lora=lora))
    try:
        engine.load_weights(update.deltas[0].buckets, 1)
        assert update.canary is not None
        (top,) = run_all(engine, [TopKRequest(context_ids=CONTEXT, n=16)])
        check_canary(update.canary, top.token_ids.tolist(), top.logp.tolist(), 1e-4)
        other = [[(name.replace("gate_up_proj", "router"), array) for name, array in update.deltas[0].buckets[0]]]
        with pytest.raises(ConfigError, match=r"vLLM cannot load the adapter \(.*router.*\): change learner\.lora"):
            engine.load_weights(other, 2)
    finally:
        engine.close()
