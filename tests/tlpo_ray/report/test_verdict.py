"""The paragraph reports what the numbers show, above all where TLPO does badly."""

from __future__ import annotations

from tests.tlpo_ray.report.folders import Json, comparison, row
from tlpo_ray.report.summary import summarise_variants
from tlpo_ray.report.verdict import verdict


def verdict_of(rows: list[Json]) -> str:
    return verdict(summarise_variants(rows)).markdown.replace("\u00a0", " ")


def seeds(variant: str, method: str, spread: float = 0.0, axes: Json | None = None, **metrics: float) -> list[Json]:
    return [
        row(variant, seed, method, variant.upper(), axes, **{name: value + spread * (seed - 1)
                                                             for name, value in metrics.items()})
        for seed in range(3)
    ]  # fmt: skip


def test_the_complete_paragraph_of_a_comparison() -> None:
    assert verdict_of(comparison()) == (
        "TLPO has the best RPR: 98.80 ± 0.20 %; SFT comes next with 95.80 ± 0.20 %. "
        "Its accuracy is 99.78 ± 0.02 %, no worse than the 99.70 ± 0.00 % before training. "
        "TLPO is beaten on these columns:\n\n"
        "* KL clean, 0.0090 ± 0.0000 nats: DPO 0.0050 ± 0.0000 nats\n"
        "* seconds, 15 ± 1 s: SFT 9 ± 1 s"
    )


def test_losing_is_reported() -> None:
    rows = [*seeds("baseline", "none", rpr=0.75, accuracy=0.99), *seeds("tlpo", "tlpo", rpr=0.9, accuracy=0.95),
            *seeds("grpo", "grpo", rpr=0.97, accuracy=0.97)]  # fmt: skip
    text = verdict_of(rows)
    assert text.startswith("TLPO does not have the best RPR: 90.00 ± 0.00 %; GRPO has 97.00 ± 0.00 %.")
    assert "Its accuracy is 95.00 ± 0.00 %, below the 99.00 ± 0.00 % before training." in text
    assert "* RPR, 90.00 ± 0.00 %: GRPO 97.00 ± 0.00 %" in text
    assert "* accuracy, 95.00 ± 0.00 %: GRPO 97.00 ± 0.00 %" in text


def test_a_lead_within_the_spread_is_not_clear_for_either_side() -> None:
    rows = [
        *seeds("tlpo", "tlpo", 0.02, rpr=0.95, kl_clean=0.05),
        *seeds("sft", "sft", 0.02, rpr=0.94, kl_clean=0.04),
    ]
    text = verdict_of(rows)
    assert "SFT comes next with 94.00 ± 2.00 %, which is within the spread over seeds." in text
    assert "* KL clean, 0.0500 ± 0.0200 nats: within the spread over seeds SFT 0.0400 ± 0.0200 nats" in text
    rows = [
        *seeds("baseline", "none", 0.02, accuracy=0.96),
        *seeds("tlpo", "tlpo", 0.02, rpr=0.9, accuracy=0.95),
    ]
    assert "below the 96.00 ± 2.00 % before training, within the spread over seeds." in verdict_of(
        [*rows, *seeds("sft", "sft", rpr=0.8)]
    )


def test_the_model_before_training_and_ablations_do_not_count_as_better() -> None:
    rows = [*seeds("baseline", "none", rpr=1.0), *seeds("tlpo", "tlpo", rpr=0.9), *seeds("sft", "sft", rpr=0.8),
            *seeds("tlpo-4", "tlpo", axes={"candidates": 4}, rpr=0.95)]  # fmt: skip
    assert "No other method beats TLPO on any column." in verdict_of(rows)


def test_an_ablation_is_reported_from_best_to_worst_with_variants_below_the_model_before() -> None:
    rows = [*seeds("baseline", "none", accuracy=0.998), *seeds("a", "tlpo", 0.001, {"n": 2}, rpr=0.99, accuracy=0.999),
            *seeds("b", "tlpo", 0.001, {"n": 4}, rpr=0.9895, accuracy=0.99)]  # fmt: skip
    assert verdict_of(rows) == (
        "RPR is the same for all, 99.00 ± 0.10 %. "
        "Accuracy ranges from 99.90 ± 0.10 % (A) to 99.00 ± 0.10 % (B). "
        "Accuracy before training is 99.80 ± 0.00 %; below it are B (99.00 ± 0.10 %)."
    )


def test_a_single_seed_is_mentioned() -> None:
    text = verdict_of([row("tlpo", rpr=0.9), row("sft", method="sft", rpr=0.8)])
    assert text.startswith("tlpo has the best RPR: 90.00 %; sft comes next with 80.00 %.")
    assert "There is only one seed, so how much of this is chance is unknown." in text


def test_nothing_to_compare_gives_no_paragraph() -> None:
    assert verdict_of([*seeds("baseline", "none", rpr=0.7), *seeds("tlpo", "tlpo", rpr=0.9)]) == ""
