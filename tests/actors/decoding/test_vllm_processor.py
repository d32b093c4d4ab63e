"""The logits processor in vLLM's second model runner, which needs a GPU to run: rows, slots and drafted tokens.

The runner's own types, filled here; `test_engines` and `test_server` run the processor in the first runner for real.
"""

from __future__ import annotations

import gc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from actors.decoding.vllm_processor import LanguageProcessor, arguments_for, requested_rule
from actors.requests import DecodingRule
from actors.token_bytes import TokenBytes
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.flow.tokenizer import load_tokenizer

pytestmark = pytest.mark.slow  # importing vLLM takes seconds


class Config(SimpleNamespace):
    """Configuration of an engine; vLLM's own can be referred to weakly, too."""


@pytest.fixture
def config(tiny_model: Path) -> Config:
    model = SimpleNamespace(tokenizer=str(tiny_model), tokenizer_revision=None, trust_remote_code=False)
    return Config(model_config=model)


def context(slots: list[int], offsets: list[int], inputs: list[int]) -> Any:
    from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsContext

    rows = torch.tensor(slots)
    return LogitsContext(
        expanded_idx_mapping=rows, idx_mapping=rows.unique(), idx_mapping_np=np.unique(slots),
        expanded_local_pos=torch.tensor(offsets), input_ids=torch.tensor(inputs), pos=torch.zeros_like(rows),
        seq_lens_upper_bound_np=np.zeros(1),
    )  # fmt: skip


def states(tokens: dict[int, tuple[list[int], int]], size: int = 4, room: int = 32) -> Any:
    """Return the state of slots, given all tokens and the prompt's length of each."""
    table, lengths, prompts = (
        torch.zeros(size, room, dtype=torch.int32),
        torch.zeros(size, dtype=torch.int32),
        np.zeros(size),
    )
    for slot, (ids, prompt) in tokens.items():
        table[slot, : len(ids)] = torch.tensor(ids)
        lengths[slot], prompts[slot] = len(ids), prompt
    return SimpleNamespace(
        all_token_ids=SimpleNamespace(gpu=table),
        total_len=SimpleNamespace(gpu=lengths),
        prompt_len=SimpleNamespace(np=prompts),
    )


def parameters(rule: DecodingRule | None) -> Any:
    return SimpleNamespace(extra_args=None if rule is None else arguments_for(rule))


def test_each_slot_has_its_own_rule_and_its_own_unfinished_character(config: Config, tiny_model: Path) -> None:
    token_bytes = TokenBytes(load_tokenizer(ModelConfig(path=str(tiny_model))))
    single = {token_bytes[token]: token for token in range(400) if len(token_bytes[token]) == 1}
    hangul, han = "갈".encode(), "国".encode()
    begun = [single[bytes([byte])] for byte in hangul[:2]]
    processor = LanguageProcessor(config, states({0: ([9, 9, *begun], 2), 1: ([9, 9, 7], 2), 2: ([9, *begun], 3)}))
    korean, arabic = DecodingRule(method="mask", language="ko"), DecodingRule(method="mask", language="ar")
    assert processor.add_request(0, parameters(korean))
    assert processor.add_request(1, parameters(arabic))
    assert not processor.add_request(2, parameters(None))
    logits = torch.zeros(3, 400)
    processor.apply(logits, context([1, 0, 2], [0, 0, 0], [7, begun[-1], begun[-1]]))
    last, first_of_han = single[hangul[2:]], single[han[:1]]
    assert logits[1, last] == 0, "the character that slot 0 has begun may be completed"
    assert logits[1, single[b" "]] == float("-inf"), "and nothing else"
    assert logits[0, last] == float("-inf") and logits[0, first_of_han] == float("-inf")
    assert not logits[2].any(), "slot 2 asked for nothing, and its prompt is no answer"


def test_a_drafted_token_counts_as_part_of_the_answer(config: Config, tiny_model: Path) -> None:
    token_bytes = TokenBytes(load_tokenizer(ModelConfig(path=str(tiny_model))))
    single = {token_bytes[token]: token for token in range(400) if len(token_bytes[token]) == 1}
    first, second, last = (single[bytes([byte])] for byte in "갈".encode())
    processor = LanguageProcessor(config, states({3: ([9, first], 1)}))
    processor.add_request(3, parameters(DecodingRule(method="mask", language="ko")))
    logits = torch.zeros(3, 400)
    processor.apply(logits, context([3, 3, 3], [0, 1, 2], [first, second, last]))
    assert logits[0, second] == 0 and logits[0, single[b" "]] == float("-inf")
    assert logits[1, last] == 0 and logits[1, single[b" "]] == float("-inf")
    assert logits[2, single[b" "]] == 0, "behind two drafted tokens the character is complete"


def test_a_slot_that_is_used_again_keeps_nothing(config: Config) -> None:
    processor = LanguageProcessor(config, states({0: ([9], 1)}))
    processor.add_request(0, parameters(DecodingRule(method="mask", language="ko")))
    processor.add_request(0, parameters(None))
    logits = torch.zeros(1, 400)
    processor.apply(logits, context([0], [0], [9]))
    assert not logits.any()


def test_a_processor_that_is_loaded_twice_counts_once(config: Config) -> None:
    gc.collect()
    boost = parameters(DecodingRule(method="boost", language="ko", alpha=3.0))
    results = []
    for number in (1, 2):
        own = Config(model_config=config.model_config)
        loaded = [LanguageProcessor(own, states({0: ([9], 1)})) for _ in range(number)]
        logits = torch.zeros(1, 400)
        for processor in loaded:
            processor.add_request(0, boost)
            processor.apply(logits, context([0], [0], [9]))
        results.append(logits)
    assert torch.equal(*results)


def test_arguments_and_rules_are_the_same_thing() -> None:
    for rule in (
        DecodingRule(method="mask", language="zh-Hant", english="confusion"),
        DecodingRule(method="gate", language="ko", top_k=3),
        DecodingRule(method="boost", language="ar", alpha=2.5),
    ):
        assert requested_rule({"other": 1, **arguments_for(rule)}) == rule
    assert requested_rule(None) is None and requested_rule({"other": 1}) is None
