"""The presets of published models start and train, on tiny weights with the published tokenizers."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from actors.worker import build_worker
from tests.architectures import SIZE, save_weights
from tests.real.insertions import CARRIED
from tests.real.vocabularies import VOCABULARIES, lay_out
from tests.small_run import LOCAL, Setting
from tlpo_ray.config.load import load_config
from tlpo_ray.config.run import RunConfig
from tlpo_ray.errors import UserError
from tlpo_ray.flow.tokenizer import load_tokenizer
from tlpo_ray.run.training import run_training

pytestmark = [pytest.mark.real, pytest.mark.slow]

FAMILIES = {
    "gemma-3-4b": ("gemma3-images", "gemma-3"),
    "llama-3.1-8b": ("llama", "llama-3.1"),
    "ministral-8b": ("ministral", "ministral"),
    "qwen3-8b": ("qwen3", "qwen3"),
}
"""Presets without their language: the kind of weights (`tests/architectures.py`), and the vocabulary."""
LANGUAGES = ("ar", "ja", "ko", "zh")
SMALL: Setting = {
    # What the presets take from the hub and from eight GPUs.
    "data.subset": "null", "model.max_context": 256, "rollout.max_new_tokens": 8, "rollout.kv_cache_mib": 64,
    "rollout.num_actors": 1, "rollout.concurrency": 8, "learner.num_ranks": 1, "learner.groups_per_update": 4,
    # Logits of random weights are so large that bfloat16 rounds them to a sixteenth.
    "flow.canary_tolerance": 0.5,
}  # fmt: skip


def families() -> list[Any]:
    """Return the families as parameters of a test, those of large packages with the marker `large`."""
    large = {family: VOCABULARIES[vocabulary].large for family, (_, vocabulary) in FAMILIES.items()}
    return [pytest.param(family, marks=[pytest.mark.large] * large[family]) for family in FAMILIES]


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a family's model, laid out as its repository, with tiny random weights."""

    @cache
    def folder(family: str) -> Path:
        kind, name = FAMILIES[family]
        vocabulary, path = VOCABULARIES[name], tmp_path_factory.mktemp("repositories") / family
        ids: dict[str, Any] = {"eos": list(vocabulary.eos), "pad": vocabulary.pad, "bos": vocabulary.bos}
        save_weights(kind, path, rows=vocabulary.rows, max_shard_size="50MB", **ids)
        try:
            lay_out(name, path)
        except UserError as error:
            pytest.skip(str(error))
        if family == "ministral-8b":
            _add_mistral_format(path)
        return path

    return folder


def _add_mistral_format(folder: Path) -> None:
    """Add what Mistral's own software reads: vLLM takes both files for a model in another format than transformers'."""
    size = {
        "dim": SIZE["hidden_size"], "n_layers": SIZE["num_hidden_layers"], "head_dim": SIZE["head_dim"],
        "hidden_dim": SIZE["intermediate_size"], "n_heads": SIZE["num_attention_heads"],
        "n_kv_heads": SIZE["num_key_value_heads"], "norm_eps": 1e-5, "vocab_size": VOCABULARIES["ministral"].rows,
        "rope_theta": 1e4, "max_seq_len": SIZE["max_position_embeddings"],
    }  # fmt: skip
    (folder / "params.json").write_text(json.dumps(size), encoding="utf-8")
    save_file({"norm.weight": torch.zeros(64)}, folder / "consolidated.safetensors")


def config_of(preset: str, model: Path, folder: Path, **settings: object) -> RunConfig:
    """Return a preset for a model folder and a few prompts in its language, on a CPU."""
    sentences = CARRIED[preset[-2:]]
    rows = [{"instruction": sentence, "input": "", "output": ""} for sentence in sentences]
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    values = {"model.path": model, "data.prompts": prompts, "folder": folder / "run", **SMALL, **settings}
    return load_config(preset, [f"{key}={value}" for key, value in values.items()])


def assert_trained(config: RunConfig) -> None:
    """Train, and check what was learned, that every prompt has its outcome, and what comes with the trained weights."""
    result = run_training(config)
    assert result.updates >= 1 and result.accounting.complete
    assert result.accounting.confused >= config.learner.groups_per_update
    assert (result.actor_restarts, result.learner_restarts) == (0, 0)
    models = (Path(config.model.path), result.model)
    original, trained = (json.loads((model / "generation_config.json").read_text()) for model in models)
    assert trained["eos_token_id"] == original["eos_token_id"]
    before, after = (load_tokenizer(config.model.model_copy(update={"path": str(model)})) for model in models)
    assert after.get_vocab() == before.get_vocab() and after.chat_template == before.chat_template


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("family", families())
def test_a_preset_trains(family: str, language: str, repository: Callable[[str], Path], tmp_path: Path) -> None:
    config = config_of(f"{family}-{language}", repository(family), tmp_path, **LOCAL)
    assert_trained(config)


@pytest.mark.ray
@pytest.mark.parametrize("family", families())
def test_a_preset_trains_on_the_real_stack(family: str, repository: Callable[[str], Path], tmp_path: Path) -> None:
    settings: Setting = {
        "cluster.gpus_per_rollout_actor": 0, "cluster.gpus_per_learner_rank": 0,
        "model.dtype": "float32", "flow.canary_tolerance": 1e-4,  # the engines agree on the model
    }  # fmt: skip
    # vLLM's Gemma with images needs torchvision, which not every CPU build of torch supports.
    engine = {"rollout.engine": "transformers"} if family == "gemma-3-4b" else {}
    config = config_of(f"{family}-ko", repository(family), tmp_path, **settings, **engine)
    assert_trained(config)


@pytest.mark.parametrize("family", families())
def test_answers_end_with_every_token_that_the_repository_names(
    family: str, repository: Callable[[str], Path], tmp_path: Path
) -> None:
    config = config_of(f"{family}-ko", repository(family), tmp_path, **LOCAL)
    worker = build_worker(config.model, config.rollout, config.detector, seed=0)
    assert worker.engine.eos_ids == set(VOCABULARIES[FAMILIES[family][1]].eos)
