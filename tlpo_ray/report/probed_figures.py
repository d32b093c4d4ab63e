"""Figures of what an experiment's trained policy finds probable: advantages at a point (Fig. 3), shift (Fig. 6)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tlpo_ray.report.experiment_figures import FORMS
from tlpo_ray.report.figure import Figure
from tlpo_ray.report.style import BLUE, INK, ORANGE, Key, sheet

Json = dict[str, Any]
KINDS = (Key(label="leads to confusion", color=ORANGE, marker="s"), Key(label="stays clean", color=BLUE, marker="o"))


def advantage(found: Json, folder: Path) -> Figure:
    """The advantage forms at one confusion point (Fig. 3)."""
    panels = sheet(
        [partial(_advantages, found["candidates"], form) for form in FORMS], folder, "advantage-forms", height=2.6,
        keys=KINDS,
    )  # fmt: skip
    caption = (
        "Weighted by probability (TLPO), the candidates that the policy would choose are moved; without weights, "
        "unlikely ones are moved as far."
    )
    title = "Advantage at a confusion point (Fig. 3)"
    return Figure(name="advantage-forms", title=title, caption=caption, panels=panels, keys=KINDS)


def _advantages(candidates: Sequence[Json], form: str, place: Any) -> None:
    colors = [BLUE if one["reward"] > 0 else ORANGE for one in candidates]
    place.bar(range(1, len(candidates) + 1), [one[form] for one in candidates], color=colors)
    place.axhline(0, color=INK, linewidth=0.8)
    place.set_title(FORMS[form])
    place.set_xlabel("candidate, by probability")
    place.set_xticks(range(1, len(candidates) + 1, max(1, len(candidates) // 5)))


def shift(found: Json, folder: Path) -> Figure:
    """Probability inside and beyond the candidate set, before and after (Fig. 6)."""
    draw = [partial(_masses, found["groups"]), partial(_ratios, found["by_rank"], found["n"])]
    return Figure(
        name="shift",
        title="Inside and beyond the candidate set (Fig. 6)",
        caption=f"At {found['contexts']} confusion points of answers of the policy before training. "
        f"{_beyond(found)} Right: mean over tokens of a rank, with its 95 % interval.",
        panels=sheet(draw, folder, "shift", height=3.0, across=2, keys=KINDS),
        keys=KINDS,
    )


def _look(confusing: bool) -> Key:
    return KINDS[0] if confusing else KINDS[1]


def _masses(groups: Sequence[Json], place: Any) -> None:
    """An arrow a group, from its probability before to that after, on a logarithmic axis."""
    shown = [one for one in groups if one["before"] > 0 and one["after"] > 0]
    for at, one in enumerate(shown):
        look = _look(one["confusing"])
        place.annotate(
            "", (one["after"], at), (one["before"], at),
            arrowprops={"arrowstyle": "-|>", "color": look.color, "lw": 1.8, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip
        place.plot([one["before"]], [at], marker=look.marker, color=look.color, linestyle="none")
        place.plot([one["after"]], [at], linestyle="none")
    place.set_xscale("log")
    place.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    place.minorticks_off()
    place.set_yticks(range(len(shown)), [one["label"].replace(", ", "\n") for one in shown], fontsize=8.5)
    place.set_ylim(len(shown) - 0.5, -0.5)
    place.grid(axis="x", alpha=0.14)
    place.margins(x=0.1)
    place.set_title("probability, before → after")


def _ratios(by_rank: Sequence[Json], n: int, place: Any) -> None:
    ranks = sorted({(one["rank_from"], one["rank_to"]) for one in by_rank})
    for confusing in (True, False):
        found = [one for one in by_rank if one["confusing"] == confusing and one["tokens"]]
        at = [ranks.index((one["rank_from"], one["rank_to"])) for one in found]
        middle = [one["log_ratio_mean"] for one in found]
        low = [one["log_ratio_mean"] - one["log_ratio_low"] for one in found]
        high = [one["log_ratio_high"] - one["log_ratio_mean"] for one in found]
        look = _look(confusing)
        place.errorbar(at, middle, yerr=(low, high), fmt=f"{look.marker}-", color=look.color, capsize=2.5)
    trained = sum(last <= n for _, last in ranks)
    if trained:
        place.axvspan(-0.5, trained - 0.5, color=INK, alpha=0.07, linewidth=0)
    place.axhline(0, color=INK, linewidth=0.8)
    place.set_xticks(range(len(ranks)), [f"{first}–{last}" for first, last in ranks])
    place.set_title("log probability, after − before")
    place.set_xlabel("rank before training (shaded: candidates)")


def _beyond(found: Json) -> str:
    group = next((one for one in found["groups"] if one["confusing"] and not one["inside"]), None)
    if group is None:
        return ""
    moved = "lose" if group["after"] < group["before"] else "gain"
    return (
        f"Confusing tokens beyond the top {found['n']}, which are no candidates there, {moved} probability: "
        f"{group['before']:.4f} before, {group['after']:.4f} after."
    )


def shift_table(found: Json) -> str:
    """Markdown of Fig. 6's numbers."""
    lines = ["| tokens | before | after | after / before |", "|---|---|---|---|"]
    for group in found["groups"]:
        ratio = f"{group['ratio']:.2f}" if group["ratio"] is not None else ""
        lines.append(f"| {group['label']} | {group['before']:.4f} | {group['after']:.4f} | {ratio} |")
    return "\n".join(lines) + "\n"


def advantage_table(found: Json) -> str:
    """Markdown of Fig. 3's numbers."""
    lines = ["| candidate | probability | reward | " + " | ".join(FORMS.values()) + " |", "|---" * 6 + "|"]
    for one in found["candidates"]:
        token = one["token"].strip().replace("|", r"\|")
        forms = " | ".join(f"{one[form]:+.3f}" for form in FORMS)
        lines.append(f"| {token} | {one['probability']:.4f} | {one['reward']:+.0f} | {forms} |")
    return "\n".join(lines) + "\n"
