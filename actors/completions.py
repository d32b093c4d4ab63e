"""Complete answers, for evaluation: sampled as the model has them, or with a decoding method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from actors.confusion import AnswerText, answer_ids, cut_at_stop_string
from actors.coroutine import RolloutCoroutine
from actors.decoding.retry import sample_with_retries
from actors.requests import SampleRequest, decoding_rule
from actors.rollout import RenderedPrompt, derive_seed
from actors.token_bytes import TokenBytes
from detectors import English
from detectors.segments import Part
from tlpo_ray.cluster.progress import WorkClock
from tlpo_ray.config.decoding import DecodingConfig
from tlpo_ray.flow.records import readable


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A complete sampled answer, for evaluation."""

    prompt_index: int
    sample: int
    """Number of this answer among those to the same prompt, from 0."""
    text: str
    token_ids: tuple[int, ...]
    finished: bool
    """Whether the model ended the answer, or a stop string did; False when it reached the token limit."""
    begins_in: Part = "answer"
    """Part of the answer that it begins in: thoughts, if the prompt has opened them."""
    tokens_sampled: int = 0
    """Tokens that were sampled for it: more than it has where tokens were taken back."""
    retries: int = 0
    """Tokens that were taken back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerSettings:
    """How complete answers are sampled."""

    temperature: float
    """Sampling temperature; 0 is greedy."""
    max_new_tokens: int
    """Maximum length of an answer in tokens."""
    seed: int
    """Seed of the evaluation; an answer's own is derived from it, its prompt and its number."""
    decoding: DecodingConfig
    english: English = "neutral"
    """Meaning of English words to the rules of a decoding method."""


def complete_answer(
    rendered: RenderedPrompt,
    sample: int,
    settings: AnswerSettings,
    room: int,
    token_bytes: TokenBytes,
    stop_strings: Sequence[str],
    clock: WorkClock,
) -> RolloutCoroutine[Completion]:
    """Sample one complete answer.

    Args:
        rendered: Prompt with room for an answer.
        sample: Number of this answer among those to the same prompt.
        settings: How it is sampled.
        room: Tokens that the context has left for the answer.
        token_bytes: Bytes of the tokenizer's tokens.
        stop_strings: Texts that end the answer (`model.stop_strings`).
        clock: Noted whenever the answer grows.

    Raises:
        Exception: Whatever the detector raises, if the decoding method asks it.
    """
    decoding, prompt = settings.decoding, rendered.prompt
    request = SampleRequest(
        prompt_ids=rendered.prompt_ids,
        max_new_tokens=min(settings.max_new_tokens, room),
        temperature=0 if decoding.method == "greedy" else settings.temperature,
        seed=derive_seed(settings.seed, prompt.index, sample),
        stop_condition=partial(_note_tokens, clock, AnswerText(token_bytes, stop_strings)),
        rule=decoding_rule(decoding, prompt.language, settings.english),
    )
    if decoding.method == "retry":
        retried = yield from sample_with_retries(
            request, rendered.detector, token_bytes, stop_strings, decoding.max_retries, clock
        )
        token_ids, tokens_sampled, retries = retried.token_ids, retried.tokens_sampled, retried.retries
    else:
        token_ids = yield request
        tokens_sampled, retries = len(token_ids), 0
    text = token_bytes.text(token_ids)
    answer = cut_at_stop_string(text, stop_strings)
    return Completion(
        prompt_index=prompt.index,
        sample=sample,
        text=readable(answer),
        token_ids=tuple(answer_ids(token_ids, token_bytes, stop_strings)),
        finished=len(answer) < len(text) or len(token_ids) < request.max_new_tokens,
        tokens_sampled=tokens_sampled,
        retries=retries,
    )


def _note_tokens(clock: WorkClock, answer: AnswerText, new_ids: Sequence[int]) -> bool:
    """Note that an answer has grown; return whether a stop string ends it."""
    clock.note()
    return answer.stop_condition(new_ids)
