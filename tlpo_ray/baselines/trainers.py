"""TRL's trainers, set up for a baseline's configuration."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from actors.chat import load_tokenizer
from tlpo_ray.baselines.examples import Examples, clean_judge
from tlpo_ray.config.baseline import BaselineConfig
from tlpo_ray.config.run import DetectorConfig
from tlpo_ray.flow.errors import ConfigError, first_line
from tlpo_ray.flow.records import Prompt

QUIET = {"TRL_EXPERIMENTAL_SILENCE": "1", "WANDB_DISABLED": "true", "TQDM_DISABLE": "1"}
CLEAN_REWARD, CONFUSED_REWARD = 1.0, -1.0
Step = Callable[[int, Mapping[str, float]], None]
"""Told (optimizer step, metrics by our names) after each step."""
LOGGED = {
    "loss": "loss", "learning_rate": "lr", "grad_norm": "grad_norm", "reward": "reward",
    "completions/mean_length": "length",
}  # fmt: skip
"""TRL's name of a metric, and ours."""


def train_baseline(config: BaselineConfig, data: Examples, folder: Path, on_step: Step) -> int:
    """Train and write the model into `folder`/model; the optimizer steps made.

    Raises:
        ConfigError: TRL refuses a setting.
    """
    os.environ.update(QUIET)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TRL warns about vLLM, which it does not use here
        import datasets

        datasets.disable_progress_bars()
        trainer = _trainer(config, data, folder, on_step)
        trainer.train()
    steps = int(trainer.state.global_step)
    trainer.model.save_pretrained(folder / "model")
    load_tokenizer(config.model).save_pretrained(folder / "model")
    return steps


def plain_tokenizer(tokenizer: Any) -> Any:
    """A copy that adds no special tokens: rendered texts hold theirs already, and a second one would be learned."""
    from tokenizers.processors import Sequence as Nothing

    plain = copy.deepcopy(tokenizer)
    plain.backend_tokenizer.post_processor = Nothing([])
    plain.pad_token = plain.pad_token or plain.eos_token
    return plain


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
    from transformers import AutoModelForCausalLM

    kind, arguments = _method(config)
    model = AutoModelForCausalLM.from_pretrained(
        config.model.path,
        revision=config.model.revision,
        dtype=torch.float32,  # master weights; bfloat16 by autocast
        trust_remote_code=config.model.trust_remote_code,
        use_safetensors=True,
    )
    rewards = {"reward_funcs": language_reward(config.detector)} if config.method == "grpo" else {}
    try:
        return kind(
            model=model,
            args=arguments(**_arguments(config, folder)),
            train_dataset=Dataset.from_list(list(data.rows)),
            processing_class=plain_tokenizer(load_tokenizer(config.model)),
            callbacks=[_callback(on_step)],
            **rewards,
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{config.method}: TRL refuses the settings: {first_line(error)}") from error


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


def _arguments(config: BaselineConfig, folder: Path) -> dict[str, Any]:
    import torch

    trainer, gpu = config.trainer, torch.cuda.is_available()
    common = {
        "output_dir": str(folder), "seed": config.seed, "learning_rate": trainer.lr, "lr_scheduler_type": "cosine",
        "warmup_steps": trainer.warmup, "num_train_epochs": trainer.epochs, "weight_decay": trainer.weight_decay,
        "per_device_train_batch_size": trainer.micro_batch,
        "gradient_accumulation_steps": trainer.batch // trainer.micro_batch, "max_grad_norm": trainer.max_grad_norm,
        "use_cpu": not gpu, "bf16": gpu and config.model.dtype == "bfloat16", "gradient_checkpointing": gpu,
        "logging_steps": 1, "report_to": [], "save_strategy": "no", "disable_tqdm": True,
    }  # fmt: skip
    own: dict[str, dict[str, Any]] = {
        "sft": {"max_length": trainer.max_length, "completion_only_loss": True},
        "dpo": {"max_length": trainer.max_length, "beta": trainer.beta},
        "orpo": {"max_length": trainer.max_length, "beta": trainer.beta},
        "grpo": {
            "beta": trainer.beta, "num_generations": trainer.generations, "temperature": trainer.temperature,
            "max_completion_length": trainer.max_new_tokens,
        },
    }  # fmt: skip
    return common | own[config.method] | trainer.extra


def _callback(on_step: Step) -> Any:
    from transformers import TrainerCallback

    class Told(TrainerCallback):  # type: ignore[misc]  # untyped base
        def on_log(
            self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **_: Any
        ) -> None:
            values = {ours: logs[theirs] for theirs, ours in LOGGED.items() if logs and theirs in logs}
            if "loss" in values:  # the last log is a summary of the whole
                on_step(state.global_step, values | {"progress": state.global_step / state.max_steps})

    return Told()
