"""Prompts of a quickstart on a real model: those it trains on, and others by which the model is compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

import detectors
from tlpo_ray.config.detector import English
from tlpo_ray.config.run import DataConfig, RunConfig
from tlpo_ray.data.load import load_prompts
from tlpo_ray.errors import ConfigError, PromptFileError
from tlpo_ray.evaluation.keeping import judging
from tlpo_ray.files import read_json_lines, write_lines
from tlpo_ray.flow.records import Prompt
from tlpo_ray.progress import SILENT, ProgressListener
from tlpo_ray.quickstart.clean_kl import CleanAnswer
from tlpo_ray.quickstart.questions import LANGUAGES, OpenQuestion, open_questions
from tlpo_ray.quickstart.scoring import Score

PROMPTS, HELD_OUT = "prompts.jsonl", "held-out.jsonl"
"""Files of the run folder: prompts to train on, and prompts that the run never sees."""
MAX_HELD_OUT = 240
"""Most prompts that are held out for the comparison."""
HELD_OUT_SHARE = 0.2
"""Share of a user's own prompts that is held out."""
ENOUGH_ANSWERS, MAX_SAMPLES = 120, 8
"""Number of answers below which each prompt gets more than one, and most answers to one prompt."""
MAX_CLEAN_ANSWERS = 40
"""Most clean answers that the KL is computed on."""


def write_prompts(config: RunConfig, progress: ProgressListener = SILENT) -> RunConfig:
    """Write both files of prompts into the run folder, and return the configuration of a run on the first.

    The prompts are those that `data.prompts` names, of which a share is held out; or else open questions in
    `data.languages`, `data.limit` of them, with those about other countries, languages and currencies held out.

    Raises:
        ConfigError: Open questions in a language do not exist.
        PromptFileError: The user's prompts cannot be read, or are too few to hold some out.
        DetectorError: A language lacks a detector.
    """
    asked, held_out = _split(config, progress) if config.data.prompts else _open_questions(config)
    config.folder.mkdir(parents=True, exist_ok=True)
    for name, prompts in ((PROMPTS, asked), (HELD_OUT, held_out)):
        write_lines(config.folder / name, (prompt.to_row() for prompt in prompts))
    # The file holds what the other settings of `data` have selected, in the run's order.
    data = DataConfig(
        prompts=str(config.folder / PROMPTS),
        shuffle=False,
        max_characters=config.data.max_characters,
        curriculum=config.data.curriculum,
    )
    return config.model_copy(update={"data": data})


def read_held_out(folder: Path) -> list[Prompt] | None:
    """Return the prompts that the run in a folder never sees; None if it is not a quickstart on a real model."""
    file = folder / HELD_OUT
    if not file.exists():
        return None
    return [Prompt.from_row(row, number) for number, (_, row) in enumerate(read_json_lines(file))]


def _open_questions(config: RunConfig) -> tuple[Sequence[OpenQuestion], Sequence[OpenQuestion]]:
    for language in config.data.languages:
        if language not in LANGUAGES:
            raise ConfigError(
                f"data.languages has {language}: the quickstart has questions in {', '.join(LANGUAGES)}; give prompts "
                f"in other languages with --prompts"
            )
    questions = open_questions(config.data.languages or LANGUAGES, config.seed)
    return questions.asked[: config.data.limit], questions.held_out[:MAX_HELD_OUT]


def _split(config: RunConfig, progress: ProgressListener) -> tuple[Sequence[Prompt], Sequence[Prompt]]:
    """Return the user's prompts in two parts that share no text."""
    loaded = load_prompts(config.data, config.detector, config.seed)
    for line in loaded.note_lines():
        progress.note(line)
    prompts = loaded.prompts
    first = {(prompt.language, prompt.key): prompt for prompt in reversed(prompts)}
    count = min(MAX_HELD_OUT, int(HELD_OUT_SHARE * len(first)))
    if not count:
        raise PromptFileError(
            f"{config.data.prompts}: {len(first)} different prompts are too few to hold some out for the comparison; "
            f"give at least {round(1 / HELD_OUT_SHARE)}, or use tlpo train, which compares nothing"
        )
    held_out = {text: first[text] for text in Random(config.seed).sample(list(first), count)}
    asked = [prompt for prompt in prompts if (prompt.language, prompt.key) not in held_out]
    return asked, list(held_out.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class RealScore(Score):
    """Rates and means over many answers of a real model. `rpr` leaves out answers without a word."""

    rpr_interval: tuple[float, float]
    """95 % Wilson interval of `rpr`; with several answers to a prompt it is too narrow."""
    empty: int
    """Answers without a word of their language and without confusion, e.g. nothing or digits."""

    def to_json(self) -> dict[str, object]:
        """Return the rates and means by their names in `result.json`."""
        return Score.to_json(self) | {"rpr_interval_95": self.rpr_interval, "empty": self.empty}


class HeldOutQuestions:
    """Prompts that a run never sees: a `QuestionSet` of `tlpo_ray.quickstart.comparison`.

    Args:
        prompts: The prompts, at least one, numbered from 0.
        english: Meaning of English words in the answers.
    """

    def __init__(self, prompts: Sequence[Prompt], english: English) -> None:
        self.prompts = prompts
        self.english: English = english
        self.samples = min(MAX_SAMPLES, -(-ENOUGH_ANSWERS // len(prompts)))

    def score(self, answers: Sequence[str]) -> RealScore:
        """Return the score of answers, `samples` to each prompt in their order."""
        counts = [self._count(prompt, text) for prompt, text in self._with_prompts(answers)]
        rates = detectors.rates_of(counts)
        clean = [text for text, count in zip(answers, counts, strict=True) if count.status == "pass"]
        return RealScore(
            answers=rates.answers,
            rpr=rates.rpr or 0.0,
            rpr_interval=rates.rpr_interval or (0.0, 1.0),
            empty=rates.empty,
            wpr=1.0 if rates.wpr is None else rates.wpr,
            length=_mean_length(answers),
            clean_length=_mean_length(clean),
        )

    def clean_answers(self, answers: Sequence[str]) -> Sequence[CleanAnswer]:
        """Return the first answers without confusion; not their ends, because long ones were cut off."""
        clean = (
            CleanAnswer(prompt=prompt.content, text=text, ends=False)
            for prompt, text in self._with_prompts(answers)
            if self._count(prompt, text).status == "pass"
        )
        return list(islice(clean, MAX_CLEAN_ANSWERS))

    def _with_prompts(self, answers: Sequence[str]) -> Iterable[tuple[Prompt, str]]:
        return zip((prompt for prompt in self.prompts for _ in range(self.samples)), answers, strict=True)

    def _count(self, prompt: Prompt, text: str) -> detectors.Counts:
        detector = detectors.language(prompt.language, self.english)
        with judging(f"an answer to {prompt.id!r} in {prompt.language}"):
            return detector.count(text)


def _mean_length(answers: Sequence[str]) -> float:
    """Return the mean length in characters; 0 without an answer."""
    return sum(map(len, answers)) / len(answers) if answers else 0.0
