"""Folders of data files: which files belong to them, and which of these to a split.

Splits are recognised as `datasets.load_dataset(folder, split=…)` recognises them: by the `configs` in the YAML part of
README.md, or by the names of files and folders (`data/train-00000-of-00002.parquet`, `test.jsonl`, `validation/…`).
Names count in capital letters, too (`TEST.csv`): `load_dataset` would read all of them as one split. Folders that
`Dataset.save_to_disk` wrote state their splits themselves.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tlpo_ray.data.columns import TABLES
from tlpo_ray.data.unpack import PACKED
from tlpo_ray.errors import PromptFileError, UserError, first_line
from tlpo_ray.files import read_json

TEXTS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
"""Ends of the names of files with records as text; each may be followed by one of `PACKED`."""
DEFAULT_SPLIT = "train"
UNNAMED = ""
"""Name of the only split of a folder in which nothing names one."""
README = "README.md"
_STATE, _INFO, _DICT = "state.json", "dataset_info.json", "dataset_dict.json"
_OTHER_PACKER = re.compile(
    r"\.(jsonl?|ndjson|[ct]sv|parquet|arrow)\.(zip|7z|rar|tar|tgz|lz4|lzma|lzo|br|sz|z)$", re.IGNORECASE
)
_SHARD = re.compile(r"data/([^/]+)-\d{5}-of-\d{5}[^/]*\.[^/]*")


def data_format(path: Path) -> str | None:
    """Return the end of the name that says how a file is read, e.g. ".jsonl" for `p.JSONL.gz`; None if none does."""
    name = path.name.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    return next((end for end in (*TEXTS, *TABLES) if name.endswith(end)), None)


def files_in(folder: Path, is_wanted: Callable[[Path], bool]) -> list[Path]:
    """Return the wanted files of a folder and its subfolders, sorted; hidden ones are left out.

    Links to folders elsewhere are followed, and every folder is read once, so links that lead back end nothing.

    Args:
        folder: the folder.
        is_wanted: decides by the path alone.

    Raises:
        UserError: A folder cannot be listed, or a wanted file is not one: a link to nothing, a socket, a named pipe.
    """
    files: list[Path] = []
    visited = set(folder.resolve().parents)
    links = [folder]
    for link in links:  # grows while it is read: links come last, so that a folder within is read under its own name
        files += _walk(link, is_wanted, visited, links)
    return sorted(files)


def _walk(folder: Path, is_wanted: Callable[[Path], bool], visited: set[Path], links: list[Path]) -> Iterator[Path]:
    """Yield the wanted files of a folder that was not visited yet; append the links to folders in it to `links`."""
    target = folder.resolve()
    if target in visited:
        return
    visited.add(target)
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}") from error
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(path, is_wanted, visited, links)
        elif entry.is_symlink() and path.is_dir():
            links.append(path)
        elif is_wanted(path):
            check_file(path)
            yield path


def check_file(path: Path) -> None:
    """Raise unless a path leads to a regular file.

    Raises:
        UserError: It is a link to nothing or to itself, a folder, a socket, a named pipe or a device.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        link = f"a link to {os.readlink(path)}, " if path.is_symlink() else ""
        raise UserError(f"{path}: {link}{(error.strerror or str(error)).lower()}; restore or remove it") from error
    if not stat.S_ISREG(mode):
        raise UserError(f"{path}: not a regular file but a socket, a pipe, a device or a folder; remove or rename it")


def folder_files(folder: Path, subset: str | None, split: str) -> list[Path]:
    """Return the files of a split, or all files of a folder that names no splits.

    Args:
        folder: the folder.
        subset: one of the `configs` that README.md lists; any other value is its default one.
        split: name of the split.

    Raises:
        UserError: A file in the folder cannot be read.
        PromptFileError: The folder holds no such file, split or subset, or files of which some belong to no split.
    """
    splits = find_splits(folder, subset)
    if UNNAMED in splits and split != DEFAULT_SPLIT:
        raise PromptFileError(f"{folder}: nothing in it names a split, so there is no {split!r}; leave the split out")
    if UNNAMED not in splits and split not in splits:
        raise PromptFileError(f"{folder}: no split {split!r}; set the split to one of {', '.join(splits)}")
    files = splits[UNNAMED if UNNAMED in splits else split]
    for file in files:
        check_file(file)
    return files


def find_splits(folder: Path, subset: str | None = None) -> Mapping[str, list[Path]]:
    """Return the files of every split; if nothing in the folder names a split, all of them under `UNNAMED`.

    Raises:
        UserError: A file in the folder cannot be read.
        PromptFileError: The folder holds no such file or subset, or files of which some belong to no split; or a file
            that describes a dataset is damaged.
    """
    saved = _saved_splits(folder)
    if saved is not None:
        return saved
    found = files_in(folder, lambda file: is_data(file) or _OTHER_PACKER.search(file.name) is not None)
    packed = next((file for file in found if not is_data(file)), None)
    if packed is not None:
        raise PromptFileError(f"{packed}: {packed.suffix} is not read; unpack it, or move it out of the folder")
    files = without_metadata(found)
    if not files:
        raise PromptFileError(f"{folder}: no prompt file in this folder; expected {', '.join((*TEXTS, *TABLES))}")
    config = _config(folder, subset)
    inner = posixpath.normpath(str(config.get("data_dir") or "."))
    names = {posixpath.relpath(file.relative_to(folder).as_posix(), inner): file for file in files}
    names = {name: file for name, file in names.items() if not name.startswith("../")}
    stated = config.get("data_files")
    return _named_splits(folder, names) if stated is None else _stated_splits(folder, names, stated)


def is_data(path: Path) -> bool:
    """Return whether the name of a file says that it holds records."""
    return data_format(path) is not None


def without_metadata(files: Iterable[Path]) -> list[Path]:
    """Return the files without those in which `datasets` describes a dataset, and without its caches."""
    from datasets.data_files import FILES_TO_IGNORE

    data = [file for file in files if file.name not in FILES_TO_IGNORE]
    saved = {folder: _saved_files(folder) for folder in {file.parent for file in data} if _is_saved(folder)}
    return [file for file in data if file.parent not in saved or file in saved[file.parent]]


def _stated_splits(folder: Path, names: Mapping[str, Path], stated: Any) -> Mapping[str, list[Path]]:
    """Return the files of every split that the `data_files` of a subset in README.md state."""
    from datasets.data_files import sanitize_patterns

    splits: dict[str, list[Path]] = {}
    for split, patterns in sanitize_patterns(stated).items():
        splits[split] = _matching(names, [posixpath.normpath(pattern) for pattern in patterns])
        if not splits[split]:
            raise PromptFileError(f"{folder / README}: no prompt file is where it says that split {split!r} is")
    return splits


def _named_splits(folder: Path, names: Mapping[str, Path]) -> Mapping[str, list[Path]]:
    """Return the files of every split by the names of files, which are relative to the folder or its `data_dir`."""
    from datasets.data_files import DEFAULT_PATTERNS_SPLIT_IN_DIR_NAME, DEFAULT_PATTERNS_SPLIT_IN_FILENAME

    splits: dict[str, list[Path]] = {}
    for name, file in names.items():
        if shard := _SHARD.fullmatch(name):
            splits.setdefault(shard[1], []).append(file)
    for patterns in (DEFAULT_PATTERNS_SPLIT_IN_DIR_NAME, DEFAULT_PATTERNS_SPLIT_IN_FILENAME):
        splits = splits or {
            str(split): found for split in patterns if (found := _matching(names, patterns[split], re.IGNORECASE))
        }
    claimed = {file for files in splits.values() for file in files}
    formats = {data_format(file) for file in claimed}
    other = next((name for name, file in names.items() if file not in claimed and data_format(file) in formats), None)
    if splits and other is not None:
        split, files = next(iter(splits.items()))
        raise PromptFileError(
            f"{folder}: {other} names no split, whereas {files[0].relative_to(folder)} names {split!r}; "
            f"give a file, or a folder in which every file or none names a split"
        )
    return splits or {UNNAMED: list(names.values())}


def _matching(names: Mapping[str, Path], patterns: Iterable[str], flags: int = 0) -> list[Path]:
    from fsspec.utils import glob_translate

    regexes = [re.compile(glob_translate(pattern), flags) for pattern in patterns]
    return [file for name, file in names.items() if any(regex.match(name) for regex in regexes)]


def _config(folder: Path, subset: str | None) -> Mapping[str, Any]:
    """Return what README.md states about a subset, or about the default one; empty if it states nothing."""
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard

    readme = folder / README
    try:
        card = DatasetCard.load(readme).data if readme.is_file() else None
        configs = MetadataConfigs.from_dataset_card_data(card) if card is not None else MetadataConfigs()
        # A preset may set the subset of another dataset, so one that is not listed here is none that was asked for.
        name = subset if subset in configs else configs.get_default_config_name()
    except Exception as error:  # the libraries raise errors of YAML and many others
        raise PromptFileError(f"{readme}: its YAML does not describe a dataset: {first_line(error)}") from error
    if not configs:
        return {}
    if name is None:
        asked = f"no subset {subset!r}" if subset else "several subsets, and none is the default"
        raise PromptFileError(f"{folder}: {asked}; set the subset to one of {', '.join(configs)}")
    return dict(configs[name])


def _is_saved(folder: Path) -> bool:
    return (folder / _STATE).is_file() and (folder / _INFO).is_file()


def _saved_splits(folder: Path) -> Mapping[str, list[Path]] | None:
    """Return the files of the splits of a folder that `save_to_disk` wrote; None for any other folder."""
    if (folder / _DICT).is_file():
        splits = _read_json(folder / _DICT).get("splits")
        if not isinstance(splits, list):
            raise PromptFileError(f"{folder / _DICT}: not the description of a saved dataset (no list of splits)")
        return {str(split): _saved_files(folder / str(split)) for split in splits}
    if not _is_saved(folder):
        return None
    # A part of a split is called e.g. "train[:100]".
    split = re.match(r"\w+", str(_read_json(folder / _STATE).get("_split") or ""))
    return {UNNAMED if split is None else split[0]: _saved_files(folder)}


def _saved_files(folder: Path) -> list[Path]:
    """Return the files of a dataset that `Dataset.save_to_disk` wrote, in its order."""
    try:
        return [folder / entry["filename"] for entry in _read_json(folder / _STATE)["_data_files"]]
    except (KeyError, TypeError) as error:
        raise PromptFileError(
            f"{folder / _STATE}: not the description of a saved dataset (no list of files)"
        ) from error


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return read_json(file)
    except (OSError, ValueError) as error:
        raise PromptFileError(f"{file}: not the description of a saved dataset ({first_line(error)})") from error
