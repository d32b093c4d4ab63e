"""The policy's own answers to the prompts, sampled before training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tlpo_ray.config.baseline import BaselineConfig
from tlpo_ray.config.plugins import ROLLOUT_ENGINES, load_plugin
from tlpo_ray.data.pairs import UsableAnswers, usable_answers
from tlpo_ray.errors import TlpoError
from tlpo_ray.evaluation.keeping import answer_row, kept
from tlpo_ray.evaluation.own_process import run_in_own_process
from tlpo_ray.evaluation.sampling import OnProgress, Sampling, sample_completions
from tlpo_ray.files import read_json_lines
from tlpo_ray.flow.records import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnAnswer:
    """One sampled answer of the policy that is about to be trained."""

    index: int
    """Index of its prompt."""
    sample: int
    """Number of this answer among those to the same prompt, from 0."""
    answer: str
    finished: bool
    """Whether the model ended the answer itself."""
    tokens: int
    """Length of the answer in tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnAnswers:
    """Sampled answers of the policy that is about to be trained."""

    answers: tuple[OwnAnswer, ...]

    @property
    def usable(self) -> UsableAnswers:
        """The answers that may be trained on."""
        return usable_answers((answer.index, answer.answer, answer.finished) for answer in self.answers)

    @property
    def tokens(self) -> int:
        """Number of tokens sampled, including those of answers that are not usable."""
        return sum(answer.tokens for answer in self.answers)


@contextmanager
def own_answers(config: BaselineConfig, prompts: Sequence[Prompt], on_progress: OnProgress) -> Iterator[OwnAnswers]:
    """Sample answers, and keep them beside the run's folder until the block has judged them.

    If an earlier attempt with the same model, prompts and settings has left its answers there, they are taken.

    Args:
        config: The run.
        prompts: Prompts to answer.
        on_progress: Called with (prompts answered, all prompts).

    Raises:
        JudgeError: The block cannot judge an answer; the message says where the answers are.
        TlpoError: See `sample_own_answers`.
    """
    file = config.folder.with_name(f"{config.folder.name}.answers.jsonl")
    key = _key(config, prompts)
    own = _left_by_earlier_attempt(file, key) or sample_own_answers(config, prompts, on_progress)
    by_index = {prompt.index: prompt for prompt in prompts}
    rows = [
        answer_row(by_index[answer.index], answer.sample, answer.answer, finished=answer.finished, tokens=answer.tokens)
        | {"index": answer.index, "key": key}
        for answer in own.answers
    ]
    with kept(file, rows, "the same command continues from them", remove=True):
        yield own


def _key(config: BaselineConfig, prompts: Sequence[Prompt]) -> str:
    """Return a digest of everything that decides what the answers are."""
    settings = config.model_dump(mode="json", include={"model", "answers", "seed"})
    return hashlib.sha256(json.dumps([settings, [asdict(prompt) for prompt in prompts]]).encode()).hexdigest()


def _left_by_earlier_attempt(file: Path, key: str) -> OwnAnswers | None:
    with suppress(OSError, TlpoError, KeyError):
        rows = [row for _, row in read_json_lines(file)]
        names = OwnAnswer.__dataclass_fields__
        if rows and all(row["key"] == key for row in rows):
            return OwnAnswers(answers=tuple(OwnAnswer(**{name: row[name] for name in names}) for row in rows))
    return None


def sample_own_answers(config: BaselineConfig, prompts: Sequence[Prompt], on_progress: OnProgress) -> OwnAnswers:
    """Return `answers.samples` answers per prompt.

    Engines that ask for it sample in a process of their own: vLLM changes global state of torch, and a GPU's memory is
    certain to be free for the trainer only once the process that held it has ended.

    Args:
        config: The run; `model`, `answers` and `seed` are used.
        prompts: Prompts to answer.
        on_progress: Called with (prompts answered, all prompts).

    Raises:
        ModelError: The model cannot be loaded.
        UserError: No prompt leaves room for an answer.
        TlpoError: The sampling process died.
    """
    if not load_plugin(ROLLOUT_ENGINES, config.answers.engine).needs_own_process:
        return _sample(config, prompts, on_progress)
    return run_in_own_process("samples answers", on_progress, _sample, config, prompts)


def _sample(config: BaselineConfig, prompts: Sequence[Prompt], on_progress: OnProgress) -> OwnAnswers:
    settings = config.answers
    sampling = Sampling(
        samples=settings.samples, temperature=settings.temperature, max_new_tokens=settings.max_new_tokens,
        engine=settings.engine, concurrency=settings.concurrency, seed=config.seed,
    )  # fmt: skip
    completions = sample_completions(config.model, prompts, sampling, on_progress).completions
    return OwnAnswers(
        answers=tuple(
            OwnAnswer(
                index=answer.prompt_index, sample=answer.sample, answer=answer.text, finished=answer.finished,
                tokens=len(answer.token_ids),
            )
            for answer in completions
        )
    )  # fmt: skip
