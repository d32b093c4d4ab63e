"""What the page of one run shows: headline, confusion points with their candidates, answers before and after."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tlpo_ray.flow.records import CandidateGroup
from tlpo_ray.report.run_figures import curves, meanings
from tlpo_ray.report.source import RunSource

Json = dict[str, Any]
T = TypeVar("T")
SHOWN_POINTS, SHOWN_ANSWERS, SHOWN_WORDS = 60, 120, 20
"""Most confusion points, questions with answers, and confused words on a page."""
HEADLINES = (
    ("rpr", "answers without a foreign word (RPR)"),
    ("wpr", "words without confusion (WPR)"),
    ("accuracy", "right answers"),
)
"""Metric in `result.json`, before and after, and what it is called."""


def run_context(source: RunSource, figures: Path) -> Json:
    """Everything that the template needs."""
    tokens = _Tokens(source.folder / "model" / "tokenizer.json")
    points = list(islice(_in_turn(enumerate(source.groups), lambda one: one[1].language), SHOWN_POINTS))
    answers = _answers(source.answers)
    shown = list(islice(_in_turn(answers, lambda one: str(one["language"])), SHOWN_ANSWERS))
    return {
        "title": source.config.get("name", source.folder.name),
        "method": source.config.get("method", "tlpo"),
        "headlines": _headlines(source),
        "facts": _facts(source),
        "curves": curves(source.metrics, figures),
        "meanings": meanings(source.metrics),
        "words": _words(source),
        "points": [_point(number, group, source.new_logp.get(number), tokens) for number, group in points],
        "points_total": len(source.groups),
        "answers": shown,
        "answers_total": len(answers),
        "languages": sorted({group.language for _, group in points} | {str(one["language"]) for one in shown}),
        "config_text": source.config_text,
        "versions": source.result.get("stack", {}),
        "seed": source.config.get("seed"),
    }


class _Tokens:
    """Texts of token ids, where the run's tokenizer is there."""

    def __init__(self, file: Path) -> None:
        self._tokenizer: Any = None
        if file.is_file():
            from tokenizers import Tokenizer

            self._tokenizer = Tokenizer.from_file(str(file))

    def text(self, ids: Sequence[int], *, special: bool = False) -> str:
        if self._tokenizer is None:
            return ""
        decoded: str = self._tokenizer.decode(list(ids), skip_special_tokens=not special)
        return decoded


def _headlines(source: RunSource) -> list[Json]:
    result = source.result
    found = [
        {"label": label, "before": _percent(result[f"{name}_before"]), "after": _percent(result[f"{name}_after"])}
        for name, label in HEADLINES
        if result.get(f"{name}_before") is not None and result.get(f"{name}_after") is not None
    ]
    recent = [line["rpr_recent"] for line in source.metrics if "rpr_recent" in line]
    if not found and len(recent) > 1:
        label = "sampled answers without a foreign word, first and last update"
        found.append({"label": label, "before": _percent(recent[0]), "after": _percent(recent[-1])})
    return found


def _facts(source: RunSource) -> list[tuple[str, str]]:
    result = source.result
    prompts = result.get("prompts")
    seconds = result.get("seconds", {})
    facts = [
        ("updates", result.get("updates", result.get("steps", len(source.metrics)))),
        ("confusion points learned from", result.get("confusion_points", len(source.groups) or None)),
        ("prompts", prompts.get("total") if isinstance(prompts, dict) else None),
        ("tokens sampled", result.get("tokens_generated")),
        ("KL on clean contexts, nats a token", _rounded(result.get("kl_clean_contexts"))),
        ("seconds of training", _rounded(seconds.get("train", seconds.get("training")), 0)),
        ("stack", result.get("stack_kind")),
    ]
    return [
        (name, f"{value:,}" if isinstance(value, int) else str(value)) for name, value in facts if value is not None
    ]


def _words(source: RunSource) -> list[Json]:
    """The most frequent confused words, and what the policy says there now."""
    by_word: dict[str, list[int]] = {}
    for number, group in enumerate(source.groups):
        by_word.setdefault(_confused_word(group), []).append(number)
    most = sorted(by_word.items(), key=lambda item: (-len(item[1]), item[0]))[:SHOWN_WORDS]
    return [
        {
            "word": word,
            "script": source.groups[numbers[0]].span_script,
            "times": len(numbers),
            "before": _percent(float(np.mean([_mass(source.groups[n], source.groups[n].old_logp) for n in numbers]))),
            **_after(source, numbers),
        }
        for word, numbers in most
    ]


def _after(source: RunSource, numbers: Sequence[int]) -> Json:
    """Mass of confusing candidates under the trained policy, and the lookahead text that is most probable now."""
    probed = [number for number in numbers if number in source.new_logp]
    if not probed:
        return {"after": "", "now": ""}
    mass = float(np.mean([_mass(source.groups[n], np.asarray(source.new_logp[n])) for n in probed]))
    now = Counter(source.groups[n].lookaheads[int(np.argmax(source.new_logp[n]))] for n in probed)
    return {"after": _percent(mass), "now": ", ".join(text for text, _ in now.most_common(3))}


def _mass(group: CandidateGroup, logp: Any) -> float:
    """Probability of candidates that lead to confusion."""
    return float(np.exp(np.asarray(logp, np.float64))[group.rewards < 0].sum())


def _confused_word(group: CandidateGroup) -> str:
    return group.response[group.span_start : group.span_end]


def _point(number: int, group: CandidateGroup, new_logp: Sequence[float] | None, tokens: _Tokens) -> Json:
    return {
        "number": number,
        "language": group.language,
        "prompt": tokens.text(group.context_ids[: group.prompt_length].tolist()),
        "parts": marked_parts(group.response, [(group.span_start, group.span_end)]),
        "version": group.sampling_version,
        "candidates": [
            {
                "token": tokens.text([int(token)], special=True),
                "lookahead": group.lookaheads[i],
                "clean": bool(group.rewards[i] > 0),
                "before": math.exp(group.old_logp[i]),
                "after": math.exp(new_logp[i]) if new_logp is not None else None,
            }
            for i, token in enumerate(group.candidate_ids)
        ],
    }


def _answers(rows: Sequence[Json]) -> list[Json]:
    """Questions with an answer before and one after, those that were confused first."""
    by_question: dict[tuple[str, int], dict[str, Json]] = {}
    for row in rows:
        by_question.setdefault((row["id"], row["sample"]), {})[row["when"]] = row
    both = [found for found in by_question.values() if {"before", "after"} <= found.keys()]
    first = {
        found["before"]["id"]: found for found in reversed(both) if found["before"]["spans"] or found["after"]["spans"]
    }
    return [
        {
            "language": found["before"]["language"],
            "prompt": found["before"]["prompt"],
            "before": marked_parts(found["before"]["answer"], found["before"]["spans"]),
            "after": marked_parts(found["after"]["answer"], found["after"]["spans"]),
        }
        for found in first.values()
    ]


def marked_parts(text: str, spans: Iterable[Sequence[int]]) -> list[tuple[str, bool]]:
    """Text cut at its spans (code points): parts with whether they are confused."""
    parts: list[tuple[str, bool]] = []
    at = 0
    for start, end in sorted((span[0], span[1]) for span in spans):
        parts += [(text[at:start], False), (text[max(at, start) : end], True)]
        at = max(at, end)
    return [part for part in [*parts, (text[at:], False)] if part[0]]


def _in_turn(items: Iterable[T], language: Callable[[T], str]) -> Iterator[T]:
    """The languages in turn, so that a cut leaves some of each."""
    lots: dict[str, list[T]] = {}
    for item in items:
        lots.setdefault(language(item), []).append(item)
    for turn in zip_longest(*lots.values()):
        yield from (item for item in turn if item is not None)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _rounded(value: Any, digits: int = 4) -> float | int | None:
    if value is None:
        return None
    return round(float(value)) if digits == 0 else round(float(value), digits)
