"""Asking a model for answers, with a line that says how far it is: for `tlpo evaluate` and `tlpo data pairs`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tlpo_ray.commands.display import step
from tlpo_ray.config.run import DataConfig
from tlpo_ray.data.prompts import PromptSet, read_prompts, usual_field
from tlpo_ray.errors import PromptFileError
from tlpo_ray.evaluation.sampling import Sampling, asked_model, sampled_answers
from tlpo_ray.flow.records import Prompt

if TYPE_CHECKING:
    from actors.worker import Answer


def prompts_to_ask(source: str, language: str, limit: int | None, seed: int, *, skip_bad: bool) -> PromptSet:
    """All prompts of one language, however long and in whichever of the usual fields; with a limit, a random part.

    Raises:
        PromptFileError: the source cannot be read, or holds none.
    """
    data = DataConfig(
        prompts=source, language=language, languages=(language,), limit=limit, shuffle=limit is not None,
        max_characters=sys.maxsize, skip_bad=skip_bad,
    )  # fmt: skip
    found = read_prompts(data.model_copy(update={"prompt_field": usual_field(data)}), seed)
    if not found.prompts:
        raise PromptFileError(f"{source}: no prompt in language {language!r}; check --language and the file")
    return found


def ask(path: str, prompts: Sequence[Prompt], sampling: Sampling, like: str | None) -> list[Answer]:
    """Answers of the model at `path`.

    Args:
        like: see `asked_model`.

    Raises:
        ModelError: there is no such model, or it cannot be loaded.
        UserError: no prompt leaves room for an answer.
    """
    model = asked_model(path, sampling.max_new_tokens, like)
    with step(f"{len(prompts):,} prompts · {model.path} ({sampling.engine})") as spinner:

        def show(done: int, of: int) -> None:
            spinner.update(f"{done:,} of {of:,} prompts · {model.path} ({sampling.engine})")

        return sampled_answers(model, prompts, sampling, show)
