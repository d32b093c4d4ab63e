"""Configuration keys of the earlier release are read, with one warning that says what they are called now."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tlpo_ray.config import renamed
from tlpo_ray.config.baseline import BASELINES, load_baseline
from tlpo_ray.config.load import load_config
from tlpo_ray.config.run import RunConfig
from tlpo_ray.errors import ConfigError
from tlpo_ray.experiment.plan import load_plan

NEEDED = ("model.path=m", "data.prompts=p")
RUN_KEYS = {
    "rollout.actors": 3, "rollout.candidates": 8, "rollout.lookahead": 5, "rollout.lot": 16, "learner.ranks": 4,
    "learner.iterations": 3, "learner.micro_batch": 2, "learner.repair_staleness": True, "flow.delta_refresh": 7,
    "flow.focus": 0.25,
}  # fmt: skip
"""Old keys of a run, each with a value that is not its default."""


@pytest.fixture(autouse=True)
def no_warnings_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renamed, "_warned", set())


def value(config: RunConfig, key: str) -> object:
    found: object = config
    for part in key.split("."):
        found = getattr(found, part)
    return found


def as_yaml(settings: dict[str, object]) -> Iterator[str]:
    """Yield lines of YAML that nest dotted keys by section."""
    for section in sorted({key.partition(".")[0] for key in settings}):
        yield f"{section}:"
        for key, setting in settings.items():
            if key.startswith(f"{section}."):
                yield f"  {key.partition('.')[2]}: {str(setting).lower()}"


def test_the_table_of_old_keys_is_complete() -> None:
    assert set(renamed.RUN_KEYS) == set(RUN_KEYS)
    assert set(renamed.BASELINE_KEYS) == {"trainer.batch", "trainer.micro_batch", "trainer.generations"}
    assert set(renamed.PLAN_KEYS) == {"subject", "findings"}


@pytest.mark.parametrize("old", RUN_KEYS)
def test_an_old_key_on_the_command_line_sets_the_new_one(old: str) -> None:
    config = load_config("quickstart", [*NEEDED, f"{old}={str(RUN_KEYS[old]).lower()}"])
    assert value(config, renamed.RUN_KEYS[old]) == RUN_KEYS[old]


def test_an_old_file_is_read_with_one_warning_that_names_the_new_keys(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "old.yaml"
    file.write_text("\n".join(["extends: quickstart", *as_yaml(RUN_KEYS)]))
    with caplog.at_level(logging.WARNING):
        config = load_config(str(file), NEEDED)
        load_config(str(file), NEEDED)
    for old, setting in RUN_KEYS.items():
        assert value(config, renamed.RUN_KEYS[old]) == setting
    (record,) = caplog.records
    assert all(f"{old} is now {renamed.RUN_KEYS[old]}" in record.message for old in RUN_KEYS)


def test_a_later_source_wins_whichever_name_it_uses(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    for inner, outer in (("actors", "num_actors"), ("num_actors", "actors")):
        file.write_text(f"extends: quickstart\nrollout:\n  {inner}: 3\n")
        assert load_config(str(file), [*NEEDED, f"rollout.{outer}=5"]).rollout.num_actors == 5
        assert load_config(str(file), [*NEEDED, f"rollout={{{outer}: 6}}"]).rollout.num_actors == 6


def test_the_new_name_wins_within_one_source() -> None:
    assert load_config("quickstart", [*NEEDED, "rollout={actors: 3, num_actors: 5}"]).rollout.num_actors == 5


def test_none_for_the_old_curriculum_turns_it_off(tmp_path: Path) -> None:
    assert load_config("quickstart", [*NEEDED, "flow.focus=null"]) == load_config("quickstart", NEEDED)
    assert load_config("quickstart-focus", NEEDED).data.curriculum is not None
    assert load_config("quickstart-focus", [*NEEDED, "flow.focus=null"]).data.curriculum is None
    file = tmp_path / "run.yaml"
    file.write_text("extends: quickstart-focus\nflow:\n  focus: null\n")
    assert load_config(str(file), NEEDED).data.curriculum is None


def test_keys_of_another_kind_of_configuration_are_unknown(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), pytest.raises(ConfigError, match="unknown key subject"):
        load_config("quickstart", [*NEEDED, "subject=x"])
    assert not caplog.records


def test_a_section_with_other_content_is_left_alone() -> None:
    with pytest.raises(ConfigError, match="rollout is 5: expected keys and values"):
        load_config("quickstart", [*NEEDED, "rollout=5"])


def test_old_keys_of_baselines_and_plans_are_read() -> None:
    old = ["trainer.batch=24", "trainer.micro_batch=3", "trainer.generations=6"]
    baseline = load_baseline("grpo", "qwen3-8b-ko", old)
    assert (baseline.trainer.batch_size, baseline.trainer.micro_batch_size, baseline.trainer.num_generations) == (
        24,
        3,
        6,
    )
    assert (BASELINES / "grpo.yaml").exists()
    plan = load_plan("paper", ["subject.preset=gemma-3-4b-ko"])
    assert plan.target is not None and plan.target.preset == "gemma-3-4b-ko"
    assert load_plan("smoke", ["findings=[shift]"]).analyses == ("shift",)
