"""A plan: which trials an experiment consists of. YAML in `plans/`, or a file of the user's."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tlpo_ray.config.baseline import BASELINES
from tlpo_ray.config.load import Settings, build_config, read_settings
from tlpo_ray.config.run import Positive, RolloutEngine, Seconds, Section

PLANS = Path(__file__).with_name("plans")
PRESET = "quickstart"
"""Of TLPO in the toy worlds; its model and data are what baselines get."""
Method = Literal["none", "tlpo", "sft", "dpo", "orpo", "grpo"]
Axis = str | int | float | bool
UNCHANGING = ("label", "axes")
"""Fields of a trial that its result does not depend on."""
Name = Annotated[str, Field(pattern=r"^[\w.-]+$")]


class Variant(Section):
    """One way to train, or none."""

    name: Name
    """Of its runs' folders."""
    label: str = ""
    """In tables and figures; empty takes the name."""
    method: Method = "tlpo"
    """none evaluates the model as it is."""
    settings: tuple[str, ...] = ()
    """`key=value` over the method's preset."""
    rounds: Positive | None = None
    """Instead of the plan's, where methods are to sample equally many answers."""
    axes: dict[str, Axis] = Field(default_factory=dict)
    """What the variant varies, for figures."""


class Subject(Section):
    """A model of the user's own instead of the toy: trained and evaluated by the commands that a person would type."""

    preset: str
    """Preset or YAML file of the TLPO run whose model, prompts and detector every method gets."""
    settings: tuple[str, ...] = ()
    """`key=value` over it, for every method: model, data or detector."""
    suites: dict[str, str | None] = Field(default_factory=dict)
    """Suites that RPR and WPR are measured by, each with its source; null takes the suite's own on the hub."""
    accuracy: str = ""
    """lm-eval tasks, separated by commas; paper: the paper's; empty: none."""
    accuracy_source: str | None = None
    """Where the records of our own tasks lie, if not on the hub."""
    engine: RolloutEngine = "vllm"
    """Of the evaluation."""
    limit: Positive | None = None
    """Most prompts of a suite and language, and documents of a task."""
    max_new_tokens: Positive | None = None
    """Longest answer of the evaluation; none takes what suites and tasks say."""


class Plan(Section):
    """An experiment, in the wide toy world unless it has a subject: every variant with every seed."""

    name: Name
    """Of the experiment's folder."""
    title: str
    """Headline of its report."""
    about: str = ""
    """What it is to show, in a sentence or two."""
    subject: Subject | None = None
    """None is the toy model. With one, its prompts are its own: `rounds` and `samples` are not used."""
    deadline_s: Seconds = 1800
    """That one trial may take; with a subject, one command of a trial."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of toy model, prompts and run."""
    rounds: Positive = 20
    """How often a run asks each question."""
    samples: Positive = 8
    """Answers to each question in the evaluation, at temperature 0.6."""
    settings: tuple[str, ...] = ()
    """`key=value` for every TLPO run."""
    variants: tuple[Variant, ...] = ()
    """Named variants."""
    grid: dict[str, tuple[Axis, ...]] = Field(default_factory=dict)
    """Keys of a run's configuration with their values: TLPO with every combination is a variant too."""
    grid_labels: dict[str, str] = Field(default_factory=dict)
    """What a value of the grid is called in tables and figures; others stand as they are."""
    findings: tuple[Literal["advantage", "shift"], ...] = ()
    """Also look into the first seed's variant `tlpo`: advantages at one confusion point, and where probability went."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [variant.name for variant in self.all_variants()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or not names:
            raise ValueError(f"variants need names of their own, found twice: {twice}" if twice else "no variants")
        if self.findings and self.subject is not None:
            raise ValueError("findings look into the toy world; a plan with a subject has none")
        if self.findings and "tlpo" not in names:
            raise ValueError("findings look into a variant named tlpo: add one")
        return self

    def all_variants(self) -> tuple[Variant, ...]:
        """The named ones, then those of the grid."""
        return (*self.variants, *(self._crossed(values) for values in itertools.product(*self.grid.values()) if values))

    def trials(self) -> Iterator[Trial]:
        """Every variant with every seed, seeds together: all of a seed needs the same toy model."""
        for seed in self.seeds:
            for variant in self.all_variants():
                own = self.settings if variant.method == "tlpo" else ()
                yield Trial(
                    experiment=self.name, variant=variant.name, label=variant.label or variant.name,
                    method=variant.method, seed=seed, rounds=variant.rounds or self.rounds, samples=self.samples,
                    settings=(*own, *variant.settings), axes=dict(variant.axes), subject=self.subject,
                )  # fmt: skip

    def _crossed(self, values: Sequence[Axis]) -> Variant:
        axes = {key.rpartition(".")[2]: value for key, value in zip(self.grid, values, strict=True)}
        settings = tuple(f"{key}={value}" for key, value in zip(self.grid, values, strict=True))
        name = "-".join(["tlpo", *(str(value) for value in values)])
        label = " · ".join(self.grid_labels.get(str(value), str(value)) for value in values)
        return Variant(name=name, label=label, settings=settings, axes=axes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One run of an experiment.

    Example: ``Trial(experiment="comparison", variant="dpo", label="DPO", method="dpo", seed=0, rounds=20, samples=8,
    settings=(), axes={})``
    """

    experiment: str
    variant: str
    label: str
    method: Method
    seed: int
    rounds: int
    samples: int
    settings: tuple[str, ...]
    axes: dict[str, Axis]
    subject: Subject | None = None

    @property
    def run(self) -> str:
        """Name of its folder."""
        return f"{self.variant}-{self.seed}"

    @property
    def key(self) -> str:
        """Differs when anything about the trial differs that changes its result."""
        parts = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in UNCHANGING}
        parts |= {"subject": self.subject and self.subject.model_dump(mode="json"), "preset": self._preset()}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def _preset(self) -> Settings:
        """What its settings are laid over."""
        preset, suffix = (PRESET, "-toy") if self.subject is None else (self.subject.preset, "")
        run = read_settings(preset)
        match self.method:
            case "none" | "tlpo":
                return run
            case method:
                return {"run": run, "baseline": read_settings(f"{method}{suffix}", BASELINES)}


def load_plan(name: str, overrides: Sequence[str] = ()) -> Plan:
    """A plan by name or file.

    Args:
        overrides: `subject.preset=gemma-3-4b-ko`, laid over it in their order.

    Raises:
        ConfigError: there is none, or it is wrong: one line.
    """
    return build_config(Plan, read_settings(name, PLANS), overrides, source=name)
