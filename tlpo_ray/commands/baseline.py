"""`tlpo baseline`: a sequence-level method on the data and the model of a TLPO run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tlpo_ray.commands.display import console
from tlpo_ray.config.baseline import BaselineConfig, load_baseline
from tlpo_ray.config.load import dump_config
from tlpo_ray.config.versions import stack_versions
from tlpo_ray.data.load import checked_prompts
from tlpo_ray.errors import ResourceError
from tlpo_ray.files import write_json
from tlpo_ray.run.counters import stopwatch
from tlpo_ray.run.folder import RunFolder
from tlpo_ray.run.metrics_log import MetricsLog
from tlpo_ray.run.training import Result

Show = Callable[[float, str], None]
"""Told (share done, figures)."""


def baseline_command(method: str, like: str, overrides: Sequence[str]) -> None:
    """Train as the configuration says and print where the result is."""
    config = load_baseline(method, like, overrides)
    result = run_baseline(config)
    console.print(
        f"{result['steps']} optimizer steps; {_counted(result)}\nmodel:   {config.folder / 'model'}\n"
        f"result:  {config.folder / 'result.json'}",
        soft_wrap=True,
    )


def run_baseline(config: BaselineConfig) -> Result:
    """One whole run: its folder, its model, its `result.json`; the result as written.

    Raises:
        TlpoError: the folder holds another run, a setting is refused, prompts or model cannot be read, nothing is left
            to train on, or training failed.
    """
    from tlpo_ray.baselines.examples import examples
    from tlpo_ray.baselines.trainers import check_settings, train_baseline

    RunFolder.refuse_unusable(config.folder)
    prompts = checked_prompts(config.data, config.detector, config.seed)
    check_settings(config)
    seconds: dict[str, float] = {}
    with _bar(f"{config.method.upper()} sampling") as show, stopwatch(seconds, "sampling"):
        data = examples(
            config, prompts.prompts, lambda done, total: show(done / total, f"{done:,} of {total:,} prompts")
        )
    with (
        _metrics(config) as metrics,
        _bar(f"{config.method.upper()} training") as show,
        stopwatch(seconds, "training"),
    ):

        def stepped(step: int, values: Mapping[str, float]) -> None:
            metrics.write(step, values)
            show(values["progress"], f"loss {values['loss']:.3f}")

        training = train_baseline(config, data, config.folder, stepped)
    result: Result = {
        "name": config.name, "method": config.method, "steps": training.steps, "examples": data.counts,
        "prompts_skipped": dict(prompts.skipped), "tokens_generated": data.tokens + training.tokens,
        "seconds": {name: round(took, 2) for name, took in seconds.items()}, "stack": stack_versions(),
        "seed": config.seed,
    }  # fmt: skip
    write_json(config.folder / "result.json", result)
    return result


def _counted(result: Result) -> str:
    counts = result["examples"]
    assert isinstance(counts, dict)
    others = [
        f"{count:,} {name.replace('_', ' ')}"
        for name, count in counts.items()
        if count and name not in ("prompts", "used")
    ]
    told = f"{counts['used']:,} examples from {counts['prompts']:,} prompts"
    return told + (f" ({', '.join(others)})" if others else "")


@contextmanager
def _bar(what: str) -> Iterator[Show]:
    """A live line for one phase."""
    columns = (TextColumn("[bold]{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[shown]}"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as bars:
        task = bars.add_task(what, total=1.0, shown="")
        yield lambda share, shown: bars.update(task, completed=share, shown=shown)


def _metrics(config: BaselineConfig) -> MetricsLog:
    folder: Path = config.folder
    try:
        (folder / "tensorboard").mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    except OSError as error:
        raise ResourceError(f"cannot write the run folder {folder}: {error.strerror or error}") from error
    return MetricsLog(folder / "metrics.jsonl", folder / "tensorboard")
