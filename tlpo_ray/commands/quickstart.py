"""`tlpo quickstart`: makes a small model that mixes languages, repairs it, and shows what changed."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from itertools import chain, islice, zip_longest
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

import detectors
from tlpo_ray.commands.display import console, marked, step
from tlpo_ray.commands.train import outcomes
from tlpo_ray.config.load import load_config
from tlpo_ray.config.run import RunConfig
from tlpo_ray.errors import UserError
from tlpo_ray.evaluation.probe import write_probe
from tlpo_ray.evaluation.sampling import on_gpu
from tlpo_ray.files import write_json, write_lines, written
from tlpo_ray.flow.records import Prompt
from tlpo_ray.quickstart.answers import ANSWERS, answer_rows
from tlpo_ray.quickstart.clean_kl import CleanKL, clean_kl
from tlpo_ray.quickstart.scoring import Score, Scorer
from tlpo_ray.quickstart.toy_cache import cached_toy_model
from tlpo_ray.quickstart.world import Question, World, toy_world
from tlpo_ray.report.page import write_report
from tlpo_ray.run.components import Fleet
from tlpo_ray.run.counters import stopwatch
from tlpo_ray.run.folder import RunFolder, is_quickstart
from tlpo_ray.run.resume import resumed_config
from tlpo_ray.run.training import Result, run_training

ROUNDS = 40
"""How often the run asks each question."""
SAMPLES = 8
"""Answers to each question before and after, at the run's temperature."""
BEFORE = "before.json"
"""File of the run folder with the answers before training."""
SHOWN = 10
"""Answers printed before and after."""
LOCAL = ("stack=local", "rollout.engine=transformers", "learner.engine=torch")
"""One process, with the weights that the distributed stack ends with too."""
STACKS = {"distributed": (), "local": LOCAL}


def quickstart_command(stack: str, fresh: bool, seed: int, overrides: Sequence[str]) -> None:
    """The whole demonstration, in a few minutes on a CPU.

    Raises:
        UserError: `stack` is none of the two.
    """
    if stack not in STACKS:
        raise UserError(f"--stack {stack}: expected {' or '.join(STACKS)}")
    settings = [f"seed={seed}", *STACKS[stack], *overrides]
    # A wrong setting, or a closed folder, is told before a model is trained.
    RunFolder.refuse_unwritable(load_config(quickstart_preset(), ["model.path=.", *settings]).folder)
    world, seconds = toy_world(), dict[str, float]()
    with stopwatch(seconds, "toy_model"):
        model = _toy_model(seed, fresh)
    config = load_config(quickstart_preset(), [f"model.path={model}", *settings])
    _move_away(config.folder)
    with written(f"the run folder {config.folder}"):
        config = _with_prompts(config, world)
    _compared(config, world, seconds)


def resumed_quickstart_command(folder: Path, overrides: Sequence[str]) -> None:
    """Go on with a quickstart that was stopped or died.

    Raises:
        UserError: there is none, or a setting would change what comes of it.
    """
    config = resumed_config(folder, overrides)
    if not is_quickstart(folder):
        raise UserError(f"the run in {folder} is no quickstart: go on with it by tlpo train --resume {folder}")
    _compared(config, toy_world(), {}, resumed=True)


def _compared(config: RunConfig, world: World, seconds: dict[str, float], *, resumed: bool = False) -> None:
    """Train and show what changed."""
    comparison = Comparison(world, config)
    result = run_training(config, comparison, seconds, resumed=resumed)
    report = write_report(config.folder, config.folder / "report")
    console.print()
    console.print(comparison.table())
    console.print(comparison.answers_shown())
    console.print(
        f"{result['updates']} updates from {result['confusion_points']} confusion points in "
        f"{sum(seconds.values()):.0f} s\nprompts  {outcomes(result)}\nmodel    {config.folder / 'model'}\n"
        f"result   {config.folder / 'result.json'}\nreport   {report.page}\n"
        f"next     tensorboard --logdir {config.folder / 'tensorboard'}",
        soft_wrap=True,
    )


class Comparison:
    """The policy before and after training, by answers to every question of the world (`train.Examination`)."""

    def __init__(self, world: World, config: RunConfig) -> None:
        self._world = world
        self._config = config
        self._before: list[str] = []
        self._after: list[str] = []
        self._scores: tuple[Score, Score] | None = None
        self._kl: CleanKL | None = None

    def before(self, fleet: Fleet) -> None:
        kept = self._config.folder / BEFORE
        if not kept.exists():  # else the run goes on, and its policy is no longer the one before training
            write_json(kept, {"answers": self._answers(fleet, "before")})
        self._before = json.loads(kept.read_text(encoding="utf-8"))["answers"]

    def after(self, fleet: Fleet) -> None:
        self._after = self._answers(fleet, "after")

    def findings(self, model: Path) -> Result:
        """The numbers of before and after, for `result.json`."""
        scorer = Scorer(self._world)
        before, after = (scorer.score(zip(self._asked(), texts, strict=True)) for texts in (self._before, self._after))
        self._scores, self._kl = (before, after), self._moved(model)
        questions = self._world.questions
        rows = (answer_rows("before", questions, self._before), answer_rows("after", questions, self._after))
        write_lines(model.parent / ANSWERS, chain(*rows))
        write_probe(model.parent, self._config.model)
        return {
            "rpr_before": before.rpr,
            "rpr_after": after.rpr,
            "wpr_before": before.wpr,
            "wpr_after": after.wpr,
            "accuracy_before": before.accuracy,
            "accuracy_after": after.accuracy,
            "accuracy_any_language_before": before.accuracy_anywhere,
            "accuracy_any_language_after": after.accuracy_anywhere,
            "length_clean_before": before.clean_length,
            "length_after": after.length,
            "kl_clean_contexts": self._kl.everywhere,
            "kl_clean_contexts_beyond_the_name": self._kl.elsewhere,
            "answers_scored": after.answers,
        }

    def table(self) -> Table:
        """What changed, for people."""
        assert self._scores is not None and self._kl is not None, "findings come first"
        before, after = self._scores
        table = Table(title=f"{after.answers:,} answers at temperature {self._config.rollout.temperature:g}")
        for heading in ("", "before", "after"):
            table.add_column(heading, justify="left" if not heading else "right")
        rows: tuple[tuple[str, str, str], ...] = (
            ("answers without a foreign word (RPR)", _percent(before.rpr), _percent(after.rpr)),
            ("words without confusion (WPR)", _percent(before.wpr), _percent(after.wpr)),
            ("right currency, in any language", _percent(before.accuracy_anywhere), _percent(after.accuracy_anywhere)),
            ("right currency, right language", _percent(before.accuracy), _percent(after.accuracy)),
            ("length of a clean answer, characters", f"{before.clean_length:.1f}", f"{after.clean_length:.1f}"),
            ("KL to the reference on clean contexts, nats", "", f"{self._kl.everywhere:.4f}"),
            ("… beyond the token where the name begins", "", f"{self._kl.elsewhere:.4f}"),
        )  # fmt: skip
        for row in rows:
            table.add_row(*row)
        return table

    def answers_shown(self) -> Text:
        """Some answers that were confused, their spans marked, and what the same question gets now."""
        lines: list[Text] = []
        for number in self._confused(SHOWN):
            question, before, after = self._asked()[number], self._before[number], self._after[number]
            lines += [
                Text(f"{question.language}  {question.text}", "dim"),
                Text("    before  ").append_text(_marked(question, before)),
                Text("    after   ").append_text(_marked(question, after)),
            ]
        return Text("\n").join(lines)

    def _confused(self, limit: int) -> list[int]:
        """Answers that were confused before training, the languages in turn, each question once."""
        by_language: dict[str, list[int]] = {}
        for number in range(0, len(self._before), SAMPLES):
            question = self._asked()[number]
            if detectors.find(self._before[number], detectors.profile(question.language)):
                by_language.setdefault(question.language, []).append(number)
        turns = (number for turn in zip_longest(*by_language.values()) for number in turn if number is not None)
        return list(islice(turns, limit))

    def _answers(self, fleet: Fleet, when: str) -> list[str]:
        prompts = [
            Prompt(index=number, id=question.id, language=question.language, text=question.text)
            for number, question in enumerate(self._world.questions)
        ]
        rollout = self._config.rollout
        with step(f"{len(prompts) * SAMPLES:,} answers {when} training"):
            answers = fleet.answers(prompts, SAMPLES, rollout.temperature, rollout.max_new_tokens, self._config.seed)
        return [answer.text for answer in answers]

    def _asked(self) -> list[Question]:
        """The question of each answer."""
        return [question for question in self._world.questions for _ in range(SAMPLES)]

    def _moved(self, model: Path) -> CleanKL:
        from transformers import AutoModelForCausalLM

        from actors.chat import load_tokenizer

        policy, reference = (AutoModelForCausalLM.from_pretrained(path) for path in (model, self._config.model.path))
        return clean_kl(
            policy, reference, load_tokenizer(self._config.model), self._config.model, self._world.questions
        )


def quickstart_preset() -> str:
    """vLLM's CUDA build runs on GPUs only."""
    return "quickstart-gpu" if on_gpu() else "quickstart"


def _toy_model(seed: int, fresh: bool) -> Path:
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[loss]}"))
    quiet = not console.is_terminal
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True, disable=quiet) as bars:
        task = bars.add_task("training a toy model that mixes languages", total=1.0, loss="", visible=False)

        def show(share: float, loss: float) -> None:
            bars.update(task, completed=share, loss=f"loss {loss:.3f}", visible=True)

        model = cached_toy_model(seed, show, fresh=fresh)
    console.print(f"[green]✓[/green] toy model: {model}", soft_wrap=True)
    return model


def _with_prompts(config: RunConfig, world: World) -> RunConfig:
    """The run's prompts, written into its folder unless the user gave others."""
    if config.data.prompts:
        return config
    file = config.folder / "prompts.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    world.write_prompts(file, ROUNDS, config.seed)
    return config.model_copy(update={"data": config.data.model_copy(update={"prompts": str(file)})})


def _move_away(folder: Path) -> None:
    """Keep the last quickstart's folder under the time it was made."""
    made = folder / "config.yaml"
    if made.exists():
        kept = folder.with_name(f"{folder.name}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(made.stat().st_mtime))}")
        folder.rename(kept)
        console.print(f"[dim]the last run is kept as {kept}[/dim]")


def _marked(question: Question, text: str) -> Text:
    spans = detectors.spans(text, detectors.profile(question.language))
    return marked(text, [(span.index, span.end) for span in spans])


def _percent(share: float) -> str:
    return f"{share:.1%}"
