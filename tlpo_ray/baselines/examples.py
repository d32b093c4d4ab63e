"""What each method trains on: rendered prompts, and the policy's own answers where the method needs some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import detectors
from actors.chat import load_tokenizer, prompt_ids
from tlpo_ray.config.baseline import AnswersConfig, BaselineConfig
from tlpo_ray.config.run import DataConfig, DetectorConfig
from tlpo_ray.data.pairs import IsClean, Pair, PairSet, clean_answers, preference_pairs
from tlpo_ray.data.prompts import read_prompts
from tlpo_ray.evaluation.sampling import Sampling, sampled_answers
from tlpo_ray.flow.errors import PromptFileError, UserError
from tlpo_ray.flow.records import Prompt

Track = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """What one run trains on.

    `rows` are TRL's: `prompt` with `completion` (SFT), with `chosen` and `rejected` (DPO, ORPO), or with `language`
    (GRPO); texts as the policy sees them, end-of-text token included.
    """

    rows: tuple[dict[str, str], ...]
    counts: dict[str, int]
    """Prompts read, and those that gave no example, by reason."""


def examples(config: BaselineConfig, prompts: Sequence[Prompt], track: Track | None = None) -> Examples:
    """Sample where the method needs answers, and render.

    Raises:
        UserError: nothing is left to train on.
    """
    tokenizer = load_tokenizer(config.model)
    if config.method == "grpo":
        rendered = (
            {"prompt": render(tokenizer, config, prompt.text), "language": prompt.language} for prompt in prompts
        )
        return Examples(rows=tuple(rendered), counts={"prompts": len(prompts)})
    chosen = _reference(config) if config.answers.reference_field else _own(config, prompts, track)
    counts = {
        "prompts": len(prompts), "pairs": len(chosen.pairs), "all_clean": chosen.all_clean,
        "all_confused": chosen.all_confused, "unanswered": chosen.unanswered,
    }  # fmt: skip
    if not chosen.pairs:
        raise UserError(f"{config.method}: no example from {len(prompts)} prompts ({counts}): ask more prompts")
    rows = tuple(_row(config, tokenizer, pair) for pair in chosen.pairs)
    return Examples(rows=rows, counts=counts)


def render(tokenizer: Any, config: BaselineConfig, text: str) -> str:
    """A prompt as the policy gets it from `prompt_ids`: decoded with its special tokens."""
    rendered: str = tokenizer.decode(prompt_ids(tokenizer, config.model, text))
    return rendered


def clean_judge(detector: DetectorConfig) -> IsClean:
    """Whether an answer has no confusion in its prompt's language."""
    built: dict[str, detectors.Detector] = {}

    def is_clean(prompt: Prompt, answer: str) -> bool:
        if prompt.language not in built:
            built[prompt.language] = detectors.build_detector(
                detector.name, prompt.language, detector.english, detector.settings
            )
        return built[prompt.language].find(answer) is None

    return is_clean


def _row(config: BaselineConfig, tokenizer: Any, pair: Pair) -> dict[str, str]:
    prompt, end = render(tokenizer, config, pair.prompt), tokenizer.eos_token
    if config.method == "sft":
        return {"prompt": prompt, "completion": pair.chosen + end}
    return {"prompt": prompt, "chosen": pair.chosen + end, "rejected": pair.rejected + end}


def _own(config: BaselineConfig, prompts: Sequence[Prompt], track: Track | None) -> PairSet:
    answers = _sampled(config, prompts, config.answers, track)
    choose = clean_answers if config.method == "sft" else preference_pairs
    return choose(prompts, answers, clean_judge(config.detector), config.seed)


def _sampled(
    config: BaselineConfig, prompts: Sequence[Prompt], how: AnswersConfig, track: Track | None
) -> dict[int, list[str]]:
    sampling = Sampling(
        samples=how.samples, temperature=how.temperature, max_new_tokens=how.max_new_tokens, engine=how.engine,
        concurrency=how.concurrency, seed=config.seed,
    )  # fmt: skip
    answers: dict[int, list[str]] = {}
    for answer in sampled_answers(config.model, prompts, sampling, track):
        answers.setdefault(answer.prompt_index, []).append(answer.text)
    return answers


def _reference(config: BaselineConfig) -> PairSet:
    """The answers that stand beside the prompts in their file."""
    field = config.answers.reference_field
    assert field is not None
    answers = read_prompts(_beside(config.data, field), config.seed)
    asked = {prompt.id: prompt for prompt in read_prompts(config.data, config.seed).prompts}
    pairs = tuple(
        Pair(id=answer.id, language=answer.language, prompt=asked[answer.id].text, chosen=answer.text, rejected="")
        for answer in answers.prompts
        if answer.id in asked
    )
    if not pairs:
        raise PromptFileError(f"{config.data.prompts}: no answers in field {field!r}; check answers.reference_field")
    return PairSet(pairs=pairs, all_clean=0, all_confused=0, unanswered=len(asked) - len(pairs))


def _beside(data: DataConfig, field: str) -> DataConfig:
    """Reads another field of the same records as if it were the prompt: every check of records applies to it."""
    return data.model_copy(update={"prompt_field": field, "limit": None, "max_characters": 1 << 30, "skip_bad": True})
