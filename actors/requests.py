"""Requests to an inference engine: token ids in; token ids or candidate sets out.

Text, detection and rewards are the caller's business. Shape suffix: N candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from detectors.language_profile import English
from tlpo_ray.config.decoding import RULES, DecodingConfig, RuleMethod
from tlpo_ray.flow.records import Float32, Int32

Result_co = TypeVar("Result_co", covariant=True)
StopCondition = Callable[[Sequence[int]], bool]
"""Function that is called with the tokens by which an answer has just grown; True aborts the answer."""


class EngineRequest(Generic[Result_co]):
    """Base class of the requests; its type parameter is the type of the result."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateSet:
    """Candidates for the next token after a context, with their probabilities in the untempered distribution."""

    token_ids: Int32
    """[N] token ids, most probable first."""
    logp: Float32
    """[N] natural-log probabilities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodingRule:
    """A rule that changes the logits of each token of an answer before it is sampled.

    Example: ``DecodingRule(method="mask", language="ko")``
    """

    method: RuleMethod
    language: str
    """Language that the answer should be in."""
    english: English = "neutral"
    """Meaning of English words."""
    alpha: float = 8.0
    """`DecodingConfig.alpha`."""
    top_k: int = 10
    """`DecodingConfig.top_k`."""


def decoding_rule(config: DecodingConfig, language: str, english: English) -> DecodingRule | None:
    """Return the rule of a decoding method for answers in one language; None if the method has none."""
    if config.method not in RULES:
        return None
    return DecodingRule(
        method=config.method, language=language, english=english, alpha=config.alpha, top_k=config.top_k
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRequest(EngineRequest[list[int]]):
    """Request to sample one answer; the result is its token ids without the end-of-text token.

    The answer ends at that token, after `max_new_tokens`, or when `stop_condition` returns True. With a seed it depends
    on nothing but weights, prompt and seed, whatever else the engine serves at the same time.
    """

    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    """Maximum length of the answer in tokens; prompt and answer together must fit into the engine's context."""
    temperature: float
    """Sampling temperature; 0 is greedy."""
    seed: int | None
    stop_condition: StopCondition | None = None
    rule: DecodingRule | None = None
    """Change of the logits; only a `DecodingEngine` serves requests with one."""
    banned_ids: frozenset[int] = frozenset()
    """Tokens that are not sampled; only a `DecodingEngine` serves requests with any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopKRequest(EngineRequest[CandidateSet]):
    """Request for the `n` most probable next tokens after a context (Eq. 2)."""

    context_ids: Sequence[int]
    n: int
    include: int | None = None
    """Token that takes the last place if it is not among the `n` most probable ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MultinomialRequest(EngineRequest[CandidateSet]):
    """Request for `n` distinct next tokens, drawn without replacement from the distribution after a context.

    An ablation of Eq. 2 (`rollout.selection=multinomial`).
    """

    context_ids: Sequence[int]
    n: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GreedyRequest(EngineRequest[list[list[int]]]):
    """Request to continue contexts greedily; the result is one continuation per context, without the end-of-text token.

    One request holds all candidates of a confusion point, so that they reach the engine together and share the
    keys and values of their common prefix.
    """

    contexts: Sequence[Sequence[int]]
    max_new_tokens: int
    """Maximum length of the continuation in tokens; less where the engine's context ends."""
    stop_conditions: Sequence[StopCondition] = ()
    """Stop condition of each context; empty for none."""
