"""Stage 1: one answer per prompt, watched while it is sampled and aborted at its confusion point."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import detectors
from actors.confusion import ConfusionPoint, StreamingDetector, answer_ids, confusion_point
from actors.coroutine import RolloutCoroutine
from actors.engine import TokenEngine
from actors.requests import SampleRequest
from actors.token_bytes import TokenBytes
from tlpo_ray.config.run import RolloutConfig
from tlpo_ray.flow.records import Prompt
from tlpo_ray.flow.truncation import Truncation


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedPrompt:
    """A prompt as tokens of the policy, with the detector for its answer."""

    prompt: Prompt
    prompt_ids: tuple[int, ...]
    detector: detectors.Detector


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A prompt with its sampled answer."""

    prompt: Prompt
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    """The answer, up to its first stop string; may extend beyond the confusion point by the tokens sampled before the
    abort took effect."""
    point: ConfusionPoint | None
    """Confusion point of the answer; None if it is clean."""
    whole: bool = True
    """Whether it was to be sampled to its end (`rollout.truncation`)."""
    truncated: bool = False
    """Whether it was cut short, and is clean so far."""


def sample_answer(
    rendered: RenderedPrompt,
    engine: TokenEngine,
    token_bytes: TokenBytes,
    config: RolloutConfig,
    run_seed: int,
    stop_strings: Sequence[str] = (),
    truncation: Truncation | None = None,
) -> RolloutCoroutine[Rollout]:
    """Sample one answer at `config.temperature`, without log-probabilities.

    It is aborted at its confusion point, or at a stop string.

    Args:
        rendered: Prompt with room for an answer in the engine's context.
        engine: Engine that will run the coroutine.
        token_bytes: Bytes of the tokenizer's tokens.
        config: Sampling settings.
        run_seed: Seed of the run; together with prompt and policy version it seeds the answer.
        stop_strings: Texts that end the answer (`model.stop_strings`).
        truncation: Decides whether the answer is cut short, and where; None samples it to its end.

    Raises:
        Exception: Whatever the detector raises.
    """
    streaming = StreamingDetector(token_bytes, rendered.detector, stop_strings)
    limit = min(config.max_new_tokens, engine.max_context - len(rendered.prompt_ids))
    whole = truncation is None or not truncation.applies_to(rendered.prompt.index)
    if truncation is not None and not whole:
        limit = min(limit, truncation.max_new_tokens)
    token_ids: list[int] = yield SampleRequest(
        prompt_ids=rendered.prompt_ids,
        max_new_tokens=limit,
        temperature=config.temperature,
        seed=derive_seed(run_seed, rendered.prompt.index, engine.version) if config.reproducible else None,
        stop_condition=streaming.stop_condition,
    )
    if streaming.error is not None:
        raise streaming.error
    # The detector runs a second time, over the complete text. The streaming run only decides when to stop: it reports
    # nothing before a confusion is certain, whereas an answer that ended by itself is judged as it is. And one rule for
    # the point, a function of the sampled tokens, is easier to test and to repeat than two.
    point = confusion_point(token_ids, token_bytes, rendered.detector, stop_strings)
    return Rollout(
        prompt=rendered.prompt,
        prompt_ids=rendered.prompt_ids,
        token_ids=tuple(answer_ids(token_ids, token_bytes, stop_strings)),
        point=point,
        whole=whole,
        truncated=not whole and point is None and len(token_ids) >= limit,
    )


def derive_seed(*parts: int) -> int:
    """Return a seed (0 to 2^31 - 1) that depends on all parts and on nothing else: it is equal on every machine."""
    digest = hashlib.blake2b(",".join(map(str, parts)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1
