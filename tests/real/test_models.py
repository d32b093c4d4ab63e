"""Published models through every command, in the combinations of settings that a learner has.

`make test-real` names the models. A run is tiny, and so hot that nearly every answer has a confusion point.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from actors.engine import EngineOptions
from actors.hf_engine import TransformersEngine
from actors.vllm_engine import VLLMEngine
from tests.actors.test_engines import N, assert_same_candidates, top_k
from tests.real.conftest import ASKED
from tests.real.insertions import CARRIED
from tests.real.packages import GEMMA3, cached
from tests.small_run import Setting
from tlpo_ray.config.load import load_config
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import RolloutConfig, RunConfig
from tlpo_ray.files import read_json_lines
from tlpo_ray.flow.tokenizer import load_tokenizer
from tlpo_ray.quickstart.questions import open_questions
from tlpo_ray.quickstart.real_models import REAL_MODELS, cached_real_model

pytestmark = [pytest.mark.real, pytest.mark.large, pytest.mark.ray, pytest.mark.slow]

TLPO = str(Path(sys.executable).with_name("tlpo"))
PROMPTS = 12
RUNS = [
    pytest.param("full", "float32", 1, 1), pytest.param("adapter", "bfloat16", 2, 1),
    pytest.param("full", "bfloat16", 1, 2), pytest.param("adapter", "float32", 2, 2),
    pytest.param("full", "float32", 2, 3), pytest.param("adapter", "bfloat16", 1, 3),
]  # fmt: skip
"""Weights, data type, learner ranks, ZeRO stage: every pair of values of two of them occurs."""
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.5}
"""Largest difference between learner and vLLM, in nats. In bfloat16, logits above 16 are rounded to an eighth: with the
same weights of SmolLM2, vLLM and transformers differ by up to 0.37 nats."""
HOT: dict[str, Setting] = {
    "smollm2": {"rollout.temperature": 1.5},
    "gemma-3-270m": {"rollout.temperature": 2.0},
}
"""Settings at which a model mixes languages in nearly every answer."""
SETTINGS: Setting = {
    "data.languages": "[ko]", "rollout.num_actors": 1, "rollout.max_new_tokens": 16, "rollout.lookahead_tokens": 3,
    "rollout.selection": "ranked_with_sampled", "learner.groups_per_update": 4, "learner.lr": 1e-4,
}  # fmt: skip


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a published model; skip those that `make test-real` was not asked for."""

    @cache
    def folder(name: str) -> Path:
        if name not in ASKED.split():
            pytest.skip(f"asked for by name, which accepts its terms: make test-real MODELS={name}")
        converted = cached_real_model(name)
        if name != "gemma-3-270m":
            return converted
        # Its published tokenizer has one token more than the weights have rows, which the GGUF file leaves out.
        published = tmp_path_factory.mktemp("models") / name
        published.mkdir()
        for file in (*converted.glob("*.safetensors"), *converted.glob("*config.json"), *cached(GEMMA3).iterdir()):
            (published / file.name).unlink(missing_ok=True)
            (published / file.name).symlink_to(file)
        return published

    return folder


@pytest.fixture(scope="session")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "prompts.jsonl"
    asked = open_questions(("ko",), seed=0).asked[:PROMPTS]
    rows = [{"id": question.id, "language": question.language, "prompt": question.text} for question in asked]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def tlpo(*arguments: object) -> str:
    """Run a command and return its output; it must succeed without a traceback."""
    command = [TLPO, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"})
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.parametrize(("weights", "dtype", "ranks", "zero"), RUNS)
@pytest.mark.parametrize("name", REAL_MODELS)
def test_a_published_model_through_every_command(
    name: str, weights: str, dtype: str, ranks: int, zero: int, model: Callable[[str], Path], prompts: Path,
    tmp_path: Path, record_property: Callable[[str, object], None],
) -> None:  # fmt: skip
    run, preset, adapter = tmp_path / "run", f"quickstart-{name}", weights == "adapter"
    settings: Setting = {
        "model.path": model(name), "data.prompts": prompts, "folder": run, **SETTINGS, **HOT[name],
        "model.dtype": dtype, "flow.canary_tolerance": TOLERANCE[dtype],
        "learner.num_ranks": ranks, "learner.zero_stage": zero, "learner.lora": "{rank: 8}" if adapter else "null",
    }  # fmt: skip
    overrides = [f"{key}={value}" for key, value in settings.items()]
    tlpo("doctor", preset, *overrides)
    tlpo("train", preset, *overrides)
    result = json.loads((run / "result.json").read_text())
    record_property("updates", result["updates"])
    record_property("confusion points", result["confusion_points"])
    record_property("canary in nats", f"{result['canary_nats']:.2g}")
    record_property("seconds", round(result["seconds"]["start"] + result["seconds"]["train"]))
    assert result["updates"] >= 1 and result["prompts"]["balanced"] and result["prompts"]["total"] == PROMPTS
    assert 0 < result["canary_nats"] <= TOLERANCE[dtype]
    assert result["actor_restarts"] == result["learner_restarts"] == 0

    exported = tmp_path / "exported"
    tlpo("report", run)
    tlpo("export", run, exported)
    assert (run / "report" / "report.html").exists()
    assert_learned(exported, model(name), adapter=adapter)
    if adapter:
        tlpo("export", run, tmp_path / "adapter", "--adapter")
        assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
    assert_judged_alike(exported, prompts, tmp_path / "answers", load_config(preset, overrides))


def assert_learned(exported: Path, original: Path, *, adapter: bool) -> None:
    """Check that a model has the original's tensors, and that those that can have been learned have changed."""
    trained, before = load_weights(exported), load_weights(original)
    assert trained.keys() == before.keys()
    changed = {name for name, value in trained.items() if not torch.equal(value, before[name].to(value.dtype))}
    assert changed
    assert not adapter or all("_proj" in name for name in changed)


def load_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return all tensors of a model folder."""
    return {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}


def assert_judged_alike(model: Path, prompts: Path, answers: Path, config: RunConfig) -> None:
    """Sample answers of a model, and check that `tlpo detect` finds in them what `tlpo evaluate` found."""
    judge = ("--language", "ko", "--english", config.detector.english)
    sampling = ("--temperature", config.rollout.temperature, "--max-new-tokens", config.rollout.max_new_tokens)
    tlpo("evaluate", model, "--prompts", prompts, "--output", answers, *judge, *sampling, "--like", config.name)
    rows = list(read_json_lines(answers / "answers.jsonl"))
    assert len(rows) == PROMPTS
    output = tlpo("detect", answers / "answers.jsonl", "--field", "answer", "--output", "jsonl", *judge)
    first: dict[int, list[int]] = {}
    for line in output.split("\n"):
        if line:
            span = json.loads(line)
            first.setdefault(span["record"], [span["index"], span["end"]])
    assert first == {number: row["first_confusion"] for number, row in rows if row["first_confusion"]}
    assert first, "no answer is confused"


@pytest.mark.parametrize("name", REAL_MODELS)
def test_vllm_has_the_candidates_of_transformers(
    name: str, model: Callable[[str], Path], record_property: Callable[[str, object], None]
) -> None:
    policy = ModelConfig(path=str(model(name)), dtype="float32", max_context=256)
    rollout = RolloutConfig(kv_cache_mib=256, concurrency=16)
    tokenizer = load_tokenizer(policy)
    contexts = [tokenizer(text)["input_ids"] for texts in CARRIED.values() for text in texts]
    vllm = VLLMEngine(policy, rollout, EngineOptions())
    oracle = TransformersEngine(policy, rollout, EngineOptions())
    found, expected = top_k(vllm, contexts, N), top_k(oracle, contexts, N)
    same = [np.array_equal(one.token_ids, other.token_ids) for one, other in zip(found, expected, strict=True)]
    differences = [np.abs(one.logp - other.logp).max() for one, other in zip(found, expected, strict=True)]
    record_property("contexts", len(contexts))
    record_property("with the same tokens in the same order", sum(same))
    record_property("largest difference in nats", f"{max(differences):.2g}")
    assert_same_candidates(vllm, oracle, contexts)  # where two tokens are equally probable, their order is open
    vllm.close()
