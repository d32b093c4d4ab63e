"""Rules that change the logits of each token before it is sampled: mask, gate and boost.

Shape suffixes: B sequences, V rows of the model's output head.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from actors.decoding.language_tokens import LONGEST_TAIL, LanguageTokens, VocabularyText, vocabulary_text
from actors.requests import DecodingRule
from detectors.language_profile import English

NEVER = float("-inf")
Tails = Sequence[Sequence[int]]
"""The last tokens of each answer, `LONGEST_TAIL` of them where there are as many."""


class Rule(ABC):
    """A rule for answers in one language; it keeps no state of any answer."""

    def __init__(self, tokens: LanguageTokens) -> None:
        self._tokens = tokens

    @abstractmethod
    def apply(self, logits_BV: Tensor, tails: Tails) -> Tensor:
        """Change logits in place; return whether the most probable token of each row is another one now, bool [B].

        Args:
            logits_BV: Logits of the next token of each sequence, float32 [B, V].
            tails: Last tokens of each answer.
        """

    def _forbid_foreign(self, logits_BV: Tensor, tails: Tails, kept: Mapping[int, str]) -> Tensor:
        """Make foreign tokens impossible in some rows, and return what `apply` returns.

        Args:
            logits_BV: See `apply`.
            tails: See `apply`.
            kept: For each row to change, the script whose letters stay possible; empty for none.
        """
        highest_B = logits_BV.amax(-1)
        plain: dict[str, list[int]] = defaultdict(list)
        for row, script in kept.items():
            pending = self._tokens.pending(tails[row])
            allowed = self._tokens.following(pending, script) if pending else ()
            if len(allowed):
                ids = torch.as_tensor(allowed, device=logits_BV.device)
                possible = logits_BV[row, ids]
                logits_BV[row] = NEVER
                logits_BV[row, ids] = possible
            else:
                plain[script].append(row)
        for script, rows in plain.items():
            # Adding minus infinity is ten times faster than `masked_fill_` on a CPU.
            barred_V = self._tokens.barred(script).to(logits_BV.device)
            for part in [logits_BV] if len(rows) == len(logits_BV) else [logits_BV[row] for row in rows]:
                part.add_(barred_V)
        return logits_BV.amax(-1) < highest_B


class Mask(Rule):
    """No token is possible that would write a foreign letter, or a piece of one."""

    def apply(self, logits_BV: Tensor, tails: Tails) -> Tensor:
        return self._forbid_foreign(logits_BV, tails, dict.fromkeys(range(len(logits_BV)), ""))


class Gate(Rule):
    """The mask, only where one of the most probable tokens is foreign, and never for the script of the last word.

    The rules of the Language Confusion Gate (Zhang et al., ICLR 2026, arXiv 2510.17555) without its trained head: that
    head predicts which families of scripts may follow, and here it is the language's own and that of the last word.
    """

    def __init__(self, tokens: LanguageTokens, top_k: int) -> None:
        super().__init__(tokens)
        self._top_k = top_k

    def apply(self, logits_BV: Tensor, tails: Tails) -> Tensor:
        likely_BK = logits_BV.topk(min(self._top_k, logits_BV.shape[1])).indices.cpu()
        is_foreign_B = self._tokens.foreign()[likely_BK].any(1)
        kept = {row: self._tokens.script_of_last_word(tails[row]) for row in is_foreign_B.nonzero()[:, 0].tolist()}
        return self._forbid_foreign(logits_BV, tails, kept)


class Boost(Rule):
    """Logits of the language's tokens rise by alpha q / (p + q), in nats.

    p and q are the probabilities of all tokens with letters of the language, and of all foreign ones. So nothing
    changes where no foreign token is probable: in digits, code and clean text. Nor does it within a character: the
    tokens that complete it have no letter by themselves, and would be taken for foreign ones.
    """

    def __init__(self, tokens: LanguageTokens, alpha: float) -> None:
        super().__init__(tokens)
        self._alpha = alpha

    def apply(self, logits_BV: Tensor, tails: Tails) -> Tensor:
        highest = logits_BV.max(-1)
        kinds = self._tokens.kinds.to(logits_BV.device)
        mass_B2 = (logits_BV - highest.values[:, None]).exp_() @ kinds
        rise_B = self._alpha * mass_B2[:, 1] / mass_B2.sum(1).clamp(min=torch.finfo(torch.float32).tiny)
        is_within_B = torch.tensor([bool(self._tokens.pending(tail)) for tail in tails], device=logits_BV.device)
        logits_BV.addr_(rise_B.masked_fill_(is_within_B, 0.0), kinds[:, 0])
        # All of the language's tokens rise by the same amount: if one of them was the most probable one, it still is.
        was_own_B = kinds[highest.indices, 0] > 0
        return (logits_BV.amax(-1) > highest.values) & ~was_own_B


class RuleSet:
    """The rules that requests ask for, each built when it is first needed.

    Args:
        tokenizer: A fast tokenizer of transformers.
        rows: V, rows of the model's output head.

    Raises:
        ModelError: The bytes of the tokenizer's tokens are unknown.
    """

    def __init__(self, tokenizer: Any, rows: int) -> None:
        self._vocabulary: VocabularyText = vocabulary_text(tokenizer, rows)
        self._tokens: dict[tuple[str, English], LanguageTokens] = {}
        self._rules: dict[DecodingRule, Rule] = {}

    def apply(self, logits_BV: Tensor, requests: Sequence[DecodingRule | None], answers: Tails) -> Tensor:
        """Change the logits of a batch in place; return whether each row's most probable token has changed, bool [B].

        Args:
            logits_BV: Logits of the next token of each sequence, float32 [B, V].
            requests: Rule of each sequence; None leaves it as it is.
            answers: All tokens of each answer so far, or the last ones.
        """
        changed_B = torch.zeros(len(logits_BV), dtype=torch.bool)
        rows_of: dict[DecodingRule, list[int]] = defaultdict(list)
        for row, request in enumerate(requests):
            if request is not None:
                rows_of[request].append(row)
        for request, rows in rows_of.items():
            # Selecting several rows would copy them: either the complete batch at once, or each row by itself.
            parts = [rows] if len(rows) == len(logits_BV) else [[row] for row in rows]
            for part in parts:
                tails = [answers[row][-LONGEST_TAIL:] for row in part]
                changed = self._rule(request).apply(logits_BV[part[0] : part[-1] + 1], tails)
                changed_B[part] = changed.cpu()
        return changed_B

    def _rule(self, request: DecodingRule) -> Rule:
        if request not in self._rules:
            key = request.language, request.english
            if key not in self._tokens:
                self._tokens[key] = LanguageTokens(self._vocabulary, *key)
            self._rules[request] = _build(request, self._tokens[key])
        return self._rules[request]


def _build(request: DecodingRule, tokens: LanguageTokens) -> Rule:
    match request.method:
        case "mask":
            return Mask(tokens)
        case "gate":
            return Gate(tokens, request.top_k)
        case "boost":
            return Boost(tokens, request.alpha)
