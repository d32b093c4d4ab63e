"""`tlpo plan`: its arithmetic checked by hand, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlpo_ray.commands.display import console
from tlpo_ray.commands.plan import plan_command
from tlpo_ray.errors import UserError
from tlpo_ray.run.capacity import GPUS, MODELS, Gpu, ModelSize, Workload, plan_split, splits, tokens_per_s

GPU = Gpu(memory_gb=80, bandwidth_gbs=1000, tflops=100, network_gbs=10, decoding=1.0, learning=0.5)
MODEL = ModelSize(weights=1e9, kv_bytes=1e5)
WORKLOAD = Workload(prompts=1000, prompt_tokens=50, answer_tokens=100, confused=0.1, concurrency=100)


def test_times_and_memory_match_a_calculation_by_hand() -> None:
    # A step reads 2 GB of weights and 100 x 100 tokens of 100 kB: 3 GB in 3 ms, for 100 tokens.
    assert tokens_per_s(MODEL, GPU, WORKLOAD) == pytest.approx(100 / 0.003)
    (split,) = splits(2, MODEL, GPU, WORKLOAD)
    # 1000 answers of 100 tokens, a tenth of them half as long, and 100 x 48 tokens of lookahead.
    assert split.rollout_s == pytest.approx((95_000 + 4_800) * 0.003 / 100)
    # 100 groups of 100 tokens: 2 x (2 + 4 + 2) + 2 FLOPs per weight; 12.5 syncs of 2 GB.
    assert split.learner_s == pytest.approx(100 * 100 * 1e9 * 18 / 50e12 + 12.5 * 0.2)
    assert split.learner_gb == pytest.approx(16 + 2) and split.fits
    (*_, shared) = (split.learner_gb for split in splits(4, MODEL, GPU, WORKLOAD) if split.learner == 3)
    assert shared == pytest.approx(18 / 3)
    assert split.epoch_s(overlapped=True) == max(split.rollout_s, split.learner_s)
    assert split.epoch_s(overlapped=False) == split.rollout_s + split.learner_s


@given(gpus=st.integers(2, 64), model=st.sampled_from(list(MODELS)), gpu=st.sampled_from(list(GPUS)))
def test_more_rollout_actors_make_rollouts_faster_and_the_learner_slower(gpus: int, model: str, gpu: str) -> None:
    workload = Workload()
    all_splits = list(splits(gpus, MODELS[model], GPUS[gpu], workload))
    assert [(split.rollout, split.learner) for split in all_splits] == [(n, gpus - n) for n in range(1, gpus)]
    for before, after in pairwise(all_splits):
        assert after.rollout_s < before.rollout_s and after.learner_s > before.learner_s
    doubled = replace(workload, prompts=2 * workload.prompts)
    for split, twice in zip(all_splits, splits(gpus, MODELS[model], GPUS[gpu], doubled), strict=True):
        assert twice.epoch_s(overlapped=False) == pytest.approx(2 * split.epoch_s(overlapped=False))


def test_the_plan_has_the_fastest_split_that_fits() -> None:
    plan = plan_split("8b", 8, "h100")
    assert plan.best.fits and not all(split.fits for split in plan.splits)
    assert plan.best.epoch_s(overlapped=True) == min(s.epoch_s(overlapped=True) for s in plan.splits if s.fits)
    assert plan.share_of_epoch(1e9) == 1 and 0 < plan.share_of_epoch(0.01) < 1


def test_it_prints_a_split_that_fits_and_the_assumptions() -> None:
    with console.capture() as shown:
        plan_command("8b", 8, "h100", 0.01, Workload())
    text = shown.get()
    assert "rollout.num_actors=" in text and "Assumed, not measured" in text and "in 0.01 h:" in text
    assert "memory │" in text, "one learner GPU does not hold an 8B model's optimizer"


@pytest.mark.parametrize(
    ("model", "gpus", "gpu", "said"),
    [
        ("9b", 8, "h100", "--model 9b: expected one of 4b, 8b"),
        ("8b", 8, "b200", "--gpu b200: expected one of h100"),
        ("8b", 1, "h100", "--gpus 1: rollouts and learner need one GPU each"),
        ("32b", 2, "h100", "weights and optimizer of 32b need 590 GB on each of 1 learner GPUs"),
    ],
)
def test_an_impossible_request_is_one_line(model: str, gpus: int, gpu: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        plan_command(model, gpus, gpu, None, Workload())
    assert said in str(caught.value) and len(str(caught.value).splitlines()) == 1
