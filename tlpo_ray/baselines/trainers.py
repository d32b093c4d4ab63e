"""TRL's trainers, set up from a baseline's configuration."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learner.checkpoint import export_model
from learner.policy import load_model
from tlpo_ray.baselines.examples import Examples, clean_judge
from tlpo_ray.baselines.rendering import Rendering
from tlpo_ray.config.baseline import BaselineConfig
from tlpo_ray.config.detector import DetectorConfig
from tlpo_ray.errors import ConfigError, NonFiniteError, first_line
from tlpo_ray.evaluation.sampling import on_gpu
from tlpo_ray.files import disk_errors
from tlpo_ray.flow.records import CLEAN_REWARD, CONFUSED_REWARD, Prompt

QUIET = {"TRL_EXPERIMENTAL_SILENCE": "1", "WANDB_DISABLED": "true"}
"""Environment variables that keep the libraries from printing."""
OnStep = Callable[[int, Mapping[str, float]], None]
"""Called with (optimizer step, metrics by our names) after each step."""
METRIC_NAMES = {
    "loss": "loss", "learning_rate": "lr", "grad_norm": "grad_norm", "reward": "reward",
    "completions/mean_length": "length",
}  # fmt: skip
"""TRL's name of each logged metric, and ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSummary:
    """Totals of a training.

    Example: ``TrainingSummary(steps=384, tokens=190_000)``
    """

    steps: int
    """Number of optimizer steps."""
    tokens: int
    """Number of tokens sampled during training (GRPO); 0 for the other methods."""


def check_settings(config: BaselineConfig) -> None:
    """Have TRL check its settings, before anything is sampled or written.

    Raises:
        ConfigError: TRL refuses a setting.
    """
    with quiet_libraries():
        _arguments(config, config.folder)


def run_trainer(config: BaselineConfig, examples: Examples, folder: Path, on_step: OnStep) -> TrainingSummary:
    """Train with TRL and write the model into `folder`/model.

    Args:
        config: The run.
        examples: Training data in TRL's columns.
        folder: Folder of the run.
        on_step: Called after each optimizer step with its metrics: `loss`, `lr`, `grad_norm`, `progress` (0 to 1), and
            with GRPO `reward` and `length` (tokens).

    Raises:
        ConfigError: TRL refuses a setting.
        ModelError: The model cannot be loaded.
        NonFiniteError: The loss or the gradient is not finite; no model is written.
        ResourceError: The model cannot be written.
    """
    import torch

    tokens = 0.0

    def count_tokens(step: int, values: Mapping[str, float]) -> None:
        nonlocal tokens
        # TRL logs the mean length of a step's answers, and a step has `batch_size` of them.
        tokens += values.get("length", 0.0) * config.trainer.batch_size
        on_step(step, values)

    with quiet_libraries():
        trainer = _trainer(config, examples, folder, count_tokens)
        trainer.train()
    model, dtype = trainer.accelerator.unwrap_model(trainer.model), getattr(torch, config.model.dtype)
    weights = [(name, weight.detach().to("cpu", dtype)) for name, weight in model.named_parameters()]
    with disk_errors(f"the model to {folder / 'model'}"):
        export_model(weights, config.model, folder / "model")
    return TrainingSummary(steps=int(trainer.state.global_step), tokens=round(tokens))


def language_reward(detector: DetectorConfig) -> Callable[..., list[float]]:
    """Return GRPO's reward function: +1 for an answer without confusion, -1 for a confused one."""
    is_clean = clean_judge(detector)

    def reward(completions: Sequence[str], language: Sequence[str], **_: object) -> list[float]:
        # TRL passes the rows' other columns as lists, so `language` has one entry per completion.
        prompts = (Prompt(index=0, id="", language=target, text="") for target in language)
        return [
            CLEAN_REWARD if is_clean(prompt, completion) else CONFUSED_REWARD
            for prompt, completion in zip(prompts, completions, strict=True)
        ]

    return reward


def _trainer(config: BaselineConfig, examples: Examples, folder: Path, on_step: OnStep) -> Any:
    import torch
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback

    arguments = _arguments(config, folder)
    rewards = {"reward_funcs": language_reward(config.detector)} if config.method == "grpo" else {}
    # Weights are float32 whatever the model's own format: in bfloat16, steps this small would round to nothing. On a
    # GPU the forward pass still runs in bfloat16.
    policy = load_model(config.model, torch.float32, trainable=True)
    try:
        trainer = _trl_classes(config)[0](
            model=policy,
            args=arguments,
            train_dataset=Dataset.from_list(list(examples.rows)),
            processing_class=Rendering(config.model).plain,
            callbacks=[_callback(on_step)],
            **rewards,
        )
    except (TypeError, ValueError) as error:
        raise _refused(config, error) from error
    trainer.remove_callback(PrinterCallback)
    return trainer


def _trl_classes(config: BaselineConfig) -> tuple[Any, Any]:
    """Return TRL's trainer class of a method and the class of its configuration."""
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
    """Return TRL's configuration object.

    Raises:
        ConfigError: TRL refuses a setting.
    """
    trainer, gpu = config.trainer, on_gpu()
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
        return _trl_classes(config)[1](**common | own[config.method] | trainer.extra)
    except (TypeError, ValueError) as error:
        raise _refused(config, error) from error


def _reference(config: BaselineConfig) -> dict[str, Any]:
    """Return settings by which the reference policy, which TRL loads by the model's name, has the same revision."""
    return {"model_init_kwargs": {"revision": config.model.revision}} if config.model.revision else {}


def _refused(config: BaselineConfig, error: Exception) -> ConfigError:
    reason = first_line(error)
    key = reason.partition("unexpected keyword argument ")[2].strip("'")
    if key:
        return ConfigError(f"trainer.extra.{key}: TRL's settings of {config.method} have no such key")
    return ConfigError(f"{config.method}: TRL refuses the settings: {reason}")


def _callback(on_step: OnStep) -> Any:
    """Return a callback of the transformers trainer that passes each step's metrics on and stops at one not finite."""
    from transformers import TrainerCallback

    class StepCallback(TrainerCallback):  # type: ignore[misc]  # untyped base
        def on_log(
            self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **_: Any
        ) -> None:
            values = {ours: float(logs[theirs]) for theirs, ours in METRIC_NAMES.items() if logs and theirs in logs}
            if "loss" not in values:  # the last log summarises the training
                return
            for name, value in values.items():
                if not math.isfinite(value):
                    raise NonFiniteError(f"{name} is {value} at step {state.global_step}; lower trainer.lr")
            on_step(state.global_step, values | {"progress": state.global_step / state.max_steps})

    return StepCallback()


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep the libraries from printing while the block runs."""
    os.environ.update(QUIET)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TRL warns about the version of vLLM, which it does not use here
        import datasets
        from transformers.utils import logging

        datasets.disable_progress_bars()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        yield
