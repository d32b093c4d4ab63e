"""A look into one trained policy: the advantages at a confusion point (Fig. 3), and where probability went (Fig. 6)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch

import detectors
from actors.candidates import context_of
from actors.chat import load_tokenizer, prompt_ids
from actors.engine import CandidateSet
from actors.hf_engine import TransformersEngine
from actors.lookahead import Rewarded, rewarded_candidates
from actors.rollout import Question, sampled
from actors.tasks import Candidates, Task, drive
from actors.token_bytes import TokenBytes
from learner.advantage import advantages
from tlpo_ray.config.run import AdvantageForm, ModelConfig, RolloutConfig
from tlpo_ray.evaluation.probe import next_logp
from tlpo_ray.flow.records import CandidateGroup, Prompt
from tlpo_ray.quickstart.world import World

N = 16
RANKS = ((1, 16), (17, 32), (33, 64), (65, 128), (129, 256))
"""Ranks under the policy before training; the first are what TLPO trains."""
ROUNDS = 2
"""Answers to each asked question that confusion points are looked for in."""
Z_95 = 1.96
Json = dict[str, Any]


def advantage_figure(groups: Sequence[CandidateGroup], model: ModelConfig) -> Json:
    """The three advantage forms at the confusion point whose rewards are most evenly weighted by probability."""
    group = min(groups, key=lambda one: abs(0.5 - float(np.exp(one.old_logp[one.rewards > 0]).sum())))
    tokenizer = load_tokenizer(model)
    logp, rewards = (torch.as_tensor(values)[None] for values in (group.old_logp, group.rewards))
    forms = {form: advantages(logp, rewards, form)[0].tolist() for form in get_args(AdvantageForm)}
    return {
        "prompt": tokenizer.decode(group.context_ids[: group.prompt_length].tolist(), skip_special_tokens=True),
        "context": tokenizer.decode(group.context_ids[group.prompt_length :].tolist()),
        "candidates": [
            {
                "token": tokenizer.decode([token]), "probability": math.exp(group.old_logp[i]),
                "reward": float(group.rewards[i]), **{form: values[i] for form, values in forms.items()},
            }
            for i, token in enumerate(group.candidate_ids.tolist())
        ],
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Judged:
    """A confusion point's tokens by rank under the policy before: whether they lead to confusion, and both policies."""

    confusing: np.ndarray[Any, Any]
    before: np.ndarray[Any, Any]
    after: np.ndarray[Any, Any]


def shift_figure(before: ModelConfig, after: ModelConfig, world: World, seed: int) -> Json:
    """Probability of confusing and clean tokens before and after training, inside and beyond the candidate set.

    Tokens beyond rank 16 are in no candidate set at these points: where they lose probability, nobody trained them.
    """
    points = list(_judged_points(before, after, world, seed))
    top = slice(0, N), slice(N, RANKS[-1][1])
    return {
        "contexts": len(points),
        "n": N,
        "groups": [_mass(points, ranks, confusing) for confusing in (True, False) for ranks in top],
        "by_rank": [_by_rank(points, ranks, confusing) for confusing in (True, False) for ranks in RANKS],
    }


def _judged_points(before: ModelConfig, after: ModelConfig, world: World, seed: int) -> Iterator[_Judged]:
    rollout = RolloutConfig(engine="transformers", max_new_tokens=64, concurrency=256)
    engine, tokenizer = TransformersEngine(before, rollout), load_tokenizer(before)
    token_bytes = TokenBytes(tokenizer)
    asked = [
        Question(
            prompt=Prompt(index=number, id=question.id, language=question.language, text=question.text),
            prompt_ids=tuple(prompt_ids(tokenizer, before, question.text)),
            detector=detectors.profile(question.language),
        )
        for number, question in enumerate([one for one in world.questions if one.group == "asked"] * ROUNDS)
    ]

    def looked_at(question: Question) -> Task[tuple[tuple[int, ...], CandidateSet, Rewarded] | None]:
        """Context, most probable tokens and their rewards at an answer's confusion point."""
        answer = yield from sampled(question, engine, token_bytes, rollout, seed)
        if answer.point is None:
            return None
        chosen = yield Candidates(context=context_of(answer), n=RANKS[-1][1])
        k = rollout.lookahead_tokens
        rewarded = yield from rewarded_candidates(answer, chosen, question.detector, token_bytes, k)
        return context_of(answer), chosen, rewarded

    found = [one for one in drive(engine, [looked_at(question) for question in asked]) if one is not None]
    contexts, sets, rewarded = zip(*found, strict=True)
    after_BV = next_logp(after, contexts).exp()
    for number, (chosen, reward) in enumerate(zip(sets, rewarded, strict=True)):
        ids = torch.as_tensor(chosen.token_ids, dtype=torch.long)
        yield _Judged(reward.rewards < 0, np.exp(chosen.logp), after_BV[number, ids].numpy())


def _mass(points: Sequence[_Judged], ranks: slice, confusing: bool) -> Json:
    """Mean probability of a kind of tokens at a confusion point."""

    def mean(name: str) -> float:
        masses = [getattr(one, name)[ranks][one.confusing[ranks] == confusing].sum() for one in points]
        return float(np.mean(masses))

    before, after = mean("before"), mean("after")
    where = f"inside the top {N}" if ranks.start == 0 else f"rank {N + 1} to {ranks.stop}"
    return {
        "label": f"{'confusing' if confusing else 'clean'}, {where}", "confusing": confusing,
        "inside": ranks.start == 0, "before": before, "after": after, "ratio": after / before if before else None,
    }  # fmt: skip


def _by_rank(points: Sequence[_Judged], ranks: tuple[int, int], confusing: bool) -> Json:
    """Mean log ratio after / before of a kind of tokens of some ranks, with a 95 % interval over confusion points."""
    window = slice(ranks[0] - 1, ranks[1])
    means: list[float] = []
    tokens = 0
    for one in points:
        kind = one.confusing[window] == confusing
        ratios = np.log(one.after[window][kind]) - np.log(one.before[window][kind])
        tokens += int(kind.sum())
        if ratios.size:
            means.append(float(ratios.mean()))
    mean = float(np.mean(means)) if means else 0.0
    half = Z_95 * float(np.std(means, ddof=1)) / math.sqrt(len(means)) if len(means) > 1 else 0.0
    return {
        "rank_from": ranks[0], "rank_to": ranks[1], "confusing": confusing, "tokens": tokens,
        "log_ratio_mean": mean, "log_ratio_low": mean - half, "log_ratio_high": mean + half,
    }  # fmt: skip
