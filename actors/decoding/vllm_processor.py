"""Decoding rules inside vLLM: a logits processor that vLLM loads by its entry point wherever this package is installed.

A request asks for a rule by extra arguments, which a server takes as `vllm_xargs`, e.g. `{"tlpo_decoding": "mask",
"tlpo_language": "ko"}`; every request may ask for another one, and those that ask for none are left alone. vLLM has two
model runners with an interface of their own each; which of them runs depends on the device, so one class serves both.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor
from vllm.v1.sample.logits_processor import BatchUpdate, process_dict_updates
from vllm.v1.sample.logits_processor import LogitsProcessor as FirstRunnerProcessor
from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsProcessor as SecondRunnerProcessor

from actors.decoding.language_tokens import LONGEST_TAIL
from actors.decoding.rules import RuleSet
from actors.requests import DecodingRule, decoding_rule
from detectors import DetectorError, English, language_code
from tlpo_ray.config.decoding import RULES, SETTING_OF, DecodingConfig
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.errors import ConfigError, UserError
from tlpo_ray.flow.tokenizer import load_tokenizer

DECODING, LANGUAGE, ENGLISH = "tlpo_decoding", "tlpo_language", "tlpo_english"
"""Extra arguments of a request: the rule with its settings, the language of the answer, the meaning of English."""
PREFIX = "tlpo_"
ENGLISH_SETTINGS: dict[str, English] = {"neutral": "neutral", "confusion": "confusion"}


def arguments_for(rule: DecodingRule) -> dict[str, str]:
    """Return the extra arguments by which a request asks for a rule."""
    setting = SETTING_OF.get(rule.method)
    value = "" if setting is None else f":{setting}={getattr(rule, setting)}"
    return {DECODING: rule.method + value, LANGUAGE: rule.language, ENGLISH: rule.english}


def requested_rule(arguments: Mapping[str, Any] | None) -> DecodingRule | None:
    """Return the rule that a request's extra arguments ask for; None if they ask for none.

    Raises:
        ValueError: They are incomplete or wrong; the message is one line, which a server returns with status 400.
    """
    ours = {key: str(value) for key, value in (arguments or {}).items() if key.startswith(PREFIX)}
    if not ours:
        return None
    if unknown := sorted(ours.keys() - {DECODING, LANGUAGE, ENGLISH}):
        raise ValueError(f"{', '.join(unknown)}: expected {DECODING}, {LANGUAGE} and {ENGLISH}")
    if missing := sorted({DECODING, LANGUAGE} - ours.keys()):
        raise ValueError(f"{', '.join(missing)} is missing: a rule needs {DECODING} and {LANGUAGE}")
    english = ours.get(ENGLISH, "neutral")
    if english not in ENGLISH_SETTINGS:
        raise ValueError(f"{ENGLISH} {english!r}: expected {' or '.join(ENGLISH_SETTINGS)}")
    try:
        config = DecodingConfig.parse(ours[DECODING])
        language = language_code(ours[LANGUAGE])
    except (UserError, DetectorError) as error:
        raise ValueError(str(error)) from error
    rule = decoding_rule(config, language, ENGLISH_SETTINGS[english])
    if rule is None:
        raise ValueError(f"{DECODING} {config.method!r}: vLLM can apply {', '.join(RULES)}; the others are not rules")
    return rule


class LanguageProcessor(FirstRunnerProcessor, SecondRunnerProcessor):  # type: ignore[misc]
    """Applies the rules of the requests of a batch to their logits.

    The tokenizer's vocabulary is read when the first request asks for a rule.
    """

    live: ClassVar[weakref.WeakSet[LanguageProcessor]] = weakref.WeakSet()
    """All processors of this process."""

    def __init__(self, vllm_config: Any, states: Any = None, is_pin_memory: bool = False) -> None:
        self.vllm_config: Any = vllm_config
        self.interventions = 0
        """Tokens so far before which a rule has changed which one is the most probable."""
        # Named with --logits-processors as well, it is loaded twice: a boost would count twice.
        self._is_idle = any(other.vllm_config is vllm_config for other in LanguageProcessor.live)
        LanguageProcessor.live.add(self)
        self._states = states
        self._rules: RuleSet | None = None
        self._requested: dict[int, tuple[DecodingRule, Sequence[int]]] = {}
        """Rule and answer of the requests that ask for one, by row of the batch, or by slot in the second runner."""

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        requested_rule(sampling_params.extra_args)

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        process_dict_updates(self._requested, batch_update, self._request_of)

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        rule = requested_rule(sampling_params.extra_args)
        self._requested.pop(req_idx, None)
        if rule is not None:
            self._requested[req_idx] = rule, ()
        return rule is not None

    def apply(self, logits: Tensor, ctx: Any = None) -> Tensor:
        if self._requested and not self._is_idle:
            rows = self._rows(len(logits)) if ctx is None else self._rows_of(ctx)
            requests = [rule for rule, _ in rows]
            if any(requests):
                self._rules = self._rules or self._rule_set(logits.shape[1])
                changed_B = self._rules.apply(logits, requests, [answer for _, answer in rows])
                self.interventions += int(changed_B.sum())
        return logits

    def _request_of(
        self, params: Any, prompt_ids: list[int] | None, answer: list[int]
    ) -> tuple[DecodingRule, Sequence[int]] | None:
        rule = requested_rule(params.extra_args)
        return None if rule is None else (rule, answer)

    def _rows(self, size: int) -> list[tuple[DecodingRule | None, Sequence[int]]]:
        nothing: tuple[None, Sequence[int]] = None, ()
        rows: list[tuple[DecodingRule | None, Sequence[int]]] = [
            self._requested.get(row, nothing) for row in range(size)
        ]
        if any(rule is not None and answer and answer[-1] < 0 for rule, answer in rows):
            # vLLM schedules asynchronously and withholds tokens from processors that are loaded by entry point alone.
            raise RuntimeError(
                "vLLM does not show this logits processor the sampled tokens: start it with --no-async-scheduling, or "
                "name the processor with --logits-processors actors.decoding.vllm_processor:LanguageProcessor"
            )
        return rows

    def _rows_of(self, ctx: Any) -> list[tuple[DecodingRule | None, Sequence[int]]]:
        """Return rule and last tokens of each row in the second runner, whose tokens are on its device.

        Where tokens are drafted ahead, a request has one row for each of them.
        """
        slots, offsets = ctx.expanded_idx_mapping.tolist(), ctx.expanded_local_pos.tolist()
        inputs, lengths = ctx.input_ids.tolist(), self._states.total_len.gpu.tolist()
        rows: list[tuple[DecodingRule | None, Sequence[int]]] = []
        tails: dict[int, list[int]] = {}
        for slot, offset, drafted in zip(slots, offsets, inputs, strict=True):
            if slot not in self._requested:
                rows.append((None, ()))
                continue
            if offset == 0:
                start = max(int(self._states.prompt_len.np[slot]), lengths[slot] - LONGEST_TAIL)
                tails[slot] = self._states.all_token_ids.gpu[slot, start : lengths[slot]].tolist()
            else:
                tails[slot] = [*tails[slot], drafted]
            rows.append((self._requested[slot][0], tails[slot]))
        return rows

    def _rule_set(self, rows: int) -> RuleSet:
        config = self.vllm_config.model_config
        model = ModelConfig(
            path=config.tokenizer, revision=config.tokenizer_revision, trust_remote_code=config.trust_remote_code
        )
        return RuleSet(load_tokenizer(model), rows)


def interventions(worker: Any) -> int:
    """Return the interventions of the processors of a vLLM worker; to be called in it by `collective_rpc`.

    Raises:
        ConfigError: vLLM has not loaded the processor, so that rules would have no effect.
    """
    found = [each.interventions for each in LanguageProcessor.live if each.vllm_config is worker.vllm_config]
    if not found:
        raise ConfigError(
            "vLLM has not loaded the logits processor of tlpo-ray, so decoding methods have no effect: install the "
            "package (make setup, or pip install -e .), so that vLLM finds its entry point"
        )
    return sum(found)
