"""What a model of the wide toy world is worth: confusion, knowledge of every kind, and how far it has moved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tlpo_ray.config.run import ModelConfig
from tlpo_ray.evaluation.sampling import Sampling, asked_model, sampled_answers
from tlpo_ray.flow.records import Prompt
from tlpo_ray.quickstart.clean_kl import clean_kl
from tlpo_ray.quickstart.scoring import AnswerScore, Scorer, summary
from tlpo_ray.quickstart.world import Question, World

SAMPLING = Sampling(max_new_tokens=64, engine="transformers", concurrency=256)
METRICS = {
    "rpr": "answers without a foreign word, to questions whose answers slip (Eq. 8)",
    "wpr": "words without confusion, in the same answers (Eq. 9)",
    "rpr_asked": "RPR of the questions that the run asked",
    "rpr_unasked": "RPR of the same question about territories that the run never asked about",
    "accuracy": "answers with the right value, in whatever language, over all questions: what the model knows",
    "accuracy_strict": "answers that are right, clean and in the question's language, over all questions",
    "accuracy_asked": "right, clean and in the right language: questions that the run asked",
    "accuracy_unasked": "the same for territories that it never asked about",
    "accuracy_other_topic": "the same for another topic in the same languages",
    "accuracy_other_language": "the same for questions in the languages that answers slip into",
    "accuracy_english": "the same for questions in English",
    "length": "characters of an answer, mean over all questions",
    "kl_clean": "KL to the model before on right answers to all questions, nats a token",
    "kl_elsewhere": "the same without the token where the name begins",
}
"""Name and meaning of what is measured of a trial's model."""


def measured(model: Path, before: Path, world: World, samples: int, seed: int) -> tuple[dict[str, float], list[str]]:
    """`METRICS` of a model, and its answers: `samples` to each question, in the world's order."""
    config = asked_model(str(model), SAMPLING.max_new_tokens)
    answers = answers_of(config, world.questions, samples, seed)
    asked = [question for question in world.questions for _ in range(samples)]
    scorer = Scorer(world)
    scores = [scorer.answer(question, text) for question, text in zip(asked, answers, strict=True)]
    return _rates(asked, scores) | _moved(config, before, world), answers


def answers_of(model: ModelConfig, questions: Sequence[Question], samples: int, seed: int) -> list[str]:
    """Sampled answers, `samples` to each question, in the questions' order."""
    prompts = [
        Prompt(index=number, id=question.id, language=question.language, text=question.text)
        for number, question in enumerate(questions)
    ]
    sampling = Sampling(
        samples=samples, max_new_tokens=SAMPLING.max_new_tokens, engine=SAMPLING.engine,
        concurrency=SAMPLING.concurrency, seed=seed,
    )  # fmt: skip
    return [answer.text for answer in sampled_answers(model, prompts, sampling)]


def _rates(asked: Sequence[Question], scores: Sequence[AnswerScore]) -> dict[str, float]:
    by_group: dict[str, list[AnswerScore]] = {}
    for question, score in zip(asked, scores, strict=True):
        by_group.setdefault(question.group, []).append(score)
    slipping, everything = summary([*by_group["asked"], *by_group["unasked"]]), summary(scores)
    groups = {name: summary(found) for name, found in by_group.items()}
    return {
        "rpr": slipping.rpr,
        "wpr": slipping.wpr,
        "rpr_asked": groups["asked"].rpr,
        "rpr_unasked": groups["unasked"].rpr,
        "accuracy": everything.accuracy_anywhere,
        "accuracy_strict": everything.accuracy,
        **{f"accuracy_{name}": score.accuracy for name, score in groups.items()},
        "length": everything.length,
    }


def _moved(model: ModelConfig, before: Path, world: World) -> dict[str, float]:
    from transformers import AutoModelForCausalLM

    from actors.chat import load_tokenizer

    policy, reference = (AutoModelForCausalLM.from_pretrained(path) for path in (model.path, before))
    moved = clean_kl(policy, reference, load_tokenizer(model), model, world.questions)
    return {"kl_clean": moved.everywhere, "kl_elsewhere": moved.elsewhere}
