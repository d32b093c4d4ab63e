"""What each method trains on: rendered prompts, with the policy's own answers where the method needs some."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import detectors
from tlpo_ray.baselines.answers import own_answers
from tlpo_ray.baselines.rendering import Rendering
from tlpo_ray.config.baseline import BaselineConfig
from tlpo_ray.config.run import DataConfig, DetectorConfig
from tlpo_ray.data.pairs import IsClean, Pair, PairSet, clean_answers, preference_pairs
from tlpo_ray.data.readers import read_records
from tlpo_ray.errors import PromptFileError, UserError
from tlpo_ray.evaluation.sampling import Track
from tlpo_ray.flow.records import Prompt

Row = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """What one run trains on.

    Example: ``Examples(rows=({"prompt": "…", "chosen": "…", "rejected": "…"},), counts={"prompts": 9, "used": 1,
    "all_clean": 8}, tokens=900)``
    """

    rows: tuple[Row, ...]
    """TRL's: `prompt` with `completion` (SFT), with `chosen` and `rejected` (DPO, ORPO), or with `language` (GRPO)."""
    counts: dict[str, int]
    """`prompts` read, `used` for an example each, and those that gave none, by reason; then answers left out."""
    tokens: int
    """Tokens sampled for them."""


def examples(config: BaselineConfig, prompts: Sequence[Prompt], track: Track) -> Examples:
    """Sample answers where the method needs some, choose among them and render.

    Args:
        track: told about sampling.

    Raises:
        PromptFileError: the field with reference answers is not there, or two prompts share a name.
        UserError: nothing is left to train on.
        TlpoError: see `own_answers`.
    """
    rendering = Rendering(config.model)
    counts, tokens = {"prompts": len(prompts)}, 0
    if config.method == "grpo":
        rows = [_prompt_row(rendering, prompt) for prompt in prompts]
    elif config.answers.reference_field is not None:
        pairs = _reference_pairs(config.data, config.answers.reference_field, prompts)
        counts["unanswered"] = len(prompts) - len(pairs)
        rows = [_pair_row(rendering, pair) for pair in pairs]
    else:
        own = own_answers(config, prompts, track)
        choose = clean_answers if config.method == "sft" else preference_pairs
        chosen = choose(prompts, own.whole.texts, clean_judge(config.detector), config.seed)
        rows, tokens = [_pair_row(rendering, pair) for pair in chosen.pairs], own.tokens
        counts |= _dropped(chosen) | {"answers_cut_off": own.whole.cut_off, "answers_blank": own.whole.blank}
    usable = tuple(row for row in rows if row is not None)
    counts |= {"used": len(usable), "not_renderable": len(rows) - len(usable)}
    if not usable:
        raise UserError(f"{config.method}: no example from {len(prompts)} prompts ({_told(counts)}); {_advice(config)}")
    return Examples(rows=usable, counts=counts, tokens=tokens)


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


def _prompt_row(rendering: Rendering, prompt: Prompt) -> Row | None:
    rendered = rendering.prompt(prompt.text)
    return None if rendered is None else {"prompt": rendered, "language": prompt.language}


def _pair_row(rendering: Rendering, pair: Pair) -> Row | None:
    rendered = rendering.prompt(pair.prompt)
    if rendered is None:
        return None
    if not pair.rejected:
        return {"prompt": rendered, "completion": rendering.answer(pair.chosen)}
    return {
        "prompt": rendered, "chosen": rendering.answer(pair.chosen), "rejected": rendering.answer(pair.rejected)
    }  # fmt: skip


def _reference_pairs(data: DataConfig, field: str, prompts: Sequence[Prompt]) -> list[Pair]:
    """The answers that stand beside the prompts in their file; prompts without one give none."""
    keys = {(prompt.language, prompt.id) for prompt in prompts}
    if len(keys) < len(prompts):
        raise PromptFileError(
            f"{data.prompts}: several prompts of a language share a name in field {data.id_field!r}, so their answers "
            f"cannot be told apart; set data.id_field"
        )
    answers = {(language, name): answer for language, name, answer in _answers(data, field)}
    if not answers.keys() & keys:
        raise PromptFileError(f"{data.prompts}: no answers in field {field!r}; check answers.reference_field")
    return [
        Pair(id=prompt.id, language=prompt.language, prompt=prompt.text, chosen=answer, rejected="")
        for prompt in prompts
        if (answer := answers.get((prompt.language, prompt.id))) is not None
    ]


def _answers(data: DataConfig, field: str) -> Iterator[tuple[str, str, str]]:
    """(language, name, answer) of every record that has an answer."""
    for record in read_records(data.prompts, data.subset, data.split):
        fields = record.fields or {}
        answer, name = fields.get(field), fields.get(data.id_field)
        language = fields.get(data.language_field) or data.language
        if isinstance(answer, str) and answer.strip():
            yield str(language), record.name if name is None else str(name), answer


def _dropped(pairs: PairSet) -> dict[str, int]:
    return {"all_clean": pairs.all_clean, "all_confused": pairs.all_confused, "unanswered": pairs.unanswered}


def _told(counts: dict[str, int]) -> str:
    return ", ".join(
        f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count and name != "prompts"
    )


def _advice(config: BaselineConfig) -> str:
    return {
        "sft": "ask more prompts or raise answers.samples or answers.max_new_tokens",
        "grpo": "check model.chat_template_kwargs",
    }.get(config.method, "pairs need a clean and a confused answer to one prompt: ask more or raise answers.samples")
