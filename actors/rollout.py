"""Stage 1: one answer a prompt, watched while it is sampled and aborted at its confusion point."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import detectors
from actors.confusion import ConfusionPoint, ConfusionWatch, confusion_point
from actors.engine import SampleRequest, TokenEngine
from actors.tasks import Sample, Task
from actors.token_bytes import TokenBytes
from tlpo_ray.config.run import RolloutConfig
from tlpo_ray.flow.records import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A prompt with its sampled answer.

    `token_ids` may go beyond the confusion point by what was sampled before the abort took effect.
    """

    prompt: Prompt
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    point: ConfusionPoint | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A prompt as the engine gets it."""

    prompt: Prompt
    prompt_ids: tuple[int, ...]
    detector: detectors.Detector


def sampled(
    question: Question, engine: TokenEngine, token_bytes: TokenBytes, config: RolloutConfig, run_seed: int
) -> Task[Rollout]:
    """One answer at `config.temperature`, without log-probabilities, aborted at its confusion point.

    Raises:
        Exception: what the detector raises.
    """
    request = SampleRequest(
        prompt_ids=question.prompt_ids,
        max_new_tokens=min(config.max_new_tokens, engine.max_context - len(question.prompt_ids)),
        temperature=config.temperature,
        seed=answer_seed(run_seed, question.prompt.index, engine.version) if config.reproducible else None,
    )
    watch = ConfusionWatch(token_bytes, question.detector)
    token_ids = yield Sample(request=request, watch=watch.push)
    if watch.error is not None:
        raise watch.error
    return Rollout(
        prompt=question.prompt,
        prompt_ids=question.prompt_ids,
        token_ids=tuple(token_ids),
        point=confusion_point(token_ids, token_bytes, question.detector),
    )


def answer_seed(*parts: int) -> int:
    """A seed (0 to 2^31 - 1) that depends on all parts and on nothing else: equal on every machine."""
    digest = hashlib.blake2b(",".join(map(str, parts)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1
