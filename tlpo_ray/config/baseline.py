"""Configuration of a baseline run: another method on the data and the model of a TLPO run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from tlpo_ray.config.detector import DetectorConfig
from tlpo_ray.config.fields import Positive, RolloutEngine, Section
from tlpo_ray.config.load import Settings, build_config, read_settings
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.renamed import BASELINE_KEYS
from tlpo_ray.config.run import DataConfig

BASELINES = Path(__file__).with_name("baselines")
SHARED = ("model", "data", "detector")
"""Sections that a baseline takes from the preset of a TLPO run, so that methods differ in nothing else."""


class AnswersConfig(Section):
    """Settings for sampling the policy's own answers, once before training (SFT, DPO, ORPO)."""

    samples: Positive = 16
    """Answers per prompt."""
    temperature: Annotated[float, Field(gt=0, le=2)] = 0.7
    max_new_tokens: Positive = 1024
    """Longest answer, in tokens."""
    engine: RolloutEngine = "vllm"
    """Name of an installed rollout engine."""
    concurrency: Positive = 64
    """Sequences that the engine runs at once."""
    reference_field: str | None = None
    """SFT only: field of the prompt file with answers to train on instead, e.g. `output` of Bactrian-X."""


class TrainerConfig(Section):
    """Settings of TRL's trainer."""

    lr: Annotated[float, Field(gt=0)]
    """Peak learning rate; linear warm-up, then a cosine to 0."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps over which the learning rate rises."""
    epochs: Annotated[float, Field(gt=0)] = 1.0
    """Passes over prompts or pairs."""
    batch_size: Positive = 32
    """Answers, pairs or (GRPO) sampled answers per optimizer step."""
    micro_batch_size: Positive = 4
    """Number of them that go through the model at once."""
    beta: Annotated[float, Field(ge=0)] = 0.1
    """DPO: strength of the constraint to the reference; ORPO: weight of the odds ratio; GRPO: weight of the KL."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    max_length: Positive = 2048
    """Tokens of prompt and answer together; longer examples are truncated."""
    num_generations: Annotated[int, Field(ge=2)] = 8
    """GRPO: answers per prompt that are compared with each other."""
    temperature: Annotated[float, Field(gt=0, le=2)] = 0.6
    """GRPO: sampling temperature of these answers."""
    max_new_tokens: Positive = 512
    """GRPO: longest of these answers, in tokens."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Further settings of the method's TRL configuration, under TRL's names."""


class SmoothieConfig(Section):
    """Settings for scaling rows of the output head (Smoothie-Qwen)."""

    suppress: tuple[str, ...] = ()
    """Languages (`zh`) or scripts (`Han`, as Unicode names them) whose tokens are scaled down. Empty takes every script
    that no language of the prompts is written in, except Latin unless `detector.english` is confusion."""
    min_scale: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Factor for the row of a token that holds a character of these scripts."""
    smoothness: Annotated[float, Field(gt=1)] = 10.0
    """How steeply the factor falls for tokens that hold a part of a character: the base of the logarithm in it."""
    ngram_weights: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1, max_length=3)] = (1.0,)
    """Weights of sequences of two, three and four tokens in the estimate of how often such a part becomes one of these
    characters; they are divided by their sum."""
    untie: bool = True
    """Whether a head that shares its weights with the embeddings gets weights of its own; false refuses such models."""

    @field_validator("ngram_weights")
    @classmethod
    def _some_weight(cls, weights: tuple[float, ...]) -> tuple[float, ...]:
        if not sum(weights):
            raise ValueError("all weights are 0: give one of them a positive weight")
        return weights


class BaselineRun(Section):
    """What the configurations of all baselines have."""

    renamed_keys: ClassVar[Mapping[str, str]] = BASELINE_KEYS

    name: str
    """Name of the run; its folder is `folder`."""
    folder: Path
    """Run folder with configuration, metrics, model and result."""
    seed: int = 0
    model: ModelConfig
    data: DataConfig
    detector: DetectorConfig = DetectorConfig()


class SmoothieRunConfig(BaselineRun):
    """Complete configuration of one run of `smoothie`, which trains nothing."""

    method: Literal["smoothie"]
    smoothie: SmoothieConfig = Field(default_factory=SmoothieConfig)


class BaselineConfig(BaselineRun):
    """Complete configuration of one run of a method that trains."""

    method: Literal["sft", "dpo", "orpo", "grpo"]
    answers: AnswersConfig = Field(default_factory=AnswersConfig)
    trainer: TrainerConfig

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        trainer = self.trainer
        if trainer.batch_size % trainer.micro_batch_size:
            raise ValueError(
                f"trainer.batch_size {trainer.batch_size} is not a multiple of trainer.micro_batch_size "
                f"{trainer.micro_batch_size}: change one"
            )
        if self.method == "grpo" and trainer.batch_size % trainer.num_generations:
            raise ValueError(
                f"trainer.batch_size {trainer.batch_size} is not a multiple of trainer.num_generations "
                f"{trainer.num_generations}: all answers to a prompt must be in the same step"
            )
        if self.method == "grpo" and self.model.stop_strings:
            raise ValueError(
                "model.stop_strings have no effect with grpo, whose answers TRL samples and ends at end-of-text tokens "
                "only: set model.stop_strings=[]"
            )
        if self.answers.reference_field is not None and self.method != "sft":
            raise ValueError(f"answers.reference_field is for sft, but the method is {self.method}: remove it")
        return self


def load_baseline(method: str, like: str, overrides: Sequence[str] = ()) -> BaselineConfig | SmoothieRunConfig:
    """Return the configuration of a baseline.

    Args:
        method: A preset of `baselines/` (`sft`, `dpo-toy`, `smoothie`, …) or a YAML file.
        like: Preset or YAML file of the TLPO run that gives model, data and detector.
        overrides: Settings such as `trainer.lr=1e-6`; later ones win.

    Raises:
        ConfigError: A setting is wrong; one line names the key, what was found and what is allowed.
    """
    run, own = read_settings(like), read_settings(method, BASELINES, BASELINE_KEYS)
    name = f"{Path(method).stem}-{run.get('name', Path(like).stem)}"
    settings: Settings = {"name": name, "folder": f"runs/{name}"} | {key: run[key] for key in SHARED if key in run}
    source = f"{method} {like}"
    if own.get("method") == "smoothie":
        return build_config(SmoothieRunConfig, settings | own, overrides, source=source)
    return build_config(BaselineConfig, settings | own, overrides, source=source)
