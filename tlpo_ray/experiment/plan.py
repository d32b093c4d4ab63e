"""A plan: which trials an experiment consists of. YAML in `plans/`, or a file of the user's."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from tlpo_ray.config.baseline import BASELINES
from tlpo_ray.config.load import Settings, read_settings
from tlpo_ray.config.run import Positive, Section
from tlpo_ray.config.yaml_text import parse_document, where_and_what
from tlpo_ray.flow.errors import ConfigError, first_line

PLANS = Path(__file__).with_name("plans")
PRESET = "quickstart"
"""Of TLPO in the toy worlds; its model and data are what baselines get."""
Method = Literal["none", "tlpo", "sft", "dpo", "orpo", "grpo"]
Axis = str | int | float | bool
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


class Plan(Section):
    """An experiment in the wide toy world: every variant with every seed."""

    name: Name
    """Of the experiment's folder."""
    title: str
    """Headline of its report."""
    about: str = ""
    """What it is to show, in a sentence or two."""
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
    findings: tuple[Literal["advantage", "shift"], ...] = ()
    """Also look into the first seed's variant `tlpo`: advantages at one confusion point, and where probability went."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [variant.name for variant in self.all_variants()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or not names:
            raise ValueError(f"variants need names of their own, found twice: {twice}" if twice else "no variants")
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
                    settings=(*own, *variant.settings), axes=dict(variant.axes),
                )  # fmt: skip

    def _crossed(self, values: Sequence[Axis]) -> Variant:
        axes = {key.rpartition(".")[2]: value for key, value in zip(self.grid, values, strict=True)}
        settings = tuple(f"{key}={value}" for key, value in zip(self.grid, values, strict=True))
        name = "-".join(["tlpo", *(str(value) for value in values)])
        return Variant(name=name, label=" · ".join(map(str, values)), settings=settings, axes=axes)


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

    @property
    def run(self) -> str:
        """Name of its folder."""
        return f"{self.variant}-{self.seed}"

    @property
    def key(self) -> str:
        """Differs when anything about the trial differs that changes its result."""
        parts = {name: value for name, value in asdict(self).items() if name not in ("label", "axes")}
        parts["preset"] = self._preset()
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def _preset(self) -> Settings:
        """What its settings are laid over."""
        match self.method:
            case "none":
                return {}
            case "tlpo":
                return read_settings(PRESET)
            case _:
                return read_settings(f"{self.method}-toy", BASELINES)


def plans() -> list[str]:
    """Names of the plans that come with the package."""
    return sorted(file.stem for file in PLANS.glob("*.yaml"))


def load_plan(name: str, **changes: Any) -> Plan:
    """A plan by name or file, with fields changed.

    Raises:
        ConfigError: there is none, or it is wrong: one line.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else PLANS / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(f"{name}: no such plan; there are {', '.join(plans())}, or give a YAML file")
    try:
        document = parse_document(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict):
            raise ConfigError(f"{path}: expected `key: value` lines")
        return Plan.model_validate(document | changes)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} {where_and_what(error)}") from error
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, part['loc'])) or 'plan'}: {part['msg']}" for part in error.errors()[:3])
        raise ConfigError(f"{path}: {said}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {first_line(error)}") from error
