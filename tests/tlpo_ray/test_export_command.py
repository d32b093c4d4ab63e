"""`tlpo export`: a run's model to a folder or to the hub; nothing is overwritten, nothing is uploaded unasked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.small_run import LOCAL, run_config
from tlpo_ray.commands.export import export_command
from tlpo_ray.config.load import dump_config, load_config
from tlpo_ray.errors import ResourceError, UserError
from tlpo_ray.run.export import model_card


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "model.safetensors").write_bytes(b"weights")
    config = run_config(tmp_path / "base", tmp_path / "prompts.jsonl", folder, **{**LOCAL, "data.languages": "[ko]"})
    (folder / "config.yaml").write_text(dump_config(config))
    (folder / "result.json").write_text('{"updates": 19, "rpr_sampled": 0.97}')
    return folder


def test_the_model_is_copied_and_nothing_is_overwritten(run: Path, tmp_path: Path) -> None:
    export_command(run, tmp_path / "out", adapter=False, push=None, public=False)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == b"weights"
    with pytest.raises(UserError, match="out already exists"):
        export_command(run, tmp_path / "out", adapter=False, push=None, public=False)


def test_a_missing_run_model_or_target_is_one_line(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"adapter does not exist: the run trained all weights"):
        export_command(run, tmp_path / "out", adapter=True, push=None, public=False)
    with pytest.raises(UserError, match="does not hold a run"):
        export_command(tmp_path, tmp_path / "out", adapter=False, push=None, public=False)
    with pytest.raises(UserError, match="needs a folder to write to, or --push NAME"):
        export_command(run, None, adapter=False, push=None, public=False)


def test_a_hub_that_cannot_be_reached_is_one_line(run: Path) -> None:
    with pytest.raises(ResourceError, match=r"the hub did not accept somebody/model: .*HF_TOKEN"):
        export_command(run, None, adapter=False, push="somebody/model", public=False)


def card_of(run: Path, base: str, *, adapter: bool = False) -> str:
    config = load_config(str(run / "config.yaml"))
    config = config.model_copy(update={"model": config.model.model_copy(update={"path": base})})
    return model_card(run, config, adapter=adapter)


def test_the_card_names_the_base_and_the_results(run: Path) -> None:
    card = card_of(run, "Qwen/Qwen3-8B")
    assert "\nbase_model: Qwen/Qwen3-8B\nlibrary_name: transformers\n" in card and "`Qwen/Qwen3-8B` after" in card
    assert "| languages | ko |" in card and "| updates | 19 |" in card


def test_a_base_that_is_a_path_stays_out_of_the_cards_header(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models" / "base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for base in (str(tmp_path / "models" / "base"), "/not/here/base", "models/base", "./base", "../other/base"):
        card = card_of(run, base)
        assert "base_model" not in card and card.startswith("---\nlibrary_name: transformers\n"), base
        assert "\n`base` after Token-Level" in card, base


def test_weights_and_card_are_one_upload(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace only the two calls that reach the hub."""
    import huggingface_hub

    (run / "model" / "README.md").write_text("a model card that a library wrote")
    commits: list[list[huggingface_hub.CommitOperationAdd]] = []
    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", lambda self, *given, **settings: None)
    monkeypatch.setattr(
        huggingface_hub.HfApi, "create_commit", lambda self, name, files, **settings: commits.append(files)
    )
    export_command(run, None, adapter=False, push="somebody/model", public=False)
    ((card, weights),) = commits
    assert (card.path_in_repo, weights.path_in_repo) == ("README.md", "model.safetensors")
    assert isinstance(card.path_or_fileobj, bytes) and b"Token-Level" in card.path_or_fileobj
