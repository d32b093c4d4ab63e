"""What the page of one run shows: headline, curves, where answers slipped, answers and confusion points to read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tlpo_ray.report.before_after import counted, pairs, words
from tlpo_ray.report.excerpt import in_turn
from tlpo_ray.report.points import Tokens, point, slips
from tlpo_ray.report.run_figures import curves, meanings
from tlpo_ray.report.source import RunSource

Json = dict[str, Any]
SHOWN_POINTS, SHOWN_ANSWERS, SHOWN_WORDS, SHOWN_SLIPS = 60, 120, 60, 60
"""Most confusion points, questions with answers, confused words and first confused characters on a page."""
HEADLINES = (
    ("rpr_before", "rpr_after", "answers without a foreign word (RPR)"),
    ("wpr_before", "wpr_after", "words without confusion (WPR)"),
    ("accuracy_before", "accuracy_after", "right answers, in the right language"),
)
"""Keys of `result.json`, before and after, and what they are called."""


def run_context(source: RunSource, figures: Path) -> Json:
    """Everything that the template needs."""
    every_slip, every_word, every_pair = _slips(source), words(source.answers), pairs(source.answers)
    points, drawn = _points(source), curves(source.metrics, figures)
    shown = {
        "slips": _cut(every_slip, SHOWN_SLIPS),
        "words": _cut(every_word, SHOWN_WORDS),
        "answers": every_pair[:SHOWN_ANSWERS],
        "points": points,
    }
    return {
        **shown,
        "totals": {"slips": len(every_slip), "words": len(every_word), "answers": len(every_pair),
                   "points": len(source.groups)},
        "title": source.config.get("name", source.folder.name),
        "method": source.config.get("method", "tlpo"),
        "ended": bool(source.result),
        "headlines": headlines(source),
        "facts": _facts(source),
        "curves": drawn,
        "drawn": [drawn.name] if drawn else [],
        "meanings": meanings(source.metrics),
        "probed": bool(source.new_logp),
        "counted": counted(source.answers),
        "languages": sorted({str(one["language"]) for found in shown.values() for one in found}),
        "config_text": source.config_text,
        "versions": source.result.get("stack", {}),
        "seed": source.config.get("seed"),
    }  # fmt: skip


def _cut(found: Sequence[Json], most: int) -> list[Json]:
    """Languages in turn, so that none is cut away, then in the order they came."""
    kept = list(islice(in_turn(enumerate(found), lambda one: str(one[1]["language"])), most))
    return [one for _, one in sorted(kept, key=lambda one: one[0])]


def _slips(source: RunSource) -> list[Json]:
    return [
        one | {"before": percent(one["before"]), "after": None if one["after"] is None else percent(one["after"])}
        for one in slips(source.groups, source.new_logp)
    ]


def _points(source: RunSource) -> list[Json]:
    tokens = Tokens(source.folder / "model" / "tokenizer.json")
    # Those that the trained policy was probed at come first: they have more to show.
    numbers = sorted(range(len(source.groups)), key=lambda number: number not in source.new_logp)
    chosen = islice(in_turn(numbers, lambda number: source.groups[number].language), SHOWN_POINTS)
    return [
        point(group, source.new_logp.get(number), tokens.text(group.context_ids[: group.prompt_length].tolist()))
        for number in chosen
        for group in [source.groups[number]]
    ]


def headlines(source: RunSource) -> list[Json]:
    """What changed: rates before and after, or what training itself saw where nobody looked before and after."""
    result = source.result
    found = [
        {"label": label, "before": percent(result[before]), "after": percent(result[after])}
        for before, after, label in HEADLINES
        if result.get(before) is not None and result.get(after) is not None
    ]
    recent = [line["rpr_recent"] for line in source.metrics if "rpr_recent" in line]
    if not found and len(recent) > 1:
        label = "sampled answers without a foreign word, first and last update"
        found.append({"label": label, "before": percent(recent[0]), "after": percent(recent[-1])})
    return found


def _facts(source: RunSource) -> list[tuple[str, str]]:
    result = source.result
    prompts, seconds = result.get("prompts"), result.get("seconds", {})
    model = source.config.get("model")
    facts = [
        ("model", Path(str(model["path"])).name if isinstance(model, dict) and model.get("path") else None),
        ("prompts", prompts.get("total") if isinstance(prompts, dict) else None),
        ("confusion points learned from", result.get("confusion_points", len(source.groups) or None)),
        ("updates", result.get("updates", result.get("steps", len(source.metrics)))),
        ("tokens sampled", result.get("tokens_generated")),
        ("KL on clean contexts, nats a token", _rounded(result.get("kl_clean_contexts"), 4)),
        ("seconds of training", _rounded(seconds.get("train", seconds.get("training")), 0)),
        ("stack", result.get("stack_kind")),
    ]
    return [
        (name, f"{value:,}" if isinstance(value, int) else str(value)) for name, value in facts if value is not None
    ]


def run_tables(source: RunSource) -> dict[str, str]:
    """Markdown tables by name; those that there is data for."""
    tables = {
        "before-after": _table(("", "before", "after"), [list(one.values()) for one in headlines(source)]),
        "words": _table(
            ("asked in", "confused word", "times before", "times after"),
            [[one["language"], one["word"], one["before"], one["after"]] for one in words(source.answers)],
        ),
        "slips": _table(
            ("asked in", "slipped into", "script", "times", "confusing mass before", "after"),
            [
                [one["language"], one["word"], one["script"], one["times"], one["before"], one["after"] or ""]
                for one in _slips(source)
            ],
        ),
    }
    return {name: table for name, table in tables.items() if table}


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return ""
    lines = [heads, ["---"] * len(heads), *[[_plain(value) for value in row] for row in rows]]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _plain(value: object) -> str:
    return " ".join(str(value).replace("|", r"\|").split())


def percent(share: float) -> str:
    """A share of 1 as it is shown."""
    return f"{100 * share:.1f} %"


def _rounded(value: Any, digits: int) -> float | int | None:
    if value is None:
        return None
    return round(float(value)) if digits == 0 else round(float(value), digits)
