"""Preference pairs of a model's own answers, written to a file (`tlpo data pairs`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import detectors
from tlpo_ray.baselines.examples import clean_judge
from tlpo_ray.config.detector import DetectorConfig
from tlpo_ray.config.versions import stack_versions
from tlpo_ray.data.output import free_report_path, write_output
from tlpo_ray.data.pairs import Pair, PairSet, UsableAnswers, preference_pairs, usable_answers
from tlpo_ray.data.requests import PairsRequest
from tlpo_ray.errors import UserError
from tlpo_ray.evaluation.keeping import answer_row, kept
from tlpo_ray.flow.records import Prompt
from tlpo_ray.progress import SILENT, ProgressListener

_Answered = tuple[Sequence[Prompt], UsableAnswers]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairsResult:
    """What `make_pairs` has written."""

    pairs: tuple[Pair, ...]
    """One pair per prompt that has both a clean and a confused answer."""
    counts: Mapping[str, int]
    """Numbers of prompts, of pairs, of prompts without a pair by reason, and of answers that were left out."""
    output: Path
    """JSONL file with the pairs."""
    report: Path
    """JSON file with the counts, the settings and the versions."""

    def summary(self) -> str:
        """Return the counts as one line, e.g. "4 prompts, 1 pairs, 1 all clean, …"."""
        return _summary(self.counts)


def make_pairs(request: PairsRequest, progress: ProgressListener = SILENT) -> PairsResult:
    """Write a clean and a confused answer for every prompt that has both, and a report of the others.

    Raises:
        UnknownLanguageError: No detector exists for the language.
        UserError: The request contradicts itself, the output already exists, or no prompt gives a pair.
        PromptFileError: The prompts cannot be read.
        ModelError: The model cannot be loaded.
        ResourceError: The output cannot be written.
        JudgeError: The detector fails on an answer; the message says where all sampled answers are.
    """
    version = detectors.language(request.language, request.english).version
    report = free_report_path(request.output)
    is_clean = clean_judge(DetectorConfig(english=request.english))
    keeping: AbstractContextManager[None] = nullcontext()
    if _has_saved_answers(request):
        prompts, answers = _saved_answers(request)
    else:
        prompts, answers, keeping = _sample_answers(request, progress)
    with keeping:
        pair_set = preference_pairs(prompts, answers.texts, is_clean, request.seed)
    counts = _counts(len(prompts), answers, pair_set)
    if not pair_set.pairs:
        raise UserError(
            f"no prompt has a clean and a confused answer ({_summary(counts)}): use more prompts or raise --samples"
        )
    settings = {name: value for name, value in asdict(request).items() if name != "output"}
    write_output(
        request.output, (pair.to_row() for pair in pair_set.pairs), report,
        {"output": str(request.output), **counts, "settings": settings, "detector_version": version,
         "stack": stack_versions()},
    )  # fmt: skip
    return PairsResult(pairs=pair_set.pairs, counts=counts, output=request.output, report=report)


def _counts(prompts: int, answers: UsableAnswers, pair_set: PairSet) -> dict[str, int]:
    return {
        "prompts": prompts, "pairs": len(pair_set.pairs), "all_clean": pair_set.all_clean,
        "all_confused": pair_set.all_confused, "unanswered": pair_set.unanswered, "answers_cut_off": answers.cut_off,
        "answers_blank": answers.blank,
    }  # fmt: skip


def _summary(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in counts.items())


def _has_saved_answers(request: PairsRequest) -> bool:
    """Return whether the answers already exist.

    Raises:
        UserError: The request names both prompts and answers or neither, or its model does not fit.
    """
    if (request.answers is None) == (request.prompts is None):
        raise UserError("expected either PROMPTS and --model, or --answers with answers that already exist")
    if (request.prompts is None) != (request.model is None):
        raise UserError("PROMPTS need a --model that answers them; --answers takes none")
    return request.answers is not None


def _sample_answers(
    request: PairsRequest, progress: ProgressListener
) -> tuple[Sequence[Prompt], UsableAnswers, AbstractContextManager[None]]:
    """Return prompts, answers, and a context that keeps the answers in a file until they are judged."""
    from actors.chat import check_conversations  # late: saved answers need no engine
    from tlpo_ray.evaluation.generation import generate, model_for_sampling, select_prompts
    from tlpo_ray.evaluation.sampling import Sampling, checked_engine

    assert request.prompts is not None and request.model is not None
    sampling = Sampling(
        samples=request.samples, temperature=request.temperature, max_new_tokens=request.max_new_tokens,
        engine=checked_engine(request.engine), seed=request.seed,
    )  # fmt: skip
    selected = select_prompts(request.prompts, request.language, request.limit, request.seed, skip_bad=request.skip_bad)
    for line in selected.note_lines():
        progress.note(line)
    model = model_for_sampling(request.model, sampling.max_new_tokens, request.like)
    check_conversations(model, selected.examples, skip=request.skip_bad)
    completions = generate(request.model, selected.prompts, sampling, request.like, progress).completions
    by_index = {prompt.index: prompt for prompt in selected.prompts}
    rows = [
        answer_row(
            by_index[answer.prompt_index], answer.sample, answer.text, finished=answer.finished,
            tokens=len(answer.token_ids),
        )
        for answer in completions
    ]  # fmt: skip
    file = request.output.with_name(f"{request.output.name}.answers.jsonl")
    keeping = kept(file, rows, "tlpo data pairs --answers {file} makes pairs of them", remove=True)
    usable = usable_answers((answer.prompt_index, answer.text, answer.finished) for answer in completions)
    return selected.prompts, usable, keeping


def _saved_answers(request: PairsRequest) -> _Answered:
    """Return the answers that `tlpo evaluate --output` saved, as far as they are in the request's language."""
    from tlpo_ray.evaluation.judge import read_answers  # late: it loads every suite

    assert request.answers is not None
    saved = [
        answer
        for answer in read_answers(request.answers, request.language)
        if detectors.covers(request.language, answer.item.language)
    ]
    prompts: dict[tuple[str, str], Prompt] = {}
    for answer in saved:
        item = answer.item
        if not item.prompt:
            raise UserError(f"{request.answers}: answer {item.id!r} lacks the field 'prompt'")
        # Ids are unique within a task only, so a prompt is known by its id and its text.
        prompts.setdefault(
            (item.id, item.asked),
            Prompt(
                index=len(prompts), id=item.id, language=item.language, text=item.prompt, conversation=item.conversation
            ),
        )
    if not prompts:
        raise UserError(f"{request.answers}: no answer in language {request.language!r}; check --language")
    usable = usable_answers(
        (prompts[answer.item.id, answer.item.asked].index, answer.answer, answer.finished) for answer in saved
    )
    return list(prompts.values()), usable
