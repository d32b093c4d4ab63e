"""TRL's trainers, set up for a baseline's configuration."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learner.checkpoint import export_model, writing
from learner.policy import load_model
from tlpo_ray.baselines.examples import Examples, clean_judge
from tlpo_ray.baselines.rendering import Rendering
from tlpo_ray.config.baseline import BaselineConfig
from tlpo_ray.config.run import DetectorConfig
from tlpo_ray.errors import ConfigError, NonFiniteError, first_line
from tlpo_ray.flow.records import Prompt

QUIET = {"TRL_EXPERIMENTAL_SILENCE": "1", "WANDB_DISABLED": "true"}
CLEAN_REWARD, CONFUSED_REWARD = 1.0, -1.0
Step = Callable[[int, Mapping[str, float]], None]
"""Told (optimizer step, metrics by our names) after each step."""
LOGGED = {
    "loss": "loss", "learning_rate": "lr", "grad_norm": "grad_norm", "reward": "reward",
    "completions/mean_length": "length",
}  # fmt: skip
"""TRL's name of a metric, and ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How a training went.

    Example: ``Training(steps=384, tokens=190_000)``
    """

    steps: int
    """Optimizer steps."""
    tokens: int
    """Tokens sampled on the way (GRPO)."""


def check_settings(config: BaselineConfig) -> None:
    """Have TRL look at its settings, before anything is sampled or written.

    Raises:
        ConfigError: it refuses one.
    """
    with _quiet():
        _arguments(config, config.folder)


def train_baseline(config: BaselineConfig, data: Examples, folder: Path, on_step: Step) -> Training:
    """Train and write the model into `folder`/model.

    Raises:
        ConfigError: TRL refuses a setting.
        ModelError: the model cannot be loaded.
        NonFiniteError: the loss or the gradient is not finite; no model is written.
        ResourceError: the model cannot be written.
    """
    import torch

    tokens = 0.0

    def stepped(step: int, values: Mapping[str, float]) -> None:
        nonlocal tokens
        tokens += values.get("length", 0.0) * config.trainer.batch_size
        on_step(step, values)

    with _quiet():
        trainer = _trainer(config, data, folder, stepped)
        trainer.train()
    model, dtype = trainer.accelerator.unwrap_model(trainer.model), getattr(torch, config.model.dtype)
    weights = [(name, weight.detach().to("cpu", dtype)) for name, weight in model.named_parameters()]
    with writing(f"the model to {folder / 'model'}"):
        export_model(weights, config.model, folder / "model")
    return Training(steps=int(trainer.state.global_step), tokens=round(tokens))


def language_reward(detector: DetectorConfig) -> Callable[..., list[float]]:
    """GRPO's reward: +1 for an answer without confusion, -1 for any other."""
    is_clean = clean_judge(detector)

    def reward(completions: Sequence[str], language: Sequence[str], **_: object) -> list[float]:
        judged = (
            is_clean(Prompt(index=0, id="", language=one, text=""), text)
            for text, one in zip(completions, language, strict=True)
        )
        return [CLEAN_REWARD if clean else CONFUSED_REWARD for clean in judged]

    return reward


def _trainer(config: BaselineConfig, data: Examples, folder: Path, on_step: Step) -> Any:
    import torch
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback

    arguments = _arguments(config, folder)
    rewards = {"reward_funcs": language_reward(config.detector)} if config.method == "grpo" else {}
    # Weights are float32 whatever the model's: in bfloat16, steps this small would be lost. A GPU computes in bfloat16.
    policy = load_model(config.model, torch.float32, trainable=True)
    try:
        trainer = _method(config)[0](
            model=policy,
            args=arguments,
            train_dataset=Dataset.from_list(list(data.rows)),
            processing_class=Rendering(config.model).plain,
            callbacks=[_callback(on_step)],
            **rewards,
        )
    except (TypeError, ValueError) as error:
        raise _refused(config, error) from error
    trainer.remove_callback(PrinterCallback)
    return trainer


def _method(config: BaselineConfig) -> tuple[Any, Any]:
    """TRL's trainer of a method and its configuration."""
    import trl

    match config.method:
        case "sft":
            return trl.SFTTrainer, trl.SFTConfig
        case "dpo":
            return trl.DPOTrainer, trl.DPOConfig
        case "grpo":
            return trl.GRPOTrainer, trl.GRPOConfig
        case "orpo":
            from trl.experimental.orpo import ORPOConfig, ORPOTrainer

            return ORPOTrainer, ORPOConfig


def _arguments(config: BaselineConfig, folder: Path) -> Any:
    """TRL's configuration.

    Raises:
        ConfigError: TRL refuses a setting.
    """
    import torch

    trainer, gpu = config.trainer, torch.cuda.is_available()
    common = {
        "output_dir": str(folder), "seed": config.seed, "learning_rate": trainer.lr, "lr_scheduler_type": "cosine",
        "warmup_steps": trainer.warmup, "num_train_epochs": trainer.epochs, "weight_decay": trainer.weight_decay,
        "per_device_train_batch_size": trainer.micro_batch_size,
        "gradient_accumulation_steps": trainer.batch_size // trainer.micro_batch_size,
        "max_grad_norm": trainer.max_grad_norm,
        "use_cpu": not gpu, "bf16": gpu and config.model.dtype == "bfloat16", "gradient_checkpointing": gpu,
        "logging_steps": 1, "logging_nan_inf_filter": False, "report_to": [], "save_strategy": "no",
        "disable_tqdm": True,
    }  # fmt: skip
    limit = {"max_length": trainer.max_length}
    own: dict[str, dict[str, Any]] = {
        "sft": limit | {"completion_only_loss": True},
        "dpo": limit | {"beta": trainer.beta} | _reference(config),
        "orpo": limit | {"beta": trainer.beta},
        "grpo": {
            "beta": trainer.beta, "num_generations": trainer.num_generations, "temperature": trainer.temperature,
            "max_completion_length": trainer.max_new_tokens,
        } | _reference(config),
    }  # fmt: skip
    try:
        return _method(config)[1](**common | own[config.method] | trainer.extra)
    except (TypeError, ValueError) as error:
        raise _refused(config, error) from error


def _reference(config: BaselineConfig) -> dict[str, Any]:
    """TRL loads the reference policy itself, by the name of the policy's model; so that it is the same revision."""
    return {"model_init_kwargs": {"revision": config.model.revision}} if config.model.revision else {}


def _refused(config: BaselineConfig, error: Exception) -> ConfigError:
    said = first_line(error)
    key = said.partition("unexpected keyword argument ")[2].strip("'")
    if key:
        return ConfigError(f"trainer.extra.{key}: TRL's settings of {config.method} have no such key")
    return ConfigError(f"{config.method}: TRL refuses the settings: {said}")


def _callback(on_step: Step) -> Any:
    from transformers import TrainerCallback

    class Told(TrainerCallback):  # type: ignore[misc]  # untyped base
        def on_log(
            self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **_: Any
        ) -> None:
            values = {ours: float(logs[theirs]) for theirs, ours in LOGGED.items() if logs and theirs in logs}
            if "loss" not in values:  # the last log is a summary of the whole
                return
            for name, value in values.items():
                if not math.isfinite(value):
                    raise NonFiniteError(f"{name} is {value} at step {state.global_step}; lower trainer.lr")
            on_step(state.global_step, values | {"progress": state.global_step / state.max_steps})

    return Told()


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing of the libraries' own on the terminal."""
    os.environ.update(QUIET)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TRL warns about the version of vLLM, which it does not use here
        import datasets
        from transformers.utils import logging

        datasets.disable_progress_bars()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        yield
