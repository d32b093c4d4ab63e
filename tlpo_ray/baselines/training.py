"""One baseline run from its configuration to `result.json`: sample, choose examples and train, or edit the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from actors.chat import check_conversations, with_date
from tlpo_ray.baselines.examples import Examples, build_examples
from tlpo_ray.baselines.smoothie import ScaledHead, scale_head, unwanted_scripts
from tlpo_ray.baselines.trainers import TrainingSummary, check_settings, quiet_libraries, run_trainer
from tlpo_ray.config.baseline import BaselineConfig, BaselineRun, SmoothieRunConfig
from tlpo_ray.config.load import dump_config
from tlpo_ray.config.versions import stack_versions
from tlpo_ray.data.load import load_prompts
from tlpo_ray.files import disk_errors, write_json
from tlpo_ray.flow.records import Prompt
from tlpo_ray.progress import SILENT, ProgressListener
from tlpo_ray.run.counters import stopwatch
from tlpo_ray.run.folder import refuse_used_folder
from tlpo_ray.run.metrics_log import MetricsLog


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineResult:
    """Outcome of a baseline run; the trained model is in `model` of the run's folder."""

    config: BaselineConfig | SmoothieRunConfig
    steps: int
    """Optimizer steps; 0 if the method trains nothing."""
    examples: Mapping[str, int]
    """Number of prompts, of those used, and of those and their answers that were left out, by reason."""
    prompts_skipped: Mapping[str, int]
    """Number of prompts that were not used at all, by reason."""
    tokens_generated: int
    """Tokens sampled before and during training."""
    seconds: Mapping[str, float]
    """Wall time of `sampling` and `training`, or of `scaling`, in seconds."""
    head: ScaledHead | None = None
    """What `smoothie` has done to the output head; None for the other methods."""

    def to_json(self) -> dict[str, object]:
        """Return the content of `result.json`."""
        return {
            "name": self.config.name, "method": self.config.method, "steps": self.steps,
            "examples": dict(self.examples), "prompts_skipped": dict(self.prompts_skipped),
            "tokens_generated": self.tokens_generated,
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()}, "stack": stack_versions(),
            "seed": self.config.seed, **({} if self.head is None else {"head": self.head.to_json()}),
        }  # fmt: skip


def train_baseline(config: BaselineConfig | SmoothieRunConfig, progress: ProgressListener = SILENT) -> BaselineResult:
    """Run a baseline: create its folder, train and write its model, write `result.json`.

    Args:
        config: The run, e.g. from `load_baseline`.
        progress: Receives one phase for sampling and one for training, each with its share done; or one for scaling.

    Raises:
        TlpoError: The folder holds another run, a setting is refused, prompts or model cannot be read, there is nothing
            to train on, or training failed.
    """
    refuse_used_folder(config.folder)
    if isinstance(config, SmoothieRunConfig):
        return _scale(config, progress)
    prompts = load_prompts(config.data, config.detector, config.seed)
    for line in prompts.note_lines():
        progress.note(line)
    check_settings(config)  # before hours are spent on sampling
    check_conversations(config.model, prompts.examples, skip=config.data.skip_bad)
    config = config.model_copy(update={"model": with_date(config.model)})
    seconds: dict[str, float] = {}
    examples = _build_examples(config, prompts.prompts, progress, seconds)
    summary = _train(config, examples, progress, seconds)
    result = BaselineResult(
        config=config, steps=summary.steps, examples=examples.counts, prompts_skipped=prompts.skipped,
        tokens_generated=examples.tokens + summary.tokens, seconds=seconds,
    )  # fmt: skip
    write_json(config.folder / "result.json", result.to_json())
    return result


def _scale(config: SmoothieRunConfig, progress: ProgressListener) -> BaselineResult:
    """Write the model with scaled rows; of the prompts only the languages are used, and those read if need be."""
    languages, skipped = config.data.languages or tuple(filter(None, [config.data.language])), dict[str, int]()
    prompts: Sequence[Prompt] = ()
    if not languages:
        found = load_prompts(config.data, config.detector, config.seed)
        prompts, skipped = found.prompts, dict(found.skipped)
        languages = tuple({prompt.language: None for prompt in prompts})
        for line in found.note_lines():
            progress.note(line)
    scripts = unwanted_scripts(config, languages)
    seconds: dict[str, float] = {}
    with progress.phase("scaling the output head"), stopwatch(seconds, "scaling"), quiet_libraries():
        head = scale_head(config, scripts, prompts)
    result = BaselineResult(
        config=config, steps=0, examples={}, prompts_skipped=skipped, tokens_generated=0, seconds=seconds, head=head,
    )  # fmt: skip
    _write_config(config)
    write_json(config.folder / "result.json", result.to_json())
    return result


def _build_examples(
    config: BaselineConfig, prompts: Sequence[Prompt], progress: ProgressListener, seconds: dict[str, float]
) -> Examples:
    phase = f"{config.method.upper()} sampling"
    with progress.phase(phase) as update, stopwatch(seconds, "sampling"):
        return build_examples(
            config,
            prompts,
            lambda done, total: update(f"{phase} · {done:,} of {total:,} prompts", done / total),
        )


def _train(
    config: BaselineConfig, examples: Examples, progress: ProgressListener, seconds: dict[str, float]
) -> TrainingSummary:
    phase = f"{config.method.upper()} training"
    with _metrics_log(config) as metrics, progress.phase(phase) as update, stopwatch(seconds, "training"):

        def on_step(step: int, values: Mapping[str, float]) -> None:
            metrics.write(step, values)
            update(f"{phase} · loss {values['loss']:.3f}", values["progress"])

        return run_trainer(config, examples, config.folder, on_step)


def _metrics_log(config: BaselineConfig) -> MetricsLog:
    """Create the run's folder with its configuration, and open its metrics log."""
    folder = config.folder
    _write_config(config)
    with disk_errors(f"the run folder {folder}"):
        (folder / "tensorboard").mkdir(exist_ok=True)
    return MetricsLog(folder / "metrics.jsonl", folder / "tensorboard")


def _write_config(config: BaselineRun) -> None:
    """Create the run's folder with its configuration."""
    with disk_errors(f"the run folder {config.folder}"):
        config.folder.mkdir(parents=True, exist_ok=True)
        (config.folder / "config.yaml").write_text(dump_config(config), encoding="utf-8")
