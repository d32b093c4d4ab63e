"""Compares the policy before and after training by its answers to the same questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Literal, Protocol

from tlpo_ray.config.detector import English
from tlpo_ray.config.run import RunConfig
from tlpo_ray.evaluation.keeping import sampled_in
from tlpo_ray.evaluation.probe import write_probe
from tlpo_ray.files import read_json, write_json, write_lines
from tlpo_ray.flow.records import Prompt
from tlpo_ray.progress import SILENT, ProgressListener
from tlpo_ray.quickstart.answers import ANSWERS, answer_rows, confused_spans
from tlpo_ray.quickstart.clean_kl import CleanAnswer, CleanKL, clean_kl
from tlpo_ray.quickstart.scoring import Score
from tlpo_ray.run.components import Fleet

BEFORE, AFTER = "before.json", "after.json"
"""Files of the run folder with the answers before and after training; the second exists until they are judged."""


class QuestionSet(Protocol):
    """Questions to compare a policy by, and how its answers are scored."""

    @property
    def prompts(self) -> Sequence[Prompt]:
        """The questions, numbered from 0."""

    @property
    def samples(self) -> int:
        """Number of answers to each question."""

    @property
    def english(self) -> English:
        """Meaning of English words in the answers."""

    def score(self, answers: Sequence[str]) -> Score:
        """Return the score of answers, `samples` to each question in the questions' order."""

    def clean_answers(self, answers: Sequence[str]) -> Sequence[CleanAnswer]:
        """Return clean answers on which training should change nothing; `answers` are those before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonResults:
    """Scores of the answers before and after training, and how far the policy has moved."""

    before: Score
    after: Score
    kl: CleanKL | None
    """None if no answer was clean, to measure it on."""

    def to_json(self) -> dict[str, object]:
        """Return the comparison's part of `result.json`."""
        scores = {"before": self.before.to_json(), "after": self.after.to_json()}
        kl: dict[str, object] = {}
        if self.kl is not None:
            kl = {
                "kl_clean_contexts": self.kl.all_positions,
                "kl_clean_contexts_beyond_the_name": self.kl.beyond_name,
            }
        rates = {f"{name}_{when}": value for when, score in scores.items() for name, value in score.items()}
        return rates | kl | {"answers_scored": self.after.answers}


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A question with one answer before and one after training; spans are (start, end) in code points."""

    question: Prompt
    before: str
    before_spans: list[tuple[int, int]]
    after: str
    after_spans: list[tuple[int, int]]


class Comparison:
    """Samples and scores answers before and after training: an `Examination` of `tlpo_ray.run.training`.

    Args:
        questions: Questions that the policy answers.
        config: The run's configuration.
        progress: Receives one phase for each of the two samplings.
    """

    def __init__(self, questions: QuestionSet, config: RunConfig, progress: ProgressListener = SILENT) -> None:
        self._questions = questions
        self._config = config
        self._progress = progress
        self._before: list[str] = []
        self._after: list[str] = []
        self._results: ComparisonResults | None = None

    @property
    def scores(self) -> ComparisonResults:
        """Scores of the answers; available once `results` has been called."""
        assert self._results is not None, "results() has not been called"
        return self._results

    def before(self, fleet: Fleet) -> None:
        """Sample answers of the policy before training and keep them in the run folder."""
        self._before = self._kept(fleet, "before", BEFORE)

    def after(self, fleet: Fleet) -> None:
        """Sample answers of the trained policy and keep them in the run folder until they are judged."""
        self._after = self._kept(fleet, "after", AFTER)

    def results(self, model: Path) -> Mapping[str, object]:
        """Score all answers; write the files that the report shows beside `model`, and return the numbers.

        Raises:
            JudgeError: An answer cannot be judged; the run can be resumed without sampling again.
        """
        folder = model.parent
        with sampled_in(folder / AFTER, f"tlpo train --resume {folder} continues from them"):
            before, after = (self._questions.score(answers) for answers in (self._before, self._after))
            self._results = ComparisonResults(before=before, after=after, kl=self._clean_kl(model))
            rows = (self._rows("before", self._before), self._rows("after", self._after))
            write_lines(folder / ANSWERS, chain(*rows))
        (folder / AFTER).unlink(missing_ok=True)
        write_probe(folder, self._config.model)
        return self._results.to_json()

    def examples(self, limit: int) -> list[Example]:
        """Return answers that were confused before training, with the new answer to the same question.

        Each question appears at most once, and the languages take turns.
        """
        by_language: dict[str, list[Example]] = {}
        for number, question in enumerate(self._questions.prompts):
            before, after = (answers[number * self._questions.samples] for answers in (self._before, self._after))
            if spans := self._spans(question, before):
                example = Example(
                    question=question, before=before, before_spans=spans, after=after,
                    after_spans=self._spans(question, after),
                )  # fmt: skip
                by_language.setdefault(question.language, []).append(example)
        turns = (example for turn in zip_longest(*by_language.values()) for example in turn if example is not None)
        return list(islice(turns, limit))

    def _kept(self, fleet: Fleet, when: str, name: str) -> list[str]:
        """Return the answers in a file of the run folder; sample them first if it does not exist.

        If it exists, the run was resumed, and the policy may no longer be the one that was to answer.
        """
        file = self._config.folder / name
        if not file.exists():
            write_json(file, {"answers": self._sample(fleet, when)})
        answers: list[str] = read_json(file)["answers"]
        return answers

    def _rows(self, when: Literal["before", "after"], answers: Sequence[str]) -> Iterator[dict[str, object]]:
        return answer_rows(when, self._questions.prompts, answers, self._questions.english)

    def _spans(self, question: Prompt, answer: str) -> list[tuple[int, int]]:
        return confused_spans(question.language, answer, self._questions.english)

    def _sample(self, fleet: Fleet, when: str) -> list[str]:
        prompts, samples, rollout = self._questions.prompts, self._questions.samples, self._config.rollout
        with self._progress.phase(f"{len(prompts) * samples:,} answers {when} training"):
            completions = fleet.generate(
                prompts, samples, rollout.temperature, rollout.max_new_tokens, self._config.seed
            )
        return [completion.text for completion in completions]

    def _clean_kl(self, model: Path) -> CleanKL | None:
        from transformers import AutoModelForCausalLM

        from tlpo_ray.flow.tokenizer import load_tokenizer

        answers = self._questions.clean_answers(self._before)
        if not answers:
            return None
        policy, reference = (AutoModelForCausalLM.from_pretrained(path) for path in (model, self._config.model.path))
        return clean_kl(policy, reference, load_tokenizer(self._config.model), self._config.model, answers)
