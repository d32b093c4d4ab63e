"""A model that thinks before it answers, and mixes languages in both: only the part that is judged is repaired."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

import detectors
from actors.chat import prompt_ids
from actors.token_bytes import TokenBytes
from actors.worker import build_worker
from detectors import SegmentedDetector, build_detector
from detectors.detector import without_unfinished
from detectors.markers import all_markers
from detectors.scripts import script_of
from tests.small_run import LOCAL, run, run_config
from tests.tiny import CHAT_TEMPLATE, make_tiny_model
from tlpo_ray.config.detector import DetectorConfig, SegmentsConfig
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import RolloutConfig
from tlpo_ray.files import read_json
from tlpo_ray.flow.records import Prompt, read_experiences, readable
from tlpo_ray.flow.tokenizer import load_tokenizer

pytestmark = pytest.mark.slow

PROMPTS = [f"통화 {number}" for number in range(8)]
THOUGHTS, ANSWERS = ("I see it", "I see это"), ("엔입니다", "Ен입니다")
"""What the model has learned to think and to answer, the clean one first, each in half of the cases."""
JUDGED = build_detector("language", "ko", segments={"thoughts": "en"})
STEPS, BATCH, LENGTH = 320, 16, 64
IGNORED = -100


@pytest.fixture(scope="module", params=[False, True], ids=["the model opens its thoughts", "the prompt opens them"])
def thinker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny model that has learned to think, with a chat template that may open the thoughts."""
    from transformers import AutoModelForCausalLM

    folder = make_tiny_model(tmp_path_factory.mktemp("thinker"))
    opened = "<think>" if request.param else ""
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE.replace("assistant\n{%", f"assistant\n{opened}{{%"))
    model_config = ModelConfig(path=str(folder), max_context=128, dtype="float32")
    tokenizer = load_tokenizer(model_config)
    rows = []
    for prompt, thought, answer in itertools.product(PROMPTS, THOUGHTS, ANSWERS):
        asked = prompt_ids(tokenizer, model_config, prompt)
        written = "<think>" * (not opened) + f"{thought}</think>{answer}<|im_end|>"
        rows.append((asked, tokenizer(written, add_special_tokens=False)["input_ids"]))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    drawn = random.Random(0)
    for _ in range(STEPS):
        batch = drawn.choices(rows, k=BATCH)
        ids = torch.tensor([(asked + written + [0] * LENGTH)[:LENGTH] for asked, written in batch])
        labels = torch.full_like(ids, IGNORED)
        for row, (asked, written) in zip(labels, batch, strict=True):
            row[len(asked) : len(asked) + len(written)] = torch.tensor(written)
        logits = model(input_ids=ids).logits[:, :-1]
        cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    return folder


def confused_parts(model: Path) -> Counter[str]:
    """Return in how many of 128 sampled answers each part is confused."""
    prompts = [Prompt(index=i, id=f"p{i}", language="ko", text=text) for i, text in enumerate(PROMPTS)]
    config = ModelConfig(path=str(model), max_context=128, dtype="float32")
    rollout = RolloutConfig(engine="transformers", concurrency=64, max_new_tokens=40)
    worker = build_worker(config, rollout, DetectorConfig(segments=SegmentsConfig()), 0)
    confused: Counter[str] = Counter()
    for completion in worker.generate(prompts, 16, 1.0, 40, 0):
        detector = detectors.for_answer(JUDGED, completion.text)
        assert isinstance(detector, SegmentedDetector)
        confused.update(part for part, counts in detector.count_parts(completion.text).items() if counts.confused_words)
    worker.close()
    return confused


def whole(text: str) -> str:
    """Return a text without the bytes that are no characters, of which a hot model writes some."""
    return readable(text).replace("\ufffd", "")


@pytest.mark.parametrize(("judged", "left"), [("thoughts", "answer"), ("answer", "thoughts")])
def test_only_the_part_that_is_judged_is_repaired(judged: str, left: str, thinker: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    rows = [{"id": f"p{i}", "language": "ko", "prompt": PROMPTS[i % len(PROMPTS)]} for i in range(240)]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    segments = "{thoughts: en, answer: exempt}" if judged == "thoughts" else "{thoughts: exempt}"
    settings = {
        "detector.segments": segments, "data.languages": "[ko]", "rollout.temperature": 1.0,
        "rollout.max_new_tokens": 40, "rollout.lookahead_tokens": 6, "learner.lr": 1e-3, "learner.lr_min": 1e-3,
        "learner.beta": 0.0,
    }  # fmt: skip
    before = confused_parts(thinker)
    assert all(0.2 < before[part] / 128 < 0.8 for part in (judged, left)), before
    config = run_config(thinker, prompts, tmp_path / "run", **{**LOCAL, **settings})
    run(config)
    after = confused_parts(tmp_path / "run" / "model")
    assert after[judged] < 0.1 * 128, (before, after)
    assert abs(after[left] - before[left]) < 0.2 * 128, (before, after)

    result = read_json(tmp_path / "run" / "result.json")
    assert set(result["confused_in"]) == {judged}
    # Answers whose groups were surplus to an update were sampled again, and count each time.
    counted = result["prompts"]["confused"] + result["prompts"]["uninformative"] + result["prompts_rerolled"]
    assert result["confused_in"][judged] == counted
    token_bytes = TokenBytes(load_tokenizer(config.model), visible=all_markers().kinds)
    right = "Latin" if judged == "thoughts" else "Hangul"
    for group in read_experiences(tmp_path / "run" / "experiences"):
        # c is the first token of the wrong word, wherever in the answer that is.
        assert script_of(group.response[group.span_start]) not in (right, "Common")
        before = token_bytes.text(group.context_ids[group.prompt_length :])
        assert whole(group.response[: group.span_start]).startswith(whole(without_unfinished(before)))
