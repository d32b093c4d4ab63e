"""The quickstart as a run of `tlpo train`, and the score of its model."""

from __future__ import annotations

import shutil
from pathlib import Path

from actors.worker import build_worker
from tlpo_ray.config.load import dump_config, load_config
from tlpo_ray.flow.records import Prompt
from tlpo_ray.quickstart.scoring import Scorer, ToyScore
from tlpo_ray.quickstart.settings import LOCAL, ROUNDS
from tlpo_ray.quickstart.toy_cache import cached_toy_model
from tlpo_ray.quickstart.toy_questions import SAMPLES
from tlpo_ray.quickstart.world import toy_world

SETTINGS = ("flow.max_restarts=1000", "flow.heartbeat_s=10", "checkpoint.every_updates=5")


def quickstart_config(folder: Path, seed: int, rounds: int = ROUNDS, *settings: str) -> Path:
    """Write the quickstart's configuration and prompts into a new folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    model = cached_toy_model(seed, lambda share, loss: None)
    prompts = folder.with_name(f"{folder.name}-prompts.jsonl").resolve()
    toy_world().write_prompts(prompts, rounds, seed)
    config = load_config(
        "quickstart",
        [
            f"model.path={model}",
            f"data.prompts={prompts}",
            f"folder={folder.resolve()}",
            f"seed={seed}",
            *SETTINGS,
            *settings,
        ],
    )
    file = folder.with_name(f"{folder.name}.yaml")
    file.write_text(dump_config(config), encoding="utf-8")
    return file


def scored(model: Path, seed: int) -> ToyScore:
    """Score a model's answers to every question of the toy world, at the quickstart's temperature."""
    world = toy_world()
    config = load_config("quickstart", [f"model.path={model}", *LOCAL])
    worker = build_worker(config.model, config.rollout, config.detector, seed)
    questions = world.questions
    prompts = [Prompt(index=n, id=one.id, language=one.language, text=one.text) for n, one in enumerate(questions)]
    answers = worker.generate(prompts, SAMPLES, config.rollout.temperature, config.rollout.max_new_tokens, seed)
    return Scorer(world).score((questions[answer.prompt_index], answer.text) for answer in answers)
