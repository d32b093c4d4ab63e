"""Prompts on disk equal the prompts in memory, and use no memory."""

from __future__ import annotations

import json
import pickle
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlpo_ray.config.run import DataConfig
from tlpo_ray.data.prompts import read_prompts
from tlpo_ray.data.spool import ROWS, PromptFile, write_prompts
from tlpo_ray.errors import ResourceError
from tlpo_ray.flow.exchange import Exchange
from tlpo_ray.flow.records import Outcome, Prompt, PromptResult, encode

TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).filter(str.strip)


@given(
    texts=st.lists(TEXTS, min_size=1, max_size=20),
    limit=st.one_of(st.none(), st.integers(1, 20)),
    shuffle=st.booleans(),
    seed=st.integers(0, 3),
)
def test_a_run_s_prompts_are_the_same_on_disk_and_in_memory(
    texts: list[str], limit: int | None, shuffle: bool, seed: int
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        rows = [{"prompt": text, "language": ("ko", "ja")[number % 2]} for number, text in enumerate(texts)]
        (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        data = DataConfig(prompts=str(folder / "p.jsonl"), limit=limit, shuffle=shuffle, max_characters=20)

        def reject(prompt: Prompt) -> str | None:
            return "odd" if len(prompt.text) % 2 else None

        memory, disk = read_prompts(data, seed, reject), read_prompts(data, seed, reject, folder)
        assert isinstance(disk.prompts, PromptFile)
        assert tuple(disk.prompts) == memory.prompts and disk.languages == memory.languages
        assert (disk.skipped, disk.total) == (memory.skipped, memory.total)


def make(folder: Path, count: int) -> PromptFile:
    prompts = (Prompt(index=n, id=f"p{n}", language="ko", text=f"질문 {n}?" * 8) for n in range(count))
    return write_prompts(folder / "prompts.arrow", prompts)


@pytest.mark.parametrize("count", [0, 1, ROWS, ROWS + 1, 3 * ROWS - 1])
def test_a_file_of_any_length_can_be_pickled_and_then_deleted(count: int, tmp_path: Path) -> None:
    original = make(tmp_path, count)
    copy: PromptFile = pickle.loads(pickle.dumps(original))
    (tmp_path / "prompts.arrow").unlink()
    assert len(original) == len(copy) == count
    assert [prompt.index for prompt in copy] == list(range(count))
    assert list(original[-2:]) == list(copy)[-2:]
    for beyond in (count, -1):
        with pytest.raises(IndexError):
            original[beyond]


def test_a_folder_that_cannot_be_written_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"cannot write the prompts to .*gone/prompts.arrow"):
        make(tmp_path / "gone", 1)


@pytest.mark.slow
def test_a_run_over_many_prompts_uses_no_more_memory_than_over_few(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        (tmp_path / str(count)).mkdir()
        tracemalloc.start()
        exchange = Exchange(
            make(tmp_path / str(count), count), {}, groups_per_update=8, lease_size=64, capacity=64, max_staleness=4
        )
        while lot := exchange.lease("a", 1):
            results = [PromptResult(prompt_index=prompt.index, outcome=Outcome.CLEAN) for prompt in lot]
            exchange.submit("a", results, encode([]), 0)
        assert exchange.status().accounting.clean == count
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(100_000) - peak(1_000) < 2**20
