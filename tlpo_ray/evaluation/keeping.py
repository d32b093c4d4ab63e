"""Sampled answers outlast a judge that fails: they are on disk before anything judges them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from tlpo_ray.errors import JudgeError, UserError, first_line
from tlpo_ray.files import disk_errors, write_lines
from tlpo_ray.flow.records import Prompt

SAMPLED = "sampled"
"""Folder of lm-eval's answers while they are scored."""


@contextmanager
def judging(answer: str) -> Iterator[None]:
    """Turn whatever the block raises into an error that names the answer which it judges.

    Detectors and scorers may be anybody's code, and answers are arbitrary text.

    Args:
        answer: What the message calls the answer, e.g. "answer 3 to prompt 'ko-7'".

    Raises:
        JudgeError: The block raised an exception.
    """
    try:
        yield
    except JudgeError:
        raise
    except Exception as error:
        raise JudgeError(f"{answer} cannot be judged: {type(error).__name__}: {first_line(error)}") from error


@contextmanager
def sampled_in(file: Path, how: str) -> Iterator[None]:
    """Add to an error about an answer where the sampled answers are.

    Args:
        file: File that holds them.
        how: How to continue; "{file}" in it stands for the file.

    Raises:
        JudgeError: The block cannot judge an answer.
    """
    try:
        yield
    except JudgeError as error:
        raise JudgeError(f"{error}; the sampled answers are in {file}: {how.format(file=file)}") from error


def answer_row(prompt: Prompt, sample: int, answer: str, *, finished: bool, tokens: int) -> dict[str, object]:
    """Return a sampled answer as a line of a file that `tlpo evaluate` and `tlpo data pairs` read.

    Args:
        prompt: The prompt.
        sample: Number of the answer among those to the same prompt, from 0.
        answer: Text of the answer.
        finished: Whether the model ended the answer itself.
        tokens: Length of the answer in tokens.
    """
    return {
        "prompt": prompt.text, **prompt.to_row(), "sample": sample, "answer": answer, "finished": finished,
        "tokens": tokens,
    }  # fmt: skip


@contextmanager
def kept(file: Path | None, rows: Iterable[object], how: str, *, remove: bool = False) -> Iterator[None]:
    """Write sampled answers to a file before the block judges them.

    Args:
        file: The file, with one JSON line per answer; its folder is created. None takes one in a temporary folder,
            which is removed once the answers are judged.
        rows: The answers.
        how: How to continue, for the message; "{file}" in it stands for the file.
        remove: Remove the file, too, once they are judged.

    Raises:
        JudgeError: An answer cannot be judged; the message says where the answers are.
        ResourceError: The file cannot be written.
    """
    temporary = Path(mkdtemp(prefix="tlpo-answers-")) if file is None else None
    place = file or Path(temporary or "", "answers.jsonl")
    with disk_errors(f"the sampled answers to {place}"):
        place.parent.mkdir(parents=True, exist_ok=True)
        write_lines(place, rows)
    try:
        with sampled_in(place, how):
            yield
    except JudgeError:
        temporary = None
        raise
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    if remove:
        place.unlink(missing_ok=True)


@contextmanager
def kept_samples(model: Any, folder: Path | None, tasks: Sequence[str]) -> Iterator[None]:
    """Write the answers of lm-eval's model to sample logs, which are removed once the block has scored them.

    Args:
        model: A model of lm-eval; its `generate_until` is replaced.
        folder: Folder for lm-eval's own results; None takes a temporary one.
        tasks: Names of the tasks, for the message.

    Raises:
        JudgeError: Something failed after answers were sampled; the message says where they are.
        UserError: lm-eval cannot run the model.
    """
    logs = Path(mkdtemp(prefix="tlpo-sampled-")) if folder is None else folder / SAMPLED
    generate = model.generate_until

    def generate_until(requests: Sequence[Any], *arguments: Any, **options: Any) -> list[str]:
        answers: list[str] = generate(requests, *arguments, **options)
        with disk_errors(f"the sampled answers to {logs}"):
            logs.mkdir(parents=True, exist_ok=True)
            for task, rows in _samples(requests, answers).items():
                write_lines(logs / f"samples_{task}.jsonl", rows)
        return answers

    model.generate_until = generate_until
    try:
        yield
    except Exception as error:
        if any(logs.glob("samples_*.jsonl")):
            raise JudgeError(
                f"{_problem(error, tasks)}; the sampled answers are in {logs}: tlpo evaluate --lm-eval {logs} judges "
                f"their language"
            ) from error
        shutil.rmtree(logs, ignore_errors=True)
        if isinstance(error, OSError | ValueError | AssertionError):
            raise UserError(_problem(error, tasks)) from error
        raise
    shutil.rmtree(logs, ignore_errors=True)


def _problem(error: Exception, tasks: Sequence[str]) -> str:
    if isinstance(error, JudgeError):
        return str(error)
    return f"lm-eval could not run {', '.join(tasks)}: {first_line(error)}"


def _samples(requests: Sequence[Any], answers: Sequence[str]) -> dict[str, Iterable[Mapping[str, object]]]:
    """Return the rows of a sample log of lm-eval by task: one row per document, with all answers to it."""
    rows: dict[str, dict[int, dict[str, Any]]] = {}
    for request, answer in zip(requests, answers, strict=True):
        documents = rows.setdefault(request.task_name, {})
        # Documents may hold values that JSON lacks, e.g. dates.
        row = documents.setdefault(
            request.doc_id,
            {
                "doc_id": request.doc_id, "doc": json.loads(json.dumps(request.doc, default=str)), "resps": [[]],
                "filter": "none",
            },
        )  # fmt: skip
        row["resps"][0].append(answer)
    return {task: documents.values() for task, documents in rows.items()}
