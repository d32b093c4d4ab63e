"""Analyses of one trained policy: advantages at a confusion point (Fig. 3), and where probability moved (Fig. 6).

Shape suffixes: B confusion points, V vocabulary, R ranks under the policy before training (256).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import detectors
from actors.candidates import context_of
from actors.chat import prompt_ids
from actors.coroutine import RolloutCoroutine, run_coroutines
from actors.engine import EngineOptions
from actors.hf_engine import TransformersEngine
from actors.lookahead import CandidateScorer, score_candidates
from actors.requests import CandidateSet, TopKRequest
from actors.rollout import RenderedPrompt, sample_answer
from actors.token_bytes import TokenBytes
from learner.advantage import grpo, tlpo, unweighted
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.config.run import RolloutConfig
from tlpo_ray.evaluation.probe import next_logp
from tlpo_ray.flow.records import CandidateGroup, Float32, Prompt
from tlpo_ray.flow.tokenizer import load_tokenizer
from tlpo_ray.quickstart.world import World

N = 16
"""Size of the candidate sets that TLPO trains on."""
RANKS = ((1, N), (17, 32), (33, 64), (65, 128), (129, 256))
"""First and last rank of each group of tokens under the policy before training; TLPO trains the first group."""
ROUNDS = 2
"""Answers sampled to each asked question in search of confusion points."""
ADVANTAGE_FORMS = {"tlpo": tlpo, "unweighted": unweighted, "grpo": grpo}
Z_95 = 1.96
"""Standard normal quantile of a two-sided 95 % interval."""
Json = dict[str, Any]


def advantage_analysis(groups: Sequence[CandidateGroup], model: ModelConfig) -> Json:
    """Return the three advantage forms at one confusion point, as `advantage.json` of an experiment has them.

    The point chosen is the one where clean and confusing candidates have the most nearly equal probability, because the
    forms differ most there.

    Args:
        groups: Candidate groups of a run.
        model: The run's model configuration, for its tokenizer.
    """
    group = min(groups, key=lambda group: abs(0.5 - float(np.exp(group.old_logp[group.rewards > 0]).sum())))
    tokenizer = load_tokenizer(model)
    logp_BK, rewards_BK = (torch.as_tensor(values)[None] for values in (group.old_logp, group.rewards))
    advantages = {name: form(logp_BK, rewards_BK)[0].tolist() for name, form in ADVANTAGE_FORMS.items()}
    return {
        "prompt": tokenizer.decode(group.context_ids[: group.prompt_length].tolist(), skip_special_tokens=True),
        "context": tokenizer.decode(group.context_ids[group.prompt_length :].tolist()),
        "candidates": [
            {
                "token": tokenizer.decode([token]), "probability": math.exp(group.old_logp[i]),
                "reward": float(group.rewards[i]), **{name: values[i] for name, values in advantages.items()},
            }
            for i, token in enumerate(group.candidate_ids.tolist())
        ],
    }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    """The most probable tokens at a confusion point, by rank under the policy before training."""

    confusing: npt.NDArray[np.bool_]
    """[R] whether each token leads to confusion."""
    before: Float32
    """[R] probability of each token before training."""
    after: Float32
    """[R] probability of each token after training."""


def shift_analysis(before: ModelConfig, after: ModelConfig, world: World, seed: int) -> Json:
    """Return the probability of confusing and clean tokens before and after training, as `shift.json` has it.

    Tokens inside the candidate set and beyond it are reported separately. Those beyond rank 16 are in no candidate set
    at these points, so that what they lose was not trained away directly.

    Args:
        before: The policy before training.
        after: The trained policy.
        world: World with the questions that training has asked.
        seed: Seed of the answers in which confusion points are looked for.
    """
    points = list(_points(before, after, world, seed))
    inside_and_beyond = slice(0, N), slice(N, RANKS[-1][1])
    return {
        "contexts": len(points),
        "n": N,
        "groups": [_mass(points, ranks, confusing) for confusing in (True, False) for ranks in inside_and_beyond],
        "by_rank": [_log_ratio(points, ranks, confusing) for confusing in (True, False) for ranks in RANKS],
    }


def _points(before: ModelConfig, after: ModelConfig, world: World, seed: int) -> Iterator[_Point]:
    """Sample answers of the policy before training, and yield the confusion point of each that has one."""
    rollout = RolloutConfig(engine="transformers", max_new_tokens=64, concurrency=256)
    engine, tokenizer = TransformersEngine(before, rollout, EngineOptions()), load_tokenizer(before)
    token_bytes = TokenBytes(tokenizer)
    questions = [question for question in world.questions if question.group == "asked"] * ROUNDS
    prompts = [
        RenderedPrompt(
            prompt=Prompt(index=number, id=question.id, language=question.language, text=question.text),
            prompt_ids=tuple(prompt_ids(tokenizer, before, question.text)),
            detector=detectors.language(question.language),
        )
        for number, question in enumerate(questions)
    ]

    def probe(prompt: RenderedPrompt) -> RolloutCoroutine[tuple[tuple[int, ...], CandidateSet, Float32] | None]:
        """Return context, most probable tokens and their rewards at an answer's confusion point."""
        answer = yield from sample_answer(prompt, engine, token_bytes, rollout, seed, before.stop_strings)
        if answer.point is None:
            return None
        context = context_of(answer)
        candidates: CandidateSet = yield TopKRequest(context_ids=context, n=RANKS[-1][1])
        scorer = CandidateScorer(answer, token_bytes, prompt.detector, engine.eos_ids, before.stop_strings)
        scores = yield from score_candidates(candidates, context, scorer, rollout)
        return context, candidates, scores.rewards

    probed = [point for point in run_coroutines(engine, [probe(prompt) for prompt in prompts]) if point is not None]
    contexts, candidate_sets, rewards = zip(*probed, strict=True)
    after_BV = next_logp(after, contexts).exp()
    for number, (candidates, rewards_R) in enumerate(zip(candidate_sets, rewards, strict=True)):
        ids = torch.as_tensor(candidates.token_ids, dtype=torch.long)
        yield _Point(
            confusing=rewards_R < 0, before=np.exp(candidates.logp), after=after_BV[number, ids].numpy()
        )  # fmt: skip


def _mass(points: Sequence[_Point], ranks: slice, confusing: bool) -> Json:
    """Return the mean probability of the confusing or the clean tokens of some ranks at a confusion point."""

    def mean(probabilities: Sequence[Float32]) -> float:
        masses = [
            probability[ranks][point.confusing[ranks] == confusing].sum()
            for point, probability in zip(points, probabilities, strict=True)
        ]
        return float(np.mean(masses))

    before, after = mean([point.before for point in points]), mean([point.after for point in points])
    where = f"inside the top {N}" if ranks.start == 0 else f"rank {N + 1} to {ranks.stop}"
    return {
        "label": f"{'confusing' if confusing else 'clean'}, {where}", "confusing": confusing,
        "inside": ranks.start == 0, "before": before, "after": after, "ratio": after / before if before else None,
    }  # fmt: skip


def _log_ratio(points: Sequence[_Point], ranks: tuple[int, int], confusing: bool) -> Json:
    """Return the mean of log(after / before) over the confusing or the clean tokens of some ranks.

    The 95 % interval is over confusion points, not over tokens: tokens of one point are not independent.
    """
    window = slice(ranks[0] - 1, ranks[1])
    means: list[float] = []
    tokens = 0
    for point in points:
        selected = point.confusing[window] == confusing
        ratios = np.log(point.after[window][selected]) - np.log(point.before[window][selected])
        tokens += int(selected.sum())
        if ratios.size:
            means.append(float(ratios.mean()))
    mean = float(np.mean(means)) if means else 0.0
    half = Z_95 * float(np.std(means, ddof=1)) / math.sqrt(len(means)) if len(means) > 1 else 0.0
    return {
        "rank_from": ranks[0], "rank_to": ranks[1], "confusing": confusing, "tokens": tokens,
        "log_ratio_mean": mean, "log_ratio_low": mean - half, "log_ratio_high": mean + half,
    }  # fmt: skip
