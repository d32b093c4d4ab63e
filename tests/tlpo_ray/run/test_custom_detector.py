"""TLPO against an error that is not about language: a model that writes "asap" learns to spell it out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from actors.completions import Completion
from actors.worker import build_worker
from detectors import TermsDetector
from tlpo_ray.config.load import load_config
from tlpo_ray.config.run import RunConfig
from tlpo_ray.flow.records import Prompt
from tlpo_ray.quickstart.toy_model import CHAT_TEMPLATE, ToyRecipe, build_model, train_model
from tlpo_ray.run.training import run_training

pytestmark = pytest.mark.slow

NOUNS = (
    "order parcel invoice letter book chair table lamp engine ticket report sample carpet mirror blanket basket "
    "contract camera guitar kettle ladder magnet needle pillow"
)
THINGS = NOUNS.split()
JARGON, PLAIN = "asap", "as soon as possible"
JARGON_SHARE = 0.4
SAMPLES = 16
BATCH = 8
SPECIAL = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"]


def question(thing: str) -> str:
    return f"When does {thing} go out?"


def answer(thing: str, when: str) -> str:
    return f"The {thing} goes out {when}."


def tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [text for thing in THINGS for text in (question(thing), answer(thing, JARGON), answer(thing, PLAIN))]
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=SPECIAL[0], eos_token=SPECIAL[1], chat_template=CHAT_TEMPLATE
    )


class Lessons:
    """Every question in random order, with jargon in a share of the answers."""

    def __init__(self, words: Any, rounds: int) -> None:
        self._words, self._rounds, self._random = words, rounds, Random(0)

    def __len__(self) -> int:
        return self._rounds * -(-len(THINGS) // BATCH)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for _ in range(self._rounds):
            order = self._random.sample(THINGS, len(THINGS))
            for start in range(0, len(order), BATCH):
                yield self._batch(order[start : start + BATCH])

    def _batch(self, things: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        texts = []
        for thing in things:
            when = JARGON if self._random.random() < JARGON_SHARE else PLAIN
            texts.append(f"<|user|>{question(thing)}<|end|><|assistant|>{answer(thing, when)}<|end|>")
        ids = self._words(texts, padding=True, return_tensors="pt", padding_side="right")["input_ids"]
        return ids, ids.masked_fill(ids == self._words.pad_token_id, -100)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "jargon"
    words, recipe = tokenizer(), ToyRecipe(num_layers=2, hidden_size=64, num_heads=4, intermediate_size=128, lr=3e-3)
    made = build_model(words, recipe, seed=0)
    train_model(made, Lessons(words, rounds=400), recipe, lambda share, loss: None)  # type: ignore[arg-type]
    made.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def sample(config: RunConfig, folder: Path) -> list[Completion]:
    prompts = [Prompt(index=i, id="", language="en", text=question(thing)) for i, thing in enumerate(THINGS)]
    model = config.model.model_copy(update={"path": str(folder)})
    worker = build_worker(model, config.rollout, config.detector, seed=1)
    return worker.generate(prompts, SAMPLES, config.rollout.temperature, config.rollout.max_new_tokens, seed=7)


def shares(completions: Sequence[Completion]) -> tuple[float, float]:
    """Return the shares of answers with jargon and of answers that name their thing."""
    forbidden = TermsDetector(terms=[JARGON])
    jargon = sum(forbidden.find(answer.text) is not None for answer in completions)
    right = sum(THINGS[answer.prompt_index] in answer.text for answer in completions)
    return jargon / len(completions), right / len(completions)


def test_a_forbidden_term_is_unlearned_and_nothing_else(model: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    rows = [{"language": "en", "prompt": question(thing)} for _ in range(40) for thing in THINGS]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = load_config(
        "quickstart",
        [
            "stack=local", "rollout.engine=transformers", "learner.engine=torch", f"model.path={model}",
            f"data.prompts={prompts}", f"folder={tmp_path / 'run'}", "detector.name=terms",
            f"detector.settings.terms=[{JARGON}]", "rollout.max_new_tokens=32",
        ],
    )  # fmt: skip
    jargon_before, right_before = shares(sample(config, model))
    assert jargon_before > 0.2 and right_before > 0.9
    result = run_training(config)
    jargon, right = shares(sample(config, tmp_path / "run" / "model"))
    assert jargon < jargon_before / 5
    assert right > right_before - 0.02
    learned = pq.read_table(tmp_path / "run" / "experiences")
    assert learned.num_rows == result.confusion_points
    assert set(learned.column("span_kind").to_pylist()) == {"term"}
    assert set(learned.column("detector_version").to_pylist()) == {TermsDetector(terms=[JARGON]).version}
