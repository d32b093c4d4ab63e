from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlpo_ray.report.excerpt import CONTEXT_CHARACTERS, CUT, marked_parts, round_robin, trim_partial


@given(st.text(max_size=80), st.data())
def test_parts_make_up_the_text_and_mark_exactly_its_spans(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    spans = list(zip(cuts[::2], cuts[1::2], strict=False))
    parts = marked_parts(text, spans)
    assert "".join(piece for piece, _ in parts) == text
    marked = {at for start, end in spans for at in range(start, end)}
    flags = [confused for piece, confused in parts for _ in piece]
    assert {at for at, confused in enumerate(flags) if confused} == marked


@pytest.mark.parametrize("spans", [[], [(0, 3)], [(4000, 4004)], [(9997, 10000)], [(100, 103), (9000, 9004)]])
def test_long_texts_are_cut_but_never_inside_their_spans(spans: list[tuple[int, int]]) -> None:
    text = "".join(chr(0x4E00 + i % 5000) for i in range(10_000))
    parts = marked_parts(text, spans)
    assert [piece for piece, confused in parts if confused] == [text[start:end] for start, end in spans]
    assert sum(len(piece) for piece, _ in parts) <= (len(spans) + 1) * (2 * CONTEXT_CHARACTERS + len(CUT)) + 8
    for start, end in spans:
        joined = "".join(piece for piece, _ in parts)
        assert text[max(0, start - 50) : end + 50] in joined, "the text around a span is kept"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("루피", "루피"), ("印度尼\ufffd", "印度尼…"), ("\ufffd\ufffdピー", "…ピー"), ("\ufffd", "…"), ("", "")],
)
def test_incomplete_characters_become_an_ellipsis(text: str, shown: str) -> None:
    assert trim_partial(text) == shown


def test_languages_take_turns_so_that_a_cut_leaves_some_of_each() -> None:
    items = ["ko1", "ko2", "ko3", "ja1", "ar1", "ar2"]
    assert list(round_robin(items, lambda item: item[:2])) == ["ko1", "ja1", "ar1", "ko2", "ar2", "ko3"]
