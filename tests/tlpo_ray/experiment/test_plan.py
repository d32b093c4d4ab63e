"""Plans of experiments: their trials, what makes a trial a different one, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlpo_ray.config.load import load_config, presets
from tlpo_ray.errors import ConfigError
from tlpo_ray.experiment.former import former_parts
from tlpo_ray.experiment.plan import PLANS, Plan, load_plan


@pytest.mark.parametrize("name", presets(PLANS))
def test_every_plan_loads_and_its_settings_are_settings_of_a_run(name: str) -> None:
    trials = list(load_plan(name).trials())
    assert len({trial.run for trial in trials}) == len(trials)
    assert len({trial.key for trial in trials}) == len(trials)
    for trial in trials:
        if trial.method == "tlpo":
            load_config(trial.target.preset if trial.target else "quickstart", ["model.path=.", *trial.settings])


def test_the_paper_s_grids_are_complete() -> None:
    forms = {
        (trial.axes["advantage"], trial.axes["selection"]) for trial in load_plan("advantage").trials() if trial.axes
    }
    assert forms == {
        (form, selection) for form in ("tlpo", "unweighted", "grpo") for selection in ("ranked", "multinomial")
    }
    sizes = {trial.axes["num_candidates"] for trial in load_plan("candidates").trials() if trial.axes}
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


def test_a_trial_s_key_depends_on_its_settings_but_not_on_its_label() -> None:
    trial = next(load_plan("comparison").trials())
    assert replace(trial, label="x", axes={"a": 1}).key == trial.key
    assert replace(trial, rounds=trial.rounds + 1).key != trial.key
    assert replace(trial, settings=("learner.lr=1",)).key != trial.key


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: x\ntitle: t\n", "no variants"),
        ("name: x\ntitle: t\nvariants: [{name: a}, {name: a}]\n", "found twice: ['a']"),
        ("name: x\ntitle: t\nvariants: [{name: a}]\nanalyses: [shift]\n", "variant named tlpo"),
        ("name: x\ntitle: t\nvariants: [{name: a, method: ppo}]\n", "variants.0.method is 'ppo'"),
        ("name: ../x\ntitle: t\nvariants: [{name: a}]\n", "name is '../x'"),
        ("name: [\n", "plan.yaml"),
        ("- 1\n", "expected `key: value` lines"),
    ],
)
def test_a_wrong_plan_is_reported_in_one_line(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_plan(str(file))
    assert expected in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_an_unknown_plan_is_reported_with_the_available_ones() -> None:
    with pytest.raises(ConfigError, match="no preset or file of that name; available are advantage, alternatives"):
        load_plan("nope")


# ------------------------------------------------------------------------------------ names of the release before


def test_a_plan_with_the_former_names_is_read(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(
        "name: x\ntitle: t\nvariants: [{name: tlpo, settings: [rollout.candidates=4]}]\nfindings: [shift]\n"
    )
    plan = load_plan(str(file))
    assert plan.analyses == ("shift",)
    assert load_config("quickstart", ["model.path=.", *plan.variants[0].settings]).rollout.num_candidates == 4


def test_an_override_with_a_former_name_is_read() -> None:
    overrides = ["subject.preset=gemma-3-4b-ja", "subject.suites.lcb-crosslingual=lcb"]
    plan = load_plan("paper", overrides)
    assert plan == load_plan("paper", [override.replace("subject", "target") for override in overrides])
    assert plan.target is not None
    assert (plan.target.preset, plan.target.suites["lcb-crosslingual"]) == ("gemma-3-4b-ja", "lcb")


def test_a_trial_s_key_of_the_release_before_is_recognised() -> None:
    """Renaming a setting changes no result, so a finished trial of days must not be run again because of it."""
    target = {"preset": "p", "settings": ["rollout.lease_size=8", "data.limit=9"]}
    run = {"rollout": {"num_candidates": 16, "temperature": 0.6}, "data": {"curriculum": {"min_probability": 0.2}}}
    parts = {"variant": "sft", "settings": ["trainer.batch_size=4"], "target": target}
    former = {"variant": "sft", "settings": ["trainer.batch=4"]}
    former["subject"] = {"preset": "p", "settings": ["rollout.lot=8", "data.limit=9"]}
    former_run = {"rollout": {"candidates": 16, "temperature": 0.6}, "flow": {"focus": 0.2}}
    assert former_parts(parts | {"preset": run}) == former | {"preset": former_run}
    both = {"run": run, "baseline": {"trainer": {"micro_batch_size": 2}}}
    former_both = {"run": former_run, "baseline": {"trainer": {"micro_batch": 2}}}
    assert former_parts(parts | {"preset": both}) == former | {"preset": former_both}

    trial = next(load_plan("comparison").trials())
    assert trial.has_key(trial.key) and not trial.has_key("another") and not trial.has_key(None)
