"""`tlpo baseline`: a sequence-level method on the data and the model of a TLPO run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tlpo_ray.commands.display import console
from tlpo_ray.commands.train import Result, checked_prompts, lap, stack_versions
from tlpo_ray.config.baseline import BaselineConfig, load_baseline
from tlpo_ray.config.load import dump_config
from tlpo_ray.flow.errors import ResourceError
from tlpo_ray.flow.files import write_json
from tlpo_ray.flow.metrics import MetricsLog
from tlpo_ray.run_folder import RunFolder


def baseline_command(method: str, like: str, overrides: Sequence[str]) -> None:
    """Train as the configuration says and print where the result is."""
    config = load_baseline(method, like, overrides)
    result = run_baseline(config)
    console.print(
        f"{result['steps']} optimizer steps; {result['examples']}\nmodel:   {config.folder / 'model'}\n"
        f"result:  {config.folder / 'result.json'}",
        soft_wrap=True,
    )


def run_baseline(config: BaselineConfig) -> Result:
    """One whole run: its folder, its model, its `result.json`; the result as written.

    Raises:
        UserError: the folder holds another run, prompts or model cannot be read, or nothing is left to train on.
    """
    from tlpo_ray.baselines.examples import examples
    from tlpo_ray.baselines.trainers import train_baseline

    RunFolder.refuse_unusable(config.folder)
    prompts = checked_prompts(config.data, config.detector, config.seed)
    seconds: dict[str, float] = {}
    columns = (TextColumn("[bold]{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[shown]}"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as bars:
        task = bars.add_task(f"{config.method.upper()} sampling", total=1.0, shown="")

        def sampled(done: int, total: int) -> None:
            bars.update(task, completed=done / total, shown=f"{done:,} of {total:,} prompts")

        with lap(seconds, "sampling"):
            data = examples(config, prompts.prompts, sampled)
        bars.update(task, description=f"{config.method.upper()} training", completed=0.0, shown="")
        with _metrics(config) as metrics, lap(seconds, "training"):

            def stepped(step: int, values: Mapping[str, float]) -> None:
                metrics.write(step, values)
                bars.update(task, completed=values["progress"], shown=f"loss {values['loss']:.3f}")

            steps = train_baseline(config, data, config.folder, stepped)
    result: Result = {
        "name": config.name, "method": config.method, "steps": steps, "examples": data.counts,
        "prompts_skipped": dict(prompts.skipped), "seconds": {name: round(took, 2) for name, took in seconds.items()},
        "stack": stack_versions(), "seed": config.seed,
    }  # fmt: skip
    write_json(config.folder / "result.json", result)
    return result


def _metrics(config: BaselineConfig) -> MetricsLog:
    folder: Path = config.folder
    try:
        (folder / "tensorboard").mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    except OSError as error:
        raise ResourceError(f"cannot write the run folder {folder}: {error.strerror or error}") from error
    return MetricsLog(folder / "metrics.jsonl", folder / "tensorboard")
