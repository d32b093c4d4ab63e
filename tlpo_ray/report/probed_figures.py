"""Figures of the probabilities under an experiment's trained policy: advantages (Fig. 3) and shift (Fig. 6)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlpo_ray.report.experiment_figures import FORMS
from tlpo_ray.report.figure import Figure
from tlpo_ray.report.style import BLUE, GRAY, INK, ORANGE, Key, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Json = dict[str, Any]
KINDS = (Key(label="leads to confusion", color=ORANGE, marker="s"), Key(label="stays clean", color=BLUE, marker="o"))
"""Legend of candidates and tokens."""
UNDECIDED = Key(label="undecided", color=GRAY, marker="^")
"""Legend of candidates whose lookahead ended before their language was certain."""


def draw_advantage(advantage: Json, folder: Path) -> Figure:
    """Draw the forms of the advantage at one confusion point (Fig. 3).

    Args:
        advantage: Content of `advantage.json`.
        folder: Folder for the files of the figure.
    """
    keys = (*KINDS, UNDECIDED) if any(candidate["reward"] == 0 for candidate in advantage["candidates"]) else KINDS
    panels = sheet(
        [partial(_draw_form, advantage["candidates"], form) for form in FORMS], folder, "advantage-forms", height=2.6,
        keys=keys,
    )  # fmt: skip
    caption = (
        "With weights (TLPO), training moves the candidates that the policy would choose; without weights, it moves "
        "unlikely ones just as far."
    )
    title = "Advantage at a confusion point (Fig. 3)"
    return Figure(name="advantage-forms", title=title, caption=caption, panels=panels, keys=keys)


def _draw_form(candidates: Sequence[Json], form: str, place: Axes) -> None:
    colors = [
        BLUE if candidate["reward"] > 0 else ORANGE if candidate["reward"] < 0 else UNDECIDED.color
        for candidate in candidates
    ]
    place.bar(range(1, len(candidates) + 1), [candidate[form] for candidate in candidates], color=colors)
    place.axhline(0, color=INK, linewidth=0.8)
    place.set_title(FORMS[form])
    place.set_xlabel("candidate, by probability")
    place.set_xticks(range(1, len(candidates) + 1, max(1, len(candidates) // 5)))


def draw_shift(shift: Json, folder: Path) -> Figure:
    """Draw the probability inside and outside the candidate set, before and after training (Fig. 6).

    Args:
        shift: Content of `shift.json`.
        folder: Folder for the files of the figure.
    """
    panels = [partial(_draw_masses, shift["groups"]), partial(_draw_ratios, shift["by_rank"], shift["n"])]
    return Figure(
        name="shift",
        title="Inside and outside the candidate set (Fig. 6)",
        caption=f"At {shift['contexts']} confusion points in answers of the policy before training. "
        f"{_outside_sentence(shift)} Right: mean over the tokens of a rank, with its 95 % interval.",
        panels=sheet(panels, folder, "shift", height=3.0, columns=2, keys=KINDS),
        keys=KINDS,
    )


def _look(confusing: bool) -> Key:
    return KINDS[0] if confusing else KINDS[1]


def _draw_masses(groups: Sequence[Json], place: Axes) -> None:
    """Draw an arrow per group of tokens, from its probability before to that after, on a logarithmic axis."""
    positive = [group for group in groups if group["before"] > 0 and group["after"] > 0]
    for at, group in enumerate(positive):
        look = _look(group["confusing"])
        place.annotate(
            "", (group["after"], at), (group["before"], at),
            arrowprops={"arrowstyle": "-|>", "color": look.color, "lw": 1.8, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip
        place.plot([group["before"]], [at], marker=look.marker, color=look.color, linestyle="none")
        place.plot([group["after"]], [at], linestyle="none")
    place.set_xscale("log")
    place.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    place.minorticks_off()
    place.set_yticks(range(len(positive)), [group["label"].replace(", ", "\n") for group in positive], fontsize=8.5)
    place.set_ylim(len(positive) - 0.5, -0.5)
    place.grid(axis="x", alpha=0.14)
    place.margins(x=0.1)
    place.set_title("probability, before → after")


def _draw_ratios(by_rank: Sequence[Json], n: int, place: Axes) -> None:
    ranks = sorted({(row["rank_from"], row["rank_to"]) for row in by_rank})
    for confusing in (True, False):
        rows = [row for row in by_rank if row["confusing"] == confusing and row["tokens"]]
        at = [ranks.index((row["rank_from"], row["rank_to"])) for row in rows]
        means = [row["log_ratio_mean"] for row in rows]
        low = [row["log_ratio_mean"] - row["log_ratio_low"] for row in rows]
        high = [row["log_ratio_high"] - row["log_ratio_mean"] for row in rows]
        look = _look(confusing)
        place.errorbar(at, means, yerr=(low, high), fmt=f"{look.marker}-", color=look.color, capsize=2.5)
    trained = sum(last <= n for _, last in ranks)
    if trained:
        place.axvspan(-0.5, trained - 0.5, color=INK, alpha=0.07, linewidth=0)
    place.axhline(0, color=INK, linewidth=0.8)
    place.set_xticks(range(len(ranks)), [f"{first}–{last}" for first, last in ranks])
    place.set_title("log probability, after − before")
    place.set_xlabel("rank before training (shaded: candidates)")


def _outside_sentence(shift: Json) -> str:
    group = next((group for group in shift["groups"] if group["confusing"] and not group["inside"]), None)
    if group is None:
        return ""
    moved = "lose" if group["after"] < group["before"] else "gain"
    return (
        f"Confusing tokens beyond the top {shift['n']}, which are not candidates there, {moved} probability: "
        f"{group['before']:.4f} before, {group['after']:.4f} after."
    )


def shift_table(shift: Json) -> str:
    """Return the numbers of Fig. 6 as a Markdown table."""
    lines = ["| tokens | before | after | after / before |", "|---|---|---|---|"]
    for group in shift["groups"]:
        ratio = f"{group['ratio']:.2f}" if group["ratio"] is not None else ""
        lines.append(f"| {group['label']} | {group['before']:.4f} | {group['after']:.4f} | {ratio} |")
    return "\n".join(lines) + "\n"


def advantage_table(advantage: Json) -> str:
    """Return the numbers of Fig. 3 as a Markdown table."""
    lines = ["| candidate | probability | reward | " + " | ".join(FORMS.values()) + " |", "|---" * 6 + "|"]
    for candidate in advantage["candidates"]:
        token = candidate["token"].strip().replace("|", r"\|")
        forms = " | ".join(f"{candidate[form]:+.3f}" for form in FORMS)
        lines.append(f"| {token} | {candidate['probability']:.4f} | {candidate['reward']:+.0f} | {forms} |")
    return "\n".join(lines) + "\n"
