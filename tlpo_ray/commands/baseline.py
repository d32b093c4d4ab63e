"""`tlpo baseline` on the terminal: progress bars, and where the result is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tlpo_ray.commands.display import console
from tlpo_ray.config.baseline import load_baseline
from tlpo_ray.progress import PhaseUpdate, ProgressListener
from tlpo_ray.stopping import stop_on_signal


def baseline_command(method: str, like: str, overrides: Sequence[str]) -> None:
    """Run the method as the configuration says and print where the result is."""
    from tlpo_ray.baselines.training import train_baseline

    config = load_baseline(method, like, overrides)

    def describe(name: str) -> str:
        if not (config.folder / "config.yaml").exists():
            return f"stopped by {name} before the training had started"
        return (
            f"stopped by {name}; a baseline cannot be resumed: remove {config.folder}, or choose another with folder=…"
        )

    with stop_on_signal(describe):
        result = train_baseline(config, _Bars())
    if result.head is not None:
        head = result.head
        done = f"{head.tokens:,} rows of the output head scaled, and {head.parts:,} of parts of characters by less"
        done += "; the head was tied to the embeddings and has its own weights now" if head.tied else ""
        done += _effect(head.probability)
    else:
        done = f"{result.steps} optimizer steps; {_summary(result.examples)}"
    console.print(
        f"{done}\nmodel:   {config.folder / 'model'}\nresult:  {config.folder / 'result.json'}",
        soft_wrap=True,
    )


def _effect(probability: tuple[float, float] | None) -> str:
    """Return in a line of its own what scaling did to the probability of the scaled tokens; empty if not measured."""
    if probability is None:
        return ""
    before, after = probability
    effect = f"\nprobability of a scaled token at the beginning of an answer: {before:.2%} before, {after:.2%} after"
    if after > before:
        effect += (
            ": it rose, because the model gives such tokens negative logits; take the decoding method mask instead"
        )
    return effect


def _summary(counts: Mapping[str, int]) -> str:
    """Return the number of examples and prompts in one line, and in brackets what was left out."""
    others = [
        f"{count:,} {name.replace('_', ' ')}"
        for name, count in counts.items()
        if count and name not in ("prompts", "used")
    ]
    used = f"{counts['used']:,} examples from {counts['prompts']:,} prompts"
    return used + (f" ({', '.join(others)})" if others else "")


class _Bars(ProgressListener):
    """Shows a progress bar per phase, which stays on the terminal when the phase has ended."""

    @contextmanager
    def phase(self, description: str) -> Iterator[PhaseUpdate]:
        """Show the bar of one phase."""
        name, figures = TextColumn("[bold]{task.description}"), TextColumn("{task.fields[figures]}")
        with Progress(name, BarColumn(bar_width=20), figures, TimeElapsedColumn(), console=console) as bars:
            task = bars.add_task(description, total=1.0, figures="")

            def update(description: str | None = None, share: float | None = None) -> None:
                bars.update(task, completed=share)
                if description is not None:
                    # "DPO training · loss 0.693": the bar stands between the name of the phase and its figures.
                    phase, _, shown = description.partition(" · ")
                    bars.update(task, description=phase, figures=shown)

            yield update
