"""Answers that are cut short while they are clean (`rollout.truncation`), on a tiny random model."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.engine import EngineOptions, TokenEngine
from actors.hf_engine import TransformersEngine
from actors.worker import RolloutWorker
from tlpo_ray.config.detector import DetectorConfig
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import RolloutConfig, TruncationConfig
from tlpo_ray.flow.records import Outcome, Prompt, RolloutReport
from tlpo_ray.flow.truncation import Truncation

SEED, WHOLE, CUT = 3, 24, 3
PROMPTS = [
    Prompt(index=number, id=f"p{number}", language=language, text=text)
    for number, (language, text) in enumerate([("ko", "일본의 통화는 무엇입니까?"), ("ar", "ما هي عملة اليابان؟")] * 16)
]
SIGNAL = {Outcome.CONFUSED, Outcome.UNINFORMATIVE}


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> ModelConfig:
    return ModelConfig(path=str(tiny_model), dtype="float32", max_context=96)


@pytest.fixture(scope="module")
def engine(model: ModelConfig) -> TokenEngine:
    return TransformersEngine(model, RolloutConfig(max_new_tokens=WHOLE), EngineOptions())


def rolled_out(engine: TokenEngine, model: ModelConfig, truncation: TruncationConfig | None) -> RolloutReport:
    rollout = RolloutConfig(engine="transformers", max_new_tokens=WHOLE, truncation=truncation)
    return RolloutWorker(engine, model, rollout, DetectorConfig(), SEED).run_batch(PROMPTS)


def test_an_answer_is_cut_only_while_it_is_clean(engine: TokenEngine, model: ModelConfig) -> None:
    """Whatever begins before the cut is found where it is found in the whole answer; the rest gives no signal."""
    whole = rolled_out(engine, model, None)
    cut = rolled_out(engine, model, TruncationConfig(max_new_tokens=CUT, probability=1.0))
    points = {group.prompt_index: len(group.context_ids) - group.prompt_length for group in whole.groups}
    early = {index for index, c in points.items() if c < CUT - 1}  # a character may need a token more
    outcomes = {result.prompt_index: result.outcome for result in cut.results}
    assert early and len(early) < len(points), "some points lie before the cut, some behind it"
    assert {group.prompt_index for group in cut.groups} >= early
    for group in cut.groups:
        assert len(group.context_ids) - group.prompt_length == points[group.prompt_index]
    late = {index for index, c in points.items() if c >= CUT}
    assert {outcomes[index] for index in late} == {Outcome.TRUNCATED}
    assert cut.stats.tokens_generated < whole.stats.tokens_generated


def test_rates_count_only_answers_that_were_not_to_be_cut(engine: TokenEngine, model: ModelConfig) -> None:
    whole = rolled_out(engine, model, None)
    settings = TruncationConfig(max_new_tokens=CUT, probability=0.5)
    mixed = rolled_out(engine, model, settings)
    truncation = Truncation(max_new_tokens=CUT, probability=0.5, seed=SEED)
    kept = {prompt.index for prompt in PROMPTS if not truncation.applies_to(prompt.index)}
    expected = {result.prompt_index: result.outcome for result in whole.results if result.prompt_index in kept}
    assert 0 < len(kept) < len(PROMPTS)
    assert {r.prompt_index: r.outcome for r in mixed.results if r.prompt_index in kept} == expected
    assert mixed.stats.sampled == len(kept)
    assert mixed.stats.clean == sum(outcome is Outcome.CLEAN for outcome in expected.values())
    assert sum(sampled for sampled, _ in mixed.stats.by_language.values()) == len(kept)


def test_the_share_of_answers_that_are_cut_is_as_asked_and_depends_on_the_seed() -> None:
    first, second = (Truncation(max_new_tokens=8, probability=0.75, seed=seed) for seed in (0, 1))
    chosen = [first.applies_to(index) for index in range(4000)]
    assert 0.72 < sum(chosen) / len(chosen) < 0.78
    assert chosen == [first.applies_to(index) for index in range(4000)]
    assert chosen != [second.applies_to(index) for index in range(4000)]
