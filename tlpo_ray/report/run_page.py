"""The page of one run: headlines, curves, where answers became confused, answers and confusion points to read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tlpo_ray.report.before_after import answer_pairs, confused_words, summarise
from tlpo_ray.report.confusion_points import ConfusionPoint, TokenTexts, confusion_point, confusions
from tlpo_ray.report.excerpt import round_robin
from tlpo_ray.report.run_figures import curves, meanings
from tlpo_ray.report.source import RunSource

Json = dict[str, Any]
MAX_POINTS, MAX_QUESTIONS, MAX_WORDS, MAX_CONFUSIONS = 60, 120, 60, 60
"""Most confusion points, questions with answers, confused words and first confused characters on a page."""
HEADLINES = (
    ("rpr_before", "rpr_after", "answers without a foreign word (RPR)"),
    ("wpr_before", "wpr_after", "words without confusion (WPR)"),
    ("accuracy_before", "accuracy_after", "right answers, in the right language"),
)
"""(key of `result.json` before, key after, label)."""
WHEN = ("before", "after")
HELD_OUT = ", to prompts never trained on"


class _InLanguage(Protocol):
    """Something on the page that belongs to one language."""

    @property
    def language(self) -> str: ...


L = TypeVar("L", bound=_InLanguage)


def run_context(source: RunSource, figures: Path) -> Json:
    """Draw the figures into `figures`, and return everything that the template needs."""
    all_confusions = confusions(source.groups, source.new_logp)
    all_words, all_pairs = confused_words(source.answers), answer_pairs(source.answers)
    shown: dict[str, Sequence[_InLanguage]] = {
        "confusions": _cut(all_confusions, MAX_CONFUSIONS),
        "words": _cut(all_words, MAX_WORDS),
        "answers": all_pairs[:MAX_QUESTIONS],
        "points": _points(source),
    }
    drawn = curves(source.metrics, figures)
    return {
        **shown,
        "totals": {"confusions": len(all_confusions), "words": len(all_words), "answers": len(all_pairs),
                   "points": len(source.groups)},
        "title": source.config.get("name", source.folder.name),
        "method": source.config.get("method", "tlpo"),
        "ended": bool(source.result),
        "happened": source.post_mortem if source.post_mortem.is_troubled else None,
        "headlines": headlines(source),
        "facts": _facts(source),
        "curves": drawn,
        "drawn": [drawn.name] if drawn else [],
        "meanings": meanings(source.metrics),
        "probed": bool(source.new_logp),
        "summary": summarise(source.answers),
        "languages": sorted({str(item.language) for items in shown.values() for item in items}),
        "config_text": source.config_text,
        "versions": source.result.get("stack", {}),
        "seed": source.config.get("seed"),
    }  # fmt: skip


def _cut(items: Sequence[L], limit: int) -> list[L]:
    """Return at most `limit` items in their order; the languages take turns, so that none is cut away."""
    kept = islice(round_robin(enumerate(items), lambda numbered: str(numbered[1].language)), limit)
    return [item for _, item in sorted(kept, key=lambda numbered: numbered[0])]


def _points(source: RunSource) -> list[ConfusionPoint]:
    tokens = TokenTexts(source.folder / "model" / "tokenizer.json")
    # Probed points come first: they also show the trained policy.
    numbers = sorted(range(len(source.groups)), key=lambda number: number not in source.new_logp)
    chosen = islice(round_robin(numbers, lambda number: source.groups[number].language), MAX_POINTS)
    return [
        confusion_point(
            group, source.new_logp.get(number), tokens.text(group.context_ids[: group.prompt_length].tolist())
        )
        for number in chosen
        for group in [source.groups[number]]
    ]


def headlines(source: RunSource) -> list[Json]:
    """Return rates before and after training, or RPR of the sampled answers if the run measured no rates."""
    result = source.result
    rates = [
        {"label": label, "before": percent(result[before]), "after": percent(result[after])}
        for before, after, label in HEADLINES
        if result.get(before) is not None and result.get(after) is not None
    ]
    recent = [line["rpr_recent"] for line in source.metrics if "rpr_recent" in line]
    if not rates and len(recent) > 1:
        label = "sampled answers without a foreign word, first and last update"
        rates.append({"label": label, "before": percent(recent[0]), "after": percent(recent[-1])})
    return rates


def _facts(source: RunSource) -> list[tuple[str, str]]:
    result = source.result
    prompts, seconds = result.get("prompts"), result.get("seconds", {})
    model = source.config.get("model")
    facts = [
        *((f"RPR {when}, 95 % interval", _interval(result.get(f"rpr_interval_95_{when}"))) for when in WHEN),
        (f"answers compared{HELD_OUT if 'rpr_interval_95_after' in result else ''}", result.get("answers_scored")),
        ("model", Path(str(model["path"])).name if isinstance(model, dict) and model.get("path") else None),
        ("prompts", prompts.get("total") if isinstance(prompts, dict) else None),
        ("confusion points learned from", result.get("confusion_points", len(source.groups) or None)),
        ("updates", result.get("updates", result.get("steps", len(source.metrics)))),
        ("tokens sampled", result.get("tokens_generated")),
        ("KL on clean contexts, nats per token", _rounded(result.get("kl_clean_contexts"), 4)),
        ("seconds of training", _rounded(seconds.get("train", seconds.get("training")), 0)),
        ("stack", result.get("stack_kind")),
    ]
    return [
        (name, f"{value:,}" if isinstance(value, int) else str(value)) for name, value in facts if value is not None
    ]


def run_tables(source: RunSource) -> dict[str, str]:
    """Return Markdown tables by name, those that there is data for."""
    tables = {
        "before-after": _table(("", "before", "after"), [list(rate.values()) for rate in headlines(source)]),
        "words": _table(
            ("prompt language", "confused word", "times before", "times after"),
            [[word.language, word.word, word.before, word.after] for word in confused_words(source.answers)],
        ),
        "confusions": _table(
            ("prompt language", "confused characters", "script", "times", "confusing mass before", "after"),
            [
                [confusion.language, confusion.word, confusion.kind, confusion.times, percent(confusion.mass_before),
                 "" if confusion.mass_after is None else percent(confusion.mass_after)]
                for confusion in confusions(source.groups, source.new_logp)
            ],
        ),
    }  # fmt: skip
    return {name: table for name, table in tables.items() if table}


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return ""
    lines = [heads, ["---"] * len(heads), *[[_plain(value) for value in row] for row in rows]]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _plain(value: object) -> str:
    return " ".join(str(value).replace("|", r"\|").split())


def percent(share: float) -> str:
    """Return a share of 1 as the page shows it."""
    return f"{100 * share:.1f} %"


def _interval(bounds: Any) -> str | None:
    """Return an interval of shares as the page shows it; None if the run has none."""
    return None if bounds is None else f"{percent(bounds[0])} – {percent(bounds[1])}"


def _rounded(value: Any, digits: int) -> float | int | None:
    if value is None:
        return None
    return round(float(value)) if digits == 0 else round(float(value), digits)
