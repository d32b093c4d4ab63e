"""The plan of an experiment: which trials it consists of. YAML in `plans/`, or a file of the user's."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from tlpo_ray.config.baseline import BASELINES
from tlpo_ray.config.decoding import decoding_method
from tlpo_ray.config.fields import Positive, RolloutEngine, Seconds, Section
from tlpo_ray.config.load import Settings, build_config, read_settings
from tlpo_ray.config.renamed import BASELINE_KEYS, PLAN_KEYS
from tlpo_ray.experiment.former import former_parts

PLANS = Path(__file__).with_name("plans")
PRESET = "quickstart"
"""Preset of TLPO in the toy worlds; baselines get its model and data."""
Method = Literal["none", "tlpo", "sft", "dpo", "orpo", "grpo", "smoothie"]
WorldName = Literal["wide", "alternatives"]
Axis = str | int | float | bool
COSMETIC = ("label", "axes")
"""Fields of a trial that do not affect its result."""
AnalysisName = Literal["advantage", "shift"]
Name = Annotated[str, Field(pattern=r"^[\w.-]+$")]


class Variant(Section):
    """One way to train the model, or the model as it is."""

    name: Name
    """Name of its runs' folders, followed by the seed."""
    label: str = ""
    """Name in tables and figures; empty takes `name`."""
    method: Method = "tlpo"
    """Training method, or `smoothie`, which only edits the model; `none` evaluates the model as it is."""
    decoding: Annotated[str, AfterValidator(decoding_method)] = "plain"
    """Decoding method of the evaluation, e.g. `mask` or `gate:top_k=20`; training samples as the model has it."""
    settings: tuple[str, ...] = ()
    """Overrides `key=value` of the method's preset."""
    rounds: Positive | None = None
    """Rounds of prompts instead of the plan's, so that all methods sample the same number of answers."""
    axes: dict[str, Axis] = Field(default_factory=dict)
    """Settings that the variant varies, for figures: name → value."""


class Target(Section):
    """A model of the user's own in place of the toy: trained and evaluated by the commands that a person would type."""

    preset: str
    """Preset or YAML file of the TLPO run that gives model, prompts and detector to every method."""
    settings: tuple[str, ...] = ()
    """Overrides `key=value` of the preset for every method: model, data or detector."""
    suites: dict[str, str | None] = Field(default_factory=dict)
    """Suites that RPR and WPR are measured on, each with its source; null takes the suite's own on the hub."""
    accuracy: str = ""
    """lm-eval tasks, separated by commas; `paper` stands for the paper's; empty measures no accuracy."""
    accuracy_source: str | None = None
    """File, folder or hub dataset with the records of our own tasks; null takes the hub."""
    engine: RolloutEngine = "vllm"
    """Engine of the evaluation."""
    limit: Positive | None = None
    """Largest number of prompts per suite and language, and of documents per task."""
    max_new_tokens: Positive | None = None
    """Longest answer of the evaluation in tokens; null leaves it to suites and tasks."""
    temperature: Annotated[float, Field(ge=0)] | None = None
    """Sampling temperature of the suites; null takes each suite's own."""
    perplexity: str | None = None
    """Texts that people wrote (file, folder or hub dataset), on which the perplexity of each model is measured; null
    measures none."""


class Plan(Section):
    """An experiment, in the wide toy world unless it has a target: every variant with every seed."""

    renamed_keys: ClassVar[Mapping[str, str]] = PLAN_KEYS

    name: Name
    """Name of the experiment's folder."""
    title: str
    """Title of its report."""
    about: str = ""
    """What it is meant to show, in a sentence or two."""
    world: WorldName = "wide"
    """Toy world. `alternatives` is the wide one with questions that ask for a name in another language."""
    target: Target | None = None
    """Model to train; None is the toy model. A target brings its own prompts: `rounds` and `samples` are not used."""
    deadline_s: Seconds = 1800
    """Deadline of one trial; with a target, of one command of a trial."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of toy model, prompts and run."""
    rounds: Positive = 20
    """Number of times that a run asks each question."""
    samples: Positive = 8
    """Answers per question in the evaluation, at temperature 0.6."""
    settings: tuple[str, ...] = ()
    """Overrides `key=value` of every TLPO run."""
    variants: tuple[Variant, ...] = ()
    """Named variants."""
    grid: dict[str, tuple[Axis, ...]] = Field(default_factory=dict)
    """Keys of a run's configuration with their values: TLPO with each combination is a further variant."""
    grid_labels: dict[str, str] = Field(default_factory=dict)
    """Names of the grid's values in tables and figures; a value without one appears as it is."""
    analyses: tuple[AnalysisName, ...] = ()
    """Analyses of the first seed's variant `tlpo`: advantages at a confusion point, and where probability moved."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [variant.name for variant in self.all_variants()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or not names:
            raise ValueError(f"variants need different names, found twice: {twice}" if twice else "no variants")
        if self.analyses and self.target is not None:
            raise ValueError(
                "analyses are computed from the toy model, but the plan has a target: remove one of the two"
            )
        if self.world != "wide" and self.target is not None:
            raise ValueError(f"world: {self.world} is a toy world, but the plan has a target: remove one of the two")
        if self.analyses and "tlpo" not in names:
            raise ValueError("analyses are computed from a variant named tlpo: add one")
        return self

    def all_variants(self) -> tuple[Variant, ...]:
        """Return the named variants, then those of the grid."""
        return (*self.variants, *(self._crossed(values) for values in itertools.product(*self.grid.values()) if values))

    def trials(self) -> Iterator[Trial]:
        """Yield every variant with every seed, seed by seed, because trials of one seed share a toy model."""
        for seed in self.seeds:
            for variant in self.all_variants():
                own = self.settings if variant.method == "tlpo" else ()
                yield Trial(
                    experiment=self.name, variant=variant.name, label=variant.label or variant.name,
                    method=variant.method, seed=seed, rounds=variant.rounds or self.rounds, samples=self.samples,
                    settings=(*own, *variant.settings), axes=dict(variant.axes), target=self.target,
                    world=self.world, decoding=variant.decoding,
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
    target: Target | None = None
    world: WorldName = "wide"
    decoding: str = "plain"

    @property
    def run(self) -> str:
        """Name of the trial's folder."""
        return f"{self.variant}-{self.seed}"

    @property
    def key(self) -> str:
        """Digest of everything about the trial that affects its result."""
        return _digest(self._key_parts())

    def has_key(self, key: object) -> bool:
        """Return whether a stored key is this trial's: then the result stored with it is still valid.

        The key that the release before would have computed is accepted as well, because renaming a setting does not
        change a result.
        """
        parts = self._key_parts()
        return key in (_digest(parts), _digest(former_parts(parts)))

    def _key_parts(self) -> Settings:
        parts = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in COSMETIC}
        # Trials have been finished before there was anything else.
        for name, only in (("world", "wide"), ("decoding", "plain")):
            if parts[name] == only:
                del parts[name]
        return parts | {"target": self.target and self._target_parts(self.target), "preset": self._preset()}

    @property
    def training_key(self) -> str:
        """Digest of everything about the trial that affects what it trains: other trials may train the same."""
        target = None if self.target is None else {"preset": self.target.preset, "settings": self.target.settings}
        names = ("method", "seed", "rounds", "settings", "world")
        return _digest({name: getattr(self, name) for name in names} | {"target": target, "preset": self._preset()})

    @staticmethod
    def _target_parts(target: Target) -> Settings:
        parts = target.model_dump(mode="json")
        for name in ("temperature", "perplexity"):  # trials have been finished before there were these
            if parts[name] is None:
                del parts[name]
        return parts

    def _preset(self) -> Settings:
        """Return the settings that the trial's own are laid over."""
        preset, suffix = (PRESET, "-toy") if self.target is None else (self.target.preset, "")
        run = read_settings(preset)
        match self.method:
            case "none" | "tlpo":
                return run
            case method:
                return {"run": run, "baseline": read_settings(f"{method}{suffix}", BASELINES, BASELINE_KEYS)}


def _digest(parts: Settings) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def load_plan(name: str, overrides: Sequence[str] = ()) -> Plan:
    """Return a plan by name or from a file.

    Args:
        name: Name of a plan in `plans/`, or a YAML file.
        overrides: Settings such as `target.preset=gemma-3-4b-ko`; later ones win.

    Raises:
        ConfigError: The plan does not exist or is wrong; the message is one line.
    """
    return build_config(Plan, read_settings(name, PLANS, PLAN_KEYS), overrides, source=name)
