from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlpo_ray.config.load import load_config, presets
from tlpo_ray.errors import ConfigError
from tlpo_ray.experiment.plan import PLANS, Plan, load_plan


@pytest.mark.parametrize("name", presets(PLANS))
def test_every_plan_loads_and_its_settings_are_ones_of_a_run(name: str) -> None:
    trials = list(load_plan(name).trials())
    assert len({trial.run for trial in trials}) == len(trials)
    assert len({trial.key for trial in trials}) == len(trials)
    for trial in trials:
        if trial.method == "tlpo":
            load_config(trial.subject.preset if trial.subject else "quickstart", ["model.path=.", *trial.settings])


def test_the_paper_s_grids_are_all_there() -> None:
    forms = {
        (trial.axes["advantage"], trial.axes["selection"]) for trial in load_plan("advantage").trials() if trial.axes
    }
    assert forms == {(form, way) for form in ("tlpo", "unweighted", "grpo") for way in ("ranked", "multinomial")}
    sizes = {trial.axes["candidates"] for trial in load_plan("candidates").trials() if trial.axes}
    assert sizes == {2, 4, 8, 12, 16, 32}
    assert {trial.method for trial in load_plan("comparison").trials()} == {
        "none",
        "tlpo",
        "sft",
        "dpo",
        "orpo",
        "grpo",
    }


@given(
    grid=st.dictionaries(
        st.sampled_from(["learner.lr", "learner.num_iterations", "rollout.num_candidates"]),
        st.lists(st.integers(2, 9), min_size=1, max_size=3, unique=True),
        min_size=1,
    ),
    seeds=st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True),
)
def test_a_grid_is_crossed_with_every_seed(grid: dict[str, list[int]], seeds: list[int]) -> None:
    plan = Plan(name="p", title="t", grid={key: tuple(values) for key, values in grid.items()}, seeds=tuple(seeds))
    trials = list(plan.trials())
    combinations = 1
    for values in grid.values():
        combinations *= len(values)
    assert len(trials) == combinations * len(seeds)
    for trial in trials:
        assert dict(setting.split("=") for setting in trial.settings).keys() == grid.keys()


def test_a_trial_is_another_when_its_settings_are_but_not_when_its_label_is() -> None:
    trial = next(load_plan("comparison").trials())
    assert replace(trial, label="x", axes={"a": 1}).key == trial.key
    assert replace(trial, rounds=trial.rounds + 1).key != trial.key
    assert replace(trial, settings=("learner.lr=1",)).key != trial.key


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\ntitle: t\n", "no variants"),
        ("name: x\ntitle: t\nvariants: [{name: a}, {name: a}]\n", "found twice: ['a']"),
        ("name: x\ntitle: t\nvariants: [{name: a}]\nfindings: [shift]\n", "variant named tlpo"),
        ("name: x\ntitle: t\nvariants: [{name: a, method: ppo}]\n", "variants.0.method is 'ppo'"),
        ("name: ../x\ntitle: t\nvariants: [{name: a}]\n", "name is '../x'"),
        ("name: [\n", "plan.yaml"),
        ("- 1\n", "expected `key: value` lines"),
    ],
)
def test_a_wrong_plan_is_told_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_plan(str(file))
    assert said in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_an_unknown_plan_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="nope: no preset and no file of that name; there are advantage, candidates"):
        load_plan("nope")
