"""`tlpo data`: prompts and preference pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tlpo_ray.data.requests import PairsRequest, PrepareRequest

data = typer.Typer(help="Prompts to train on, and preference pairs of a model's own answers.", no_args_is_help=True)


@data.command()
def prepare(
    source: Annotated[str, typer.Argument(help="Hub dataset (MBZUAI/Bactrian-X), file or folder.")],
    language: Annotated[str, typer.Option(help="Language of the prompts, e.g. ko.")],
    output: Annotated[Path, typer.Option(help="JSONL file; a report is written beside it.")],
    english: Annotated[
        str, typer.Option(help="neutral: English in a prompt is fine; confusion: it is foreign.")
    ] = PrepareRequest.english,
    max_characters: Annotated[
        int, typer.Option(min=1, help="Longer prompts are dropped.")
    ] = PrepareRequest.max_characters,
    keep_language_names: Annotated[
        bool, typer.Option("--keep-language-names", help="Keep prompts that name a language.")
    ] = False,
    keep_code: Annotated[bool, typer.Option("--keep-code", help="Keep prompts about code and translation.")] = False,
    keep_foreign: Annotated[
        bool, typer.Option("--keep-foreign", help="Keep prompts with words of another language.")
    ] = False,
    keep_duplicates: Annotated[bool, typer.Option("--keep-duplicates", help="Keep repeated prompts.")] = False,
    with_answers: Annotated[
        bool, typer.Option("--with-answers", help="Write the dataset's answers too, as SFT needs them.")
    ] = False,
    prompt_field: Annotated[
        str | None,
        typer.Option(
            help="Field of the prompt, a text or a conversation. Default: the first of prompt, instruction, question, "
            "text, messages, conversations, conversation."
        ),
    ] = None,
    system_field: Annotated[
        str | None, typer.Option(help="Field of a system prompt. Default beside a conversation: system, system_prompt.")
    ] = None,
    context_field: Annotated[
        str | None, typer.Option(help="Field of retrieved text. Default beside a conversation: documents, context.")
    ] = None,
    answer_field: Annotated[str, typer.Option(help="Field of the answer.")] = PrepareRequest.answer_field,
    subset: Annotated[
        str | None, typer.Option(help="Configuration of a hub dataset. Default for Bactrian-X: the language.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of a hub dataset or folder.")] = PrepareRequest.split,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Skip and count bad records.")] = False,
) -> None:
    """Filter the prompts of a dataset as in Appendix B of the paper, and report why prompts were dropped."""
    from tlpo_ray.commands.choices import english_setting
    from tlpo_ray.commands.data import prepare_command

    prepare_command(
        PrepareRequest(
            source=source, language=language, output=output, english=english_setting(english),
            max_characters=max_characters, keep_language_names=keep_language_names, keep_code=keep_code,
            keep_foreign=keep_foreign, keep_duplicates=keep_duplicates, with_answers=with_answers,
            prompt_field=prompt_field, system_field=system_field, context_field=context_field,
            answer_field=answer_field, subset=subset, split=split, skip_bad=skip_bad,
        )
    )  # fmt: skip


@data.command()
def pairs(
    language: Annotated[str, typer.Option(help="Language that answers should be in.")],
    output: Annotated[Path, typer.Option(help="JSONL file; a report is written beside it.")],
    prompts: Annotated[str | None, typer.Argument(help="Prompt file, folder or hub dataset.")] = None,
    model: Annotated[str | None, typer.Option(help="Folder or hub name of the model that answers.")] = None,
    answers: Annotated[
        Path | None, typer.Option(help="Instead of prompts and a model: answers kept by `tlpo evaluate`.")
    ] = None,
    english: Annotated[
        str, typer.Option(help="neutral: English is never confusion; confusion: always.")
    ] = PairsRequest.english,
    samples: Annotated[int, typer.Option(min=2, help="Answers per prompt.")] = PairsRequest.samples,
    temperature: Annotated[float, typer.Option(min=0.0, help="Sampling temperature.")] = PairsRequest.temperature,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Maximum length of an answer in tokens.")
    ] = PairsRequest.max_new_tokens,
    engine: Annotated[str, typer.Option(help="vllm or transformers.")] = PairsRequest.engine,
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum number of prompts.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the sampling and of the draw.")] = PairsRequest.seed,
    like: Annotated[
        str | None, typer.Option(help="Preset or file that defines how prompts are rendered for the model.")
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Skip and count bad records.")] = False,
) -> None:
    """Draw a clean and a confused answer to every prompt that a model answers in both ways, for DPO and ORPO."""
    from tlpo_ray.commands.choices import english_setting
    from tlpo_ray.commands.data import pairs_command

    pairs_command(
        PairsRequest(
            prompts=prompts, model=model, answers=answers, language=language, output=output,
            english=english_setting(english), samples=samples, temperature=temperature, max_new_tokens=max_new_tokens,
            engine=engine, limit=limit, seed=seed, skip_bad=skip_bad, like=like,
        )
    )  # fmt: skip
