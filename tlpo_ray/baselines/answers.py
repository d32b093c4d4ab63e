"""The policy's own answers to the prompts, sampled before training."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

from tlpo_ray.config.baseline import BaselineConfig
from tlpo_ray.data.pairs import WholeAnswers, whole_answers
from tlpo_ray.errors import TlpoError
from tlpo_ray.evaluation.sampling import Sampling, Track, sampled_answers
from tlpo_ray.flow.records import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnAnswers:
    """Sampled answers."""

    whole: WholeAnswers
    tokens: int
    """Tokens sampled, those of other answers included."""


def own_answers(config: BaselineConfig, prompts: Sequence[Prompt], track: Track) -> OwnAnswers:
    """`answers.samples` answers a prompt.

    vLLM samples in a process of its own: it changes torch in the one it runs in, and gives a GPU back for certain only
    when that one ends.

    Raises:
        ModelError: the model cannot be loaded.
        UserError: no prompt leaves room for an answer.
        TlpoError: the process that samples died.
    """
    if config.answers.engine == "transformers":
        return _sampled(config, prompts, track)
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, config, prompts))
    process.start()
    sender.close()
    try:
        return _received(receiver, track)
    except EOFError as error:
        process.join()
        raise TlpoError(f"the process that samples answers died (exit code {process.exitcode})") from error
    except BaseException:
        process.terminate()
        raise
    finally:
        process.join()


def _received(receiver: Connection, track: Track) -> OwnAnswers:
    while True:
        match receiver.recv():
            case OwnAnswers() as answers:
                return answers
            case TlpoError() as error:
                raise error
            case (done, total):
                track(done, total)


def _send(sender: Connection, config: BaselineConfig, prompts: Sequence[Prompt]) -> None:
    try:
        sender.send(_sampled(config, prompts, lambda done, total: sender.send((done, total))))
    except TlpoError as error:
        sender.send(type(error)(str(error)))


def _sampled(config: BaselineConfig, prompts: Sequence[Prompt], track: Track) -> OwnAnswers:
    how = config.answers
    sampling = Sampling(
        samples=how.samples, temperature=how.temperature, max_new_tokens=how.max_new_tokens, engine=how.engine,
        concurrency=how.concurrency, seed=config.seed,
    )  # fmt: skip
    answers = sampled_answers(config.model, prompts, sampling, track)
    return OwnAnswers(
        whole=whole_answers((one.prompt_index, one.text, one.finished) for one in answers),
        tokens=sum(len(one.token_ids) for one in answers),
    )
