"""Configuration: what loads, what is refused with which message, and that a dump is read back equal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlpo_ray.config.load import build_config, dump_config, load_config, presets
from tlpo_ray.config.run import RunConfig
from tlpo_ray.errors import ConfigError

MODELS = {
    "llama-3.1-8b": "meta-llama/Llama-3.1-8B-Instruct",
    "qwen3-8b": "Qwen/Qwen3-8B",
    "ministral-8b": "mistralai/Ministral-8B-Instruct-2410",
    "gemma-3-4b": "google/gemma-3-4b-it",
}
LANGUAGES = ("ko", "zh", "ja", "ar")
PAPER_PRESETS = [f"{model}-{language}" for model in MODELS for language in LANGUAGES]
LATIN_PRESETS = [f"llama-3.1-8b-{language}" for language in ("de", "es", "fr", "it", "pt")]
THINKING_PRESETS = [f"qwen3-8b-{language}-thinking" for language in ("ko", "zh", "ja", "ar")]
SET_BY_QUICKSTART = ("model.path=toy",)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text("model: {path: a}\ndata: {prompts: b}\n", encoding="utf-8")
    return path


def refusal(name: Path | str, *overrides: str) -> str:
    """Load, and return the one-line message with which it is refused."""
    with pytest.raises(ConfigError) as caught:
        load_config(str(name), overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---------------------------------------------------------------------------------------------------- round trip

TEXT = st.text(max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
SETTINGS = st.fixed_dictionaries(
    {
        "model": st.fixed_dictionaries(
            {"path": TEXT},
            optional={
                "revision": st.none() | TEXT,
                "system_prompt": st.none() | TEXT,
                "chat_template_kwargs": st.dictionaries(TEXT, JSON, max_size=3),
                "trust_remote_code": st.booleans(),
            },
        ),
        "data": st.fixed_dictionaries(
            {"prompts": TEXT},
            optional={"languages": st.lists(TEXT, max_size=3), "limit": st.none() | st.integers(1), "subset": TEXT},
        ),
    },
    optional={
        "name": TEXT,
        "folder": TEXT,
        "seed": st.integers(),
        "learner": st.fixed_dictionaries(
            {"lr_min": st.just(0)},
            optional={
                "lr": st.floats(min_value=0, exclude_min=True, allow_infinity=False),
                "betas": st.tuples(st.floats(0, 1), st.floats(0, 1)),
                "zero_stage": st.sampled_from([0, 1, 2, 3]),
            },
        ),
    },
)


@given(settings=SETTINGS)
def test_a_dump_is_read_back_equal(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    config = build_config(RunConfig, settings, source="test")
    file = tmp_path_factory.mktemp("dump") / "config.yaml"
    file.write_bytes(dump_config(config).encode("utf-8"))
    assert load_config(str(file)) == config


def test_a_dump_keeps_the_declared_order(file: Path) -> None:
    lines = dump_config(load_config(str(file))).splitlines()
    sections = [line.partition(":")[0] for line in lines if not line.startswith((" ", "-"))]
    assert sections == list(RunConfig.model_fields)


# ----------------------------------------------------------------------------------------------------- overrides


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("learner.lr=5e-6", "learner", "lr", 5e-6),
        ("learner.lr=1E-6", "learner", "lr", 1e-6),
        ("learner.zero_stage=3", "learner", "zero_stage", 3),
        ("data.language=no", "data", "language", "no"),
        ("data.language=", "data", "language", None),
        ("data.language=null", "data", "language", None),
        ("data.skip_bad=true", "data", "skip_bad", True),
        ("data.languages=[ko, ja]", "data", "languages", ("ko", "ja")),
        ('data.languages=["ko"]', "data", "languages", ("ko",)),
        ("model.revision='123'", "model", "revision", "123"),
        ("model.revision=2024-01-01", "model", "revision", "2024-01-01"),
        ("model.system_prompt=Answer: in Korean # please", "model", "system_prompt", "Answer: in Korean # please"),
        ("model.path=a=b", "model", "path", "a=b"),
        ("model.chat_template_kwargs={thinking: false}", "model", "chat_template_kwargs", {"thinking": False}),
        ("model.chat_template_kwargs.top=5e-1", "model", "chat_template_kwargs", {"top": 0.5}),
    ],
)
def test_an_override_sets_a_value_of_the_right_type(
    file: Path, override: str, section: str, key: str, value: object
) -> None:
    loaded = getattr(getattr(load_config(str(file), [override]), section), key)
    assert loaded == value and type(loaded) is type(value)


def test_the_last_override_wins_and_a_mapping_is_merged(file: Path) -> None:
    learner = load_config(str(file), ["learner.lr=1e-6", "learner={beta: 0, lr: 2e-6}"]).learner
    assert (learner.lr, learner.beta, learner.lr_min) == (2e-6, 0, 5e-8)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learner.lrr=1", "unknown key learner.lrr; did you mean learner.lr?"),
        ("lr=1", "unknown key lr; did you mean learner.lr?"),
        ("rollout.lr=1", "unknown key rollout.lr; did you mean learner.lr?"),
        ("rollout.temprature=1", "unknown key rollout.temprature; did you mean rollout.temperature?"),
        ("extends=quickstart", "unknown key extends"),
        ("learner.lr=-1", "learner.lr is -1: expected greater than 0"),
        ("learner.lr=fast", "learner.lr is 'fast': expected a valid number"),
        ("learner.zero_stage=7", "learner.zero_stage is 7: expected 0, 1, 2 or 3"),
        ("rollout.engine=vlm", "rollout.engine is 'vlm': expected one of transformers, vllm; did you mean vllm?"),
        ("model.prompt_template={prompt}", "model.prompt_template is {'prompt': None}: expected text; quote it"),
        ("rollout.num_actors=1.5", "rollout.num_actors is 1.5: expected a valid integer"),
        ("data.languages=ko,ja", "data.languages is 'ko,ja': expected a list such as [a, b]"),
        ("model.revision=123", "model.revision is 123: expected text; quote it"),
        ("learner=3", "learner is 3: expected keys and values"),
        ("learner.lr_min=1", "lr_min 1.0 is above lr 5e-07: lower lr_min"),
        ("learner.num_ranks=9", "learner.num_ranks 9 exceeds learner.groups_per_update 8"),
        ("learner.lr", "expected key=value"),
        ("=3", "expected key=value"),
        ("data.languages=[ko", "data.languages=[ko: the value is not YAML"),
    ],
)
def test_a_wrong_override_is_refused(file: Path, override: str, message: str) -> None:
    assert message in refusal(file, override)


def test_a_key_that_resembles_no_other_gets_no_suggestion(file: Path) -> None:
    assert refusal(file, "xyzzyq=1").endswith("unknown key xyzzyq")


def test_several_mistakes_are_reported_in_one_line(file: Path) -> None:
    message = refusal(
        file, "learner.lr=-1", "rollout.num_actors=0", "rollout.lease_size=0", "seed=x", "learner.beta=-1"
    )
    assert message.count(";") == 3 and message.endswith("and 2 more")


@given(key=TEXT, value=TEXT)
def test_no_override_raises_anything_but_a_config_error(key: str, value: str) -> None:
    try:
        load_config("quickstart", [*SET_BY_QUICKSTART, f"{key}={value}"])
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1


# --------------------------------------------------------------------------------------------------------- files


def test_a_file_overrides_the_base_that_it_extends(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "base.yaml").write_text("model: {path: a, max_context: 4096}\ndata: {prompts: b}\n")
    (tmp_path / "deep" / "top.yaml").write_text("extends: ../base.yaml\nmodel: {path: c}\nlearner.lr: 1e-6\n")
    config = load_config(str(tmp_path / "deep" / "top.yaml"))
    assert (config.model.path, config.model.max_context, config.data.prompts) == ("c", 4096, "b")
    assert config.learner.lr == 1e-6


def test_a_file_can_extend_a_preset(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: qwen3-8b-ko\nseed: 3\n")
    assert load_config(str(tmp_path / "mine.yaml")) == load_config("qwen3-8b-ko", ["seed=3"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"model: {path: a\ndata: {prompts: b}\n", "run.yaml line 2: "),
        (b"model: {path: a}\nmodel: {path: b}\n", "run.yaml line 2: 'model' is given twice"),
        (b"name: \xff\n", "run.yaml: not UTF-8 text"),
        (b"- a\n", "run.yaml: expected `key: value` lines, found ['a']"),
        (b"seed: !!int x\n", "run.yaml"),
        (b"extends: [a]\n", "`extends` expected one preset or file, found ['a']"),
        (b"extends: run.yaml\n", "`extends` leads back to this file"),
        (b"extends: gone.yaml\n", "gone.yaml: no such file"),
        (b"", "model.path is missing: set it in the file or with model.path=…; data.prompts is missing"),
        (b"model:\n", "model is None: expected keys and values"),
    ],
)
def test_a_wrong_file_is_refused(file: Path, text: bytes, message: str) -> None:
    file.write_bytes(text)
    assert message in refusal(file)


@given(text=st.text())
def test_no_file_raises_anything_but_a_config_error(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("any") / "any.yaml"
    file.write_text(text, encoding="utf-8")
    refusal(file)


def test_a_name_that_is_neither_a_file_nor_a_preset_is_refused(tmp_path: Path) -> None:
    assert "did you mean qwen3-8b-ko?" in refusal("qwen-8b-ko")
    assert "no such file" in refusal(tmp_path / "gone.yaml")


# ------------------------------------------------------------------------------------------------------- presets


def test_the_presets_are_the_quickstarts_and_the_papers_runs() -> None:
    others = ["quickstart", "quickstart-focus", "quickstart-gpu", "qwen3-8b-ko-one-gpu"]
    others += ["quickstart-gemma-3-270m", "quickstart-smollm2"]
    assert presets() == sorted([*others, *PAPER_PRESETS, *LATIN_PRESETS, *THINKING_PRESETS])


def test_an_actor_and_a_rank_that_share_a_gpu_take_turns() -> None:
    config = load_config("qwen3-8b-ko-one-gpu")
    shares = config.cluster.gpus_per_rollout_actor, config.cluster.gpus_per_learner_rank
    assert config.cluster.colocated and sum(shares) == 1
    for key, value in (("flow.max_staleness", 1), ("rollout.num_actors", 2), ("flow.weight_transfer", "nccl")):
        with pytest.raises(ConfigError, match=rf"cluster\.colocated needs {key} \w+, it is {value}: set {key}="):
            load_config(
                "quickstart",
                [
                    "model.path=.",
                    "cluster.colocated=true",
                    "rollout.num_actors=1",
                    "learner.num_ranks=1",
                    f"{key}={value}",
                ],
            )


@pytest.mark.parametrize("name", LATIN_PRESETS)
def test_a_preset_in_latin_script_counts_english_as_confusion(name: str) -> None:
    config = load_config(name)
    assert (config.name, config.folder) == (name, Path("runs") / name)
    assert config.data.languages == [name[-2:]] or config.data.language == name[-2:]
    assert (config.detector.english, config.rollout.lookahead) == ("confusion", "auto")


@pytest.mark.parametrize("name", PAPER_PRESETS)
def test_a_preset_of_the_paper_has_the_papers_settings(name: str) -> None:
    config = load_config(name)
    model, _, language = name.rpartition("-")
    assert (config.name, config.folder) == (name, Path("runs") / name)
    assert config.model.path == MODELS[model]
    assert config.model.chat_template_kwargs == ({"enable_thinking": False} if model == "qwen3-8b" else {})
    assert (config.data.prompts, config.data.subset, config.data.language) == ("MBZUAI/Bactrian-X", language, language)
    assert (config.data.max_characters, config.data.drop_foreign) == (500, True)
    rollout, learner = config.rollout, config.learner
    assert (rollout.temperature, rollout.max_new_tokens, rollout.num_candidates, rollout.lookahead_tokens) == (
        0.6,
        512,
        16,
        3,
    )
    assert (learner.groups_per_update, learner.num_iterations, learner.lr, learner.lr_min) == (8, 2, 5e-7, 5e-8)
    assert (learner.warmup, learner.beta, learner.clip_low, learner.clip_high) == (0.1, 0.04, 0.2, 0.2)
    assert (learner.betas, learner.weight_decay, learner.max_grad_norm) == ((0.9, 0.95), 0.1, 1.0)


def test_the_quickstart_fits_a_small_machine() -> None:
    config = load_config("quickstart", SET_BY_QUICKSTART)
    cluster = config.cluster
    actors, ranks = config.rollout.num_actors, config.learner.num_ranks
    assert config.stack == "distributed" and (actors, ranks) == (2, 2)
    assert actors * cluster.cpus_per_rollout_actor + ranks * cluster.cpus_per_learner_rank <= 2
    assert cluster.gpus_per_rollout_actor == cluster.gpus_per_learner_rank == 0
    assert config.model.dtype == "float32" and config.flow.canary_tolerance == 1e-4


def test_loading_a_configuration_does_not_import_torch() -> None:
    code = "import sys, tlpo_ray.config.load as l; l.load_config('qwen3-8b-ko'); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
