"""Training examples of each method: rendered prompts, with the policy's own answers where the method needs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tlpo_ray.baselines.answers import own_answers
from tlpo_ray.baselines.rendering import Rendering
from tlpo_ray.config.baseline import BaselineConfig
from tlpo_ray.config.detector import DetectorConfig
from tlpo_ray.config.run import DataConfig
from tlpo_ray.data.conversations import CONVERSATION_FIELDS, answer_text
from tlpo_ray.data.pairs import IsClean, Pair, PairSet, clean_answers, preference_pairs
from tlpo_ray.data.prompts import Reading, each_prompt
from tlpo_ray.errors import PromptFileError, UserError
from tlpo_ray.evaluation.keeping import judging
from tlpo_ray.evaluation.sampling import OnProgress
from tlpo_ray.flow.records import Prompt

Row = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Training data of one run.

    Example: ``Examples(rows=({"prompt": "…", "chosen": "…", "rejected": "…"},), counts={"prompts": 9, "used": 1,
    "all_clean": 8}, tokens=900)``
    """

    rows: tuple[Row, ...]
    """TRL's columns: `prompt` with `completion` (SFT), with `chosen` and `rejected` (DPO, ORPO), or with `language`
    (GRPO)."""
    counts: dict[str, int]
    """Number of `prompts` read, of those `used` for one example each, and of those without an example, by reason; then
    of the answers that were left out, by reason."""
    tokens: int
    """Number of tokens sampled for the examples."""


def build_examples(config: BaselineConfig, prompts: Sequence[Prompt], on_progress: OnProgress) -> Examples:
    """Sample answers if the method needs them, choose among them and render prompts and answers for TRL.

    Args:
        config: The run.
        prompts: Its prompts.
        on_progress: Called with (prompts answered, all prompts) while answers are sampled.

    Raises:
        PromptFileError: The field with reference answers does not exist, or two prompts have the same id.
        UserError: There is nothing to train on.
        TlpoError: See `sample_own_answers`.
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
        choose = clean_answers if config.method == "sft" else preference_pairs
        with own_answers(config, prompts, on_progress) as own:
            usable, tokens = own.usable, own.tokens
            chosen = choose(prompts, usable.texts, clean_judge(config.detector), config.seed)
        rows = [_pair_row(rendering, pair) for pair in chosen.pairs]
        counts |= _unused(chosen) | {"answers_cut_off": usable.cut_off, "answers_blank": usable.blank}
    rendered = [row for row in rows if row is not None]
    limit = _prompt_limit(config)
    used = tuple(row for row in rendered if limit is None or rendering.length(row["prompt"]) < limit)
    counts |= {
        "used": len(used), "not_renderable": len(rows) - len(rendered), "prompt_too_long": len(rendered) - len(used),
    }  # fmt: skip
    if not used:
        raise UserError(
            f"{config.method}: no example from {len(prompts)} prompts ({_summary(counts)}); {_advice(config, counts)}"
        )
    return Examples(rows=used, counts=counts, tokens=tokens)


def _prompt_limit(config: BaselineConfig) -> int | None:
    """Return the length of a prompt in tokens that leaves no room for an answer; None if there is none.

    Of longer prompts TRL would remove the example, without a count (DPO, SFT), or train on an empty answer (ORPO). GRPO
    does not cut, so there the model's context is the limit, as it is when answers are sampled before training.
    """
    if config.method == "grpo":
        return config.model.max_context
    extra = config.trainer.extra
    if extra.get("truncation_mode") == "keep_end":  # then the beginning of the prompt is cut off
        return None
    limit: int | None = extra.get("max_length", config.trainer.max_length)
    return limit


def clean_judge(detector: DetectorConfig) -> IsClean:
    """Return a function that decides whether an answer has no confusion, by the detector of its prompt's language.

    The function raises JudgeError if the detector fails on an answer.
    """
    detectors = detector.detectors()

    def is_clean(prompt: Prompt, answer: str) -> bool:
        with judging(f"an answer to {prompt.id!r} in {prompt.language}"):
            return detectors[prompt.language].find(answer) is None

    return is_clean


def _prompt_row(rendering: Rendering, prompt: Prompt) -> Row | None:
    rendered = rendering.prompt(prompt.content)
    return None if rendered is None else {"prompt": rendered, "language": prompt.language}


def _pair_row(rendering: Rendering, pair: Pair) -> Row | None:
    rendered = rendering.prompt(pair.prompt)
    names = ("chosen", "rejected") if pair.rejected else ("completion",)
    answers = [rendering.answer(text) for text in (pair.chosen, pair.rejected)[: len(names)]]
    if rendered is None or not all(rendering.joins(rendered, answer) for answer in answers):
        return None
    return {"prompt": rendered, **dict(zip(names, answers, strict=True))}


def _reference_pairs(data: DataConfig, field: str, prompts: Sequence[Prompt]) -> list[Pair]:
    """Return the answers in the prompt file as pairs without a rejected one; prompts without an answer have none."""
    keys = {(prompt.language, prompt.id) for prompt in prompts}
    if len(keys) < len(prompts):
        raise PromptFileError(
            f"{data.prompts}: several prompts of a language share a name in field {data.id_field!r}, so their answers "
            f"cannot be told apart; set data.id_field"
        )
    answers = {
        (reading.prompt.language, reading.prompt.id): answer
        for reading in each_prompt(data)
        if reading.prompt is not None and (answer := _reference_answer(reading, field)) is not None
    }
    if not answers.keys() & keys:
        raise PromptFileError(f"{data.prompts}: no answers in field {field!r}; check answers.reference_field")
    return [
        Pair(id=prompt.id, language=prompt.language, prompt=prompt.content, chosen=answer, rejected="")
        for prompt in prompts
        if (answer := answers.get((prompt.language, prompt.id))) is not None
    ]


def _reference_answer(reading: Reading, field: str) -> str | None:
    """Return the answer in a field; of a field with conversations, the answer that this one ended with."""
    if field in CONVERSATION_FIELDS:
        return answer_text(reading.answer)
    return answer_text((reading.record.fields or {}).get(field))


def _unused(pairs: PairSet) -> dict[str, int]:
    return {"all_clean": pairs.all_clean, "all_confused": pairs.all_confused, "unanswered": pairs.unanswered}


def _summary(counts: dict[str, int]) -> str:
    return ", ".join(
        f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count and name != "prompts"
    )


def _advice(config: BaselineConfig, counts: dict[str, int]) -> str:
    if counts["prompt_too_long"]:
        return (
            f"raise {'model.max_context' if config.method == 'grpo' else 'trainer.max_length'} or use shorter prompts"
        )
    return {
        "sft": "use more prompts, or raise answers.samples or answers.max_new_tokens",
        "grpo": "check model.chat_template_kwargs",
    }.get(
        config.method,
        "a pair needs a clean and a confused answer to the same prompt: use more prompts or raise answers.samples",
    )
