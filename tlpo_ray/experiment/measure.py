"""Measurements of a model of the wide toy world: confusion, knowledge of every kind, and distance from the start.

`report.summary.COLUMNS` says what each of them means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tlpo_ray.config.decoding import DecodingConfig
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.evaluation.generation import model_for_sampling
from tlpo_ray.evaluation.sampling import Sampling, answers_of, sampling_worker
from tlpo_ray.quickstart.clean_kl import clean_kl
from tlpo_ray.quickstart.scoring import AnswerScore, Scorer, summary
from tlpo_ray.quickstart.toy_questions import as_prompts, right_answers
from tlpo_ray.quickstart.world import Question, World

MAX_NEW_TOKENS = 64
"""Longest answer in tokens: no answer of the toy world is as long."""


def measure_model(model: Path, before: Path, world: World, answers: Sequence[str]) -> dict[str, float]:
    """Return the metrics of a model by name.

    Args:
        model: Folder of the model.
        before: Folder of the model that training started from.
        world: World with the questions.
        answers: Its answers to them, from `sample_answers`, the same number to each.

    Raises:
        JudgeError: An answer cannot be judged.
    """
    config = model_for_sampling(str(model), MAX_NEW_TOKENS)
    samples = len(answers) // len(world.questions)
    questions = [question for question in world.questions for _ in range(samples)]
    scorer = Scorer(world)
    scores = [scorer.answer(question, text) for question, text in zip(questions, answers, strict=True)]
    return _rates(questions, scores) | _kl_from(config, before, world)


def sample_answers(
    model: ModelConfig, questions: Sequence[Question], samples: int, seed: int, decoding: str = "plain"
) -> tuple[list[str], dict[str, float]]:
    """Return `samples` answers per question at temperature 0.6, in the questions' order, and metrics of their cost.

    A decoding method other than plain sampling is timed beside plain sampling, on the same engine.
    """
    sampling = Sampling(
        samples=samples, max_new_tokens=MAX_NEW_TOKENS, engine="transformers", concurrency=256, seed=seed,
        decoding=DecodingConfig.parse(decoding),
    )  # fmt: skip
    prompts = as_prompts(questions)
    worker = sampling_worker(model, sampling)
    try:
        sampled = answers_of(worker, model, prompts, sampling)
        costs: dict[str, float] = {}
        if sampling.decoding.method != "plain":
            once = replace(sampling, samples=1)
            plain = answers_of(worker, model, prompts, replace(once, decoding=DecodingConfig())).cost
            beside = answers_of(worker, model, prompts, once).cost
            costs["times_plain"] = beside.ms_per_token / plain.ms_per_token
            costs["interventions"] = sampled.cost.interventions_per_1000_tokens
    finally:
        worker.close()
    return [completion.text for completion in sampled.completions], costs


def _rates(questions: Sequence[Question], scores: Sequence[AnswerScore]) -> dict[str, float]:
    """Return rates of the answers; `questions` has the question of each."""
    by_group: dict[str, list[AnswerScore]] = {}
    for question, score in zip(questions, scores, strict=True):
        by_group.setdefault(question.group, []).append(score)
    # What asks for a foreign name is a metric of its own: no pass rate, and no accuracy in the question's language.
    wanted = by_group.pop("wanted", [])
    # Only these two groups are about currencies in the four languages, whose answers the toy model confuses.
    confusable = summary([*by_group["asked"], *by_group["unasked"]])
    everything = summary([score for group in by_group.values() for score in group])
    groups = {name: summary(group) for name, group in by_group.items()}
    return {
        "rpr": confusable.rpr,
        "wpr": confusable.wpr,
        "rpr_asked": groups["asked"].rpr,
        "rpr_unasked": groups["unasked"].rpr,
        "accuracy": everything.accuracy_any_language,
        "accuracy_strict": everything.accuracy,
        **{f"accuracy_{name}": score.accuracy for name, score in groups.items()},
        "length": everything.length,
        **({"wanted": summary(wanted).accuracy} if wanted else {}),
    }


def _kl_from(model: ModelConfig, before: Path, world: World) -> dict[str, float]:
    """Return the KL to the model before training on right answers, with and without the token where the name begins."""
    from transformers import AutoModelForCausalLM

    from tlpo_ray.flow.tokenizer import load_tokenizer

    policy, reference = (AutoModelForCausalLM.from_pretrained(path) for path in (model.path, before))
    kl = clean_kl(policy, reference, load_tokenizer(model), model, right_answers(world.questions))
    return {"kl_clean": kl.all_positions, "kl_elsewhere": kl.beyond_name, "perplexity": kl.perplexity}
