"""The policy's own answers to the prompts, sampled before training."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

from tlpo_ray.config.baseline import BaselineConfig
from tlpo_ray.config.plugins import ROLLOUT_ENGINES, load_plugin
from tlpo_ray.data.pairs import UsableAnswers, usable_answers
from tlpo_ray.errors import TlpoError
from tlpo_ray.evaluation.sampling import OnProgress, Sampling, sample_completions
from tlpo_ray.flow.records import Prompt
from tlpo_ray.stopping import out_of_reach


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnAnswers:
    """Sampled answers of the policy that is about to be trained."""

    usable: UsableAnswers
    tokens: int
    """Number of tokens sampled, including those of answers that are not usable."""


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
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_sample_and_send, args=(sender, config, prompts))
    with out_of_reach():
        process.start()
    sender.close()  # otherwise this process would hold the pipe open, and the other's death would go unnoticed
    try:
        return _receive(receiver, on_progress)
    except EOFError as error:
        process.join()
        raise TlpoError(f"the process that samples answers died (exit code {process.exitcode})") from error
    except BaseException:
        process.terminate()
        raise
    finally:
        process.join()


def _receive(receiver: Connection, on_progress: OnProgress) -> OwnAnswers:
    while True:
        match receiver.recv():
            case OwnAnswers() as answers:
                return answers
            case TlpoError() as error:
                raise error
            case (done, total):
                on_progress(done, total)


def _sample_and_send(sender: Connection, config: BaselineConfig, prompts: Sequence[Prompt]) -> None:
    try:
        sender.send(_sample(config, prompts, lambda done, total: sender.send((done, total))))
    except TlpoError as error:
        # Rebuilt from its message alone: a cause may hold objects that cannot be pickled.
        sender.send(type(error)(str(error)))


def _sample(config: BaselineConfig, prompts: Sequence[Prompt], on_progress: OnProgress) -> OwnAnswers:
    settings = config.answers
    sampling = Sampling(
        samples=settings.samples, temperature=settings.temperature, max_new_tokens=settings.max_new_tokens,
        engine=settings.engine, concurrency=settings.concurrency, seed=config.seed,
    )  # fmt: skip
    completions = sample_completions(config.model, prompts, sampling, on_progress)
    return OwnAnswers(
        usable=usable_answers((answer.prompt_index, answer.text, answer.finished) for answer in completions),
        tokens=sum(len(answer.token_ids) for answer in completions),
    )
