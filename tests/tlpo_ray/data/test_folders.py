"""Splits of folders as `datasets` sees them, folders of `save_to_disk`, and what in a folder is not a prompt file."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tlpo_ray.config.run import DataConfig
from tlpo_ray.data.folders import UNNAMED, find_splits
from tlpo_ray.data.prompts import read_prompts
from tlpo_ray.data.readers import read_records
from tlpo_ray.errors import PromptFileError, UserError


def write(folder: Path, names: Iterable[str]) -> Path:
    """Write files of one prompt each, which is the file's name."""
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        row = {"prompt": name, "language": "ko"}
        line = json.dumps(row).encode() + b"\n"
        if name.endswith(".parquet"):
            pq.write_table(pa.Table.from_pylist([row]), file)
        else:
            file.write_bytes(gzip.compress(line) if name.endswith(".gz") else line)
    return folder


def own(folder: Path, subset: str | None = None) -> Mapping[str, list[str]]:
    """Return the names of the files of each split, with all of a folder without splits as `train`."""
    splits = find_splits(folder, subset)
    return {
        "train" if split == UNNAMED else split: sorted(str(file.relative_to(folder)) for file in files)
        for split, files in splits.items()
    }


def of_library(folder: Path, subset: str | None = None) -> Mapping[str, list[str]]:
    loaded = datasets.load_dataset(str(folder), subset, cache_dir=str(folder.parent / "cache"))
    return {str(split): sorted(rows["prompt"]) for split, rows in loaded.items()}


def read(source: Path, split: str = "train", subset: str | None = None) -> list[str]:
    data = DataConfig(prompts=str(source), split=split, subset=subset, shuffle=False)
    return [prompt.text for prompt in read_prompts(data, 0).prompts]


def refusal(source: Path, split: str = "train", subset: str | None = None) -> str:
    with pytest.raises(PromptFileError) as caught:
        read(source, split, subset)
    assert "\n" not in str(caught.value)
    return str(caught.value)


SHARDS = ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet")
LAYOUTS: dict[str, tuple[str, ...]] = {
    "shards": SHARDS,
    "shards of other splits": ("data/train_sft-00000-of-00001.parquet", "data/test_sft-00000-of-00001.parquet"),
    "shards with a hash": ("data/train-00000-of-00001-ab12.parquet", "data/test-00000-of-00001-ab12.parquet"),
    "names": ("train.jsonl", "test.jsonl", "validation.jsonl"),
    "parts of names": ("my-train.jsonl", "my.dev.jsonl", "eval_x.jsonl", "c 2 testing.jsonl"),
    "folders": ("train/a.jsonl", "test/a.jsonl", "val_1/b.jsonl"),
    "deep folders": ("x/training/a.jsonl", "x/testing data/b.jsonl"),
    "no splits": ("a.jsonl", "deep/b.jsonl", "latest.jsonl", "contest.jsonl"),
    "no training data": ("test.jsonl",),
    "two splits in a name": ("train_test.jsonl",),
    "a folder decides before a name": ("train/test.jsonl", "test/train.jsonl"),
    "digits": ("train1.jsonl", "test2.jsonl"),
    "compressed": ("train.jsonl.gz", "test.jsonl.gz"),
    "hidden files": ("train.jsonl", "test.jsonl", ".cache/a.jsonl", ".train.jsonl"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_splits_are_those_of_load_dataset(layout: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "snapshot", LAYOUTS[layout])
    assert own(folder) == of_library(folder)


README = """---
license: apache-2.0
configs:
{}
---
# A dataset
"""
STATED = {
    "files of a split": ("- config_name: default\n  data_files:\n  - split: train\n    path: data/part-*\n"
                         "  - split: test\n    path: [data/rest.jsonl, ./more/*]"),
    "one pattern": "- config_name: default\n  data_files: data/*.jsonl",
    "a list of patterns": '- config_name: default\n  data_files: ["data/part-1.jsonl", "**/c.jsonl"]',
    "a folder": "- config_name: default\n  data_dir: more",
    "against the names": "- config_name: default\n  data_files:\n  - split: train\n    path: data/test-1.jsonl",
    "a default": ("- config_name: ko\n  data_files: data/part-*\n  default: true\n"
                  "- config_name: ja\n  data_files: more/**"),
}  # fmt: skip
FILES = ("data/part-1.jsonl", "data/part-2.jsonl", "data/rest.jsonl", "data/test-1.jsonl", "more/c.jsonl")


@pytest.mark.parametrize("stated", STATED)
def test_splits_that_a_readme_states_are_those_of_load_dataset(stated: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "snapshot", FILES)
    (folder / "README.md").write_text(README.format(STATED[stated]))
    assert own(folder) == of_library(folder)
    if stated == "a default":
        assert own(folder, "ja") == of_library(folder, "ja") == {"train": ["more/c.jsonl"]}


def test_a_subset_is_required_where_none_is_the_default(tmp_path: Path) -> None:
    folder = write(tmp_path, FILES)
    (folder / "README.md").write_text(README.format(STATED["a default"].replace("  default: true\n", "")))
    assert refusal(folder).endswith("several subsets, and none is the default; set the subset to one of ko, ja")
    assert refusal(folder, subset="zh").endswith("no subset 'zh'; set the subset to one of ko, ja")
    assert read(folder, subset="ja") == ["more/c.jsonl"]
    (folder / "README.md").write_text(README.format("- data_files: a"))
    assert "its YAML does not describe a dataset" in refusal(folder)
    (folder / "README.md").write_text(README.format("- config_name: default\n  data_files: nowhere/*"))
    assert refusal(folder).endswith("no prompt file is where it says that split 'train' is")
    (folder / "README.md").write_text("# Only a text\n")
    assert "set the split to one of test" not in refusal(folder, "test")


def test_prompts_of_a_test_split_are_never_among_those_of_training(tmp_path: Path) -> None:
    folder = write(tmp_path / "snapshot", SHARDS)
    (folder / "dataset_infos.json").write_text('{"default": {"features": {}}}')
    assert read(folder) == list(SHARDS[:2])
    assert read(folder, "test") == list(SHARDS[2:])
    assert refusal(folder, "validation").endswith("no split 'validation'; set the split to one of test, train")
    assert read(folder / SHARDS[2]) == [SHARDS[2]], "a file that is named is read"
    assert read(folder, subset="ko") == list(SHARDS[:2]), "presets set the subset of their own dataset"


@pytest.mark.parametrize("names", [("TRAIN.jsonl", "TEST.jsonl"), ("Train/a.jsonl", "Test/a.jsonl"),
                                   ("ko_Train.jsonl", "ko_eval.jsonl")])  # fmt: skip
def test_splits_in_capital_letters_are_not_mixed(names: tuple[str, str], tmp_path: Path) -> None:
    for name, prompt in zip(names, ("훈련", "시험"), strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps({"prompt": prompt}) + "\n")
    assert [record.fields for record in read_records(str(tmp_path), None, "train")] == [{"prompt": "훈련"}]
    assert [record.fields for record in read_records(str(tmp_path), None, "test")] == [{"prompt": "시험"}]


def test_a_split_is_never_without_effect(tmp_path: Path) -> None:
    folder = write(tmp_path, ["a.jsonl", "b.jsonl"])
    assert (
        refusal(folder, "test") == f"{folder}: nothing in it names a split, so there is no 'test'; leave the split out"
    )
    assert refusal(folder / "a.jsonl", "test").endswith(
        "a file has no split 'test'; leave the split out, or give the folder"
    )
    assert refusal(write(tmp_path / "other", ["test.jsonl"])).endswith("no split 'train'; set the split to one of test")


def test_a_file_of_no_split_beside_others_is_not_dropped(tmp_path: Path) -> None:
    assert "ko.jsonl names no split, whereas ko-test.jsonl names 'test'; give a file" in refusal(
        write(tmp_path / "a", ["ko.jsonl", "ko-test.jsonl"])
    )
    assert read(write(tmp_path / "b", ["data/train-00000-of-00001.parquet", "statistics.json"])) == [
        "data/train-00000-of-00001.parquet"
    ]


def test_prompts_in_another_packing_are_not_dropped(tmp_path: Path) -> None:
    write(tmp_path, ["a.jsonl", "b.jsonl.zip", "images.zip"])
    assert refusal(tmp_path) == f"{tmp_path}/b.jsonl.zip: .zip is not read; unpack it, or move it out of the folder"
    (tmp_path / "b.jsonl.zip").unlink()
    assert read(tmp_path) == ["a.jsonl"]


# ----------------------------------------------------------------------------------------------------- save_to_disk


def dataset(*prompts: str) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"prompt": list(prompts), "language": ["ko"] * len(prompts)})


def test_a_saved_dataset_is_read(tmp_path: Path) -> None:
    """A dataset in several files, with the cache of a later `map` beside them and a format for another library."""
    saved = dataset(*map(str, range(50))).with_format("numpy")
    saved.save_to_disk(tmp_path / "saved", num_shards=3)
    (tmp_path / "saved" / "cache-0123.arrow").write_bytes(
        (tmp_path / "saved" / "data-00000-of-00003.arrow").read_bytes()
    )
    assert read(tmp_path / "saved") == [str(number) for number in range(50)]
    assert "nothing in it names a split" in refusal(tmp_path / "saved", "test")
    assert read(tmp_path / "saved" / "data-00002-of-00003.arrow")[-1] == "49"


def test_the_splits_of_a_saved_dictionary_are_read_one_at_a_time(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": dataset("a", "b"), "held_out": dataset("c")}).save_to_disk(tmp_path / "saved")
    assert read(tmp_path / "saved") == ["a", "b"]
    assert read(tmp_path / "saved", "held_out") == ["c"]
    assert refusal(tmp_path / "saved", "test").endswith("no split 'test'; set the split to one of train, held_out")


def test_a_saved_dataset_of_another_split_is_not_training_data(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict({"prompt": ["a"], "language": ["ko"]}, split=datasets.Split.TEST)
    rows.save_to_disk(tmp_path / "saved")
    assert refusal(tmp_path / "saved").endswith("no split 'train'; set the split to one of test")
    assert read(tmp_path / "saved", "test") == ["a"]


def test_saved_datasets_in_a_folder_are_read(tmp_path: Path) -> None:
    for name in ("ja", "ko"):
        dataset(name).save_to_disk(tmp_path / "all" / name)
    write(tmp_path / "all", ["zh.jsonl"])
    assert read(tmp_path / "all") == ["ja", "ko", "zh.jsonl"]


def test_a_saved_dataset_that_lacks_a_file_is_one_line(tmp_path: Path) -> None:
    dataset(*"abcd").save_to_disk(tmp_path / "saved", num_shards=2)
    (tmp_path / "saved" / "data-00001-of-00002.arrow").unlink()
    assert "data-00001-of-00002.arrow: no such file or directory" in refusal(tmp_path / "saved")
    for state in ("{", "{}", '{"_data_files": [1]}'):
        (tmp_path / "saved" / "state.json").write_text(state)
        assert "state.json: not the description of a saved dataset" in refusal(tmp_path / "saved")


# ------------------------------------------------------------------------------------------------------------- files


def test_links_are_followed_once(tmp_path: Path) -> None:
    folder = write(tmp_path / "prompts", ["a/1.jsonl", "b/2.jsonl"])
    elsewhere = write(tmp_path / "elsewhere", ["3.jsonl"])
    (folder / "0").symlink_to(folder / "a")
    (folder / "a" / "sibling").symlink_to(folder / "b")
    (folder / "back").symlink_to(folder)
    (folder / "above").symlink_to(tmp_path)
    (folder / "c").symlink_to(elsewhere)
    (folder / "d").symlink_to(elsewhere)
    assert read(folder) == ["a/1.jsonl", "b/2.jsonl", "3.jsonl"]
    assert [str(file.relative_to(folder)) for file in find_splits(folder)[UNNAMED]] == [
        "a/1.jsonl", "b/2.jsonl", "c/3.jsonl",
    ]  # fmt: skip


def test_a_folder_without_prompts_is_one_line(tmp_path: Path) -> None:
    write(tmp_path, [".hidden.jsonl", ".ipynb_checkpoints/a-checkpoint.jsonl"])
    (tmp_path / "dataset_infos.json").write_text("{}")
    assert f"{tmp_path}: no prompt file in this folder; expected .jsonl" in refusal(tmp_path)


@pytest.mark.parametrize("unreadable", ["folder", "file"])
def test_what_cannot_be_read_is_one_line(tmp_path: Path, unreadable: str) -> None:
    folder = write(tmp_path / "prompts", ["a.jsonl", "deep/b.jsonl"])
    denied = folder / ("deep" if unreadable == "folder" else "deep/b.jsonl")
    denied.chmod(0)
    try:
        next(denied.iterdir()) if unreadable == "folder" else denied.read_bytes()
    except PermissionError:
        assert refusal(folder) == f"{denied}: Permission denied"
    else:
        pytest.skip("this user may read everything")
    finally:
        denied.chmod(0o700)


def test_damage_is_one_line_for_every_reader(tmp_path: Path) -> None:
    """Every prefix of an Arrow file and flipped bytes in it: read or refused, and the process lives."""
    dataset("가", "나", "다").save_to_disk(tmp_path / "saved")
    (file,) = (tmp_path / "saved").glob("*.arrow")
    content = bytearray(file.read_bytes())

    def attempt(damaged: bytes) -> Any:
        file.write_bytes(damaged)
        try:
            return read(file)
        except UserError as error:
            assert "\n" not in str(error)
            return None

    assert attempt(bytes(content)) == ["가", "나", "다"]
    results = [attempt(bytes(content[:end])) for end in range(0, len(content), 7)]
    for place in range(0, len(content), 3):
        content[place] ^= 0xFF
        results.append(attempt(bytes(content)))
        content[place] ^= 0xFF
    assert results.count(None) > len(results) / 2
