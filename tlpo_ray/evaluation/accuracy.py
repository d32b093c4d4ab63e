"""Accuracy of a model by lm-eval's tasks and ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import detectors
from tlpo_ray.config.fields import RolloutEngine
from tlpo_ray.config.versions import stack_versions
from tlpo_ray.evaluation.generation import model_for_sampling
from tlpo_ray.evaluation.harness import load_tasks, run_tasks, scores, task_names
from tlpo_ray.evaluation.judge import Json
from tlpo_ray.evaluation.output import refuse_used, write_output
from tlpo_ray.evaluation.suites.suite import PAPER_LANGUAGES
from tlpo_ray.progress import SILENT, ProgressListener

ANSWER_TOKENS = 2048
"""Room for an answer in the model's context where the request sets no longest answer, in tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyRequest:
    """Which tasks lm-eval runs on a model, and how.

    Example: ``AccuracyRequest(model="runs/quickstart/model", tasks=("mif_ko",), engine="transformers", limit=100)``
    """

    model: str
    """Folder or hub name."""
    tasks: tuple[str, ...] = ("paper",)
    """Names of lm-eval's tasks and of ours; `paper` alone stands for the paper's tasks in each language."""
    languages: tuple[str, ...] = ()
    """Languages of the paper's tasks; empty takes the paper's four."""
    source: str | None = None
    """File, folder or hub dataset with the records of our tasks; None takes the hub."""
    max_new_tokens: int | None = None
    """Longest answer in tokens; None leaves it to the tasks."""
    engine: RolloutEngine = "vllm"
    """`vllm` or `transformers`: lm-eval runs models with no other."""
    limit: int | None = None
    """Largest number of documents per task."""
    seed: int = 0
    skip_bad: bool = False
    """Leave out records of our tasks that cannot be read instead of raising."""
    like: str | None = None
    """Preset or YAML file that says how prompts are presented to the model."""
    logs: Path | None = None
    """Folder for lm-eval's own results and samples; None writes none."""

    def __post_init__(self) -> None:
        """Take any names of languages for their codes."""
        object.__setattr__(self, "languages", tuple(map(detectors.code_or_name, self.languages)))


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyResult:
    """Scores of lm-eval's tasks."""

    request: AccuracyRequest
    scores: Mapping[str, Mapping[str, float]]
    """Task → `metric,filter` → score, standard errors included."""

    def to_json(self) -> Json:
        """Return the content of `result.json`."""
        request = self.request
        return {
            "model": request.model, "source": request.source, "engine": request.engine, "accuracy": self.scores,
            "limit": request.limit, "seed": request.seed, "stack": stack_versions(),
        }  # fmt: skip

    def write(self, output: Path) -> None:
        """Write `result.json` into a folder.

        Raises:
            UserError: The folder already holds a result.
            ResourceError: The folder cannot be written.
        """
        refuse_used(output)
        write_output(output, self.to_json())


def measure_accuracy(request: AccuracyRequest, progress: ProgressListener = SILENT) -> AccuracyResult:
    """Run lm-eval's tasks on a model.

    Args:
        request: Tasks, model and engine; the tasks' data are loaded before the model.
        progress: Receives one phase.

    Raises:
        UnknownLanguageError: A language is not supported.
        UserError: A task is unknown, its data cannot be loaded, or lm-eval cannot run the model or use the engine.
        ModelError: The model does not exist.
    """
    for language in request.languages:
        detectors.language(language)  # a misspelt language gets a better error here than as part of a task's name
    tasks = task_names(request.tasks, request.languages or PAPER_LANGUAGES)
    model = model_for_sampling(request.model, request.max_new_tokens or ANSWER_TOKENS, request.like)
    with progress.phase(f"lm-eval: {', '.join(tasks)}"):
        manager = load_tasks(tasks, request.engine, request.source, request.skip_bad)
        results = run_tasks(
            manager, tasks, model, request.engine, max_new_tokens=request.max_new_tokens, limit=request.limit,
            seed=request.seed, logs=request.logs,
        )  # fmt: skip
    return AccuracyResult(request=request, scores=scores(results))
