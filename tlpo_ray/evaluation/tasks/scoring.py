"""Functions that the task files beside this one name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tlpo_ray.evaluation.suites import gsm8k, mmmlu


def multiple_choice(doc: Mapping[str, Any]) -> str:
    """MMMLU's prompt."""
    return mmmlu.prompt(doc)


def right_choice(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """MMMLU's accuracy of one answer."""
    return {"acc": float(mmmlu.correct(results[0], doc["Answer"]))}


def instructions_followed(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Whether an answer follows all of its prompt's instructions, by lm-eval's own checks of IFEval."""
    from lm_eval.tasks.ifeval import utils

    return {"prompt_level_strict_acc": float(utils.process_results(doc, results)["prompt_level_strict_acc"])}


def cross_ko(doc: Mapping[str, Any]) -> str:
    """GSM8K-cross in Korean."""
    return gsm8k.prompt(doc["question"], "ko")


def cross_zh(doc: Mapping[str, Any]) -> str:
    """GSM8K-cross in Chinese."""
    return gsm8k.prompt(doc["question"], "zh")


def cross_ja(doc: Mapping[str, Any]) -> str:
    """GSM8K-cross in Japanese."""
    return gsm8k.prompt(doc["question"], "ja")


def cross_ar(doc: Mapping[str, Any]) -> str:
    """GSM8K-cross in Arabic."""
    return gsm8k.prompt(doc["question"], "ar")
