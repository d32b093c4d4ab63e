"""A tokenizer with a token that the weights lack, as that of every Gemma 3 without vision."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import AddedToken
from transformers import AutoTokenizer

from actors.chat import UNKNOWN_TOKEN, check_model
from actors.engine import EngineOptions
from actors.hf_engine import TransformersEngine
from actors.worker import RolloutWorker
from tests.tiny import VOCABULARY
from tlpo_ray.config.detector import DetectorConfig
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import RolloutConfig
from tlpo_ray.errors import ModelError
from tlpo_ray.flow.records import Outcome, Prompt

IMAGE = "<image_soft_token>"
ROLLOUT = RolloutConfig(engine="transformers", max_new_tokens=8)


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> ModelConfig:
    """Settings of a copy of the tiny model whose tokenizer has one token more than the weights have rows."""
    shutil.copytree(tiny_model, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_tokens([AddedToken(IMAGE, special=True, normalized=False)])
    assert tokenizer.convert_tokens_to_ids(IMAGE) == VOCABULARY
    tokenizer.save_pretrained(tmp_path / "model")
    return ModelConfig(path=str(tmp_path / "model"), dtype="float32", max_context=64)


def test_it_is_accepted(model: ModelConfig) -> None:
    check_model(model)


def test_it_is_refused_where_the_chat_template_has_that_token(model: ModelConfig) -> None:
    template = Path(model.path) / "chat_template.jinja"
    template.write_text(IMAGE + template.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(ModelError, match=f"prompts or answers contain '{IMAGE}', token {VOCABULARY}"):
        check_model(model)


def test_weights_with_fewer_rows_than_the_vocabulary_are_those_of_another_model(model: ModelConfig) -> None:
    file = Path(model.path) / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"vocab_size": VOCABULARY - 1}), encoding="utf-8")
    with pytest.raises(ModelError, match="they belong to different models"):
        check_model(model)


def test_a_prompt_with_that_token_is_skipped_and_the_others_are_not(model: ModelConfig) -> None:
    texts = ("일본의 통화는?", f"{IMAGE} 이 그림은?", "태국의 통화는?")
    prompts = [Prompt(index=n, id=f"p{n}", language="ko", text=text) for n, text in enumerate(texts)]
    engine = TransformersEngine(model, ROLLOUT, EngineOptions())
    worker = RolloutWorker(engine, model, ROLLOUT, DetectorConfig(), seed=0)
    results = {result.prompt_index: result for result in worker.run_batch(prompts).results}
    assert sorted(results) == [0, 1, 2]
    assert [n for n in results if results[n].outcome is Outcome.SKIPPED] == [1]
    assert results[1].reason == UNKNOWN_TOKEN
    completions = worker.generate(prompts, samples=1, temperature=0.6, max_new_tokens=4, seed=0)
    assert [completion.prompt_index for completion in completions] == [0, 2]
