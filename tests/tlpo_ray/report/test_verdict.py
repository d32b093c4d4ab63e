"""The paragraph tells what the numbers tell, above all where TLPO does badly."""

from __future__ import annotations

from tests.tlpo_ray.report.folders import Json, comparison, row
from tlpo_ray.report.summary import summarised
from tlpo_ray.report.verdict import verdict


def said(rows: list[Json]) -> str:
    return verdict(summarised(rows)).replace("\u00a0", " ")


def three(variant: str, method: str, spread: float = 0.0, axes: Json | None = None, **metrics: float) -> list[Json]:
    return [
        row(variant, seed, method, variant.upper(), axes, **{name: value + spread * (seed - 1)
                                                             for name, value in metrics.items()})
        for seed in range(3)
    ]  # fmt: skip


def test_the_whole_paragraph_of_a_comparison() -> None:
    assert said(comparison()) == (
        "TLPO has the best RPR: 98.80 ± 0.20 %; SFT comes next with 95.80 ± 0.20 %. "
        "Its accuracy is 99.78 ± 0.02 %, no worse than the 99.70 ± 0.00 % before training. "
        "TLPO is beaten on KL clean, 0.0090 ± 0.0000 nats (DPO 0.0050 ± 0.0000 nats); "
        "on seconds, 15 ± 1 s (SFT 9 ± 1 s)."
    )


def test_losing_is_told() -> None:
    rows = [*three("baseline", "none", rpr=0.75, accuracy=0.99), *three("tlpo", "tlpo", rpr=0.9, accuracy=0.95),
            *three("grpo", "grpo", rpr=0.97, accuracy=0.97)]  # fmt: skip
    text = said(rows)
    assert text.startswith("TLPO does not have the best RPR: 90.00 ± 0.00 %; GRPO has 97.00 ± 0.00 %.")
    assert "Its accuracy is 95.00 ± 0.00 %, below the 99.00 ± 0.00 % before training." in text
    assert "TLPO is beaten on RPR, 90.00 ± 0.00 % (GRPO 97.00 ± 0.00 %); on accuracy, 95.00" in text


def test_a_lead_within_the_spread_is_no_clear_lead_for_either_side() -> None:
    rows = [*three("tlpo", "tlpo", 0.02, rpr=0.95, kl_clean=0.05), *three("sft", "sft", 0.02, rpr=0.94, kl_clean=0.04)]
    text = said(rows)
    assert "SFT comes next with 94.00 ± 2.00 %, no further apart than seeds are." in text
    assert "SFT 0.0400 ± 0.0200 nats, within the spread" in text
    rows = [*three("baseline", "none", 0.02, accuracy=0.96), *three("tlpo", "tlpo", 0.02, rpr=0.9, accuracy=0.95)]
    assert "below the 96.00 ± 2.00 % before training, no further than seeds are apart." in said(
        [*rows, *three("sft", "sft", rpr=0.8)]
    )


def test_the_model_before_and_ablated_variants_beat_nobody() -> None:
    rows = [*three("baseline", "none", rpr=1.0), *three("tlpo", "tlpo", rpr=0.9), *three("sft", "sft", rpr=0.8),
            *three("tlpo-4", "tlpo", axes={"candidates": 4}, rpr=0.95)]  # fmt: skip
    assert "No other method beats TLPO on any column." in said(rows)


def test_an_ablation_is_told_from_best_to_worst_with_what_fell_below_the_model_before() -> None:
    rows = [*three("baseline", "none", accuracy=0.998), *three("a", "tlpo", 0.001, {"n": 2}, rpr=0.99, accuracy=0.999),
            *three("b", "tlpo", 0.001, {"n": 4}, rpr=0.9895, accuracy=0.99)]  # fmt: skip
    assert said(rows) == (
        "RPR is the same for all, 99.00 ± 0.10 %. "
        "Accuracy goes from 99.90 ± 0.10 % (A) to 99.00 ± 0.10 % (B). "
        "Accuracy before training is 99.80 ± 0.00 %; these are below it: B (99.00 ± 0.10 %)."
    )


def test_one_seed_is_called_one_seed() -> None:
    text = said([row("tlpo", rpr=0.9), row("sft", method="sft", rpr=0.8)])
    assert text.startswith("tlpo has the best RPR: 90.00 %; sft comes next with 80.00 %.")
    assert text.endswith("This is one seed: how much of it is chance is not known.")


def test_nothing_to_compare_says_nothing() -> None:
    assert said([*three("baseline", "none", rpr=0.7), *three("tlpo", "tlpo", rpr=0.9)]) == ""
