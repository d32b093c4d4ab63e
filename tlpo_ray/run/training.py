"""One run from its configuration to `result.json`: check everything that can be checked, start, train, export."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from actors.chat import check_model
from tlpo_ray.commands.display import console, step, training_progress
from tlpo_ray.config.run import RunConfig
from tlpo_ray.config.versions import stack_versions
from tlpo_ray.data.load import checked_prompts
from tlpo_ray.data.prompts import PromptSet
from tlpo_ray.files import held
from tlpo_ray.run.build import assembled
from tlpo_ray.run.components import Fleet, Learner, Parts
from tlpo_ray.run.counters import stopwatch
from tlpo_ray.run.folder import RunFolder
from tlpo_ray.run.journal import Journal, State
from tlpo_ray.run.loop import TrainSummary, recover, train
from tlpo_ray.run.resume import check_prompts, stoppable, where_it_was
from tlpo_ray.run.trackers import check_trackers, told

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
        "actors": config.rollout.num_actors if config.stack == "distributed" else 1,
        "learner_ranks": config.learner.num_ranks if config.stack == "distributed" else 1,
        "actor_restarts": summary.restarts,
        "learner_restarts": summary.learner_restarts,
        "exchange_restarts": summary.exchange_restarts,
        "canary_nats": summary.canary,
        "seconds": {name: round(value, 2) for name, value in phases.items()},
        "stack": stack_versions(),
        "seed": config.seed,
    }


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
        f"{_many(rollout.num_actors, 'rollout actor')} ({ENGINES[rollout.engine]}), "
        f"{_many(learner.num_ranks, 'learner rank')} "
        f"({ENGINES[learner.engine].format(learner.zero_stage)}) on Ray"
    )


def _many(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
