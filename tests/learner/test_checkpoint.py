"""Checkpoints and exported models: complete or absent, bit for bit, and readable across releases."""

from __future__ import annotations

import json
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from learner import checkpoint
from learner.checkpoint import begin, checkpoints, commit, partial_folder, read_version
from tests.learner.learners import equal, make_learner, save, weights
from tests.tiny import random_groups
from tlpo_ray.errors import ResourceError, UserError
from tlpo_ray.files import disk_errors


def test_a_loaded_checkpoint_continues_bit_by_bit(tiny_model: Path, tmp_path: Path) -> None:
    batches = [random_groups(tiny_model, 8, seed=seed) for seed in range(3)]
    worker = make_learner(tiny_model)
    for groups in batches[:2]:
        worker.update(groups, 0.3)
    assert save(worker, tmp_path, keep_last=2) == 2
    expected_report = worker.update(batches[2], 0.6)
    resumed = make_learner(tiny_model)
    (folder,) = checkpoints(tmp_path)
    assert resumed.load(folder) == resumed.version == 2
    report = resumed.update(batches[2], 0.6)
    assert replace(report, seconds=0) == replace(expected_report, seconds=0)
    assert equal(weights(resumed), weights(worker))


def test_the_newest_checkpoint_up_to_a_version_is_restored(tiny_model: Path, tmp_path: Path) -> None:
    worker = make_learner(tiny_model)
    for version in (1, 2, 3):
        worker.version = version
        save(worker, tmp_path, keep_last=3)
    for until, expected in ((0, 0), (2, 2), (9, 3)):
        assert make_learner(tiny_model).restore(tmp_path, until) == expected


def test_only_the_last_checkpoints_are_kept_and_an_interrupted_save_leaves_none(
    tiny_model: Path, tmp_path: Path
) -> None:
    worker = make_learner(tiny_model)
    for version in (1, 2, 3):
        worker.version = version
        assert save(worker, tmp_path, keep_last=2) == max(1, version - 1), "the oldest version that is kept"
    assert [folder.name for folder in checkpoints(tmp_path)] == ["update-00000002", "update-00000003"]
    begin(tmp_path, 4)
    (partial_folder(tmp_path, 4) / "state-00000.safetensors").write_bytes(b"half a checkpo")
    for version in (1, 3, 5):  # half removed: state.json is removed first
        (tmp_path / f"update-{version:08d}").mkdir(exist_ok=True)
        (tmp_path / f"update-{version:08d}" / "state.json").unlink(missing_ok=True)
    assert [folder.name for folder in checkpoints(tmp_path)] == ["update-00000002"]
    save(worker, tmp_path, keep_last=2)  # the same version again, after the interrupted save
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["update-00000002", "update-00000003"]
    assert make_learner(tiny_model).load(checkpoints(tmp_path)[-1]) == 3


def test_a_version_can_be_saved_again_over_its_remains(tmp_path: Path) -> None:
    begin(tmp_path, 1)
    (tmp_path / "update-00000001").mkdir()  # left by a process that was killed while it removed the folder
    commit(tmp_path, 1, "all weights", keep_last=1)
    assert read_version(checkpoints(tmp_path)[0], "all weights") == 1


def test_a_state_file_holds_what_every_release_reads(tiny_model: Path, tmp_path: Path) -> None:
    """Releases up to 0.1.0 expect these keys, and may have written more of them, which are ignored."""
    worker = make_learner(tiny_model)
    worker.update(random_groups(tiny_model, 4), 0.0)
    save(worker, tmp_path, keep_last=1)
    (folder,) = checkpoints(tmp_path)
    state = json.loads((folder / "state.json").read_text())
    assert state.keys() == {"version", "layout", "files", "digest"}
    assert (state["version"], state["layout"]) == (1, "all weights")
    assert state["files"].keys() == {"state-00000.safetensors"}
    with checkpoint.TensorReader(folder) as tensors:
        for name in ("weight/model.norm.weight", "exp_avg/model.norm.weight", "exp_avg_sq/model.norm.weight"):
            assert tensors.read(name).shape == (64,)
        assert float(tensors.read("steps")) == 2
        with pytest.raises(UserError, match="has no weight/other: it was written for another model"):
            tensors.read("weight/other")

    older: dict[str, Any] = {"progress": 0.3, **{key: state[key] for key in ("version", "layout", "files")}}
    (folder / "state.json").write_text(json.dumps({**older, "digest": checkpoint._state_digest(older)}))
    resumed = make_learner(tiny_model)
    assert resumed.restore(tmp_path, until=1) == 1 and equal(weights(resumed), weights(worker))


def test_a_missing_damaged_or_foreign_checkpoint_is_reported_in_one_line(tiny_model: Path, tmp_path: Path) -> None:
    worker = make_learner(tiny_model)
    with pytest.raises(UserError, match="does not hold a checkpoint"):
        worker.load(tmp_path)
    save(worker, tmp_path, keep_last=1)
    (folder,) = checkpoints(tmp_path)
    with pytest.raises(UserError, match="holds all weights, this run trains an adapter of rank 4"):
        read_version(folder, "an adapter of rank 4")
    (folder / "state.json").write_text((folder / "state.json").read_text().replace("all weights", "all the weights"))
    with pytest.raises(UserError, match=r"does not hold a checkpoint: state.json is missing or damaged"):
        worker.load(folder)


@contextmanager
def full_disk() -> Iterator[None]:
    """Let no file grow beyond a few KB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_folder_that_cannot_be_written_is_reported_in_one_line_and_nothing_is_left_half_written(
    tiny_model: Path, tmp_path: Path
) -> None:
    worker = make_learner(tiny_model)
    (tmp_path / "file").write_text("")
    root, model = tmp_path / "checkpoints", tmp_path / "model"
    for act, what in (
        (lambda: save(worker, tmp_path / "file" / "checkpoints", keep_last=1), "a checkpoint"),
        (lambda: worker.export(tmp_path / "file" / "model"), "the model"),
        (lambda: save(worker, root, keep_last=1), "a checkpoint"),
        (lambda: worker.export(model), "the model"),
    ):
        with full_disk(), pytest.raises(ResourceError, match=f"cannot write {what}") as error:
            act()
        assert "\n" not in str(error.value)
    assert not checkpoints(root) and not model.exists()


def test_an_adapter_that_cannot_be_written_is_reported_in_one_line(tiny_model: Path, tmp_path: Path) -> None:
    worker = make_learner(tiny_model, lora={"rank": 4})
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_model.safetensors").mkdir()
    with pytest.raises(ResourceError, match="cannot write the model to "):
        worker.export(tmp_path / "model")


def test_what_is_written_can_be_read_by_whom_the_umask_lets_read(tiny_model: Path, tmp_path: Path) -> None:
    """safetensors 0.8.0 makes its files readable for their owner alone."""
    worker = make_learner(tiny_model, lora={"rank": 4})
    before = os.umask(0o027)
    try:
        save(worker, tmp_path / "checkpoints", keep_last=1)
        worker.export(tmp_path / "model")
    finally:
        os.umask(before)
    weights = [*tmp_path.rglob("*.safetensors")]
    assert {file.parent.name for file in weights} == {"update-00000000", "model", "adapter"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in weights} == {0o640}


def test_a_lost_rank_is_not_taken_for_a_full_disk() -> None:
    with pytest.raises(RuntimeError, match=r"^Connection closed by peer$"), disk_errors("a checkpoint"):
        raise RuntimeError("Connection closed by peer")  # what gloo raises in the ranks that are left


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("fixture", ["tiny_model", "tiny_untied"])
def test_an_exported_model_loads_with_the_same_weights_and_chat_template(
    fixture: str, dtype: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = request.getfixturevalue(fixture)
    worker = make_learner(folder, dtype)
    worker.update(random_groups(folder, 4), 0.0)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "leftover").write_text("from an earlier export")
    worker.export(tmp_path / "model")
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype="auto")
    assert equal(dict(exported.named_parameters()), weights(worker))
    assert (exported.lm_head.weight is exported.model.embed_tokens.weight) == (fixture == "tiny_model")
    assert str(exported.dtype) == f"torch.{dtype}"
    assert exported.generation_config.eos_token_id == 2
    messages = [{"role": "user", "content": "일본의 통화는?"}]
    old, new = (AutoTokenizer.from_pretrained(path) for path in (folder, tmp_path / "model"))
    assert old.apply_chat_template(messages)["input_ids"] == new.apply_chat_template(messages)["input_ids"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
    assert not (tmp_path / "model" / "leftover").exists()
