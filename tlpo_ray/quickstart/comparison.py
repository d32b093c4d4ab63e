"""Compares the policy before and after training by its answers to every question of a world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from pathlib import Path

from tlpo_ray.config.run import RunConfig
from tlpo_ray.evaluation.probe import write_probe
from tlpo_ray.files import read_json, write_json, write_lines
from tlpo_ray.flow.records import Prompt
from tlpo_ray.progress import SILENT, ProgressListener
from tlpo_ray.quickstart.answers import ANSWERS, answer_rows, confused_spans
from tlpo_ray.quickstart.clean_kl import CleanKL, clean_kl
from tlpo_ray.quickstart.scoring import Score, Scorer
from tlpo_ray.quickstart.settings import SAMPLES
from tlpo_ray.quickstart.world import Question, World
from tlpo_ray.run.components import Fleet

BEFORE = "before.json"
"""File of the run folder with the answers before training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonResults:
    """Scores of the answers before and after training, and how far the policy has moved."""

    before: Score
    after: Score
    kl: CleanKL

    def to_json(self) -> dict[str, object]:
        """Return the comparison's part of `result.json`."""
        before, after = self.before, self.after
        return {
            "rpr_before": before.rpr,
            "rpr_after": after.rpr,
            "wpr_before": before.wpr,
            "wpr_after": after.wpr,
            "accuracy_before": before.accuracy,
            "accuracy_after": after.accuracy,
            "accuracy_any_language_before": before.accuracy_any_language,
            "accuracy_any_language_after": after.accuracy_any_language,
            "length_clean_before": before.clean_length,
            "length_after": after.length,
            "kl_clean_contexts": self.kl.all_positions,
            "kl_clean_contexts_beyond_the_name": self.kl.beyond_name,
            "answers_scored": after.answers,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A question with one answer before and one after training; spans are (start, end) in code points."""

    question: Question
    before: str
    before_spans: list[tuple[int, int]]
    after: str
    after_spans: list[tuple[int, int]]


class Comparison:
    """Samples and scores answers before and after training: an `Examination` of `tlpo_ray.run.training`.

    Args:
        world: Questions that the policy answers, `SAMPLES` times each.
        config: The run's configuration.
        progress: Receives one phase for each of the two samplings.
    """

    def __init__(self, world: World, config: RunConfig, progress: ProgressListener = SILENT) -> None:
        self._world = world
        self._config = config
        self._progress = progress
        self._asked = [question for question in world.questions for _ in range(SAMPLES)]
        """Question of each answer."""
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
        file = self._config.folder / BEFORE
        if not file.exists():  # otherwise the run was resumed, and its policy is no longer the one before training
            write_json(file, {"answers": self._sample(fleet, "before")})
        self._before = read_json(file)["answers"]

    def after(self, fleet: Fleet) -> None:
        """Sample answers of the trained policy."""
        self._after = self._sample(fleet, "after")

    def results(self, model: Path) -> Mapping[str, object]:
        """Score all answers; write the files that the report shows beside `model`, and return the numbers."""
        scorer = Scorer(self._world)
        before, after = (scorer.score(zip(self._asked, texts, strict=True)) for texts in (self._before, self._after))
        self._results = ComparisonResults(before=before, after=after, kl=self._clean_kl(model))
        questions = self._world.questions
        rows = (answer_rows("before", questions, self._before), answer_rows("after", questions, self._after))
        write_lines(model.parent / ANSWERS, chain(*rows))
        write_probe(model.parent, self._config.model)
        return self._results.to_json()

    def examples(self, limit: int) -> list[Example]:
        """Return answers that were confused before training, with the new answer to the same question.

        Each question appears at most once, and the languages take turns.
        """
        by_language: dict[str, list[Example]] = {}
        for number in range(0, len(self._before), SAMPLES):
            question, before, after = self._asked[number], self._before[number], self._after[number]
            if spans := confused_spans(question, before):
                example = Example(
                    question=question, before=before, before_spans=spans, after=after,
                    after_spans=confused_spans(question, after),
                )  # fmt: skip
                by_language.setdefault(question.language, []).append(example)
        turns = (example for turn in zip_longest(*by_language.values()) for example in turn if example is not None)
        return list(islice(turns, limit))

    def _sample(self, fleet: Fleet, when: str) -> list[str]:
        prompts = [
            Prompt(index=number, id=question.id, language=question.language, text=question.text)
            for number, question in enumerate(self._world.questions)
        ]
        rollout = self._config.rollout
        with self._progress.phase(f"{len(prompts) * SAMPLES:,} answers {when} training"):
            completions = fleet.generate(
                prompts, SAMPLES, rollout.temperature, rollout.max_new_tokens, self._config.seed
            )
        return [completion.text for completion in completions]

    def _clean_kl(self, model: Path) -> CleanKL:
        from transformers import AutoModelForCausalLM

        from actors.tokenizer import load_tokenizer

        policy, reference = (AutoModelForCausalLM.from_pretrained(path) for path in (model, self._config.model.path))
        return clean_kl(
            policy, reference, load_tokenizer(self._config.model), self._config.model, self._world.questions
        )
